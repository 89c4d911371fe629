"""For hatchling: README.md as the page of a package index, which has none of the repository's files beside it.

Where `[project.urls]` in pyproject.toml has a Repository, links to files and pictures are absolute, to the tag of the
version. Without one, a link becomes the file's name, and a picture is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parents[1]
_PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)\s]+\)")
_CAPTION = r"\n+(?:\(.*?\)\n+)?"  # a paragraph in parentheses
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


class IndexPage(MetadataHookInterface):
    """Puts the page into the metadata of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        page = index_page(text, metadata.get("urls", {}).get("Repository"), _version())
        metadata["readme"] = {"content-type": "text/markdown", "text": page}


def index_page(text: str, repository: str | None, version: str) -> str:
    """The page; `repository` is the address of a forge that shows files below blob/ and raw/, as most do."""
    if repository is None:
        text = re.sub(_PICTURE.pattern + _CAPTION, "", text, flags=re.DOTALL)
        return _LINK.sub(lambda found: _named(found.group(1), found.group(2).partition("#")[0]), text)
    place = repository.rstrip("/")
    text = _PICTURE.sub(lambda found: found.group().replace("](", f"]({place}/raw/v{version}/"), text)
    return _LINK.sub(rf"[\1]({place}/blob/v{version}/\2)", text)


def _named(text: str, path: str) -> str:
    plain = text.strip("`")
    return f"`{path}`" if plain in path else f"{text} (`{path}`)"


def _version() -> str:
    return (ROOT / "nngpt_ext" / "version.py").read_text(encoding="utf-8").split('"')[1]
