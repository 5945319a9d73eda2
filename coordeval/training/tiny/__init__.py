"""Tiny Qwen3-VL checkpoints for tests, demos and fixtures: model, tokenizer, processor, loop."""
