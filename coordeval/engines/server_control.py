"""Who controls decoding on a server: its logits processor, its grammar engine, or we here.

What a processor inside the server saw is never asked for: control is a pure function of the token
ids, and is computed again from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.engines.capabilities import (
    SERVER_WITH,
    SERVER_WITHOUT,
    require_capabilities,
)
from coordeval.engines.control_request import EXTRA_ARG, ControlRequest
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.decoding.control import ControlPlan, SequenceControl
    from coordeval.decoding.guard import LoopGuard, Verdict
    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.base import DecodeSettings
    from coordeval.parsers.dialects import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerControl:
    """How one run is controlled.

    `name` is what run.json says: `none`, `processor`, `grammar` (the server's), `client`, ...
    `extra` is added to every request. `streams`: answers must come token by token, since the loop
    guard here may end them. `watch` makes what follows one answer, told whether it has token ids;
    None where nothing does.
    """

    name: str
    extra: dict[str, Any] = field(default_factory=dict)
    streams: bool = False
    watch: Callable[[bool], TokenWatch | TextWatch | None] = field(default=lambda _: None)


def needs_handshake(decode: DecodeSettings, table: TokenTable | None) -> bool:
    """True where it matters whether the server has loaded our processor."""
    steers = decode.constraint.mode != "none" or decode.guard.mode == "stop"
    return steers and table is not None


def plan_control(
    decode: DecodeSettings,
    dialect: Dialect,
    table: TokenTable | None,
    *,
    has_processor: bool,
) -> ServerControl:
    """Choose the way; `table` None says that the checkpoint's tokenizer is not at hand.

    Raises ConfigError for what the server cannot do, naming the flag to start it with, and the
    errors of compiling the constraint.
    """
    constrains, guards = decode.constraint.mode != "none", decode.guard.mode != "off"
    require_capabilities(SERVER_WITH if has_processor else SERVER_WITHOUT, decode)
    if table is None:
        return _control_by_text(decode, dialect)
    if not (constrains or guards):
        return ServerControl(name="none")
    from coordeval.decoding.control import ControlPlan

    plan = ControlPlan(decode.constraint, decode.guard, dialect, table)

    def watch(has_ids: bool) -> TokenWatch | TextWatch | None:
        if has_ids:
            return TokenWatch(plan)
        return TextWatch(decode, dialect) if guards else None

    if has_processor:
        asked = ControlRequest(
            constraint=decode.constraint,
            guard=decode.guard,
            dialect=dialect,
            end_ids=tuple(sorted(table.end_ids)),
        )
        return ServerControl(
            name="processor",
            extra={"vllm_xargs": {EXTRA_ARG: asked.to_text()}},
            watch=watch,
        )
    extra: dict[str, Any] = {}
    if constrains:
        from coordeval.decoding.lark import lark_grammar

        grammar = lark_grammar(decode.constraint, dialect, table)
        extra = {"structured_outputs": {"grammar": grammar}}
    name = "+".join(["grammar"] * constrains + ["client"] * guards)
    return ServerControl(name=name, extra=extra, streams=decode.guard.mode == "stop", watch=watch)


def _control_by_text(decode: DecodeSettings, dialect: Dialect) -> ServerControl:
    """Control where tokens cannot be read: the loop guard on the stream's text, nothing more."""
    if decode.constraint.mode != "none":
        raise ConfigError(
            f"--constrain {decode.constraint.mode} needs the checkpoint's tokenizer: give its "
            "local folder as CKPT (no weights are loaded), and the served name as --server-model"
        )
    if decode.guard.mode == "off":
        return ServerControl(name="none")
    return ServerControl(name="client", streams=True, watch=lambda _: TextWatch(decode, dialect))


class TokenWatch:
    """Follows one answer by its token ids.

    `verdict` is what the loop guard saw, `error` why the answer is outside the constraint,
    `cut_tokens` how many tokens belong to the answer where it was stopped or went wrong.
    """

    def __init__(self, plan: ControlPlan) -> None:
        self._plan = plan
        self._control: SequenceControl = plan.start()
        self.stops = plan.guard.mode == "stop"

    def see(self, text: str, token_ids: Sequence[int]) -> bool:  # noqa: ARG002
        """Take in what came; True where the answer must end here."""
        for token_id in token_ids:
            if self._control.must_end or self._control.finished:
                break
            self._control.push(token_id)
        return self._control.stopped or self._control.error is not None

    @property
    def verdict(self) -> Verdict | None:
        """What the loop guard saw."""
        return self._control.verdict

    @property
    def error(self) -> str | None:
        """Why the constraint could not follow the answer."""
        return self._control.error

    @property
    def cut_tokens(self) -> int | None:
        """Tokens of the answer where it was stopped; None where it was not."""
        return self._control.written if self._control.stopped else None

    @property
    def written(self) -> int:
        """Tokens of the answer so far."""
        return self._control.written

    cut_characters: int | None = None
    counts_characters = False


class TextWatch:
    """Follows one answer by its text, where there are no token ids or no tokenizer to read them.

    Character by character, so that neither the verdict nor the text depends on how the server cuts
    its chunks; counts are then characters too, and which token ids belong to the text is not known.
    """

    error: str | None = None
    cut_tokens: int | None = None
    counts_characters = True

    def __init__(self, decode: DecodeSettings, dialect: Dialect) -> None:
        from coordeval.decoding.guard import LoopGuard

        self._guard: LoopGuard = LoopGuard(decode.guard, dialect)
        self.stops = decode.guard.mode == "stop"
        self.verdict: Verdict | None = None
        self.cut_characters: int | None = None
        self._seen = self.written = 0

    def see(self, text: str, token_ids: Sequence[int]) -> bool:
        """Take in what came; True where the answer must end here."""
        self.written += max(1, len(token_ids))  # a chunk without ids holds one token or more
        if self.verdict is None:
            for character in text:
                self._seen += 1
                self.verdict = self._guard.push(
                    ord(character), character.encode("utf-8", "surrogatepass")
                )
                if self.verdict is not None:
                    break
        if self.verdict is not None and self.stops and self.cut_characters is None:
            self.cut_characters = self._seen
        return self.cut_characters is not None


__all__ = [
    "ServerControl",
    "TextWatch",
    "TokenWatch",
    "needs_handshake",
    "plan_control",
]
