"""The command line: one file per verb; `app` only registers them."""
