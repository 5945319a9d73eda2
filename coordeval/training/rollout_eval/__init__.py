"""The evaluator in the loop of anyone's Hugging Face Trainer."""

from coordeval.training.rollout_eval.callback import RolloutEvalCallback

__all__ = ["RolloutEvalCallback"]
