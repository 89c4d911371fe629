"""docs/host.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from nngpt_ext.host.answers import TRICKY
from nngpt_ext.host.defects import DEFECTS
from nngpt_ext.host.layout import Host
from nngpt_ext.host.status import probed

PAGE = (Path(__file__).parents[2] / "docs" / "host.md").read_text(encoding="utf-8")


def test_every_defect_is_told_with_what_we_do() -> None:
    for defect in DEFECTS:
        assert f"| **{defect.name}**: {defect.what} | {defect.ours} |" in PAGE
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)


def test_the_table_of_answers(host: Host) -> None:
    found = probed(host, ("evaluation",))["answers"]
    said = f"On the {len(TRICKY)} tricky outputs .* differs in {len(found['wrong'])}, and in "
    said += f"{len(found['order_decides'])} its answer depends"
    assert re.search(said, PAGE.replace("\n", " "))
    for case in found["wrong"]:
        one, two = (answer or "none" for answer in case["host"])
        host_said = one if one == two else f"{one} or {two}"
        output = case["output"].replace("\n", "⏎")
        assert f"| `{output}` | {case['why']} | {case['answer'] or 'open'} | {host_said} |" in PAGE
