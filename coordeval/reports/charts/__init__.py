"""Charts as plain Vega-Lite specifications, one figure per file, for the page and for files."""
