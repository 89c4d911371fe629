"""`nngpt-ext host …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nngpt_ext.shell import AsJson, print_json

app = typer.Typer(
    help="NNGPT: look at it, enable our task in it, run its tuner, read its outputs.",
    epilog="Example: nngpt-ext host status",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Where = Annotated[Path | None, typer.Option("--host", help="Where NNGPT is, if not where Python finds it.")]
Folder = Annotated[Path, typer.Option(help="Folder of your project that is written to; the host is started in it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Task = Annotated[str, typer.Argument(help="dataset_compare.")]


@app.callback()
def _host() -> None:
    """NNGPT: look at it, enable our task in it, run its tuner, read its outputs."""


@app.command(epilog="Example: nngpt-ext host status --json")
def status(
    host: Where = None,
    folder: Folder = Path("nngpt"),
    run: Annotated[bool, typer.Option(help="Try the host's functions out, in a process of their own.")] = True,
    as_json: AsJson = False,
) -> None:
    """Which NNGPT is here, what it can do, and what to know of it."""
    from nngpt_ext.host.status import host_status

    found = host_status(host, project=folder, run=run)
    if as_json:
        print_json(found)
        return
    typer.echo(f"NNGPT {found['version'] or '(version unknown)'}, layout {found['layout']}, in {found['folder']}")
    typer.echo(f"conf: {', '.join(found['conf'].values())}; {len(found['llm_presets'])} LLM presets")
    on = found["enabled"]
    typer.echo(f"enabled: {', '.join(on['prompts']) + ' in ' + on['folder'] if on else 'nothing'}")
    for line in found["obstacles"] or ["none"]:
        typer.echo(f"obstacle to its tuner: {line}")
    for defect in found["defects"]:
        if defect["present"] is not False:
            sign = "?" if defect["present"] is None else "-"
            typer.echo(f"{sign} {defect['name']}: {defect['what']}; {defect['ours']}")


@app.command(epilog="Example: nngpt-ext host enable dataset_compare --prompt code_only --dry-run")
def enable(
    task: Task,
    prompt: Annotated[list[str] | None, typer.Option(help="A registered prompt; may be repeated.")] = None,
    base: Annotated[str, typer.Option(help="Base model of the LLM preset.")] = "deepseek-coder-7b",
    folder: Folder = Path("nngpt"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write prompts, an LLM preset and a script into a folder that the host is started in."""
    from nngpt_ext.host.conf import enable as write

    changes = write(task, prompt or ["code_only"], base=base, folder=folder, dry_run=dry_run)
    _print_changes(changes, folder, dry_run, as_json)


@app.command(epilog="Example: nngpt-ext host disable dataset_compare")
def disable(task: Task, folder: Folder = Path("nngpt"), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Take back what enable wrote."""
    from nngpt_ext.host.conf import disable as remove

    _print_changes(remove(task, folder=folder, dry_run=dry_run), folder, dry_run, as_json)


@app.command(epilog="Example: nngpt-ext host tune --llm ds_coder_7b_instruct.json --prompt code_only --out runs/host")
def tune(
    llm: Annotated[str, typer.Option(help="LLM preset: a file, or its name in the folder or among the host's own.")],
    prompt: Annotated[
        str | None, typer.Option(help="A registered prompt; by default the configuration's, or code_only.")
    ] = None,
    out: Annotated[Path, typer.Option(help="A new folder.")] = Path("runs/host"),
    host: Where = None,
    folder: Folder = Path("nngpt"),
    config: Annotated[Path | None, typer.Option(help="YAML file; by default the nearest nngpt.yaml.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key; may be repeated.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Have the host measure too, on all rows; needs --database.")
    ] = False,
    database: Annotated[Path | None, typer.Option(help="LEMUR's ab.nn.db.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Accept that the host runs code that comes with a model.")
    ] = False,
    export_only: Annotated[bool, typer.Option("--export-only", help="Write the data and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """The host's own tuner on our pairs, networks held out whole."""
    from nngpt_ext.host.tune import Obstacles, tune_host

    try:
        found = tune_host(
            llm, prompt, out=out, folder=host, project=folder, config=config, settings=settings or [],
            measure=measure, database=database, trust_remote_code=trust_remote_code, export_only=export_only,
        )  # fmt: skip
    except Obstacles as error:
        for line in error.lines:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        print_json(found)
        return
    rows = ", ".join(f"{n:,} {part}" for part, n in found["rows"].items())
    typer.echo(
        f"{rows} rows in {found['out']}/data, the longest of {found['longest_row']:,} tokens"
        f"{'' if found['started'] else '; the host was not started'}"
    )
    if found["not_filled"]:
        typer.echo(f"no conf for the host: {found['not_filled']}", err=True)


@app.command(epilog="Example: nngpt-ext host database --out db/ab.nn.db")
def database(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("db/ab.nn.db"), as_json: AsJson = False
) -> None:
    """Have nn-dataset build LEMUR's database, which takes five minutes or more and 0.7 GB."""
    from rich.console import Console

    from nngpt_ext.host.database import build_database

    with Console(stderr=True).status("building LEMUR's database"):
        rows = build_database(out)
    if as_json:
        print_json({"database": str(out), "trials": rows})
        return
    typer.echo(f"{rows:,} trials in {out}")


@app.command("import", epilog="Example: nngpt-ext host import runs/host/nngpt --out runs/host-report")
def import_(
    outputs: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder of the host's epochs, A0, A1, …")],
    out: Annotated[Path | None, typer.Option(help="A new folder; by default OUT_DIR with -report behind it.")] = None,
    epoch: Annotated[int, typer.Option(help="Training epoch of the pairs that the prior is made of.")] = 5,
    source: Annotated[str, typer.Option(help="auto, package, sqlite or api.")] = "auto",
    lemur: Annotated[str | None, typer.Option("--lemur", help="Folder ab/nn, or database ab.nn.db.")] = None,
    as_json: AsJson = False,
) -> None:
    """The host's judged outputs as predictions and a report."""
    from nngpt_ext.host.results import import_outputs

    place = out or outputs.resolve().with_name(f"{outputs.resolve().name}-report")
    found = import_outputs(outputs, out=place, epoch=epoch, source=source, lemur=lemur)
    counts = found["counts"]
    if as_json:
        print_json({"out": found["out"], "counts": counts, "report": found["report"].model_dump(mode="json")})
        return
    typer.echo(
        f"{counts['read']} answers read, {counts['missing']} missing, {counts['unreadable_without_pickle']} unreadable "
        f"without a pickle, {counts['unparsable']} unparsable; accuracy {counts['accuracy']:.3f}, by the host "
        f"{counts['accuracy_by_the_host']:.3f}; the report is in {found['out']}"
    )


def _print_changes(changes: list[Any], folder: Path, dry_run: bool, as_json: bool) -> None:
    if as_json:
        kinds = {(False, True): "written", (True, True): "changed", (True, False): "removed"}
        rows = [{"path": c.path, "change": kinds[c.before is not None, c.after is not None]} for c in changes]
        print_json({"folder": str(folder), "dry_run": dry_run, "changes": rows})
        return
    for change in changes:
        typer.echo(change.diff() if dry_run else f"{'-' if change.after is None else '+'} {folder / change.path}")
    typer.echo(f"{len(changes)} files {'would change' if dry_run else 'changed'} in {folder}", err=True)
