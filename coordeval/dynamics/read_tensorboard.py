"""Scalars of TensorBoard event files, through TensorBoard's own reader (extra `tb`)."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from coordeval.dynamics.log import ReadLog, Row
from coordeval.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordeval.dynamics.log import LogFile

MAX_FILE_BYTES = 4 << 30
_FRAMING_BYTES = 16
"""Length, two checksums: what a record takes in the file besides its content."""
_BOOKKEEPING = frozenset({"train/epoch", "epoch", "train/global_step"})


def read_event_file(file: LogFile) -> ReadLog:
    """All scalars of one event file, in file order, one row per event.

    Needs the extra `tb` (MissingExtraError). Images, histograms and texts are passed over. A file
    that ends in a broken record (a killed training) gives what stands before it, and a note;
    DataError where nothing can be read.
    """
    tools = _load_tools()
    try:
        size = file.path.stat().st_size
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from None
    if size > MAX_FILE_BYTES:
        raise DataError(f"{file.path}: larger than {MAX_FILE_BYTES >> 30} GiB")
    rows: list[Row] = []
    consumed = 0
    for record in _records(tools, file):
        try:
            event = tools.parse(record)
        except tools.decode_error:
            break
        consumed += len(record) + _FRAMING_BYTES
        values = _scalars(event, tools)
        if values:
            rows.append(Row(int(event.step), values))
    notes = []
    if consumed < size:
        if not consumed:
            raise DataError(f"{file.path}: not a TensorBoard event file, or its start is broken")
        notes.append(f"{file.path.name}: breaks off; the last {size - consumed:,} bytes are unread")
    return ReadLog(file=file, rows=rows, notes=notes)


def _records(tools: _Tools, file: LogFile) -> Iterator[bytes]:
    """The file's records up to the first that breaks off, or that claims more than there can be."""
    # The reader asks for a claimed length at once.
    with suppress(MemoryError, OverflowError), _utf8_path(file.path) as path:
        yield from tools.loader(path).Load()


@contextmanager
def _utf8_path(path: Path) -> Iterator[str]:
    """A path that TensorBoard's reader takes: names of files need not be valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as handle:
            yield f"/dev/fd/{handle.fileno()}"
    else:
        yield str(path)


class _Tools:
    """What is used of tensorboard, imported once."""

    def __init__(self) -> None:
        loading = import_module("tensorboard.backend.event_processing.event_file_loader")
        self.loader: Any = loading.RawEventFileLoader
        self.parse: Any = import_module("tensorboard.compat.proto.event_pb2").Event.FromString
        self.decode_error: Any = import_module("google.protobuf.message").DecodeError
        self.to_array: Any = import_module("tensorboard.util.tensor_util").make_ndarray


def _load_tools() -> _Tools:
    try:
        return _Tools()
    except ImportError:
        raise MissingExtraError("reading TensorBoard event files", "tb") from None


def _scalars(event: Any, tools: _Tools) -> dict[str, float]:
    values: dict[str, float] = {}
    for value in event.summary.value:
        if value.tag in _BOOKKEEPING:
            continue
        kind = value.WhichOneof("value")
        if kind == "simple_value":
            values[value.tag] = float(value.simple_value)
        elif kind == "tensor" and not value.tensor.tensor_shape.dim:
            # TensorFlow 2 writes scalars as tensors without dimensions; texts are such, too.
            try:
                values[value.tag] = float(tools.to_array(value.tensor))
            except (TypeError, ValueError, KeyError, OverflowError):
                # No number, of a type that nobody knows, or more than its type holds.
                continue
    return values


__all__ = ["read_event_file"]
