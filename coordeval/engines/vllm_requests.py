"""One request as vLLM takes it: the prompt with its image, and the sampling parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.data.images import load_sample_image
from coordeval.engines.control_request import EXTRA_ARG
from coordeval.engines.image_fit import fit_image, image_token_count
from coordeval.engines.vllm_settings import TOP_LOGPROBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader


class PromptWithImage(NamedTuple):
    """What vLLM is given, and how long the prompt must be once its image token is expanded."""

    prompt: dict[str, Any]
    prompt_tokens: int


def encode_request(request: Request, prompt_ids: Sequence[int], reader: Reader) -> PromptWithImage:
    """Load the image and put it beside the prompt's ids, which hold one image token.

    Raises DataError for an image that cannot be read or has another size than the dataset says,
    and ValueError for one that cannot be cut into patches.
    """
    fitted = fit_image(load_sample_image(request.sample), reader.image_processor)
    return PromptWithImage(
        {"prompt_token_ids": list(prompt_ids), "multi_modal_data": {"image": fitted}},
        len(prompt_ids) - 1 + image_token_count(fitted, reader.image_processor),
    )


def sampling_params(
    request: Request, decode: DecodeSettings, reader: Reader, control: str | None
) -> Any:
    """Sampling parameters of one rollout; `control` is a `ControlRequest` as text.

    Answers end at the reader's end tokens alone. Nothing is turned into text inside vLLM: the
    text is read from the ids, as with Hugging Face.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    temperature = decode.temperature_of(request.sample_index)
    return SamplingParams(
        n=1,
        temperature=temperature,
        top_p=decode.top_p if temperature else 1.0,
        top_k=decode.top_k if temperature else 0,
        repetition_penalty=decode.repetition_penalty,
        seed=request.seed if temperature else None,
        max_tokens=decode.max_new_tokens,
        ignore_eos=True,
        stop_token_ids=sorted(reader.end_ids),
        logprobs=TOP_LOGPROBS if decode.telemetry else 0,
        flat_logprobs=True,
        detokenize=False,
        skip_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args=None if control is None else {EXTRA_ARG: control},
    )


__all__ = ["PromptWithImage", "encode_request", "sampling_params"]
