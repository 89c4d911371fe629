"""The option and the output that all commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def print_json(content: Any) -> None:
    """Print a result as JSON on standard output; types that JSON lacks, such as paths, become text."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))
