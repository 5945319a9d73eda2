"""Files of training logs: what is read, what is left out with a note, and what is refused."""

import importlib
import json
import math
import struct
import sys
from pathlib import Path

import pytest

from coordeval.dynamics.discover import find_groups, read_logs
from coordeval.errors import ConfigError, DataError, MissingExtraError

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"


def has_tensorboard():
    return importlib.util.find_spec("tensorboard") is not None


needs_tb = pytest.mark.skipif(not has_tensorboard(), reason="needs the extra tb")


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_train_log_with_plain_steps(tmp_path):
    """One JSON per optimizer step: numbers become series over steps."""
    log = lines(
        tmp_path / "train_log.jsonl", {"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "loss": 1}
    )
    (read,) = read_logs([log])
    assert read.get("train", "loss").steps == (1, 2)
    assert read.get("train", "loss").values == (2.0, 1.0)
    assert read.get("train", "learning_rate").origin == "lr"


def test_steps_as_fractions_and_numbers_as_text(tmp_path):
    """ms-swift writes `40/720`, some loggers write numbers as text; other text is no number."""
    log = lines(
        tmp_path / "logging.jsonl",
        {"global_step/max_steps": "40/720", "loss": "1.5", "elapsed_time": "1m 2s", "done": True},
        {"model_parameter_info": "4B", "last_model_checkpoint": "x"},
    )
    (read,) = read_logs([log])
    assert read.get("train", "loss").values == (1.5,)
    assert read.get("train", "elapsed_time") is None
    assert any("without a step" in note for note in read.notes)


def test_nested_groups_and_split_words(tmp_path):
    """`metrics` adds nothing to names, `mode: eval` is the eval split, other groups join by /."""
    log = lines(
        tmp_path / "a.jsonl",
        {"global_step": 5, "mode": "eval", "metrics": {"loss": 1.0, "eval_token_acc": 0.5}},
        {"step": 6, "eval": {"coco/AP": 0.3}},
    )
    (read,) = read_logs([log])
    assert read.get("eval", "loss").values == (1.0,)
    assert read.get("eval", "token_acc").values == (0.5,)
    assert read.get("eval", "coco/AP").steps == (6,)


def test_non_finite_values_are_counted_not_kept(tmp_path):
    """A diverged training's NaN is left out of the series and named with its first step."""
    path = tmp_path / "trainer_state.json"
    path.write_text('{"log_history": [{"step": 1, "loss": 1.0}, {"step": 2, "loss": NaN}]}')
    (read,) = read_logs([path])
    assert read.get("train", "loss").steps == (1,)
    assert any("loss" in note and "step 2" in note for note in read.notes)
    assert all(math.isfinite(v) for s in read.series.values() for v in s.values)


def test_a_resumed_step_counts_as_logged_last(tmp_path):
    """After a restart the later row of a step replaces the earlier one."""
    log = lines(
        tmp_path / "logging.jsonl",
        {"step": 2, "loss": 9.0},
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 1.0},
    )
    (read,) = read_logs([log])
    found = read.get("train", "loss")
    assert (found.steps, found.values) == ((1, 2), (3.0, 1.0))


def test_torn_last_line_is_noted_and_a_broken_one_refused(tmp_path):
    """A killed writer costs its last line; damage elsewhere names file and line."""
    log = lines(tmp_path / "logging.jsonl", {"step": 1, "loss": 1.0})
    with log.open("a") as handle:
        handle.write('{"step": 2, "lo')
    (read,) = read_logs([log])
    assert any("torn" in note for note in read.notes)
    with log.open("a") as handle:
        handle.write('\n{"step": 3, "loss": 1.0}\n')
    with pytest.raises(DataError, match=r"logging.jsonl:2"):
        read_logs([log])


@pytest.mark.parametrize("content", ["", "[1, 2]", "not json", '{"log_history": 3}'])
def test_a_state_without_history_is_refused(tmp_path, content):
    """Anything but a trainer state is one clear error."""
    path = tmp_path / "trainer_state.json"
    path.write_text(content)
    with pytest.raises(DataError, match="trainer_state"):
        read_logs([path])


def test_a_deeply_nested_file_is_an_error_not_a_crash(tmp_path):
    """Hostile nesting ends in a DataError."""
    path = tmp_path / "logging.jsonl"
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(DataError):
        read_logs([path])


def test_folders_group_files_of_one_training(tmp_path):
    """States of checkpoints belong to the training above; only the latest is read."""
    run = tmp_path / "out" / "run-a"
    for step in (20, 100):
        history = {"log_history": [{"step": s, "loss": float(s)} for s in range(20, step + 1, 20)]}
        folder = run / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps(history))
    lines(tmp_path / "out" / "run-b" / "logging.jsonl", {"step": 1, "loss": 1.0})
    groups = find_groups([tmp_path / "out"])
    assert [group.name for group in groups] == ["run-a", "run-b"]
    assert [file.path.parent.name for file in groups[0].files] == ["checkpoint-100"]


def test_names_are_as_long_as_needed(tmp_path):
    """Equal folder names are told apart by their parents; a label wins over both."""
    one = lines(tmp_path / "a" / "v0" / "logging.jsonl", {"step": 1, "loss": 1.0})
    two = lines(tmp_path / "b" / "v0" / "logging.jsonl", {"step": 1, "loss": 1.0})
    assert [group.name for group in find_groups([one, two])] == ["a/v0", "b/v0"]
    assert find_groups([f"soft={one}"])[0].name == "soft"
    with pytest.raises(ConfigError, match="twice"):
        find_groups([one, one])


def test_links_are_not_followed_out_of_a_folder(tmp_path):
    """A link inside a training folder cannot pull in another file."""
    secret = lines(tmp_path / "elsewhere" / "logging.jsonl", {"step": 1, "loss": 1.0})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "logging.jsonl").symlink_to(secret)
    with pytest.raises(DataError, match="holds no training log"):
        read_logs([folder])


@pytest.mark.parametrize("name", ["model.pkl", "notes.txt"])
def test_other_files_are_refused_by_name(tmp_path, name):
    """A pickle is never opened."""
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match="not a training log"):
        read_logs([tmp_path / name])


def test_without_the_extra_event_files_say_what_to_install(monkeypatch):
    """Base install: one line naming the extra."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"coordeval\[tb\]"):
        read_logs([LOGS / "summary-4b-tb"])


@needs_tb
def test_event_files_say_the_same_as_json_lines():
    """TensorBoard scalars (32-bit floats) equal the JSON log of the same training."""
    from_tb = {log.name: log for log in read_logs([LOGS / "summary-4b-tb"])}
    for log in read_logs([LOGS / "summary-4b"]):
        other = from_tb[log.name]
        assert other.series.keys() == log.series.keys()
        for key, series in log.series.items():
            assert other.series[key].steps == series.steps
            assert other.series[key].values == pytest.approx(series.values, rel=1e-6)


@needs_tb
def test_tensorboards_own_writer_is_read(tmp_path):
    """Scalars of both generations of writers: simple values, and tensors without dimensions."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util import tensor_util

    writer = EventFileWriter(str(tmp_path))
    old = summary_pb2.Summary.Value(tag="train/loss", simple_value=0.5)
    new = summary_pb2.Summary.Value(tag="eval/loss", tensor=tensor_util.make_tensor_proto(0.25))
    text = summary_pb2.Summary.Value(tag="note", tensor=tensor_util.make_tensor_proto("hello"))
    many = summary_pb2.Summary.Value(tag="many", tensor=tensor_util.make_tensor_proto([1.0, 2.0]))
    summary = summary_pb2.Summary(value=[old, new, text, many])
    writer.add_event(event_pb2.Event(step=7, wall_time=1.0, summary=summary))
    writer.close()
    (log,) = read_logs([tmp_path])
    assert log.get("train", "loss").last == (7, 0.5)
    assert log.get("eval", "loss").last == (7, 0.25)
    assert log.keys == ["loss"]


@needs_tb
def test_a_broken_event_file_gives_what_stands_before_the_damage(tmp_path):
    """Cut files and damaged records are noted with the bytes that are unread; nonsense refused."""
    whole = next((LOGS / "summary-4b-tb").rglob("*tfevents*")).read_bytes()
    cut = tmp_path / "events.out.tfevents.1"
    cut.write_bytes(whole[: len(whole) // 2])
    (log,) = read_logs([cut])
    assert any("unread" in note for note in log.notes)
    cut.write_bytes(struct.pack("<Q", 5) + b"nonsense that is no record at all")
    with pytest.raises(DataError, match="not a TensorBoard event file"):
        read_logs([cut])
