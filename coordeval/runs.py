"""The run directory: read, write, append, version; all that comes later is made from it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson
from filelock import FileLock, Timeout

from coordeval.coords import DEFAULT_FRAME, CoordFrame, frame_named
from coordeval.data.objects import read_object, write_object
from coordeval.errors import DataError, RunLockedError, RunMismatchError
from coordeval.jsonl import dump_line, load_json, read_lines, truncate_torn_tail
from coordeval.records import FINISH_REASONS, Category, GroundTruthObject, Rollout
from coordeval.slot_table import SlotLog, load_slot_table, store_slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Self

    import pandas as pd

RUN_FORMAT = "coordeval-run/1"
ROLLOUTS_NAME = "rollouts.jsonl"
META_NAME = "run.json"
LOCK_NAME = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run to read: a run directory, or a bare file of rollout lines (`meta` is then empty)."""

    path: Path
    rollouts_path: Path
    meta: dict[str, Any]

    @property
    def is_directory(self) -> bool:
        """True for a run directory, False for a bare file."""
        return self.path != self.rollouts_path

    @property
    def name(self) -> str:
        """A short name to print."""
        return self.path.name

    @property
    def frame(self) -> CoordFrame:
        """The coordinate frame that the run declares, else the default."""
        return frame_named(str(self.meta.get("frame", DEFAULT_FRAME)))

    @property
    def categories(self) -> tuple[Category, ...] | None:
        """The dataset's class list where the run stores one."""
        raw = self.meta.get("categories")
        if not raw:
            return None
        return tuple(Category(id=int(item["id"]), name=str(item["name"])) for item in raw)

    @property
    def image_root(self) -> Path | None:
        """Where the run's image paths start from; None where it does not say."""
        return self._stored_path(self.meta.get("image_root"))

    @property
    def dataset_path(self) -> Path | None:
        """The dataset that was rolled out; None where the run does not say."""
        dataset = self.meta.get("dataset")
        return self._stored_path(dataset.get("path") if isinstance(dataset, dict) else None)

    def _stored_path(self, stored: object) -> Path | None:
        """A path of run.json: absolute, or relative to the run directory (so that it can move)."""
        if not isinstance(stored, str) or not stored:
            return None
        return self.rollouts_path.parent / stored

    def rollouts(self) -> Iterator[Rollout]:
        """Rollouts in file order; DataError names file and line. A torn last line is left out."""
        yield from iter_rollouts(self.rollouts_path, self.frame)


def read_slots(run: Run) -> pd.DataFrame | None:
    """The run's slot telemetry: (id, sample_index) and the fields of SlotReading, in line order.

    None for a run without telemetry, and for a bare file. Without any slot the table is empty,
    with the same types (`SLOT_COLUMNS`); unknown values are `pd.NA`, or None in columns of text.
    Raises DataError where the table cannot be read.
    """
    return load_slot_table(run.rollouts_path) if run.is_directory else None


def open_run(path: Path) -> Run:
    """Open a run directory or a bare file of rollout lines.

    Raises DataError where there is neither, or where the format is not one this version reads.
    """
    if path.is_file():
        return Run(path=path, rollouts_path=path, meta={})
    meta_path = path / META_NAME
    if not path.exists():
        raise DataError(f"{path}: no such run directory or rollout file")
    if not meta_path.exists():
        raise DataError(f"{path}: not a run directory (it has no {META_NAME})")
    meta = read_meta(meta_path)
    rollouts_path = path / ROLLOUTS_NAME
    if not rollouts_path.exists():
        raise DataError(f"{path}: the run has no {ROLLOUTS_NAME} yet; run the rollout again")
    return Run(path=path, rollouts_path=rollouts_path, meta=meta)


def read_meta(meta_path: Path) -> dict[str, Any]:
    """run.json as a mapping; DataError where it is broken or of an unknown format."""
    try:
        meta = load_json(meta_path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{meta_path}: cannot be read: {error}") from None
    found = meta.get("format") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or found != RUN_FORMAT:
        raise DataError(
            f"{meta_path}: format {found!r} is not {RUN_FORMAT!r}; "
            "it was written by another version of coordeval: score it with that version"
        )
    return meta


def iter_rollouts(path: Path, frame: CoordFrame) -> Iterator[Rollout]:
    """Rollout lines of a file, in order; DataError names file and line.

    A last line without a newline that does not parse is a torn write and is left out.
    """
    for number, line in read_lines(path):
        try:
            raw = load_json(line)
        except ValueError as error:
            if not line.endswith(b"\n"):
                return
            raise DataError(f"{path}:{number}: not a JSON line: {error}") from None
        try:
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
        raise DataError(f"finish_reason {finish_reason!r} is none of {known}")
    return Rollout(
        id=rollout_id,
        width=width,
        height=height,
        gt=_read_gt(raw, width, height, frame),
        text=raw["text"],
        image=raw.get("image"),
        image_id=raw.get("image_id"),
        finish_reason=finish_reason,
        token_ids=_list(raw, "token_ids"),
        token_logprobs=_list(raw, "token_logprobs"),
        prompt_tokens=raw.get("prompt_tokens"),
        seconds=raw.get("seconds"),
        error=raw.get("error"),
        guard=raw.get("guard"),
        sample_index=_index(raw),
        scores=_list(raw, "scores"),
    )


def _size(raw: dict[str, Any], key: str) -> int:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise DataError(f"{key!r} must be a positive integer, not {value!r}")
    return value


def _index(raw: dict[str, Any]) -> int:
    value = raw.get("sample_index", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"'sample_index' must be an integer >= 0, not {value!r}")
    return value


def _list(raw: dict[str, Any], key: str) -> list[Any] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in value
    ):
        raise DataError(f"{key!r} must be a list of numbers")
    return value


def _read_gt(
    raw: dict[str, Any], width: int, height: int, frame: CoordFrame
) -> tuple[GroundTruthObject, ...]:
    items = raw["gt"]
    if not isinstance(items, list):
        raise DataError("'gt' must be a list of objects")
    bins = raw.get("coord_space", "pixels") == "bins"
    if "frame" in raw:
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
    }
    return {key: value for key, value in out.items() if value is not None}


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file as a whole: a crash leaves the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


class RunWriter:
    """Appends rollouts to a run directory; safe against kill -9, and one writer at a time.

    `identity` is the part of run.json that must be equal when a run is resumed; RunMismatchError
    names what differs. `finished` holds (id, sample_index) of the lines already there. Slots are
    kept in a log of their own until `finish` makes the table of them.
    """

    def __init__(self, path: Path, *, identity: dict[str, Any], extra: dict[str, Any]) -> None:
        self.path = path
        self._handle: BinaryIO | None = None
        self._slots: SlotLog | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / LOCK_NAME, timeout=0)
            self._lock.acquire()
        except Timeout:
            raise RunLockedError(
                f"{path}: another process is writing this run; wait for it or use another --out"
            ) from None
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
        try:
            self.meta = self._open_meta(identity, extra)
            self._handle = self._open_rollouts()
            self._slots = SlotLog(path)
            self.finished = self._read_finished()
        except BaseException:
            self.close()
            raise

    def _open_meta(self, identity: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        # Through JSON, so that tuples and numpy numbers compare equal to what was stored.
        identity = orjson.loads(dump_line(identity))
        meta_path = self.path / META_NAME
        if meta_path.exists():
            meta = read_meta(meta_path)
            differing = [key for key in identity if meta.get(key) != identity[key]]
            if differing:
                shown = "; ".join(
                    f"{name}: {_short(there)} there, {_short(now)} now"
                    for key in differing
                    for name, there, now in _differences(key, meta.get(key), identity[key])
                )
                raise RunMismatchError(
                    f"{self.path}: belongs to other settings ({shown}); use another --out"
                )
        else:
            meta = {"format": RUN_FORMAT, "created": _now(), **identity}
        meta |= extra
        meta["status"] = "running"
        meta["updated"] = _now()
        write_atomically(meta_path, orjson.dumps(meta, option=orjson.OPT_INDENT_2))
        return meta

    def _open_rollouts(self) -> BinaryIO:
        path = self.path / ROLLOUTS_NAME
        path.touch(exist_ok=True)
        handle = path.open("r+b")
        truncate_torn_tail(handle)
        return handle

    def _read_finished(self) -> set[tuple[str, int]]:
        frame = frame_named(str(self.meta.get("frame", DEFAULT_FRAME)))
        return {
            (rollout.id, rollout.sample_index)
            for rollout in iter_rollouts(self.path / ROLLOUTS_NAME, frame)
        }

    def append(self, rollouts: Iterable[Rollout]) -> None:
        """Write rollouts as whole lines in one write, and sync them to the disk."""
        assert self._handle is not None
        assert self._slots is not None
        batch = list(rollouts)
        self._slots.append(batch)  # first, so that no line ever stands without its slots
        self._handle.write(b"".join(dump_line(rollout_to_json(rollout)) for rollout in batch))
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self.finished.update((rollout.id, rollout.sample_index) for rollout in batch)

    def finish(self, status: str, counts: dict[str, Any]) -> None:
        """Store the run's slots in a table, and its status and counts in run.json."""
        if self._slots is not None:
            self._slots.close()
            store_slots(self.path / ROLLOUTS_NAME)
        self.meta |= {"status": status, "counts": counts, "updated": _now()}
        write_atomically(self.path / META_NAME, orjson.dumps(self.meta, option=orjson.OPT_INDENT_2))

    def close(self) -> None:
        """Close the file and release the lock; safe to call twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._slots is not None:
            self._slots.close()
            self._slots = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _differences(name: str, there: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost keys that differ, dotted: (name, there, now)."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in sorted(there.keys() | now.keys()):
            if there.get(key) != now.get(key):
                yield from _differences(f"{name}.{key}", there.get(key), now.get(key))
    else:
        yield name, there, now


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


__all__ = [
    "META_NAME",
    "ROLLOUTS_NAME",
    "RUN_FORMAT",
    "Run",
    "RunWriter",
    "iter_rollouts",
    "open_run",
    "read_meta",
    "read_slots",
    "rollout_from_json",
    "rollout_to_json",
    "write_atomically",
]
