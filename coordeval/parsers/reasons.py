"""Why a record is dropped, and what can be wrong with a text around its records.

The order of DROP_REASONS is the order of judgement: a record gets the first reason that holds.
"""

from __future__ import annotations

TRUNCATED_RECORD = "truncated_record"
MALFORMED_RECORD = "malformed_record"
UNEXPECTED_KEYS = "unexpected_keys"
DUPLICATE_KEYS = "duplicate_keys"
MISSING_DESC = "missing_desc"
MISSING_GEOMETRY = "missing_geometry"
MULTIPLE_GEOMETRY = "multiple_geometry"
WRONG_ARITY = "wrong_arity"
COORD_OUT_OF_RANGE = "coord_out_of_range"
DEGENERATE_BOX = "degenerate_box"
KEY_ORDER = "key_order"

DROP_REASONS: dict[str, str] = {
    TRUNCATED_RECORD: "the text ends inside the record",
    MALFORMED_RECORD: "broken outside the brackets of a geometry list",
    UNEXPECTED_KEYS: "a key other than desc and the geometries",
    DUPLICATE_KEYS: "a key stands twice",
    MISSING_DESC: "desc is absent, not a string, or blank",
    MISSING_GEOMETRY: "no geometry, or one that is not a list",
    MULTIPLE_GEOMETRY: "more than one geometry",
    WRONG_ARITY: "the geometry list is not exactly the coordinates that it needs",
    COORD_OUT_OF_RANGE: "a coordinate of 1000 or more",
    DEGENERATE_BOX: "x2 <= x1, y2 <= y1, or a polygon without area",
    KEY_ORDER: "the fields stand in another order than the enforced one",
}

ISSUES: dict[str, str] = {
    "empty_output": "nothing was written",
    "no_container": 'no {"objects": [...]} around the records',
    "text_before": "text before the container",
    "text_after": "text after the container, special tokens included",
    "code_fence": "a Markdown code fence around the container",
    "second_container": "another container after the first; it is not scored",
    "unknown_top_level_key": "a key beside the list of objects",
    "trailing_comma": "a comma that nothing follows",
    "missing_comma": "no comma between two records",
    "stray_value": "something other than a record in the list",
    "unclosed_string": "a string whose closing quote is missing",
    "nonstandard_spacing": "spaces or line breaks other than the canonical ones (a note)",
    "coord_token_in_desc": "a coordinate token inside a description (a note)",
    "truncated": "the text ends before the container is closed",
    "stopped_by_guard": "the loop guard ended the rollout",
}

FOREIGN_ISSUES: dict[str, str] = {
    "single_quotes": "strings in single quotes, as Python writes them (JSON dialects of others)",
}
"""Issues that only other models' dialects have; metrics list them where they occur."""

ALL_ISSUES: dict[str, str] = ISSUES | FOREIGN_ISSUES

__all__ = ["ALL_ISSUES", "DROP_REASONS", "FOREIGN_ISSUES", "ISSUES"]
