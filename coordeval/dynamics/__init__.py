"""Training logs of several tools, read alike, and what they say about a training."""
