"""The fuzzer: what it feeds (one file per kind of reader), how inputs are bent, how it runs."""
