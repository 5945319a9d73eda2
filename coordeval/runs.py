"""The run directory: read, write, append, version; all that comes later is made from it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from coordeval.atomic import remove_left_behind, write_atomically
from coordeval.coords import DEFAULT_FRAME, CoordFrame, frame_named
from coordeval.data.federated import read_frequency
from coordeval.errors import DataError, RunLockedError, RunMismatchError, RunNotWritten
from coordeval.folder_lock import lock_folder
from coordeval.jsonl import dump_document, dump_line, load_document, load_json
from coordeval.line_log import LineLog
from coordeval.quoting import shown
from coordeval.records import Category
from coordeval.rollout_lines import (
    iter_rollouts,
    rollout_from_json,
    rollout_line,
    rollout_to_json,
)
from coordeval.slot_table import SLOTS_NAME, SlotLog, check_log, load_slot_table, store_slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Self

    import pandas as pd

    from coordeval.records import Rollout

RUN_FORMAT = "coordeval-run/1"
ROLLOUTS_NAME = "rollouts.jsonl"
META_NAME = "run.json"


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
        """The dataset's class list where the run stores one; DataError where it is none."""
        raw = self.meta.get("categories")
        if not raw:
            return None
        where = self.rollouts_path.with_name(META_NAME)
        try:
            found = tuple(
                Category(id=int(item["id"]), name=str(item["name"]), frequency=read_frequency(item))
                for item in raw
            )
        except (KeyError, TypeError, ValueError, OverflowError, DataError):
            raise DataError(
                f"{where}: 'categories' must be a list of id and name (and frequency r, c or f)"
            ) from None
        names: dict[int, str] = {}
        for category in found:  # AP knows classes by their ids alone, and would take two for one
            if names.setdefault(category.id, category.name) != category.name:
                raise DataError(
                    f"{where}: 'categories' gives two names the id {category.id}; "
                    "give each name an id of its own"
                )
        return found

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
    if not meta_path.is_file():
        raise DataError(f"{path}: not a run directory (it has no {META_NAME})")
    meta = read_meta(meta_path)
    rollouts_path = path / ROLLOUTS_NAME
    if not rollouts_path.is_file():
        raise DataError(f"{path}: the run has no {ROLLOUTS_NAME} yet; run the rollout again")
    return Run(path=path, rollouts_path=rollouts_path, meta=meta)


def read_meta(meta_path: Path) -> dict[str, Any]:
    """run.json as a mapping; DataError where it is broken or of an unknown format."""
    try:
        meta = load_document(meta_path)
    except OSError as error:
        raise DataError(f"{meta_path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(
            f"{meta_path}: damaged: {error}; restore it, or roll out into another folder "
            f"(score {meta_path.parent / ROLLOUTS_NAME} to see what is there)"
        ) from None
    found = meta.get("format") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or found != RUN_FORMAT:
        raise DataError(
            f"{meta_path}: format {shown(str(found), 40)} is not {RUN_FORMAT!r}; "
            "it was written by another version of coordeval: score it with that version"
        )
    return meta


class RunWriter:
    """Appends rollouts to a run directory; safe against kill -9, and one writer at a time.

    `identity` is the part of run.json that must be equal when a run is resumed; RunMismatchError
    names what differs. `finished` holds (id, sample_index) of the lines already there, `cut_bytes`
    the length of a torn last line that was cut off. Slots are kept in a log of their own until
    `finish` makes the table of them. Nothing is changed in a folder that is refused; DataError
    where it cannot be written, or holds lines that cannot be read or nobody's run.json.
    """

    def __init__(self, path: Path, *, identity: dict[str, Any], extra: dict[str, Any]) -> None:
        self.path = path
        self._log: LineLog | None = None
        self._slots: SlotLog | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except Timeout:
            raise RunLockedError(
                f"{path}: another process is writing this run; wait for it or use another --out"
            ) from None
        except OSError as error:
            raise _not_writable(path, error) from None
        try:
            self.meta = self._read_meta(identity) | extra
            self.finished = self._read_finished()
            self._open(path)
        except OSError as error:
            self.close()
            raise _not_writable(path, error) from None
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        """Write run.json before the first line: lines without it would be nobody's."""
        for name in (META_NAME, ROLLOUTS_NAME, SLOTS_NAME):
            remove_left_behind(path / name)
        self.meta |= {"status": "running", "updated": _now()}
        self._write_meta()
        self._log = LineLog(path / ROLLOUTS_NAME)
        self.cut_bytes = self._log.cut_bytes
        self._slots = SlotLog(path)

    def _read_meta(self, identity: dict[str, Any]) -> dict[str, Any]:
        # Through JSON, so that tuples and numpy numbers compare equal to what was stored.
        identity = load_json(dump_line(identity))
        meta_path, lines_path = self.path / META_NAME, self.path / ROLLOUTS_NAME
        if not meta_path.exists():
            if lines_path.exists() and lines_path.stat().st_size:
                raise DataError(
                    f"{self.path}: has a {ROLLOUTS_NAME} but no {META_NAME}, so whose rollouts "
                    f"these are is not known: restore {META_NAME}, or use another --out"
                )
            return {"format": RUN_FORMAT, "created": _now(), **identity}
        meta = read_meta(meta_path)
        differing = [key for key in identity if meta.get(key) != identity[key]]
        if differing:
            told = "; ".join(
                f"{name}: {_short(there)} there, {_short(now)} now"
                for key in differing
                for name, there, now in _differences(key, meta.get(key), identity[key])
            )
            raise RunMismatchError(
                f"{self.path}: belongs to other settings ({told}); use another --out"
            )
        return meta

    def _read_finished(self) -> set[tuple[str, int]]:
        """Keys of the whole lines: the last one is whole only with its newline."""
        check_log(self.path)  # or hours later, when its table is to be made
        path = self.path / ROLLOUTS_NAME
        if not path.exists():
            return set()
        frame = frame_named(str(self.meta.get("frame", DEFAULT_FRAME)))
        return {
            (rollout.id, rollout.sample_index)
            for rollout in iter_rollouts(path, frame, only_whole=True)
        }

    def append(self, rollouts: Iterable[Rollout]) -> None:
        """Write rollouts as whole lines in one write, and sync them to the disk.

        Raises RunNotWritten where that fails: none of these lines is there then, all others are.
        """
        assert self._log is not None
        assert self._slots is not None
        batch = list(rollouts)
        with self._told():
            self._slots.append(batch)  # first, so that no line ever stands without its slots
            self._log.append(b"".join(rollout_line(rollout) for rollout in batch))
        self.finished.update((rollout.id, rollout.sample_index) for rollout in batch)

    def finish(self, status: str, counts: dict[str, Any]) -> None:
        """Store the run's slots in a table, and its status and counts in run.json.

        Raises RunNotWritten where that fails; the lines are as they were.
        """
        with self._told():
            if self._slots is not None:
                self._slots.close()
                store_slots(self.path / ROLLOUTS_NAME)
            self.meta |= {"status": status, "counts": counts, "updated": _now()}
            self._write_meta()

    def write_beside(self, name: str, data: bytes) -> None:
        """Replace another file of the run as a whole; RunNotWritten where that fails."""
        with self._told():
            write_atomically(self.path / name, data)

    def _write_meta(self) -> None:
        write_atomically(self.path / META_NAME, dump_document(self.meta))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunNotWritten(
                f"{self.path}: cannot be written ({error.strerror or error}); what was finished "
                "is saved: mend that, and the same command goes on from there"
            ) from None

    def close(self) -> None:
        """Close the files and release the lock; safe to call twice."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._slots is not None:
            self._slots.close()
            self._slots = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _not_writable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be written: {error.strerror or error}")


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
    text = dump_line(value).decode().rstrip()
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
