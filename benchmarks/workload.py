"""What is measured: the questions about real networks, both orders of every pair, for a real base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nngpt_ext.batches.encode import Example, training_example
from nngpt_ext.batches.rows import own_length, shared_length
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.metrics import first_wins
from nngpt_ext.models.base import Base
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.scoring.predictions import group_by_network, questions_of
from nngpt_ext.scoring.scorer import Budget, LocalScorer


@dataclass(frozen=True)
class Lengths:
    """Mean lengths over networks, and the bound on what sharing can gain."""

    networks: int
    questions: float  # k, of a network
    prefix_tokens: float  # P
    own_tokens: float  # s
    once: int  # Σ (P + ks), tokens computed with sharing
    bound: float  # Σ k(P + s) / Σ (P + ks)


@dataclass(frozen=True)
class Workload:
    """A base model and the questions about some networks."""

    base: Base
    prompt: str
    code_tokens: int
    row_tokens: int  # of a forward pass with shared prefixes
    groups: list[list[Example]]  # the questions of each network, both orders of a pair next to each other
    training: list[list[Example]]  # the same questions with the right answer

    @property
    def pad(self) -> int:
        """The padding token."""
        return int(self.base.tokenizer.pad_token_id)

    @property
    def questions(self) -> list[Example]:
        """The questions about all networks."""
        return [question for group in self.groups for question in group]

    @cached_property
    def lengths(self) -> Lengths:
        """Lengths of the training examples."""
        return lengths(self.training)

    def with_questions(self, questions: int, networks: int) -> Workload:
        """The first networks with that many questions each; a network with fewer questions repeats them."""

        def filled(groups: list[list[Any]]) -> list[list[Any]]:
            return [[group[i % len(group)] for i in range(questions)] for group in groups[:networks]]

        return replace(self, groups=filled(self.groups), training=filled(self.training))


def make_workload(base: Base, prompt: str, networks: int, code_tokens: int, row_tokens: int) -> Workload:
    """Questions about that many networks of LEMUR's epoch 5, drawn with seed 0.

    Raises:
        UserError: if a question does not fit into the base's context or a row, or if shared prefixes are not exact
            on the base model.
    """
    data = load_pairs(DataConfig(train_networks=networks, validation_networks=1, test_networks=1))
    pairs = data.part("train")
    scorer = LocalScorer(base, get_template(prompt), Budget(code_tokens, True, row_tokens), data.facts)
    encoder = scorer.encoder(data.sources)
    questions = questions_of(pairs)
    first = first_wins(pairs)
    groups, training = [], []
    for numbers in group_by_network(pairs["nn"].tolist()):
        encoded = encoder.encode([q for i in numbers for q in (questions[i], questions[i].turned())])
        right = [r for i in numbers for r in (bool(first[i]), not first[i])]
        groups.append(encoded)
        training.append([training_example(e, r) for e, r in zip(encoded, right, strict=True)])
    found = Workload(base, prompt, code_tokens, row_tokens, groups, training)
    if scorer.check_engine(groups[0]) != "shared":
        raise UserError(
            f"base model '{base.name}' cannot share prefixes (see the warning): there is nothing to measure"
        )
    return found


def lengths(groups: Sequence[Sequence[Example]]) -> Lengths:
    """Lengths of examples in tokens, without stop tokens, which are only predicted."""
    shared = [shared_length([e.prompt for e in group]) if len(group) > 1 else 0 for group in groups]
    whole = [sum(own_length(e, 0) for e in group) for group in groups]
    once = [s + sum(own_length(e, s) for e in group) for s, group in zip(shared, groups, strict=True)]
    k = np.array([len(group) for group in groups])
    own = (np.array(once) - shared) / k
    mean_k, mean_shared, mean_own = (float(np.mean(values)) for values in (k, shared, own))
    return Lengths(len(groups), mean_k, mean_shared, mean_own, sum(once), sum(whole) / sum(once))
