"""`nngpt-ext bench prefix` and `bench predict`: examples per second with shared prefixes and with other ways."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.batches.tensors import mask_dtype
from nngpt_ext.bench import peers
from nngpt_ext.bench.stopwatch import Clock, Rate, Work, in_turn
from nngpt_ext.bench.workload import Workload, lengths, make_workload
from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.models.base import load_base
from nngpt_ext.predict.adapter import AdapterFiles, load_scorer
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.prompts.fields import Question
from nngpt_ext.run_folder import CONFIG, read_config, versions
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import read_data

BATCHES = (1, 4, 8, 16)
QUESTIONS = (4, 20, 42, 200)  # of a network
LOSS, LOSS_BF16 = 1e-5, 2e-2  # largest difference of a loss in fp32, and in bf16, whose rounding is 2^-8
UNDECIDED = 1e-4  # log-odds below which rounding may decide
RANK, ONE, SAMPLED = "rank", "one question at a time", f"{peers.GENERATED} sampled tokens"
PEER_PAIRS = 12  # pairs that the slow ways answer in a round
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


@dataclass(frozen=True)
class PrefixSettings:
    """What `bench_prefix` measures."""

    base: str = "embedded"  # loaded in 4 bits
    prompts: tuple[str, ...] = ("code_only", "recipe")
    networks: int = 40  # real ones, with all their pairs in both orders
    code_tokens: int = 600  # of the source code shown
    row_tokens: int = 2048  # of a forward pass with shared prefixes
    rounds: int = 3  # how often each way is measured
    device: str | None = None  # None: whatever the machine has


def bench_prefix(settings: PrefixSettings) -> dict[str, Any]:
    """Compare shared prefixes with one example a row on real examples.

    Returns:
        The first prompt's figures, and those of the others under their names: `training_ratio` and `scoring_ratio`
        (our examples per second over those of the fastest peer that puts one example in a row), `bound` (what
        sharing can gain at these lengths), `loss_difference`, `gradient_relative_error`,
        `probability_max_difference`, `winners` (all over all questions) and tables of rates. The peers are measured
        on a random sample of the same questions: an example alone in a row costs the same whichever others there are.

    Raises:
        UserError: for settings that cannot be measured.
        RuntimeError: if shared prefixes give other results.
    """
    _check(settings)
    logging.getLogger("nngpt_ext.tuning").setLevel(logging.WARNING)  # the history of its epochs means nothing here
    base = load_base(settings.base)
    result: dict[str, Any] = {
        "base_model": settings.base,
        "device": torch.cuda.get_device_name() if base.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions() | ({"lm_eval": metadata.version("lm_eval")} if peers.HARNESS else {}),
    }
    for prompt in settings.prompts:
        found = make_workload(base, prompt, settings.networks, settings.code_tokens, settings.row_tokens)
        figures = _figures(found, settings.rounds)
        result |= figures if prompt == settings.prompts[0] else {prompt: figures}
    return result


def _check(settings: PrefixSettings) -> None:
    if settings.device not in (None, "cpu", "cuda"):
        raise unknown("device", settings.device, ("cpu", "cuda"))
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here; leave --device out to measure on the CPU")
    if settings.device == "cpu" and torch.cuda.is_available():
        raise UserError("there is a CUDA device, and models are loaded there; hide it with CUDA_VISIBLE_DEVICES=")


def _figures(found: Workload, rounds: int) -> dict[str, Any]:
    equality = peers.gradient_error(found) | _agreement(found)
    check_equal(equality["loss_difference"], equality["winners"]["different"], mask_dtype(found.base.model))
    training = in_turn(_training_ways(found), rounds, f"{found.prompt}, training")
    scoring = in_turn(_scoring_ways(found), rounds, f"{found.prompt}, scoring")
    gains = [_gain(rates) for rates in (training, scoring)]
    bounds = found.lengths.bound, _scoring_bound(found)
    return {
        "prompt": found.prompt,
        "training_ratio": gains[0],
        "scoring_ratio": gains[1],
        "bound": bounds[0],
        "training_share_of_bound": gains[0] / bounds[0],
        "scoring_bound": bounds[1],
        "scoring_share_of_bound": gains[1] / bounds[1],
        **equality,
        "lengths": {**asdict(found.lengths), "code_tokens": found.code_tokens, "row_tokens": found.row_tokens},
        "training": {name: asdict(rate) for name, rate in training.items()},
        "scoring": {name: asdict(rate) for name, rate in scoring.items()},
        "by_questions": [_by_questions(found, k, rounds) for k in QUESTIONS],
    }


def check_equal(loss_difference: float, winners_different: int, dtype: torch.dtype) -> None:
    """Verify that shared prefixes give the same results, before anything is timed.

    Raises:
        RuntimeError: if the losses differ by more than rounding, or winners differ.
    """
    allowed = LOSS if dtype == torch.float32 else LOSS_BF16
    if not loss_difference <= allowed or (winners_different and dtype == torch.float32):
        raise RuntimeError(
            f"shared prefixes do not compute the same: the loss differs by {loss_difference:.2g} (allowed "
            f"{allowed:g}), {winners_different} winners differ; nothing is timed"
        )


def _agreement(found: Workload) -> dict[str, Any]:
    """Scores with shared prefixes compared with single ones, over all questions."""
    ours, plain = (peers.score(found, found.groups, engine=engine).log_odds for engine in ("shared", "plain"))
    close = np.abs(plain) < UNDECIDED
    probabilities = [1 / (1 + np.exp(-odds)) for odds in (ours, plain)]
    result = {
        "probability_max_difference": float(np.abs(probabilities[0] - probabilities[1]).max()),
        "winners": {
            "questions": len(ours),
            "undecided": int(close.sum()),
            "different": int(((ours >= 0) != (plain >= 0))[~close].sum()),
        },
    }
    if peers.HARNESS:
        some = [question for group in found.groups[:2] for question in group]
        theirs = peers.score_harness(found, some, 8).log_odds
        result["harness_max_difference"] = float(np.abs(ours[: len(some)] - theirs).max())
    return result


def _training_ways(found: Workload) -> dict[str, Callable[[], Work]]:
    """Shared prefixes, TRL with one example a row at each batch size, and TRL's padding-free packing."""
    examples = [example for group in found.training for example in group]
    some = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))[: 2 * peers.step_of(found)]]
    return {
        "shared": partial(peers.train_shared, found),
        **{f"TRL, one a row, batch {b}": partial(peers.train_trl, found, some, b) for b in BATCHES},
        "TRL, padding-free packing": partial(peers.train_trl, found, some, 1, packed=True),
    }


def _scoring_ways(found: Workload) -> dict[str, Callable[[], Work]]:
    """Shared prefixes, one example a row at each batch size, sampled answers, lm-evaluation-harness if installed."""
    questions = found.questions
    some = [questions[i] for i in np.random.default_rng(0).permutation(len(questions))[:48]]
    plain = partial(peers.score, found, [[question] for question in some], engine="plain")
    return {
        "shared": partial(peers.score, found, found.groups),
        **{f"one a row, batch {b}": partial(plain, plain_batch=b) for b in (2, *BATCHES[1:])},  # an option a row
        "sampled generation of 150 tokens": partial(peers.generate, found.base.model, some[:4], found.pad),
        **{
            f"lm-evaluation-harness, batch {b}": partial(peers.score_harness, found, some, b)
            for b in ((1, 8) if peers.HARNESS else ())
        },
    }


def _by_questions(found: Workload, questions: int, rounds: int) -> dict[str, Any]:
    """Training examples per second with that many questions a network, in parts and behind one mask."""
    some = found.with_questions(questions, max(2, min(10, 200 // questions)))
    whole = replace(some, row_tokens=max(lengths([group]).once for group in some.training))
    ways = {
        "shared": partial(peers.forward_and_backward, some, "shared"),
        "masked": partial(peers.forward_and_backward, some, "masked"),
        "shared, whole networks": partial(peers.forward_and_backward, whole, "shared"),
        "masked, whole networks": partial(peers.forward_and_backward, whole, "masked"),
    }
    rates = in_turn(ways, rounds, f"{found.prompt}, {questions} questions a network")
    figures = {name: rate.examples_per_second for name, rate in rates.items()}
    return {"questions": questions, "bound": some.lengths.bound, **figures}


def _scoring_bound(found: Workload) -> float:
    """What sharing can gain in scoring, where one example a row computes the question once for each option."""
    single = sum(len(e.prompt) + len(option) - 1 for e in found.questions for option in e.options)
    return single / lengths([[scoring_example(e) for e in group] for group in found.groups]).once


def _gain(rates: dict[str, Rate]) -> float:
    peer = max(rate.examples_per_second for name, rate in rates.items() if "one a row" in name)
    return rates["shared"].examples_per_second / peer


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
    data = read_data(build_config(TaskConfig, read_config(run / CONFIG)))
    names = sorted(data.part("test")["nn"].unique())[:networks]
    pairs = list(itertools.combinations(predictor.datasets, 2))
    accuracies = dict.fromkeys(predictor.datasets, 0.5)  # a prompt shows of recipe and accuracies what it needs

    def rank(networks: list[str]) -> int:
        given = [(data.sources[nn], nn) for nn in networks]
        rankings = predictor.rank_many(given, None, RECIPE, accuracies=accuracies)
        return sum(len(ranking.comparisons) for ranking in rankings)

    rank(names[:1])  # loads the model
    files = AdapterFiles(run / "adapter")
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
        SAMPLED: partial(peers.generate, scorer.model, straight, encoded.pad),
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
