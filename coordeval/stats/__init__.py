"""Evidence: paired bootstrap of differences between runs, and gates."""
