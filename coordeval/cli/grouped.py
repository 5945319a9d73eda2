"""Help of a command with many options: grouped under headings, in the order of its parameters."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class GroupedCommand(TyperCommand):
    """A command whose options stand under their `rich_help_panel`; the rest under Options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group of options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                name = "Arguments"
            else:
                name = getattr(param, "rich_help_panel", None) or "Options"
            groups.setdefault(name, []).append(record)
        groups["Options"] = groups.pop("Options")  # --json and --help come last
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


__all__ = ["GroupedCommand"]
