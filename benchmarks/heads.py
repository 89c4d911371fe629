"""What `tuning.head: lines` costs beside `answer`: an epoch of fine-tuning, and rankings of all datasets.

    python benchmarks/heads.py --out benchmarks/results/heads-cpu.json

The same networks and pairs of examples/demo.yaml for both, one epoch in 4 bits, shared prefixes; the heads are measured
in turn, and times are medians. Tokens are those that went through the model. The accuracies of such short runs mean
nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import publish
from benchmarks.stopwatch import Clock
from nngpt_ext import Predictor, run_task
from nngpt_ext.batches.rows import tokens_of
from nngpt_ext.config import TaskConfig
from nngpt_ext.data.load import load_pairs
from nngpt_ext.predict.adapter import AdapterFiles, load_scorer
from nngpt_ext.run_folder import read_config, versions
from nngpt_ext.scoring.predictions import questions_of
from nngpt_ext.settings import build_config

DEMO = Path(__file__).parents[1] / "examples" / "demo.yaml"
HEADS = ("answer", "lines")


def train(head: str, networks: int, code_tokens: int, folder: Path) -> dict[str, float]:
    """Fine-tune for an epoch: its seconds without validation, tokens, pairs and steps."""
    result = run_task(
        "dataset_compare",
        DEMO,
        output_dir=folder,
        prompt="recipe",
        data={
            "train_networks": networks,
            "validation_networks": 2,
            "test_networks": 2,
            "code_tokens": code_tokens,
        },
        tuning={"head": head, "epochs": 1, "test_every_epoch": False},
    )
    (entry,) = json.loads((result.output_dir / "checkpoints" / "history.json").read_text(encoding="utf-8"))
    return {name: entry[name] for name in ("seconds", "tokens", "examples", "step")}


def ask(run: Path, networks: int) -> dict[str, float]:
    """Rank all datasets for networks of the training part: seconds and tokens."""
    config = build_config(TaskConfig, read_config(run / "config.yaml"))
    data = load_pairs(config.data)
    pairs = data.part("train")
    names = sorted(pairs["nn"].unique())[:networks]
    recipe = pairs["recipe_1"].iloc[0]
    predictor = Predictor.from_run(run)
    asked: list[tuple[str, str | None]] = [(data.sources[nn], nn) for nn in names]
    list(predictor.rank_many(asked[:1], recipe=recipe))  # loads the model
    with Clock() as clock:
        rankings = list(predictor.rank_many(asked, recipe=recipe))
    assert all(len(ranking.comparisons) == len(rankings[0].comparisons) for ranking in rankings)
    scorer = load_scorer(AdapterFiles(run / "adapter"), str(config.model.base), data.facts)
    encoded = scorer.encode(questions_of(pairs[pairs["nn"].isin(set(names))]), data.sources)
    tokens = sum(tokens_of(encoded.groups, [[g, *range(len(group))]]) for g, group in enumerate(encoded.groups))
    return {"seconds": clock.seconds, "tokens_of_all_pairs": tokens, "networks": len(names)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=60, help="training networks")
    parser.add_argument("--code-tokens", type=int, default=512, help="tokens of source code that are shown")
    parser.add_argument("--ranked", type=int, default=40, help="networks to rank all datasets for")
    parser.add_argument("--rounds", type=int, default=3, help="how often each head is measured")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    given = parser.parse_args()
    trained: dict[str, list[Any]] = {head: [] for head in HEADS}
    ranked: dict[str, list[Any]] = {head: [] for head in HEADS}
    with tempfile.TemporaryDirectory() as name:
        for number in range(given.rounds):
            for head in HEADS:
                folder = Path(name) / f"{head}-{number}"
                trained[head].append(train(head, given.networks, given.code_tokens, folder))
                ranked[head].append(ask(folder, given.ranked))

    def medians(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
        found: dict[str, Any] = {
            head: {key: statistics.median(one[key] for one in each) for key in each[0]} for head, each in rounds.items()
        }
        keys = [key for key in found["lines"] if key.startswith(("seconds", "tokens"))]
        return found | {"answer_over_lines": {key: found["answer"][key] / found["lines"][key] for key in keys}}

    figures = {
        "prompt": "recipe",
        "networks": given.networks,
        "code_tokens": given.code_tokens,
        "rounds": given.rounds,
        "epoch": medians(trained),
        "rankings": medians(ranked),
        "versions": versions(),
    }
    publish(figures, given.out)


if __name__ == "__main__":
    main()
