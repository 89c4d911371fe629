"""Rows: many questions behind one copy of the prefix that they share.

A row is a forest of segments. The root of a group is its shared prefix; a question's own tokens are a child of
it; if both options are scored, each is a child of its question. A token sees the segments on the path to its
root and the earlier tokens of its own segment; positions count along that path. Each question is thus computed
as if it stood alone, but the prefix only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from nngpt_ext.batches.encode import Example, LinePair

NO_PARENT = -1
Group = Sequence[Example] | Sequence[LinePair]  # of one network


@dataclass(frozen=True, eq=False)
class Row:
    """Tokens of one row and the targets to predict in it (all arrays int32)."""

    ids: np.ndarray  # (length,)
    positions: np.ndarray  # (length,)
    segments: np.ndarray  # (length,): the segment each token belongs to
    parents: np.ndarray  # (segments,): NO_PARENT for a root
    predict: np.ndarray  # (targets,): where in the row a target is predicted
    targets: np.ndarray  # (targets,): token ids
    answers: np.ndarray  # (targets,): which answer of the row a target belongs to

    @property
    def n_answers(self) -> int:
        """The number of answers in the row."""
        return int(self.answers[-1]) + 1 if len(self.answers) else 0

    def visible(self) -> np.ndarray:
        """The attention mask, shape (length, length), bool: which token (column) each token (row) sees."""
        order = np.arange(len(self.ids))
        return self.above()[np.ix_(self.segments, self.segments)] & (order[None, :] <= order[:, None])

    def above(self) -> np.ndarray:
        """Shape (segments, segments), bool: [a, b] is true if b is a or one of its ancestors."""
        above = np.eye(len(self.parents), dtype=bool)
        for segment, parent in enumerate(self.parents):  # a parent comes before its children
            if parent != NO_PARENT:
                above[segment] |= above[parent]
        return above


def shared_length(prompts: Sequence[np.ndarray]) -> int:
    """Length of the longest common prefix that leaves each prompt at least one token of its own."""
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


def distinct(group: Group) -> list[Example]:
    """What a row must contain for a group, each once: pairs have lines in common."""
    return list({id(part): part for example in group for part in example.parts}.values())


def _lengths(group: Group) -> tuple[int, list[int]]:
    """Tokens of a group's shared prefix, and those that each example adds to the examples before it."""
    shared = shared_length([part.prompt for part in distinct(group)])
    own, there = [], set[int]()
    for example in group:
        own.append(sum(own_length(part, shared) for part in example.parts if id(part) not in there))
        there.update(map(id, example.parts))
    return shared, own


def pack(groups: Iterable[Group], limit: int) -> list[list[list[int]]]:
    """Pack groups into rows of at most `limit` tokens, in their order.

    A group that is too large is split and its prefix repeated; a single example may be longer than `limit`. So may a
    row that repeats lines of the row before (`halves` divides it).

    Returns:
        For each row its parts: `[group, example, example, …]` by number.
    """
    rows: list[list[list[int]]] = []
    used = limit + 1
    for g, group in enumerate(groups):
        if not group:
            continue
        shared, own = _lengths(group)
        part: list[int] = []
        for e in range(len(group)):
            # A group begins a new row unless all of it fits: rows are not padded, so a short one wastes nothing.
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
    """Split a row's examples into two rows, for a device without the memory for one."""
    places = [(g, e) for g, *numbers in row for e in numbers]
    middle = len(places) // 2
    return [
        [[g, *(e for _, e in part)] for g, part in groupby(half, key=lambda place: place[0])]
        for half in (places[:middle], places[middle:])
    ]


def tokens_of(groups: Sequence[Group], row: Sequence[Sequence[int]], *, share: bool = True) -> int:
    """Tokens that a row computes, with shared prefixes or one example at a time."""
    parts = [distinct([groups[g][e] for e in numbers]) for g, *numbers in row]  # type: ignore[arg-type]
    alone = parts if share else [[example] for part in parts for example in part]
    return sum(shared + sum(own) for shared, own in map(_lengths, alone))


def build_row(groups: Sequence[Sequence[Example]], *, cached: int = 0) -> Row:
    """Lay out groups of examples in one row.

    Args:
        groups: examples of one network each; a group of one has no shared prefix.
        cached: number of leading tokens to omit from every example, because their keys and values are known.
    """
    parts: list[tuple[np.ndarray, int, int]] = []  # of each segment: tokens, first position, parent
    predict: list[int] = []
    options: list[np.ndarray] = []
    end = 0

    def add(tokens: np.ndarray, start: int, parent: int) -> int:
        nonlocal end
        parts.append((tokens, start, parent))
        end += len(tokens)
        return len(parts) - 1

    for group in groups:
        shared = cached or (shared_length([example.prompt for example in group]) if len(group) > 1 else 0)
        root = add(group[0].prompt[:shared], 0, NO_PARENT) if shared and not cached else NO_PARENT
        for example in group:
            own = add(example.prompt[shared:], shared, root)
            last = end - 1
            for option in example.answers:
                start = end
                if len(option) > 1:
                    add(option[:-1], len(example.prompt), own)
                predict += [last, *range(start, end)]
                options.append(option)
    tokens, starts, parents = zip(*parts, strict=True)
    positions = [np.arange(start, start + len(ids)) for ids, start in zip(tokens, starts, strict=True)]
    segments = np.repeat(np.arange(len(parts)), [len(ids) for ids in tokens])
    answers = np.repeat(np.arange(len(options)), [len(option) for option in options])
    arrays = (
        np.concatenate(tokens), np.concatenate(positions), segments, parents, predict, np.concatenate(options), answers,
    )  # fmt: skip
    return Row(*(np.asarray(array, dtype="int32") for array in arrays))
