"""The fenced blocks of README.md, CONTRIBUTING.md and docs/*.md: what they are, and which are run.

A block of commands (`bash`, `python`) or of configuration (`yaml`, `toml`, `json`) is run or read by
`test_blocks.py`. A comment in the line before it says otherwise:

    <!-- not run: GPU -->                 or model hub, or over two minutes
    <!-- run by make test-all -->         takes long, or needs what only that installs
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")))
RUN = ("bash", "python")
READ = ("yaml", "toml", "json")
PLAIN = ("text",)
REASONS = ("GPU", "model hub", "over two minutes")
SLOW = "run by make test-all"
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->\s*", re.DOTALL)


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    comment: str | None  # what stands in the comment before it

    @property
    def reason(self) -> str | None:
        """Why it is not run, if it is not."""
        comment = self.comment or ""
        return comment.removeprefix("not run: ") if comment.startswith("not run") else None

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str, page: str) -> Iterator[Block]:
    """The fenced blocks of a page, those in lists too."""
    tokens = MarkdownIt().parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in ("fence", "code_block"):
            found = _COMMENT.fullmatch(before.content) if before is not None and before.type == "html_block" else None
            line = token.map[0] + 1 if token.map else 0
            language = (
                token.info.strip() if token.type == "fence" else "text"
            )  # what is indented is no block of commands
            yield Block(page, line, language, token.content, found.group(1) if found else None)


def all_blocks() -> list[Block]:
    """Those of all pages."""
    return [one for page in PAGES for one in blocks((ROOT / page).read_text(encoding="utf-8"), page)]


def inline_code(text: str) -> Iterator[str]:
    """What stands between backquotes in a page, in tables too."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield from (child.content for child in token.children or [] if child.type == "code_inline")


def counted(passed: int) -> str:
    """The line that pytest prints at its end: `passed` blocks were run, and these were not."""
    reasons = Counter(one.reason for one in all_blocks() if one.reason is not None)
    told = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    return f"fenced blocks in README, CONTRIBUTING and docs: {passed} run or read, {sum(reasons.values())} not ({told})"
