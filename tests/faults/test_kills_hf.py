"""kill -9 while a model decodes, with telemetry: the same texts, tokens and slots as without."""

from __future__ import annotations

import json
import random
import signal

import pandas as pd
import pytest
from forked_commands import FIXTURES, SCENES, killed_at, shared_commands

KILLED_RUNS = 5


@pytest.fixture(scope="module")
def model_commands():
    """Commands of a process that has imported torch and transformers as well."""
    pytest.importorskip("torch")
    return shared_commands(model=True)


def decoding(out):
    """The words of a rollout of a small trained checkpoint with telemetry."""
    return (
        *("rollout", FIXTURES / "ckpt-300", "--engine", "hf", "--data", SCENES, "--out", out),
        *("--limit", 6, "--batch-size", 2, "--max-new-tokens", 100, "--dtype", "fp32"),
        *("--device", "cpu", "--telemetry", "--no-score"),
    )


@pytest.fixture(scope="module")
def undisturbed(model_commands, tmp_path_factory):
    """The run as it is without a kill, and how often it changes files."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    changes = model_commands.number_of_changes(*decoding(out), under=out)
    return out, changes


def lines_of(out):
    """Lines as written, without what each decode measures anew."""
    found = []
    for line in (out / "rollouts.jsonl").read_text(encoding="utf-8").splitlines():
        raw = json.loads(line)
        assert raw.pop("seconds") >= 0
        raw.pop("line_crc32")
        found.append(raw)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLED_RUNS))
def test_a_killed_decode_goes_on_as_if_nothing_had_been(
    seed, model_commands, undisturbed, tmp_path
):
    """Killed once or twice under a jumping clock, then the same command: equal lines and slots."""
    whole, changes = undisturbed
    out = tmp_path / "run"
    randomness = random.Random(seed)
    clock = {"kind": "jumping_clock", "seed": seed}
    finished = b""
    for number in range(1 + seed % 2):
        moment = randomness.randint(1, max(changes - 12 * number, 1))
        ended = model_commands.run(*decoding(out), faults=[clock, killed_at(moment, out)])
        assert ended.code in {-signal.SIGKILL, 0}
        path = out / "rollouts.jsonl"
        content = path.read_bytes() if path.exists() else b""
        assert content.startswith(finished), "a finished line was decoded again"
        finished = content[: content.rfind(b"\n") + 1]
    ended = model_commands.run(*decoding(out), faults=[clock])
    assert ended.code == 0, ended.stderr
    assert (out / "rollouts.jsonl").read_bytes().startswith(finished)
    assert lines_of(out) == lines_of(whole)
    expected = pd.read_parquet(whole / "slots.parquet")
    assert len(expected)
    assert pd.read_parquet(out / "slots.parquet").equals(expected)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    kept = ("status", "counts", "decode", "engine")
    metas = [json.loads((folder / "run.json").read_text()) for folder in (out, whole)]
    assert [metas[0][key] for key in kept] == [metas[1][key] for key in kept]


@pytest.mark.slow
def test_a_comparison_of_checkpoints_that_was_killed_goes_on(model_commands, tmp_path):
    """Killed while it rolls out, the same command says what an undisturbed one does."""
    words = (
        *("compare", FIXTURES / "ckpt-300", FIXTURES / "ckpt-2400", "--json", "--draws", 100),
        *("--limit", 4, "--max-new-tokens", 64, "--device", "cpu"),
    )
    shown = []
    for moments in ((), (9, 24)):
        folder = tmp_path / str(len(moments))
        folder.mkdir()
        (folder / "coordeval.toml").write_text(f'data = "{SCENES}"\n')
        for moment in moments:
            fault = killed_at(moment, folder / "runs")
            ended = model_commands.run(*words, cwd=folder, faults=[fault])
            assert ended.code == -signal.SIGKILL
        ended = model_commands.run(*words, cwd=folder)
        assert ended.code == 0, ended.stderr
        document = json.loads(ended.stdout)
        assert document.pop("runs")
        shown.append(document)
    assert shown[0] == shown[1]
