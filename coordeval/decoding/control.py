"""Control of one sequence while it is written: what may come next, and when it must end.

The same object serves the Hugging Face engine and a logits processor inside vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.guard import LoopGuard, require_followable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordeval.decoding.constraint import Constraint, ConstraintState
    from coordeval.decoding.guard import Verdict
    from coordeval.decoding.settings import ConstraintSettings, GuardSettings
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect


class ControlPlan:
    """What a rollout's settings ask of every sequence, compiled once.

    `constraint` is None where everything may be written. Raises the errors of
    `compile_constraint`: CheckpointError where the tokenizer cannot write the language,
    ConfigError where the settings do not fit the dialect.
    """

    def __init__(
        self,
        constraint: ConstraintSettings,
        guard: GuardSettings,
        dialect: Dialect,
        table: TokenTable,
    ) -> None:
        if guard.mode != "off":
            require_followable(dialect)
        self.constraint: Constraint | None = compile_constraint(constraint, dialect, table)
        self.guard = guard
        self.dialect = dialect
        self.table = table

    @property
    def active(self) -> bool:
        """True where a sequence needs a `SequenceControl` at all."""
        return self.constraint is not None or self.guard.mode != "off"

    def start(self, written: Iterable[int] = ()) -> SequenceControl:
        """Control of a new sequence, or of one that already holds the tokens `written`."""
        control = SequenceControl(self)
        for token_id in written:
            control.push(token_id)
        return control


class SequenceControl:
    """Follows one sequence token by token.

    `state` is the constraint's state, None where everything may be written; `verdict` what the
    loop guard saw, None so far; `error` why the constraint cannot go on; `written` how many tokens
    were pushed before the end token; `finished` that an end token came.
    """

    __slots__ = ("_guard", "_plan", "error", "finished", "state", "verdict", "written")

    def __init__(self, plan: ControlPlan) -> None:
        self._plan = plan
        self.state: ConstraintState | None = (
            None if plan.constraint is None else plan.constraint.start()
        )
        self._guard = None if plan.guard.mode == "off" else LoopGuard(plan.guard, plan.dialect)
        self.verdict: Verdict | None = None
        self.error: str | None = None
        self.finished = False
        self.written = 0

    @property
    def stopped(self) -> bool:
        """True once the loop guard has stopped the sequence (never in mode `mark`)."""
        return self.verdict is not None and self._plan.guard.mode == "stop"

    @property
    def must_end(self) -> bool:
        """True where only the end token may come next: the guard stopped, or the constraint broke.

        The token that is forced then is no part of the answer.
        """
        return not self.finished and (self.stopped or self.error is not None)

    def push(self, token_id: int) -> None:
        """Note the token that was written; tokens after the end, or a forced end, change nothing.

        A token that the constraint did not allow sets `error`.
        """
        if self.finished:
            return
        if self.must_end:
            self.finished = True
            return
        if self.state is not None:
            try:
                self.state.advance(token_id)
            except ValueError as error:
                self.fail(str(error))
                return
        if token_id in self._plan.table.end_ids:
            self.finished = True
            return
        self.written += 1
        if self._guard is not None and self.verdict is None:
            self.verdict = self._guard.push(token_id, self._plan.table.text_bytes(token_id))

    def fail(self, message: str) -> None:
        """Give the constraint up, for example because it allows nothing: `must_end` is true now."""
        if self.error is None:
            self.error = message or "the constraint failed"
            self.state = None


__all__ = ["ControlPlan", "SequenceControl"]
