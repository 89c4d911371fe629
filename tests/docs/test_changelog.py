"""CHANGELOG.md: each change once, under a known heading."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
SAME = 0.6  # of the words of the shorter entry
_SMALL = re.compile(r"\b(?:an?|and|are|as|at|by|for|from|in|is|its?|not|of|on|or|the|their|to|with|that|which)\b")


def entries(text: str) -> list[str]:
    """The entries, each on one line."""
    found = re.findall(r"^- (.+?)(?=\n- |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return [" ".join(entry.split()) for entry in found]


def twice(found: list[str]) -> list[tuple[str, str]]:
    """The pairs of entries that share most of their words."""
    words = [set(re.findall(r"[\w.-]+", _SMALL.sub("", entry.lower()))) for entry in found]
    return [
        (found[i], found[j])
        for i in range(len(found))
        for j in range(i)
        if len(words[i] & words[j]) >= SAME * min(len(words[i]), len(words[j]))
    ]


def test_no_entry_stands_twice() -> None:
    found = entries(TEXT)
    assert len(found) > 50
    assert twice(found) == []


@pytest.mark.parametrize(
    "other",
    [
        "A store's password is never shown or written, wherever in the URL it stands.",
        "The password of a store is never shown, wherever it stands in a URL.",
    ],
)
def test_a_second_one_is_seen(other: str) -> None:
    assert len(twice([*entries(TEXT), other])) == 1


def test_headings() -> None:
    versions = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert versions[0] == "Unreleased" or re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", versions[0])
    for version in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]
