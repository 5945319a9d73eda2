"""Dumps to a run directory: every sample is written, or counted under the reason why not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from coordeval.coords import DEFAULT_FRAME, frame_named
from coordeval.errors import ConfigError, RunIncomplete
from coordeval.exchange.crosscheck import CrossCheck
from coordeval.exchange.dump_files import (
    DUMP_FOLDER,
    describe_source,
    find_dumps,
    read_rows,
    read_trace,
)
from coordeval.exchange.dump_rows import ImportedSample, NotImportable, import_row
from coordeval.jsonl import dump_line
from coordeval.parsers.dialects import dialect_named
from coordeval.parsers.proposing import ReadText
from coordeval.runs import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from coordeval.coords import CoordFrame
    from coordeval.exchange.dump_files import DumpFile, DumpRow
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

REPORTED_NAME = "imported.jsonl"
BATCH = 256
MAX_EXAMPLES = 5
# Dumps cut long texts at a limit of theirs and don't say so; this is their usual one.
_USUAL_TEXT_LIMIT = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What to import, and how to read what dumps don't declare."""

    sources: tuple[Path, ...]
    out: Path
    dialect: str = "coordjson"
    frame: str | None = None
    gt_space: str | None = None
    checkpoint: str | None = None
    image_root: Path | None = None
    step: int | None = None
    dialect_proposal: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class ImportSummary:
    """What became of every sample: `read == written + sum(left_out) + copies`.

    `remarks` counts changes on the way; `examples` holds a few texts per reason.
    """

    out: Path
    steps: list[int] = field(default_factory=list)
    read: int = 0
    written: int = 0
    copies: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    cross_check: CrossCheck = field(default_factory=CrossCheck)

    def leave_out(self, row: DumpRow, why: NotImportable) -> None:
        """Count a sample that cannot be imported."""
        self.left_out[why.reason] += 1
        examples = self.examples.setdefault(why.reason, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(f"{row.file.path.name}[{row.index}]: {why}")

    def to_json(self) -> dict[str, Any]:
        """Plain data, as run.json keeps it."""
        return {
            "out": str(self.out),
            "steps": self.steps,
            "read": self.read,
            "written": self.written,
            "copies": self.copies,
            "left_out": dict(self.left_out),
            "examples": self.examples,
            "remarks": dict(self.remarks),
            "cross_check": self.cross_check.to_json(),
        }


def import_dumps(
    options: ImportOptions, *, on_progress: Callable[[int], None] | None = None
) -> ImportSummary:
    """Write the run directory `options.out` from dumps.

    The rollouts go to rollouts.jsonl; what the dumps reported and all other metadata to
    imported.jsonl, one line per rollout; the summary to run.json under `import`. Samples of
    several steps get ids `step-N/<id>`. Raises DataError for files that cannot be read,
    RunIncomplete where no sample can be imported, RunMismatchError where `out` is another run,
    RunNotWritten where it can be written no more. An import that was killed goes on.
    """
    if options.gt_space not in (None, "pixels", "bins"):
        raise ConfigError(f"--gt-space {options.gt_space!r}: use pixels or bins")
    dialect = dialect_named(options.dialect)
    frame = frame_named(options.frame or DEFAULT_FRAME)
    if options.frame is not None and dialect.is_foreign:
        dialect = replace(dialect, frame=frame.name)
    dumps = find_dumps(options.sources)
    summary = ImportSummary(out=options.out)
    headers: dict[str, Any] = {}
    samples: list[tuple[DumpRow, ImportedSample]] = []
    for row, trace_text in _rows(dumps, options.step):
        summary.read += 1
        if row.header and str(row.step) not in headers:
            headers[str(row.step)] = row.header
        try:
            sample = import_row(row, frame=frame, gt_space=options.gt_space, trace_text=trace_text)
        except NotImportable as why:
            summary.leave_out(row, why)
            continue
        summary.remarks.update(sample.remarks)
        summary.cross_check.add(sample, dialect)
        samples.append((row, sample))
        if on_progress is not None:
            on_progress(summary.read)
    _require_some(options, summary)
    summary.steps = sorted({row.step for row, _ in samples if row.step is not None})
    kept = _with_own_ids(samples, summary)
    _note_text_limit(kept, summary)
    identity = _identity(options, dumps, headers, summary.steps, dialect, frame)
    _write(options.out, kept, identity, _extra(options, headers, summary.steps), summary)
    return summary


def _identity(
    options: ImportOptions,
    dumps: Sequence[DumpFile],
    headers: dict[str, Any],
    steps: Sequence[int],
    dialect: Dialect,
    frame: CoordFrame,
) -> dict[str, Any]:
    """What says which run it is."""
    return {
        "checkpoint": {
            "path": None,
            "name": options.checkpoint or _name(dumps, steps),
            "hash": None,
        },
        "adapter": None,
        "engine": {"name": "import"},
        "dialect": dialect.to_json(),
        "frame": dialect.frame or frame.name,
        "decode": _decode(headers),
        "dataset": None,
        "categories": None,
        "sources": [describe_source(dump) for dump in dumps],
        "source_step": options.step,
    }


def _extra(options: ImportOptions, headers: dict[str, Any], steps: Sequence[int]) -> dict[str, Any]:
    """What run.json holds besides."""
    root = options.image_root
    extra: dict[str, Any] = {
        "image_root": None if root is None else str(root.resolve()),
        "dumps": headers,
    }
    if options.dialect_proposal is not None:
        extra["dialect_proposal"] = options.dialect_proposal
    if len(steps) == 1:
        extra["step"] = steps[0]  # reports draw metrics over it
    return extra


def sample_texts(options: ImportOptions) -> Iterator[ReadText]:
    """The texts that would be imported, with the sizes of their images."""
    frame = frame_named(options.frame or DEFAULT_FRAME)
    for row, trace_text in _rows(find_dumps(options.sources), options.step):
        try:
            sample = import_row(row, frame=frame, gt_space=options.gt_space, trace_text=trace_text)
        except NotImportable:
            continue  # counted where they are imported
        rollout = sample.rollout
        yield ReadText(rollout.text, rollout.width, rollout.height)


def _rows(dumps: Sequence[DumpFile], step: int | None) -> Iterator[tuple[DumpRow, str | None]]:
    for dump in dumps:
        trace = read_trace(dump)
        for row in read_rows(dump):
            if step is None or row.step == step:
                yield row, trace.get(row.index)


def _require_some(options: ImportOptions, summary: ImportSummary) -> None:
    if sum(summary.left_out.values()) < summary.read:
        return
    if not summary.read:
        what = "no sample" if options.step is None else f"no sample of step {options.step}"
        raise RunIncomplete(f"{options.sources[0]}: {what} in it, nothing to import")
    reason, count = summary.left_out.most_common(1)[0]
    example = summary.examples[reason][0]
    raise RunIncomplete(
        f"none of {summary.read} samples can be imported: {count} {reason}: {example}"
    )


def _with_own_ids(
    samples: list[tuple[DumpRow, ImportedSample]], summary: ImportSummary
) -> list[tuple[DumpRow, ImportedSample]]:
    """Give every rollout an id of its own; exact copies of one (from another rank) are counted."""
    out = []
    several = len(summary.steps) > 1
    seen: dict[str, list[Rollout]] = {}
    for row, sample in samples:
        rollout = sample.rollout
        name = f"step-{row.step}/{rollout.id}" if several else rollout.id
        earlier = seen.setdefault(name, [])
        if any(_same(rollout, other) for other in earlier):
            summary.copies += 1
            continue
        earlier.append(rollout)
        if len(earlier) > 1:
            summary.remarks["id_stands_twice"] += 1
            name = f"{name}#{len(earlier)}"
        sample.rollout = replace(rollout, id=name)
        out.append((row, sample))
    return out


def _same(one: Rollout, other: Rollout) -> bool:
    return (one.text, one.gt, one.error) == (other.text, other.gt, other.error)


def _note_text_limit(
    samples: Sequence[tuple[DumpRow, ImportedSample]], summary: ImportSummary
) -> None:
    cut = sum(len(sample.rollout.text) == _USUAL_TEXT_LIMIT for _, sample in samples)
    if cut:
        summary.remarks[f"text_of_exactly_{_USUAL_TEXT_LIMIT}_characters"] = cut


def _name(dumps: Sequence[DumpFile], steps: Sequence[int]) -> str:
    folder = dumps[0].path.resolve().parent
    name = folder.parent.name if folder.name == DUMP_FOLDER else folder.name
    return f"{name}-step-{steps[0]}" if len(steps) == 1 else name


def _decode(headers: dict[str, Any]) -> dict[str, Any] | None:
    """Decode settings as far as the dumps agree on them; `temperature` 0 where they say greedy."""
    metas = [header["meta"] for header in headers.values() if isinstance(header.get("meta"), dict)]
    if not metas:
        return None
    out: dict[str, Any] = {}
    for key in ("decode_mode", "max_new_tokens", "rollout_backend", "temperature"):
        values = [meta.get(key) for meta in metas]
        if values[0] is not None and all(value == values[0] for value in values):
            out[key] = values[0]
    if out.get("decode_mode") == "greedy":
        out.setdefault("temperature", 0.0)
    return out or None


def _write(
    out: Path,
    samples: Sequence[tuple[DumpRow, ImportedSample]],
    identity: dict[str, Any],
    extra: dict[str, Any],
    summary: ImportSummary,
) -> None:
    with RunWriter(out, identity=identity, extra=extra) as writer:
        todo = [
            sample.rollout for _, sample in samples if (sample.rollout.id, 0) not in writer.finished
        ]
        for start in range(0, len(todo), BATCH):
            writer.append(todo[start : start + BATCH])
        summary.written = len(samples)
        lines = (
            dump_line(
                {
                    "id": sample.rollout.id,
                    "source": row.file.path.name,
                    "index": row.index,
                    "step": row.step,
                    "reported": sample.reported,
                    "metadata": sample.metadata,
                }
            )
            for row, sample in samples
        )
        writer.write_beside(REPORTED_NAME, b"".join(lines))
        writer.meta["import"] = summary.to_json()
        left = sum(summary.left_out.values())
        counts = {"samples": summary.read, "finished": summary.written, "left_out": left}
        writer.finish("partial" if left else "complete", counts)


__all__ = ["REPORTED_NAME", "ImportOptions", "ImportSummary", "import_dumps", "sample_texts"]
