"""`nngpt-ext bench predict`: how many pairs a second a predictor answers, beside two ways without shared prefixes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nngpt_ext.bench.measure import Clock, Work, in_turn
from nngpt_ext.bench.scoring import GENERATED, sampled
from nngpt_ext.config import TaskConfig
from nngpt_ext.settings import build_config
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.predict.model import AskedModel
from nngpt_ext.predict.note import AdapterFiles
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.prompts.fields import Question
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.tasks.folder import CONFIG, read_config, versions
from nngpt_ext.tasks.pipeline import read_data

RANK, ONE, SAMPLED = "rank", "one question at a time", f"{GENERATED} sampled tokens"
PEER_PAIRS = 12  # pairs that the slow ways answer in a round
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


def bench_predict(
    run: Path, *, networks: int = 100, rounds: int = 3, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Rank all datasets for real networks of the run's test part, and answer some of the same pairs in two other ways.

    One question at a time is a forward pass for each order of a pair's names; sampled generation writes 150
    tokens for one order only, as the host does.

    Args:
        run: folder of a finished run.
        networks: how many networks are ranked.
        rounds: how often each way is measured, in turn.
        tell: is told what is being measured.

    Returns:
        `pairs_per_second` by way, and `rank`'s ratios `against_one_question` and `against_generation`.

    Raises:
        UserError: for a folder without a finished run.
    """
    predictor = Predictor.from_run(run)
    data = read_data(build_config(TaskConfig, read_config(run / CONFIG)))
    names = sorted(data.part("test")["nn"].unique())[:networks]
    accuracies = dict.fromkeys(predictor.datasets, 0.5)  # a prompt takes of recipes and accuracies what it shows
    pairs = list(itertools.combinations(predictor.datasets, 2))
    list(predictor.rank_many([(data.sources[names[0]], None)], None, RECIPE, accuracies=accuracies))  # loads the model

    files = AdapterFiles(run / "adapter")
    model = AskedModel(files, files.base_model)
    chosen = [(names[i % len(names)], *pairs[i % len(pairs)]) for i in range(PEER_PAIRS)]
    asked = [Question(nn, a, b, files.note.epoch, 0.5, 0.5, RECIPE, RECIPE) for nn, a, b in chosen]
    encoded = model.encode(asked, data.sources, LEMUR_FACTS)
    straight = [group[i] for group in encoded.groups for i in range(len(group) // 2)]
    both = [one for group in encoded.groups for one in group]

    def rank() -> Work:
        with Clock() as clock:
            rankings = list(
                predictor.rank_many([(data.sources[nn], nn) for nn in names], None, RECIPE, accuracies=accuracies)
            )
        return Work(sum(len(ranking.comparisons) for ranking in rankings), 0, clock.seconds)

    def one() -> Work:
        with Clock() as clock:
            for question in both:
                log_odds(model.model, [[question]], row_tokens=files.note.row_tokens, pad=encoded.pad, engine="plain")
        return Work(len(both) // 2, 0, clock.seconds)

    ways = {RANK: rank, ONE: one, SAMPLED: lambda: sampled(model.model, straight, encoded.pad)}
    rates = {name: rate.examples_per_second for name, rate in in_turn(ways, rounds, tell).items()}
    return {
        "run": str(run),
        "prompt": predictor.prompt,
        "base_model": files.base_model,
        "networks": len(names),
        "pairs": len(names) * len(pairs),
        "pairs_per_second": rates,
        "against_one_question": rates[RANK] / rates[ONE],
        "against_generation": rates[RANK] / rates[SAMPLED],
        "versions": versions(),
    }
