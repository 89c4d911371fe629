"""`nngpt-ext bench prefix`: what shared prefixes gain, and that they change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.batches.tensors import mask_dtype
from nngpt_ext.bench import scoring, training
from nngpt_ext.bench.material import Lengths, Material, lengths, material, with_questions
from nngpt_ext.bench.measure import Rate, in_turn
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.models.base import load_base
from nngpt_ext.tasks.folder import versions

BATCHES = (1, 4, 8, 16)
HARNESS_BATCHES = (1, 8)
QUESTIONS = (4, 20, 42, 200)
LOSS, LOSS_BF16 = 1e-5, 2e-2  # largest difference of a loss in fp32, and in bf16, whose rounding is 2^-8
UNDECIDED = 1e-4  # log-odds below which rounding may choose the winner
Tell = Callable[[str], None]


def bench_prefix(
    *,
    base: str = "embedded",
    prompts: tuple[str, ...] = ("code_only", "recipe"),
    networks: int = 40,
    code_tokens: int = 600,
    row_tokens: int = 2048,
    rounds: int = 3,
    device: str | None = None,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Measure shared prefixes against their peers on real examples.

    Args:
        base: base model, loaded in 4 bits.
        prompts: the first one's figures stand at the top, the others under their names.
        networks: real networks, with all their pairs in both orders.
        code_tokens: tokens of source shown.
        row_tokens: tokens of a forward pass of ours.
        rounds: how often each way is measured, in turn.
        device: `cuda` refuses to run where there is none; by default what is there.
        tell: is told what is being measured.

    Returns:
        For each prompt `training_ratio` and `scoring_ratio` (our examples/s over the fastest peer's that puts one
        example in a row), `bound` (what sharing can gain at these lengths), `loss_difference`,
        `gradient_relative_error`, `probability_max_difference`, `winners` (all over all questions) and tables of
        rates. The peers' rates are those of a random sample of the same questions: an example alone in a row
        costs the same whichever others there are.
    """
    import torch

    if device not in (None, "cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here; leave --device out to measure on the CPU")
    if device == "cpu" and torch.cuda.is_available():
        raise UserError("there is a CUDA device, and models are loaded there; hide it with CUDA_VISIBLE_DEVICES=")
    if networks < 2 or rounds < 1:
        raise UserError("--networks must be at least 2 and --rounds at least 1")
    logging.getLogger("nngpt_ext.tuning").setLevel(logging.WARNING)  # its epochs are nobody's here
    loaded = load_base(base)
    on = torch.cuda.get_device_name() if loaded.device.type == "cuda" else "cpu"
    result: dict[str, Any] = {
        "base_model": base,
        "device": on,
        "threads": torch.get_num_threads(),
        "versions": versions() | scoring.harness_version(),
    }
    for number, prompt in enumerate(prompts):
        found = material(loaded, prompt, networks, code_tokens, row_tokens)
        first = [scoring_example(e) for e in found.groups[0]]
        engine = checked_engine(loaded.model, first, found.pad, "shared", min(loaded.context, row_tokens))
        if engine != "shared":
            raise UserError(f"base model '{base}' cannot share prefixes (see the warning): there is nothing to measure")
        figures = _figures(found, row_tokens, rounds, _prefixed(tell, prompt))
        result.update(figures if number == 0 else {prompt: figures})
    return result


def _figures(found: Material, row_tokens: int, rounds: int, tell: Tell) -> dict[str, Any]:
    size = lengths(found.training)
    tell("equality")
    equal = training.gradient_error(found, row_tokens)
    agreement = _agreement(found, row_tokens)
    _check_equal(equal["loss_difference"], agreement["winners"]["different"], mask_dtype(found.base.model))
    trained = _training(found, row_tokens, rounds, tell)
    scored = _scoring(found, row_tokens, rounds, tell)
    gain = trained["shared"].examples_per_second / _best(trained, "one a row").examples_per_second
    score_gain = scored["shared"].examples_per_second / _best(scored, "one a row").examples_per_second
    scoring_bound = _scoring_bound(found)
    return {
        "prompt": found.prompt,
        "training_ratio": gain,
        "scoring_ratio": score_gain,
        "bound": size.bound,
        "training_share_of_bound": gain / size.bound,
        "scoring_bound": scoring_bound,
        "scoring_share_of_bound": score_gain / scoring_bound,
        **equal,
        **agreement,
        "lengths": {**size._asdict(), "code_tokens": found.code_tokens, "row_tokens": row_tokens},
        "training": _table(trained),
        "scoring": _table(scored),
        "by_questions": _by_questions(found, row_tokens, rounds, tell),
    }


def _check_equal(loss_difference: float, winners_different: int, dtype: Any) -> None:
    """Equality comes first: what computes something else is not timed.

    Raises:
        RuntimeError: when the losses differ by more than rounding, or winners differ.
    """
    import torch

    allowed = LOSS if dtype == torch.float32 else LOSS_BF16
    if not loss_difference <= allowed or (winners_different and dtype == torch.float32):
        raise RuntimeError(
            f"shared prefixes do not compute the same: the loss differs by {loss_difference:.2g} (allowed "
            f"{allowed:g}), {winners_different} winners differ; nothing is timed"
        )


def _training(found: Material, row_tokens: int, rounds: int, tell: Tell) -> dict[str, Rate]:
    """Ours, TRL with one example a row at each batch size, and TRL's padding-free packing."""
    rng = np.random.default_rng(0)
    examples = [example for group in found.training for example in group]
    some = [examples[i] for i in rng.permutation(len(examples))]
    step = training.step_of(found)
    ways: dict[str, Any] = {
        "shared": lambda: training.shared(found, row_tokens),
        **{f"TRL, one a row, batch {b}": partial(training.trl, found, some[: 2 * step], b) for b in BATCHES},
        "TRL, padding-free packing": lambda: training.trl(found, some[: 2 * step], 1, packed=row_tokens),
    }
    return in_turn(ways, rounds, tell)


def _scoring(found: Material, row_tokens: int, rounds: int, tell: Tell) -> dict[str, Rate]:
    """Ours, one example a row at each batch size, sampled answers, and lm-evaluation-harness where it is there."""
    groups = found.groups
    questions = [question for group in groups for question in group]
    some = [questions[i] for i in np.random.default_rng(0).permutation(len(questions))[:48]]
    ways: dict[str, Any] = {
        "shared": lambda: scoring.scored(found, groups, row_tokens)[0],
        **{
            f"one a row, batch {b}": (
                lambda b=b: scoring.scored(found, [[q] for q in some], 1, engine="plain", plain_batch=b)[0]
            )
            for b in (2, *BATCHES[1:])  # two options make two rows
        },
        "sampled generation of 150 tokens": lambda: scoring.generated(found, some[:4]),
    }
    if scoring.harness_installed():
        for b in HARNESS_BATCHES:
            ways[f"lm-evaluation-harness, batch {b}"] = lambda b=b: scoring.harness(found, some, b)[0]
    return in_turn(ways, rounds, tell)


def _agreement(found: Material, row_tokens: int) -> dict[str, Any]:
    """Shared against single scores of all questions."""
    groups = found.groups
    ours = scoring.scored(found, groups, row_tokens)[1]
    plain = scoring.scored(found, groups, row_tokens, engine="plain")[1]
    close = np.abs(plain) < UNDECIDED
    probability = [1 / (1 + np.exp(-x)) for x in (ours, plain)]
    result = {
        "probability_max_difference": float(np.abs(probability[0] - probability[1]).max()),
        "winners": {
            "questions": len(ours),
            "undecided": int(close.sum()),
            "different": int(((ours >= 0) != (plain >= 0))[~close].sum()),
        },
    }
    if scoring.harness_installed():
        asked = [question for group in groups[:2] for question in group]
        theirs = scoring.harness(found, asked, 8)[1]
        result["harness_max_difference"] = float(np.abs(ours[: len(asked)] - theirs).max())
    return result


def _by_questions(found: Material, row_tokens: int, rounds: int, tell: Tell) -> list[dict[str, Any]]:
    """Training examples a second by the number of questions a network, in parts and behind one mask."""
    table = []
    for k in QUESTIONS:
        some = with_questions(found, k, max(2, min(10, 200 // k)))
        whole = max(lengths([group]).once for group in some.training)
        ways = {
            "shared": partial(training.passes, some, row_tokens, "shared"),
            "masked": partial(training.passes, some, row_tokens, "masked"),
            "shared, whole networks": partial(training.passes, some, whole, "shared"),
            "masked, whole networks": partial(training.passes, some, whole, "masked"),
        }
        rates = in_turn(ways, rounds, _prefixed(tell, f"{k} questions a network"))
        table.append({
            "questions": k,
            "bound": lengths(some.training).bound,
            **{name: rate.examples_per_second for name, rate in rates.items()},
        })  # fmt: skip
    return table


def _scoring_bound(found: Material) -> float:
    """What sharing can gain in scoring, where one example a row reads the question once an option."""
    groups = [[scoring_example(e) for e in group] for group in found.groups]
    whole = sum(len(e.prompt) + len(o) - 1 for group in found.groups for e in group for o in e.options)
    size: Lengths = lengths(groups)
    return whole * size.bound / sum(len(e.prompt) + sum(len(o) - 1 for o in e.options) for g in found.groups for e in g)


def _prefixed(tell: Tell, before: str) -> Tell:
    return lambda what: tell(f"{before}: {what}")


def _best(rates: dict[str, Rate], word: str) -> Rate:
    return max((r for name, r in rates.items() if word in name), key=lambda r: r.examples_per_second)


def _table(rates: dict[str, Rate]) -> dict[str, dict[str, Any]]:
    return {name: rate._asdict() for name, rate in rates.items()}
