"""report.html: the tables of a report as one page that asks nothing of the network."""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, StrictUndefined

from nngpt_ext.evaluation.schema import Report
from nngpt_ext.evaluation.tables import NO_NUMBER, Table, summary, tables

# A number, an interval, or the sign for none.
_FIGURES = re.compile(rf"{NO_NUMBER}|[-+]?[\d.,]+(?: to [-+]?[\d.,]+)?")


def to_html(report: Report) -> str:
    """The whole page. Everything that comes from the report is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files("nngpt_ext.evaluation").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=f"{report.task}: {report.prompt}, {report.base_model}, {report.split}",
        summary=summary(report),
        tables=tables(report),
        numeric=_numeric,
    )


def _numeric(table: Table) -> list[bool]:
    """For each column whether all its cells are figures: those are set flush right."""
    return [all(_FIGURES.fullmatch(row[i]) for row in table.rows) for i in range(len(table.header))]
