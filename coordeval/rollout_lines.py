"""Rollout lines: what a line of rollouts.jsonl holds, how it is checked, read and written.

Lines that coordeval writes carry a checksum over what it wrote (`line_crc32`), so that a flipped
bit is found where JSON alone cannot tell. Lines without one are as good: the field is optional.
"""

from __future__ import annotations

import math
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from coordeval.coords import CoordFrame, frame_named
from coordeval.data.contract import MAX_SIDE_PX
from coordeval.data.federated import NEGATIVE, NOT_EXHAUSTIVE, read_federated, write_federated
from coordeval.data.objects import read_object, write_object
from coordeval.errors import DataError
from coordeval.jsonl import dump_line, dump_sorted, load_json, read_lines
from coordeval.quoting import shown
from coordeval.records import FINISH_REASONS, GroundTruthObject, Rollout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKSUM_KEY = "line_crc32"
MAX_TOKEN_ID = (1 << 31) - 1
# Fields that the checksum covers. Scores are left out, so that they can be added to a run's lines,
# and what two runs of the same settings may differ in (times, the last digits of
# log-probabilities), so that lines that say the same are the same.
_COVERED = (
    "id",
    "image",
    "image_id",
    "width",
    "height",
    "sample_index",
    "text",
    "finish_reason",
    "error",
    "guard",
    "prompt_tokens",
    "token_ids",
    "gt",
    NEGATIVE,
    NOT_EXHAUSTIVE,
)
_HEAD = b'{"id":"'  # how every line begins that coordeval writes
MEND = "restore the line, or delete it: the same rollout then makes it again"


def iter_rollouts(path: Path, frame: CoordFrame, *, only_whole: bool = False) -> Iterator[Rollout]:
    """Rollout lines of a file, in order; DataError names file and line.

    A last line without a newline that does not parse is a torn write and is left out; with
    `only_whole` any last line without a newline is. A line as coordeval wrote it whose checksum
    does not fit is an error like any other broken line; one that another program wrote anew is
    read as it stands (`changed_lines` tells them).
    """
    for number, line in read_lines(path):
        if only_whole and not line.endswith(b"\n"):
            return
        try:
            raw = load_json(line)
        except ValueError as error:
            if not line.endswith(b"\n"):
                return
            raise DataError(f"{path}:{number}: not a JSON line: {error}; {MEND}") from None
        try:
            _check_sum(raw, line, frame)
            yield rollout_from_json(raw, frame)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None


def rollout_from_json(raw: Any, frame: CoordFrame) -> Rollout:
    """Check one rollout line; needs id, width, height, gt, text. Raises DataError without place."""
    if not isinstance(raw, dict):
        raise DataError("a rollout line must be a JSON object")
    for key in ("id", "width", "height", "gt", "text"):
        if key not in raw:
            raise DataError(f"key {key!r} is missing (needed: id, width, height, gt, text)")
    rollout_id = raw["id"]
    if isinstance(rollout_id, int) and not isinstance(rollout_id, bool):
        rollout_id = str(rollout_id)
    if not isinstance(rollout_id, str):
        raise DataError("'id' must be a string")
    width, height = _size(raw, "width"), _size(raw, "height")
    if not isinstance(raw["text"], str):
        raise DataError("'text' must be a string")
    finish_reason = raw.get("finish_reason")
    if finish_reason is not None and finish_reason not in FINISH_REASONS:
        known = ", ".join(FINISH_REASONS)
        raise DataError(f"finish_reason {shown(str(finish_reason), 40)} is none of {known}")
    return Rollout(
        id=rollout_id,
        width=width,
        height=height,
        gt=_read_gt(raw, width, height, frame),
        text=raw["text"],
        image=_text(raw, "image"),
        image_id=raw.get("image_id"),
        finish_reason=finish_reason,
        token_ids=_token_ids(raw),
        token_logprobs=_list(raw, "token_logprobs"),
        prompt_tokens=raw.get("prompt_tokens"),
        seconds=raw.get("seconds"),
        error=_text(raw, "error"),
        guard=raw.get("guard"),
        sample_index=_index(raw),
        scores=_list(raw, "scores"),
        federated=read_federated(raw),
    )


def _size(raw: dict[str, Any], key: str) -> int:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE_PX:
        raise DataError(
            f"{key!r} must be a positive integer up to {MAX_SIDE_PX:,}, not {shown(str(value), 40)}"
        )
    return value


def _index(raw: dict[str, Any]) -> int:
    value = raw.get("sample_index")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKEN_ID:
        raise DataError(f"'sample_index' must be an integer >= 0, not {shown(str(value), 40)}")
    return value


def _text(raw: dict[str, Any], key: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{key!r} must be a string, not {type(value).__name__}")
    return value


def _token_ids(raw: dict[str, Any]) -> list[Any] | None:
    ids = _list(raw, "token_ids")
    if ids and not (min(ids) >= 0 and max(ids) <= MAX_TOKEN_ID):
        raise DataError(f"'token_ids' must hold numbers from 0 to {MAX_TOKEN_ID}")
    return ids


def _list(raw: dict[str, Any], key: str) -> list[Any] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in value
    ):
        raise DataError(f"{key!r} must be a list of numbers")
    if value and not (min(value) > -math.inf and max(value) < math.inf):
        raise DataError(f"{key!r} holds a number that is not finite")
    return value


def _read_gt(
    raw: dict[str, Any], width: int, height: int, frame: CoordFrame
) -> tuple[GroundTruthObject, ...]:
    items = raw["gt"]
    if not isinstance(items, list):
        raise DataError("'gt' must be a list of objects")
    space = raw.get("coord_space")
    if space not in (None, "pixels", "bins"):
        raise DataError(
            f"'coord_space' must be 'pixels' or 'bins', not {shown(str(space), 40)}: numbers of an "
            "unknown space are not taken for pixels"
        )
    bins = space == "bins"
    if raw.get("frame") is not None:
        frame = frame_named(str(raw["frame"]))
    out = []
    for index, item in enumerate(items):
        try:
            out.append(read_object(item, width=width, height=height, frame=frame, bins=bins))
        except DataError as error:
            raise DataError(f"gt[{index}]: {error}") from None
    return tuple(out)


def rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    """The line form of a rollout; fields that are None are left out, ground truth in pixels."""
    out: dict[str, Any] = {
        "id": rollout.id,
        "image": rollout.image,
        "image_id": rollout.image_id,
        "width": rollout.width,
        "height": rollout.height,
        "sample_index": rollout.sample_index,
        "text": rollout.text,
        "finish_reason": rollout.finish_reason,
        "error": rollout.error,
        "guard": rollout.guard,
        "prompt_tokens": rollout.prompt_tokens,
        "seconds": rollout.seconds,
        "token_ids": rollout.token_ids,
        "token_logprobs": rollout.token_logprobs,
        "scores": rollout.scores,
        "gt": [write_object(obj) for obj in rollout.gt],
        **write_federated(rollout.federated),
    }
    return {key: value for key, value in out.items() if value is not None}


def rollout_line(rollout: Rollout) -> bytes:
    """The line of a rollout with its checksum and its newline."""
    line = dump_line(rollout_to_json(rollout))
    # Over what a reader will find in the line, which can differ in the type of huge numbers.
    return line[:-2] + f',"{CHECKSUM_KEY}":"{checksum(load_json(line))}"}}\n'.encode()


def checksum(raw: dict[str, Any]) -> str:
    """CRC-32 of a line's fields as 8 hex digits, whatever their order and spacing.

    Fields that coordeval does not know, `scores`, `seconds`, `token_logprobs` and the checksum
    itself are not covered.
    """
    covered = {key: raw[key] for key in _COVERED if key in raw}
    return f"{zlib.crc32(dump_sorted(covered)):08x}"


def changed_lines(path: Path, frame: CoordFrame) -> list[int]:
    """Numbers of the lines that another program changed: their checksums do not fit.

    Only lines that do not stand as coordeval writes them are looked at; what cannot be read is left
    out. DataError where the file cannot be read.
    """
    changed = []
    for number, line in read_lines(path):
        if CHECKSUM_KEY.encode() not in line or line.startswith(_HEAD):
            continue
        with suppress(ValueError):
            raw = load_json(line)
            if isinstance(raw, dict) and not _sum_fits(raw, frame):
                changed.append(number)
    return changed


def _check_sum(raw: Any, line: bytes, frame: CoordFrame) -> None:
    """Refuse a damaged line. No flip of bits puts a space behind a colon or keys in another order.

    So a line in another form was written anew by a program, which may have changed it on purpose.
    In coordeval's own form an edit cannot be told from damage: both leave valid JSON and valid
    fields, and for whatever the two checksums are there is damage that explains them (at any place
    exactly one pattern of 32 bits). So such a line is refused until its checksum is taken out.
    """
    if isinstance(raw, dict) and line.startswith(_HEAD) and not _sum_fits(raw, frame):
        raise DataError(
            f"damaged: its checksum does not fit its content; {MEND}; if it was changed on "
            f'purpose, delete the field "{CHECKSUM_KEY}" from the line, to read it as it stands'
        )


def _sum_fits(raw: dict[str, Any], frame: CoordFrame) -> bool:
    """Whether a line says what its checksum was made of, however its values are written.

    Other programs write 12.0 as 12, or null for what is not there: then what the line is read as
    is asked for its own checksum.
    """
    if raw.get(CHECKSUM_KEY) in (None, checksum(raw)):
        return True
    try:
        read = rollout_to_json(rollout_from_json(raw, frame))
    except DataError:
        return False
    return bool(raw[CHECKSUM_KEY] == checksum(load_json(dump_line(read))))


__all__ = [
    "CHECKSUM_KEY",
    "MAX_TOKEN_ID",
    "MEND",
    "changed_lines",
    "checksum",
    "iter_rollouts",
    "rollout_from_json",
    "rollout_line",
    "rollout_to_json",
]
