"""The table of verbs, and the group that imports a verb only when it is called."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from coordeval.cli.grouped import GroupedCommand


class Verb(NamedTuple):
    """Where a verb lives, and its line in the list of commands."""

    module: str
    function: str
    help: str


VERBS: dict[str, Verb] = {
    "demo": Verb("demo", "demo", "See in a minute what coordeval does; needs no data."),
    "rollout": Verb("rollout", "rollout", "Let a checkpoint write freely for every image."),
    "score": Verb("score", "score", "Parse, match and score what a model wrote."),
    "inspect": Verb("inspect", "inspect_run", "Show what was written, dropped and looped."),
    "compare": Verb("compare", "compare", "What differs between runs, and how sure that is."),
    "attribute": Verb("attribute", "attribute", "What each kind of failure costs, in points."),
    "probe": Verb(
        "probe", "probe", "What a model expects under teacher forcing, and exposure bias."
    ),
    "check": Verb("check", "check", "Gate a run in CI, against limits or a baseline."),
    "report": Verb("report", "report", "One self-contained page to look at, or a figure of it."),
    "overlay": Verb("overlay", "overlay", "Draw one sample: truth, right, wrong, dropped."),
    "dynamics": Verb("dynamics", "dynamics", "Read training logs: endings, turning points."),
    "import": Verb("import_run", "import_run", "Turn other tools' dumps into a run."),
    "export": Verb("export", "export", "Hand a run on to COCO, FiftyOne, Label Studio, tables."),
    "train": Verb("train", "train", "Train stage 1 or 2, with the evaluator in the loop."),
    "merge": Verb("merge", "merge", "Join the shards of one rollout."),
    "data": Verb("data", "app", "Convert, validate and describe datasets."),
    "vocab": Verb("vocab", "app", "Add the coordinate tokens to a checkpoint."),
}


class VerbGroup(TyperGroup):
    """A group whose commands are listed from the table and imported on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the table."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one verb; None for an unknown name, after a hint at the nearest one."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            near = difflib.get_close_matches(cmd_name, VERBS, n=1)
            if near and not ctx.resilient_parsing:  # not while a shell completes a line
                typer.echo(f"did you mean: coordeval {near[0]}?", err=True)
            return None
        target = getattr(import_module(f"coordeval.cli.{verb.module}"), verb.function)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
        )
        single.command(cmd_name, cls=GroupedCommand)(target)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


__all__ = ["VERBS", "Verb", "VerbGroup"]
