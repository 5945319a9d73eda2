"""Tables whose numbers are never cut: in a narrow terminal gaps close, headers and texts fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult

_UNBOUNDED = 100_000


class NumberTable(Table):
    """A table of texts and numbers: texts fold where it has to be narrow, numbers stay whole."""

    def add_text(
        self, header: str = "", *, justify: JustifyMethod = "left", style: str = ""
    ) -> None:
        """Add a column that may fold into several lines."""
        self.add_column(header, justify=justify, overflow="fold", style=style)

    def add_number(self, header: str = "", *, justify: JustifyMethod = "right") -> None:
        """Add a column of numbers (or bars), which stand on one line."""
        self.add_column(header, justify=justify, no_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render; a table that is wider than the console closes its gaps and folds its headers."""
        natural = self.__rich_measure__(console, options.update(max_width=_UNBOUNDED)).maximum
        if natural > options.max_width:
            self.padding = 0
            for column in self.columns:
                if column.no_wrap:
                    column.header = str(column.header).replace(" ", "\n")
        yield from super().__rich_console__(console, options)


__all__ = ["NumberTable"]
