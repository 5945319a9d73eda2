"""What the callback takes and refuses when it is made, and what it takes off a model meanwhile."""

import pytest
import torch
from live_training import SCENES, tiny_model

from coordeval.errors import ConfigError
from coordeval.training.rollout_eval import RolloutEvalCallback
from coordeval.training.rollout_eval.live_model import undisturbed


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"every": 1.5}, "whole numbers"),
        ({"every": -1}, "not negative"),
        ({"dump_samples": -1}, "not negative"),
        ({"field_order": "label_first"}, "field_order: 'label_first'.*desc_first"),
        ({"engine": "tgi"}, "engine: 'tgi'"),
    ],
)
def test_what_makes_no_sense_is_refused_when_made(given, told):
    """One line names the option, before any training starts."""
    with pytest.raises(ConfigError, match=told):
        RolloutEvalCallback(str(SCENES), **given)


def test_the_best_metric_may_be_named_as_it_is_logged():
    """`eval_rollout/f1/0.50/f1`, the key of the log, is the catalogue's `f1/0.50/f1`."""
    logged = RolloutEvalCallback(str(SCENES), best_metric="eval_rollout/f1/0.50/f1")
    assert logged.best_metric == "f1/0.50/f1"
    with pytest.raises(ConfigError):
        RolloutEvalCallback(str(SCENES), best_metric="eval_rollout/none_such")


class _Template:
    """Stands where a trainer's own template would hang itself into the model's calls."""

    def __init__(self):
        self.calls = 0

    def hook(self, module, args, kwargs):
        del module, args, kwargs
        self.calls += 1


_Template.__module__ = "swift.template"


def test_hooks_of_a_trainers_template_rest_during_an_evaluation():
    """They are off while the model is decoded, and on again afterwards; others stay."""
    model, template, other = tiny_model(), _Template(), []
    model.register_forward_pre_hook(template.hook, with_kwargs=True)
    model.register_forward_pre_hook(lambda *_: other.append(1))
    ids = torch.tensor([[1, 2, 3]])
    with undisturbed(model) as inner:
        inner(input_ids=ids)
    assert (template.calls, len(other)) == (0, 1)
    model(input_ids=ids)
    assert (template.calls, len(other)) == (1, 2)
