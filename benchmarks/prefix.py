"""`nngpt-ext bench prefix`: shared prefixes against one example a row, equal results first, then time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import torch

from benchmarks import peers
from benchmarks.stopwatch import Rate, Work, in_turn
from benchmarks.workload import Workload, lengths, make_workload
from nngpt_ext.batches.tensors import mask_dtype
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.models.base import load_base
from nngpt_ext.run_folder import versions

BATCHES = (1, 4, 8, 16)
QUESTIONS = (4, 20, 42, 200)  # of a network
LOSS, LOSS_BF16 = 1e-5, 2e-2  # largest difference of a loss in fp32, and in bf16, whose rounding is 2^-8
UNDECIDED = 1e-4  # log-odds below which rounding may decide


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
    gain, scoring_gain = _gain(training), _gain(scoring)
    bound, scoring_bound = found.lengths.bound, _scoring_bound(found)
    return {
        "prompt": found.prompt,
        "training_ratio": gain,
        "scoring_ratio": scoring_gain,
        "bound": bound,
        "training_share_of_bound": gain / bound,
        "scoring_bound": scoring_bound,
        "scoring_share_of_bound": scoring_gain / scoring_bound,
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
    single = sum(len(e.prompt) + len(option) - 1 for e in found.questions for option in e.answers)
    return single / lengths(found.groups).once


def _gain(rates: dict[str, Rate]) -> float:
    peer = max(rate.examples_per_second for name, rate in rates.items() if "one a row" in name)
    return rates["shared"].examples_per_second / peer


def prefix_text(found: dict[str, Any]) -> str:
    """The figures of all prompts for a terminal."""
    others = [value for value in found.values() if isinstance(value, dict) and "lengths" in value]
    return "\n".join(line for figures in (found, *others) for line in _lines(figures))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    size, winners = found["lengths"], found["winners"]
    yield (
        f"{found['prompt']}: {size['networks']} networks, {size['questions']:.1f} questions each, prefix "
        f"{size['prefix_tokens']:.0f} tokens, a question's own {size['own_tokens']:.1f}"
    )
    yield (
        f"  training {found['training_ratio']:.1f}× one example a row "
        f"({found['training_share_of_bound']:.0%} of the bound {found['bound']:.1f}×), scoring "
        f"{found['scoring_ratio']:.1f}× ({found['scoring_share_of_bound']:.0%} of {found['scoring_bound']:.1f}×)"
    )
    yield (
        f"  loss differs by {found['loss_difference']:.1e}, gradients by {found['gradient_relative_error']:.1e} "
        f"(relative), probabilities by at most {found['probability_max_difference']:.1e}; {winners['different']} of "
        f"{winners['questions']} winners differ ({winners['undecided']} within rounding of a tie)"
    )
    for what in ("training", "scoring"):
        for name, rate in found[what].items():
            yield (
                f"  {what:8}  {name:36} {rate['examples_per_second']:8.2f} examples/s "
                f"{rate['tokens_per_second']:9,.0f} tokens/s {rate['peak_mb']:7,.0f} MB"
            )
    for row in found["by_questions"]:
        rates = ", ".join(f"{name} {value:.1f}" for name, value in row.items() if name not in ("questions", "bound"))
        yield f"  {row['questions']:3} questions a network (bound {row['bound']:.1f}×), examples/s: {rates}"
