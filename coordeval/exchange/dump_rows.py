"""One sample of a foreign dump to a rollout: verbatim text, ground truth, and what was reported."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from coordeval.coords import MAX_BIN
from coordeval.data.contract import read_side
from coordeval.data.objects import read_object
from coordeval.errors import DataError
from coordeval.records import FINISH_REASONS, GEOMETRY_KINDS, Rollout
from coordeval.rollout_lines import MAX_TOKEN_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordeval.coords import CoordFrame
    from coordeval.exchange.dump_files import DumpRow
    from coordeval.records import FinishReason, GroundTruthObject

# Where dumps keep the verbatim output, the plainest first. `raw_output_json` is usually the parsed
# payload, which is not verbatim; it counts only where it is a string.
TEXT_KEYS = ("rollout_text", "text", "raw_text", "raw_output", "response_text", "raw_output_json")
GT_KEYS = ("gt_objects", "gt")
_ID_KEYS = ("sample_id", "id", "image", "images", "file_name", "image_id", "base_idx", "index")
_REPORTED_FLAT = ("parse_dropped_invalid", "parse_dropped_invalid_by_reason", "parse_truncated")
_FAILURES = frozenset({"generation_failed", "image_load_failed", "multi_image_not_supported"})
# A batch's shorter rows are padded behind their end token; padding is not output.
_END = re.compile(r"<\|im_end\|>(?:<\|endoftext\|>)*\Z|<\|endoftext\|>\Z")
_TAKEN = frozenset({*TEXT_KEYS, *GT_KEYS, "width", "height", "token_ids", "token_logprobs"})


class NotImportable(Exception):  # noqa: N818 - an outcome that is counted, not a fault
    """A sample cannot become a rollout; `reason` is a stable name, the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class ImportedSample:
    """One sample, ready to be written.

    `reported` is what the dump's own parser said of it, `metadata` everything else of the sample.
    `remarks` are names of things that were changed or left out on the way, to be counted.
    """

    rollout: Rollout
    reported: dict[str, Any]
    metadata: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


def import_row(
    row: DumpRow, *, frame: CoordFrame, gt_space: str | None, trace_text: str | None
) -> ImportedSample:
    """Read one sample; raises NotImportable with the reason.

    `gt_space` (`pixels` or `bins`) holds for ground truth whose numbers the dump doesn't declare;
    `trace_text` is the verbatim text from a token trace, where there is one.
    """
    raw = row.raw
    if not isinstance(raw, dict):
        raise NotImportable(
            "not_an_object", f"a sample must be an object, not {type(raw).__name__}"
        )
    remarks: list[str] = []
    width, height = read_side(raw.get("width")), read_side(raw.get("height"))
    if width is None or height is None:
        raise NotImportable("no_size", "width and height must be whole numbers of pixels")
    gt = _ground_truth(raw, width, height, frame, gt_space, remarks)
    failure = _failure(raw)
    text = "" if failure else _text(raw, trace_text)
    finish = _declared_finish(raw)
    text, ended = _without_end_token(text, remarks)
    if failure is not None:
        finish = "error"
    elif finish is None:
        finish = "stop" if ended else "length" if _reported_truncated(raw) else None
    token_ids, logprobs = _tokens(raw, remarks)
    images = raw.get("images")
    image = raw.get("image") or (images[0] if isinstance(images, list) and images else None)
    image_id = raw.get("image_id")
    rollout = Rollout(
        id=_sample_id(raw, row),
        width=width,
        height=height,
        gt=gt,
        text=text,
        image=image if isinstance(image, str) else None,
        image_id=image_id if isinstance(image_id, int) and not isinstance(image_id, bool) else None,
        finish_reason=finish,
        error=failure,
        token_ids=token_ids,
        token_logprobs=logprobs,
    )
    return ImportedSample(
        rollout=rollout,
        reported=_reported(raw),
        metadata={key: value for key, value in raw.items() if key not in _TAKEN},
        remarks=remarks,
    )


def _text(raw: Mapping[str, Any], trace_text: str | None) -> str:
    for key in TEXT_KEYS:
        if isinstance(raw.get(key), str):
            return str(raw[key])
    if trace_text is not None:
        return trace_text
    raise NotImportable("no_verbatim_text", "the dump does not hold what the model wrote")


def _without_end_token(text: str, remarks: list[str]) -> tuple[str, bool]:
    match = _END.search(text)
    if match is None:
        return text, False
    if match.group().count("<|") > 1:
        remarks.append("padding_removed")
    return text[: match.start()], True


def _sample_id(raw: Mapping[str, Any], row: DumpRow) -> str:
    for key in _ID_KEYS:
        value = raw.get(key)
        if key == "images" and isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return f"{row.file.path.stem}-{row.index}"


def _failure(raw: Mapping[str, Any]) -> str | None:
    """An engine error that the dump reports: its objects count as missed, it has no text."""
    error = raw.get("error")
    if isinstance(error, str) and error:
        return error
    errors = raw.get("errors")
    codes = [code for code in errors if isinstance(code, str)] if isinstance(errors, list) else []
    return next((code for code in codes if code in _FAILURES), None)


def _declared_finish(raw: Mapping[str, Any]) -> FinishReason | None:
    value = raw.get("finish_reason")
    return next((known for known in FINISH_REASONS if known == value), None)


def _reported_truncated(raw: Mapping[str, Any]) -> bool:
    places = (raw, raw.get("stats"), raw.get("parse"))
    return any(isinstance(place, dict) and bool(place.get("parse_truncated")) for place in places)


def _reported(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the dump's own parser and evaluator said, unchanged."""
    flat = {key: raw[key] for key in _REPORTED_FLAT if key in raw}
    out: dict[str, Any] = {"stats": flat} if flat else {}
    for key in ("stats", "parse", "errors", "error_entries", "match", "duplication"):
        if key in raw:
            out[key] = raw[key]
    for key in ("pred", "pred_objects"):
        if isinstance(raw.get(key), list):
            out["valid_objects"] = len(raw[key])
    return out


def _tokens(
    raw: Mapping[str, Any], remarks: list[str]
) -> tuple[list[int] | None, list[float] | None]:
    ids = raw.get("token_ids", raw.get("response_token_ids"))
    logprobs = raw.get("token_logprobs")
    if not _are_token_ids(ids):
        if ids is not None:
            remarks.append("token_ids_unusable")
        elif isinstance(logprobs, list):
            remarks.append("logprobs_without_token_ids")
        return None, None
    if logprobs is None:
        return ids, None
    if not _are_logprobs(logprobs) or len(logprobs) != len(ids):
        remarks.append("logprobs_unusable")
        return ids, None
    return ids, logprobs


def _are_token_ids(ids: Any) -> TypeGuard[list[int]]:
    """Whether a run can hold them: a place left out (-100) is no token that was written."""
    return isinstance(ids, list) and all(
        type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in ids
    )


def _are_logprobs(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values
    )


def _ground_truth(
    raw: Mapping[str, Any],
    width: int,
    height: int,
    frame: CoordFrame,
    gt_space: str | None,
    remarks: list[str],
) -> tuple[GroundTruthObject, ...]:
    items = next((raw[key] for key in GT_KEYS if isinstance(raw.get(key), list)), None)
    if items is None:
        raise NotImportable("no_ground_truth", f"none of {', '.join(GT_KEYS)} is a list")
    out = []
    for index, item in enumerate(items):
        plain, bins = _plain_object(item, raw, gt_space, remarks)
        try:
            out.append(read_object(plain, width=width, height=height, frame=frame, bins=bins))
        except DataError as error:
            # Scoring without an object would turn right predictions into wrong ones.
            raise NotImportable("bad_ground_truth", f"gt[{index}]: {error}") from None
    return tuple(out)


def _plain_object(
    item: Any, raw: Mapping[str, Any], gt_space: str | None, remarks: list[str]
) -> tuple[Any, bool]:
    """An object as the dataset contract writes it, and whether its numbers are bins."""
    if not isinstance(item, dict):
        return item, False
    if any(kind in item for kind in GEOMETRY_KINDS):
        return item, _declared_bins(raw, gt_space, default=False)
    kind = item.get("geom_type", item.get("type"))
    if kind not in GEOMETRY_KINDS:
        raise NotImportable("bad_ground_truth", f"unknown kind of geometry {kind!r:.60}")
    kept = {key: item[key] for key in ("desc", "iscrowd", "area", "category_id") if key in item}
    if "points_norm1000" in item:
        return kept | {kind: _clamped(_flat(item["points_norm1000"]), remarks)}, True
    points = _flat(item.get("points"))
    bins = _declared_bins(raw, gt_space, default=None)
    return kept | {kind: _clamped(points, remarks) if bins else points}, bins


def _declared_bins(raw: Mapping[str, Any], gt_space: str | None, *, default: bool | None) -> bool:
    declared = raw.get("coord_mode", raw.get("coord_space"))
    if declared in ("pixel", "pixels"):
        return False
    if declared in ("bins", "norm1000"):
        return True
    if gt_space is not None:
        return gt_space == "bins"
    if default is None:
        raise NotImportable(
            "undeclared_coordinates",
            "the dump does not say whether ground-truth points are pixels or bins; "
            "say it with --gt-space",
        )
    return default


def _flat(points: Any) -> Any:
    """Points as one flat list; nested pairs are joined, anything else is left for the checks."""
    if isinstance(points, list) and points and all(isinstance(pair, list) for pair in points):
        return [value for pair in points for value in pair]
    return points


def _clamped(values: Any, remarks: list[str]) -> Any:
    """Bins of exactly 1000 (the far edge, where somebody divided by 1000) become 999, counted."""
    if not isinstance(values, list) or MAX_BIN + 1 not in values:
        return values
    remarks.append("gt_bin_1000_clamped")
    return [MAX_BIN if value == MAX_BIN + 1 else value for value in values]


__all__ = ["ImportedSample", "NotImportable", "import_row"]
