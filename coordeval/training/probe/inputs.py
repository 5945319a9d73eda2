"""What a probe reads: the samples and rollouts of a run, its images, and how it was asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.coords import DEFAULT_FRAME, frame_named
from coordeval.data.dataset import image_root_hint, open_dataset
from coordeval.data.paths import resolve_image
from coordeval.data.pixels import PixelLimits, parse_pixels
from coordeval.data.prompt_choice import choose_prompt
from coordeval.data.prompts import Prompt
from coordeval.engines.selection import parse_selection
from coordeval.errors import ConfigError, DataError, RunIncomplete
from coordeval.foreign_paths import is_file
from coordeval.parsers.dialects import DEFAULT_DIALECT, dialect_from_json, dialect_named
from coordeval.records import Sample
from coordeval.runs import open_run
from coordeval.stats.pairing import shown_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coordeval.coords import CoordFrame
    from coordeval.data.dataset import Dataset
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import GroundTruthObject, Rollout
    from coordeval.runs import Run
    from coordeval.training.probe.options import ProbeOptions


class ProbeItem(NamedTuple):
    """One image of the run: its sample (ground truth, image file) and its headline rollout."""

    sample: Sample
    rollout: Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInputs:
    """A run, ready to be probed; `notes` say what a reader of the numbers should know.

    `dataset` is what probe.json tells of the data, None where the run's own lines are all there
    is.
    """

    run: Run
    items: tuple[ProbeItem, ...]
    dialect: Dialect
    frame: CoordFrame
    prompt: Prompt
    pixels: PixelLimits | None
    dataset: dict[str, str] | None
    notes: tuple[str, ...]


def read_inputs(options: ProbeOptions) -> ProbeInputs:
    """Open the run and find its images; settings come from the options, else from run.json.

    The ground truth is the dataset's where there is one, else what the run's lines hold. Images
    are the dataset's, else those under the run's image root. Raises DataError for a run that cannot
    be read, an id that stands twice, and images that are not there; ConfigError for a dialect
    without coordinate tokens; RunIncomplete where nothing is left to probe.
    """
    run = open_run(options.run)
    dialect = _dialect(options, run)
    frame = _frame(options, run)
    rollouts = _headlines(run)
    dataset = _dataset(options, run, frame)
    items, notes = _items(options, run, rollouts, dataset)
    selection = parse_selection(ids=options.ids, limit=options.limit, shard=None)
    kept = {sample.id for sample in selection.apply([item.sample for item in items])}
    items = [item for item in items if item.sample.id in kept]
    if not items:
        raise RunIncomplete(f"{run.path}: holds no rollout: nothing to probe")
    _require_images(items, run, dataset)
    return ProbeInputs(
        run=run,
        items=tuple(items),
        dialect=dialect,
        frame=frame,
        prompt=_prompt(options, run, dialect, dataset),
        pixels=_pixels(options, run),
        dataset=None
        if dataset is None
        else {"path": str(dataset.path.resolve()), "sha256": dataset.sha256},
        notes=tuple(notes),
    )


def _dialect(options: ProbeOptions, run: Run) -> Dialect:
    stored = run.meta.get("dialect")
    dialect = (
        dialect_from_json(stored)
        if isinstance(stored, dict)
        else dialect_named(options.default_dialect or DEFAULT_DIALECT)
    )
    if options.dialect is not None:
        dialect = dialect_named(options.dialect)
    if options.field_order is not None:
        dialect = replace(dialect, field_order=options.field_order)
    if dialect.coordinates not in {"token", "quoted_token"}:
        raise ConfigError(
            f"the dialect {dialect.name} writes coordinates as integers: "
            "there are no coordinate tokens to probe"
        )
    return dialect


def _frame(options: ProbeOptions, run: Run) -> CoordFrame:
    if options.frame is not None:
        return frame_named(options.frame)
    stored = run.meta.get("frame")
    return frame_named(str(stored or options.default_frame or DEFAULT_FRAME))


def _prompt(options: ProbeOptions, run: Run, dialect: Dialect, dataset: Dataset | None) -> Prompt:
    stored = run.meta.get("prompt")
    if options.prompt is None and isinstance(stored, dict):
        return _stored_prompt(stored, run)
    name = options.prompt or options.default_prompt
    return choose_prompt(name, dialect, None if dataset is None else dataset.categories)


def _stored_prompt(stored: Mapping[str, Any], run: Run) -> Prompt:
    fields = {key: value for key, value in stored.items() if key != "sha256"}
    try:
        return Prompt(**fields)
    except TypeError as error:
        raise DataError(
            f"{run.path}: run.json holds no prompt that is understood: {error}"
        ) from None


def _pixels(options: ProbeOptions, run: Run) -> PixelLimits | None:
    if options.pixels is not None:
        return parse_pixels(options.pixels)
    if not run.is_directory:
        return parse_pixels(options.default_pixels)
    stored = run.meta.get("pixels")
    if not isinstance(stored, dict):
        return None
    return PixelLimits(min_pixels=stored.get("min"), max_pixels=stored.get("max"))


def _headlines(run: Run) -> list[Rollout]:
    """Rollouts with sample_index 0, in order; ids of other samples alone are left out."""
    seen: set[str] = set()
    out = []
    for rollout in run.rollouts():
        if rollout.sample_index != 0:
            continue
        if rollout.id in seen:
            raise DataError(f"{run.path}: id {rollout.id!r} stands twice in the run")
        seen.add(rollout.id)
        out.append(rollout)
    return out


def _dataset(options: ProbeOptions, run: Run, frame: CoordFrame) -> Dataset | None:
    """The data of the options, else of the run (where it is still there), else of the defaults."""
    stored = run.dataset_path
    if options.data is not None:
        path, root = options.data, options.image_root
    elif stored is not None:
        if not stored.is_file():
            return None
        path, root = stored, options.image_root or run.image_root
        if root is not None and not root.is_dir() and options.image_root is None:
            root = None
    elif options.default_data is not None:
        path, root = options.default_data, options.image_root or options.default_image_root
    else:
        return None
    return open_dataset(path, image_root=root, frame=frame)


def _items(
    options: ProbeOptions, run: Run, rollouts: Sequence[Rollout], dataset: Dataset | None
) -> tuple[list[ProbeItem], list[str]]:
    samples = {} if dataset is None else {sample.id: sample for sample in dataset}
    root = options.image_root or run.image_root
    missing = [rollout.id for rollout in rollouts if rollout.id not in samples]
    if missing and root is None:
        raise DataError(_no_images(run, dataset, missing))
    items, changed = [], []
    for rollout in rollouts:
        sample = samples.get(rollout.id)
        if sample is None:
            assert root is not None
            items.append(ProbeItem(_sample_of_line(rollout, root, run), rollout))
            continue
        if (sample.width, sample.height) != (rollout.width, rollout.height):
            assert dataset is not None
            raise DataError(
                f"{run.path}: id {rollout.id!r} is {rollout.width}x{rollout.height} in the run and "
                f"{sample.width}x{sample.height} in {dataset.path}: another dataset?"
            )
        if rollout.gt and _rounded(rollout.gt) != _rounded(sample.objects):
            changed.append(rollout.id)
        items.append(ProbeItem(sample, replace(rollout, gt=sample.objects)))
    notes = []
    if changed:
        notes.append(
            f"{len(changed)} images have another ground truth in the dataset than in the run "
            f"({shown_ids(changed)}): the dataset's is used"
        )
    return items, notes


def _no_images(run: Run, dataset: Dataset | None, missing: Sequence[str]) -> str:
    if dataset is not None:
        return (
            f"{dataset.path}: lacks {len(missing)} of the run's ids ({shown_ids(missing)}); "
            "give the dataset of the run as --data"
        )
    stored = run.dataset_path
    if stored is not None:
        return (
            f"{run.path}: its dataset {stored} is not there any more; "
            "give --data FILE (and --image-root DIR)"
        )
    return f"{run.path}: says nothing of its images; give --data FILE (and --image-root DIR)"


def _sample_of_line(rollout: Rollout, root: Path, run: Run) -> Sample:
    if not isinstance(rollout.image, str):
        raise DataError(
            f"{run.path}: id {rollout.id!r} names no image; give the dataset as --data FILE"
        )
    return Sample(
        id=rollout.id,
        image=rollout.image,
        width=rollout.width,
        height=rollout.height,
        objects=rollout.gt,
        image_path=resolve_image(root, rollout.image),
        image_id=rollout.image_id,
    )


def _rounded(objects: Sequence[GroundTruthObject]) -> list[tuple[object, ...]]:
    return sorted(
        (obj.desc, obj.kind, tuple(round(value, 4) for value in obj.values_px), obj.iscrowd)
        for obj in objects
    )


def _require_images(items: Sequence[ProbeItem], run: Run, dataset: Dataset | None) -> None:
    """Refuse a wrong image root at once; single missing images are errors of their texts."""
    paths = [item.sample.image_path for item in items]
    if any(path is not None and is_file(path) for path in paths):
        return
    first = items[0].sample
    hint = None if dataset is None else image_root_hint(dataset.image_root, first.image)
    raise DataError(
        f"{run.path}: none of its images is there (first: {first.image_path}); "
        + (hint or "set --image-root to the folder that the image paths start from")
    )


__all__ = ["ProbeInputs", "ProbeItem", "read_inputs"]
