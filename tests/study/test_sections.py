"""index.html, study.md and study.json."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.study.canvas import SERIES, TEXT
from nngpt_ext.study.conclusions import lede
from nngpt_ext.study.schema import Study, read_study
from nngpt_ext.study.sections import sections
from nngpt_ext.study.write import to_html, to_markdown
from tests.study.made import cell, figures, study

SECTIONS = [
    "conclusions", "words", "prompts", "datasets", "pairs", "parts", "splits", "labels", "capacity", "paper",
    "reliability", "coverage", "learning", "made",
]  # fmt: skip
EVIL = "</title><script>alert(1)</script> [red]*b* | `c`"


def draw(found) -> str:
    return to_html(found, sections(found))


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
    # Three pictures a finished cell; skills, coverages, learning curve. One epoch is no curve.
    assert n == 3 * 3 + 1 + 2 + 1
    assert len(page.named) == 2 * n
    assert set(page.named) <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


def test_two_epochs_are_a_curve_and_one_is_none():
    one = figures(epochs=[{"epoch": 1, "test_accuracy": 0.8}], selected_epoch=1)
    assert "epochs-0-title" in Page(draw(study(cell("recipe", figures()), cell("code_only", one)))).ids
    assert "epochs-0-title" not in Page(draw(study(cell("code_only", one)))).ids


def test_a_prompt_with_the_answer_hides_no_other():
    """Its line at the top would make one of all others: it has a picture of its own."""
    page = draw(
        study(cell("recipe", figures()), cell("normalized_accuracy", figures(0.19)), cell("code_only", figures()))
    )
    assert [i for i in range(3) if f"epochs-{i}-title" in Page(page).ids] == [0, 1]


def test_page_begins_with_what_it_answers():
    found = study(cell("recipe", figures()))
    page, words = draw(found), to_markdown(found, sections(found))
    for sentence in lede(found):
        assert page.index(html.escape(sentence, quote=False).replace("'", "&#39;")) < page.index("<nav")
    assert words.splitlines()[2].startswith("A language model reads")
    assert '<td class="above">beats the prior</td>' in page


def test_every_picture_says_of_how_many_pairs(text):
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", text):
        assert "test pairs" in caption or caption.startswith("Skill over the pair prior")


def test_pictures_take_the_pages_colours(text):
    assert not any(colour in text for colour in (TEXT, *SERIES))
    assert "var(--series-1)" in text
    assert "var(--text)" in text
    drawn = " ".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) == set()


def test_a_picture_is_the_same_each_time():
    cells = study(cell("recipe", figures()))
    assert draw(cells) == draw(cells)


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


def test_a_study_json_of_before_can_be_read(studied):
    """Without what was added since: the format is the same."""
    content = studied.study.model_dump(mode="json")
    del content["comparisons"]
    for point in content["learning_curve"]:
        del point["ci95"]
    for one in content["cells"]:
        for added in ("against", "coverage_prior") if one["figures"] else ():
            del one["figures"][added]
    found = Study.model_validate(content)
    assert "Accuracy against coverage" in draw(found)
    assert found.cells[0].figures.accuracy == studied.study.cells[0].figures.accuracy


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot read"), ("{", "not of a study"), ("{}", "not of a study")]
)
def test_json_that_is_none(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        read_study(tmp_path / "study.json")
