"""Six questions about Stage 2, asked in miniature: `python recipes/stage2_studies.py STUDY`.

    gate       channel A alone, with the coordinate gate at 0 and at 1
    anchor     em_detach with the text's gradient lost in iteration 0, as it once was, and with it
    contexts   what stands where a coordinate stood: five contexts of channel A
    order      Stage 1 in desc_first and geometry_first, objects sorted and in random order
    boxes      Stage 1 with and without box losses
    channels   A, B and mixtures against more Stage 1, at about equal compute

Every arm is trained from three seeds: from a Stage-1 checkpoint of the same seed (400 steps of
`soft`, trained here when it is missing), or from random weights in `order` and `boxes`. Then it
decodes freely under four stresses that were fixed beforehand (recipes/stress_sets.py). Prints the
tables of docs/stage2_studies.md. Nothing is done twice: the same command goes on where it was
stopped. At most half an hour for each study on two cores.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shapes_start import write_data, write_start
from stress_sets import FieldOrder, evaluate, write_stress_sets
from study_cells import Cell, train_cells
from study_figure import study_svg
from study_tables import ArmResult, course_table, stress_table

from coordeval.errors import CoordevalError, RunIncomplete
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stress_sets import Stress

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "runs" / "stage2-studies"
STAGE1, STAGE2 = HERE / "stage1_ablation.yaml", HERE / "stage2_study.yaml"
BROKEN_ANCHOR = HERE / "stage2_broken_anchor.py"
SEEDS = (17, 18, 19)
TRAIN_SCENES, EVAL_SCENES = 4000, 96
STAGE1_STEPS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What is trained: the configuration's own settings but for `changes`.

    `from_base`: from the Stage-1 checkpoint of the seed, else from its random weights.
    `broken_anchor`: with the gradient of iteration 0 switched off, for study `anchor` alone.
    """

    name: str
    config: Path = STAGE2
    changes: tuple[str, ...] = ()
    from_base: bool = True
    field_order: FieldOrder = "desc_first"
    broken_anchor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A question: its arms, and the keys that are shown over the steps of training."""

    arms: tuple[Arm, ...]
    course: tuple[str, ...] = ()


BASE = Arm(
    name="base",
    config=STAGE1,
    changes=("objective.preset=soft", "data.eval_limit=96"),
    from_base=False,
)
DRIFT = (
    "slot/mass_mean",
    "parse/dropped/wrong_arity",
    "parse/dropped/unexpected_keys",
    "samples/empty_pred_rate",
    "f1/0.50/f1",
)


def _stage2(name: str, steps: int, *changes: str, broken_anchor: bool = False) -> Arm:
    given = (f"trainer.max_steps={steps}", *changes)
    return Arm(name=name, changes=given, broken_anchor=broken_anchor)


def _order(field_order: FieldOrder, order: str) -> Arm:
    return Arm(
        name=f"{field_order}, {order}",
        config=STAGE1,
        changes=(*BASE.changes, f"data.field_order={field_order}", f"data.order={order}"),
        from_base=False,
        field_order=field_order,
    )


def _more_stage1(steps: int) -> Arm:
    return Arm(
        name="more Stage 1",
        config=STAGE1,
        changes=(
            *BASE.changes,
            f"trainer.max_steps={steps}",
            "trainer.learning_rate=1.0e-3",
            "tune.muon_lr=0.005",
            "trainer.warmup_steps=10",
            "trainer.lr_scheduler_type=constant_with_warmup",
            "trainer.lr_scheduler_kwargs={}",
        ),
    )


def _stage1_terms(channel: str) -> tuple[str, ...]:
    """Weights of `soft` on a channel, to tell what its terms do from what its contexts do."""
    weights = {"soft_ce": 1.0, "w1": 1.0, "smooth_l1": 0.0, "ciou": 0.0}
    return tuple(f"stage2.{channel}.weights.{name}={value}" for name, value in weights.items())


CONTEXTS = ("expected", "argmax", "rounded_expectation", "top_k", "gumbel_softmax")
# Optimizer steps of about equal compute; docs/stage2_studies.md says what a step of each costs.
STUDIES: dict[str, Study] = {
    "gate": Study(
        arms=(
            BASE,
            _stage2("gate 0", 200, "stage2.coord_gate_weight=0"),
            _stage2("gate 1", 200),
        ),
        course=("coord_diag/A2/coord_vocab_mass", *DRIFT),
    ),
    "anchor": Study(
        arms=(
            BASE,
            _stage2(
                "gradient lost", 150, "stage2.channel_a.grad_mode=em_detach", broken_anchor=True
            ),
            _stage2("gradient kept", 150, "stage2.channel_a.grad_mode=em_detach"),
        ),
        course=("loss/A1/text_ce", *DRIFT),
    ),
    "contexts": Study(
        arms=(
            BASE,
            *(_stage2(name, 200, f"stage2.channel_a.context.kind={name}") for name in CONTEXTS),
        ),
    ),
    "order": Study(
        arms=(
            BASE,  # desc_first, sorted
            _order("desc_first", "random"),
            _order("geometry_first", "sorted"),
            _order("geometry_first", "random"),
        ),
    ),
    "boxes": Study(
        arms=(
            BASE,
            Arm(
                name="base + boxes",
                config=STAGE1,
                changes=(*BASE.changes, "objective.box={smooth_l1: 1.0, ciou: 1.0}"),
                from_base=False,
            ),
        ),
    ),
    "channels": Study(
        arms=(
            BASE,
            _more_stage1(280),
            _stage2("A", 140),
            _stage2("A/B .05", 134, "stage2.b_ratio=0.05"),
            _stage2("A/B .25", 115, "stage2.b_ratio=0.25"),
            _stage2("A/B .5", 98, "stage2.b_ratio=0.5"),
            _stage2("B", 75, "stage2.b_ratio=1.0"),
            _stage2("A, terms of Stage 1", 140, *_stage1_terms("channel_a")),
            _stage2(
                "B, terms of Stage 1",
                75,
                "stage2.b_ratio=1.0",
                "stage2.channel_b.tokens.matched_desc=1.0",
                *_stage1_terms("channel_b"),
            ),
        ),
    ),
}


def cell_of(arm: Arm, seed: int, out: Path, folder: Path, extra: Sequence[str] = ()) -> Cell:
    """The training of one arm from one seed."""
    start = out / f"start-{seed}" / "start"
    if arm.from_base:
        start = cell_of(BASE, seed, out, out / "base").checkpoint
    places = (
        f"model={start}",
        f"output_dir={folder / f'seed-{seed}'}",
        f"data.train={out / 'scenes' / 'train.jsonl'}",
        f"data.eval={out / 'scenes' / 'eval.jsonl'}",
        f"seed={seed}",
    )
    command: tuple[str, ...] = (sys.executable, "-m", "coordeval", "train")
    if arm.broken_anchor:
        command = (sys.executable, str(BROKEN_ANCHOR))
    return Cell(
        arm=arm.name,
        seed=seed,
        config=arm.config,
        folder=folder / f"seed-{seed}",
        changes=(*places, *arm.changes, *extra),
        command=command,
    )


def cells_of(study: str, out: Path, seeds: Sequence[int]) -> list[tuple[Arm, Cell]]:
    """All trainings of a study, seed by seed; the base is shared by all of them."""
    pairs = []
    for seed in seeds:
        for arm in STUDIES[study].arms:
            folder = out / "base" if arm is BASE else out / study / arm.name.replace(" ", "-")
            pairs.append((arm, cell_of(arm, seed, out, folder)))
    return pairs


def prepare(out: Path, seeds: Sequence[int], jobs: int) -> None:
    """Scenes, random starts and Stage-1 checkpoints, where they are missing."""
    write_data(out, train=TRAIN_SCENES, evaluation=EVAL_SCENES)
    for seed in seeds:
        if not (out / f"start-{seed}" / "start" / "model.safetensors").exists():
            write_start(out / f"start-{seed}", seed=seed)
    _trained([cell_of(BASE, seed, out, out / "base") for seed in seeds], jobs)


def _trained(cells: Sequence[Cell], jobs: int) -> None:
    """Train cells; RunIncomplete where one of them failed (it has said why)."""
    failed = sum(code != 0 for code in train_cells(cells, jobs=jobs))
    if failed:
        raise RunIncomplete(f"{failed} of {len(cells)} trainings failed; the same command goes on")


def look(arm: Arm, cell: Cell, stresses: Mapping[str, Stress], course: Sequence[str]) -> ArmResult:
    """What a trained cell does under every stress, and its course."""
    metrics = {
        name: evaluate(
            cell.checkpoint,
            stress,
            cell.folder / "stress",
            field_order=arm.field_order,
            seed=cell.seed,
        )
        for name, stress in stresses.items()
    }
    return ArmResult.read(arm.name, cell.seed, cell.folder, metrics, course)


def run(study: str, out: Path, seeds: Sequence[int], jobs: int) -> list[ArmResult]:
    """Train what is missing, look at everything, print the tables; RunIncomplete on a failure."""
    prepare(out, seeds, jobs)
    pairs = cells_of(study, out, seeds)
    _trained([cell for _, cell in pairs], jobs)
    stresses = write_stress_sets(out / "stress")
    course = STUDIES[study].course
    results = [look(arm, cell, stresses, course) for arm, cell in pairs]
    print(stress_table(results))
    if course:
        print()
        print(course_table([result for result in results if result.arm != BASE.name], course))
    return results


def main(given: Sequence[str] | None = None) -> None:
    """Run the studies that are asked for, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=(*STUDIES, "all"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--figure", type=Path, help="an SVG file for a picture of what was found")
    chosen = parser.parse_args(given)
    asked = list(STUDIES) if chosen.study == "all" else [chosen.study]
    try:
        found = {
            study: run(study, chosen.out.resolve(), chosen.seeds, chosen.jobs) for study in asked
        }
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    if chosen.figure is not None:
        chosen.figure.write_text(study_svg(found), encoding="utf-8")


if __name__ == "__main__":
    main()
