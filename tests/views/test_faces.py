"""Markdown, the HTML page and the terminal show the same tables, and text from outside stays text."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from nngpt_ext.evaluation.description import summary, tables
from nngpt_ext.views.faces import print_tables, to_markdown, to_page
from nngpt_ext.views.table import Table
from tests.evaluation.conftest import made_report

EVIL = "<script>alert('1')</script> | [red]*b* `c`\n## no"


class Page(HTMLParser):
    """Collects tags, attributes, text, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.rows: list[tuple[list[str], bool]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "link"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(([], ("class", "marked") in attrs))
        elif tag in ("td", "th"):
            self.rows[-1][0].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][0][-1] += data


@pytest.fixture(scope="module")
def report():
    return made_report()


def printed(report, width: int = 400) -> str:
    file = io.StringIO()
    print_tables(summary(report), tables(report), Console(file=file, width=width))
    return file.getvalue()


def page_of(report) -> str:
    return to_page(report.prompt, summary(report), tables(report))


def markdown_of(report) -> str:
    return to_markdown(summary(report), tables(report))


def test_page_holds_every_cell(report):
    page = Page(page_of(report))
    assert page.open == []
    shown = [cells for cells, _ in page.rows]
    text = "".join(page.text)
    assert summary(report) in text
    for table in tables(report):
        assert table.title in text
        assert table.caption in text
        if table.is_list:
            assert all(row[0] in text for row in table.rows)
        else:
            assert all(list(row) in shown for row in (table.header, *table.rows))
    assert [cells[0] for cells, marked in page.rows if marked] == ["2 (selected)"]


def test_page_asks_nothing_of_the_network_and_suits_small_and_dark_screens(report):
    text = page_of(report)
    page = Page(text)
    assert not {"script", "img", "iframe", "object"} & set(page.tags)
    assert [value for name, value in page.attributes if name in ("src", "href")] == ["data:,"]
    assert not re.search(r"https?:|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert ("name", "viewport") in page.attributes
    # What is too wide scrolls inside its own box, not the page.
    assert text.count('<div class="scroll"') == page.tags.count("table") == 7
    assert ".scroll { overflow-x: auto; }" in text


def test_figures_are_flush_right_column_by_column(report):
    text = page_of(report)
    assert '<td class="number">0.000 to 1.000</td>' in text
    assert "<td>0 is best; 0.25 for always 0.5</td>" in text
    assert '<th scope="col" class="number">95 % interval</th>' in text


def test_markdown_holds_every_row(report):
    text = markdown_of(report)
    assert text.splitlines()[0] == summary(report)
    for table in tables(report):
        assert f"\n## {table.title}\n" in text
    assert "| accuracy | 0.750 | 0.000 to 1.000 | n = 4" in text
    assert "| **2 (selected)** | **0.250** | **1.000** | **0.750** |" in text
    assert r"| accuracy outside \[0, 1\] | 3 |" in text
    assert "- one remark" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1


def test_terminal_holds_every_cell(report):
    text = printed(report)
    assert text.splitlines()[0] == summary(report)
    for table in tables(report):
        assert table.title in text
        assert all(cell in text for row in table.rows for cell in row)


def test_terminal_fits_a_narrow_one(report):
    assert max(len(line) for line in printed(report, 60).splitlines()) <= 60


@pytest.fixture(scope="module")
def evil():
    return made_report(prompt=EVIL, notes=[EVIL], excluded={EVIL: 1}, versions={EVIL: EVIL})


def test_page_escapes(evil):
    text = page_of(evil)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert EVIL in page.text


def test_markdown_escapes(evil):
    text = markdown_of(evil)
    assert re.search(r"(?<!\\)<script", text) is None
    assert "\n## no" not in text
    row = next(line for line in text.splitlines() if line.startswith("| versions: "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert r"\[red\]\*b\* \`c\`" in row


def test_terminal_does_not_take_markup(evil):
    cells = [cell for table in tables(evil) for row in table.rows for cell in row]
    expected = sum(text.count("[red]*b*") for text in (summary(evil), *cells))
    assert expected == 7
    assert printed(evil).count("[red]*b*") == expected


def test_a_column_is_numeric_where_all_its_cells_are_figures():
    table = Table("t", ("a", "b", "c"), [("x", "0.5", "0.1 to 0.2"), ("y", "–", "n = 3")])
    assert table.numeric == [False, True, False]
