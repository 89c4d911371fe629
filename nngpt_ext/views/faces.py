"""Tables on a terminal, in Markdown, as an HTML page and in a notebook, below an opening sentence.

All text is escaped: none of it is parsed as markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nngpt_ext.views.table import Table

if TYPE_CHECKING:
    from rich.console import Console

# Characters that would end a table's cell, or start a tag, an entity, a link, emphasis or code.
_SPECIAL = re.compile(r"([\\|<>&*\[\]`])")


def print_tables(opening: str, tables: Sequence[Table], console: Console | None = None) -> None:
    """Print to the console, by default to standard output."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = console or Console()
    console.print(Text(opening))
    for table in tables:
        console.print()
        console.print(Text(table.title, style="bold"))
        if table.is_list:
            for row in table.rows:
                console.print(Text(f"• {row[0]}"))
            continue
        if table.caption:
            console.print(Text(table.caption))
        grid = Grid(show_edge=False, pad_edge=False)
        for name in table.header:
            grid.add_column(Text(name), overflow="fold")
        for i, row in enumerate(table.rows):
            grid.add_row(*map(Text, row), style="bold" if i in table.marked else None)
        console.print(grid)


def to_markdown(opening: str, tables: Sequence[Table]) -> str:
    """GitHub-flavoured Markdown: the opening as the first line, then each table under its title."""
    return "\n\n".join([plain(opening), *map(markdown_table, tables)]) + "\n"


def markdown_table(table: Table, level: int = 2) -> str:
    """A table under its title, which is a heading of this level."""
    lines = [f"{'#' * level} {plain(table.title)}", ""]
    if table.is_list:
        return "\n".join([*lines, *(f"- {plain(row[0])}" for row in table.rows)])
    if table.caption:
        lines += [plain(table.caption), ""]
    lines += ["| " + " | ".join(map(plain, table.header)) + " |", "|---" * len(table.header) + "|"]
    for i, row in enumerate(table.rows):
        stress = "**" if i in table.marked else ""
        lines.append("| " + " | ".join(f"{stress}{plain(cell)}{stress}" for cell in row) + " |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """The text on one line, escaped for Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def to_page(title: str, opening: str, tables: Sequence[Table]) -> str:
    """An HTML page in one file, which requests nothing from the network."""
    return filled("views/templates/page.html.jinja", title=title, opening=opening, tables=tables)


def to_cell(opening: str, tables: Sequence[Table], remarks: Sequence[str] = (), folded: Sequence[Table] = ()) -> str:
    """HTML for the output of a notebook's cell; it requests nothing from the network and runs nothing.

    Below the tables stand `remarks` in smaller type, and the `folded` tables, which the reader can unfold.
    """
    return filled("views/templates/cell.html.jinja", opening=opening, tables=tables, remarks=remarks, folded=folded)


def filled(file: str, **values: Any) -> str:
    """Fill in a template of this package; `file` is its path there, such as `tasks/model_card.md.jinja`.

    Values are escaped in HTML templates.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("nngpt_ext", ""), autoescape=select_autoescape(["html.jinja"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(file).render(values)
