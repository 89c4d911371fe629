"""The examples of each optimiser step, drawn by network and pair, and packed into rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nngpt_ext.batches.rows import Group, halves, own_length, pack, tokens_of
from nngpt_ext.config import DecidedConfig
from nngpt_ext.tuning.ranks import deal

Rows = list[list[list[int]]]  # as batches.rows.pack returns them


@dataclass(frozen=True)
class Plan:
    """The rows of each optimiser step. The engine decides a step's rows, but not its examples."""

    steps: list[Rows]
    epoch_ends: list[int]  # the number of steps after which each epoch ends


class CappedNetworks(list[Group]):
    """The examples of each network, and the giant family of those that are in one, of which an epoch draws few.

    Args:
        groups: a network's examples.
        families: the giant family of each network, or None; as long as `groups`.
    """

    def __init__(self, groups: Iterable[Group], families: Sequence[str | None]) -> None:
        super().__init__(groups)
        self.families = families


class _Rotation:
    """Draws numbers below n, each once before any is drawn twice."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng
        self.waiting: list[int] = []

    def draw(self, count: int) -> list[int]:
        """`count` different numbers, at most n."""
        if len(self.waiting) < count:
            again = [int(i) for i in self.rng.permutation(self.n)]
            # Those still waiting come last in the next round, or this draw could have one of them twice.
            self.waiting += [i for i in again if i not in self.waiting] + [i for i in again if i in self.waiting]
        drawn, self.waiting = self.waiting[:count], self.waiting[count:]
        return drawn


class _Draw:
    """The networks of each epoch: of a giant family as many as the cap allows, others each epoch."""

    def __init__(self, families: Sequence[str | None], cap: int, rng: np.random.Generator) -> None:
        members: dict[str, list[int]] = {}
        for g, family in enumerate(families):
            if family is not None:
                members.setdefault(family, []).append(g)
        self.members = members
        self.inner = {family: _Rotation(len(own), rng) for family, own in members.items()}
        # What is drawn: a network, or a place for one of a family.
        self.places: list[int | str] = [g for g, family in enumerate(families) if family is None]
        self.places += [family for family, own in members.items() for _ in range(min(cap, len(own)))]
        self.outer = _Rotation(len(self.places), rng)

    def epoch(self, networks: int | None) -> list[int]:
        """The networks of the next epoch, `networks` at most."""
        drawn = [self.places[i] for i in self.outer.draw(min(networks or len(self.places), len(self.places)))]
        wanted = Counter(place for place in drawn if isinstance(place, str))
        found = {family: iter(self.inner[family].draw(n)) for family, n in wanted.items()}
        return [self.members[place][next(found[place])] if isinstance(place, str) else place for place in drawn]


def make_plan(groups: Sequence[Group], config: DecidedConfig) -> Plan:
    """Draw the examples of all epochs and divide them into steps.

    Every network is drawn once before any is drawn twice, except that an epoch draws at most `data.family_cap` networks
    of a giant family, each once before any of that family twice. A network's examples are in one step unless there are
    more than a step takes. `tuning.seed` decides all draws.

    Args:
        groups: a network's examples, those of a pair (`tuning.orders`) next to each other; `CappedNetworks`
            where there are giant families.
        config: of the run, with an engine that suits the base model.
    """
    tuning = config.tuning
    rng = np.random.default_rng(tuning.seed)
    draw = _Draw(
        groups.families if isinstance(groups, CappedNetworks) else [None] * len(groups), config.data.family_cap, rng
    )
    steps: list[Rows] = []
    ends: list[int] = []
    for _ in range(tuning.epochs):
        drawn = draw.epoch(tuning.networks_per_epoch)
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


def _shared_rows(groups: Sequence[Group], dealt: Sequence[Sequence[int]], limit: int) -> Rows:
    chosen: list[Group] = [[groups[g][e] for e in numbers] for g, *numbers in dealt]  # type: ignore[misc]
    return [
        [[dealt[part[0]][0], *(dealt[part[0]][1 + e] for e in part[1:])] for part in row] for row in pack(chosen, limit)
    ]


def _plain_rows(groups: Sequence[Group], dealt: Sequence[Sequence[int]], limit: int) -> Rows:
    """Batches of as many single examples as fit into the limit when padded."""
    rows: Rows = []
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


def deal_rows(groups: Sequence[Group], rows: Rows, n: int, *, share: bool) -> list[Rows]:
    """Deal the rows of a step to `n` processes, about the same number of tokens to each.

    A row is divided by network, and a network's examples are halved where this makes the largest share smaller,
    although their prefix is then computed twice.

    Args:
        groups: a network's examples.
        rows: of the step.
        n: the number of processes.
        share: whether the engine shares prefixes.
    """

    def dealt(pieces: Sequence[tuple[int, list[int]]]) -> tuple[int, list[list[int]], int]:
        """The tokens of the largest share, all shares, and the largest piece of that share."""
        amounts = [tokens_of(groups, [part], share=share) for _, part in pieces]
        shares = deal(amounts, n)
        total, numbers = max((sum(amounts[i] for i in numbers), numbers) for numbers in shares)
        return total, shares, max(numbers, key=lambda i: amounts[i])

    pieces = [(r, part) for r, row in enumerate(rows) for part in row]
    total, shares, largest = dealt(pieces)
    while len(pieces[largest][1]) > 2:  # the network's number, and more than one example
        r, part = pieces[largest]
        finer = [*pieces[:largest], *((r, half) for (half,) in halves([part])), *pieces[largest + 1 :]]
        found = dealt(finer)
        if found[0] >= total:
            break
        pieces, (total, shares, largest) = finer, found
    return [_joined([pieces[i] for i in numbers]) for numbers in shares]


def _joined(pieces: Sequence[tuple[int, list[int]]]) -> Rows:
    """The rows that pieces of rows make: `(row, part)` each."""
    rows: dict[int, dict[int, list[int]]] = {}
    for r, (g, *numbers) in pieces:
        rows.setdefault(r, {}).setdefault(g, [g]).extend(numbers)
    return [list(parts.values()) for parts in rows.values()]
