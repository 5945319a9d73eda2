"""What a server says of itself before it is asked for anything: model, version, our processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.engines.control_request import EXTRA_ARG, Handshake
from coordeval.engines.server_answer import read_answer
from coordeval.engines.server_failures import GarbageAnswer, RequestRefused, ServerFailure
from coordeval.engines.server_http import dump_body
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from coordeval.engines.server_address import ServerAddress
    from coordeval.engines.server_http import ServerHttp

    Retry = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

UNAUTHORISED = frozenset({401, 403})
MOST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One entry of a server's list; `root` is where the server read it from."""

    id: str
    root: str | None = None
    is_adapter: bool = False
    max_model_len: int | None = None

    def is_called(self, name: str) -> bool:
        """True where the served name, or the folder that it was read from, ends in this name."""
        places = [self.id] if self.root is None else [self.id, self.root]
        return any(place.rstrip("/").rsplit("/", maxsplit=1)[-1] == name for place in places)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server said of itself; `has_processor` is False where it was not asked."""

    model: ServedModel
    version: str | None
    has_processor: bool


async def ask_server(
    http: ServerHttp,
    address: ServerAddress,
    *,
    wanted: str | None,
    handshake_ids: Sequence[int],
    image_size: Mapping[str, int] | None,
    retry: Retry,
) -> ServerFacts:
    """Ask for models and version, and shake hands with our processor where ids are given.

    `image_size` are pixel limits that it must accept. Raises ConfigError where it does not, where
    it serves something else or wants another key, and ServerFailure where it does not answer.
    """
    try:
        listing = await retry(lambda: http.get(address.models))
    except RequestRefused as refusal:
        if refusal.status in UNAUTHORISED:
            raise ConfigError(
                f"{address.root}: the server wants another API key ({refusal}); "
                "set COORDEVAL_API_KEY"
            ) from None
        if wanted is None:
            raise ConfigError(
                f"{address.root}: the server does not list its models ({refusal}); "
                "check --server-url, or give --server-model"
            ) from None
        listing = {"data": [{"id": wanted}]}
    model = choose_model(read_models(listing), wanted, address.root)
    version = await _version(http, address)
    if image_size is not None:
        await _require_image_size(http, address, model.id, image_size, retry)
    shakes = bool(handshake_ids)
    for token_id in handshake_ids:
        shakes = shakes and await _shakes_hands(http, address, model.id, token_id, retry)
    return ServerFacts(model=model, version=version, has_processor=shakes)


def read_models(listing: Any) -> list[ServedModel]:
    """The entries of `/v1/models`; GarbageAnswer where it is no such list."""
    entries = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        raise GarbageAnswer("the server's list of models is not a list")
    models = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise GarbageAnswer("the server's list of models holds an entry without an id")
        root, length = entry.get("root"), entry.get("max_model_len")
        models.append(
            ServedModel(
                id=entry["id"],
                root=root if isinstance(root, str) else None,
                is_adapter=entry.get("parent") is not None,
                max_model_len=length if isinstance(length, int) and length > 0 else None,
            )
        )
    return models


def choose_model(models: Sequence[ServedModel], wanted: str | None, root: str) -> ServedModel:
    """The model that is asked for, else the only one; ConfigError lists what there is."""
    names = ", ".join(repr(model.id) for model in models[:MOST_SHOWN]) or "nothing"
    if len(models) > MOST_SHOWN:
        names += ", ..."
    if wanted is not None:
        for model in models:
            if model.id == wanted:
                return model
        raise ConfigError(
            f"{root}: the server does not serve {wanted!r} but {names}: give the name that it "
            "serves as --server-model (or as CKPT)"
        )
    # A server lists adapters beside the model they sit on.
    whole = [model for model in models if not model.is_adapter]
    if len(whole) != 1:
        raise ConfigError(f"{root}: the server serves {names}: choose one with --server-model")
    return whole[0]


async def _version(http: ServerHttp, address: ServerAddress) -> str | None:
    """The version of vLLM; None where the server does not say (another kind, or a gateway)."""
    try:
        document = await http.get(address.version)
    except ServerFailure:
        return None
    version = document.get("version") if isinstance(document, dict) else None
    return version[:100] if isinstance(version, str) else None


async def _shakes_hands(
    http: ServerHttp, address: ServerAddress, model: str, token_id: int, retry: Retry
) -> bool:
    extra = {"vllm_xargs": {EXTRA_ARG: Handshake(token_id=token_id).to_text()}}
    try:
        document = await retry(lambda: http.post(address.chat, _trial(model, extra)))
        return read_answer(document, max_tokens=1).token_ids == [token_id]
    except (RequestRefused, GarbageAnswer):
        return False


async def _require_image_size(
    http: ServerHttp, address: ServerAddress, model: str, size: Mapping[str, int], retry: Retry
) -> None:
    extra = {"mm_processor_kwargs": {"size": dict(size)}}
    try:
        await retry(lambda: http.post(address.chat, _trial(model, extra)))
    except RequestRefused as refusal:
        raise ConfigError(
            f"{address.root}: --pixels is refused ({refusal}); start the server with "
            "--trust-request-mm-kwargs, or give the checkpoint's local folder as CKPT: then "
            "images are resized here, which does within the checkpoint's own limits"
        ) from None


def _trial(model: str, extra: Mapping[str, Any]) -> bytes:
    """The smallest request: one token, no image."""
    return dump_body(
        {
            "model": model,
            "messages": [{"role": "user", "content": "."}],
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 0,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **extra,
        }
    )


__all__ = ["ServedModel", "ServerFacts", "ask_server", "choose_model", "read_models"]
