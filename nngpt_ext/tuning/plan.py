"""The examples of each optimiser step, drawn by network and pair, and packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nngpt_ext.batches.rows import Group, own_length, pack
from nngpt_ext.config import ResolvedConfig


@dataclass(frozen=True)
class Plan:
    """The rows of each optimiser step. The engine decides a step's rows, but not its examples."""

    steps: list[list[list[list[int]]]]  # rows as batches.rows.pack returns them
    epoch_ends: list[int]  # the number of steps after which each epoch ends


def make_plan(groups: Sequence[Group], config: ResolvedConfig) -> Plan:
    """Draw the examples of all epochs and divide them into steps.

    Every network is drawn once before any is drawn twice, and a network's examples are in one step unless there are
    more than a step takes. `tuning.seed` decides all draws.

    Args:
        groups: a network's examples, those of a pair (`tuning.orders`) next to each other.
        config: of the run, with an engine that suits the base model.
    """
    tuning = config.tuning
    rng = np.random.default_rng(tuning.seed)
    per_epoch = min(tuning.networks_per_epoch or len(groups), len(groups))
    waiting: list[int] = []
    steps: list[list[list[list[int]]]] = []
    ends: list[int] = []
    for _ in range(tuning.epochs):
        if len(waiting) < per_epoch:
            again = [int(g) for g in rng.permutation(len(groups))]
            # Networks still waiting come last in the next round, or this epoch could draw one of them twice.
            waiting += [g for g in again if g not in waiting] + [g for g in again if g in waiting]
        drawn, waiting = waiting[:per_epoch], waiting[per_epoch:]
        picked = [_pick(len(groups[g]), tuning.orders, config.data.pairs_per_network, rng) for g in drawn]
        for dealt in _steps(drawn, picked, tuning.examples_per_step, tuning.orders):
            rows = _plain_rows if tuning.engine == "plain" else _shared_rows
            steps.append(rows(groups, dealt, tuning.row_tokens))
        ends.append(len(steps))
    return Plan(steps, ends)


def _pick(n_examples: int, orders: int, pairs: int | None, rng: np.random.Generator) -> list[int]:
    """Numbers of a network's examples: all orders of the drawn pairs, which are shuffled."""
    order = rng.permutation(n_examples // orders)[: pairs or None]
    return [int(orders * p + turned) for p in order for turned in range(orders)]


def _steps(
    drawn: Sequence[int], picked: Sequence[list[int]], examples_per_step: int, orders: int
) -> list[list[list[int]]]:
    """Divide networks among steps in their order, as evenly as whole networks allow: `[network, example, …]` each."""
    size = orders * max(1, examples_per_step // orders)  # the two orders of a pair stay together
    pieces = [
        [g, *numbers[i : i + size]]
        for g, numbers in zip(drawn, picked, strict=True)
        for i in range(0, len(numbers), size)
    ]
    counts = np.array([len(piece) - 1 for piece in pieces])
    total = int(counts.sum())
    n_steps = max(1, round(total / examples_per_step))
    middle = np.cumsum(counts) - counts / 2
    number = np.minimum((middle * n_steps / total).astype(int), n_steps - 1)
    return [[pieces[i] for i in np.flatnonzero(number == step)] for step in np.unique(number)]


def _shared_rows(groups: Sequence[Group], dealt: Sequence[Sequence[int]], limit: int) -> list[list[list[int]]]:
    chosen: list[Group] = [[groups[g][e] for e in numbers] for g, *numbers in dealt]  # type: ignore[misc]
    return [
        [[dealt[part[0]][0], *(dealt[part[0]][1 + e] for e in part[1:])] for part in row] for row in pack(chosen, limit)
    ]


def _plain_rows(groups: Sequence[Group], dealt: Sequence[Sequence[int]], limit: int) -> list[list[list[int]]]:
    """Batches of as many single examples as fit into the limit when padded."""
    rows: list[list[list[int]]] = []
    longest = 0
    for g, e in ((g, e) for g, *numbers in dealt for e in numbers):
        parts = groups[g][e].parts
        length = max(own_length(part, 0) for part in parts)
        longest = max(longest, length)
        if not rows or longest * len(parts) * (len(rows[-1]) + 1) > limit:
            rows.append([])
            longest = length
        rows[-1].append([g, e])
    return rows
