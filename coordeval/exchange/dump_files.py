"""Foreign dump files: found, limited in size, and read as plain JSON; nothing is ever executed.

A monitor dump is one JSON document with `samples`; row files (`gt_vs_pred.jsonl`,
`raw_rollouts.jsonl`, and lines of that kind) hold one JSON object per line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.data.dataset import file_sha256
from coordeval.errors import DataError
from coordeval.jsonl import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_DOCUMENT_BYTES = 512 << 20
MAX_ROWS_BYTES = 16 << 30
MAX_LINE_BYTES = 64 << 20
MAX_FILES = 5000
TRACE_NAME = "pred_token_trace.jsonl"
DUMP_FOLDER = "monitor_dumps"
_STEP_FILE = re.compile(r"step_(\d+)\.json")
_ROW_FILES = ("raw_rollouts.jsonl", "gt_vs_pred.jsonl", "rollouts.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFile:
    """One file to import; `step` where its name or content gives one."""

    path: Path
    is_document: bool


@dataclass(slots=True, kw_only=True)
class DumpRow:
    """One sample of a dump as it stands there.

    `header` is what the document says beside its samples (step, epoch, meta, metrics); empty for
    row files. `raw` is whatever stood in the sample's place.
    """

    file: DumpFile
    index: int
    raw: Any
    step: int | None = None
    header: dict[str, Any] = field(default_factory=dict)


def find_dumps(paths: Sequence[Path]) -> list[DumpFile]:
    """The files that the paths name; folders give their `step_*.json`, else their row files.

    Raises DataError where a path is not there or holds nothing to import. Links inside folders are
    not followed.
    """
    out: list[DumpFile] = []
    for path in paths:
        if path.is_file():
            out.append(DumpFile(path=path, is_document=path.suffix != ".jsonl"))
        elif path.is_dir():
            out += _in_folder(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    seen: set[Path] = set()
    for dump in out:
        real = dump.path.resolve()
        if real in seen:
            raise DataError(f"{dump.path}: named twice")
        seen.add(real)
    return out


def _in_folder(folder: Path) -> list[DumpFile]:
    for place in (folder / DUMP_FOLDER, folder):
        if not place.is_dir() or place.is_symlink():
            continue
        found = [
            entry
            for entry in sorted(place.iterdir())
            if _STEP_FILE.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink()
        ]
        if len(found) > MAX_FILES:
            raise DataError(f"{place}: holds more than {MAX_FILES} dumps; name some of them")
        if found:
            return [DumpFile(path=entry, is_document=True) for entry in found]
    for name in _ROW_FILES:
        entry = folder / name
        if entry.is_file() and not entry.is_symlink():
            return [DumpFile(path=entry, is_document=False)]
    names = ", ".join(_ROW_FILES)
    raise DataError(f"{folder}: holds nothing to import (step_*.json, {names})")


def read_rows(dump: DumpFile) -> Iterator[DumpRow]:
    """The samples of one file in order; DataError where the file itself cannot be read."""
    limit = MAX_DOCUMENT_BYTES if dump.is_document else MAX_ROWS_BYTES
    try:
        size = dump.path.stat().st_size
    except OSError as error:
        raise DataError(f"{dump.path}: cannot be read: {error.strerror or error}") from None
    if size > limit:
        raise DataError(f"{dump.path}: larger than {limit >> 20:,} MiB, not read")
    yield from _read_document(dump) if dump.is_document else _read_lines(dump)


def _read_document(dump: DumpFile) -> Iterator[DumpRow]:
    try:
        document = json.loads(dump.path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{dump.path}: not a JSON document: {error}") from None
    if isinstance(document, list):
        document = {"samples": document}
    samples = document.get("samples") if isinstance(document, dict) else None
    if not isinstance(samples, list):
        raise DataError(f"{dump.path}: has no list 'samples'; is it a monitor dump?")
    header = {key: value for key, value in document.items() if key != "samples"}
    step = header.get("global_step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        match = _STEP_FILE.fullmatch(dump.path.name)
        step = int(match.group(1)) if match else None
    for index, raw in enumerate(samples):
        yield DumpRow(file=dump, index=index, raw=raw, step=step, header=header)


def _read_lines(dump: DumpFile) -> Iterator[DumpRow]:
    for index, (number, line) in enumerate(read_lines(dump.path)):
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{dump.path}:{number}: line longer than {MAX_LINE_BYTES >> 20} MiB")
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{dump.path}:{number}: not a JSON line: {error}") from None
        yield DumpRow(file=dump, index=index, raw=raw)


def read_trace(dump: DumpFile) -> dict[int, str]:
    """Texts of `pred_token_trace.jsonl` beside a row file, by line; empty where there is none.

    A trace row names its line (`line_idx`) and holds the generated tokens as text, the terminator
    included; joined, they are the verbatim output.
    """
    path = dump.path.with_name(TRACE_NAME)
    if dump.is_document or not path.is_file() or path.is_symlink():
        return {}
    texts: dict[int, str] = {}
    for row in read_rows(DumpFile(path=path, is_document=False)):
        line = row.raw.get("line_idx") if isinstance(row.raw, dict) else None
        tokens = row.raw.get("generated_token_text") if isinstance(row.raw, dict) else None
        if not isinstance(line, int) or not isinstance(tokens, list):
            raise DataError(f"{path}: entry {row.index} has no line_idx and generated_token_text")
        if not all(isinstance(token, str) for token in tokens):
            raise DataError(f"{path}: entry {row.index}: generated_token_text must hold strings")
        texts[line] = "".join(tokens)
    return texts


def describe_source(dump: DumpFile) -> dict[str, Any]:
    """A file as run.json stores it: its name and content hash."""
    return {"name": dump.path.name, "sha256": file_sha256(dump.path)}


__all__ = ["DumpFile", "DumpRow", "describe_source", "find_dumps", "read_rows", "read_trace"]
