"""The training loop: transformers' Trainer, exact normalisation, its log and its checkpoints."""
