"""The commands `nngpt-ext bench …`, which run the repository's `benchmarks/`; a wheel does not contain these."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.io import write_text
from nngpt_ext.shell import AsJson, print_json

app = typer.Typer(
    help="Measure this package beside its peers, in a clone of the repository.",
    epilog="Example: nngpt-ext bench prefix --json",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

REPOSITORY = Path(__file__).parents[1]

Rounds = Annotated[int, typer.Option(min=1, help="How often each way is measured, in turn.")]


@app.command(epilog="Example: nngpt-ext bench prefix --networks 40 --code-tokens 600 --json")
def prefix(
    base: Annotated[str, typer.Option(help="Base model, loaded in 4 bits.")] = "embedded",
    prompt: Annotated[
        list[str] | None, typer.Option(help="May be repeated; the first one's figures stand at the top.")
    ] = None,
    networks: Annotated[int, typer.Option(min=2, help="Real networks, with all their pairs in both orders.")] = 40,
    code_tokens: Annotated[int, typer.Option(help="Tokens of source shown.")] = 600,
    row_tokens: Annotated[int, typer.Option(help="Tokens of a forward pass with shared prefixes.")] = 2048,
    rounds: Rounds = 3,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default what the machine has.")] = None,
    as_json: AsJson = False,
) -> None:
    """Shared prefixes against one example a row: equal results first, then time."""
    _find_benchmarks(load_in_4bit=True)
    from benchmarks.prefix import PrefixSettings, bench_prefix, prefix_text

    prompts = tuple(prompt or ("code_only", "recipe"))
    found = bench_prefix(PrefixSettings(base, prompts, networks, code_tokens, row_tokens, rounds, device))
    print_json(found) if as_json else typer.echo(prefix_text(found))


@app.command(epilog="Example: nngpt-ext bench predict --run runs/demo --json")
def predict(
    run: Annotated[Path, typer.Option("--run", help="Folder of a finished run.")],
    networks: Annotated[int, typer.Option(min=1, help="Real networks to rank all datasets for.")] = 100,
    rounds: Rounds = 3,
    as_json: AsJson = False,
) -> None:
    """A predictor's `rank` against one question at a time and against sampled generation."""
    _find_benchmarks(load_in_4bit=True)
    from benchmarks.predict import bench_predict, predict_text

    found = bench_predict(run, networks=networks, rounds=rounds)
    print_json(found) if as_json else typer.echo(predict_text(found))


@app.command(epilog="Example: nngpt-ext bench host --database db/ab.nn.db --json")
def host(
    database: Annotated[Path, typer.Option(help="LEMUR's database ab.nn.db.")] = Path("db/ab.nn.db"),
    folder: Annotated[Path | None, typer.Option("--host", help="Where NNGPT is, if not where Python finds it.")] = None,
    prompts: Annotated[int, typer.Option(min=0, help="Prompts to render; 0 for none.")] = 1024,
    as_json: AsJson = False,
) -> None:
    """Pairs and prompts beside NNGPT's own: the same answers first, then time and memory."""
    _find_benchmarks()
    from benchmarks.host import bench_host, host_text

    found = bench_host(database, folder=folder, prompts=prompts)
    print_json(found) if as_json else typer.echo(host_text(found))


@app.command(epilog="Example: nngpt-ext bench linear --out benchmarks/results/linear-cpu.json")
def linear(
    size: Annotated[int, typer.Option(min=4_000, max=1_000_000, help="Characters of the longest text.")] = 1_000_000,
    only: Annotated[str, typer.Option(help="Only passes whose name contains this.")] = "",
    kind: Annotated[str, typer.Option(help="Only kinds of text whose name contains this.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every pass over text from outside, on every nasty kind of it: twice the text may take twice the time."""
    _find_benchmarks()
    from benchmarks.linear import bench_linear, linear_text

    found = bench_linear(size, only, kind, lambda row: typer.echo(f"{row['pass']}: {row['kind']}", err=True))
    if out is not None:
        write_text(out, json.dumps(found, indent=1) + "\n")
    print_json(found) if as_json else typer.echo(linear_text(found))


def _find_benchmarks(load_in_4bit: bool = False) -> None:
    """Make `benchmarks/` importable, and check the libraries that it needs."""
    if not all((REPOSITORY / name).is_file() for name in ("pyproject.toml", "benchmarks/host_workload.py")):
        raise UserError(
            "the benchmarks are in the repository of nngpt_ext, not in the installed package; in a clone of it, type: "
            f"{pip('install -e .')} and then this command again"
        )
    sys.path.insert(0, str(REPOSITORY))  # before any other package of that name
    if load_in_4bit:
        from nngpt_ext.models.requirements import check_libraries

        check_libraries(load_in_4bit)
