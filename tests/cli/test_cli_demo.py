"""`coordeval demo`, and the base install: everything but decoding works without a model library."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import run_forked

ROOT = Path(__file__).parents[2]
WITHOUT = (
    "torch",
    "transformers",
    "safetensors",
    "accelerate",
    "peft",
    "tokenizers",
    "huggingface_hub",
)


@functools.cache
def base_install(*arguments, cwd=ROOT):
    """Run the command line where the packages of the extra hf cannot be imported; each call once."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in WITHOUT)
    code = f"import sys; {blocked}from coordeval.cli.app import main; sys.argv[0] = 'coordeval'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_the_demo_scores_the_recorded_runs_in_a_base_install():
    """Someone on a laptop sees the sound and the broken checkpoint without any model library."""
    done = base_install("demo")
    assert done.returncode == 0, done.stderr
    for expected in (
        "ckpt-300",
        "ckpt-2400",
        "wrong_arity/foreign_token",
        "bbox_3d",
        "coordeval inspect",
    ):
        assert expected in done.stdout


def test_the_demo_prints_json():
    """--json is one document with the metrics of every run."""
    document = json.loads(base_install("demo", "--json").stdout)
    assert set(document) == {"shapes-final", "ckpt-300", "ckpt-2400"}
    assert document["shapes-final"]["metrics"]["f1/0.50/f1"] >= 0.9


def test_the_offline_demo_is_the_demo_without_a_network(tmp_path):
    """--offline shows the recorded runs from any folder, and is not for --rollout."""
    done = base_install("demo", "--offline", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == json.loads(base_install("demo", "--json").stdout)
    assert not list(tmp_path.iterdir())
    both = run_forked("demo", "--offline", "--rollout")
    assert both.returncode == 2
    assert "take one" in both.stderr


def test_the_demo_without_checkpoints_says_where_they_are(tmp_path):
    """A folder with recorded runs alone, as in the wheel, is refused for --rollout in one line."""
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "runs").symlink_to(ROOT / "fixtures" / "runs")
    done = base_install("demo", "--rollout", "--fixtures", tmp_path / "fixtures", cwd=tmp_path)
    assert done.returncode == 2
    assert "--offline" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_elsewhere_says_what_it_needs(tmp_path):
    """Without the fixtures the demo names the option."""
    done = base_install("demo", "--fixtures", tmp_path)
    assert done.returncode == 2
    assert "--fixtures" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "fixtures/runs/ckpt-2400", "--json", "--out", "{out}"],
        ["inspect", "fixtures/runs/ckpt-2400"],
        ["data", "validate", "fixtures/scenes/heldout.jsonl"],
        ["data", "stats", "fixtures/scenes/heldout.jsonl"],
        ["data", "convert", "fixtures/scenes/heldout.jsonl", "{out}/x.jsonl", "--to", "tokens"],
        [
            "rollout",
            "fixtures/runs/ckpt-2400",
            "--engine",
            "replay",
            "--out",
            "{out}/r",
            "--no-score",
        ],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_reading_scoring_and_replaying_need_no_extra(tmp_path, arguments):
    """Every command that does not decode works in the base install."""
    done = base_install(*[argument.format(out=tmp_path) for argument in arguments])
    assert done.returncode == 0, done.stderr


def test_decoding_without_the_extra_is_one_line_with_the_command():
    """A missing extra is exit code 2 and the pip command."""
    done = base_install("rollout", "fixtures/ckpt-300")
    assert done.returncode == 2
    assert "pip install 'coordeval[hf]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_rollout_of_a_fixture_works_as_it_stands(tmp_path):
    """`coordeval rollout CKPT` finds its data in coordeval.toml, rolls out, scores, and resumes."""
    command = ["rollout", "fixtures/shapes-final", "--limit", 4, "--out", tmp_path / "r", "--json"]
    first = run_forked(*command, cwd=ROOT, model=True)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["metrics"]["samples/total"] == 4
    lines = (tmp_path / "r" / "rollouts.jsonl").read_bytes()
    again = run_forked(*command, cwd=ROOT, model=True)
    assert again.returncode == 0
    assert (tmp_path / "r" / "rollouts.jsonl").read_bytes() == lines
    other = run_forked(*command, "--max-new-tokens", 300, cwd=ROOT, model=True)
    assert other.returncode == 2
    assert "max_new_tokens" in other.stderr


@pytest.mark.parametrize("name", ["shapes-final", "ckpt-300", "ckpt-2400"])
def test_recorded_runs_find_their_pictures_from_anywhere(tmp_path, name):
    """Overlay and report of a fixture run show its images, whatever the working folder."""
    run = ROOT / "fixtures" / "runs" / name
    drawn = run_forked("overlay", run, "0001", "-o", tmp_path / "x.png", cwd=tmp_path)
    assert drawn.returncode == 0
    assert "no image" not in drawn.stderr
    page = run_forked("report", run, "-o", tmp_path / "x.html", "--json", cwd=tmp_path)
    assert json.loads(page.stdout)["images_missing"] == 0
