"""Small runs for the tests of `compare`: made in memory, written to disk, scored."""

from __future__ import annotations

import json
import random

from coordeval.runs import open_run

NAMES = ("cat", "dog", "kite")


def record(desc, bins):
    """One record as a model writes it."""
    inner = ", ".join(f"<|coord_{k}|>" for k in bins)
    return f'{{"desc": {json.dumps(desc)}, "bbox_2d": [{inner}]}}'


def answer(*records):
    """The canonical answer around records."""
    return '{"objects": [' + ", ".join(records) + "]}"


def line(key, gt, text, **more):
    """A rollout line on a 1000 x 1000 image; `gt` holds (name, x1, y1, x2, y2) in pixels."""
    objects = [{"desc": name, "bbox_2d": list(map(float, box))} for name, *box in gt]
    return {"id": key, "width": 1000, "height": 1000, "gt": objects, "text": text} | more


def random_box(rng):
    x, y = rng.randrange(0, 700), rng.randrange(0, 700)
    return x, y, x + rng.randrange(10, 290), y + rng.randrange(10, 290)


def random_lines(num_images, seed, *, quality=0.8, truth_seed=1):
    """Images with up to 6 objects, and answers with misses, shifts, copies, drops and loops."""
    truth_rng = random.Random(truth_seed)
    rng = random.Random(seed)
    lines = []
    for number in range(num_images):
        gt = [
            (truth_rng.choice(NAMES), *random_box(truth_rng))
            for _ in range(truth_rng.randrange(0, 7))
        ]
        records = []
        for name, *box in gt:
            draw = rng.random()
            if draw < quality:
                shift = rng.randrange(0, 12)
                records.append(record(name, [min(v + shift, 999) for v in box]))
            elif draw < quality + 0.05:
                records.append(record(name, box[:3]))
            elif draw < quality + 0.1:
                records.append(record(rng.choice(("cow", *NAMES)), box))
        if records and rng.random() < 0.2:
            records += [records[-1]] * rng.randrange(1, 6)
        text = answer(*records)
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text))]
        tokens = list(range(len(records) * 9 + 3))
        lines.append(line(f"im{number:03d}", gt, text, token_ids=tokens))
    return lines


def write_run(folder, lines, **meta):
    """A run directory in which bin k is pixel k."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"format": "coordeval-run/1", "frame": "unit-1000", "status": "complete"} | meta
    (folder / "run.json").write_text(json.dumps(head))
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    return folder


def make_run(folder, lines, **meta):
    """The same, opened."""
    return open_run(write_run(folder, lines, **meta))
