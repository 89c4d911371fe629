"""What the commands of all rooms share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def print_json(content: Any) -> None:
    """Print a result on standard output; what JSON does not know, such as a path, as its text."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))
