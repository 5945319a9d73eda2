"""Slots as rows of a table: one per coordinate slot and per label that it is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from coordeval.training.diagnostics.values import NO_BIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pyarrow import Table

    from coordeval.records import Rollout
    from coordeval.training.diagnostics.values import Diagnosis
    from coordeval.training.probe.forward import TextDiagnosis
    from coordeval.training.probe.texts import ProbeText

Context = Literal["ground_truth", "own_rollout"]
Labels = Literal["written", "ground_truth"]

# Values that need a true bin.
AGAINST_BIN = ("abs_err", "w1_to_delta", "p_gt", "top5", "margin", "soft_ce", "w1", "ce")
ALWAYS = ("coord_mass", "gate", "flip", "expected_bin", "top_bin", "multimodal")


class SlotRows(NamedTuple):
    """The slots of one text against one kind of label."""

    id: str
    sample_index: int
    context: Context
    labels: Labels
    places: dict[str, list[Any]]
    values: dict[str, NDArray[Any]]

    @property
    def num_rows(self) -> int:
        """How many slots."""
        return len(self.places["token"])


def slot_rows(
    rollout: Rollout, context: Context, text: ProbeText, diagnosis: TextDiagnosis
) -> list[SlotRows]:
    """Rows of one text: all its slots against what is written there.

    Those of an own rollout whose box matched stand a second time, against the ground truth.
    """
    every = np.arange(len(text.places))
    out = [_rows(rollout, context, "written", text, every, diagnosis.written)]
    if context == "own_rollout":
        matched = np.flatnonzero(text.true_bins != NO_BIN)
        out.append(_rows(rollout, context, "ground_truth", text, matched, diagnosis.true))
    return out


def _rows(
    rollout: Rollout,
    context: Context,
    labels: Labels,
    text: ProbeText,
    rows: NDArray[np.int64],
    diagnosis: Diagnosis,
) -> SlotRows:
    tokens = text.slot_tokens[rows].tolist()
    places = [text.places[row] for row in rows.tolist()]
    objects = text.objects[rows].tolist()
    slots = diagnosis.slots
    return SlotRows(
        id=rollout.id,
        sample_index=rollout.sample_index,
        context=context,
        labels=labels,
        places={
            "token": tokens,
            "record": [None if place is None else place.record for place in places],
            "slot": [None if place is None else place.slot for place in places],
            "kind": [None if place is None else place.kind for place in places],
            "written_id": [text.token_ids[token] for token in tokens],
            "object": [None if index < 0 else index for index in objects],
        },
        values={
            "label_bin": slots.bins.numpy(),
            **{name: getattr(slots, name).numpy() for name in (*ALWAYS, *AGAINST_BIN)},
        },
    )


def slots_table(parts: Sequence[SlotRows]) -> Table:
    """All rows as one table (see docs/probe.md); values without a true bin are null."""
    import pyarrow as pa

    def repeated(name: str, kind: Any) -> Any:
        values = [getattr(part, name) for part in parts for _ in range(part.num_rows)]
        return pa.array(values, kind)

    def listed(name: str, kind: Any) -> Any:
        return pa.array([value for part in parts for value in part.places[name]], kind)

    def stacked(name: str, kind: Any) -> Any:
        values = [part.values[name] for part in parts]
        whole = np.concatenate(values) if values else np.zeros(0)
        if whole.dtype == np.float32:
            whole = whole.astype(np.float64)
        needs_bin = name in AGAINST_BIN or name == "label_bin"
        return pa.array(whole, kind, mask=unlabelled if needs_bin else None)

    bins = [part.values["label_bin"] for part in parts]
    unlabelled = (np.concatenate(bins) if bins else np.zeros(0, dtype=np.int64)) == NO_BIN
    booleans = {"flip", "multimodal", "top5"}
    columns = {name: repeated(name, pa.string()) for name in ("id", "context", "labels")}
    columns["sample_index"] = repeated("sample_index", pa.int64())
    for name in ("token", "record", "slot", "written_id", "object"):
        columns[name] = listed(name, pa.int64())
    columns["kind"] = listed("kind", pa.string())
    columns["label_bin"] = stacked("label_bin", pa.int64())
    for name in (*ALWAYS, *AGAINST_BIN):
        kind = pa.bool_() if name in booleans else pa.float64()
        columns[name] = stacked(name, pa.int64() if name == "top_bin" else kind)
    return pa.table(columns)


__all__ = ["Context", "Labels", "SlotRows", "slot_rows", "slots_table"]
