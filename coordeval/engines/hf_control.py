# ruff: noqa: N803, N806 - tensors carry shape suffixes
"""Decode-time control of one batch: masks before the choice, the forced end, and what came of it.

A row whose constraint fails, or that the guard stops, is forced to the end token; the other rows go
on as if it were not there.

Shape legend: B rows, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.decoding.constraint import ConstraintState
    from coordeval.decoding.control import ControlPlan, SequenceControl
    from coordeval.decoding.masking import LogitMasker
    from coordeval.decoding.verdict import Verdict


class RowControl(NamedTuple):
    """What control made of one row.

    `written` tokens are the answer's own, without any end token. `verdict` is what the guard saw,
    `stopped` that it ended the row; `error` says why the constraint gave the row up.
    """

    written: int
    verdict: Verdict | None
    stopped: bool
    error: str | None


class BatchControl:
    """Follows the rows of one batch through `generate`.

    `masker` is None where the plan has no constraint.
    """

    def __init__(self, plan: ControlPlan, masker: LogitMasker | None, num_rows: int) -> None:
        self._rows = [plan.start() for _ in range(num_rows)]
        self._masker = masker
        # A guard that only marks is asked once all is written.
        self._live = plan.constraint is not None or plan.guard.mode == "stop"
        self._pushed = 0
        self._dead: list[torch.Tensor] = []

    def push(self, token_ids: Sequence[int]) -> None:
        """Note the token that each row has written (padding, where a row has ended)."""
        self._pushed += 1
        for row, token_id in zip(self._rows, token_ids, strict=True):
            row.push(token_id)

    def masked(self, written_BS: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        """Logits (B, V) with -inf where a row's constraint does not allow the token.

        `logits_BV` are masked in place: what stays possible keeps its raw value. `written_BS` are
        the tokens written since the prompt; its last column is new.
        """
        if self._live and written_BS.shape[1] > self._pushed:
            self.push(written_BS[:, -1].tolist())
        if self._masker is None:
            return logits_BV
        states = [None if row.finished or row.must_end else row.state for row in self._rows]
        return self._masked_fenced(self._masker, logits_BV, states)

    def ends(self, masked_BV: torch.Tensor, chosen_B: torch.Tensor) -> torch.Tensor:
        """Which rows must end now (B,) bool, given the masked logits and the tokens chosen there.

        Only where nothing is allowed can the chosen token be one that is not.
        """
        must_end = [row.must_end for row in self._rows] if self._live else [False] * len(self._rows)
        forced_B = torch.tensor(must_end, device=masked_BV.device)
        if self._masker is None:
            return forced_B
        dead_B = masked_BV.gather(-1, chosen_B[:, None]).squeeze(-1) == -torch.inf
        self._dead.append(dead_B)
        return forced_B | dead_B

    def _masked_fenced(
        self,
        masker: LogitMasker,
        logits_BV: torch.Tensor,
        states: list[ConstraintState | None],
    ) -> torch.Tensor:
        """Mask all rows at once; where that fails, one by one, so that it costs one row only."""
        try:
            return masker(logits_BV, states, inplace=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, LookupError):
            masked = [
                self._mask_row(masker, row, logits_BV[row : row + 1], state)
                for row, state in enumerate(states)
            ]
            return torch.cat(masked)

    def _mask_row(
        self,
        masker: LogitMasker,
        row: int,
        logits_1V: torch.Tensor,
        state: ConstraintState | None,
    ) -> torch.Tensor:
        if state is None:
            return logits_1V
        try:
            return masker(logits_1V, [state], inplace=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, LookupError) as error:
            self._rows[row].fail(f"the constraint failed: {type(error).__name__}: {error}")
            return logits_1V

    def results(self, rows: Sequence[Sequence[int]]) -> list[RowControl]:
        """What came of each row; `rows` are the generated ids, padding behind the end included."""
        for token_ids in zip(*(row[self._pushed :] for row in rows), strict=True):
            self.push(token_ids)
        dead_at: list[int | None] = [None] * len(self._rows)
        if self._dead:
            steps = torch.stack(self._dead, dim=1).cpu().tolist()
            dead_at = [row.index(True) if True in row else None for row in steps]
        return [self._result(row, dead) for row, dead in zip(self._rows, dead_at, strict=True)]

    def _result(self, row: SequenceControl, dead_at: int | None) -> RowControl:
        error = row.error
        if dead_at is not None:
            error = f"the constraint allows no token after {dead_at} tokens"
        return RowControl(row.written, row.verdict, row.stopped, error)


__all__ = ["BatchControl", "RowControl"]
