"""`nngpt-ext host …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.tasks.pair_options import LemurPath, Source

app = typer.Typer(
    help="Use the task with NNGPT: status, configuration, tuner, outputs.",
    epilog="Example: nngpt-ext host status",
    no_args_is_help=True,
)

Where = Annotated[Path | None, typer.Option("--host", help="Where NNGPT is, if not where Python finds it.")]
Folder = Annotated[Path, typer.Option(help="The folder of your project in which NNGPT is started.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Task = Annotated[str, typer.Argument(help="dataset_compare.")]


@app.command(epilog="Example: nngpt-ext host status --json")
def status(
    host: Where = None,
    folder: Folder = Path("nngpt"),
    run: Annotated[bool, typer.Option(help="Import NNGPT's tuner, in a separate process.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show which NNGPT is installed, what is enabled, and what prevents its tuner from running."""
    from nngpt_ext.host.integration import host_status

    found = host_status(host, project=folder, run=run)
    if as_json:
        print_json(found)
        return
    places = ", ".join(f"{role} in {place}" for role, place in found["modules"].items())
    typer.echo(f"NNGPT {found['version'] or '(version unknown)'} in {found['folder']}: {places or 'no known module'}")
    for role, line in found["missing"].items():
        typer.echo(f"missing: {role}: {line}")
    typer.echo(f"{len(found['llm_presets'])} LLM presets in {found['conf']}: {', '.join(found['llm_presets'])}")
    on = found["enabled"]
    typer.echo(f"enabled: {', '.join(on['prompts']) + ' in ' + on['folder'] if on else 'nothing'}")
    for line in found["obstacles"] or ["none"]:
        typer.echo(f"obstacle to its tuner: {line}")


@app.command(epilog="Example: nngpt-ext host enable dataset_compare --prompt code_only --dry-run")
def enable(
    task: Task,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt's name or file; may be repeated.")] = None,
    base: Annotated[str, typer.Option(help="Base model of the LLM preset.")] = "deepseek-coder-7b",
    folder: Folder = Path("nngpt"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write prompts, an LLM preset and a script into a folder in which NNGPT is started."""
    from nngpt_ext.host.integration import enable as write

    changes = write(task, prompt or ["code_only"], base=base, folder=folder, dry_run=dry_run)
    _print_changes(changes, folder, dry_run, as_json)


@app.command(epilog="Example: nngpt-ext host disable dataset_compare")
def disable(task: Task, folder: Folder = Path("nngpt"), dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Remove what enable wrote."""
    from nngpt_ext.host.integration import disable as remove

    _print_changes(remove(task, folder=folder, dry_run=dry_run), folder, dry_run, as_json)


@app.command(epilog="Example: nngpt-ext host tune --llm ds_coder_7b_instruct.json --prompt code_only --out runs/host")
def tune(
    llm: Annotated[str, typer.Option(help="LLM preset: a file, or its name in --folder or among NNGPT's own.")],
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
        bool,
        typer.Option("--measure", help="Let NNGPT evaluate before each epoch (LEMUR's database, 10 GB of memory)."),
    ] = False,
    database: Annotated[Path | None, typer.Option(help="LEMUR's database; by default db/ab.nn.db.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Accept that NNGPT runs code that comes with a model.")
    ] = False,
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Write the data and what starts NNGPT, and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train with NNGPT's own tuner on our pairs, with whole networks held out."""
    from nngpt_ext.host.tuner import HostTuning, tune_host

    found = tune_host(HostTuning(
        llm, prompt, out=out, host=host, project=folder, config=config, settings=settings or [], measure=measure,
        database=database, trust_remote_code=trust_remote_code, export_only=export_only,
    ))  # fmt: skip
    if as_json:
        print_json(found)
        return
    rows = ", ".join(f"{n:,} {part}" for part, n in found["rows"].items())
    typer.echo(
        f"{rows} rows in {found['out']}/data, the longest of {found['longest_row']:,} tokens"
        f"{'' if found['started'] else '; NNGPT was not started'}"
    )
    if found["not_filled"]:
        typer.echo(f"no configuration for NNGPT: {found['not_filled']}", err=True)


@app.command(epilog="Example: nngpt-ext host database --out db/ab.nn.db")
def database(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("db/ab.nn.db"), as_json: AsJson = False
) -> None:
    """Let nn-dataset build LEMUR's database, which takes five minutes or more and 635 MB."""
    from rich.console import Console

    from nngpt_ext.host.process import build_database

    with Console(stderr=True).status("building LEMUR's database"):
        rows = build_database(out)
    if as_json:
        print_json({"database": str(out), "trials": rows})
        return
    typer.echo(f"{rows:,} trials in {out}")


@app.command("import", epilog="Example: nngpt-ext host import runs/host/nngpt --out runs/host-report")
def import_(
    outputs: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="NNGPT's output: the folder of A0, A1, … or nngpt.")
    ],
    out: Annotated[Path | None, typer.Option(help="A new folder; by default OUT_DIR-report.")] = None,
    epoch: Annotated[int, typer.Option(min=1, help="Training epoch of the pairs for the pair prior.")] = 5,
    source: Source = "auto",
    lemur: LemurPath = None,
    as_json: AsJson = False,
) -> None:
    """Read answers that NNGPT generated and evaluated; write predictions and a report."""
    from nngpt_ext.host.outputs import import_outputs

    place = out or outputs.resolve().with_name(f"{outputs.resolve().name}-report")
    found = import_outputs(outputs, out=place, epoch=epoch, source=source, lemur=lemur)
    counts = found["counts"]
    if as_json:
        print_json({"out": found["out"], "counts": counts, "report": found["report"].model_dump(mode="json")})
        return
    typer.echo(
        f"{counts['read']} answers read, {counts['missing']} missing, {counts['unreadable_without_pickle']} unreadable "
        f"without a pickle, {counts['unparsable']} without a clear answer; accuracy {counts['accuracy']:.3f}, as NNGPT "
        f"reads them {counts['accuracy_by_the_host']:.3f}; the report is in {found['out']}"
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
