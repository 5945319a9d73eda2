"""Training logs, event files and baselines of strangers."""

import base64
import json
import struct
import zlib
from importlib import import_module
from pathlib import Path

import pytest
from refusals import peak_mb, refusal_of

from coordeval.dynamics.discover import read_logs
from coordeval.dynamics.log import LogFile
from coordeval.dynamics.read_tensorboard import read_event_file
from coordeval.errors import DataError
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.stats.baseline import make_baseline, read_baseline, write_baseline
from coordeval.stats.gates import parse_gate
from coordeval.stats.gates_check import check_run

FIXTURES = Path(__file__).parents[2] / "fixtures"


def framed(payload, length=None):
    """A record of an event file; `length` is what its head claims."""
    stub = import_module("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    head = struct.pack("<Q", len(payload) if length is None else length)
    sums = [struct.pack("<I", stub.masked_crc32c(part)) for part in (head, payload)]
    return head + sums[0] + payload + sums[1]


def event(step, value):
    made = import_module("tensorboard.compat.proto.event_pb2").Event(step=step)
    made.summary.value.add(tag="train/loss", simple_value=value)
    return made.SerializeToString()


@pytest.mark.parametrize("claimed", [3 << 30, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_records_that_claim_more_than_memory_are_refused(tmp_path, claimed):
    """A length with a sound checksum that no memory holds ends the file; what was before is read."""
    pytest.importorskip("tensorboard")
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(framed(b"x" * 40, claimed))
    with pytest.raises(DataError, match="not a TensorBoard event file"):
        read_event_file(LogFile(path=path, kind="tensorboard"))
    path.write_bytes(framed(event(1, 0.5)) + framed(b"x" * 40, claimed))
    read = read_event_file(LogFile(path=path, kind="tensorboard"))
    assert [row.step for row in read.rows] == [1]
    assert "breaks off" in read.notes[0]


def test_tensors_of_odd_types_are_passed_over(tmp_path):
    """A type that nobody knows, more than a type holds, or no content: the other values are read."""
    pytest.importorskip("tensorboard")
    made = import_module("tensorboard.compat.proto.event_pb2").Event(step=3)
    for number, (dtype, content) in enumerate([(121, b"1234"), (4, b""), (1, b"123"), (23, b"")]):
        tensor = made.summary.value.add(tag=f"odd/{number}").tensor
        tensor.dtype, tensor.tensor_content = dtype, content
    made.summary.value[1].tensor.int_val.append(70_000)  # in a uint8
    made.summary.value.add(tag="train/loss", simple_value=0.5)
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(framed(made.SerializeToString()))
    read = read_event_file(LogFile(path=path, kind="tensorboard"))
    assert [(row.step, dict(row.values)) for row in read.rows] == [(3, {"train/loss": 0.5})]


@pytest.mark.parametrize("name", ["trainer_state.json", "logging.jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"log_history": ' + "[" * 100_000,
        '{"log_history": [{"step": ' + "9" * 10_000 + "}]}",
        '{"log_history": [{"step": 1, "loss": "\x1b[31m"}]}',
        '{"log_history": 5}',
        '{"step": 1, "loss": NaN, "a": Infinity, "b": 1e999, "c": -0.0}',
        '{"log_history": [{"step": 1, "loss": NaN, "grad": 1e999}]}',
        '{"step": 1, "loss": {"a": {"b": {"c": {"d": {"e": 1}}}}}}',
        '{"step": -1, "loss": 1}',
        '{"step": 1e300, "loss": 1}',
        "\0",
        "\ufeff{}",
    ],
)
def test_hostile_training_logs_are_read_or_refused(tmp_path, name, text):
    """A log is read with notes, or refused in one line that names it."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    logs = []
    refusal = refusal_of(lambda: logs.extend(read_logs([path])))
    assert refusal is None or str(path) in refusal
    for log in logs:
        for series in log.series.values():
            assert all(abs(value) < float("inf") for value in series.values)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A scored run, and its baseline as plain data."""
    result = score_run(open_run(FIXTURES / "dumps" / "conforming.jsonl"))
    path = tmp_path_factory.mktemp("base") / "base.json"
    write_baseline(make_baseline(result, name="x"), path)
    return result, json.loads(path.read_bytes())


def packed(data, shape, kind):
    text = base64.b64encode(zlib.compress(data, 9)).decode()
    return {"shape": shape, "type": kind, "data": text}


BOMB = b"\0" * (100 << 20)
DAMAGE = {
    "a long format": lambda raw: raw.update({"format": [[["x" * 10_000]]]}),
    "a lone surrogate": lambda raw: raw["protocol"].update({"name": "\ud800", "sha256": "x"}),
    "another protocol": lambda raw: raw.update({"protocol": {f"{n}" * 99: n for n in range(99)}}),
    "a list for a number": lambda raw: raw["metrics"].update({"coco/AP": [1]}),
    "no ids": lambda raw: raw["per_image"].pop("id"),
    "a short column": lambda raw: raw["per_image"].update({"f1/0.50/tp": [1]}),
    "text in a column": lambda raw: raw["per_image"].update(
        {"x": ["a"] * len(raw["per_image"]["id"])}
    ),
    "huge counts": lambda raw: raw["per_image"].update(
        {"x": [1e308] * len(raw["per_image"]["id"])}
    ),
    "a bomb": lambda raw: raw["coco_matches"].update({"score": packed(BOMB, [1], "<f8")}),
    "a huge shape": lambda raw: raw["coco_matches"].update({"score": packed(b"", [2**62], "<f8")}),
    "a negative shape": lambda raw: raw["coco_matches"].update({"score": packed(b"", [-1], "<f8")}),
    "objects": lambda raw: raw["coco_matches"].update({"score": packed(b"\0" * 8, [1], "|O")}),
    "another length": lambda raw: raw["coco_matches"].update(
        {"score": packed(b"\0" * 8, [1], "<f8")}
    ),
    "no base64": lambda raw: raw["coco_matches"]["score"].update({"data": "%%%"}),
    "images beyond": lambda raw: raw["coco_matches"].update(
        {"image": packed(b"\xff" * 4000, [500], "<i8")}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_baseline_is_refused(tmp_path, sound, damage):
    """A baseline that does not hold together is refused in one line, not a traceback."""
    result, raw = sound
    raw = json.loads(json.dumps(raw))
    DAMAGE[damage](raw)
    path = tmp_path / "base.json"
    path.write_text(json.dumps(raw))
    gates = [parse_gate("coco/AP:-1pt")]

    def check():
        baseline = read_baseline(path)
        check_run(result, gates, baseline, run="x", baseline_path="y", with_intervals=True)

    refusal = refusal_of(check)
    assert refusal is not None and len(refusal) < 1000


def test_a_baseline_unpacks_to_no_more_than_it_says(tmp_path, sound):
    """Some kilobytes that would unpack to 100 MB take no such memory."""
    raw = json.loads(json.dumps(sound[1]))
    DAMAGE["a bomb"](raw)
    path = tmp_path / "base.json"
    path.write_text(json.dumps(raw))
    prepare = (
        "from coordeval.stats.baseline import read_baseline; "
        "from coordeval.stats.packed_matches import unpack_matches"
    )
    used_mb, refusal = peak_mb(prepare, "unpack_matches(read_baseline(path).coco_matches)", path)
    assert used_mb < 40
    assert "match table" in refusal
