"""The commands that use an adapter: `compare`, `rank`, `score`, `serve` and `mcp`."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nngpt_ext.channel import ADAPTER, SERVER, TOKEN, is_loopback
from nngpt_ext.client import Client
from nngpt_ext.errors import UserError, shown
from nngpt_ext.io import parse_mapping
from nngpt_ext.shell import INTERRUPTED, AsJson, keep_hangups, print_json
from nngpt_ext.views.wording import count

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nngpt_ext.predict.answers import Explanation
    from nngpt_ext.predict.predictor import Predictor

Run = Annotated[Path, typer.Option("--run", help="Folder of a finished run, or of an adapter.")]
AskedRun = Annotated[
    Path | None, typer.Option("--run", help="Folder of a finished run, or of an adapter; or give --server.")
]
Server = Annotated[
    str | None,
    typer.Option("--server", envvar=SERVER, metavar="URL", help=f"Ask a server instead; its token is in {TOKEN}."),
]
Code = Annotated[Path, typer.Option("--code", help="The network's source.")]
Adapter = Annotated[
    str | None, typer.Option(help=f"Which adapter of a server answers, if it has several; default: {ADAPTER}.")
]
RecipeText = Annotated[
    str | None,
    typer.Option("--recipe", metavar="JSON", help="For a prompt with recipes: one, or one for each dataset."),
]
Accuracies = Annotated[
    str | None,
    typer.Option("--accuracies", metavar="JSON", help="For a prompt with accuracies: the normalised one on each."),
]
EvidenceText = Annotated[
    str | None,
    typer.Option("--evidence", metavar="JSON", help="For a prompt with early accuracies: by dataset and epoch."),
]
StructureText = Annotated[
    str | None,
    typer.Option(
        "--structure",
        metavar="measure|FILE",
        help="For a prompt with structures: measure it, by running the code in a sandbox, or what nngpt-ext structure "
        "--json printed.",
    ),
]
Store = Annotated[str | None, typer.Option(help="Prediction store (URL) for answers.")]
Base = Annotated[str | None, typer.Option(help="Where the base model is, if it moved since the run.")]
Facts = Annotated[
    list[str] | None,
    typer.Option("--facts", metavar="NAME=IMAGES,SIZE,CHANNELS,CLASSES", help="Of a dataset that LEMUR does not have."),
]
Runs = Annotated[
    list[str],
    typer.Option("--run", metavar="[NAME=]DIR", help="Folder of a finished run, or of an adapter; may be repeated."),
]
Host = Annotated[str, typer.Option(help="Address to listen on; beyond this machine, a token is needed.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is a free one.")]
Measure = Annotated[
    str | None,
    typer.Option("--structure", metavar="measure", help="Measure structures on request (runs code in the sandbox)."),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="HOST", help="Host name of a proxy before it; a token is needed; may be repeated."),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token that requests must have.")]
# The name of an option's JSON, and an example.
RECIPE = "the recipe", '{"lr": 0.01, "batch": 64}'
EVIDENCE = "the value of --evidence", '{"mnist": {"1": 0.91}, "svhn": {"1": 0.55}}'
ACCURACIES = "the value of --accuracies", '{"mnist": 0.9, "svhn": 0.8}'


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: nngpt-ext compare --run runs/demo --code alexnet.py mnist svhn --json")(compare)
    app.command(epilog="Example: nngpt-ext rank --run runs/demo --code alexnet.py --json")(rank)
    app.command(epilog="Example: nngpt-ext score --run runs/demo --codes generated/ --out predictions.parquet")(score)
    app.command(epilog="Example: nngpt-ext serve --run runs/demo --store sqlite:///predictions.db")(serve)
    app.command(epilog="Example: nngpt-ext mcp --run runs/demo")(mcp)


def compare(
    context: typer.Context,
    code: Code,
    dataset_1: Annotated[str, typer.Argument(help="A dataset.")],
    dataset_2: Annotated[str, typer.Argument(help="Another one.")],
    run: AskedRun = None,
    server: Server = None,
    adapter: Adapter = None,
    recipe: RecipeText = None,
    accuracies: Accuracies = None,
    structure: StructureText = None,
    evidence: EvidenceText = None,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """On which of two datasets the network does better."""
    text, given, names = _source(code), _given(recipe, accuracies, evidence, structure), [dataset_1, dataset_2]
    if (asked := _server(context, run, server)) is not None:
        with _client(asked, adapter, store, base, facts) as client:
            found, told = client.compare_explained(text, *names, nn=code.stem, **given)
            _warn(told)
    else:
        from nngpt_ext.predict.explanation import explanation_of, with_structures

        predictor = _predictor(run, store, base, facts, adapter, once=True)
        given = with_structures(predictor, text, names, given | {"nn": code.stem})
        found = predictor.compare(text, *names, **given)
        prior = predictor.prior(*names, **{name: value for name, value in given.items() if name != "nn"})
        told = explanation_of(predictor, text, names, given, prior)
    without = told.prior
    if as_json:
        own = without and {"probability": without.probability, "log_odds": without.log_odds, "abstain": without.abstain}
        shown = dataclasses.asdict(found) | {"confidence": found.confidence}
        print_json(shown | {"prior": own, "basis": told.basis})
        return
    if found.unseen:  # the calibration is of other datasets, so no probability is shown
        typer.echo(f"{found.winner} (abstains: {found.reason})")
    else:
        threshold = "this adapter has no threshold, so all its answers abstain"
        if told.threshold is not None:
            answers = "abstains below" if found.abstain else "answers from"
            threshold = f"this adapter {answers} {100 * told.threshold:.1f} %"
        typer.echo(f"{found.winner} ({100 * found.confidence:.1f} % confident; {threshold})")
        prior_said = f"; without the source code {without.probability:.3f}" if without else ""
        typer.echo(f"P({dataset_1}) = {found.probability:.3f}{prior_said}")
    for line in found.limits():
        typer.echo(line)
    _print_basis(told)


def rank(
    context: typer.Context,
    code: Code,
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Two datasets or more; by default those of the training.")
    ] = None,
    run: AskedRun = None,
    server: Server = None,
    adapter: Adapter = None,
    recipe: RecipeText = None,
    accuracies: Accuracies = None,
    structure: StructureText = None,
    evidence: EvidenceText = None,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """Rank datasets by how well the network does on them."""
    text, given, names = _source(code), _given(recipe, accuracies, evidence, structure), datasets or None
    if (asked := _server(context, run, server)) is not None:
        with _client(asked, adapter, store, base, facts) as client:
            found, told = client.rank_explained(text, names, nn=code.stem, **given)
            _warn(told)
    else:
        from nngpt_ext.predict.explanation import explanation_of, with_structures

        predictor = _predictor(run, store, base, facts, adapter, once=True)
        given = with_structures(predictor, text, names, given | {"nn": code.stem})
        found = predictor.rank(text, names, **given)
        told = explanation_of(predictor, text, names, given)
    if as_json:
        print_json(dataclasses.asdict(found) | {"reason": found.reason, "cut_to": found.cut_to, "basis": told.basis})
        return
    from nngpt_ext.views.faces import print_tables

    print_tables(found.summary, [found.table()])
    typer.echo("\n".join(["", *found.remarks()]))
    _print_basis(told)


def score(
    run: Run,
    codes: Annotated[Path, typer.Option(help="Folder of *.py files, or a Parquet file with nn and nn_code.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Two datasets or more; by default those of the training.")
    ] = None,
    recipe: RecipeText = None,
    structure: StructureText = None,
    evidence: EvidenceText = None,
    engine: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster; by default this machine.")] = None,
    shard: Annotated[int, typer.Option(min=1, help="Networks in a shard, which is written at once.")] = 20,
    store: Store = None,
    base: Base = None,
    facts: Facts = None,
    as_json: AsJson = False,
) -> None:
    """Score a whole collection of networks; run it again after an interruption and it continues."""
    from nngpt_ext.errors import unknown
    from nngpt_ext.predict.cluster import ray_engine
    from nngpt_ext.predict.collection import Job, score_collection
    from nngpt_ext.run_folder import adapter_in

    if engine not in ("local", "ray"):
        raise unknown("engine", engine, ("local", "ray"))
    predictor = _predictor(run, store, base, facts)
    names = tuple(predictor.check_datasets(datasets or None))
    job = Job(
        str(adapter_in(run).resolve()), names, _mapping(recipe, RECIPE), base, store, _facts(facts),
        _read_structures(structure), _mapping(evidence, EVIDENCE),
    )  # fmt: skip
    chosen = ray_engine(address) if engine == "ray" else None
    found = score_collection(predictor, job, codes, out, shard=shard, engine=chosen)
    if as_json:
        print_json(dataclasses.asdict(found) | {"remarks": found.remarks()})
        return
    typer.echo(f"{count(found.rows, 'prediction')} about {count(found.networks, 'network')} in {found.out}")
    for line in found.remarks():
        typer.echo(line)


def serve(
    run: Runs,
    host: Host = "127.0.0.1",
    port: Port = 8377,
    name: Names = None,
    store: Store = None,
    token_file: TokenFile = None,
    structure: Measure = None,
    queue: Annotated[int, typer.Option(min=1, help="Questions that may wait; others are told to come later.")] = 4096,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds within which a network is answered.")] = 60.0,
    base: Base = None,
    facts: Facts = None,
) -> None:
    """Answer other programs over HTTP: compare, rank, score, stored predictions, and a page for people."""
    hung_up = keep_hangups()  # at once: one that comes while adapters are loaded has them read again
    _check_extra()
    from nngpt_ext.serve import server
    from nngpt_ext.serve.app import make_app
    from nngpt_ext.serve.deployment import Deployment
    from nngpt_ext.serve.service import Service

    measure, names = _measures(structure), name or ()
    token, listening = server.read_token(token_file, host, names), server.listen(host, port)
    with listening:
        deployment = Deployment(run, store=store, base=base, facts=_facts(facts), measure=measure)
        deployment.load()
        service = Service(deployment, queue, deadline)
        log.info("%s answers at %s; Ctrl-C ends it", ", ".join(deployment.predictors), server.address(listening))
        app = make_app(service, token, loopback=is_loopback(host), names=names)
        server.run(app, listening, service.reload, hung_up)


def mcp(
    context: typer.Context,
    run: Runs,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP at /mcp instead of standard input.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8378,
    name: Names = None,
    store: Store = None,
    token_file: TokenFile = None,
    structure: Measure = None,
    base: Base = None,
    facts: Facts = None,
) -> None:
    """Offer compare, rank, prior and predictions to agents as tools (Model Context Protocol)."""
    if http:
        keep_hangups()  # as `serve`, although nothing is read again
    else:
        _check_http(context)
    _check_extra()
    from nngpt_ext.serve import server
    from nngpt_ext.serve.deployment import Deployment
    from nngpt_ext.serve.tools import http_app, make_tools

    deployment = Deployment(run, store=store, base=base, facts=_facts(facts), measure=_measures(structure))
    tools = make_tools(deployment)
    if not http:
        try:
            tools.run("stdio")
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)  # the SDK's thread that reads standard input would be waited for
        return
    token = server.read_token(token_file, host, name or ())
    with server.listen(host, port) as listening:
        log.info("the tools are at %s/mcp; Ctrl-C ends it", server.address(listening))
        server.run(http_app(tools, token, loopback=is_loopback(host), names=name or ()), listening)


def _is_typed(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check_http(context: typer.Context) -> None:
    for option in ("host", "port", "name", "token_file"):
        if _is_typed(context, option):
            raise UserError(f"--{option.replace('_', '-')} needs --http: without it, agents use standard input")


def _measures(structure: str | None) -> bool:
    if structure not in (None, "measure"):
        raise UserError(f"--structure is measure, not {shown(structure)}")
    return structure is not None


def _check_extra() -> None:
    from nngpt_ext.views.drawing import check_installed

    check_installed("servers", "serve", "fastapi", "uvicorn", "prometheus_client", "mcp")


def _print_basis(told: Explanation) -> None:
    if told.basis_lines:
        typer.echo("\n".join(["", "What the answer rests on", *told.basis_lines]))


def _warn(told: Explanation) -> None:
    """Say what a predictor here would log."""
    for one in told.warnings:
        log.warning("%s", one)


def _server(context: typer.Context, run: Path | None, server: str | None) -> str | None:
    """The server that is asked, None for a run; one of the environment yields to --run.

    Raises:
        UserError: if both are typed, or none is given.
    """
    if run is None and server is None:
        raise UserError("--run or --server is missing: give --run RUN, or --server http://127.0.0.1:8377")
    if run is None or server is None:
        return server
    if _is_typed(context, "server"):
        raise UserError("--run and --server are both given; give one of them: the run here, or the server's")
    return None


def _source(code: Path) -> str:
    from nngpt_ext.networks.source import read_source

    return read_source(code, f"'{code}'")


def _mapping(text: str | None, name_and_example: tuple[str, str]) -> Any:
    return None if text is None else parse_mapping(text, *name_and_example)


def _given(recipe: str | None, accuracies: str | None, evidence: str | None, structure: str | None) -> dict[str, Any]:
    given = {"recipe": (recipe, RECIPE), "accuracies": (accuracies, ACCURACIES), "evidence": (evidence, EVIDENCE)}
    return {name: _mapping(*one) for name, one in given.items()} | {"structure": _read_structures(structure)}


def _read_structures(text: str | None) -> Any:
    if text is None:
        return None
    from nngpt_ext.prompts.structures import read_structures

    return read_structures(text)


def _client(server: str, adapter: str | None, *local: object) -> Client:
    if any(local):
        raise UserError("--store, --base and --facts are for --run; a server has its own")
    if "httpx" not in sys.modules:  # it imports rich and pygments for a command of its own, half of its time
        sys.modules["httpx._main"] = None  # type: ignore[assignment]  # Python's way to block an import
    return Client(server, token=os.environ.get(TOKEN), adapter=adapter or os.environ.get(ADAPTER))


def _predictor(
    run: Path | None, store: str | None, base: str | None, facts: list[str] | None, adapter: str | None = None,
    once: bool = False,
) -> Predictor:  # fmt: skip
    if adapter is not None:
        raise UserError("--adapter is for --server; a run has one adapter")
    from nngpt_ext.models import requirements
    from nngpt_ext.serve.deployment import predictor_of

    assert run is not None
    requirements.ask_once = once
    return predictor_of(run, base, store, _facts(facts))


def _facts(given: list[str] | None) -> Mapping[str, list[str]]:
    return {name: values.split(",") for name, _, values in (text.rpartition("=") for text in given or [])}
