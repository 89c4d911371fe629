"""Rows: many questions behind one copy of what they share.

A row is a forest of segments. A group's root is its shared prefix; a question's own tokens are a child of
it; where both options are scored, each is a child of its question. A token sees the segments on the way to
its root and the earlier tokens of its own; positions count along that way. So each question is computed
as if it stood alone, with the prefix computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nngpt_ext.batches.encode import Encoded

NO_PARENT = -1


@dataclass(frozen=True, eq=False)
class Row:
    """Tokens of one row and what is to be predicted in it (all arrays int32)."""

    ids: np.ndarray  # (length,)
    positions: np.ndarray  # (length,)
    segments: np.ndarray  # (length,): the segment each token belongs to
    parents: np.ndarray  # (segments,): NO_PARENT for a root
    predict: np.ndarray  # (targets,): where in the row a target is predicted
    targets: np.ndarray  # (targets,): token ids
    answers: np.ndarray  # (targets,): which answer of the row a target belongs to

    @property
    def n_answers(self) -> int:
        """How many answers the row holds."""
        return int(self.answers[-1]) + 1 if len(self.answers) else 0

    def visible(self) -> np.ndarray:
        """The attention mask, shape (length, length), bool: which token (column) each token (row) sees."""
        order = np.arange(len(self.ids))
        return self.above()[np.ix_(self.segments, self.segments)] & (order[None, :] <= order[:, None])

    def above(self) -> np.ndarray:
        """Shape (segments, segments), bool: [a, b] where b is a or one of its ancestors."""
        n = len(self.parents)
        above = np.zeros((n, n), dtype=bool)
        for segment in range(n):  # a parent comes before its children
            parent = self.parents[segment]
            if parent != NO_PARENT:
                above[segment] = above[parent]
            above[segment, segment] = True
        return above


@dataclass(frozen=True, eq=False)
class Example:
    """A question with the answers to predict: the right option to train on, both options to score."""

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]


def training_example(encoded: Encoded, first_is_right: bool) -> Example:
    """The example that trains on the right option."""
    return Example(encoded.prompt, (encoded.options[0 if first_is_right else 1],))


def scoring_example(encoded: Encoded) -> Example:
    """The example that scores both options."""
    return Example(encoded.prompt, encoded.options)


def shared_length(prompts: Sequence[np.ndarray]) -> int:
    """Length of the longest common prefix of the prompts; each keeps one token of its own."""
    first = prompts[0]
    length = min(len(prompt) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        differ = np.flatnonzero(prompt[:length] != first[:length])
        if len(differ):
            length = int(differ[0])
    return length


def own_length(example: Example, shared: int) -> int:
    """Tokens that an example adds behind a prefix of `shared` tokens. Stop tokens are only predicted."""
    return len(example.prompt) - shared + sum(len(answer) - 1 for answer in example.answers)


def pack(groups: Iterable[Sequence[Example]], limit: int) -> list[list[list[int]]]:
    """Deal groups into rows of at most `limit` tokens, in their order.

    A group that is too large is split, its prefix repeated; one example alone may be longer than `limit`.

    Returns:
        For each row its parts: `[group, example, example, …]` by number.
    """
    rows: list[list[list[int]]] = []
    used = limit + 1
    for g, group in enumerate(groups):
        if not group:
            continue
        shared = shared_length([example.prompt for example in group])
        own = [own_length(example, shared) for example in group]
        part: list[int] = []
        for e in range(len(group)):
            # A group starts where all of it fits: rows are not padded, so a short one wastes nothing.
            need = own[e] if part else shared + sum(own)
            if used + need > limit:
                rows.append([])
                used, part = 0, []
            if not part:
                part = [g]
                rows[-1].append(part)
                used += shared
            part.append(e)
            used += own[e]
    return rows


def halves(row: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """A row's examples in two rows, for a device that cannot hold them in one."""
    places = [(g, e) for g, *numbers in row for e in numbers]
    middle = len(places) // 2
    result = []
    for part in (places[:middle], places[middle:]):
        made: list[list[int]] = []
        for g, e in part:
            if not made or made[-1][0] != g:
                made.append([g])
            made[-1].append(e)
        result.append(made)
    return result


def tokens_of(groups: Sequence[Sequence[Example]], row: Sequence[Sequence[int]], *, share: bool = True) -> int:
    """Tokens that a row computes, with shared prefixes or one example after the other."""
    total = 0
    for g, *numbers in row:
        if not share:
            total += sum(own_length(groups[g][e], 0) for e in numbers)
            continue
        shared = shared_length([groups[g][e].prompt for e in numbers])
        total += shared + sum(own_length(groups[g][e], shared) for e in numbers)
    return total


def build_row(groups: Sequence[Sequence[Example]], *, share: bool = True, cached: int = 0) -> Row:
    """Lay out groups of examples in one row.

    Args:
        groups: examples of one network each.
        share: whether a group's prefix stands once; if not, each example is a root of its own.
        cached: tokens of every example that are left out, for their keys and values are known.
    """
    if not share:
        groups = [[example] for group in groups for example in group]
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    segments: list[np.ndarray] = []
    parents: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    end = 0
    answer_number = 0

    def add(tokens: np.ndarray, start: int, parent: int) -> int:
        nonlocal end
        parents.append(parent)
        ids.append(tokens)
        positions.append(np.arange(start, start + len(tokens)))
        segments.append(np.full(len(tokens), len(parents) - 1))
        end += len(tokens)
        return len(parents) - 1

    for group in groups:
        shared = cached or (shared_length([example.prompt for example in group]) if len(group) > 1 else 0)
        root = add(group[0].prompt[:shared], 0, NO_PARENT) if shared and not cached else NO_PARENT
        for example in group:
            prompt = example.prompt
            own = add(prompt[shared:], shared, root)
            last = end - 1
            for option in example.answers:
                start = end
                if len(option) > 1:
                    add(option[:-1], len(prompt), own)
                predict += [last, *range(start, end)]
                targets += option.tolist()
                answers += [answer_number] * len(option)
                answer_number += 1
    joined = [np.concatenate(part).astype("int32") for part in (ids, positions, segments)]
    numbers = [np.array(part, dtype="int32") for part in (parents, predict, targets, answers)]
    return Row(*joined, *numbers)
