"""The commands `nngpt-ext records …` and `nngpt-ext datasets …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError, shown
from nngpt_ext.settings import build_config
from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.views.wording import count, excluded

_HELP = {"help_option_names": ["-h", "--help"]}
records = typer.Typer(
    help="Your own training records: what is in them.",
    epilog="Example: nngpt-ext records check trials.csv --code networks --facts datasets.yaml",
    no_args_is_help=True,
    context_settings=_HELP,
)
datasets = typer.Typer(
    help="Your own datasets: facts for prompts.",
    epilog="Example: nngpt-ext datasets describe images/flowers",
    no_args_is_help=True,
    context_settings=_HELP,
)


@records.callback()
@datasets.callback()
def _group() -> None:
    """Without it, typer makes the only command of a group the group itself."""


@records.command(epilog="Example: nngpt-ext records check trials.csv --code networks --facts datasets.yaml")
def check(
    path: Annotated[str, typer.Argument(help="CSV, Parquet or JSON Lines file, a folder of them, or a LEMUR.")],
    code: Annotated[
        str | None, typer.Option(help="Folder with NAME.py for each network, or the column with the sources.")
    ] = None,
    facts: Annotated[str | None, typer.Option(help="YAML file with facts of datasets.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="Such as nn=model; may be repeated.")
    ] = None,
    epoch: Annotated[int | None, typer.Option(min=1, help="By default the one with the most pairs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read training records and say what they hold, what was left out, and whether there is enough to train."""
    from nngpt_ext.tasks.records import check_records

    mapped = dict(one.partition("=")[::2] for one in columns or ())
    given = {"path": path, "code": code, "facts": facts, "columns": mapped}
    found = check_records(build_config(DataConfig, given, what="options"), epoch)
    if as_json:
        print_json(found)
        return
    for name in ("datasets", "epochs"):
        counted = (f"{key} ({count(n, 'network')})" for key, n in found[name].items())
        typer.echo(f"{name}: {', '.join(counted)}")
    typer.echo(f"recipe: {', '.join(f'{name} ({kind})' for name, kind in found['recipe'].items()) or 'none'}")
    typer.echo(f"epoch {found['epoch']}: {count(found['pairs'], 'pair')} of {count(found['networks'], 'network')}")
    for part, n in found["split"].items():
        typer.echo(f"  {part}: {count(n['pairs'], 'pair')} of {count(n['networks'], 'network')}")
    lines = [excluded(found["excluded"]), found["note"]]
    if strange := found["no_networks"]:
        names = ", ".join(strange[:5]) + (", …" if len(strange) > 5 else "")
        lines.append(
            f"without a class derived from nn.Module in the source: {count(len(strange), 'network')} ({names})"
        )
    for line in filter(None, lines):
        typer.echo(line)
    typer.echo("Enough to train and to test." if found["enough"] else "Enough to train, too few to show skill.")


@datasets.command(epilog="Example: nngpt-ext datasets describe images/flowers")
def describe(
    place: Annotated[str, typer.Argument(help="Folder with a folder for each class, or hf:FOLDER of save_to_disk.")],
    name: Annotated[str | None, typer.Option(help="The dataset's name; by default the folder's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a dataset's facts from its images, and print them as an entry of a file of facts."""
    from nngpt_ext.data.images import measure

    found, name = measure(place), name or Path(place.removeprefix("hf:")).resolve().name
    if not name.isprintable():
        raise UserError(f"{shown(name)} is no name of a dataset; give one: --name NAME")
    typer.echo(f"opened {found.sampled:,} of {found.facts.train_images:,} images; broken: {found.broken}", err=True)
    entry = {name: found.facts.by_name()}
    if as_json:
        print_json(entry)
    else:
        text = yaml.safe_dump(entry, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True)
        typer.echo(text, nl=False)
