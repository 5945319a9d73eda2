"""Findings image by image to a probe's result: metrics per context, differences, settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from coordeval import __version__
from coordeval.engines.identity import SHORT_HASH, hashed_part
from coordeval.jsonl import dump_line
from coordeval.training.diagnostics.totals import METRIC_KEYS, add_up
from coordeval.training.diagnostics.values import SIGMA_BINS, TOP, TRUNCATE_BINS
from coordeval.training.probe.bias import context_changes
from coordeval.training.probe.matching import MATCH_IOU
from coordeval.training.probe.result import (
    ContextResult,
    ExposureBias,
    ProbeError,
    ProbeResult,
)
from coordeval.training.probe.rows import slots_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.training.probe.checkpoint import ImageFindings
    from coordeval.training.probe.inputs import ProbeInputs
    from coordeval.training.probe.options import ProbeOptions
    from coordeval.training.probe.rows import Context

# Over tokens that are no slots, so without a meaning on the slots of the same boxes.
TEXT_KEYS = (
    "coord_diag/text_coord_vocab_mass",
    "coord_diag/flip_text_to_coord",
    "coord_diag/flip_desc_to_coord",
    "coord_diag/flip_format_to_coord",
)
# What means the same whatever the labels are: taken over all tokens of both contexts.
ALL_TOKENS_KEYS = (
    "coord_diag/coord_vocab_mass",
    "coord_diag/gate",
    "coord_diag/flip_coord_to_noncoord",
    "coord_diag/multimodal_rate",
    *TEXT_KEYS,
)
SAME_BOXES_KEYS = tuple(
    key for key in METRIC_KEYS if key.startswith("coord_diag/") and key not in TEXT_KEYS
)


def summarise(
    options: ProbeOptions,
    inputs: ProbeInputs,
    checkpoint: Checkpoint,
    findings: Sequence[ImageFindings],
    *,
    environment: dict[str, str],
    errors: Sequence[tuple[str, Context, str]],
    skipped: Mapping[str, int],
    contexts: Sequence[Context],
    stopped_by: int | None = None,
) -> ProbeResult:
    """Add everything up; a context of which no text could be probed has no values (None)."""
    settings = _settings(options, inputs, checkpoint, environment)
    notes = [*inputs.notes, *_notes(settings, inputs, findings)]
    status = "complete" if not errors and stopped_by is None else "partial"
    if not any(item.totals for item in findings):
        status = "empty"
    return ProbeResult(
        name=_name(checkpoint, settings),
        status=status,
        stopped_by=stopped_by,
        settings=settings,
        protocol={
            "temperature": 1.0,
            "sigma_bins": SIGMA_BINS,
            "truncate_bins": TRUNCATE_BINS,
            "top": TOP,
            "match_iou": MATCH_IOU,
            "object_order": "sorted",
        },
        contexts={context: _context(context, findings) for context in contexts},
        exposure=_exposure(options, findings) if len(contexts) == 2 else None,
        errors=tuple(
            ProbeError(id=sample_id, context=context, message=message)
            for sample_id, context, message in errors
        ),
        skipped=dict(sorted(skipped.items())),
        notes=tuple(notes),
        slots=slots_table([rows for item in findings for rows in item.rows]),
    )


def _context(context: Context, findings: Sequence[ImageFindings]) -> ContextResult:
    held = [item for item in findings if context in item.totals]
    whole = add_up(item.totals[context] for item in held)
    return ContextResult(
        texts=len(held),
        metrics=whole.metrics(),
        counts=whole.counts(),
        origins=dict(sorted(Counter(item.origins[context] for item in held).items())),
    )


def _exposure(options: ProbeOptions, findings: Sequence[ImageFindings]) -> ExposureBias:
    both = [item for item in findings if len(item.totals) == 2]
    ids = [item.id for item in both]
    how: dict[str, Any] = {"ids": ids, "draws": options.draws, "seed": options.seed}
    return ExposureBias(
        images=len(both),
        boxes=sum(item.num_boxes for item in both),
        same_boxes=context_changes(
            [item.same_boxes["ground_truth"] for item in both],
            [item.same_boxes["own_rollout"] for item in both],
            keys=SAME_BOXES_KEYS,
            **how,
        ),
        all_tokens=context_changes(
            [item.totals["ground_truth"] for item in both],
            [item.totals["own_rollout"] for item in both],
            keys=ALL_TOKENS_KEYS,
            **how,
        ),
    )


def _settings(
    options: ProbeOptions,
    inputs: ProbeInputs,
    checkpoint: Checkpoint,
    environment: dict[str, str],
) -> dict[str, Any]:
    """What probe.json holds: all that the numbers depend on, and what they were made with."""
    return {
        "checkpoint": hashed_part(checkpoint.path, name=checkpoint.name),
        "adapter": None if options.adapter is None else hashed_part(options.adapter.resolve()),
        "run": {
            "path": str(inputs.run.path.resolve()),
            "checkpoint": inputs.run.meta.get("checkpoint"),
            "adapter": inputs.run.meta.get("adapter"),
        },
        "texts": options.texts,
        "source_texts": {
            "ground_truth": "canonical text of the ground truth, objects sorted, end token",
            "own_rollout": "the run's token ids, else its text tokenised anew (see origins)",
        },
        "dialect": inputs.dialect.to_json(),
        "frame": inputs.frame.name,
        "prompt": inputs.prompt.to_json(),
        "pixels": None if inputs.pixels is None else inputs.pixels.to_json(),
        "dataset": inputs.dataset,
        "selection": {"ids": options.ids, "limit": options.limit},
        "dtype": environment["dtype"],
        "environment": environment | {"batch_size": options.batch_size},
        "bootstrap": {"draws": options.draws, "seed": options.seed},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    import PIL
    import torch
    import transformers

    return {
        "coordeval": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "pillow": PIL.__version__,
    }


def _name(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> str:
    """`<checkpoint name>-<short hash>` of what the numbers depend on; same settings, same name."""
    parts = {
        key: settings[key] for key in ("texts", "dialect", "frame", "pixels", "selection", "dtype")
    }
    for key, hash_key in (
        ("checkpoint", "hash"),
        ("adapter", "hash"),
        ("prompt", "sha256"),
        ("dataset", "sha256"),
    ):
        part = settings[key]
        parts[key] = None if part is None else part[hash_key]
    digest = hashlib.sha256(dump_line(parts)).hexdigest()
    clean = "".join(c if c.isalnum() or c in "._+-" else "_" for c in checkpoint.name)
    return f"{clean}-{digest[:SHORT_HASH]}"


def _notes(
    settings: Mapping[str, Any], inputs: ProbeInputs, findings: Sequence[ImageFindings]
) -> list[str]:
    notes = []
    made_by = inputs.run.meta.get("checkpoint")
    if not isinstance(made_by, dict):
        notes.append("the run does not say which checkpoint wrote it")
    elif made_by.get("hash") != settings["checkpoint"]["hash"]:
        notes.append(
            f"the run was written by another checkpoint ({made_by.get('name')}): its texts are "
            f"not {settings['checkpoint']['name']}'s own"
        )
    stored = inputs.run.meta.get("adapter")
    mine = settings["adapter"]
    if (stored.get("hash") if isinstance(stored, dict) else None) != (
        None if mine is None else mine["hash"]
    ):
        notes.append("the run was written with another adapter")
    anew = sum(item.origins.get("own_rollout") == "retokenised" for item in findings)
    if anew:
        notes.append(
            f"{anew} rollouts have no token ids of this tokenizer: their texts were tokenised "
            "anew, which may cut them into other tokens than the model wrote"
        )
    return notes


__all__ = ["ALL_TOKENS_KEYS", "SAME_BOXES_KEYS", "summarise"]
