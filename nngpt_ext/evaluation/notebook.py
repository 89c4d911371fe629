"""A report in a notebook's cell: the sentence, what has an interval, each dataset, and the rest folded."""

from __future__ import annotations

from nngpt_ext.evaluation.figures import Report
from nngpt_ext.evaluation.page import template
from nngpt_ext.evaluation.tables import headline, per_dataset, summary, tables


def report_cell(report: Report) -> str:
    """HTML that asks nothing of the network and runs nothing. Everything that comes from the report is escaped."""
    whole = headline(report)
    # Accuracies and skill; how good the probabilities are begins with the log loss.
    end = [row[0] for row in whole.rows].index("log loss")
    rows = [row[:3] for row in whole.rows[:end]]
    return template("nngpt_ext.evaluation/cell.html.jinja").render(
        summary=summary(report),
        shown=[whole._replace(header=whole.header[:3], rows=rows), per_dataset(report, "involving")],
        folded=tables(report),
    )
