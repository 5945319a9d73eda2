"""The objective inside the model's own forward call, on hidden states instead of logits.

A wrapper such as DistributedDataParallel must see the loss as what the model returned, or its
gradients are not synchronised; and the logits of all positions must never exist. So the head is
handed no position at all in the forward pass (its input is kept instead), and a hook on the model
turns the kept hidden states into the loss before the call returns. Nothing of the model is
changed for longer than one call: evaluation and generation see it as it is.

FSDP's version 2 wraps modules one by one, and gathers and reduces the head's weight around the
head's own call; where embedding and head are tied it loses the gradient of a head that is called
again after that. There the loss is what the head itself returns.

Shapes: B rows, L columns, N taught positions, H hidden width.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.training.data.collator import model_inputs
from coordeval.training.data.positions import shifted
from coordeval.training.loop.channel import Computed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from coordeval.training.data.positions import Shifted
    from coordeval.training.losses.chunked_head import Observer
    from coordeval.training.losses.objective import Stage1Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The taught positions of one pass, for observers: hidden states with their graph.

    `objective` is what is computed from them, divided by `denominators` (under its own terms'
    names); `at` is what the channel puts before these names.
    """

    hidden_NH: Tensor
    places: Shifted
    head: Any
    denominators: Mapping[str, float]
    objective: Stage1Objective
    at: str = ""


class ObjectiveForward:
    """Runs a model on a batch and returns the objective's loss.

    `model` is the module that is trained, PEFT's wrapper included, and unwrapped of anything that
    distributes it; `autocast` makes the context in which the head is multiplied.
    """

    def __init__(
        self,
        model: Any,
        objective: Stage1Objective,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._model, self._objective, self._autocast = model, objective, autocast

    def __call__(
        self,
        wrapped: Callable[..., Any],
        batch: Mapping[str, Any],
        denominators: Mapping[str, float],
        *,
        observe: Observer | None = None,
        inspect: Callable[[Taught], None] | None = None,
        at: str = "",
    ) -> Computed:
        """Loss and terms of one batch on its device, under the objective's names.

        `wrapped` is the model as it is called, whatever it is wrapped in. `observe` sees the logits
        in passing (see `Stage1Objective.compute`), `inspect` the hidden states, and hears `at`. A
        batch that teaches nothing gives a loss of 0 that is part of the graph.
        """
        kept: list[Tensor] = []
        result: list[Computed] = []
        head = self._head()

        def compute(hidden_BLH: Tensor, head: Any) -> Tensor:
            computed = self._compute(hidden_BLH, head, batch, denominators, observe, inspect, at)
            result.append(computed)
            return computed.loss

        def finish(_module: nn.Module, _args: Any, output: Any) -> dict[str, Tensor]:
            return {"loss": output["logits"] if result else compute(only(kept), head)}

        inside = answering(head, compute) if is_fully_sharded(head) else headless(head, kept)
        with self._autocast(), inside, hooked(self._model, finish):
            output = wrapped(**model_inputs(batch))
        # The loss of the output, not ours: a wrapper may have put a node of its own behind it.
        computed: Computed = only(result)
        return computed._replace(loss=_exact(output["loss"], computed.loss))

    def _head(self) -> Any:
        return self._model.get_output_embeddings()

    def _compute(
        self,
        hidden_BLH: Tensor,
        head: Any,
        batch: Mapping[str, Any],
        denominators: Mapping[str, float],
        observe: Observer | None,
        inspect: Callable[[Taught], None] | None,
        at: str,
    ) -> Computed:
        places = shifted(batch)
        hidden_NH = hidden_BLH.flatten(0, 1).index_select(0, places.states_N)
        if inspect is not None:
            inspect(
                Taught(
                    hidden_NH=hidden_NH,
                    places=places,
                    head=head,
                    denominators=denominators,
                    objective=self._objective,
                    at=at,
                )
            )
        loss, terms = self._objective.compute(
            hidden_NH,
            head,
            places.labels_N,
            denominators,
            **term_inputs(places),
            observe=observe,
        )
        return Computed(loss, terms, {})


def term_inputs(places: Shifted) -> dict[str, Any]:
    """What `Stage1Objective.compute` takes of a batch besides its labels."""
    return {
        "box_slots_M4": places.boxes_M4,
        "text_weights_N": places.weights_N,
        "unlikely_U2": places.unlikely_U2,
    }


@contextmanager
def headless(head: nn.Module, kept: list[Tensor]) -> Iterator[None]:
    """Keep what the head is given on its first call, and give it no position instead."""

    def keep(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        handle.remove()
        kept.append(args[0])
        return (args[0][:, :0], *args[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def answering(head: nn.Module, answer: Callable[[Tensor, Any], Tensor]) -> Iterator[None]:
    """Let the head's next call return `answer` to its input and its own forward, without hooks."""
    own = head.forward
    had = vars(head).get("forward")

    def once(hidden_BLH: Tensor) -> Tensor:
        restore()
        return answer(hidden_BLH, own)

    def restore() -> None:
        if had is None:
            vars(head).pop("forward", None)
        else:
            head.forward = had

    head.forward = once
    try:
        yield
    finally:
        restore()


@contextmanager
def hooked(model: nn.Module, finish: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    """Let `finish` replace what the model's next call returns; it may call the model itself."""

    def once(module: nn.Module, args: Any, output: Any) -> Any:
        handle.remove()
        return finish(module, args, output)

    handle = model.register_forward_hook(once)
    try:
        yield
    finally:
        handle.remove()


def is_fully_sharded(head: nn.Module) -> bool:
    """Whether FSDP's version 2 has made the head, alone or with others, a unit of its own."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(head, FSDPModule)


def _exact(loss: Tensor, computed: Tensor) -> Tensor:
    """The loss with its graph, and the value that it had before a wrapper rounded its output."""
    if loss.dtype == computed.dtype:
        return loss
    return computed.detach() + (loss - loss.detach()).to(computed.dtype)


def only(items: list[Any]) -> Any:
    """The one thing that a forward pass must have left; RuntimeError where it did not."""
    if len(items) != 1:
        raise RuntimeError(
            f"the model called its head {len(items)} times in one forward pass instead of once"
        )
    return items[0]


__all__ = [
    "ObjectiveForward",
    "Taught",
    "answering",
    "headless",
    "hooked",
    "is_fully_sharded",
    "only",
    "term_inputs",
]
