"""Figures in one style, as SVG."""

from __future__ import annotations

import re

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.views.drawing import as_svg, check_installed, figure


def drawn(key: str) -> str:
    with figure(2.0, columns=2) as (picture, (left, right)):
        left.plot([0, 1], [0, 1], marker="o")
        right.set_title("a title")
        return as_svg(picture, key)


def test_a_figure_is_the_same_each_time_and_shares_no_id_with_another():
    assert drawn("a") == drawn("a")
    one, two = (set(re.findall(r"#([pm][0-9a-f]{10})", drawn(key))) for key in "ab")
    assert one
    assert not one & two


def test_text_stays_text_and_there_is_no_prolog():
    found = drawn("a")
    assert found.startswith("<svg")
    assert ">a title</text>" in found


def test_what_is_missing_is_named_with_the_command():
    check_installed("pictures", "study", "json")
    with pytest.raises(UserError, match=r"pictures need no_such and none_such; .*pip install 'matplotlib>=3\.8'$"):
        check_installed("pictures", "study", "no_such", "json", "none_such")
