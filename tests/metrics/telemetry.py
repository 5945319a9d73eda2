"""Slot telemetry as an engine stores it, made up for tests."""

from __future__ import annotations

import pandas as pd

from coordeval.records import SlotReading

TYPES = {
    "sample_index": "int64",
    "token": "int64",
    "record": "int64",
    "slot": "int64",
    "written_id": "int64",
    "written_bin": "Int64",
    "coord_mass": "Float64",
    "mass_bound": "float64",
    "top_bin": "Int64",
    "top_prob": "Float64",
    "entropy": "Float64",
    "other_id": "Int64",
    "other_prob": "Float64",
}


def reading(key="a", sample_index=0, **fields):
    """One row: a coordinate written in the first slot of the first record, all but certain."""
    row = {
        "id": key,
        "sample_index": sample_index,
        "token": 8,
        "record": 0,
        "slot": 0,
        "kind": "bbox_2d",
        "written_id": 105,
        "written_bin": 5,
        "coord_mass": 0.99,
        "mass_bound": 0.0,
        "top_bin": 5,
        "top_prob": 0.9,
        "entropy": 0.4,
        "other_id": 7,
        "other_text": "x",
        "other_prob": 0.01,
    }
    assert set(row) == {"id", "sample_index", *SlotReading._fields}
    return row | fields


def write_slots(folder, rows):
    """Store rows as the run's slots.parquet."""
    columns = ["id", "sample_index", *SlotReading._fields]
    table = pd.DataFrame(
        {
            name: pd.Series([row[name] for row in rows], dtype=TYPES.get(name, "object"))
            for name in columns
        }
    )
    table.to_parquet(folder / "slots.parquet", index=False)
