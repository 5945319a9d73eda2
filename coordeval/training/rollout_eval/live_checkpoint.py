"""The weights in memory as a checkpoint folder that `coordeval rollout` takes."""

from __future__ import annotations

import copy
import shutil
from typing import TYPE_CHECKING, Any

from coordeval.training.rollout_eval.live_model import is_peft, unwrapped
from coordeval.training.rollout_eval.sharded import gathered_state, sharding_of

if TYPE_CHECKING:
    from pathlib import Path

    from coordeval.engines.hf_loading import Reader


def save_live(model: Any, reader: Reader, folder: Path, *, trainer: Any, main: bool) -> None:
    """Write a whole checkpoint: weights, configuration, tokenizer, image processor.

    Called on all processes; `main` writes. Sharded weights are gathered, adapters are merged into
    a copy of the model. What stood in the folder is replaced. OSError as it comes.
    """
    state = None
    if sharding_of(model) != "none":
        state = gathered_state(model, trainer)
    if not main:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole = merged(model)
    whole.save_pretrained(folder, state_dict=state)
    write_reader(reader, folder)


def merged(model: Any) -> Any:
    """The model without wrappers; with adapters, a copy that they are merged into.

    The copy is for its weights alone: it needs as much memory again.
    """
    inner = unwrapped(model)
    if not is_peft(inner):
        return inner
    return copy.deepcopy(inner).merge_and_unload()


def write_reader(reader: Reader, folder: Path) -> None:
    """Write tokenizer and image processor where the folder has none yet."""
    if not (folder / "tokenizer_config.json").exists():
        reader.tokenizer.save_pretrained(folder)
    if not any((folder / name).exists() for name in _PROCESSORS):
        reader.image_processor.save_pretrained(folder)


_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def save_best(model: Any, reader: Reader, folder: Path, *, trainer: Any, main: bool) -> None:
    """Write the best weights as the trainer writes its own checkpoints, on all processes.

    With adapters these are the adapters alone; without a trainer it is a whole checkpoint.
    """
    if main:
        shutil.rmtree(folder, ignore_errors=True)
    if trainer is not None:
        trainer.save_model(str(folder), _internal_call=True)
    elif main:
        unwrapped(model).save_pretrained(folder)
    if main:
        write_reader(reader, folder)


__all__ = ["merged", "save_best", "save_live", "write_reader"]
