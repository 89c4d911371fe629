"""The command `study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: nngpt-ext study --config examples/study_quick.yaml --out runs/study --resume")(study)


def study(
    config: Annotated[Path, typer.Option(help="The study's file: what its cells are.")],
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("runs/study"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on; what is finished is not repeated.")] = False,
    draw: Annotated[bool, typer.Option("--draw", help="Run nothing; draw the page of what is finished.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print study.json on standard output.")] = False,
) -> None:
    """Run a grid of prompts, base models, splits and labels, and draw what it shows as one page."""
    from nngpt_ext.study.run import run_study

    found = run_study(config, out, resume=resume, draw_only=draw)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from nngpt_ext.study.terminal import print_study

        print_study(found)
    typer.echo(f"The page is {out / 'index.html'}", err=True)
