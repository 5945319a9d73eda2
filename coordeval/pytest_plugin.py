"""A pytest plugin: the fixture `coordeval` scores recorded dumps and asserts gates.

    def test_parser_and_metrics_hold(coordeval):
        coordeval.assert_gates("dumps/loops.jsonl", "*:+-0", baseline="baselines/loops.json")

`pytest --coordeval-update-baselines` writes the baselines instead of asserting.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from os import PathLike

    from coordeval.metrics.result import ScoreResult
    from coordeval.stats.gates_check import CheckResult

UPDATE_OPTION = "--coordeval-update-baselines"


class DumpGates:
    """Scores dumps (run directories or files of rollout lines) and holds them against gates."""

    def __init__(self, *, update: bool = False) -> None:
        self._update = update

    def score(
        self,
        run: str | PathLike[str],
        *,
        protocol: str = "coordeval",
        scores: str = "auto",
        dialect: str | None = None,
    ) -> ScoreResult:
        """Score a dump; what is not given comes from its run.json, else the defaults.

        Raises what `coordeval score` ends with: DataError, ConfigError.
        """
        from coordeval.metrics.protocols import protocol_named
        from coordeval.metrics.score import score_run
        from coordeval.parsers.dialects import dialect_named
        from coordeval.runs import open_run

        return score_run(
            open_run(Path(run)),
            protocol=protocol_named(protocol),
            score_source=scores,
            dialect=None if dialect is None else dialect_named(dialect),
        )

    def check(
        self,
        run: str | PathLike[str],
        *gates: str,
        baseline: str | PathLike[str] | None = None,
        intervals: bool = False,
        protocol: str = "coordeval",
        scores: str = "auto",
        dialect: str | None = None,
    ) -> CheckResult:
        """Hold a dump against gates, as `coordeval check` does; faults are raised.

        With `--coordeval-update-baselines` the baseline is written first; a run that is empty or
        not finished leaves it as it is.
        """
        from coordeval.stats.baseline import make_baseline, read_baseline, write_baseline
        from coordeval.stats.gates import parse_gate
        from coordeval.stats.gates_check import check_run, refuse_unfinished

        path = None if baseline is None else Path(baseline)
        scored = self.score(run, protocol=protocol, scores=scores, dialect=dialect)
        if self._update and path is not None:
            refuse_unfinished(scored, str(run))
            write_baseline(make_baseline(scored, name=Path(run).name), path)
        return check_run(
            scored,
            [parse_gate(text) for text in gates],
            None if path is None else read_baseline(path),
            run=str(run),
            baseline_path=None if path is None else str(path),
            with_intervals=intervals,
        )

    def assert_gates(
        self,
        run: str | PathLike[str],
        *gates: str,
        baseline: str | PathLike[str] | None = None,
        intervals: bool = False,
        protocol: str = "coordeval",
        scores: str = "auto",
        dialect: str | None = None,
    ) -> CheckResult:
        """`check`, with an AssertionError that lists every failing gate.

        It also fails where no gate could be judged.
        """
        __tracebackhide__ = True
        from coordeval.reports.gate_table import failures_text

        found = self.check(
            run,
            *gates,
            baseline=baseline,
            intervals=intervals,
            protocol=protocol,
            scores=scores,
            dialect=dialect,
        )
        if found.exit_code:
            pytest.fail(failures_text(found), pytrace=False)
        return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer to write baselines."""
    parser.getgroup("coordeval").addoption(
        UPDATE_OPTION,
        action="store_true",
        default=False,
        help="write the baselines of coordeval's gates instead of asserting against them",
    )


@pytest.fixture
def coordeval(request: pytest.FixtureRequest) -> DumpGates:
    """Score recorded dumps and assert gates."""
    return DumpGates(update=bool(request.config.getoption(UPDATE_OPTION)))


__all__ = ["DumpGates", "coordeval", "pytest_addoption"]
