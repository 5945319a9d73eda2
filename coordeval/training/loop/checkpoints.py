"""Checkpoints of a training: which are whole, which is the last, and writing without leftovers."""

from __future__ import annotations

import re
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

from coordeval.errors import CheckpointError, RunNotWritten
from coordeval.jsonl import load_document
from coordeval.training.loop.lost_worker import lost_worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")
STATE_NAME = "trainer_state.json"
_TORCH_FILES = ("optimizer.pt", "scheduler.pt")
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_INDEX = "model.safetensors.index.json"
# What FSDP and DeepSpeed write instead of `optimizer.pt` (and, sharded, of the weights).
_SHARDED = ("optimizer.bin", "optimizer_[0-9]*", "pytorch_model_fsdp*", "global_step[0-9]*")


class CheckpointNotSaved(RunNotWritten):
    """A checkpoint could not be written (a full disk, say); earlier ones are as they were."""


def step_of(folder: Path) -> int | None:
    """The step of `checkpoint-N`; None for any other name."""
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def why_incomplete(folder: Path, *, processes: int = 1, any_rank: bool = False) -> str | None:
    """What a checkpoint lacks for an exact resume; None for a whole one.

    Files are opened as far as to see that they are not cut: headers and sizes of safetensors, the
    directory at the end of torch's files, the whole of the trainer's state. With several processes
    each needs its random state; with `any_rank` those of any number of processes will do. Of a
    sharded checkpoint the library's own files are not opened: the trainer's state, which is written
    last, vouches for them.
    """
    try:
        state = load_document(folder / STATE_NAME)
    except (OSError, ValueError):
        return f"{STATE_NAME} is missing or cut"
    if not isinstance(state, dict) or state.get("global_step") != step_of(folder):
        return f"{STATE_NAME} is of another step"
    names = ["rng_state.pth"]
    if any_rank:
        names = sorted(path.name for path in folder.glob("rng_state*.pth")) or names
    elif processes > 1:
        names = [f"rng_state_{rank}.pth" for rank in range(processes)]
    sharded = any(True for pattern in _SHARDED for _ in folder.glob(pattern))
    for name in names if sharded else (*_TORCH_FILES, *names):
        if not zipfile.is_zipfile(folder / name):
            return f"{name} is missing or cut"
    return None if sharded else _weights_fault(folder)


def _weights_fault(folder: Path) -> str | None:
    if (folder / _INDEX).is_file():
        try:
            index = load_document(folder / _INDEX)
            names = sorted(set(index["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return f"{_INDEX} is cut"
    else:
        names = [name for name in _WEIGHTS if (folder / name).exists()][:1]
    if not names:
        return "it has no weights"
    for name in names:
        if not _is_whole_safetensors(folder / name):
            return f"{name} is missing or cut"
    return None


def _is_whole_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            return bool(handle.keys())
    except (OSError, SafetensorError):
        return False


def all_checkpoints(folder: Path) -> list[Path]:
    """Folders `checkpoint-N`, whole or not, by step."""
    found = [item for item in folder.glob("checkpoint-*") if item.is_dir()]
    return sorted((item for item in found if step_of(item) is not None), key=_step_key)


def last_complete(
    folder: Path, *, processes: int = 1, notify: Callable[[str], None] = lambda _: None
) -> Path | None:
    """The last whole checkpoint; `notify` hears of those that are passed over, and why."""
    for item in reversed(all_checkpoints(folder)):
        fault = why_incomplete(item, processes=processes)
        if fault is None:
            return item
        notify(f"{item.name} is passed over: {fault}")
    return None


def require_complete(folder: Path, *, processes: int = 1) -> Path:
    """The folder itself; CheckpointError where it is no whole checkpoint."""
    if not folder.is_dir() or step_of(folder) is None:
        raise CheckpointError(f"{folder}: not a checkpoint folder named checkpoint-N")
    fault = why_incomplete(folder, processes=processes)
    if fault is not None:
        raise CheckpointError(f"{folder}: cannot be resumed from: {fault}")
    return folder


def clear_later(folder: Path, step: int) -> list[str]:
    """Make way for the steps beyond `step`, which the training takes anew; what was done.

    Whole checkpoints go to `superseded/`, where nothing looks for them; half-written ones, of any
    step, are removed.
    """
    done = []
    for item in all_checkpoints(folder):
        if (fault := why_incomplete(item, any_rank=True)) is not None:
            shutil.rmtree(item)
            done.append(f"{item.name} removed: {fault}")
        elif _step_key(item) > step:
            aside = folder / "superseded" / item.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            item.rename(aside)
            done.append(f"{item.name} moved to {aside.parent}: beyond step {step}")
    return done


def save_guarded(save: Callable[[], Any], folder: Path, *, removes: bool) -> None:
    """Run `save`; where it fails, take the unfinished folder away and say so.

    Raises CheckpointNotSaved for what the disk or the writers of weights report, LoaderWorkerLost
    where a data-loading process died meanwhile.
    """
    from safetensors import SafetensorError

    try:
        save()
    except (OSError, SafetensorError, RuntimeError) as error:
        if removes:
            shutil.rmtree(folder, ignore_errors=True)
        if (lost := lost_worker(error)) is not None:  # reported wherever the process happens to be
            raise lost from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointNotSaved(
            f"{folder}: the checkpoint cannot be written ({reason}); earlier checkpoints are as "
            "they were: make room and go on with --resume auto"
        ) from None


def _step_key(folder: Path) -> int:
    step = step_of(folder)
    assert step is not None
    return step


__all__ = [
    "CheckpointNotSaved",
    "all_checkpoints",
    "clear_later",
    "last_complete",
    "require_complete",
    "save_guarded",
    "step_of",
    "why_incomplete",
]
