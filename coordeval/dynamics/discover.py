"""From paths to trainings: which files are logs, and which of them belong together."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.dynamics.log import LogFile, ReadLog, TrainingLog, build_log
from coordeval.dynamics.read_json import read_jsonl, read_trainer_state
from coordeval.dynamics.read_tensorboard import read_event_file
from coordeval.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.dynamics.log import SourceKind

MAX_DEPTH = 8
MAX_FILES = 2000
JSONL_NAMES = ("train_log.jsonl", "logging.jsonl")
STATE_NAME = "trainer_state.json"
# Files of one training say the same; the one with full precision is believed first.
_TRUST = {"train_log.jsonl": 0, "logging.jsonl": 1, STATE_NAME: 2}
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_INNER = frozenset({"runs", "tb", "tensorboard", "tensorboard_logs", "logs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGroup:
    """The log files of one training, the most trusted first."""

    name: str
    root: Path
    files: tuple[LogFile, ...]


def read_logs(paths: Sequence[str | Path]) -> list[TrainingLog]:
    """Read every training that the paths name; a path may be written as `NAME=PATH`.

    Raises DataError where a path holds no log or a log holds no number, ConfigError where no path
    is given, MissingExtraError where event files need the extra `tb`.
    """
    return [build_log(group.name, _read_files(group)) for group in find_groups(paths)]


def find_groups(paths: Sequence[str | Path]) -> list[LogGroup]:
    """The trainings that the paths name: one for each file, one for each run folder.

    Below a folder, event files in `runs/` or `tb/` and states in `checkpoint-N/` belong to the
    folder above. Names are made different by as much of the path as that takes.
    """
    if not paths:
        raise ConfigError("name at least one training log or folder")
    groups: list[LogGroup] = []
    for given in paths:
        label, path = _labelled(given)
        found = list(_groups_of(path))
        if label is not None and len(found) > 1:
            raise ConfigError(f"{given}: {path} holds {len(found)} trainings; name one of them")
        groups += [
            LogGroup(name=label or "", root=group.root, files=group.files) for group in found
        ]
    return _named(groups)


def _labelled(given: str | Path) -> tuple[str | None, Path]:
    text = str(given)
    if "=" in text and not Path(text).exists():
        label, _, rest = text.partition("=")
        if label and rest:
            return label, Path(rest)
    return None, Path(text)


def _groups_of(path: Path) -> Iterator[LogGroup]:
    if path.is_file():
        yield LogGroup(name="", root=path, files=(LogFile(path=path, kind=_kind_of_file(path)),))
        return
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    by_root: dict[Path, list[LogFile]] = {}
    for file in _walk(path):
        by_root.setdefault(_run_folder(file.path, path), []).append(file)
    if not by_root:
        names = ", ".join((*JSONL_NAMES, STATE_NAME))
        raise DataError(f"{path}: holds no training log ({names} or TensorBoard event files)")
    for root, files in sorted(by_root.items()):
        yield LogGroup(name="", root=root, files=tuple(_in_order(files)))


def _kind_of_file(path: Path) -> SourceKind:
    """The kind of a file that was named itself, by its name alone."""
    known = _kind_by_name(path.name)
    if known is not None:
        return known
    if path.suffix == ".jsonl":
        return "jsonl"
    if path.suffix == ".json":
        return "trainer_state"
    raise DataError(f"{path}: not a training log by its name: *.jsonl, {STATE_NAME}, or *tfevents*")


def _kind_by_name(name: str) -> SourceKind | None:
    if name in JSONL_NAMES:
        return "jsonl"
    if name == STATE_NAME:
        return "trainer_state"
    return "tensorboard" if "tfevents" in name else None


def _walk(root: Path) -> Iterator[LogFile]:
    """Log files below a folder; links are not followed, depth and number are limited."""
    count = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        inside = Path(folder)
        if len(inside.relative_to(root).parts) >= MAX_DEPTH:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            kind = _kind_by_name(name)
            if kind is None or (inside / name).is_symlink():
                continue
            count += 1
            if count > MAX_FILES:
                raise DataError(f"{root}: holds more than {MAX_FILES} log files; name one training")
            yield LogFile(path=inside / name, kind=kind)


def _run_folder(file: Path, top: Path) -> Path:
    folder = file.parent
    while folder != top and (
        folder.name in _INNER or _CHECKPOINT.fullmatch(folder.name) or folder.parent.name == "runs"
    ):
        folder = folder.parent
    return folder


def _in_order(files: list[LogFile]) -> list[LogFile]:
    """By trust; of several states only the one of the latest checkpoint, which holds them all."""
    states = [file for file in files if file.kind == "trainer_state"]
    latest = max(states, key=_checkpoint_step, default=None)
    kept = [file for file in files if file.kind != "trainer_state" or file is latest]
    # The newest event file first: after a restart, it holds the steps that counted.
    kept.sort(key=lambda file: file.path.name, reverse=True)
    return sorted(kept, key=lambda file: _TRUST.get(file.path.name, 3))


def _checkpoint_step(file: LogFile) -> float:
    match = _CHECKPOINT.fullmatch(file.path.parent.name)
    return int(match.group(1)) if match else float("inf")


def _named(groups: list[LogGroup]) -> list[LogGroup]:
    """Fill in names: the shortest end of each path that tells it from all others."""
    parts = [_name_parts(group) for group in groups]
    names = []
    for index, own in enumerate(parts):
        others = [other for place, other in enumerate(parts) if place != index]
        length = next(
            (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)),
            len(own),
        )
        names.append(groups[index].name or "/".join(own[-length:]))
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ConfigError(f"the same training is named twice: {', '.join(sorted(repeated))}")
    return [
        LogGroup(name=name, root=group.root, files=group.files)
        for name, group in zip(names, groups, strict=True)
    ]


def _name_parts(group: LogGroup) -> tuple[str, ...]:
    parts = group.root.absolute().parts
    generic = _kind_by_name(parts[-1]) is not None
    if len(group.files) == 1 and group.root == group.files[0].path and generic:
        parts = parts[:-1]
    return parts


def _read_files(group: LogGroup) -> list[ReadLog]:
    readers = {
        "jsonl": read_jsonl,
        "trainer_state": read_trainer_state,
        "tensorboard": read_event_file,
    }
    reads = [readers[file.kind](file) for file in group.files]
    if not any(read.rows for read in reads):
        raise DataError(f"{group.root}: holds no number at any step")
    return reads


__all__ = ["LogGroup", "find_groups", "read_logs"]
