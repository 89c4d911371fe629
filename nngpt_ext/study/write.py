"""study.json, study.md and index.html of a study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nngpt_ext.evaluation.markdown import plain
from nngpt_ext.evaluation.markdown import section as table_section
from nngpt_ext.evaluation.page import template
from nngpt_ext.io import write_text
from nngpt_ext.study.conclusions import lede
from nngpt_ext.study.schema import Study
from nngpt_ext.study.sections import Section, sections

PAGE, MARKDOWN, JSON = "index.html", "study.md", "study.json"


def write_study(study: Study, folder: Path) -> None:
    """Write the three files; each is whole or left as it was.

    Raises:
        UserError: when a file cannot be written.
    """
    found = sections(study)
    text = json.dumps(study.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    for name, content in ((JSON, text + "\n"), (MARKDOWN, to_markdown(study, found)), (PAGE, to_html(study, found))):
        write_text(folder / name, content)


def to_html(study: Study, found: Sequence[Section]) -> str:
    """The page: one file that asks nothing of the network. Everything that comes from the study is escaped."""
    return template("nngpt_ext.study/page.html.jinja").render(study=study, sections=found, lede=lede(study))


def to_markdown(study: Study, found: Sequence[Section]) -> str:
    """The same in words and tables."""
    parts = [f"# {plain(study.title)}", plain(" ".join(lede(study)))]
    for section in found:
        parts.append(f"## {plain(section.title)}")
        parts += [plain(section.text)] if section.text else []
        parts += ["\n".join(f"- {plain(point)}" for point in section.points)] if section.points else []
        terms = [f"- *{plain(term)}*: {plain(words)}" for term, words in section.terms]
        parts += ["\n".join(terms)] if terms else []
        parts += [table_section(table, 3) for table in section.tables]
        for detail in section.details:
            if detail.tables:
                parts.append(f"### {plain(detail.label)}")
                parts += [table_section(table, 4) for table in detail.tables]
    return "\n\n".join(parts) + "\n"
