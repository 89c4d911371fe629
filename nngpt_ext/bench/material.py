"""What is measured: real networks, all their pairs, both orders, a real base model with an adapter."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from nngpt_ext.batches.encode import Encoded, Encoder
from nngpt_ext.batches.rows import Example, own_length, shared_length, training_example
from nngpt_ext.data.load import load_pairs
from nngpt_ext.models.base import Base
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import group_by_network, questions_of
from nngpt_ext.tuning.settings import TuneConfig

RANK = 32  # the host's


class Material(NamedTuple):
    """A base model and the questions about some networks."""

    base: Base
    prompt: str
    code_tokens: int
    groups: list[list[Encoded]]  # a network's questions, both orders of a pair side by side
    training: list[list[Example]]  # the same, with the right answer

    @property
    def pad(self) -> int:
        """The padding token."""
        return int(self.base.tokenizer.pad_token_id)

    @property
    def n_examples(self) -> int:
        """Questions in all."""
        return sum(len(group) for group in self.groups)


class Lengths(NamedTuple):
    """Means over networks, and what sharing can gain at most."""

    networks: int
    questions: float  # k, of a network
    prefix_tokens: float  # P
    own_tokens: float  # s
    once: int  # Σ (P + ks), tokens computed with sharing
    bound: float  # Σ k(P + s) / Σ (P + ks)


def material(
    base: Base, prompt: str, networks: int, code_tokens: int, row_tokens: int | None = None, seed: int = 0
) -> Material:
    """Questions about that many networks of LEMUR's epoch 5, drawn by the seed.

    Raises:
        UserError: when a question does not fit into the base's context or a row.
    """
    data = load_pairs(networks={"train": networks, "validation": 1, "test": 1}, seed=seed)
    pairs: pd.DataFrame = data.part("train")
    encoder = Encoder(
        Renderer(get_template(prompt), base.tokenizer, code_tokens=code_tokens), data.sources, base.context, row_tokens
    )
    questions = questions_of(pairs)
    first = (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()
    groups, training = [], []
    for numbers in group_by_network(pairs["nn"].tolist()):
        encoded = encoder.encode([q for i in numbers for q in (questions[i], questions[i].turned())])
        right = [r for i in numbers for r in (bool(first[i]), not first[i])]
        groups.append(encoded)
        training.append([training_example(e, r) for e, r in zip(encoded, right, strict=True)])
    return Material(base, prompt, code_tokens, groups, training)


def with_questions(found: Material, questions: int, networks: int) -> Material:
    """The first networks with that many questions each; where a network has fewer, they repeat."""

    def filled(group: list[Any]) -> list[Any]:
        return [group[i % len(group)] for i in range(questions)]

    return found._replace(
        groups=[filled(group) for group in found.groups[:networks]],
        training=[filled(group) for group in found.training[:networks]],
    )


def lengths(groups: list[list[Example]]) -> Lengths:
    """Lengths of training examples in tokens, stop tokens left out: they are only predicted."""
    shared = [shared_length([e.prompt for e in group]) if len(group) > 1 else 0 for group in groups]
    whole = [sum(own_length(e, 0) for e in group) for group in groups]
    once = [s + sum(own_length(e, s) for e in group) for s, group in zip(shared, groups, strict=True)]
    k = np.array([len(group) for group in groups])
    own = [(o - s) / n for o, s, n in zip(once, shared, k, strict=True)]
    mean_k, mean_shared, mean_own = (float(np.mean(x)) for x in (k, shared, own))
    return Lengths(len(groups), mean_k, mean_shared, mean_own, sum(once), sum(whole) / sum(once))


def tune_config(found: Material, row_tokens: int, engine: str = "shared", dropout: float = 0.0) -> TuneConfig:
    """Settings of a fine-tuning of one epoch, with checkpoints of activations on CUDA as a run has them."""
    return TuneConfig(
        epochs=1, learning_rate=1e-4, lora_r=RANK, lora_alpha=RANK, lora_dropout=dropout,
        networks_per_epoch=None, pairs_per_network=None, examples_per_step=64, row_tokens=row_tokens, warmup=0.0,
        weight_decay=0.0, max_grad_norm=1.0, gradient_checkpointing=found.base.device.type == "cuda", engine=engine,
        seed=0,
    )  # fmt: skip


def in_fp32(model: Any) -> Any:
    """The model with its adapter's weights in fp32: TRL makes them bf16, which a CPU multiplies very slowly."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model
