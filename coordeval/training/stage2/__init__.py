"""Stage 2: training on the model's own context (channel A) and on its own rollouts (channel B)."""
