"""`coordeval train` on a stage-2 file: printed, tried, trained from what stage 1 kept as best."""

import json

import pytest
import yaml
from stage1_setup import SCENES, rows, tiny_base
from stage1_setup import config as stage1_config
from stage2_setup import config
from typer.testing import CliRunner

from coordeval.cli.app import app
from coordeval.errors import ConfigError
from coordeval.runs import open_run
from coordeval.training.config import RolloutEvalConfig
from coordeval.training.config_file import config_yaml
from coordeval.training.stage1 import train_stage1

EVALUATES = RolloutEvalConfig(
    every=1,
    at_end=True,
    limit=2,
    decode={"max_new_tokens": 12},
    best_metric="samples/truncated_rate",
    dump_samples=2,
)
DATA = {"limit": 4, "eval": str(SCENES), "eval_limit": 2}
STAGE2 = {"b_ratio": 0.5, "channel_b": {"rollout": {"decode": {"max_new_tokens": 16}}}}


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """The best checkpoint of a stage-1 training with the evaluator in the loop."""
    out = tmp_path_factory.mktemp("one")
    base = tiny_base(out / "base")
    train_stage1(stage1_config(base, out / "run", data=DATA, rollout_eval=EVALUATES))
    return out / "run" / "best"


def _file(tmp_path, best, **rest):
    path = tmp_path / "two.yaml"
    settings = config(best, tmp_path / "run", stage2=STAGE2, data=DATA, **rest)
    path.write_text(config_yaml(settings))
    return str(path)


def _run(*arguments):
    done = CliRunner().invoke(app, ["train", *arguments], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_the_printed_configuration_is_stage_2s(tmp_path):
    """--print-config holds every key of stage 2 and none of stage 1's objective."""
    code, printed = _run(_file(tmp_path, "m"), "--print-config", "--set", "stage2.sigma=3")
    values = yaml.safe_load(printed)
    assert code == 0 and "objective" not in values
    assert values["stage2"]["sigma"] == 3
    assert values["stage2"]["channel_a"]["context"]["gradient"] is None
    assert values["stage2"]["channel_b"]["matching"]["fn_cost"] == 1.2


@pytest.mark.slow
def test_a_dry_run_prints_both_channels(best, tmp_path):
    """One line for each channel's first batch; --json has their terms; nothing is written."""
    path = _file(tmp_path, best)
    code, printed = _run(path, "--dry-run")
    lines = [line for line in printed.splitlines() if line.startswith("first batch")]
    assert code == 0 and len(lines) == 2
    assert lines[0].startswith("first batch by channel A: loss ") and "loss/A1/text_ce" in lines[0]
    assert lines[1].startswith("first batch by channel B: loss ") and "loss/B/text_ce" in lines[1]
    code, printed = _run(path, "--dry-run", "--json")
    found = json.loads(printed)
    assert found["channel_B"]["rollout/samples/total"] == len(found["sample_ids"]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_dry_run_that_is_refused_leaves_nothing_either(best, tmp_path):
    """What only the channel's engine refuses comes after the library has made the folder."""
    path = _file(tmp_path, best)
    limit = "stage2.channel_b.rollout.decode.max_new_tokens=0"
    with pytest.raises(ConfigError, match="max-new-tokens must be at least 1"):
        _run(path, "--dry-run", "--set", limit)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_has_the_evaluator_in_the_loop(best, tmp_path):
    """From best/: run directories, dumps, a new best/, evaluation losses, one row per step."""
    code, printed = _run(_file(tmp_path, best, rollout_eval=EVALUATES), "--json")
    out = tmp_path / "run"
    assert code == 0
    assert json.loads(printed)["step"] == 2
    assert [row["channel"] for row in rows(out) if "channel" in row] == ["A", "B"]
    log = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    evaluated = [row["step"] for row in log if "eval_rollout/samples/total" in row]
    assert evaluated == [1, 2]
    assert [row["step"] for row in rows(out, evaluations=True)] == [2]
    for step in (1, 2):
        run = open_run(out / "eval" / f"step_{step:06d}")
        assert len(list(run.rollouts())) == 2
        assert (out / "monitor_dumps" / f"step_{step:06d}.json").is_file()
    assert (out / "best" / "model.safetensors").is_file()
    meta = json.loads((out / "training.json").read_text())
    assert meta["stage"] == 2 and meta["model"]["path"] == str(best)


ZEROS = {"weights": dict.fromkeys(("soft_ce", "w1", "smooth_l1", "ciou"), 0.0), "text_ce": 0.0}


@pytest.mark.parametrize(
    ("given", "term"),
    [
        ({"b_ratio": 0.0, "channel_a": ZEROS | {"anchor": {"w1": 1.0}}}, "loss/A1/w1"),
        ({"b_ratio": 1.0, "channel_b": ZEROS}, "loss/B/unlikelihood"),
    ],
)
def test_a_channel_of_one_term_trains(best, tmp_path, given, term):
    """Anchors alone, unlikelihood alone: what has a weight is enough."""
    settings = config(
        best,
        tmp_path / "run",
        stage2=STAGE2 | given | {"coord_gate_weight": 0.0},
        data=DATA,
        trainer={"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1},
    )
    (tmp_path / "two.yaml").write_text(config_yaml(settings))
    code, _ = _run(str(tmp_path / "two.yaml"))
    (row,) = rows(tmp_path / "run")
    assert code == 0
    assert [key for key in row if key.startswith("loss/")] == [term]
    (evaluated,) = rows(tmp_path / "run", evaluations=True)
    assert evaluated["eval_loss"] is not None
