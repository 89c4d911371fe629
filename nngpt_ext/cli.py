"""The commands: each wraps a Python function; results go to standard output, messages to standard error."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from nngpt_ext import ask_commands as ask
from nngpt_ext import bench, doctor
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import SPLITS, SplitOptions
from nngpt_ext.data.trials import USES
from nngpt_ext.errors import UserError, shown
from nngpt_ext.export.export_commands import app as export
from nngpt_ext.host.host_commands import app as host
from nngpt_ext.io import inside, write_text
from nngpt_ext.settings import build_config
from nngpt_ext.shell import AsJson, print_json
from nngpt_ext.tasks.pair_options import (
    Epoch,
    Evidence,
    FamilyLevel,
    Fold,
    Folds,
    HoldOut,
    Label,
    LemurPath,
    Seed,
    Source,
    Split,
    TrialsOf,
)
from nngpt_ext.tasks.records_commands import datasets, records
from nngpt_ext.terminal import app, main
from nngpt_ext.tuning.ranks import joined
from nngpt_ext.views.wording import count, excluded, number, with_interval

__all__ = ["app", "main"]

_GROUPS = {"bench": bench.app, "datasets": datasets, "export": export, "host": host, "records": records}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)


@app.command(epilog="Example: nngpt-ext run dataset_compare --set model.base=embedded --out runs/demo --resume")
def run(
    task: Annotated[str, typer.Argument(help="A registered task; see nngpt-ext tasks.")],
    config: Annotated[Path | None, typer.Option(help="YAML file; by default the nearest nngpt.yaml.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as tuning.epochs=3; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default the configuration's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run; print a finished one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a task: fine-tune, score, report; without data.fold: all folds of a split with folds."""
    from nngpt_ext.tasks.run import run_task

    with joined() if task == "dataset_compare" else nullcontext():
        result = run_task(task, config, output_dir=out, resume=resume, settings=settings or [])
        _print_report(result.report, as_json)
        typer.echo(f"The run is in {result.output_dir}", err=True)


@app.command(epilog="Example: nngpt-ext tasks")
def tasks(as_json: AsJson = False) -> None:
    """List the registered tasks, prompts and fine-tuners."""
    from nngpt_ext import registry

    kinds = {"tasks": registry.tasks, "prompts": registry.prompts, "finetuners": registry.finetuners}
    names = {kind: known.names() for kind, known in kinds.items()}
    if as_json:
        print_json({**names, "broken": [line for known in kinds.values() for line in known.broken()]})
        return
    for kind, known in names.items():
        typer.echo(f"{kind}: {', '.join(known)}")  # broken plugins were logged when they failed


@app.command(epilog="Example: nngpt-ext pairs --epoch 5 --out pairs.parquet --json")
def pairs(
    epoch: Epoch = 5,
    label: Label = "normalized",
    trials: TrialsOf = "best",
    split: Annotated[
        str | None,
        typer.Option(help=SPLITS.help("Split whose parts are counted (by_network with --out)")),
    ] = None,
    hold_out: HoldOut = None,
    fold: Fold = None,
    folds: Folds = SplitOptions.folds,
    family_level: FamilyLevel = SplitOptions.family_level,
    source: Source = "auto",
    lemur: LemurPath = None,
    seed: Seed = 0,
    evidence: Evidence = None,
    out: Annotated[Path | None, typer.Option(help="Write the pairs to this Parquet file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Build and count the pairs of an epoch."""
    from nngpt_ext.tasks.inspection import summarize_pairs

    options = _data(
        split=split or "by_network", hold_out=hold_out, fold=fold, folds=folds, family_level=family_level, epoch=epoch,
        label=label, trials=trials, source=source, path=lemur, seed=seed, evidence=evidence,
    )  # fmt: skip
    summary = summarize_pairs(options, out, split=split is not None)
    if as_json:
        print_json(summary)
        return
    typer.echo(
        f"{count(summary['pairs'], 'pair')} of {count(summary['networks'], 'network')} at epoch {epoch}; always "
        f"answering the usual winner of a dataset pair is correct for {summary['pair_prior']:.4f} of them (in sample)"
    )
    if summary["excluded"]:
        typer.echo(excluded(summary["excluded"]))
    for part, n in summary.get("split", {}).items():
        typer.echo(f"  {part}: {count(n['pairs'], 'pair')} of {count(n['networks'], 'network')}")
    if "evidence" in summary:
        without = ", ".join(f"{why} ({n:,})" for why, n in summary["evidence"]["left_out"].items())
        typer.echo(f"pairs without evidence: {without or 'none'}")
    if out is not None:
        typer.echo(f"written to {out}", err=True)


@app.command(epilog="Example: nngpt-ext baselines --split by_family --family-level strict --json")
def baselines(
    split: Split = "by_network",
    hold_out: HoldOut = None,
    fold: Fold = None,
    folds: Folds = SplitOptions.folds,
    family_level: FamilyLevel = SplitOptions.family_level,
    epoch: Epoch = 5,
    label: Label = "normalized",
    trials: Annotated[
        str | None, typer.Option(help=f"{USES.help('Trials that training pairs are made of')}; default: as tested")
    ] = None,
    test_trials: Annotated[
        str | None, typer.Option(help="Trials that test pairs are made of: best, or one random one a dataset.")
    ] = None,
    evidence: Evidence = None,
    frozen_lm: Annotated[
        str | None, typer.Option(help="Also fit heads on this base model's embeddings of the sources.")
    ] = None,
    source: Source = "auto",
    lemur: LemurPath = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the baselines, which use no language model, on held-out pairs; without --fold, of all folds."""
    from nngpt_ext.tasks.inspection import evaluate_baselines

    options = _data(
        split=split, hold_out=hold_out, fold=fold, folds=folds, family_level=family_level, epoch=epoch, label=label,
        trials=trials or test_trials or "best", test_trials=test_trials, source=source, path=lemur, seed=seed,
        evidence=evidence,
    )  # fmt: skip
    found = evaluate_baselines(options, frozen_lm)
    if as_json:
        print_json(found)
        return
    tested = f"{count(found['n_test_pairs'], 'test pair')} of {count(found['n_test_networks'], 'network')}"
    intervals = f"95 % intervals over {found['intervals_over']}" if found["intervals_over"] else "each dataset in turn"
    typer.echo(f"{found['split']}: {tested}; {intervals}")
    for name, figures in found["baselines"].items():
        if "datasets" in figures:
            each = ", ".join(f"{dataset} {number(value)}" for dataset, value in figures["datasets"].items())
            typer.echo(f"  {name}: median {number(figures['median'])} ({each})")
            continue
        line = f"  {name}: {with_interval(figures['accuracy'], figures['ci95'])}"
        if name != "pair_prior":
            difference = figures["difference"]
            line += f"; against the prior {with_interval(difference['value'], difference['ci95'], sign=True)}"
        if not name.endswith("_prior"):
            beyond = figures["beyond_best_prior"]
            line += f"; against {beyond['prior']} {with_interval(beyond['value'], beyond['ci95'], sign=True)}"
        typer.echo(line)
    for line in filter(None, (excluded(found["excluded"]), found["note"])):
        typer.echo(line)


@app.command(epilog="Example: nngpt-ext report runs/demo")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or of host import.")], as_json: AsJson = False
) -> None:
    """Print a run's report again, rebuilt from its predictions.parquet."""
    from nngpt_ext.host.outputs import is_import, rebuild_import
    from nngpt_ext.tasks.reporting import rebuild_report

    _print_report(rebuild_import(run) if is_import(run) else rebuild_report(run), as_json)


# Behind run and report, so that --help begins with them.
ask.register(app)


@app.command(epilog="Example: nngpt-ext study --config study.yaml --out runs/study --resume")
def study(
    config: Annotated[Path, typer.Option(help="YAML file that defines the study's cells.")],
    out: Annotated[Path, typer.Option(help="Folder of the study.")] = Path("runs/study"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue; finished cells are not repeated.")] = False,
    draw: Annotated[bool, typer.Option("--draw", help="Run nothing; draw the page of the finished cells.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Runs at a time, each on one core if several; by default one for each GPU, without GPUs one cell.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a grid of prompts, base models, splits and labels, and draw its results as one page."""
    from nngpt_ext.study.sections import print_study
    from nngpt_ext.study.sweep import run_study

    found = run_study(config, out, resume=resume, draw_only=draw, workers=workers)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_study(found)
    typer.echo(f"The page is {out / 'index.html'}", err=True)


@app.command(epilog="Example: nngpt-ext structure alexnet.py --shape 3x32x32 --classes 10")
def structure(
    file: Annotated[Path, typer.Argument(help="Python file with the network's class.")],
    shape: Annotated[
        list[str], typer.Option(help="Channels, height and width of an image, such as 3x32x32; may be repeated.")
    ],
    classes: Annotated[
        list[int], typer.Option(min=1, max=10**6, help="Number of classes, of all shapes or of each in their order.")
    ],
    as_json: AsJson = False,
) -> None:
    """Measure a network's size and layers, by running its code in a sandbox."""
    from nngpt_ext.networks.catalogue import structures_of
    from nngpt_ext.networks.source import read_source
    from nngpt_ext.networks.structure import NUMBERS, parse_shape, source_key

    if len(classes) not in (1, len(shape)):
        raise UserError(f"--shape is given {len(shape)} times and --classes {len(classes)} times; give one for each")
    each = classes if len(classes) > 1 else classes * len(shape)
    source, forms = read_source(file, f"'{file}'"), list(map(parse_shape, shape, each))
    found = structures_of(source, forms, f"'{file}'")
    if as_json:
        key = source_key(source)
        printed = [
            {"source": key, "shape": dataclasses.asdict(form), "structure": one.numbers()}
            for form, one in zip(forms, found, strict=True)
        ]
        print_json(printed if len(printed) > 1 else printed[0])
        return
    for form, measured in zip(forms, found, strict=True):
        if len(forms) > 1:
            typer.echo(f"{form}:")
        for name, value in measured.numbers().items():
            one = NUMBERS[name]
            typer.echo(f"{name + ':':24}{value:>16,}  {one.description}{f' ({one.unit})' if one.unit else ''}")
        if not measured.forward:
            typer.echo("A batch of images did not go through the network, so its other numbers are unknown.")


@app.command(epilog="Example: nngpt-ext examples")
def examples(
    out: Annotated[Path, typer.Option(help="Folder to write them to.")] = Path("examples"),
) -> None:
    """Write the example configurations, and a network to ask about, as a clone of the repository has them."""
    package = Path(__file__).parent
    own = next(folder for folder in (package / "examples", package.parent / "examples") if folder.is_dir())
    files = {file.name: file.read_text(encoding="utf-8") for file in sorted((*own.glob("*.yaml"), own / "alexnet.py"))}
    for name, text in files.items():
        if (place := inside(out, name)).exists() and place.read_bytes() != text.encode():
            raise UserError(f"{shown(place)} is another file; give another folder: nngpt-ext examples --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(out / name, text)
        typer.echo(out / name)


@app.command(
    epilog="Example: nngpt-ext bundle --platform manylinux_2_28_x86_64 --python 3.12 --out bundle --torch none"
)
def bundle(
    out: Annotated[Path, typer.Option(help="Folder to write; it may not have files.")],
    platform: Annotated[str, typer.Option(help="Of the other machine, as pip names it.")] = "manylinux_2_28_x86_64",
    python: Annotated[str, typer.Option(help="The other machine's version of Python.")] = "3.12",
    base: Annotated[str, typer.Option(help="Base model to include, as model.base.")] = "embedded",
    torch: Annotated[str, typer.Option(help="tested: include torch; none: the other machine has its own.")] = "tested",
    as_json: AsJson = False,
) -> None:
    """Write all that a machine without a package registry needs, with a script that installs it there."""
    from nngpt_ext.export.bundle import INSTALLER, make_bundle

    sizes = make_bundle(out, platform=platform, python=python, base=base, torch=torch)
    if as_json:
        print_json(sizes)
        return
    for name, size in sizes.items():
        typer.echo(f"{name}: {size / 1e6:,.1f} MB")
    typer.echo(f"copy {out} to the other machine and type there: sh {out.name}/{INSTALLER} ENVIRONMENT", err=True)


doctor.register(app)


def _data(evidence: list[int] | None, **options: Any) -> DataConfig:
    of = "same" if "random" in (options["trials"], options.get("test_trials")) else "best"
    return build_config(DataConfig, {**options, "evidence": {"epochs": evidence or (), "of": of}}, what="options")


def _print_report(found: Any, as_json: bool) -> None:
    from nngpt_ext.evaluation.report import Report

    if as_json:
        print_json(found.model_dump(mode="json") if hasattr(found, "model_dump") else found)
    elif isinstance(found, Report):
        from nngpt_ext.evaluation.description import summary, tables
        from nngpt_ext.views.faces import print_tables

        print_tables(summary(found), tables(found))
    else:  # of a plugin's task
        typer.echo(str(found))
