"""The error types, each a small class: a short name, a description and an oracle fix.

A fix takes a state and returns a new one in which this one kind of error does not occur. The order
of the table is the order in which costs are added up: what the text did first, then what each
prediction got wrong, then what is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from coordeval.metrics.attribution.labels import BKG, BOTH, CLS, DUPE, LOC, UNKNOWN
from coordeval.parsers.reasons import DROP_REASONS

if TYPE_CHECKING:
    from coordeval.metrics.attribution.labels import Labels
    from coordeval.metrics.attribution.misses import MissCause
    from coordeval.metrics.attribution.state import State


class ErrorType(ABC):
    """One kind of failure."""

    short_name: str
    description: str

    @abstractmethod
    def fix(self, state: State) -> State:
        """A new state without this kind of error; the given one is not changed."""

    @abstractmethod
    def count(self, state: State, labels: Labels) -> int:
        """How often it occurs in a state; `labels` are the F1 verdicts at IoU .50."""


class LoopError(ErrorType):
    """A block of records over and over again."""

    short_name = "Loop"
    description = "records from the second copy of a loop to its end; the fix: never written"

    def fix(self, state: State) -> State:
        """Take the further copies out for good."""
        return state.without(state.candidates.in_loop)

    def count(self, state: State, labels: Labels) -> int:
        """Predictions inside loops."""
        del labels
        return int((state.present & state.candidates.in_loop).sum())


class DropError(ErrorType):
    """Records dropped for one reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.short_name = f"Drop/{reason}"
        self.description = f"dropped: {DROP_REASONS[reason]}; the fix: repaired by the table"

    def fix(self, state: State) -> State:
        """Bring in the repairable ones, save those that an earlier fix took out."""
        mended = state.candidates.with_reason(self.reason) & ~state.barred
        return replace(state, present=state.present | mended, is_fixed=True)

    def count(self, state: State, labels: Labels) -> int:
        """Records dropped for the reason, repairable or not."""
        del labels
        return state.candidates.dropped.get(self.reason, 0)


class ExactRepeatError(ErrorType):
    """The same name and coordinates again."""

    short_name = "Exact"
    description = "exact repeats of an earlier prediction; the fix: never written"

    def fix(self, state: State) -> State:
        """Take exact repeats out."""
        return state.without(state.candidates.repeats(state.present)[0])

    def count(self, state: State, labels: Labels) -> int:
        """Predictions equal to an earlier one."""
        del labels
        return int(state.candidates.repeats(state.present)[0].sum())


class NearRepeatError(ErrorType):
    """Almost the same box with the same name again."""

    short_name = "Near"
    description = "near repeats (same name, IoU >= .90 with an earlier one); the fix: never written"

    def fix(self, state: State) -> State:
        """Take near repeats out."""
        return state.without(state.candidates.repeats(state.present)[1])

    def count(self, state: State, labels: Labels) -> int:
        """Predictions nearly equal to an earlier one."""
        del labels
        return int(state.candidates.repeats(state.present)[1].sum())


class VerdictError(ErrorType):
    """Predictions of one verdict: mended where their object has no partner, else taken out."""

    def __init__(self, label: int, short_name: str, description: str) -> None:
        self.label = label
        self.short_name = short_name
        self.description = description

    def fix(self, state: State) -> State:
        """Count the verdict as mended."""
        return replace(state, labels=state.labels | {self.label}, is_fixed=True)

    def count(self, state: State, labels: Labels) -> int:
        """Predictions with the verdict."""
        del state
        return int((labels.label == self.label).sum())


class MissError(ErrorType):
    """Objects that no prediction is near, for one cause."""

    def __init__(self, cause: MissCause, short_name: str, description: str) -> None:
        self.cause = cause
        self.short_name = short_name
        self.description = description

    def fix(self, state: State) -> State:
        """Count missed objects of the cause as found (for AP: ahead of all others)."""
        return replace(state, misses=state.misses | {self.cause}, is_fixed=True)

    def count(self, state: State, labels: Labels) -> int:
        """Objects missed for the cause."""
        return int(state.candidates.misses.of_cause(labels.missed, [self.cause]).sum())


ERROR_TYPES: tuple[ErrorType, ...] = (
    LoopError(),
    *(DropError(reason) for reason in DROP_REASONS),
    ExactRepeatError(),
    NearRepeatError(),
    VerdictError(
        UNKNOWN, "Unk", "a name outside the class list on an object (IoU >= t); the fix: its name"
    ),
    VerdictError(
        CLS,
        "Cls",
        "on another class's object (IoU >= t); the fix: its name, or out where found already",
    ),
    VerdictError(
        LOC,
        "Loc",
        "right class, poor box (.1 <= IoU <= t); the fix: the box, or out where found already",
    ),
    VerdictError(BOTH, "Both", "wrong in name and box; the fix: never written"),
    VerdictError(
        DUPE, "Dupe", "another box on an object that is found already; the fix: never written"
    ),
    VerdictError(BKG, "Bkg", "on background (IoU <= .1); the fix: never written"),
    MissError(
        "lost",
        "Lost",
        "objects missed while an unrepairable record of their name was dropped; the fix: found",
    ),
    MissError("cut", "Cut", "objects missed in answers that were cut short; the fix: found"),
    MissError("engine", "Engine", "objects of samples whose engine failed; the fix: found"),
    MissError("other", "Miss", "objects that no prediction is near; the fix: found"),
)
"""Every error type, in the order in which costs are added up."""

__all__ = ["ERROR_TYPES", "ErrorType"]
