"""An evaluation handed to another process: the training goes on, and reads what came of it later.

At most one runs at a time. The checkpoint is a folder of its own, so that no limit on the number of
the trainer's checkpoints takes it away while it is read. Where the training ends first, checkpoint
and job stay for the resumed training to take up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.data.prompts import Prompt
from coordeval.errors import ConfigError
from coordeval.jsonl import load_document
from coordeval.training.rollout_eval.runs import step_name
from coordeval.training.rollout_eval.worker import write_job

if TYPE_CHECKING:
    from coordeval.training.rollout_eval.plan import EvalData

# What launchers tell the processes of a training: the evaluation is none of them.
_LAUNCHED = (
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "ROLE_NAME",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "WORLD_SIZE",
)
_LAUNCHED_PREFIXES = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_")
LAST_LINES = 600  # characters of the log that a failure is told with


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One evaluation under way elsewhere."""

    step: int
    epoch: float | None
    checkpoint: Path
    out: Path
    log: Path
    process: subprocess.Popen[bytes]
    started: float

    def failure(self) -> str | None:
        """Why the process failed: the end of its log; None where it did its work."""
        code = self.process.returncode
        if code == 0:
            return None
        try:
            said = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            said = ""
        return f"exit code {code}: {' '.join(said.split())[-LAST_LINES:]}"


class ProcessEvaluator:
    """Starts evaluations in processes, one after the other."""

    def __init__(self, data: EvalData, folder: Path) -> None:
        if data.path is None:
            raise ConfigError("rollout_eval: another process needs the data as a file")
        self._data, self._folder = data, folder
        self._running: Handed | None = None

    def checkpoint_of(self, step: int) -> Path:
        """Where the weights of a step are to be written before `start`."""
        return self._folder / "eval" / f".{step_name(step)}.checkpoint"

    def start(self, step: int, epoch: float | None) -> None:
        """Evaluate the checkpoint of a step; the one before must have ended."""
        assert self._running is None
        out = self._folder / "eval" / step_name(step)
        job = out.with_name(f".{out.name}.job.json")
        log = out.with_name(f"{out.name}.log")
        write_job(
            job,
            data=self._described(),
            checkpoint=str(self.checkpoint_of(step).resolve()),
            out=str(out.resolve()),
            engine="auto",
            epoch=epoch,
        )
        with log.open("wb") as handle:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    sys.executable,
                    "-m",
                    "coordeval.training.rollout_eval.worker",
                    str(job.resolve()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                env=clean_environment(dict(os.environ)),
            )
        self._running = Handed(
            step=step,
            epoch=epoch,
            checkpoint=self.checkpoint_of(step),
            out=out,
            log=log,
            process=process,
            started=time.perf_counter(),
        )

    def take_up(self, step: int) -> int | None:
        """Start again what a training left under way, and say of which step; None for nothing.

        `step` is where the training goes on from. What is of later steps, or of an earlier
        training, is removed.
        """
        taken = None
        for job in sorted((self._folder / "eval").glob(".step_*.job.json")):
            left = int(job.name.removeprefix(".step_").removesuffix(".job.json"))
            raw = load_document(job)
            if taken is None and 0 < step >= left and self.checkpoint_of(left).is_dir():
                self.start(left, raw.get("epoch"))
                taken = left
                continue
            job.unlink()
            shutil.rmtree(self.checkpoint_of(left), ignore_errors=True)
        return taken

    def _described(self) -> dict[str, Any]:
        data, prompt = self._data, self._data.prompt
        assert data.path is not None
        root = None if data.image_root is None else str(Path(data.image_root).resolve())
        return {
            "data": str(data.path.resolve()),
            "image_root": root,
            "limit": data.limit,
            "prompt": asdict(prompt) if isinstance(prompt, Prompt) else prompt,
            "pixels": data.pixels,
            "dialect": data.dialect,
            "field_order": data.field_order,
            "frame": data.frame,
            "batch_size": data.batch_size,
            "decode": dict(data.decode),
        }

    def finished(self, *, wait: bool = False) -> Handed | None:
        """The evaluation that has ended since the last call, if any; `wait` for one under way."""
        running = self._running
        if running is None or (not wait and running.process.poll() is None):
            return None
        running.process.wait()
        self._running = None
        (running.out.with_name(f".{running.out.name}.job.json")).unlink(missing_ok=True)
        return running

    def stop(self) -> None:
        """Let an evaluation that is under way save what it has, and end, for `take_up`."""
        if self._running is not None:
            self._running.process.terminate()
            self._running.process.wait()
            self._running = None


def clean_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment without what makes a process one of a distributed training."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _LAUNCHED and not name.startswith(_LAUNCHED_PREFIXES)
    }


__all__ = ["Handed", "ProcessEvaluator", "clean_environment"]
