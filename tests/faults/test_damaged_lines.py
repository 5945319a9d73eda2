"""Cut and flipped rollouts.jsonl: found, said with its line, and repaired or refused."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from dataclasses import replace

import pytest
from forked_commands import files_of

from coordeval.coords import FRAMES
from coordeval.errors import DataError
from coordeval.jsonl import dump_line
from coordeval.records import GroundTruthObject, Rollout
from coordeval.rollout_lines import (
    CHECKSUM_KEY,
    iter_rollouts,
    rollout_line,
    rollout_to_json,
)
from coordeval.run_damage import damage
from coordeval.runs import RunWriter, open_run

FRAME = FRAMES["coordexp"]
IDENTITY = {"checkpoint": {"hash": "abc"}, "dialect": {"name": "coordjson"}, "frame": "coordexp"}
READERS = ("score", "inspect", "report", "compare", "check", "attribute", "export", "overlay")


def rollouts(count=3):
    """Rollouts whose lines hold every kind of field."""
    return [
        Rollout(
            id=f"{number:04d}",
            width=64,
            height=48,
            gt=(GroundTruthObject("第九 cat", "bbox_2d", (1.0, 2.5, 30.25, 40.0), False, 3.0, 7),),
            text='{"objects": [{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>]}]}',
            image=f"{number}.png",
            image_id=number,
            finish_reason="stop",
            token_ids=[1, 20, 300],
            token_logprobs=[-0.5, -1e-7, 0.0],
            prompt_tokens=94,
            seconds=0.25,
            guard={"kind": "records", "onset": 3, "tokens_saved": 0},
        )
        for number in range(count)
    ]


def words_of(verb, run, tmp_path):
    """A command that reads the run."""
    more = {
        "compare": (run,),
        "report": ("--thumbnails", 0, "-o", tmp_path / "page.html"),
        "score": ("--out", tmp_path / "score"),
        "check": ("--gate", "f1/0.50/f1>=0"),
        "export": ("--to", "coco", "-o", tmp_path / "coco"),
        "overlay": ("0000", "-o", tmp_path / "x.svg"),
    }
    return (verb, run, *more.get(verb, ()))


def _covered(read):
    """Rollouts without what the checksum leaves out: times and log-probabilities."""
    return [replace(item, seconds=None, token_logprobs=None) for item in read]


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path):
    """At every byte, some bit flips: the line is named, or what is read is what was written.

    Times and log-probabilities are not covered: equal runs may differ in them.

    The newline at the very end is the one place where a flip cannot be told from a torn write:
    that line is left out and named as torn.
    """
    written = rollouts()
    whole = b"".join(map(rollout_line, written))
    starts = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    path = tmp_path / "rollouts.jsonl"
    randomness = random.Random(0)
    outcomes = {"named": 0, "same": 0, "torn": 0}
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << randomness.randrange(8)
        path.write_bytes(flipped)
        line = sum(start <= position for start in starts)
        try:
            read = list(iter_rollouts(path, FRAME))
        except DataError as error:
            said = str(error)
            # A flip that makes a newline of a byte leaves the second half as a line of its own.
            outcomes["named"] += said.startswith((f"{path}:{line}: ", f"{path}:{line + 1}: "))
            continue
        if _covered(read) == _covered(written):
            outcomes["same"] += 1
            continue
        assert position == len(whole) - 1
        assert read == written[:-1]
        assert damage(open_run(path))[0].startswith(f"{path}:3: the last line is torn")
        outcomes["torn"] += 1
    assert outcomes["torn"] == 1
    assert sum(outcomes.values()) == len(whole), "an error named another line"
    # What changes nothing is a flip in the name of the checksum, in what it does not cover, or in
    # the name of an index that is 0 without it.
    free = sum(len(dump_line(rollout_to_json(item))) for item in written) - sum(
        len(dump_line(rollout_to_json(item))) for item in _covered(written)
    )
    assert 0 < outcomes["same"] <= 3 * (len(CHECKSUM_KEY) + len("sample_index")) + free


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_in_lines_of_others_never_break_a_reader(seed, tmp_path):
    """Lines without a checksum: a flip is named with its line or reads as another text."""
    whole = b"".join(dump_line(rollout_to_json(item)) for item in rollouts())
    path = tmp_path / "dump.jsonl"
    randomness = random.Random(seed)
    named = []
    for _ in range(1500):
        flipped = bytearray(whole)
        flipped[randomness.randrange(len(whole))] ^= 1 << randomness.randrange(8)
        path.write_bytes(flipped)
        damage(open_run(path))
        try:
            list(iter_rollouts(path, FRAME))
        except DataError as error:
            named.append(str(error))
    assert len(named) > 300
    assert all(said.startswith(f"{path}:") for said in named)


def test_every_cut_is_repaired_by_the_next_writer(tmp_path):
    """Truncated at any byte: whole lines stay, the torn one is made again, the file is as before."""
    run = tmp_path / "run"
    with RunWriter(run, identity=IDENTITY, extra={}) as writer:
        writer.append(rollouts())
    path = run / "rollouts.jsonl"
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        before = whole[:cut].count(b"\n")
        with RunWriter(run, identity=IDENTITY, extra={}) as writer:
            assert writer.finished == {(f"{number:04d}", 0) for number in range(before)}
            assert writer.cut_bytes == cut - (whole[:cut].rfind(b"\n") + 1)
            writer.append(rollouts()[before:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_run_is_told_by_readers_and_mended_by_the_rollout(
    seed, commands, rollout_words, run, whole_run, tmp_path
):
    """Cut anywhere: readers say what is torn or lost, the same rollout makes the run whole."""
    path = run / "rollouts.jsonl"
    whole = path.read_bytes()
    cut = random.Random(seed).randrange(len(whole) // 3, len(whole) - 1)
    if seed == 0:
        cut = whole.rfind(b"\n", 0, cut) + 1  # between two lines
    path.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    torn = cut > whole.rfind(b"\n", 0, cut) + 1
    for verb in ("score", "compare", "inspect"):
        ended = commands.run(*words_of(verb, run, tmp_path))
        assert ended.code == 0, ended.stderr
        assert f"warning: {path}: {lines} lines, but run.json counts 64" in ended.stderr
        assert (f"warning: {path}:{lines + 1}: the last line is torn" in ended.stderr) == torn
    assert "[partial]" in commands.run(*words_of("score", run, tmp_path)).stdout
    assert commands.run(*words_of("check", run, tmp_path)).code == 3
    ended = commands.run(*rollout_words(run))
    assert ended.code == 0
    assert ("a torn last line" in ended.error) == torn
    assert files_of(run) == files_of(whole_run)


@pytest.mark.parametrize("how", ["torn", "lost"])
def test_a_cut_shard_is_not_merged(how, commands, rollout_words, whole_run, tmp_path):
    """A finished shard that lost lines is named with the remedy; mended, it gives the whole run."""
    shards = [tmp_path / f"shard{number}" for number in range(2)]
    for number, shard in enumerate(shards):
        assert commands.run(*rollout_words(shard, "--shard", f"{number}/2")).code == 0
    path = shards[1] / "rollouts.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] if how == "torn" else b"".join(whole.splitlines(True)[1:]))
    words = ("merge", *shards, "--out", tmp_path / "merged")
    refused = commands.run(*words)
    assert refused.code == 3
    assert refused.error.startswith(f"error: {path}:")
    told = "the last line is torn" if how == "torn" else "31 lines, but run.json counts 32"
    assert told in refused.error
    assert refused.error.endswith(" again: do that first, then merge")
    assert not (tmp_path / "merged").exists()
    assert commands.run(*rollout_words(shards[1], "--shard", "1/2")).code == 0
    assert commands.run(*words).code == 0
    merged = (tmp_path / "merged" / "rollouts.jsonl").read_bytes()
    assert merged == (whole_run / "rollouts.jsonl").read_bytes()


FLIPS = {
    "inside a text": lambda line: line.replace(b"circle", b"circke", 1),
    "inside a number": lambda line: line.replace(b'"token_ids":[2', b'"token_ids":[3', 1),
    "inside a key": lambda line: line.replace(b'"finish_reason"', b'"finish_rfason"', 1),
    "a quote": lambda line: line.replace(b'"finish_reason"', b'"finish_reason ', 1),
    "a brace": lambda line: b"y" + line[1:],
    "the newline": lambda line: line[:-1] + b"\x0b",
    "a newline more": lambda line: line[:90] + b"\n" + line[91:],
    "a block of zeros": lambda line: line[:100] + bytes(64) + line[164:],
    "not UTF-8": lambda line: line[:-30] + b"\xff" + line[-29:],
    "the checksum": lambda line: line[:-4] + bytes([line[-4] ^ 1]) + line[-3:],
}


@pytest.mark.parametrize("name", FLIPS)
def test_a_damaged_line_is_refused_with_its_number_by_every_command(
    name, commands, rollout_words, run, tmp_path
):
    """Line 7 is damaged: whoever reads it ends with 2 and names it; nothing is changed."""
    path = run / "rollouts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = FLIPS[name](lines[6])
    assert damaged != lines[6]
    lines[6] = damaged
    path.write_bytes(b"".join(lines))
    before = files_of(run)
    verbs = READERS if name == "inside a text" else ("score", "compare")
    for words in (*(words_of(verb, run, tmp_path) for verb in verbs), rollout_words(run)):
        ended = commands.run(*words)
        assert ended.code == 2, (words, ended.stderr)
        assert ended.error.startswith(f"error: {path}:7: ")
        assert "restore the line, or delete it" in ended.error
    ended = commands.run(*rollout_words(run), "--retry-errors")
    assert (ended.code, f"{path}:7: " in ended.error) == (2, True)
    assert files_of(run) == before


def test_the_remedy_that_is_named_is_one(commands, rollout_words, run, whole_run):
    """Deleting the damaged line and rolling out again gives the run as it was."""
    path = run / "rollouts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6] + lines[7:]))
    assert commands.run(*rollout_words(run)).code == 0
    assert files_of(run) == files_of(whole_run)


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\xff\xfe", b"{", b'{"id":"9999"', b" "])
def test_a_tail_that_is_no_line_is_cut(tail, commands, rollout_words, run, whole_run):
    """What a crash of the machine can leave behind the last line is cut off, and nothing else."""
    with (run / "rollouts.jsonl").open("ab") as handle:
        handle.write(tail)
    ended = commands.run(*rollout_words(run))
    size = "1 byte" if len(tail) == 1 else f"{len(tail):,} bytes"
    told = f"a torn last line ({size})"
    assert (ended.code, told in ended.error) == (0, True)
    assert files_of(run) == files_of(whole_run)


def test_a_doubled_line_is_no_complete_run(commands, rollout_words, run, tmp_path):
    """A line that stands twice is refused by readers, counted and named by the rollout; none is lost.

    The rollout ends with 3 whether it was to score or not.
    """
    path = run / "rollouts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[3]]))
    for verb in ("score", "compare"):
        ended = commands.run(*words_of(verb, run, tmp_path))
        assert ended.code == 2
        assert "0003" in ended.error
        assert "twice" in ended.error
    scoring = [word for word in rollout_words(run) if word != "--no-score"]
    for words in (rollout_words(run), scoring, [*scoring, "--json"]):
        ended = commands.run(*words)
        assert (ended.code, "1 repeated line" in ended.stderr) == (3, True), words
        # The run is in order again.
        assert "ids stand twice: line 5 (first on line 4); keep one line for each" in ended.stderr
    assert json.loads(ended.stdout)["counts"]["repeated"] == 1
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted([*lines, lines[3]])


def test_the_checksum_is_crc_32_of_what_the_line_says(tmp_path):
    """An independent reading of the rule: known fields but scores, times and log-probabilities."""
    [item] = rollouts(1)
    item.scores = [0.5]
    raw = json.loads(rollout_line(item))
    stored = raw.pop(CHECKSUM_KEY)
    for name in ("scores", "seconds", "token_logprobs"):
        raw.pop(name, None)
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON writes 1e-07 here and 1e-7 there.
    assert f"{zlib.crc32(text.replace('1e-07', '1e-7').encode()):08x}" == stored


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: dict(sorted(raw.items())),
        lambda raw: raw | {"scores": [0.25]},
        lambda raw: raw | {"seconds": 123.0},
        lambda raw: raw | {"note": "looked at by hand"},
        lambda raw: {key: value for key, value in raw.items() if key != CHECKSUM_KEY},
        lambda raw: raw | {"text": "x", CHECKSUM_KEY: None},
        lambda raw: {k: v for k, v in (raw | {"text": "x"}).items() if k != CHECKSUM_KEY},
    ],
    ids=[
        "other order",
        "scores added",
        "other times",
        "a field added",
        "no checksum",
        "a null for it",
        "changed without it",
    ],
)
def test_lines_may_be_worked_on(change, tmp_path):
    """Other spacing, order and further fields are fine, and so is a line without the checksum."""
    [item] = rollouts(1)
    path = tmp_path / "dump.jsonl"
    path.write_text(json.dumps(change(json.loads(rollout_line(item)))) + "\n")
    [read] = iter_rollouts(path, FRAME)
    assert read.token_ids == item.token_ids


def _whole_numbers(value):
    """As JavaScript writes numbers: 12.0 is 12."""
    if isinstance(value, dict):
        return {key: _whole_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize(
    "rewrite", [_whole_numbers, lambda raw: {"error": None, "scores": None, **raw}]
)
def test_other_writings_of_the_same_values_keep_the_checksum(rewrite, separators, tmp_path):
    """What other programs write of a line they did not change is no damage: 12 for 12.0, nulls."""
    [item] = rollouts(1)
    path = tmp_path / "dump.jsonl"
    raw = json.loads(rollout_line(item))
    path.write_text(json.dumps(rewrite(raw), separators=separators) + "\n")
    assert list(iter_rollouts(path, FRAME)) == [item]
    assert damage(open_run(path)) == []


def test_lines_that_a_program_changed_and_wrote_anew_are_read_and_said(commands, run, tmp_path):
    """A script that loads, changes and dumps every line: the new texts count, with a warning."""
    path = run / "rollouts.jsonl"
    raws = [json.loads(line) for line in path.read_text().splitlines()]
    before = json.loads(commands.run("score", path, "--json").stdout)["metrics"]
    for raw in raws[2:]:
        raw["text"] = "nothing"
    path.write_text("".join(json.dumps(raw) + "\n" for raw in raws))
    ended = commands.run("score", path, "--json")
    assert ended.code == 0
    assert f"warning: {path}:3: changed by another program" in ended.stderr
    assert f"({len(raws) - 2} such lines)" in ended.stderr
    found = json.loads(ended.stdout)["metrics"]["parse/objects_found"]
    assert 0 < found < before["parse/objects_found"]
    assert commands.run(*words_of("compare", run, tmp_path)).code == 0


def test_an_edit_in_our_own_form_is_refused_until_its_checksum_is_deleted(
    commands, rollout_words, run, tmp_path
):
    """What nobody can tell from damage is refused, and the words of the refusal lead out of it."""
    path = run / "rollouts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    raw = json.loads(lines[4]) | {"text": '{"objects": []}'}
    assert next(iter(raw)) == "id"
    lines[4] = json.dumps(raw, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    ended = commands.run("score", run)
    assert ended.code == 2
    assert ended.error.startswith(f"error: {path}:5: damaged: its checksum does not fit")
    assert f'if it was changed on purpose, delete the field "{CHECKSUM_KEY}"' in ended.error
    assert "\n" not in ended.error.strip()
    # As the message says: the field goes, the line stays in its form, and everybody reads it.
    del raw[CHECKSUM_KEY]
    lines[4] = json.dumps(raw, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    assert [item.text for item in open_run(run).rollouts()][4] == '{"objects": []}'
    for verb in ("score", "compare"):
        ended = commands.run(*words_of(verb, run, tmp_path))
        assert (ended.code, "warning" in ended.stderr) == (0, False)
    assert commands.run(*rollout_words(run)).code == 0
    assert path.read_bytes() == b"".join(lines)


def test_odd_values_keep_their_checksum(tmp_path):
    """Lone surrogates, numbers that are none, huge and whole ones: what is written is readable."""
    odd = [
        {"text": "lone \ud800 surrogate", "token_logprobs": [-1e-300, -1.0]},
        {"seconds": float("inf"), "text": "\ud800"},
        {"image_id": 2**70},
        {"image_id": 2**70, "text": "\udfff"},
        {"id": "\ud800", "guard": {"kind": "\ud800", "tokens_saved": 1e300}},
        {"token_logprobs": [0.0, -0.0, 5e-324]},
        {"text": "\0 \x1b[31m \u2028 \ufeff"},
    ]
    path = tmp_path / "rollouts.jsonl"
    [plain] = rollouts(1)
    for changes in odd:
        for key, value in changes.items():
            setattr(plain, key, value)
        path.write_bytes(rollout_line(plain))
        [read] = iter_rollouts(path, FRAME)
        assert read.text == plain.text
        [plain] = rollouts(1)


def test_a_file_of_others_with_a_torn_end_says_so(commands, run, tmp_path):
    """A bare file that was cut short in copying: its whole lines are scored, the torn one named."""
    path = tmp_path / "dump.jsonl"
    shutil.copy(run / "rollouts.jsonl", path)
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 100)
    ended = commands.run("score", path, "--json")
    assert ended.code == 0
    assert f"warning: {path}:64: the last line is torn and left out" in ended.stderr
