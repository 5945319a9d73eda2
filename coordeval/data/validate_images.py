"""Whether the images of a dataset are there, decode, and have the sizes that it says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple

from coordeval.data.contract import Fault
from coordeval.data.images import load_upright_rgb
from coordeval.errors import DataError
from coordeval.foreign_paths import is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.data.problems import ProblemLog

ImageCheck = Literal["none", "exists", "open"]
_BATCH = 1024


class ImageJob(NamedTuple):
    """One image to look at; `width` and `height` are None where the dataset states none."""

    place: str
    path: Path
    width: int | None
    height: int | None


def check_images(
    jobs: Sequence[ImageJob],
    log: ProblemLog,
    *,
    check: ImageCheck,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Look at images in parallel and log what is wrong, in the order of the jobs.

    `exists` asks only for the file, `open` decodes every pixel and compares the size after EXIF
    orientation. `on_progress` is told (done, total) after every image.
    """
    look = {"none": None, "exists": _exists, "open": _open}[check]
    if look is None:
        return
    done = 0
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for start in range(0, len(jobs), _BATCH):
            batch = jobs[start : start + _BATCH]
            for job, fault in zip(batch, pool.map(look, batch), strict=True):
                done += 1
                if fault is not None:
                    log.add(fault.kind, job.place, fault.message)
                if on_progress is not None:
                    on_progress(done, len(jobs))


def _exists(job: ImageJob) -> Fault | None:
    if is_file(job.path):
        return None
    return Fault("missing_image", f"there is no image file {job.path}")


def _open(job: ImageJob) -> Fault | None:
    missing = _exists(job)
    if missing is not None:
        return missing
    try:
        width, height = load_upright_rgb(job.path).size
    except DataError as error:
        return Fault("unreadable_image", str(error))
    if job.width is None or job.height is None or (width, height) == (job.width, job.height):
        return None
    text = f"{job.path} is {width}x{height}, the dataset says {job.width}x{job.height}"
    if (height, width) == (job.width, job.height):
        text += " (swapped: sizes are those of the image after its EXIF orientation)"
    return Fault("size_mismatch", text)


__all__ = ["ImageCheck", "ImageJob", "check_images"]
