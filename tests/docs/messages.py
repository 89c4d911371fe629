"""The messages of the package's `UserError`s, as templates: what is filled in stands as `…`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nngpt_ext"


def template(node: ast.AST) -> str | None:
    """The text of a string literal or f-string; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    else:
        return None
    return re.sub("…[… ]*…", "…", " ".join(text.split()))


def trees() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield str(file.relative_to(PACKAGE)), ast.parse(file.read_text(encoding="utf-8"))


def raised() -> dict[str, str]:
    """The template of each `UserError(…)` whose message is written out, and the module that has it."""
    found: dict[str, str] = {}
    for module, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "UserError" and node.args:
                text = template(node.args[0])
                if text is not None and re.search("[a-z]{4}", text):
                    found.setdefault(text, module)
    return found


def written() -> set[str]:
    """Every text in the package, as a template: a message may be put together before it is raised."""
    texts = (template(node) for _, tree in trees() for node in ast.walk(tree))
    return {text for text in texts if text is not None}
