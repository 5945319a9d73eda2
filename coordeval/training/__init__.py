"""Training: both stages, the evaluator in the loop, the probe, the vocabulary, tiny models."""
