"""Configurations of both stages: each holds its own parts, and refuses the other's."""

import hashlib
import re
from dataclasses import asdict
from typing import get_args

import pytest
import yaml

from coordeval.engines import hf_loading
from coordeval.errors import ConfigError
from coordeval.jsonl import dump_line
from coordeval.training.config import Attention, ObjectiveConfig, TrainConfig
from coordeval.training.config_file import build_config, config_hash, config_yaml, load_config
from coordeval.training.stage2.config import Stage2Config
from coordeval.training.stage2.plain_objective import plain_objective

SMALLEST = {"model": "m", "output_dir": "out", "data": {"train": "train.jsonl"}}


def _built(**rest):
    return build_config(SMALLEST | rest, where="here")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stage2": {"b_ratio": 0.1}}, r"^here: stage2: is read by stage 2 alone.*stage: 2"),
        ({"stage2": {}}, "stage2: is read by stage 2 alone"),
        ({"stage": 2, "objective": {"preset": "soft"}}, "objective: is stage 1's.*channel_a"),
        ({"stage": 2, "objective": None}, "objective: is stage 1's"),
        ({"stage": 2, "stage2": {"b_ration": 0.1}}, "did you mean stage2.b_ratio"),
        ({"stage": 2, "stage2": {"b_ratio": 1.5}}, "b_ratio is a share"),
        ({"stage": 2, "stage2": {"channel_a": {"iteration": 3}}}, "channel_a.iterations"),
        ({"stage": 2, "stage2": {"truncate": -1}}, "stage2.truncate must be finite and not neg"),
        ({"stage": 3}, "there are 1 and 2"),
        ({"attention": "sdap"}, "attention: 'sdap' is not one of auto"),
    ],
)
def test_what_a_stage_does_not_read_is_refused(given, message):
    """A section of the other stage says where its settings belong."""
    with pytest.raises(ConfigError, match=message):
        _built(**given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stage2.coord_gate_weight", -1),
        ("stage2.sigma", float("inf")),
        ("stage2.channel_a.text_ce", float("nan")),
        ("stage2.channel_a.weights.w1", -0.5),
        ("stage2.channel_a.anchor.gate", float("nan")),
        ("stage2.channel_b.unlikelihood", -1),
        ("stage2.channel_b.weights.ciou", "1e400"),
        ("stage2.channel_b.tokens.closing", -1),
        ("stage2.channel_b.matching.fn_cost", -1),
        ("stage2.channel_b.matching.mask_size", 65536),
        ("stage2.channel_b.matching.mask_size", 10**400),
        ("stage2.channel_b.rollout.views", 0),
        ("stage2.channel_b.rollout.dump_samples", -1),
        ("stage2.b_ratio", 10**400),
        ("data.limit", 0),
        ("data.eval_limit", -1),
        ("tune.vision_lr", -1e-4),
        ("tune.lora_alpha", float("nan")),
        ("tune.lora_dropout", float("nan")),
        ("tune.lora_dropout", -1),
        ("rollout_eval.limit", 0),
        ("rollout_eval.batch_size", -3),
        ("rollout_eval.dump_samples", -1),
        ("monitor.gradients_every", -1),
        ("monitor.diagnostics_every", -1),
    ],
)
def test_a_value_out_of_range_is_told_by_its_own_key(key, value):
    """The message names file and key, in one line: nobody has to search a table of weights."""
    raw = SMALLEST | {"stage": 2, "data": dict(SMALLEST["data"])}
    *tables, name = key.split(".")
    table = raw
    for one in tables:
        table = table.setdefault(one, {})
    table[name] = value
    with pytest.raises(ConfigError, match=rf"^here: {re.escape(key)} must .*\Z"):
        build_config(raw, where="here")


def test_a_servers_address_without_that_engine_is_refused():
    """Nobody who names a server is left to believe that it makes the rollouts."""
    rollout = {"server": "http://localhost:8000"}
    with pytest.raises(ConfigError, match=r"rollout.server is read with engine: server alone.*hf"):
        _built(stage=2, stage2={"channel_b": {"rollout": rollout}})
    given = {"channel_b": {"rollout": rollout | {"engine": "server"}}}
    assert _built(stage=2, stage2=given).stage2.channel_b.rollout.server == rollout["server"]


def test_changes_of_the_other_stage_are_refused(tmp_path):
    """`--set stage2.b_ratio=...` on a stage-1 file is no silent nothing."""
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    with pytest.raises(ConfigError, match="stage2: is read by stage 2 alone"):
        load_config(path, ["stage2.b_ratio=0.5"])
    assert load_config(path, ["stage=2", "stage2.b_ratio=0.5"]).stage2.b_ratio == 0.5
    with pytest.raises(ConfigError, match="objective: is stage 1's"):
        load_config(path, ["stage=2", "objective.w1=2"])


def test_values_in_memory_are_held_to_the_same():
    """A TrainConfig made in Python cannot hold settings that its stage would not read."""
    made = asdict(_built())
    whole = {k: getattr(_built(), k) for k in made}
    with pytest.raises(ConfigError, match="stage2"):
        TrainConfig(**whole | {"stage2": Stage2Config(b_ratio=0.5)})
    with pytest.raises(ConfigError, match="objective"):
        TrainConfig(**whole | {"stage": 2, "objective": ObjectiveConfig(w1=2.0)})


@pytest.mark.parametrize(
    ("stage", "own", "other"), [(1, "objective", "stage2"), (2, "stage2", "objective")]
)
def test_a_printed_configuration_holds_its_stage_and_reads_back(stage, own, other):
    """Printing leaves the other stage's section out; what is printed is read, and equal."""
    config = _built(stage=stage)
    printed = yaml.safe_load(config_yaml(config))
    assert own in printed and other not in printed
    assert build_config(printed, where="again") == config
    assert config_hash(build_config(printed, where="again")) == config_hash(config)


def test_the_hash_of_stage_1_knows_nothing_of_stage_2():
    """It is over the keys that stage 1 always had; what came later counts only where it is set."""
    config = _built()
    raw = asdict(config)
    for key in ("output_dir", "stage2", "attention"):
        raw.pop(key)
    for key in ("sigma_end", "sigma_steps"):
        raw["objective"].pop(key)
    assert config_hash(config) == hashlib.sha256(dump_line(raw)).hexdigest()
    others = [
        _built(attention="eager"),
        _built(objective={"sigma_end": 1.0, "sigma_steps": 5}),
        _built(stage=2),
        _built(stage=2, stage2={"b_ratio": 0.06}),
        _built(stage=2, stage2={"channel_b": {"rollout": {"decode": {"max_new_tokens": 9}}}}),
    ]
    assert len({config_hash(other) for other in (config, *others)}) == 6


def test_attention_names_are_those_of_the_loader():
    """Whatever a configuration may ask for, loading knows."""
    assert set(get_args(Attention)) == set(hf_loading.ATTENTION)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("tune", "lora_alpha", float("nan"), "lora_alpha must be finite and above 0"),
        ("tune", "lora_alpha", -1.0, "lora_alpha must be finite and above 0"),
        ("tune", "lora_dropout", 1.0, "lora_dropout must be from 0 to below 1"),
        ("tune", "lora_dropout", float("nan"), "lora_dropout must be from 0 to below 1"),
        ("monitor", "gradients_every", -1, "gradients_every must not be negative"),
        ("monitor", "diagnostics_every", -1, "diagnostics_every must not be negative"),
        ("monitor", "gradients_max_numel", 0, "gradients_max_numel must be at least 1"),
        ("data", "order", "shuffled", "'shuffled' is not one of"),
        ("objective", "box", {"beta": float("inf")}, "beta must be finite and above 0"),
    ],
)
def test_values_that_mean_nothing_are_named_before_anything_is_read(section, key, value, message):
    """A wrong number is said by its own key, not by a loss that is no number later on."""
    given = SMALLEST.get(section, {}) | {key: value}
    with pytest.raises(ConfigError, match=message):
        _built(**{section: given})


def test_the_evaluated_objective_has_the_weights_that_train_on_the_truth():
    """Channel A's; channel B's where A has no step; the gate's own weight in both."""
    ratio = {"b_ratio": 0.5, "coord_gate_weight": 3.0, "sigma": 4.0}
    given = ratio | {
        "channel_a": {"text_ce": 2.0, "weights": {"w1": 0.7}, "anchor": {"w1": 9.0}},
        "channel_b": {"text_ce": 5.0, "weights": {"w1": 0.6, "giou": 0.1}},
    }
    both = plain_objective(_built(stage=2, stage2=given).stage2)
    alone = plain_objective(_built(stage=2, stage2=given | {"b_ratio": 1.0}).stage2)
    assert both.weights() == {
        "text_ce": 2.0,
        "hard_ce": 0.0,
        "soft_ce": 0.1,
        "w1": 0.7,
        "gate": 3.0,
        "text_gate": 0.0,
        "smooth_l1": 2.0,
        "ciou": 0.2,
        "giou": 0.0,
    }
    assert both.sigma == 4.0 and not both.joint_ce
    assert (alone.text_ce, alone.weights()["w1"], alone.weights()["giou"]) == (5.0, 0.6, 0.1)


NOTHING = dict.fromkeys(("soft_ce", "w1", "smooth_l1", "ciou"), 0.0)
NO_A = {"coord_gate_weight": 0.0, "channel_a": {"text_ce": 0.0, "weights": NOTHING}}
NO_B = {
    "b_ratio": 1.0,
    "coord_gate_weight": 0.0,
    "channel_b": {"text_ce": 0.0, "weights": NOTHING, "unlikelihood": 0.0},
}


def test_anchors_alone_are_evaluated_as_they_train():
    """They stand on the teacher-forced pass, which is the one that is evaluated."""
    channel = NO_A["channel_a"] | {"anchor": {"w1": 0.3, "giou": 2.0}}
    plain = plain_objective(_built(stage=2, stage2=NO_A | {"channel_a": channel}).stage2)
    assert {name: value for name, value in plain.weights().items() if value} == {
        "w1": 0.3,
        "giou": 2.0,
    }


def test_unlikelihood_alone_is_evaluated_by_the_text():
    """It is taken of rollouts only, of which an evaluation on the truth has none."""
    channel = NO_B["channel_b"] | {"unlikelihood": 2.0}
    plain = plain_objective(_built(stage=2, stage2=NO_B | {"channel_b": channel}).stage2)
    assert {name: value for name, value in plain.weights().items() if value} == {"text_ce": 1.0}


@pytest.mark.parametrize("given", [NO_A, NO_B])
def test_no_weight_at_all_leaves_nothing_to_evaluate(given):
    """Where the one channel has no term there is no objective either."""
    with pytest.raises(ConfigError, match=r"stage2\.channel_[ab]: no term has a weight"):
        plain_objective(_built(stage=2, stage2=given).stage2)
