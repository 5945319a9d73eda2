"""What a server is asked: a chat completion in vLLM's dialect, nothing left to its defaults."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.data.prompts import build_messages
from coordeval.engines.vllm_settings import TOP_LOGPROBS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from PIL import Image

    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSettings:
    """What all requests of a run share; `extra` holds what control adds to them.

    `end_ids` are the only tokens that end an answer; none: the server's own do.
    """

    model: str
    prompt: Prompt
    decode: DecodeSettings
    end_ids: Collection[int] = ()
    extra: Mapping[str, Any] | None = None

    def body(
        self,
        request: Request,
        image: Image.Image,
        *,
        stream: bool,
        image_size: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """The JSON body of one request; the image is sent as it is.

        `image_size` are limits for the server's image processor, which it must have been started
        to accept; None keeps its own.
        """
        decode, temperature = self.decode, self.decode.temperature_of(request.sample_index)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": chat_messages(self.prompt, png_data_url(image)),
            "max_tokens": decode.max_new_tokens,
            "temperature": temperature,
            "top_p": decode.top_p if temperature else 1.0,
            "top_k": (decode.top_k if temperature else 0) or -1,  # -1 is off in all versions
            "min_p": 0.0,
            "repetition_penalty": decode.repetition_penalty,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": request.seed if temperature else None,
            "n": 1,
            "stop": [],
            "stop_token_ids": sorted(self.end_ids),
            "include_stop_str_in_output": False,
            "ignore_eos": bool(self.end_ids),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "logprobs": True,
            "top_logprobs": TOP_LOGPROBS if decode.telemetry else 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "add_generation_prompt": True,
            "stream": stream,
        }
        if self.prompt.chat_template_kwargs:
            body["chat_template_kwargs"] = self.prompt.chat_template_kwargs
        if image_size is not None:
            body["mm_processor_kwargs"] = {"size": dict(image_size)}
        return body | dict(self.extra or {})


def chat_messages(prompt: Prompt, image_url: str) -> list[dict[str, Any]]:
    """The prompt's chat messages with the image in the place of its placeholder."""
    part = {"type": "image_url", "image_url": {"url": image_url}}
    messages = build_messages(prompt)
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = [
                part if item["type"] == "image" else item for item in message["content"]
            ]
    return messages


def png_data_url(image: Image.Image) -> str:
    """The image as a data URL of a PNG file: every pixel arrives as it is."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


__all__ = [
    "PayloadSettings",
    "chat_messages",
    "png_data_url",
]
