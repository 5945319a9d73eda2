"""Checkpoint to text: the engines, and the driver that fills run directories with rollouts."""
