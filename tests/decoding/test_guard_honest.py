"""The loop guard on honest text: real ground truth, and what the metrics call a loop."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from coordeval.coords import FRAMES
from coordeval.data.canonical import sample_text
from coordeval.decoding.guard import LoopGuard, replay_guard
from coordeval.decoding.settings import GuardSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.metrics.score import score_run
from coordeval.parsers import DIALECTS, parse
from coordeval.records import GroundTruthObject, Sample
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
DATA = os.environ.get("COORDEVAL_DATA")
LIST = DIALECTS["coordjson"]
MISSING_SIZE = (640, 640)
PIECE = re.compile(r"<\|[^|<>\s]+\|>|\s(?=<\|)| ?[A-Za-z0-9_]{1,8}| ?[^A-Za-z0-9_\s]|\s")
needs_data = pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set")


def guard_over(text, dialect=LIST, settings=None):
    guard = LoopGuard(settings or GuardSettings(), dialect)
    for piece in PIECE.findall(text):
        guard.push(zlib.crc32(piece.encode()), piece.encode())
    return guard


def coco_samples(path, scale=1, outlines=False):
    """All images of a COCO file, crowd regions as ordinary objects, blown up `scale` times."""
    opening = gzip.open if path.suffix == ".gz" else open
    with opening(path, "rt", encoding="utf-8") as file:
        raw = json.load(file)
    names = {category["id"]: category["name"] for category in raw["categories"]}
    objects: dict[int, list[GroundTruthObject]] = {image["id"]: [] for image in raw["images"]}
    for row in raw["annotations"]:
        x, y, w, h = row["bbox"]
        shapes = [("bbox_2d", (x, y, x + w, y + h))]
        if outlines and isinstance(row["segmentation"], list):
            shapes = [("poly", tuple(part)) for part in row["segmentation"]]
        for kind, values in shapes:
            objects[row["image_id"]].append(
                GroundTruthObject(names[row["category_id"]], kind, values)
            )
    for image in raw["images"]:
        width, height = (
            image.get(k, d) for k, d in zip(("width", "height"), MISSING_SIZE, strict=True)
        )
        yield Sample(
            id=str(image["id"]),
            image="",
            width=width * scale,
            height=height * scale,
            objects=tuple(objects[image["id"]]),
        )


def coco_path():
    return Path(DATA) / "coco_val2017_full_boxes" / "instances_val2017_boxes_rebuilt.json.gz"


SETS = {
    "coco": (coco_path, {}, 36_781),
    "bccd": (lambda: Path(DATA) / "bccd" / "instances_all.json", {}, 4_888),
    "outlines": (
        lambda: Path(DATA) / "coco_val2017_subset" / "instances_val2017_subset.json",
        {"outlines": True},
        1_900,
    ),
    "tiny outlines": (
        lambda: Path(DATA) / "coco_val2017_subset" / "instances_val2017_subset.json",
        {"outlines": True, "scale": 16},
        1_900,
    ),
}
HALVED = GuardSettings(
    exact_repeats=3, block_repeats=2, near_repeats=3, cycle_repeats=6, cycle_tokens=24
)


@pytest.mark.data
@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("order", ["sorted", "random", "as_is"])
@pytest.mark.parametrize("name", SETS)
def test_real_ground_truth_never_fires(name, order):
    """COCO val2017 and BCCD as canonical text, every object: zero false stops, with a margin."""
    path, options, at_least = SETS[name]
    written = fired = 0
    for sample in coco_samples(path(), **options):
        text = sample_text(sample, dialect=LIST, frame=FRAMES["coordexp"], order=order)
        guard = guard_over(text, settings=GuardSettings() if "tiny" in name else HALVED)
        fired += guard.verdict is not None
        written += len(sample.objects)
    assert written >= at_least
    assert fired == 0


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("dialect", ["coordjson-pixels", "object-map"])
def test_the_most_crowded_scenes_never_fire_in_other_dialects(dialect):
    """The two hundred fullest images of COCO, as pixels and as the older map."""
    samples = sorted(coco_samples(coco_path()), key=lambda s: -len(s.objects))[:200]
    for sample in samples:
        text = sample_text(
            sample, dialect=DIALECTS[dialect], frame=FRAMES["coordexp"], order="sorted"
        )
        assert guard_over(text, DIALECTS[dialect]).verdict is None


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(FIXTURES / "ckpt-2400")


@pytest.fixture(scope="module")
def table(tokenizer):
    ends = {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id}
    return TokenTable.from_tokenizer(tokenizer, end_ids=ends)


@pytest.mark.data
@needs_data
def test_crowded_scenes_never_fire_on_the_tokens_of_a_checkpoint(tokenizer, table):
    """The three hundred fullest images of COCO through a real tokenizer."""
    samples = sorted(coco_samples(coco_path()), key=lambda s: -len(s.objects))[:300]
    settings = replace(HALVED, mode="stop")
    for sample in samples:
        text = sample_text(sample, dialect=LIST, frame=FRAMES["coordexp"], order="sorted")
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(table.text_bytes(i) for i in ids).decode() == text
        assert replay_guard(settings, LIST, ids, table) is None


def scored_fixtures():
    dumps = [p for p in sorted((FIXTURES / "dumps").glob("*.jsonl")) if p.stem != "object-map"]
    return [*dumps, *(FIXTURES / "runs" / n for n in ("ckpt-300", "ckpt-2400", "shapes-final"))]


@pytest.mark.parametrize("path", scored_fixtures(), ids=lambda path: path.stem)
def test_the_guard_and_the_metrics_agree_on_fixtures(path):
    """It fires on exactly the rollouts whose metrics say loop, so on none that conforms."""
    run = open_run(path)
    loops = {loop.image: loop for loop in score_run(run).loops}
    for index, rollout in enumerate(run.rollouts()):
        verdict = guard_over(rollout.text).verdict
        assert (verdict is not None) == (index in loops), rollout.id


def test_replay_on_recorded_tokens_agrees_with_the_metrics(table):
    """ckpt-2400's own token ids: the same loops, from the metrics' onset on, valid records kept."""
    run = open_run(FIXTURES / "runs" / "ckpt-2400")
    loops = {loop.image: loop for loop in score_run(run).loops}
    kinds: Counter[str] = Counter()
    for index, rollout in enumerate(run.rollouts()):
        verdict = replay_guard(GuardSettings(mode="stop"), LIST, rollout.token_ids, table)
        assert (verdict is not None) == (index in loops), rollout.id
        if verdict is None:
            continue
        kinds[verdict.kind] += 1
        assert verdict.at < len(rollout.token_ids)
        # The metrics place the brace; the token that writes it may begin with the space before.
        # Near copies may come before the exact ones that the metrics count.
        early = loops[index].onset_token - verdict.onset
        assert early >= 0
        assert early <= 1 or verdict.kind == "near"
        assert b"{" in table.text_bytes(rollout.token_ids[verdict.onset])
        kept = b"".join(table.text_bytes(i) for i in rollout.token_ids[: verdict.at]).decode()
        assert rollout.text.startswith(kept)
        assert parse(kept).objects == [
            record for record in parse(rollout.text).objects if record.end <= len(kept)
        ]
    assert sum(kinds.values()) >= 5
