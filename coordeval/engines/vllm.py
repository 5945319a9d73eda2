"""The vLLM engine: the same prompts, images and answers as with Hugging Face, in this process."""

from __future__ import annotations

import copy
import gc
import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval import __version__
from coordeval.decoding.token_table import TokenTable
from coordeval.engines.base import error_rollout
from coordeval.engines.control_request import ControlRequest
from coordeval.engines.hf_inputs import apply_pixel_limits, render_prompt
from coordeval.engines.vllm_loading import (
    client_errors,
    engine_arguments,
    start_llm,
    stop_llm,
    vllm_version,
)
from coordeval.engines.vllm_outputs import Judge
from coordeval.engines.vllm_requests import encode_request, sampling_params
from coordeval.engines.vllm_settings import deciding_args
from coordeval.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coordeval.coords import CoordVocabulary
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.decoding.control import ControlPlan
    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.checkpoint import Checkpoint
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.vllm_loading import VllmSetup
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

    Weights = Mapping[str, Any] | Iterable[tuple[str, Any]]

_NAMES = itertools.count()  # one vLLM may serve several engines
WAITING = 4  # requests beyond those that run, so that the next ones are there without a pause


class VllmEngine:
    """Decodes requests with vLLM, as many at once as it runs, and yields each when it is finished.

    vLLM is started when the first rollout is asked for. Images are decoded only shortly before
    their turn, so that memory stays bounded however long the dataset is. Where vLLM fails, the
    requests under way become error lines and it is started anew; where it fails before any answer,
    the rest become error lines too. `notify` hears of such events. `llm` is one that runs already,
    started with the arguments of an engine like this one; it is left running.
    """

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        reader: Reader,
        prompt: Prompt,
        decode: DecodeSettings,
        dialect: Dialect,
        setup: VllmSetup,
        pixels: PixelLimits | None = None,
        llm: Any = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        # The image processor may be shared with training: limits are set on a copy.
        reader = replace(reader, image_processor=copy.deepcopy(reader.image_processor))
        apply_pixel_limits(reader.image_processor, pixels)
        self._checkpoint, self._reader, self._setup = checkpoint, reader, setup
        self._decode, self._dialect = decode, dialect
        self._notify = notify or (lambda _: None)
        self._prompt_ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
        self._control, plan, table = self._compile()
        self._judge = Judge(reader=reader, decode=decode, dialect=dialect, plan=plan, table=table)
        self._arguments = engine_arguments(
            setup,
            checkpoint,
            reader.image_processor,
            controlled=self._control is not None,
            repeated=decode.samples > 1,
        )
        self._llm, self._borrowed = llm, llm is not None
        self._lora: Any = None
        self._renewal: Callable[[], Weights] | None = None

    def _compile(self) -> tuple[str | None, ControlPlan | None, TokenTable | None]:
        """What the processor is told, and the same plan for reading what it did."""
        decode, reader = self._decode, self._reader
        controls = decode.constraint.mode != "none" or decode.guard.mode != "off"
        if not (controls or decode.telemetry):
            return None, None, None
        table = TokenTable.from_tokenizer(
            reader.tokenizer, end_ids=reader.end_ids, vocab_size=reader.vocab_size
        )
        if not controls:
            return None, None, table
        if self._setup.engine_args.get("speculative_config"):
            raise ConfigError(
                "--constrain and --loop-guard cannot be used with vLLM's speculative decoding"
            )
        from coordeval.decoding.control import ControlPlan

        plan = ControlPlan(decode.constraint, decode.guard, self._dialect, table)
        control = ControlRequest(
            constraint=decode.constraint,
            guard=decode.guard,
            dialect=self._dialect,
            end_ids=tuple(sorted(reader.end_ids)),
        )
        return control.to_text(), plan, table

    def describe(self) -> dict[str, Any]:
        """Say what this engine is, as `Engine.describe`."""
        import PIL
        import torch
        import transformers

        setup = self._setup
        identity: dict[str, Any] = {"name": "vllm", "dtype": setup.dtype}
        deciding = deciding_args(setup.engine_args)
        if deciding:
            identity["engine_args"] = deciding
        return {
            "identity": identity,
            "environment": {
                "device": "cpu" if setup.on_cpu else "cuda",
                "tensor_parallel": setup.tensor_parallel,
                "gpu_memory_utilization": setup.gpu_memory_utilization,
                "max_model_len": self._arguments["max_model_len"],
                "max_num_seqs": self._arguments["max_num_seqs"],
                "engine_args": dict(setup.engine_args),
            },
            "versions": {
                "coordeval": __version__,
                "vllm": vllm_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "pillow": PIL.__version__,
            },
        }

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens; None where the tokenizer lacks them."""
        return self._reader.coord_vocabulary()

    def generate(self, requests: Iterable[Request]) -> Iterator[list[Rollout]]:
        """Yield finished rollouts as they finish, in any order; every request exactly once.

        Requests are taken as there is room for them; an iterator that has none for the moment may
        have more later, as long as some are under way.
        """
        waiting = iter(requests)
        running: dict[str, tuple[Request, int]] = {}
        proven, mark = False, time.perf_counter()
        try:
            while True:
                finished = self._top_up(waiting, running)
                if not running and not finished:
                    return
                try:
                    finished += self._step(running)
                    proven = proven or bool(finished)
                except Exception as error:  # noqa: BLE001 - the fence of a rollout: lines, no loss
                    finished += self._give_up(running, error)
                    if not proven:
                        finished += [_failed(request, error) for request in waiting]
                    proven = False
                if finished:
                    now = time.perf_counter()
                    for rollout in finished:
                        rollout.seconds = round((now - mark) / len(finished), 6)
                    mark = now
                    yield finished
        finally:
            if running and self._llm is not None:
                self._llm.llm_engine.abort_request(list(running))

    def _top_up(
        self, waiting: Iterator[Request], running: dict[str, tuple[Request, int]]
    ) -> list[Rollout]:
        """Hand requests over until enough run; those that cannot be made come back as lines."""
        failed: list[Rollout] = []
        most = self._arguments["max_num_seqs"] + WAITING
        while len(running) < most:
            request = next(waiting, None)
            if request is None:
                break
            try:
                encoded = encode_request(request, self._prompt_ids, self._reader)
                name = self._hand_over(request, encoded.prompt)
            except (DataError, ValueError) as error:
                failed.append(error_rollout(request, str(error)))
                continue
            running[name] = request, encoded.prompt_tokens
        return failed

    def _hand_over(self, request: Request, prompt: dict[str, Any]) -> str:
        """Queue one request in vLLM and give the name that it goes by there.

        Raises ValueError where vLLM refuses it (say, a prompt longer than it was started for).
        """
        llm = self.start()
        name = f"coordeval-{next(_NAMES)}"
        params = sampling_params(request, self._decode, self._reader, self._control)
        try:
            llm.llm_engine.add_request(name, prompt, params, lora_request=self._lora)
        except client_errors() as error:
            raise ValueError(f"vLLM refuses the request: {error}") from None
        return name

    def _step(self, running: dict[str, tuple[Request, int]]) -> list[Rollout]:
        """Let all running requests write one more token; those that ended come back."""
        if not running:
            return []
        finished = []
        for output in self._llm.llm_engine.step():
            request, prompt_tokens = running.pop(output.request_id)
            finished.append(self._judge.rollout(request, output, prompt_tokens))
        return finished

    def _give_up(self, running: dict[str, tuple[Request, int]], error: Exception) -> list[Rollout]:
        """Error lines for all that runs, and a stopped vLLM: what state it is in nobody knows."""
        lines = [_failed(request, error) for request, _ in running.values()]
        running.clear()
        self._notify(f"vLLM failed ({type(error).__name__}): {len(lines)} rollouts are error lines")
        self.close()
        return lines

    def start(self) -> Any:
        """The running `vllm.LLM`, started if it does not run yet; anew with its latest weights.

        Raises CheckpointError and ConfigError where it cannot be started.
        """
        if self._llm is None:
            self._llm = start_llm(self._arguments, self._setup, self._checkpoint.source)
            if self._setup.adapter is not None:
                from vllm.lora.request import LoRARequest

                self._lora = LoRARequest("adapter", 1, str(self._setup.adapter))
            if self._renewal is not None:  # the checkpoint's own are of an earlier step
                _reload(self._llm, self._renewal())
        return self._llm

    def refresh_weights(self, weights: Weights | Callable[[], Weights]) -> None:
        """Put new weights into the running engine; names as in the checkpoint's safetensors.

        All that was cached under the old weights (prefixes, images) is dropped. A function that
        gives the weights is asked again where vLLM has to be started anew before the next refresh;
        weights themselves are not kept for that. Raises CheckpointError where the weights do not
        fit; RuntimeError while rollouts are under way.
        """
        llm = self.start()
        if llm.llm_engine.has_unfinished_requests():
            raise RuntimeError("weights cannot change while rollouts are under way")
        self._renewal = weights if callable(weights) else None
        _reload(llm, weights() if callable(weights) else weights)

    def close(self) -> None:
        """Stop vLLM and free its memory; safe to call twice."""
        llm, self._llm, self._lora = self._llm, None, None
        if llm is None or self._borrowed:
            self._borrowed = False
            return
        stop_llm(llm)
        del llm
        gc.collect()


def _reload(llm: Any, weights: Weights) -> None:
    pairs = list(weights.items() if hasattr(weights, "items") else weights)
    try:
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": pairs})
    except (ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"the new weights do not fit: {error}") from None
    llm.reset_prefix_cache()
    llm.llm_engine.reset_mm_cache()
    llm.llm_engine.reset_encoder_cache()


def _failed(request: Request, error: Exception) -> Rollout:
    return error_rollout(request, f"vLLM failed: {type(error).__name__}: {error}")


__all__ = ["VllmEngine"]
