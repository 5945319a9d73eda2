"""Training data: from a dataset file to batches with labels, kinds of token and box slots."""
