"""`coordeval train`: configurations, dry runs, results on stdout, signals and exit codes."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from forked_commands import run_forked, shared_commands

from coordeval.errors import CoordevalError, RunMismatchError

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "fixtures" / "scenes" / "heldout.jsonl"


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    """A configuration file of a tiny training, relative to its folder."""
    from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint

    folder = tmp_path_factory.mktemp("train")
    tiny = TinyConfig(
        hidden=32,
        layers=1,
        heads=2,
        head_dim=16,
        feed_forward=32,
        vision_depth=1,
        vision_hidden=32,
        vision_heads=2,
        vision_feed_forward=32,
        init_std=0.1,
    )
    write_random_checkpoint(folder / "base", class_names=("red circle",), config=tiny)
    (folder / "stage1.yaml").write_text(
        f"""
model: base
output_dir: run
data: {{train: {SCENES}, limit: 6}}
rollout_eval: {{at_end: false}}
trainer:
  use_cpu: true
  per_device_train_batch_size: 2
  learning_rate: 1e-3
  num_train_epochs: 2
  save_strategy: "no"
  report_to: none
"""
    )
    return folder / "stage1.yaml"


def _run(*arguments, code=0):
    done = run_forked("train", *arguments, env=os.environ | {"NO_COLOR": "1"}, model=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def _call(stage1, *changes, **options):
    """The verb in this process."""
    from coordeval.cli.train import train

    given = {"print_config": False, "dry_run": False, "resume": "auto", "json_output": False}
    train(stage1, changes=list(changes), **(given | options))


def test_the_configuration_is_printed_with_changes_and_defaults(stage1, capsys):
    """--print-config shows every key, changed ones changed."""
    _call(stage1, "data.limit=3", "objective.preset=soft", print_config=True)
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["data"]["limit"], found["objective"]["preset"]) == (3, "soft")
    assert found["tune"]["what"] == "full" and found["model"] == str(stage1.parent / "base")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("data.limti=3", "did you mean data.limit"),
        ("trainer.learning_rat=1", "did you mean trainer.learning_rate"),
        ("trainer.output_dir=x", "trainer.output_dir cannot be set here"),
        ("rollout_eval.every=5", "set rollout_eval.data or data.eval"),
        ("data.train=nowhere.jsonl", "nowhere.jsonl"),
        ("model=nowhere", "nowhere"),
    ],
)
def test_faults_of_the_configuration_end_with_2(change, says, stage1):
    """What is wrong with a configuration is said before anything is written."""
    bad = stage1.parent / "bad"
    with pytest.raises(CoordevalError, match=re.escape(says)) as caught:
        _call(stage1, f"output_dir={bad}", change)
    assert caught.value.exit_code == 2
    assert not (bad / "training.json").exists()


def test_a_dry_run_says_what_would_happen(stage1, capsys):
    """--dry-run --json gives steps, data counts and the first loss, and makes no run folder."""
    out = stage1.parent / "dry"
    _call(stage1, f"output_dir={out}", dry_run=True, json_output=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["steps_per_epoch"]) == (6, 3)
    assert found["data"]["samples_used"] == 6 and found["loss"] > 0
    _call(stage1, f"output_dir={out}", dry_run=True)
    assert capsys.readouterr().out.startswith("ready: 6 samples, 3 steps per epoch, 6 in all")
    assert not out.exists()


@pytest.mark.slow
def test_the_result_alone_is_on_stdout(stage1, capsys):
    """On stdout is one line, the checkpoint; a second run with another value is refused with 2."""
    out = stage1.parent / "run-a"
    done = _run(stage1, "--set", f"output_dir={out}")
    assert done.stdout == f"{out}/checkpoint-6: step 6 of 6\n"
    assert "step 6 of 6" in done.stderr and "Writing model" not in done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"config.yaml", "training.json", "train_log.jsonl", "checkpoint-6"} <= names
    meta = json.loads((out / "training.json").read_text())
    assert meta["data"]["train"]["sha256"] and meta["model"]["hash"] and meta["versions"]["torch"]
    with pytest.raises(RunMismatchError, match="seed: 17 there, 3 here") as caught:
        _call(stage1, f"output_dir={out}", "seed=3")
    assert caught.value.exit_code == 2
    _call(stage1, f"output_dir={out}", json_output=True)
    assert json.loads(capsys.readouterr().out)["step"] == 6


@pytest.mark.slow
def test_a_signal_saves_a_checkpoint_first(stage1):
    """SIGTERM ends with 143 after a checkpoint of the step that was under way."""
    number, code = signal.SIGTERM, 143
    out = stage1.parent / f"run-{code}"
    change = ["--set", f"output_dir={out}", "--set", "trainer.num_train_epochs=400"]
    commands = shared_commands(model=True)
    process = commands.start("train", stage1, *change)
    log = out / "train_log.jsonl"
    for _ in range(1200):
        if log.exists() and len(log.read_bytes().splitlines()) >= 2:
            break
        time.sleep(0.05)
    os.kill(process.pid, number)
    ended = commands.wait(process)
    assert ended.code == code, ended.stderr
    (checkpoint,) = out.glob("checkpoint-*")
    assert ended.stdout.startswith(str(checkpoint))
    last = json.loads(log.read_text().splitlines()[-1])["step"]
    assert checkpoint.name == f"checkpoint-{last}"
