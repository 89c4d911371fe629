"""The commands that ask an adapter: `compare`, `rank` and `score`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nngpt_ext.run_folder import ADAPTER, SETTINGS
from nngpt_ext.shell import AsJson, print_json

if TYPE_CHECKING:
    from nngpt_ext.predict.predictor import Predictor

Run = Annotated[Path, typer.Option("--run", help="Folder of a finished run, or of an adapter.")]
Code = Annotated[Path, typer.Option("--code", help="The network's source.")]
RecipeText = Annotated[
    str | None,
    typer.Option("--recipe", metavar="JSON", help="For a prompt with recipes: one, or one for each dataset."),
]
Accuracies = Annotated[
    str | None,
    typer.Option("--accuracies", metavar="JSON", help="For a prompt with accuracies: the normalised one on each."),
]
Store = Annotated[str | None, typer.Option(help="Prediction store (URL) to read answers from and write them to.")]
Base = Annotated[str | None, typer.Option(help="Where the base model is, if not where the run found it.")]
Facts = Annotated[
    list[str] | None,
    typer.Option("--facts", metavar="NAME=IMAGES,SIZE,CHANNELS,CLASSES", help="Of a dataset LEMUR does not have."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: nngpt-ext compare --run runs/demo --code examples/alexnet.py mnist svhn --json")(
        compare
    )
    app.command(epilog="Example: nngpt-ext rank --run runs/demo --code examples/alexnet.py --json")(rank)
    app.command(epilog="Example: nngpt-ext score --run runs/demo --codes generated/ --out predictions.parquet")(score)


def compare(
    run: Run,
    code: Code,
    dataset_1: Annotated[str, typer.Argument(help="A dataset.")],
    dataset_2: Annotated[str, typer.Argument(help="Another one.")],
    recipe: RecipeText = None,
    accuracies: Accuracies = None,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """On which of two datasets the network does better."""
    text, predictor = _source(code), _predictor(run, store, base, facts)
    given: dict[str, Any] = {"recipe": _recipe(recipe), "accuracies": _accuracies(accuracies)}
    found = predictor.compare(text, dataset_1, dataset_2, nn=code.stem, **given)
    prior = predictor.prior(dataset_1, dataset_2, **given)
    if as_json:
        shown = dataclasses.asdict(found) | {"confidence": found.confidence}
        own = {"probability": prior.probability, "log_odds": prior.log_odds, "abstain": prior.abstain}
        print_json(shown | {"prior": own})
        return
    if found.unseen:  # the calibration knows nothing about these: a probability would say too much
        typer.echo(f"{found.winner} (abstains: {found.reason})")
    else:
        sure = "this adapter has no threshold: all its answers abstain"
        if predictor.threshold is not None:
            where = "below" if found.abstain else "not below"
            sure = f"{where} the threshold of this adapter, {predictor.threshold:.3f}"
        typer.echo(f"{found.winner}, with probability {found.confidence:.3f} ({sure})")
        typer.echo(f"P({dataset_1}) = {found.probability:.3f}; with no source shown {prior.probability:.3f}")
    if found.flipped:
        typer.echo("the answer depends on the order of the two names")


def rank(
    run: Run,
    code: Code,
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Two datasets or more; by default those of the training.")
    ] = None,
    recipe: RecipeText = None,
    accuracies: Accuracies = None,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """Rank datasets by how well the network does on them."""
    text, predictor = _source(code), _predictor(run, store, base, facts)
    found = predictor.rank(
        text, datasets or None, _recipe(recipe), accuracies=_accuracies(accuracies), nn=code.stem
    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    for i, dataset in enumerate(found.datasets, 1):
        typer.echo(f"{i}. {dataset} ({found.scores[dataset]:+.2f})")
    if found.intransitive is not None:
        typer.echo(f"{100 * found.intransitive:.0f} % of the triples of datasets contradict each other")
    if found.abstain:
        typer.echo(f"abstains: {found.reason}")


def score(
    run: Run,
    codes: Annotated[Path, typer.Option(help="Folder of *.py files, or a Parquet file with nn and nn_code.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Two datasets or more; by default those of the training.")
    ] = None,
    recipe: RecipeText = None,
    engine: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; by default on this machine.")] = None,
    shard: Annotated[int, typer.Option(min=1, help="Networks of a part that is written at once.")] = 20,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """Ask about a whole collection of networks; interrupted, run it again and it goes on."""
    from nngpt_ext.errors import unknown
    from nngpt_ext.predict.answers import not_trained_on
    from nngpt_ext.predict.cluster import ray_on_stderr
    from nngpt_ext.predict.collection import score_collection
    from nngpt_ext.predict.shards import Job

    if engine not in ("local", "ray"):
        raise unknown("engine", engine, ("local", "ray"))
    predictor = _predictor(run, store, base, facts)
    names = tuple(predictor.check_datasets(datasets or None))
    options = {"base": base, "store": store, "facts": _facts(facts)}
    job = Job(str(_adapter(run).resolve()), options, names, _recipe(recipe))
    with ray_on_stderr() if engine == "ray" else nullcontext():
        found = score_collection(predictor, job, codes, out, shard=shard, engine=engine, address=address)
    if as_json:
        print_json(found._asdict() | {"out": str(found.out)})
        return
    typer.echo(f"{found.rows:,} predictions about {found.networks:,} networks in {found.out}")
    if found.unseen:
        typer.echo(f"predictions about {', '.join(found.unseen)} abstain: {not_trained_on(found.unseen)}")


def _source(code: Path) -> str:
    from nngpt_ext.networks.source import check_source, read_source

    return check_source(read_source(code), f"'{code}'")


def _recipe(text: str | None) -> Mapping[str, Any] | None:
    from nngpt_ext.predict.codes import parse_recipe

    return None if text is None else parse_recipe(text)


def _accuracies(text: str | None) -> Mapping[str, float] | None:
    from nngpt_ext.predict.codes import parse_object

    return None if text is None else parse_object(text, "what --accuracies gives", '{"mnist": 0.9, "svhn": 0.8}')


def _adapter(run: Path) -> Path:
    return run if (run / SETTINGS).is_file() else run / ADAPTER


def _predictor(run: Path, store: str | None, base: str | None, facts: list[str] | None) -> Predictor:
    from nngpt_ext.predict.predictor import Predictor

    options: dict[str, Any] = {"store": store, "base": base, "facts": _facts(facts)}
    if _adapter(run) == run:
        return Predictor.from_pretrained(run, **options)
    return Predictor.from_run(run, **options)


def _facts(given: list[str] | None) -> Mapping[str, list[str]]:
    return {name: values.split(",") for name, _, values in (text.rpartition("=") for text in given or [])}
