"""`nngpt-ext bench predict`: a predictor's `rank` against one question at a time and against sampled generation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import GENERATED, generate
from benchmarks.stopwatch import Clock, Work, in_turn
from nngpt_ext.config import TaskConfig
from nngpt_ext.data.load import load_pairs
from nngpt_ext.predict.adapter import AdapterFiles, load_scorer
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.prompts.fields import Question
from nngpt_ext.run_folder import ADAPTER, CONFIG, read_config, versions
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.settings import build_config

RANK, ONE, SAMPLED = "rank", "one question at a time", f"{GENERATED} sampled tokens"
PEER_PAIRS = 12  # pairs that the slow ways answer in a round
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


def bench_predict(run: Path, *, networks: int = 100, rounds: int = 3) -> dict[str, Any]:
    """Rank all datasets for real test networks of a run, and answer some of the same pairs in two other ways.

    One question at a time is a forward pass for each order of a pair's names; sampled generation writes 150
    tokens for one order only, as NNGPT does.

    Args:
        run: folder of a finished run.
        networks: how many networks are ranked.
        rounds: how often each way is measured, in turn.

    Returns:
        `pairs_per_second` by way, and `rank`'s ratios `against_one_question` and `against_generation`.

    Raises:
        UserError: for a folder without a finished run.
    """
    predictor = Predictor.from_run(run)
    data = load_pairs(build_config(TaskConfig, read_config(run / CONFIG)).data)
    names = sorted(data.part("test")["nn"].unique())[:networks]
    pairs = list(itertools.combinations(predictor.datasets, 2))
    accuracies = dict.fromkeys(predictor.datasets, 0.5)  # a prompt shows of recipe and accuracies what it needs

    def rank(networks: list[str]) -> int:
        given = [(data.sources[nn], nn) for nn in networks]
        rankings = predictor.rank_many(given, None, RECIPE, accuracies=accuracies)
        return sum(len(ranking.comparisons) for ranking in rankings)

    rank(names[:1])  # loads the model
    files = AdapterFiles(run / ADAPTER)
    scorer = load_scorer(files, files.base.base_model, data.facts)
    chosen = [(names[i % len(names)], *pairs[i % len(pairs)]) for i in range(PEER_PAIRS)]
    given = {"norm_acc": (0.5, 0.5), "recipe": (RECIPE, RECIPE)}
    asked = [Question.of(nn, a, b, files.note.epoch, **given) for nn, a, b in chosen]
    encoded = scorer.encode(asked, data.sources)
    straight = [group[i] for group in encoded.groups for i in range(len(group) // 2)]

    def timed_rank() -> Work:
        with Clock() as clock:
            n = rank(names)
        return Work(n, 0, clock.seconds)

    def one_at_a_time() -> Work:
        with Clock() as clock:
            for question in itertools.chain(*encoded.groups):
                log_odds(scorer.model, [[question]], row_tokens=files.note.row_tokens, pad=encoded.pad, engine="plain")
        return Work(len(straight), 0, clock.seconds)

    ways: dict[str, Callable[[], Work]] = {
        RANK: timed_rank,
        ONE: one_at_a_time,
        SAMPLED: partial(generate, scorer.model, straight, encoded.pad),
    }
    rates = {name: rate.examples_per_second for name, rate in in_turn(ways, rounds, predictor.prompt).items()}
    return {
        "run": str(run),
        "prompt": predictor.prompt,
        "base_model": files.base.base_model,
        "networks": len(names),
        "pairs": len(names) * len(pairs),
        "pairs_per_second": rates,
        "against_one_question": rates[RANK] / rates[ONE],
        "against_generation": rates[RANK] / rates[SAMPLED],
        "versions": versions(),
    }


def predict_text(found: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = [
        f"{found['networks']} networks, {found['pairs']:,} pairs, prompt {found['prompt']}:",
        *(f"  {name:26} {rate:9.3f} pairs/s" for name, rate in found["pairs_per_second"].items()),
        f"  rank is {found['against_one_question']:.1f}× one question at a time and "
        f"{found['against_generation']:.0f}× sampled generation",
    ]
    return "\n".join(lines)
