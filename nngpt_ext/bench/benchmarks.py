"""The commands `nngpt-ext bench …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nngpt_ext.shell import AsJson, print_json

app = typer.Typer(
    help="Measure this package beside its peers.",
    epilog="Example: nngpt-ext bench prefix --json",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    from nngpt_ext.models.requirements import check_libraries

    check_libraries(load_in_4bit=True)
    from nngpt_ext.bench.throughput import PrefixSettings, bench_prefix

    prompts = tuple(prompt or ("code_only", "recipe"))
    found = bench_prefix(PrefixSettings(base, prompts, networks, code_tokens, row_tokens, rounds, device))
    if as_json:
        print_json(found)
        return
    for figures in (found, *(value for value in found.values() if isinstance(value, dict) and "lengths" in value)):
        _print_prefix(figures)


@app.command(epilog="Example: nngpt-ext bench predict --run runs/demo --json")
def predict(
    run: Annotated[Path, typer.Option("--run", help="Folder of a finished run.")],
    networks: Annotated[int, typer.Option(min=1, help="Real networks to rank all datasets for.")] = 100,
    rounds: Rounds = 3,
    as_json: AsJson = False,
) -> None:
    """A predictor's `rank` against one question at a time and against sampled generation."""
    from nngpt_ext.models.requirements import check_libraries

    check_libraries(load_in_4bit=True)
    from nngpt_ext.bench.throughput import bench_predict

    found = bench_predict(run, networks=networks, rounds=rounds)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['networks']} networks, {found['pairs']:,} pairs, prompt {found['prompt']}:")
    for name, rate in found["pairs_per_second"].items():
        typer.echo(f"  {name:26} {rate:9.3f} pairs/s")
    typer.echo(
        f"  rank is {found['against_one_question']:.1f}× one question at a time and "
        f"{found['against_generation']:.0f}× sampled generation"
    )


@app.command(epilog="Example: nngpt-ext bench host --database db/ab.nn.db --json")
def host(
    database: Annotated[Path, typer.Option(help="LEMUR's database ab.nn.db.")] = Path("db/ab.nn.db"),
    folder: Annotated[Path | None, typer.Option("--host", help="Where NNGPT is, if not where Python finds it.")] = None,
    prompts: Annotated[int, typer.Option(min=0, help="Prompts to render; 0 for none.")] = 1024,
    as_json: AsJson = False,
) -> None:
    """Pairs and prompts beside NNGPT's own: the same answers first, then time and memory."""
    from nngpt_ext.bench.host_comparison import bench_host

    found = bench_host(database, folder=folder, prompts=prompts)
    if as_json:
        print_json(found)
        return
    for what in ("pairs", "prompts"):
        if what in found:
            ours, theirs = found[what]["ours"], found[what]["host"]
            typer.echo(
                f"{theirs['rows']:,} {what}: ours {ours['seconds']:.2f} s and {ours['peak_mb']:,.0f} MB, NNGPT "
                f"{theirs['seconds']:.1f} s and {theirs['peak_mb']:,.0f} MB: "
                f"{found[what]['times_faster']:.0f}× faster, {found[what]['times_less_memory']:.0f}× less memory"
            )
    same = found["pairs"]
    typer.echo(
        f"{same['same_answers']:,} of {same['host']['rows']:,} answers are the same; normalised accuracies differ by "
        f"at most {same['norm_acc_max_difference']:.1e}"
    )


def _print_prefix(found: dict[str, Any]) -> None:
    size, winners = found["lengths"], found["winners"]
    typer.echo(
        f"{found['prompt']}: {size['networks']} networks, {size['questions']:.1f} questions each, prefix "
        f"{size['prefix_tokens']:.0f} tokens, a question's own {size['own_tokens']:.1f}\n"
        f"  training {found['training_ratio']:.1f}× one example a row "
        f"({found['training_share_of_bound']:.0%} of the bound {found['bound']:.1f}×), scoring "
        f"{found['scoring_ratio']:.1f}× ({found['scoring_share_of_bound']:.0%} of {found['scoring_bound']:.1f}×)\n"
        f"  loss differs by {found['loss_difference']:.1e}, gradients by {found['gradient_relative_error']:.1e} "
        f"(relative), probabilities by at most {found['probability_max_difference']:.1e}; {winners['different']} of "
        f"{winners['questions']} winners differ ({winners['undecided']} within rounding of a tie)"
    )
    for what in ("training", "scoring"):
        for name, rate in found[what].items():
            typer.echo(
                f"  {what:8}  {name:36} {rate['examples_per_second']:8.2f} examples/s "
                f"{rate['tokens_per_second']:9,.0f} tokens/s {rate['peak_mb']:7,.0f} MB"
            )
    for row in found["by_questions"]:
        rates = ", ".join(f"{name} {value:.1f}" for name, value in row.items() if name not in ("questions", "bound"))
        typer.echo(f"  {row['questions']:3} questions a network (bound {row['bound']:.1f}×), examples/s: {rates}")
