"""What constraint and loop guard buy, in one table: `python recipes/decoding_control.py`.

Rolls out five workloads that break free decoding, each under four kinds of control, through the
same calls as `coordeval rollout` and `coordeval score`, and prints Markdown:

    noise          shapes-final on 32 images of noise, greedy
    temperature    shapes-final on the held-out scenes at temperature 1.3
    ckpt-2400      the degraded checkpoint on the held-out scenes, greedy
    ckpt-loops     the looping checkpoint on the held-out scenes, greedy
    ckpt-polygons  the checkpoint that writes outlines, on its held-out scenes, greedy

Everything is seeded. Run directories are kept under --out and are the cache: the same command
again only scores them (take another --out, or remove them, after the code has changed).
`--engine both` wants an environment that holds Hugging Face and vLLM; by default vLLM joins in
where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordeval.data.noise import write_noise_images
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions
from coordeval.errors import CoordevalError
from coordeval.metrics.score import score_run
from coordeval.parsers.reasons import DROP_REASONS
from coordeval.reports.printable import printable
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import GeometryKind

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
MAX_NEW_TOKENS = 256
FREE = ConstraintSettings()
NO_GUARD, STOP = GuardSettings(), GuardSettings(mode="stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A checkpoint and what it is decoded on; `data` None is a set of noise images."""

    name: str
    checkpoint: str
    data: str | None = "heldout"
    prompt: str | None = None
    temperature: float = 0.0
    geometry: GeometryKind = "bbox_2d"


WORKLOADS = (
    Workload(name="noise", checkpoint="shapes-final", data=None),
    Workload(name="temperature", checkpoint="shapes-final", temperature=1.3),
    Workload(name="ckpt-2400", checkpoint="ckpt-2400"),
    Workload(name="ckpt-loops", checkpoint="ckpt-loops"),
    Workload(
        name="ckpt-polygons",
        checkpoint="ckpt-polygons",
        data="outlines",
        prompt="polygons.toml",
        geometry="poly",
    ),
)
MODES: dict[str, tuple[ConstraintSettings, GuardSettings]] = {
    "free": (FREE, NO_GUARD),
    "coords": (ConstraintSettings(mode="coords"), NO_GUARD),
    "grammar": (ConstraintSettings(mode="grammar"), NO_GUARD),
    "grammar + guard": (ConstraintSettings(mode="grammar"), STOP),
}


class Row(NamedTuple):
    """One line of the table; None is "no value"."""

    workload: str
    engine: str
    mode: str
    dropped: int
    reasons: str
    conforming: float | None
    loops: int | None
    stopped: int | None
    tokens: int | None
    tokens_saved: int | None
    f1: float | None
    ap: float | None


def options_for(
    workload: Workload, mode: str, engine: str, given: argparse.Namespace
) -> RolloutOptions:
    """The rollout of one cell, as `coordeval rollout` would be asked for it."""
    constraint, guard = MODES[mode]
    if constraint.mode == "grammar":
        constraint = ConstraintSettings(mode="grammar", geometries=(workload.geometry,))
    if workload.data is None:
        data = given.out / "noise-images" / "noise.jsonl"
    else:
        data = FIXTURES / "scenes" / f"{workload.data}.jsonl"
    return RolloutOptions(
        checkpoint=str(FIXTURES / workload.checkpoint),
        data=data,
        runs_dir=given.out,
        out=given.out / workload.name / f"{engine}-{mode.replace(' + ', '-')}",
        engine=engine,
        prompt=None if workload.prompt is None else str(FIXTURES / "prompts" / workload.prompt),
        dtype="fp32",
        device=given.device,
        batch_size=given.batch_size,
        limit=given.limit,
        temperature=workload.temperature,
        max_new_tokens=MAX_NEW_TOKENS,
        constraint=constraint,
        guard=guard,
    )


def measure(workload: Workload, mode: str, engine: str, given: argparse.Namespace) -> Row:
    """Roll out, or find what is rolled out already, and score."""
    options = options_for(workload, mode, engine, given)
    outcome = rollout_checkpoint(options)
    metrics = score_run(open_run(outcome.path)).metrics
    if outcome.exit_code(0) != 0:
        print(
            f"{outcome.path}: {outcome.status}, {outcome.counts['errors']} error lines",
            file=sys.stderr,
        )
    reasons = {name: int(metrics[f"parse/dropped/{name}"] or 0) for name in DROP_REASONS}
    return Row(
        workload=workload.name,
        engine=engine,
        mode=mode,
        dropped=sum(reasons.values()),
        reasons=", ".join(f"{name} {count}" for name, count in reasons.items() if count),
        conforming=metrics["samples/conforming_rate"],
        loops=_whole(metrics["dup/loop_samples"]),
        stopped=_whole(metrics["guard/stopped"]),
        tokens=_whole(metrics["tokens/total"]),
        tokens_saved=_whole(metrics["guard/tokens_saved"]),
        f1=metrics["f1/0.50/f1"],
        # Outlines are judged by their areas, not by the boxes around them.
        ap=metrics["coco_segm/AP" if workload.geometry == "poly" else "coco/AP"],
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


COLUMNS = (
    "set",
    "engine",
    "control",
    "drops",
    "conforming",
    "loops",
    "stopped",
    "tokens",
    "saved",
    "F1@.50",
    "AP",
)


def markdown(rows: Sequence[Row]) -> str:
    """The table, and under it what the drops of each row were."""
    lines = ["| " + " | ".join(COLUMNS) + " |"]
    lines.append("|---|---|---|" + "---:|" * (len(COLUMNS) - 3))
    notes = []
    for row in rows:
        cells = (
            row.workload,
            row.engine,
            row.mode,
            str(row.dropped),
            _percent(row.conforming),
            _count(row.loops),
            _count(row.stopped),
            _count(row.tokens),
            _count(row.tokens_saved),
            _ratio(row.f1),
            _ratio(row.ap),
        )
        lines.append("| " + " | ".join(cells) + " |")
        if row.reasons:
            notes.append(f"- {row.workload}, {row.engine}, {row.mode}: {printable(row.reasons)}")
    if notes:
        lines += ["", "Drops by reason:", "", *notes]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def engines_for(name: str | None) -> tuple[str, ...]:
    """`hf`, `vllm` or both; None: vLLM too where it is installed."""
    if name is None:
        name = "hf" if importlib.util.find_spec("vllm") is None else "both"
    return ("hf", "vllm") if name == "both" else (name,)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--engine", choices=("hf", "vllm", "both"))
    parser.add_argument("--out", type=Path, default=Path("runs/decoding-control"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SET")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    return parser.parse_args(given)


def main() -> None:
    """Measure every cell that is asked for, and print the table."""
    given = arguments()
    rows = []
    try:
        write_noise_images(given.out / "noise-images", count=32, seed=0)
        chosen = [workload for workload in WORKLOADS if workload.name in given.only]
        for workload, engine, mode in product(chosen, engines_for(given.engine), given.modes):
            print(f"{workload.name}: {engine}, {mode}", file=sys.stderr, flush=True)
            rows.append(measure(workload, mode, engine, given))
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    print(markdown(rows))


if __name__ == "__main__":
    main()
