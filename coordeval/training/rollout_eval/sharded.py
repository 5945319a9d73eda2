"""Models whose weights lie in parts on several processes: telling them, and gathering them.

Such a model is not rolled out in process (every token would gather all weights again): its weights
are gathered into a checkpoint folder, which is handed to another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.live_model import is_peft, unwrapped

if TYPE_CHECKING:
    from torch import Tensor, nn

Sharding = Literal["none", "fsdp", "zero3"]


def sharding_of(model: nn.Module) -> Sharding:
    """How the weights of a model are spread; `none` where every process has them whole.

    FSDP is told by its wrapper (version 1) or by parameters that are sharded DTensors (version 2),
    DeepSpeed's ZeRO-3 by the ids that it gives to the parameters that it partitions.
    """
    if _is_fsdp1(model):
        return "fsdp"
    for parameter in model.parameters():
        if hasattr(parameter, "ds_id"):
            return "zero3"
        if _is_sharded(parameter):
            return "fsdp"
    return "none"


def _is_fsdp1(model: nn.Module) -> bool:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules())


def _summoned(model: nn.Module) -> dict[str, Tensor]:
    """The same for FSDP's version 1 on the CPU, where torch 2.13 crashes on its full state."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return {
            name.replace("_fsdp_wrapped_module.", ""): parameter.detach().clone()
            for name, parameter in model.named_parameters()
        }


def _is_sharded(parameter: Any) -> bool:
    placements = getattr(parameter, "placements", None)
    return placements is not None and any(item.is_shard() for item in placements)


def check_gatherable(model: nn.Module, trainer: Any) -> None:
    """Refuse at the start what could not be gathered later."""
    sharding = sharding_of(model)
    if sharding == "none":
        return
    if is_peft(unwrapped(model)):
        raise ConfigError(
            f"rollout_eval: adapters under {sharding} cannot be gathered into one checkpoint; "
            "train without it, or evaluate the saved checkpoints with coordeval rollout --adapter"
        )
    if sharding == "zero3" and trainer is None:
        raise ConfigError(
            "rollout_eval: under ZeRO-3 the callback needs the trainer: give trainer=..."
        )


def gathered_state(model: nn.Module, trainer: Any) -> dict[str, Tensor]:
    """The whole weights on the CPU of process 0, nothing elsewhere; called on all processes.

    Names are those of the model without its wrappers.
    """
    if sharding_of(model) == "zero3":
        held = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        return {} if held is None else dict(held)
    if _is_fsdp1(model) and next(model.parameters()).device.type == "cpu":
        return _summoned(model)
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: Any = get_model_state_dict(model, options=options)
    return dict(state)


__all__ = ["Sharding", "check_gatherable", "gathered_state", "sharding_of"]
