"""report.md: the tables of a report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from nngpt_ext.evaluation.figures import Report
from nngpt_ext.evaluation.tables import Table, summary, tables

# What would end a cell, or start a tag, an entity, a link, emphasis or code.
_SPECIAL = re.compile(r"([\\|<>&*\[\]`])")


def to_markdown(report: Report) -> str:
    """The summary as the first line, then every table under its title."""
    parts = [plain(summary(report)), *(section(table) for table in tables(report))]
    return "\n\n".join(parts) + "\n"


def section(table: Table, level: int = 2) -> str:
    """A table under its title."""
    lines = [f"{'#' * level} {plain(table.title)}", ""]
    if table.is_list:
        return "\n".join([*lines, *(f"- {plain(row[0])}" for row in table.rows)])
    if table.caption:
        lines += [plain(table.caption), ""]
    lines += [_row(table.header), "|---" * len(table.header) + "|"]
    for i, row in enumerate(table.rows):
        cells = [plain(cell) for cell in row]
        lines.append("| " + " | ".join(f"**{c}**" if i in table.marked else c for c in cells) + " |")
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
