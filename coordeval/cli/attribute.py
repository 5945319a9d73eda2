"""`coordeval attribute RUN`: what each failure costs, by oracle and by measurement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordeval.cli.naming import (
    SemanticOption,
    SemanticThresholdOption,
    SynonymsOption,
    scoring_protocol,
    warn_of_idle_synonyms,
)
from coordeval.cli.score import (
    DialectOption,
    FieldOrderOption,
    FrameOption,
    RunArgument,
    ScoreSource,
    open_with_reading,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.metrics.attribution.against import Counterfactual
    from coordeval.metrics.attribution.attribution import Attribution
    from coordeval.metrics.protocols import Protocol
    from coordeval.runs import Run


def attribute(
    run: RunArgument,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="A run on the same images under other decoding; can be given several times.",
        ),
    ] = None,
    scores: Annotated[
        ScoreSource,
        typer.Option(
            help="Confidences. auto: the lines' scores, else log-probabilities, else constant."
        ),
    ] = ScoreSource.auto,
    dialect: DialectOption = None,
    field_order: FieldOrderOption = None,
    frame: FrameOption = None,
    synonyms: SynonymsOption = None,
    semantic: SemanticOption = None,
    semantic_threshold: SemanticThresholdOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what each failure costs in points of F1 and AP.

    Every error is mended by an oracle on the text as it was written (drops repaired, copies and
    loops taken out, names and boxes corrected, missed objects found): alone, and one after the
    other until the score is perfect. With --against, also what other decoding really bought, and
    what it left for training.

    Example: coordeval attribute runs/free --against runs/grammar
    """
    from coordeval.metrics.attribution.against import measure_against

    base = open_with_reading(run, dialect=dialect, field_order=field_order, frame=frame)
    rules = scoring_protocol(run, synonyms, semantic, semantic_threshold)
    found = _attributed(base, rules, scores)
    measured = [
        measure_against(
            base,
            open_with_reading(other, dialect=dialect, field_order=field_order, frame=frame),
            score_source=scores.value,
            protocol=rules,
        )
        for other in against or ()
    ]
    _print(found, measured, name=str(run), json_output=json_output)


def _attributed(run: Run, rules: Protocol, scores: ScoreSource) -> Attribution:
    """The costs in a run; the scored run itself is not kept."""
    from coordeval.errors import RunIncomplete
    from coordeval.metrics.attribution.attribution import attribute as attribute_result
    from coordeval.metrics.score import score_run

    result = score_run(run, protocol=rules, score_source=scores.value)
    warn_of_idle_synonyms(result)
    if result.status == "empty":
        raise RunIncomplete(f"{run.path}: nothing to attribute: it holds no rollout without error")
    return attribute_result(result)


def _print(
    found: Attribution, measured: Sequence[Counterfactual], *, name: str, json_output: bool
) -> None:
    if json_output:
        from coordeval.jsonl import dump_line

        document = {"run": name, **found.to_json()}
        document["against"] = [other.to_json() for other in measured]
        typer.echo(dump_line(document).decode().rstrip())
        return
    from coordeval.reports.attribution import attribution_report
    from coordeval.reports.console import result_console

    result_console().print(attribution_report(found, name=name, against=measured))


__all__ = ["attribute"]
