"""Training: losses, tiny models, and the small loop that makes the fixture checkpoints."""
