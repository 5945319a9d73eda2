"""coordeval: free-decoding evaluation of vision-language models that detect by writing."""

__version__ = "0.1.0"

__all__ = ["__version__"]
