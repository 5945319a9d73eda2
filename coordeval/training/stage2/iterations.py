"""Several forward passes inside one call of the model, each reading its own last coordinates.

Iteration 0 is the ordinary, teacher-forced call. A hook on the model then calls it again on the
same inputs, masks and positions included, before the call returns (a wrapper such as
DistributedDataParallel sees one forward pass and one loss). In each later iteration the embedding
of every taught coordinate token, at input position p, is the context made from the logits at
p - 1 of the iteration before. Images are encoded once: later iterations are handed the features,
with their graph, that iteration 0 computed. Only the head's coordinate columns are multiplied for
a context, at coordinate slots alone.

Shapes: B rows, L columns, N taught positions, C coordinate slots among them, K bins, H hidden
width, V vocabulary.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from coordeval.training.data.collator import model_inputs
from coordeval.training.data.positions import shifted
from coordeval.training.loop.forward import headless, hooked, only
from coordeval.training.losses.head import linear_head
from coordeval.training.losses.term import LossTerm
from coordeval.training.stage2.context import context_embeddings, off_manifold
from coordeval.training.stage2.gumbel import gumbel_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from coordeval.training.data.positions import Shifted
    from coordeval.training.stage2.config import ChannelAConfig


class Passes(NamedTuple):
    """What the iterations leave: hidden states (N, H) that predict the taught tokens.

    `first_NH` are iteration 0's, `last_NH` the last one's (the same tensor where there is one).
    `off_manifold` sums and counts the contexts' distances to the nearest coordinate embedding.
    """

    places: Shifted
    first_NH: Tensor
    last_NH: Tensor
    off_manifold: LossTerm


class _Slots(NamedTuple):
    """C coordinate slots: which of the N positions predict them, where they stand in the input.

    `inputs_C` are flat positions (row * L + column); `samples` ids with their number of slots.
    """

    rows_C: Tensor
    inputs_C: Tensor
    samples: list[tuple[str, int]]


class ContextIterations:
    """Runs `config.iterations` passes of a model over one batch.

    `model` is the module that is trained, PEFT's wrapper included, and unwrapped of anything that
    distributes it; `autocast` the context of the trainer's mixed precision. `seed` and `step()`,
    the optimizer step, seed Gumbel noise.

    With `grad_mode` `unroll` gradients flow through the contexts as these allow it, so that all
    iterations keep their graphs; where nothing flows (`em_detach`, contexts with gradient `stop`)
    iterations between 0 and the last run without one. Iteration 0 always keeps its own.
    """

    def __init__(
        self,
        model: Any,
        coord_ids_K: Tensor,
        config: ChannelAConfig,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
        seed: int = 0,
        step: Callable[[], int] = lambda: 0,
    ) -> None:
        self._model, self._ids_K, self._config = model, coord_ids_K, config
        self._autocast, self._seed, self._step = autocast, seed, step
        self._flows = config.grad_mode == "unroll" and config.context.backward != "stop"

    def __call__(
        self,
        wrapped: Callable[..., Any],
        batch: Mapping[str, Any],
        finish: Callable[[Passes], Tensor],
    ) -> Tensor:
        """The loss that `finish` makes of the passes over a batch on its device.

        `wrapped` is the model as it is called, whatever it is wrapped in; the loss is what it
        returns. A batch without coordinates goes through the same passes, unchanged. Raises
        RuntimeError for a model whose head or embedding is not called once per pass.
        """
        inputs = model_inputs(batch)
        kept: list[Tensor] = []

        def go_on(_module: nn.Module, _args: Any, _output: Any) -> dict[str, Tensor]:
            return {"loss": finish(self._passes(inputs, batch, only(kept)))}

        with ExitStack() as stack:
            stack.enter_context(self._autocast())
            if self._config.iterations > 1:
                stack.enter_context(images_seen_once(self._model))
            stack.enter_context(headless(self._head(), kept))
            stack.enter_context(hooked(self._model, go_on))
            loss: Tensor = wrapped(**inputs)["loss"]
        return loss

    def _passes(
        self, inputs: dict[str, Any], batch: Mapping[str, Any], hidden_BLH: Tensor
    ) -> Passes:
        """All iterations after the first, whose hidden states are given."""
        places = shifted(batch)
        first_NH = last_NH = _taught(hidden_BLH, places)
        del hidden_BLH
        distance = LossTerm(torch.zeros((), device=first_NH.device), 0)
        if self._config.iterations == 1:
            return Passes(places, first_NH, last_NH, distance)
        self._ids_K = self._ids_K.to(first_NH.device)
        slots = coordinate_slots(batch, places, self._ids_K)
        with torch.set_grad_enabled(self._flows and torch.is_grad_enabled()):
            rows_KH = self._model.get_input_embeddings()(self._ids_K)
            head = coordinate_head(self._head(), self._ids_K)
        last = self._config.iterations - 1
        for iteration in range(1, last + 1):
            with torch.set_grad_enabled(self._flows and torch.is_grad_enabled()):
                logits_CK = head(last_NH.index_select(0, slots.rows_C))
                noise_CK = self._noise(slots, logits_CK, iteration)
                context_CH = context_embeddings(
                    logits_CK, rows_KH, self._config.context, noise_CK=noise_CK
                )
            here = off_manifold(context_CH, rows_KH)
            distance = LossTerm(
                distance.loss_sum + here.loss_sum, distance.num_tokens + here.num_tokens
            )
            learns = (self._flows or iteration == last) and torch.is_grad_enabled()
            with torch.set_grad_enabled(learns):
                last_NH = _taught(self._again(inputs, slots, context_CH), places)
        return Passes(places, first_NH, last_NH, distance)

    def _again(self, inputs: dict[str, Any], slots: _Slots, context_CH: Tensor) -> Tensor:
        """Hidden states (B, L, H) of one more pass, with contexts in place of coordinates."""
        kept: list[Tensor] = []
        embedding = self._model.get_input_embeddings()
        with (
            headless(self._head(), kept),
            replaced_embeddings(embedding, inputs["input_ids"], slots.inputs_C, context_CH),
        ):
            self._model(**inputs)
        hidden_BLH: Tensor = only(kept)
        return hidden_BLH

    def _noise(self, slots: _Slots, logits_CK: Tensor, iteration: int) -> Tensor | None:
        if self._config.context.kind != "gumbel_softmax":
            return None
        noise_CK = gumbel_noise(
            slots.samples,
            logits_CK.shape[1],
            seed=self._seed,
            step=self._step(),
            iteration=iteration,
        )
        return noise_CK.to(logits_CK.device)

    def _head(self) -> Any:
        return self._model.get_output_embeddings()


def coordinate_slots(batch: Mapping[str, Any], places: Shifted, coord_ids_K: Tensor) -> _Slots:
    """The taught coordinate tokens of a batch, in reading order; none give empty tensors."""
    rows_C = torch.nonzero(torch.isin(places.labels_N, coord_ids_K))[:, 0]
    # The state at p - 1 predicts the token at p.
    inputs_C = places.states_N[rows_C] + 1
    numbers_C = batch["segment_ids"].flatten()[inputs_C]
    numbers, counts = torch.unique_consecutive(numbers_C, return_counts=True)
    ids = batch["sample_ids"]
    samples = [(ids[n], c) for n, c in zip(numbers.tolist(), counts.tolist(), strict=True)]
    return _Slots(rows_C, inputs_C, samples)


def coordinate_head(head: Any, coord_ids_K: Tensor) -> Callable[[Tensor], Tensor]:
    """From hidden states (C, H) to the bins' logits (C, K), in autocast's type where it is on.

    Of a plain matrix the K rows are taken out, once; any other head is called, and its columns
    are taken.
    """
    linear = linear_head(head)
    if linear is None:
        return lambda hidden_CH: head(hidden_CH).index_select(1, coord_ids_K)
    rows_KH = linear.weight_VH.index_select(0, coord_ids_K)
    bias_K = None if linear.bias_V is None else linear.bias_V.index_select(0, coord_ids_K)

    def logits(hidden_CH: Tensor) -> Tensor:
        # The wider of the two types, as the objective takes it; autocast has its own.
        dtype = torch.promote_types(hidden_CH.dtype, rows_KH.dtype)
        bias = None if bias_K is None else bias_K.to(dtype)
        return functional.linear(hidden_CH.to(dtype), rows_KH.to(dtype), bias)

    return logits


@contextmanager
def images_seen_once(model: nn.Module) -> Iterator[None]:
    """Let the model compute image features once, and take the same ones, graph and all, again."""
    patched: list[nn.Module] = []
    try:
        for module in model.modules():
            if callable(getattr(type(module), "get_image_features", None)):
                patched.append(module)
                _remember(module)
        yield
    finally:
        for module in patched:
            vars(module).pop("get_image_features", None)


def _remember(module: Any) -> None:
    """Let a module's `get_image_features` be computed on its first call alone."""
    compute = module.get_image_features
    features: list[Any] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        if not features:
            features.append(compute(*args, **kwargs))
        return features[0]

    module.get_image_features = remembered


@contextmanager
def replaced_embeddings(
    embedding: nn.Module, input_ids_BL: Tensor, inputs_C: Tensor, context_CH: Tensor
) -> Iterator[None]:
    """Let the embedding of these ids, in its next call, hold contexts at flat positions.

    Raises RuntimeError where the embedding was not called, or with other ids.
    """
    done: list[bool] = []

    def put(_module: nn.Module, args: tuple[Any, ...], output_BLH: Tensor) -> Tensor:
        handle.remove()
        if not args or args[0].shape != input_ids_BL.shape:
            return output_BLH
        done.append(True)
        flat = output_BLH.flatten(0, 1)
        return flat.index_copy(0, inputs_C, context_CH.to(flat.dtype)).view_as(output_BLH)

    handle = embedding.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
    if not done:
        raise RuntimeError("the model did not look its input ids up in its embedding")


def _taught(hidden_BLH: Tensor, places: Shifted) -> Tensor:
    return hidden_BLH.flatten(0, 1).index_select(0, places.states_N)


__all__ = [
    "ContextIterations",
    "Passes",
    "coordinate_head",
    "coordinate_slots",
    "images_seen_once",
    "replaced_embeddings",
]
