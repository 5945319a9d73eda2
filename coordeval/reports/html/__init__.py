"""The report page: one self-contained file that opens from disk and needs no network."""
