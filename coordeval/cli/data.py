"""`coordeval data convert | validate | stats`: datasets before a model sees them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from coordeval.data.dataset import Dataset

app = typer.Typer(
    help="Convert, validate and describe datasets (JSONL or COCO).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class To(StrEnum):
    """Forms that `convert` writes."""

    pixels = "pixels"
    bins = "bins"
    tokens = "tokens"
    coco = "coco"


class RoundingName(StrEnum):
    """How pixels become bins."""

    nearest = "nearest"
    outward = "outward"


class Geometry(StrEnum):
    """What is taken from a COCO annotation."""

    bbox = "bbox"
    poly = "poly"


class Images(StrEnum):
    """How closely `validate` looks at image files."""

    none = "none"
    exists = "exists"
    open = "open"


class FieldOrderName(StrEnum):
    """Which field of a record is written first."""

    desc_first = "desc_first"
    geometry_first = "geometry_first"


class OrderName(StrEnum):
    """In which order objects are written."""

    sorted = "sorted"
    random = "random"
    as_is = "as_is"


ImageRootOption = Annotated[
    Path | None,
    typer.Option(
        "--image-root", help="Folder of the images.  [default: the dataset's folder]", metavar="DIR"
    ),
]
CanvasOption = Annotated[
    str | None,
    typer.Option(
        "--canvas", metavar="WxH", help="COCO: size of images that state none, say 640x640."
    ),
]
GeometryOption = Annotated[
    Geometry, typer.Option("--geometry", help="COCO: boxes, or polygons where there is one part.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
FrameOption = Annotated[
    str, typer.Option("--frame", metavar="NAME", help="Coordinate frame: what a bin means.")
]
DataArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DATA]",
        help="JSONL or COCO file, also .gz.  [default: data of coordeval.toml]",
        show_default=False,
    ),
]


@app.command(short_help="Write a dataset in another form.")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="JSONL or COCO file, also .gz.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; .gz compresses.")],
    to: Annotated[To, typer.Option("--to", help="Form to write.")] = To.pixels,
    rounding: Annotated[
        RoundingName,
        typer.Option("--rounding", help="nearest bin, or outward: boxes never shrink."),
    ] = RoundingName.nearest,
    frame: FrameOption = "coordexp",
    from_frame: Annotated[
        str, typer.Option("--from-frame", metavar="NAME", help="Frame of bins that name none.")
    ] = "coordexp",
    geometry: GeometryOption = Geometry.bbox,
    canvas: CanvasOption = None,
    image_root: ImageRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset in another form: pixels, bins, coordinate tokens, or COCO.

    The output appears whole or not at all. Coordinates beyond the grid are clamped and counted;
    boxes that would collapse are widened by one bin and counted.

    For example:

      coordeval data convert instances_val2017.json val.jsonl --geometry poly

      coordeval data convert val.jsonl val.bins.jsonl --to bins --rounding outward
    """
    from coordeval.coords import frame_named
    from coordeval.data.convert import convert_dataset

    dataset = _open(source, image_root, from_frame, geometry.value, canvas)
    counts = convert_dataset(
        dataset, out, to=to.value, rounding=rounding.value, frame=frame_named(frame)
    )
    if as_json:
        _print_json({"in": str(source), "out": str(out), "to": to.value, **counts.to_json()})
        return
    from coordeval.cli.data_tables import print_conversion

    print_conversion(dataset, out, counts)


@app.command(short_help="Find every problem, counted by kind.")
def validate(
    data: DataArgument = None,
    images: Annotated[
        Images,
        typer.Option("--images", help="Look at no image file, ask if it is there, or decode it."),
    ] = Images.exists,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Threads that open images.  [default: CPUs]"),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", min=0, help="Problems of each kind to print.")
    ] = 10,
    errors_only: Annotated[
        bool, typer.Option("--errors-only", help="Warnings do not count for the exit code.")
    ] = False,
    frame: FrameOption = "coordexp",
    geometry: GeometryOption = Geometry.poly,
    canvas: CanvasOption = None,
    image_root: ImageRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find every problem of a dataset, and count them by kind.

    Errors stop commands that read the dataset, or leave an image unshown; warnings (boxes without
    area, repeated objects, coordinates outside the image) do not, but can bend the numbers.
    Ends with exit code 1 where anything was found.

    For example:

      coordeval data validate train.jsonl --image-root images --images open --workers 8

      coordeval data validate instances_val2017.json --image-root val2017 --errors-only
    """
    from coordeval.cli.data_tables import image_progress, print_validation
    from coordeval.data.dataset import parse_canvas
    from coordeval.data.validate import validate_dataset

    data, image_root = _data_or_default(data, image_root)
    with image_progress() as on_progress:
        report = validate_dataset(
            data,
            image_root=image_root,
            frame=frame,
            images=images.value,
            workers=workers,
            show=show,
            geometry=geometry.value,
            canvas=parse_canvas(canvas) if canvas is not None else None,
            on_progress=on_progress,
        )
    failed = report.count("error") > 0 or (report.count("warning") > 0 and not errors_only)
    if as_json:
        _print_json({"ok": not failed, **report.to_json()})
    else:
        print_validation(report)
    if failed:
        raise typer.Exit(1)


@app.command(short_help="Objects, sizes, classes, tokens needed, ceiling.")
def stats(
    data: DataArgument = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer", metavar="DIR", help="Checkpoint whose tokenizer counts (extra hf)."
        ),
    ] = None,
    dialect: Annotated[
        str, typer.Option("--dialect", metavar="NAME", help="How the model writes objects.")
    ] = "coordjson",
    field_order: Annotated[
        FieldOrderName, typer.Option("--field-order", help="Field that a record begins with.")
    ] = FieldOrderName.desc_first,
    order: Annotated[
        OrderName, typer.Option("--order", help="Order of the objects in the answer.")
    ] = OrderName.sorted,
    ceiling: Annotated[
        bool, typer.Option("--ceiling/--no-ceiling", help="Score the bin grid's own loss.")
    ] = True,
    frame: FrameOption = "coordexp",
    geometry: GeometryOption = Geometry.bbox,
    canvas: CanvasOption = None,
    image_root: ImageRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a dataset: objects, sizes, classes, repeats, tokens needed, ceiling of the grid.

    The token budget is what the ground truth takes in the model's own tokens, and so the least
    that --max-new-tokens must allow; without --tokenizer it is estimated. The ceiling is the AP of
    the ground truth rounded to bins: what a model without any mistake would score.

    For example:

      coordeval data stats val.jsonl --tokenizer ckpt-2400

      coordeval data stats instances_val2017.json --frame unit-1000 --json
    """
    from coordeval.coords import frame_named
    from coordeval.data.ceiling import grid_ceiling
    from coordeval.data.stats import dataset_stats
    from coordeval.data.token_budget import token_budget
    from coordeval.parsers.dialects import dialect_named

    data, image_root = _data_or_default(data, image_root)
    coord_frame = frame_named(frame)
    written = dialect_named(dialect, field_order=field_order.value)
    loaded = _load_tokenizer(tokenizer) if tokenizer is not None else None
    dataset = _open(data, image_root, frame, geometry.value, canvas)
    samples = list(dataset.iter_samples())
    described = dataset_stats(samples, dataset.categories)
    budget = token_budget(samples, loaded, dialect=written, frame=coord_frame, order=order.value)
    grid = grid_ceiling(samples, coord_frame) if ceiling else None
    if as_json:
        document = {"path": str(data), "format": dataset.format, "sha256": dataset.sha256}
        tail: dict[str, Any] = {
            **described.to_json(),
            "token_budget": {"dialect": dialect, "tokenizer": tokenizer, **budget.to_json()},
            "grid_ceiling": {"frame": frame, **grid.to_json()} if grid is not None else None,
        }
        _print_json(document | tail)
        return
    from coordeval.cli.data_tables import print_stats

    print_stats(dataset, described, budget, grid)


def _open(
    path: Path, image_root: Path | None, frame: str, geometry: str, canvas: str | None
) -> Dataset:
    from coordeval.data.dataset import open_dataset, parse_canvas

    return open_dataset(
        path,
        image_root=image_root,
        frame=frame,
        need_images=False,
        geometry="poly" if geometry == "poly" else "bbox",
        canvas=parse_canvas(canvas) if canvas is not None else None,
    )


def _data_or_default(data: Path | None, image_root: Path | None) -> tuple[Path, Path | None]:
    """The dataset given, else that of coordeval.toml with its image root."""
    if data is not None:
        return data, image_root
    from coordeval.config import load_defaults
    from coordeval.errors import ConfigError

    defaults = load_defaults(Path.cwd())
    if defaults.data is None:
        raise ConfigError(
            'no dataset: name one, or write `data = "val.jsonl"` into coordeval.toml here'
        )
    return defaults.data, image_root or defaults.image_root


def _load_tokenizer(name: str) -> Any:
    """A checkpoint's tokenizer; code that comes with the checkpoint is not run."""
    from coordeval.errors import CheckpointError, MissingExtraError

    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtraError("data stats --tokenizer", "hf") from None
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name}: no tokenizer can be loaded: {reason}") from None


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=2))


__all__ = ["app"]
