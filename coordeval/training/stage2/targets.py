"""What channel B teaches for one rollout: the target, and what became of everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.training.stage2.judged import judge, true_objects
from coordeval.training.stage2.lasting import lasting
from coordeval.training.stage2.reading import read_rollout
from coordeval.training.stage2.target_context import TargetContext
from coordeval.training.stage2.target_counts import TargetCounts
from coordeval.training.stage2.targets_clean import clean_target, true_target
from coordeval.training.stage2.targets_prefix import prefix_target
from coordeval.training.stage2.unlikelihood import unlikely_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.records import Rollout, Sample
    from coordeval.training.stage2.judged import Judged, TrueObjects
    from coordeval.training.stage2.reading import ReadRollout
    from coordeval.training.stage2.taught import Taught


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuiltTarget:
    """An answer to be taught. Shapes: T tokens, the end token last; M boxes; U unlikely tokens.

    `token_ids` are what the model reads; `labels_T` (int64) what it is taught: the same ids, true
    bins at the coordinates of matched objects, -100 where nothing is taught. `kinds_T` (uint8) are
    stage 1's, IGNORE where nothing is taught. `weights_T` (float32) weigh the cross-entropy of
    text; 0 at coordinates. `boxes_M4` are indices of the four coordinates of each taught box.
    `unlikely_U2`: pairs of the index of a label's position, which may be one that is not taught,
    and the id of a token that is to be less probable there; never the label, and none twice.
    """

    token_ids: list[int]
    labels_T: NDArray[np.int64]
    kinds_T: NDArray[np.uint8]
    weights_T: NDArray[np.float32]
    boxes_M4: NDArray[np.int64]
    unlikely_U2: NDArray[np.int64]
    counts: TargetCounts


def build_target(rollout: Rollout, sample: Sample, context: TargetContext) -> BuiltTarget:
    """The target for one rollout of a sample, in the style that the configuration asks for.

    A rollout without a readable container teaches all ground truth from an empty start, and so
    does, in the prefix style, one that nothing can stand behind (see `lasting`). So does one that
    the engine failed to make: its text is no word of the model's, and so every sample of a step
    teaches something whatever the engine does. Both are counted. A truncated rollout is read up to
    its last whole record. Never raises on what a model wrote; DataError for a description of the
    sample's that is not valid Unicode.
    """
    reading = read_rollout(
        rollout, tokenizer=context.tokenizer, table=context.table, dialect=context.dialect
    )
    if reading.status == "read" and context.config.target == "prefix":
        reading = lasting(reading, context.dialect)
    truth = true_objects(sample, context)
    counts = _counts(reading, truth)
    # As many drops as the rollout had, the multiplier is applied once.
    multiplier = context.config.tokens.drop_multiplier if counts.dropped else 1.0
    if reading.status != "read":
        target = true_target(truth, context, multiplier=multiplier).taught
        return _built(target, counts + TargetCounts(missed=len(truth.written)))
    judged = judge(reading, truth, context)
    counts += _judged_counts(judged)
    if context.config.target == "prefix":
        prefix = prefix_target(reading, judged, truth, context, multiplier=multiplier)
        counts += TargetCounts(unmatchable_slots=prefix.unmatchable_slots, unusual=prefix.unusual)
        return _built(prefix.taught, counts)
    clean = clean_target(judged, truth, context, multiplier=multiplier)
    unlikely = unlikely_places(reading, judged, clean, context)
    counts += TargetCounts(
        unmatchable_slots=sum(
            found.true_index is not None and found.labels is None for found in judged.found
        ),
        unlikely=len(unlikely.places_U2),
        unlikely_merged=unlikely.merged,
        no_divergence=unlikely.no_divergence,
    )
    return _built(clean.taught, counts, unlikely.places_U2)


def _built(
    target: Taught, counts: TargetCounts, unlikely_U2: NDArray[np.int64] | None = None
) -> BuiltTarget:
    if unlikely_U2 is None:
        unlikely_U2 = np.empty((0, 2), dtype=np.int64)
    return BuiltTarget(**target._asdict(), unlikely_U2=unlikely_U2, counts=counts)


def _counts(reading: ReadRollout, truth: TrueObjects) -> TargetCounts:
    """Counts that do not depend on the matching."""
    failed, invalid = reading.status == "failed", reading.status == "invalid"
    parsed = reading.parsed
    kept = sum(record.reason is None for record in reading.whole) if not invalid else 0
    return TargetCounts(
        rollouts=1,
        failed=int(failed),
        invalid=int(invalid),
        truncated=int(reading.truncated and not failed),
        retokenised=int(reading.origin == "tokenised" and not failed),
        found=0 if failed else parsed.objects_found,
        dropped=0 if failed else len(parsed.drops),
        unread=0 if failed else parsed.objects_valid - kept,
        annotated=len(truth.written) + len(truth.crowd) + truth.degenerate,
        crowd=len(truth.crowd),
        degenerate=truth.degenerate,
    )


def _judged_counts(judged: Judged) -> TargetCounts:
    matched = sum(found.true_index is not None for found in judged.found)
    duplicates = sum(found.suppressed for found in judged.found)
    return TargetCounts(
        matched=matched,
        duplicates=duplicates,
        on_crowd=judged.on_crowd,
        false_positives=len(judged.found) - matched - duplicates - judged.on_crowd,
        missed=len(judged.missed),
        gating_rejections=judged.gating_rejections,
    )


__all__ = ["BuiltTarget", "TargetContext", "TargetCounts", "build_target"]
