"""At which steps trainings can be compared: evaluation steps that several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.log import TrainingLog


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSteps:
    """Evaluation steps of all logs, and those that only some (two or more) share.

    `shared` lists (step, names); both ascend.
    """

    everywhere: tuple[int, ...]
    shared: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Where to compare: the last step of all, and the last later one that some share."""
        out = [self.everywhere[-1]] if self.everywhere else []
        if self.shared and (not out or self.shared[-1][0] > out[0]):
            out.append(self.shared[-1][0])
        return tuple(out)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "count": len(self.everywhere),
            "steps": list(self.everywhere),
            "partly": [{"step": step, "logs": list(names)} for step, names in self.shared],
        }


def common_steps(logs: Sequence[TrainingLog]) -> CommonSteps:
    """Compare the evaluation steps of logs; logs without any evaluation are left out of it.

    One log alone has all its steps in common with itself.
    """
    evaluated = [(log.name, set(log.steps("eval"))) for log in logs]
    evaluated = [(name, steps) for name, steps in evaluated if steps]
    if not evaluated:
        return CommonSteps(everywhere=(), shared=())
    everywhere = set.intersection(*(steps for _, steps in evaluated))
    partly = []
    for step in sorted(set.union(*(steps for _, steps in evaluated)) - everywhere):
        names = tuple(name for name, steps in evaluated if step in steps)
        if len(names) > 1:
            partly.append((step, names))
    return CommonSteps(everywhere=tuple(sorted(everywhere)), shared=tuple(partly))


__all__ = ["CommonSteps", "common_steps"]
