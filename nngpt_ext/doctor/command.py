"""The command `doctor`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated

import typer

from nngpt_ext.doctor.finding import Finding, look
from nngpt_ext.shell import AsJson, print_json

_COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "broken": typer.colors.RED}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: nngpt-ext doctor --json")(doctor)


def doctor(
    lemur: Annotated[str | None, typer.Option("--lemur", help="Folder ab/nn, or database ab.nn.db.")] = None,
    as_json: AsJson = False,
) -> None:
    """What of this machine is fit to run the task, a line each, with the command that mends what is not.

    Exit code 0 where all that is needed is there, 1 where something needed is broken. What a run can do without
    (the hub, the host, extras) is a note.
    """
    logging.getLogger("nngpt_ext").setLevel(logging.ERROR)  # what is found is said below, and once
    found = []
    for finding in examine(lemur):
        found.append(finding)
        if not as_json:
            typer.echo(f"{typer.style(f'{finding.state:<6}', fg=_COLOURS[finding.state])}  {finding.line()}")
    fit = all(finding.state != "broken" for finding in found)
    if as_json:
        print_json({"ok": fit, "checks": [one._asdict() for one in found]})
    if not fit:
        raise typer.Exit(1)


def examine(path: str | None = None) -> Iterator[Finding]:
    """All checks in turn; `path` is LEMUR's, if not where it is found."""
    from nngpt_ext.doctor import libraries, machine, surroundings

    yield look("Python", machine.python)
    yield from libraries.libraries()
    yield look("LEMUR", lambda: surroundings.lemur(path))
    yield look("disk", machine.disk)
    yield look("cache", machine.cache)
    yield look("hub", surroundings.hub)
    yield look("host", surroundings.host)
    yield from surroundings.extras()
