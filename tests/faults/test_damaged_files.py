"""run.json, tables and telemetry that are missing, torn or flipped."""

from __future__ import annotations

import json
import random

import pytest
from forked_commands import FIXTURES, files_of

from coordeval.errors import CoordevalError, DataError
from coordeval.records import Rollout, SlotReading
from coordeval.runs import RunWriter, open_run, read_slots

READERS = ("score", "inspect", "report", "check", "attribute")
IDENTITY = {"checkpoint": {"hash": "abc"}, "frame": "coordexp", "decode": {"telemetry": True}}


def test_lines_without_run_json_belong_to_nobody(commands, rollout_words, run):
    """run.json is missing: a rollout does not take the lines for its own, of whatever settings."""
    (run / "run.json").unlink()
    before = files_of(run)
    for more in ((), ("--frame", "unit-1000"), ("--retry-errors",)):
        ended = commands.run(*rollout_words(run), *more)
        assert ended.code == 2
        assert ended.error.startswith(f"error: {run}: has a rollouts.jsonl but no run.json")
    for verb in READERS:
        ended = commands.run(verb, run)
        assert ended.code == 2
        assert "no run.json" in ended.error
    assert files_of(run) == before
    assert commands.run("score", run / "rollouts.jsonl").code == 0  # the lines can still be read


@pytest.mark.parametrize("keep", [0, 1, 200, 1500])
def test_a_torn_run_json_is_refused(keep, commands, rollout_words, run):
    """Whatever is left of run.json, it is named, and the lines stay as they are."""
    meta = run / "run.json"
    meta.write_bytes(meta.read_bytes()[:keep])
    lines = (run / "rollouts.jsonl").read_bytes()
    for words in (rollout_words(run), *((verb, run) for verb in READERS)):
        ended = commands.run(*words)
        assert ended.code == 2
        assert ended.error.startswith(f"error: {meta}: damaged: ")
    assert (run / "rollouts.jsonl").read_bytes() == lines
    assert meta.read_bytes() == meta.read_bytes()[:keep]


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_bit_in_run_json_is_never_a_bug(seed, run):
    """A reader takes run.json as it is or says what is wrong with it; it never falls over."""
    from coordeval.metrics.score import score_run

    meta = run / "run.json"
    whole = meta.read_bytes()
    lines = (run / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (run / "rollouts.jsonl").write_bytes(b"".join(lines[:2]))
    randomness = random.Random(seed)
    told = 0
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[randomness.randrange(len(whole))] ^= 1 << randomness.randrange(8)
        meta.write_bytes(flipped)
        try:
            score_run(open_run(run))
        except CoordevalError:
            told += 1
    assert told > 10


def test_missing_lines_are_all_made_again(commands, rollout_words, run, whole_run):
    """Without rollouts.jsonl readers say what to do, and the rollout starts anew."""
    (run / "rollouts.jsonl").unlink()
    for verb in READERS:
        ended = commands.run(verb, run)
        assert (ended.code, "run the rollout again" in ended.error) == (2, True)
    assert commands.run(*rollout_words(run)).code == 0
    assert files_of(run) == files_of(whole_run)


@pytest.mark.parametrize("damage", ["missing", "empty", "flipped"])
def test_damaged_scores_are_recomputed(damage, commands, run, tmp_path):
    """Nobody relies on the stored tables: everything is as without damage, score mends them."""
    base = tmp_path / "base.json"
    assert commands.run("score", run).code == 0
    words = ("check", run, "--baseline", base)
    assert commands.run(*words, "--update-baseline").code == 0
    expected = files_of(run)
    reading = [
        ("compare", run, FIXTURES / "runs" / "ckpt-2400", "--json", "--draws", 100),
        ("inspect", run, "--json"),
        ("attribute", run, "--json"),
        (*words, "--gate", "f1/0.50/f1:-1pt", "--json"),
    ]
    shown = [commands.run(*reader).stdout for reader in reading]
    for path in (run / "score").iterdir():
        if damage == "missing":
            path.unlink()
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 4
            path.write_bytes(data)
    assert [commands.run(*reader).stdout for reader in reading] == shown
    assert commands.run("score", run).code == 0
    assert files_of(run) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("counts", [1]),
        ("counts", {"finished": "4"}),
        ("counts", {"finish_reasons": [1]}),
        ("selection", [1]),
        ("selection", {"shard": "a/b"}),
    ],
    ids=str,
)
def test_a_merge_names_what_is_wrong_with_run_json(key, value, commands, run, tmp_path):
    """What a merge adds up and joins is checked before anything is written."""
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    ended = commands.run("merge", run, run, "--out", tmp_path / "merged")
    assert ended.code == 2
    assert ended.error.startswith(f"error: {path}: {key!r} is not as a rollout writes it: ")
    assert not (tmp_path / "merged").exists()


def telemetry_run(tmp_path, *, ends=True):
    """A run with telemetry of two rollouts, as a kill leaves it where it does not end."""
    run = tmp_path / "slots"
    reading = SlotReading(
        token=3,
        record=0,
        slot=0,
        kind="bbox_2d",
        written_id=7,
        written_bin=5,
        coord_mass=0.9,
        mass_bound=0.0,
        top_bin=5,
        top_prob=0.8,
        entropy=0.1,
        other_id=1,
        other_text="x",
        other_prob=0.1,
    )
    with RunWriter(run, identity=IDENTITY, extra={}) as writer:
        for name in ("a", "b"):
            rollout = Rollout(id=name, width=8, height=8, gt=(), text="{}", finish_reason="stop")
            rollout.slots = [reading] * (40 if ends else 1)
            writer.append([rollout])
        if not ends:
            return run
        writer.finish("complete", {"finished": 2, "samples": 2, "rollouts": 2})
    return run


def test_missing_telemetry_is_said(commands, tmp_path):
    """slots.parquet cannot be made from texts: that it is gone is said, the rest is scored."""
    run = telemetry_run(tmp_path)
    assert "slots.parquet" not in commands.run("score", run, "--json").stderr
    (run / "slots.parquet").unlink()
    ended = commands.run("score", run, "--json")
    assert ended.code == 0
    assert f"warning: {run / 'slots.parquet'}: missing" in ended.stderr
    metrics = json.loads(ended.stdout)["metrics"]
    assert all(value is None for key, value in metrics.items() if key.startswith("slot/"))


def test_damaged_telemetry_is_named_and_never_read_as_other_numbers(commands, tmp_path):
    """A flip anywhere in slots.parquet gives an error with the file, or the same table."""
    run = telemetry_run(tmp_path)
    path = run / "slots.parquet"
    whole = path.read_bytes()
    expected = read_slots(open_run(run))
    randomness = random.Random(0)
    named = []
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[randomness.randrange(len(whole))] ^= 1 << randomness.randrange(8)
        path.write_bytes(flipped)
        try:
            found = read_slots(open_run(run))
        except DataError as error:
            named.append(str(error))
        else:
            assert found.equals(expected)
    assert len(named) > 100
    assert all(str(path) in said for said in named)
    path.write_bytes(whole[: len(whole) // 2])
    ended = commands.run("score", run)
    assert ended.code == 2
    assert ended.error.startswith(f"error: {path}: ")


def test_a_damaged_log_of_telemetry_is_named_with_its_line(commands, tmp_path):
    """A flip at any byte of what a kill left is told with its line, or changes no number."""
    run = telemetry_run(tmp_path, ends=False)
    path = run / "slots.pending.jsonl"
    whole = path.read_bytes()
    expected = read_slots(open_run(run))
    named = []
    for place in range(len(whole) - 1):  # the last newline tells whether a line is finished
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place * 3 % 8
        path.write_bytes(flipped)
        try:
            found = read_slots(open_run(run))
        except DataError as error:
            named.append(str(error))
        else:
            assert found.equals(expected)
    assert len(named) > 100
    assert all(said.startswith(f"{path}:") for said in named)
    path.write_bytes(whole.replace(b"bbox_2d", b"cbox_2d", 1))
    before = files_of(run)
    said = f"{path}:1: not a line of slots: damaged: its checksum does not fit"
    ended = commands.run("score", run)
    assert (ended.code, said in ended.error) == (2, True)
    with pytest.raises(DataError, match="damaged"):
        RunWriter(run, identity=IDENTITY, extra={})
    assert files_of(run) == before


def test_files_that_a_killed_process_left_are_removed(commands, rollout_words, run, whole_run):
    """Hidden files of dead processes go with the next command that writes the same file."""
    import platform
    import subprocess

    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = ended.pid, 1
    host = platform.node()
    names = [f".{name}.{host}-{dead}.tmp" for name in ("run.json", "rollouts.jsonl")]
    kept = [f".run.json.{host}-{alive}.tmp", f".run.json.elsewhere-{dead}.tmp", ".run.json.tmp"]
    for name in (*names, *kept):
        (run / name).write_text("half")
    assert commands.run(*rollout_words(run)).code == 0
    left = set(files_of(run)) - set(files_of(whole_run))
    assert left == set(kept)
