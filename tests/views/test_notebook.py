"""Results in a notebook's cell: nothing from outside is parsed, nothing is asked of the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext import Comparison, RunResult
from nngpt_ext.predict.answers import ranking_of
from tests.evaluation.conftest import TEST_ROWS, made_report, pair_rows, predicted

EVIL = "</td></style><script>alert('1')</script>\"><img src=http://x/y onerror=alert(2)> & {{ 7 * 7 }}"
TAGS = {
    "code", "details", "div", "p", "pre", "span", "style", "summary", "table", "tbody", "td", "th", "thead", "tr",
    "ul", "li",
}  # fmt: skip
ATTRIBUTES = {"aria-label", "class", "role", "scope", "style", "tabindex"}


class Cell(HTMLParser):
    """Collects text, and sees that every tag is closed and of those that a cell may have."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.styles = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        for name, value in attrs:
            if name == "style":
                assert re.fullmatch(r"width: [\d.]+%", value)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.styles += data
        else:
            self.text += data


def hostile_report():
    """A report in which a dataset, the prompt, the base model, a note and a version have the hostile name."""
    rows = [tuple(EVIL if name == "svhn" else name for name in row) for row in TEST_ROWS]
    test = pair_rows(rows, "test")
    test[["dataset_1", "dataset_2"]] = [sorted(pair) for pair in test[["dataset_1", "dataset_2"]].to_numpy()]
    pairs = pd.concat([pair_rows([("t1", "cifar-10", "mnist", "mnist")]), test], ignore_index=True)
    return made_report(
        pairs=pairs, predictions=predicted(test, [0.1, 0.8, 0.9, 0.4]), prompt=EVIL, base_model=EVIL, notes=[EVIL],
        versions={EVIL: EVIL}, excluded={EVIL: 1},
    )  # fmt: skip


def compared(a: str, b: str, probability: float, nn: str = EVIL) -> Comparison:
    return Comparison(a, b, a if probability >= 0.5 else b, probability, 0.4, True, True, EVIL, nn)


def hostile_ranking():
    names = sorted(["mnist", "svhn", EVIL])
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return ranking_of(names, tuple(compared(a, b, 0.2 + 0.3 * i) for i, (a, b) in enumerate(pairs)))


@pytest.mark.parametrize(
    "made",
    [
        hostile_report, hostile_ranking, lambda: compared("mnist", EVIL, 0.3),
        lambda: RunResult(Path(EVIL), hostile_report(), pd.DataFrame(), None),
        lambda: RunResult(Path("runs/a"), {EVIL: 1}, pd.DataFrame(), None),
    ],
    ids=["report", "ranking", "comparison", "run", "report of a plugin"],
)  # fmt: skip
def test_hostile_names_stay_text(made):
    html = made()._repr_html_()
    cell = Cell(html)
    assert "<script>alert(" in cell.text
    assert "onerror=alert(2)>" in cell.text
    assert "{{ 7 * 7 }}" in cell.text
    assert not re.search(r"url\(|@import|http|prefers-color-scheme", cell.styles)
    assert not re.search(r"(?<!-)color\s*:", cell.styles)  # text has the notebook's own colour, light or dark


def test_a_report_shows_its_figures_and_folds_the_rest():
    report = made_report()
    text = Cell(report._repr_html_()).text
    shown, folded = text.split("All tables")
    assert "accuracy0.750" in shown.replace("\n", "")
    assert "recipe_gbm1.000" in shown.replace("\n", "")
    for dataset in report.per_dataset.index:
        assert dataset in shown
    assert "ECE" not in shown
    assert "ECE" in folded
    assert "one remark" in folded


def test_a_run_says_where_it_is():
    assert (
        "The run is in runs/a"
        in Cell(RunResult(Path("runs/a"), made_report(), pd.DataFrame(), None)._repr_html_()).text
    )


def test_a_ranking_shows_shares_that_make_one():
    pairs = [("a", "b", 0.7), ("a", "c", 0.9), ("b", "c", 0.6)]
    ranking = ranking_of(["a", "b", "c"], tuple(compared(a, b, p, nn="Net") for a, b, p in pairs))
    html = ranking._repr_html_()
    assert "Net may do best on a, but the model abstains" in html
    shares = [float(found) for found in re.findall(r'</span></td><td class="number">(0\.\d+)</td>', html)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(1, abs=0.002)
    assert shares[0] == pytest.approx(ranking.probability, abs=0.001)
    widths = [float(found) for found in re.findall(r"width: ([\d.]+)%", html)]
    assert widths == pytest.approx([100 * share for share in shares], abs=0.1)


def test_a_comparison_says_that_it_abstains_and_that_the_orders_disagree():
    text = Cell(compared("mnist", "svhn", 0.3, nn="Net")._repr_html_()).text
    assert "Net does better on svhn." in text
    assert "abstains" in text
    assert "depends on the order of the two names" in text
    sure = Comparison("mnist", "svhn", "mnist", 0.9, 2.0, False, False, "m", "Net")
    assert "abstains" not in sure._repr_html_()
    assert "depends on the order" not in sure._repr_html_()
