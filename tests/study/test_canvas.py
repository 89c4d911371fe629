"""A figure as SVG inside a page."""

from __future__ import annotations

from xml.etree import ElementTree

from nngpt_ext.study.canvas import SERIES, figure, legend, picture


def drawn(key: str, title: str = "A <b> & c", alt: str = "Two points."):
    with figure(2.0) as (one, axes):
        axes.plot([1, 2], [0.5, 0.7], color=SERIES[0], label="a & b")
        axes.fill_between([1, 2], [0, 0], [1, 1], color=SERIES[1], alpha=0.5)
        legend(one, axes)
        return picture(one, key, title, alt)


def test_svg_is_whole_and_says_what_it_is():
    root = ElementTree.fromstring(drawn("one").svg)
    assert root.tag == "svg"
    assert root.attrib == {"viewBox": "0 0 302.4 144", "role": "img", "aria-labelledby": "one-title one-alt"}
    assert (root.find("title").text, root.find("desc").text) == ("A <b> & c", "Two points.")
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    assert "a & b" in texts  # as text, not as outlines


def test_a_legend_names_everything_once_and_fits():
    with figure(2.0) as (one, axes):
        for _ in range(2):
            axes.plot([1, 2], [1, 2], color=SERIES[0], label="a rather long name of a base model")
        axes.plot([1, 2], [2, 1], color=SERIES[1], label="short")
        legend(one, axes)
        (shown,) = one.legends
    assert [text.get_text() for text in shown.get_texts()] == ["a rather long name of a base model", "short"]
    assert shown._ncols == 1


def test_two_pictures_share_no_id():
    ids = [
        {e.get("id") for e in ElementTree.fromstring(drawn(key).svg).iter() if e.get("id")} for key in ("one", "two")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert all(name.startswith("one-") for name in ids[0])


def test_colours_are_variables_and_there_is_no_address():
    text = drawn("one").svg
    assert "var(--series-1)" in text
    assert "var(--series-2)" in text
    assert "http" not in text
    assert "font-family" not in text  # the page's
    assert text == drawn("one").svg
