"""Folders whose names are no valid UTF-8, as older disks and archives leave them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from forked_commands import FIXTURES

from coordeval.records import Rollout, SlotReading
from coordeval.runs import ROLLOUTS_NAME, RunWriter, open_run, read_slots
from coordeval.slot_table import SLOTS_NAME, store_slots
from coordeval.training.probe.result import ProbeResult, write_probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux alone")


@pytest.fixture
def folder(tmp_path):
    """A folder whose name holds a byte that is no UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    path.mkdir()
    return path


@pytest.fixture
def odd_run(folder):
    """A recorded run in it."""
    return shutil.copytree(FIXTURES / "runs" / "ckpt-300", folder / "run")


def test_every_reader_works_in_a_folder_of_any_name(commands, odd_run, folder):
    """Scores, tables, pages and exports are written there, and read again."""
    for words in (
        ("score", odd_run),
        ("inspect", odd_run),
        ("report", odd_run),
        ("compare", odd_run, odd_run),
        ("attribute", odd_run),
        ("check", odd_run, "--gate", "f1/0.50/f1>=0"),
        ("export", odd_run, "--to", "parquet", "--out", folder / "objects.parquet"),
        ("export", odd_run, "--to", "csv", "--out", folder / "objects.csv"),
    ):
        ended = commands.run(*words)
        assert (words[0], ended.code) == (words[0], 0), ended.error
    with (odd_run / "score" / "objects.parquet").open("rb") as handle:
        scored = len(pd.read_parquet(handle))
    with (folder / "objects.parquet").open("rb") as handle:
        assert len(pd.read_parquet(handle)) == scored > 0


def test_a_rollout_works_in_a_folder_of_any_name(commands, rollout_words, folder):
    """The run is whole and scored."""
    words = [word for word in rollout_words(folder / "new") if word != "--no-score"]
    ended = commands.run(*words)
    assert ended.code == 0, ended.error
    assert (folder / "new" / "score" / "per_image.parquet").stat().st_size


def test_telemetry_works_in_a_folder_of_any_name(folder):
    """slots.parquet is written with the run, and read again."""
    reading = SlotReading(0, 0, 0, "bbox_2d", 7, 3, 0.75, 0.0, 4, 0.5, 1.25, 9, "x", 0.1)
    rollout = Rollout(id="a", width=8, height=8, gt=(), text="", slots=(reading,))
    with RunWriter(folder / "run", identity={"frame": "coordexp"}, extra={}) as run:
        run.append([rollout])
    store_slots(folder / "run" / ROLLOUTS_NAME)
    table = read_slots(open_run(folder / "run"))
    assert table is not None
    assert (folder / "run" / SLOTS_NAME).stat().st_size
    assert table["token"].tolist() == [0]


def test_a_probe_works_in_a_folder_of_any_name(folder):
    """Its slots are written there, and its settings may name such a folder."""
    result = ProbeResult(
        name="x",
        status="empty",
        settings={"run": str(folder), "versions": {}},
        protocol={},
        contexts={},
        exposure=None,
        errors=(),
        skipped={},
        notes=(),
        slots=pa.table({"bin": [7]}),
    )
    write_probe(result, folder / "probe")
    assert json.loads((folder / "probe" / "probe.json").read_text())["run"] == str(folder)
    with (folder / "probe" / SLOTS_NAME).open("rb") as handle:
        assert pd.read_parquet(handle)["bin"].tolist() == [7]


def test_event_files_are_read_in_a_folder_of_any_name(commands, folder):
    """TensorBoard's own reader wants valid UTF-8, and is handed what it can open."""
    pytest.importorskip("tensorboard")
    logs = shutil.copytree(FIXTURES / "logs" / "summary-4b-tb", folder / "logs")
    ended = commands.run("dynamics", logs)
    assert ended.code == 0, ended.error
