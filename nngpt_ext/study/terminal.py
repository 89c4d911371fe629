"""A study for a terminal: what became of its cells, and the conclusions."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from nngpt_ext.evaluation.terminal import rendered
from nngpt_ext.study.conclusions import conclusions
from nngpt_ext.study.schema import Study
from nngpt_ext.study.tables import states


def print_study(study: Study, console: Console | None = None) -> None:
    """Print the cells' states and the conclusions; on standard output where no console is given."""
    console = console or Console()
    console.print(rendered(states(study)))
    console.print()
    for line in conclusions(study):
        console.print(Text(f"• {line}"))
