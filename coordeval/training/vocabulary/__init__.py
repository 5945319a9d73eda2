"""Adding the coordinate tokens to a checkpoint."""
