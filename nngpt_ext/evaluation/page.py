"""report.html: the tables of a report as one page that asks nothing of the network."""

from __future__ import annotations

import re
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from nngpt_ext.evaluation.figures import Report
from nngpt_ext.evaluation.tables import Table, summary, tables
from nngpt_ext.evaluation.wording import NO_NUMBER

# A number, an interval, or the sign for none.
_FIGURES = re.compile(rf"{NO_NUMBER}|[-+]?[\d.,]+(?: to [-+]?[\d.,]+)?")


def to_html(report: Report) -> str:
    """The whole page. Everything that comes from the report is escaped."""
    return template("nngpt_ext.evaluation/page.html.jinja").render(
        title=f"{report.task}: {report.prompt}, {report.base_model}, {report.split}",
        summary=summary(report),
        tables=tables(report),
    )


def template(name: str) -> Template:
    """A template by package and file, such as `nngpt_ext.evaluation/page.html.jinja`; what is filled in is escaped."""
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["numeric"] = _numeric
    return environment.get_template(name)


def _source(name: str) -> str:
    package, _, file = name.partition("/")
    return resources.files(package).joinpath(file).read_text(encoding="utf-8")


def _numeric(table: Table) -> list[bool]:
    """For each column whether all its cells are figures: those are set flush right."""
    return [all(_FIGURES.fullmatch(row[i]) for row in table.rows) for i in range(len(table.header))]
