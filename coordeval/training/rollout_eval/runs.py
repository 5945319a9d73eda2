"""One evaluation of a training as an ordinary run directory, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.engines.identity import keep_stored_labels, run_identity
from coordeval.engines.runner import run_rollouts
from coordeval.errors import DataError
from coordeval.jsonl import dump_line, load_json
from coordeval.metrics.score import score_run
from coordeval.metrics.write import write_score
from coordeval.runs import META_NAME, open_run, read_meta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.engines.base import Engine
    from coordeval.engines.progress import Progress
    from coordeval.metrics.result import ScoreResult
    from coordeval.training.rollout_eval.plan import EvalPlan

PREFIX = "eval_rollout/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What one evaluation came to; `metrics` as in metrics.json, None where there is no value."""

    step: int
    epoch: float | None
    path: Path
    metrics: dict[str, float | int | None]
    seconds: float

    @property
    def logged(self) -> dict[str, float | int]:
        """What is logged: every catalogue key that has a value, and the time it took."""
        numbers = {PREFIX + key: value for key, value in self.metrics.items() if value is not None}
        return numbers | {f"{PREFIX}seconds": round(self.seconds, 3)}


def step_name(step: int) -> str:
    """The name of a step's run directory and dump: `step_000300`."""
    return f"step_{step:06d}"


def live_identity(
    plan: EvalPlan, engine: Engine, *, folder: Path, step: int, weights: str
) -> dict[str, Any]:
    """The identity of a run of weights in memory: the training's folder, the step, their hash."""
    name = f"{folder.resolve().name}-{step_name(step)}"
    identity = run_identity(
        checkpoint={"path": str(folder.resolve()), "name": name, "hash": weights, "step": step},
        adapter=None,
        engine=engine,
        dialect=plan.dialect,
        frame=plan.frame.name,
        prompt=plan.prompt,
        pixels=plan.pixels,
        decode=plan.decode,
        dataset_path=folder if plan.dataset_path is None else plan.dataset_path,
        dataset_sha256=plan.dataset_sha256,
        categories=plan.categories,
        selection=plan.selection,
    )
    if plan.dataset_path is None:
        identity["dataset"] = {"path": None, "sha256": plan.dataset_sha256}
    return identity


def roll_out(
    engine: Engine,
    plan: EvalPlan,
    *,
    out: Path,
    identity: dict[str, Any],
    on_progress: Callable[[Progress], None] | None,
    notify: Callable[[str], None],
) -> None:
    """Fill a run directory, or go on with it; one of another state of the weights is set aside."""
    _set_aside_others(out, identity, notify)
    described = engine.describe()
    run_rollouts(
        engine,
        plan.samples,
        out=out,
        identity=identity,
        extra={
            "versions": described["versions"],
            "environment": described["environment"],
            "image_root": None if plan.image_root is None else str(plan.image_root),
            "needed_tokens": plan.needed_tokens,
        },
        decode=plan.decode,
        dialect=plan.dialect,
        on_progress=on_progress,
    )


def _set_aside_others(out: Path, identity: dict[str, Any], notify: Callable[[str], None]) -> None:
    if not (out / META_NAME).exists():
        return
    try:
        stored = read_meta(out / META_NAME)
    except DataError:
        stored = {}
    mine = load_json(dump_line(keep_stored_labels(identity, stored)))
    if all(stored.get(key) == value for key, value in mine.items()):
        return
    kept = set_aside(out)
    notify(f"{out} is of other weights or settings: kept as {kept.name}, and done anew")


def set_aside(path: Path) -> Path:
    """Rename what stands in the way to `<name>.old-<n>`, and say where it went."""
    number = 1
    while (kept := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    path.rename(kept)
    return kept


def score_folder(path: Path) -> ScoreResult:
    """Score a run directory as `coordeval score` does, and write its score."""
    result = score_run(open_run(path))
    write_score(result, path / "score")
    return result


__all__ = [
    "PREFIX",
    "Evaluated",
    "live_identity",
    "roll_out",
    "score_folder",
    "set_aside",
    "step_name",
]
