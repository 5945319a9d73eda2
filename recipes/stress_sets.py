"""Four ways to look at a checkpoint of the shapes, fixed before anything was trained.

    plain     96 held-out scenes like those of training (up to 4 objects), greedy
    sampled   the same scenes at temperature 1
    crowded   64 scenes of 6 to 9 smaller objects, more than any scene of training has, greedy
    noise     32 images of noise, where nothing is to be found, greedy

Every rollout may write 256 tokens, about twice what the fullest crowded scene needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shapes_start import EVAL, EVAL_SEED

from coordeval.data.noise import write_noise_images
from coordeval.data.synthetic import SceneSpec, write_scenes
from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions
from coordeval.errors import RunIncomplete
from coordeval.metrics.score import score_run
from coordeval.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_NEW_TOKENS = 256
CROWDED = SceneSpec(
    name="crowded", min_objects=6, max_objects=9, min_size=0.14, max_size=0.24, empty_rate=0.0
)
CROWDED_SEED = 90_000
FieldOrder = Literal["desc_first", "geometry_first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """A dataset file and how it is decoded."""

    name: str
    data: Path
    temperature: float = 0.0


def write_stress_sets(out: Path) -> dict[str, Stress]:
    """Write the images below `out` where they are missing; the sets by name."""
    plain, crowded, noise = out / "eval.jsonl", out / "crowded.jsonl", out / "noise.jsonl"
    if not plain.exists():
        write_scenes(EVAL, out, 96, EVAL_SEED)
    if not crowded.exists():
        write_scenes(CROWDED, out, 64, CROWDED_SEED)
    if not noise.exists():
        write_noise_images(out, count=32, seed=0)
    sets = (
        Stress(name="plain", data=plain),
        Stress(name="sampled", data=plain, temperature=1.0),
        Stress(name="crowded", data=crowded),
        Stress(name="noise", data=noise),
    )
    return {stress.name: stress for stress in sets}


def evaluate(
    checkpoint: Path, stress: Stress, out: Path, *, field_order: FieldOrder, seed: int
) -> Mapping[str, float | None]:
    """Metrics of a checkpoint under one stress; an ordinary run directory, found again if there.

    Raises RunIncomplete where a rollout could not be made.
    """
    outcome = rollout_checkpoint(
        RolloutOptions(
            checkpoint=str(checkpoint),
            data=stress.data,
            runs_dir=out,
            out=out / stress.name,
            engine="hf",
            field_order=field_order,
            dtype="fp32",
            device="cpu",
            batch_size=32,
            temperature=stress.temperature,
            seed=seed,
            max_new_tokens=MAX_NEW_TOKENS,
            telemetry=True,
        )
    )
    if outcome.counts["errors"]:
        raise RunIncomplete(f"{outcome.path}: {outcome.counts['errors']} rollouts failed")
    return score_run(open_run(outcome.path)).metrics


__all__ = ["Stress", "evaluate", "write_stress_sets"]
