"""The commands `nngpt-ext export …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import SplitOptions
from nngpt_ext.settings import build_config
from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.tasks.pair_options import (
    Epoch,
    FamilyLevel,
    Fold,
    Folds,
    HoldOut,
    LemurPath,
    Seed,
    Source,
    Split,
    TrialsOf,
)

app = typer.Typer(
    help="Publish a run's adapter, the pairs as a dataset, or the questions as a task of lm-evaluation-harness.",
    epilog="Example: nngpt-ext export hub --run runs/demo --out demo-adapter",
    no_args_is_help=True,
)

Run = Annotated[Path, typer.Option("--run", help="Folder of a finished run.")]
Out = Annotated[Path, typer.Option(help="The folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is in the folder, whatever it is.")]
Push = Annotated[
    str | None, typer.Option(metavar="OWNER/NAME", help="Also push it to the hub; without this nothing is pushed.")
]
Private = Annotated[bool, typer.Option("--private", help="A new repository on the hub is private.")]


@app.command(epilog="Example: nngpt-ext export hub --run runs/demo --out demo-adapter --json")
def hub(
    run: Run,
    out: Out,
    license: Annotated[
        str | None,
        typer.Option(
            help="License of the adapter; by default that of its base if known (mit for an embedded one), else other."
        ),
    ] = None,
    base_id: Annotated[str | None, typer.Option(help="Hub id of the base, if the run loaded it from a folder.")] = None,
    push: Push = None,
    private: Private = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """A folder with the adapter, its model card and, if embedded, its base; Predictor.from_pretrained takes it."""
    from nngpt_ext.export.adapter_folder import export_hub

    done = export_hub(run, out, license=license, base_id=base_id, repo=push, private=private, force=force)
    found = {"out": str(done.folder), "pushed": done.pushed}
    print_json(found) if as_json else typer.echo(f"the adapter and its card are in {done.folder}")


@app.command(epilog="Example: nngpt-ext export dataset --split by_network --out lemur-pairs --json")
def dataset(
    out: Out,
    split: Split = "by_network",
    hold_out: HoldOut = None,
    fold: Fold = None,
    folds: Folds = SplitOptions.folds,
    family_level: FamilyLevel = SplitOptions.family_level,
    epoch: Epoch = 5,
    trials: TrialsOf = "best",
    seed: Seed = 0,
    source: Source = "auto",
    lemur: LemurPath = None,
    push: Push = None,
    private: Private = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """The pairs in Parquet with fixed parts, the networks' sources, and a card; datasets.load_dataset takes it."""
    from nngpt_ext.export.pairs_dataset import export_dataset

    options = {
        "epoch": epoch, "split": split, "hold_out": hold_out, "fold": fold, "folds": folds, "seed": seed,
        "family_level": family_level, "trials": trials, "source": source, "path": lemur,
    }  # fmt: skip
    config = build_config(DataConfig, options, what="options")
    done, counts = export_dataset(out, config, repo=push, private=private, force=force)
    if as_json:
        print_json({"out": str(done.folder), "pushed": done.pushed, "split": counts})
    else:
        parts = [f"{part}: {n['pairs']:,} pairs of {n['networks']:,} networks" for part, n in counts.items()]
        typer.echo(f"{'; '.join(parts)}; in {done.folder}")


@app.command("lm-eval", epilog="Example: nngpt-ext export lm-eval --run runs/demo --out demo-task --networks 20")
def lm_eval(
    run: Run,
    out: Out,
    networks: Annotated[int | None, typer.Option(min=1, help="Test networks to ask about; all by default.")] = None,
    base: Annotated[bool, typer.Option(help="Write the base with its 4-bit weights written out beside it.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Run lm_eval on it and compare answer by answer.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """A task folder that lm-evaluation-harness runs: the same prompts about the same test pairs."""
    from nngpt_ext.export.harness import check_harness, check_installed, check_text, export_harness

    if check:
        check_installed()
    done = export_harness(run, out, networks=networks, with_base=base, force=force)
    found: dict[str, Any] = {
        "out": str(done.folder), "task": done.task, "pairs": done.pairs, "networks": done.networks,
        "command": done.command(),
    }  # fmt: skip
    text = f"{done.pairs:,} pairs of {done.networks:,} networks, in both orders, in {done.folder}; type:"
    text += f"\n{done.command()}"
    if check:
        found["check"] = check_harness(run, done)
        text += f"\n{check_text(found['check'])}"
    print_json(found) if as_json else typer.echo(text)
