"""Options of `coordeval report` that are about training logs, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from coordeval.dynamics.analysis import Dynamics

LogsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--logs",
        metavar="LOG",
        help="Training logs to show, as for coordeval dynamics; repeatable. No RUN is needed then.",
    ),
]
CurveOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="With --logs: draw this key; repeatable.  [default: up to 8 that move]",
    ),
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="WxH", help="With --logs: show errors in bins as pixels of such an image."
    ),
]
PatchOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With --image-size: side of a patch in pixels.  [default: 32]"
    ),
]
AccumulationOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="With --logs: micro-batches per optimizer step, where logs don't say it.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What was asked of training logs; `logs` is empty where none are to be shown."""

    logs: tuple[str, ...]
    curves: tuple[str, ...]
    image_size: str | None
    patch: int | None
    frame: str | None
    accumulation: int | None

    def check(self, *, num_runs: int) -> None:
        """Refuse options without what they are about; ConfigError."""
        from coordeval.errors import ConfigError

        if not self.logs and not num_runs:
            raise ConfigError("nothing to report: name a RUN, or training logs with --logs LOG")
        if self.image_size is None and self.patch is not None:
            raise ConfigError("--patch needs --image-size WxH")
        given = {
            "--curve": self.curves or None,
            "--image-size": self.image_size,
            "--accumulation": self.accumulation,
        }
        for name, value in given.items():
            if value is not None and not self.logs:
                raise ConfigError(f"{name} needs --logs LOG")

    def read(self) -> Dynamics | None:
        """Read and analyse the logs; None without any.

        Raises what reading raises: DataError, ConfigError, MissingExtraError.
        """
        from coordeval.dynamics.analysis import analyse
        from coordeval.dynamics.discover import read_logs
        from coordeval.dynamics.units import parse_image_size

        if not self.logs:
            return None
        scale = None
        if self.image_size is not None:
            scale = parse_image_size(self.image_size, patch=self.patch, frame=self.frame)
        return analyse(read_logs(self.logs), scale=scale, accumulation=self.accumulation)


__all__ = [
    "AccumulationOption",
    "CurveOption",
    "ImageSizeOption",
    "LogsOption",
    "PatchOption",
    "TrainingOptions",
]
