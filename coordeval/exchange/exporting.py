"""A scored run in other tools' formats: the table of formats, and how files are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from coordeval.atomic import FileSet, output_file
from coordeval.errors import ConfigError, DataError
from coordeval.exchange.export_coco import coco_files
from coordeval.exchange.export_fiftyone import fiftyone_files
from coordeval.exchange.export_labelstudio import labelstudio_files
from coordeval.exchange.export_table import write_csv, write_parquet
from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from coordeval.exchange.export_context import ExportContext, Files
    from coordeval.metrics.result import ScoreResult

FOLDER_FORMATS: dict[str, Callable[[ScoreResult, ExportContext], tuple[Files, list[str]]]] = {
    "coco": coco_files,
    "fiftyone": fiftyone_files,
    "labelstudio": labelstudio_files,
}
"""Formats of several files: each builder gives the files' content, and remarks."""
TABLE_FORMATS: dict[str, Callable[[pd.DataFrame, Path], list[str]]] = {
    "csv": write_csv,
    "parquet": write_parquet,
}
"""Formats of one file: the objects table; remarks say what was changed."""
FORMATS = (*FOLDER_FORMATS, *TABLE_FORMATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The files that were written, and remarks on what the format could not take."""

    paths: list[Path]
    remarks: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"files": [str(path) for path in self.paths], "remarks": self.remarks}


def export_run(result: ScoreResult, to: str, out: Path, context: ExportContext) -> Exported:
    """Write a scored run as `to` under `out`: a folder, or for csv and parquet one file.

    Files appear whole, those of a folder together, or what was there stays.

    Raises ConfigError for an unknown format or an `out` of the wrong kind, DataError where it
    cannot be written. What a format cannot hold is named in the remarks, with counts.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to!r}: use one of {', '.join(FORMATS)}")
    try:
        if to in TABLE_FORMATS:
            if out.is_dir():
                raise ConfigError(f"-o {out}: {to} is one file; name it, say {out}/objects.{to}")
            out.parent.mkdir(parents=True, exist_ok=True)
            with output_file(out) as place:
                remarks = TABLE_FORMATS[to](result.objects, place)
            return Exported(paths=[out], remarks=remarks)
        if out.is_file() or out.suffix == ".json":
            raise ConfigError(f"-o {out}: {to} writes several files; name a folder")
        files, remarks = FOLDER_FORMATS[to](result, context)
        out.mkdir(parents=True, exist_ok=True)
        with FileSet() as fresh:
            for name, content in files.items():
                is_text = isinstance(content, str)
                data = content.encode("utf-8") if is_text else _json_bytes(content)
                fresh.new(out / name).write_bytes(data)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}") from None
    return Exported(paths=[out / name for name in files], remarks=remarks)


def _json_bytes(content: Any) -> bytes:
    try:
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return dump_line(content)  # lone surrogates from model output stay as escapes


__all__ = ["FORMATS", "Exported", "export_run"]
