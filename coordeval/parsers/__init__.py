"""Text to objects, drops and issues."""

from coordeval.parsers.coordjson import PARSER_VERSION, parse
from coordeval.parsers.dialects import DIALECTS, Dialect, dialect_named

__all__ = ["DIALECTS", "PARSER_VERSION", "Dialect", "dialect_named", "parse"]
