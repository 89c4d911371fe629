"""What each optimiser step sees: networks, pairs and both orders, dealt into rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nngpt_ext.batches.rows import Example, own_length, pack, shared_length


class Plan(NamedTuple):
    """The rows of all epochs in order, and how many rows make a step.

    Every epoch is filled up to whole steps with empty rows, so that no step mixes two epochs.
    """

    rows: list[list[list[int]]]  # as batches.rows.pack gives them; an empty list is a filler
    rows_per_step: int
    epoch_ends: list[int]  # the step after which each epoch ends

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epoch_ends[-1]


def make_plan(
    groups: Sequence[Sequence[Example]],
    *,
    epochs: int,
    networks_per_epoch: int | None,
    pairs_per_network: int | None,
    examples_per_step: int,
    row_tokens: int,
    engine: str,
    seed: int,
) -> Plan:
    """Deal examples for all epochs.

    Args:
        groups: a network's examples, the two orders of a pair next to each other.
        networks_per_epoch: how many networks an epoch draws; every network is drawn once before any is
            drawn twice.
        pairs_per_network: how many of a network's pairs (both orders of each) an epoch draws.
        examples_per_step: about how many examples make an optimiser step.
        row_tokens: tokens of a forward pass.
        engine: `shared`, or `plain` for rows of single examples.
        seed: decides all draws.
    """
    rng = np.random.default_rng(seed)
    # Rows have draws of their own: engines make different numbers of them and must still see the same examples.
    shuffle = np.random.default_rng([seed, 1])
    per_epoch = min(networks_per_epoch or len(groups), len(groups))
    waiting: list[int] = []
    epoch_rows: list[list[list[list[int]]]] = []
    n_examples = 0
    for _ in range(epochs):
        if len(waiting) < per_epoch:
            again = [int(g) for g in rng.permutation(len(groups))]
            # Those still waiting come last in the next round, or this epoch could draw one of them twice.
            waiting += [g for g in again if g not in waiting] + [g for g in again if g in waiting]
        drawn, waiting = waiting[:per_epoch], waiting[per_epoch:]
        picked = [_pick(len(groups[g]), pairs_per_network, rng) for g in drawn]
        n_examples += sum(len(numbers) for numbers in picked)
        rows = (
            _shared_rows(groups, drawn, picked, row_tokens)
            if engine == "shared"
            else _plain_rows(groups, drawn, picked, row_tokens)
        )
        epoch_rows.append([rows[i] for i in shuffle.permutation(len(rows))])
    n_rows = sum(len(rows) for rows in epoch_rows)
    rows_per_step = max(1, round(examples_per_step * n_rows / max(n_examples, 1)))
    flat: list[list[list[int]]] = []
    ends: list[int] = []
    for rows in epoch_rows:
        flat += rows
        flat += [[] for _ in range(-len(rows) % rows_per_step)]
        ends.append(len(flat) // rows_per_step)
    return Plan(flat, rows_per_step, ends)


def _pick(n_examples: int, pairs: int | None, rng: np.random.Generator) -> list[int]:
    """Numbers of a network's examples: both orders of the drawn pairs, in a new order of pairs."""
    order = rng.permutation(n_examples // 2)[: pairs or None]
    return [int(2 * p + turned) for p in order for turned in (0, 1)]


def _shared_rows(
    groups: Sequence[Sequence[Example]], drawn: list[int], picked: list[list[int]], limit: int
) -> list[list[list[int]]]:
    chosen = [[groups[g][e] for e in numbers] for g, numbers in zip(drawn, picked, strict=True)]
    return [[[drawn[part[0]], *(picked[part[0]][e] for e in part[1:])] for part in row] for row in pack(chosen, limit)]


def _plain_rows(
    groups: Sequence[Sequence[Example]], drawn: list[int], picked: list[list[int]], limit: int
) -> list[list[list[int]]]:
    """Batches of as many single examples as fit into the limit when padded."""
    places = [(g, e) for g, numbers in zip(drawn, picked, strict=True) for e in numbers]
    rows: list[list[list[int]]] = []
    longest = 0
    for g, e in places:
        length = own_length(groups[g][e], 0)
        longest = max(longest, length)
        if not rows or longest * (len(rows[-1]) + 1) > limit:
            rows.append([])
            longest = length
        rows[-1].append([g, e])
    return rows


def tokens_of(groups: Sequence[Sequence[Example]], row: Sequence[Sequence[int]]) -> int:
    """Tokens that a shared row computes."""
    total = 0
    for g, *numbers in row:
        shared = shared_length([groups[g][e].prompt for e in numbers])
        total += shared + sum(own_length(groups[g][e], shared) for e in numbers)
    return total
