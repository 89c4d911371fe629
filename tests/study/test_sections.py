"""index.html, study.md and study.json."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nngpt_ext.study.outcome import Comparison, CurvePoint, Study
from nngpt_ext.study.sections import sections, sentences, slices, to_html, to_markdown, verdicts
from tests.study.made import cell, figures, of_families, study

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
        self.described = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        self.described += given.get("role") == "img" and bool(given.get("aria-label"))


@pytest.fixture(scope="module")
def text(studied) -> str:
    return (studied.folder / "index.html").read_text(encoding="utf-8")


def test_page_has_a_link_to_every_section(text, studied):
    page = Page(text)
    keys = [section.key for section in sections(studied.study)]
    assert {"verdicts", "datasets", "learning", "reliability", "coverage", "slices", "made"} <= set(keys)
    assert [key for key in page.ids if key in keys] == keys
    assert {f"#{key}" for key in keys} <= set(page.links)


def test_page_requests_nothing_from_anyone(text):
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "image"} & set(page.tags)
    assert set(re.findall(r"https?:[^\"']*", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"@import|url\((?!#)", text)
    assert all(link == "data:," or link.removeprefix("#") in page.ids for link in page.links)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


def test_every_picture_has_a_description(text):
    page = Page(text)
    # Three pictures for each of two settings, the skills and the learning curve. One epoch is not a curve.
    assert page.tags.count("svg") == page.tags.count("figcaption") == page.described == 3 * 2 + 2


def test_a_picture_is_the_same_each_time():
    cells = study(cell("recipe", figures()))
    assert draw(cells) == draw(cells)


def test_nothing_finished_is_still_a_page():
    page = Page(draw(study(cell("recipe"))))
    assert "verdicts" in page.ids
    assert "svg" not in page.tags


def test_everything_is_escaped():
    cells = study(cell(EVIL, figures(), base=EVIL), cell(EVIL, status="failed", reason=EVIL), title=EVIL)
    page = draw(cells)
    assert "script" not in Page(page).tags
    assert "<script" not in page
    words = to_markdown(cells, sections(cells))
    assert re.search(r"(?<!\\)<script", words) is None
    for block in re.findall(r"(?:^\|.*\n)+", words, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_markdown_has_the_same_sections_and_tables(studied):
    words = (studied.folder / "study.md").read_text(encoding="utf-8")
    for section in sections(studied.study):
        if section.tables or section.details:
            assert f"## {section.title}\n" in words
        assert all(f"### {table.title}" in words for table in section.tables)
    assert r"needs a card \& time" in words


def test_json_comes_back(studied):
    text = (studied.folder / "study.json").read_text(encoding="utf-8")
    assert Study.model_validate_json(text) == studied.study


def test_three_sentences_count_the_cells():
    found = study(
        cell("recipe", figures()), cell("code_only", figures(0.0)), cell("normalized_accuracy", figures(0.19))
    )
    many, skill, splits = sentences(found)
    assert many.startswith("Of 3 cells ")
    assert "3 are finished, and 2 of these can show skill" in many
    assert skill.startswith("1 of them showed skill (recipe under by_network)")
    assert "75% under by_network" in splits
    assert len(sentences(study(cell("recipe")))) == 3


def test_a_row_of_the_verdicts():
    best = {"pair_prior": {"accuracy": 0.8}, "a": {"accuracy": 0.82}, "b": {"accuracy": 0.86}}
    found = study(
        cell("recipe", figures(0.05, p=0.01, baselines=best)), cell("code_only", figures(0.0)), cell("recipe")
    )
    table = verdicts(found)
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert (first["verdict"], first["skill"], first["p"], first["p (Holm)"]) == (
        "skill shown",
        "+0.050",
        "0.0100",
        "0.0100",
    )
    assert (first["accuracy"], first["prior"], first["best other baseline"]) == ("0.850", "0.800", "b 0.860")
    assert [row[0] for row in table.rows] == ["recipe", "recipe", "code_only"]  # the cells of a prompt stand together
    assert table.marked == {0}
    assert table.rows[1][3] == "not run"
    assert "2 cells were compared" in table.caption


def test_the_page_begins_with_families_never_seen(folded):
    first, second = sections(folded.study)[:2]
    assert (first.title, second.title) == ("Networks of families never seen", "Verdicts")
    assert [row[:4] for row in first.tables[0].rows] == [
        ("recipe", "embedded-small", f"by_family {level}, normalized", "no skill shown") for level in ("near", "strict")
    ]
    page = (folded.folder / "index.html").read_text(encoding="utf-8")
    assert page.index("Beyond the best prior</h3>") < page.index("Verdicts by cell</h3>")


def test_a_row_of_families_never_seen():
    near = {"split": "by_family", "family_level": "near"}
    found = study(
        cell("recipe", of_families(), **near), cell("structure", of_families(0.0), **near), cell("code_only", **near),
        cell("recipe", figures()),
    )  # fmt: skip
    beyond, single = sections(found)[0].tables
    assert dict(zip(beyond.header[:5], beyond.rows[0], strict=False)) == {
        "prompt": "recipe", "base model": "embedded", "tested under": "by_family near, normalized",
        "verdict": "skill shown", "beyond the best prior": "+0.020",
    }  # fmt: skip
    assert beyond.rows[0][5:] == (
        "+0.010 to +0.030", "0.850", "0.700 to 0.900", "0.800", "0.810", "0.820", "0.830", "0.840", "kind_prior",
        "0.0020", "100", "40", "40",
    )  # fmt: skip
    assert beyond.header[8:13] == ("pair_prior", "kind_prior", "bt_recipe", "bt_structure", "bt_recipe_structure")
    assert [row[3] for row in beyond.rows] == ["skill shown", "no skill shown", "not run"]
    assert beyond.marked == {0}
    assert single.rows[0][3:] == (
        "0.870", "0.840 to 0.900", "+0.020", "+0.010 to +0.030", "–", "–", "–", "–", "0.410",
    )  # fmt: skip
    assert len(single.rows) == 2
    assert sentences(found)[3] == (
        "On networks of families never seen, 1 of 2 cells showed skill beyond the best prior, which may know the "
        "network's kind (recipe, near)."
    )


def test_by_cluster_is_said_to_show_nothing_about_other_networks():
    notes = sections(study(cell("recipe", figures(), split="by_cluster")))[0].tables[1]
    assert notes.rows == [
        (
            "by_cluster: it trains on the families with more than 10 % of the networks only, in LEMUR two, so it "
            "cannot show what carries over to networks unlike those in training; by_family can. Its test set is not "
            "a sample of all networks: read it beside by_network.",
        )
    ]


def test_the_committed_result_is_still_read():
    """Its first table is that of families never seen."""
    text = (Path(__file__).parents[2] / "docs" / "study" / "study.json").read_text(encoding="utf-8")
    found = Study.model_validate_json(text)
    assert len(found.finished()) == 26
    drawn = sections(found)
    assert [one.key for one in drawn[:3]] == ["families", "price", "verdicts"]
    assert len(sentences(found)) == 6
    for page in (to_markdown(found, drawn), to_html(found, drawn)):
        assert "families never seen" in page


def test_every_row_has_a_value_for_each_column():
    gain = {"value": 0.01, "ci95": (0.0, 0.02), "p": 0.04}
    own = figures(baselines={"pair_prior": {"accuracy": 0.8}, "recipe_gbm": {"accuracy": 0.86, "difference": gain}})
    cells = [cell("recipe", own), cell("recipe", own, base="embedded-small"), cell("recipe", status="failed")]
    cells.append(cell("recipe", of_families(), split="by_family", family_level="strict"))
    found = study(
        *cells,
        learning_curve=[CurvePoint(networks=3, train_pairs=9, n_test_pairs=8, accuracy={"pair_prior": 0.8})],
        comparisons=[Comparison(first=cells[0].name, second=cells[1].name, n=9, networks=3, difference=gain)],
    )
    every = [table for section in sections(found) for table in section.tables] + slices(own)
    assert {
        "Beyond the best prior",
        "What a single family decides",
        "Verdicts by cell",
        "Baselines",
        "Differences",
        "Other baselines",
        "Near-duplicates",
    } <= {t.title for t in every}
    assert all(len(row) == len(table.header) for table in every for row in table.rows)
    assert all(table.rows for table in every)
