"""index.html, study.md and study.json."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.study.canvas import SERIES, TEXT
from nngpt_ext.study.schema import read_study
from nngpt_ext.study.sections import sections
from nngpt_ext.study.write import to_html, to_markdown
from tests.study.made import cell, figures, study

SECTIONS = [
    "conclusions", "prompts", "datasets", "pairs", "parts", "splits", "labels", "capacity", "paper", "reliability",
    "coverage", "learning", "made",
]  # fmt: skip
EVIL = "</title><script>alert(1)</script> [red]*b* | `c`"


class Page(HTMLParser):
    """Tags, attributes and ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.named: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        self.named += (given.get("aria-labelledby") or "").split()


@pytest.fixture(scope="module")
def text(studied) -> str:
    return (studied.folder / "index.html").read_text(encoding="utf-8")


def test_page_has_every_section(text):
    page = Page(text)
    assert [key for key in page.ids if key in SECTIONS] == SECTIONS
    assert {f"#{key}" for key in SECTIONS} <= set(page.links)


def test_page_asks_nothing_of_anyone(text):
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "image"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert all(link == "data:," or link.removeprefix("#") in page.ids for link in page.links)


def test_pictures_have_ids_of_their_own_and_words(text):
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    n = page.tags.count("svg")
    assert n >= 3 * 3 + 4  # three pictures a finished cell; curves, coverages, learning curve
    assert len(page.named) == 2 * n
    assert set(page.named) <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


def test_pictures_take_the_pages_colours(text):
    assert not any(colour in text for colour in (TEXT, *SERIES))
    assert "var(--series-1)" in text
    assert "var(--text)" in text
    drawn = " ".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) == set()


def test_a_picture_is_the_same_each_time():
    cells = study(cell("recipe", figures()))
    assert to_html(cells, sections(cells)) == to_html(cells, sections(cells))


def test_nothing_finished_is_still_a_page():
    cells = study(cell("recipe"))
    page = Page(to_html(cells, sections(cells)))
    assert [key for key in page.ids if key in SECTIONS] == SECTIONS
    assert "svg" not in page.tags


def test_everything_is_escaped():
    cells = study(cell(EVIL, figures(), base=EVIL), cell(EVIL, status="failed", reason=EVIL), title=EVIL)
    found = sections(cells)
    page = to_html(cells, found)
    assert "script" not in Page(page).tags
    assert "<script" not in page
    words = to_markdown(cells, found)
    assert re.search(r"(?<!\\)<script", words) is None
    for block in re.findall(r"(?:^\|.*\n)+", words, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_markdown_has_the_same_sections_and_tables(studied):
    words = (studied.folder / "study.md").read_text(encoding="utf-8")
    for section in sections(studied.study):
        assert f"## {section.title}\n" in words
        assert all(f"### {table.title}" in words for table in section.tables)
    assert "needs a card &" not in words  # & is escaped
    assert r"needs a card \& time" in words


def test_json_comes_back(studied):
    assert read_study(studied.folder / "study.json") == studied.study


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot read"), ("{", "not of a study"), ("{}", "not of a study")]
)
def test_json_that_is_none(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_study(tmp_path / "study.json")
