"""For mkdocs: links that lead out of docs/, to a file of the repository, become the file's name.

On a forge such a link opens the file; a site that is built has no such file.
"""

from __future__ import annotations

import re
from typing import Any

_OUT = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with each page's text."""
    return _OUT.sub(lambda found: _named(found.group(1), found.group(2)), markdown)


def _named(text: str, path: str) -> str:
    plain = text.strip("`")
    return f"`{path}`" if plain in path else f"{text} (`{path}`)"
