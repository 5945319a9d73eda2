"""Joining the shards of one rollout into one run directory, every id exactly once."""

from __future__ import annotations

import re
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

from coordeval.engines.identity import essence
from coordeval.errors import ConfigError, DataError, RunIncomplete, RunMismatchError
from coordeval.run_damage import lacking_lines
from coordeval.runs import META_NAME, ROLLOUTS_NAME, RunWriter, open_run, read_meta
from coordeval.slot_table import load_slots, slot_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from coordeval.records import Rollout
    from coordeval.runs import Run

IDENTITY_KEYS = (
    "checkpoint",
    "adapter",
    "engine",
    "dialect",
    "frame",
    "prompt",
    "pixels",
    "decode",
    "seed",
    "dataset",
    "categories",
    "vocabulary",
)


def merge_runs(shards: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the shards' rollouts, in dataset order, to a new run directory; its counts.

    Raises RunMismatchError where shards differ in more than their selection or share an id,
    RunIncomplete where a shard is unfinished or missing, ConfigError where `out` already holds a
    run. Nothing is written before all checks have passed. A merge that was killed goes on.
    """
    if len(shards) < 2:
        raise ConfigError("merge needs at least two runs")
    _refuse_other_run(out, shards)
    runs = [open_run(path) for path in shards]
    for run in runs:
        _require_complete(run)
        _require_sound(run)
        _require_same(runs[0], run)
    selection, runs = _join_selections(runs)
    rollouts = list(_interleaved(runs))
    _require_unique(runs)
    identity = {key: runs[0].meta.get(key) for key in IDENTITY_KEYS}
    extra = {
        "versions": runs[0].meta.get("versions"),
        "environment": runs[0].meta.get("environment"),
        "image_root": runs[0].meta.get("image_root"),
        "needed_tokens": runs[0].meta.get("needed_tokens"),
        "merged_from": [str(run.path) for run in runs],
    }
    counts = _sum_counts(runs)
    with RunWriter(out, identity=identity | {"selection": selection}, extra=extra) as writer:
        writer.append(r for r in rollouts if (r.id, r.sample_index) not in writer.finished)
        writer.finish("complete", counts)
    return counts


def _refuse_other_run(out: Path, shards: Sequence[Path]) -> None:
    """ConfigError where `out` holds anything but what a killed merge of these shards left."""
    if not ((out / META_NAME).exists() or (out / ROLLOUTS_NAME).exists()):
        return
    meta = read_meta(out / META_NAME) if (out / META_NAME).exists() else {}
    if meta.get("status") == "running" and meta.get("merged_from") == [str(p) for p in shards]:
        return
    raise ConfigError(f"{out}: already holds a run; merge into a new --out")


def _require_complete(run: Run) -> None:
    if not run.is_directory:
        raise ConfigError(f"{run.path}: is a bare file; merge joins run directories")
    status = run.meta.get("status")
    if status != "complete":
        raise RunIncomplete(f"{run.path}: the shard is not finished ({status}); roll it out first")
    lacking = lacking_lines(run)
    if lacking:  # nobody could make them for the merged run
        raise RunIncomplete(f"{lacking[0]}: do that first, then merge")


def _require_sound(run: Run) -> None:
    """DataError where run.json was edited or damaged in what a merge adds up and joins."""
    counts = run.meta.get("counts") or {}
    reasons = counts.get("finish_reasons", {}) if isinstance(counts, dict) else None
    selection = run.meta.get("selection") or {}
    shard = selection.get("shard") if isinstance(selection, dict) else None
    sound = {
        "counts": isinstance(reasons, dict)
        and all(
            isinstance(value, int)
            for value in (*reasons.values(), *({**counts, "finish_reasons": 0}).values())
        ),
        "selection": isinstance(selection, dict)
        and (shard is None or re.fullmatch(r"\d+/\d+", str(shard)) is not None),
    }
    for key, is_sound in sound.items():
        if not is_sound:
            raise DataError(
                f"{run.path / META_NAME}: {key!r} is not as a rollout writes it: the same rollout "
                "mends its counts; restore anything else"
            )


def _require_same(first: Run, other: Run) -> None:
    mine, theirs = essence(first.meta), essence(other.meta)
    differing = [key for key in IDENTITY_KEYS if mine.get(key) != theirs.get(key)]
    if differing:
        raise RunMismatchError(
            f"{other.path}: differs from {first.path} in {', '.join(differing)}; "
            "only shards of one rollout can be merged"
        )


def _join_selections(runs: list[Run]) -> tuple[dict[str, Any], list[Run]]:
    """What the whole covers, and the runs in the order of their shards.

    Shards i/n of the same ids and limit must be there from 0 to n-1. Other selections (ids, say)
    are listed side by side.
    """
    selections = [dict(run.meta.get("selection") or {}) for run in runs]
    shards = [selection.get("shard") for selection in selections]
    bases = [{**selection, "shard": None} for selection in selections]
    if any(shard is None for shard in shards) or any(base != bases[0] for base in bases):
        return {"ids": None, "limit": None, "shard": None, "merged": selections}, runs
    pairs = [tuple(int(part) for part in str(shard).split("/")) for shard in shards]
    counts = {count for _, count in pairs}
    if len(counts) != 1:
        raise RunMismatchError(
            f"the runs are shards of different splits: {', '.join(map(str, shards))}"
        )
    count = counts.pop()
    indices = [index for index, _ in pairs]
    repeated = sorted({index for index in indices if indices.count(index) > 1})
    if repeated:
        raise RunMismatchError(f"shard {repeated[0]}/{count} is there more than once")
    missing = sorted(set(range(count)) - set(indices))
    if missing:
        shown = ", ".join(f"{index}/{count}" for index in missing)
        raise RunIncomplete(f"shards are missing: {shown}")
    ordered = [run for _, run in sorted(zip(indices, runs, strict=True), key=lambda pair: pair[0])]
    return bases[0], ordered


def _interleaved(runs: Sequence[Run]) -> Iterator[Rollout]:
    """Sample by sample from each run in turn: shards hold every n-th, so this is dataset order."""
    by_sample = [
        [list(group) for _, group in groupby(_with_slots(run), key=lambda rollout: rollout.id)]
        for run in runs
    ]
    for row in zip_longest(*by_sample, fillvalue=()):
        for group in row:
            yield from group


def _with_slots(run: Run) -> Iterator[Rollout]:
    """The run's rollouts with their telemetry, where it has some."""
    slots = load_slots(run.path)
    for rollout in run.rollouts():
        if slots is not None:
            rollout.slots = slots.get(slot_key(rollout.id, rollout.sample_index), [])
        yield rollout


def _require_unique(runs: Sequence[Run]) -> None:
    owner: dict[tuple[str, int], Path] = {}
    for run in runs:
        for rollout in run.rollouts():
            key = (rollout.id, rollout.sample_index)
            if key in owner:
                raise RunMismatchError(
                    f"id {rollout.id!r} (sample {key[1]}) is in {owner[key]} and in {run.path}"
                )
            owner[key] = run.path


def _sum_counts(runs: Sequence[Run]) -> dict[str, Any]:
    total: dict[str, Any] = {"finish_reasons": {}}
    for run in runs:
        counts = run.meta.get("counts") or {}
        for key, value in counts.items():
            if key == "finish_reasons":
                for reason, number in value.items():
                    total[key][reason] = total[key].get(reason, 0) + number
            else:
                total[key] = total.get(key, 0) + value
    return total


__all__ = ["IDENTITY_KEYS", "merge_runs"]
