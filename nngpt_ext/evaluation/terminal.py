"""The tables of a report for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from nngpt_ext.evaluation.figures import Report
from nngpt_ext.evaluation.tables import Table, summary, tables


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the summary and every table; on standard output where no console is given."""
    console = console or Console()
    console.print(Text(summary(report)))
    for table in tables(report):
        console.print()
        console.print(rendered(table))


def rendered(table: Table) -> RenderableType:
    """One table. All text goes in as `Text`: brackets in it are not rich's markup."""
    title = Text(table.title, style="bold")
    if table.is_list:
        return Group(title, *(Text(f"• {row[0]}") for row in table.rows))
    grid = RichTable(show_edge=False, pad_edge=False)
    for name in table.header:
        grid.add_column(Text(name), overflow="fold")
    for i, row in enumerate(table.rows):
        grid.add_row(*(Text(cell) for cell in row), style="bold" if i in table.marked else None)
    return Group(title, *([Text(table.caption)] if table.caption else []), grid)
