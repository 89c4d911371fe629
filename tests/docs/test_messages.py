"""docs/troubleshooting.md has every message of the package, and none that is not one."""

from __future__ import annotations

import ast
import re

from tests.docs.blocks import ROOT
from tests.docs.messages import raised, template, written

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- (`+)(.+?)\1<br>\n  (.+)$", re.MULTILINE)


def test_every_message_is_there_with_its_cause() -> None:
    told = {message for _, message, _ in ENTRY.findall(PAGE)}
    missing = [f"- `{text}`<br>\n  (why, of {module})" for text, module in raised().items() if text not in told]
    assert not missing, "docs/troubleshooting.md lacks:\n" + "\n".join(missing)


def test_every_entry_is_a_message() -> None:
    entries = [message for _, message, _ in ENTRY.findall(PAGE)]
    assert len(entries) > 150
    assert set(entries) - written() == set()
    assert len(set(entries)) == len(entries)


def test_templates() -> None:
    def of(source: str) -> str | None:
        return template(ast.parse(source, mode="eval").body)

    assert of('f"no {a} here{b}{c}; {{x}}"') == "no … here…; {x}"
    assert of('"a " "b"') == "a b"
    assert of("name") is None
