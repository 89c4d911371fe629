"""Scoring behind shared prefixes, beside one example a row, lm-evaluation-harness and sampled generation."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.encode import Encoded
from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.bench.material import Material, lengths
from nngpt_ext.bench.measure import Clock, Work
from nngpt_ext.scoring.log_odds import log_odds

GENERATED = 150  # tokens: what the host lets a model write before it reads an answer from it


def scored(
    found: Material, groups: Sequence[Sequence[Encoded]], row_tokens: int, **how: Any
) -> tuple[Work, np.ndarray]:
    """Score questions our way, or one example a row with `engine="plain"`; also gives their log-odds."""
    with Clock() as clock:
        values = log_odds(found.base.model, groups, row_tokens=row_tokens, pad=found.pad, **how)
    plain = how.get("engine") == "plain"
    tokens = sum(len(e.prompt) + len(option) - 1 for group in groups for e in group for option in e.options)
    computed = tokens if plain else lengths([[scoring_example(e) for e in group] for group in groups]).once
    return Work(sum(len(group) for group in groups), computed, clock.seconds), np.concatenate(values)


def harness_installed() -> bool:
    """Whether lm-evaluation-harness is there."""
    return importlib.util.find_spec("lm_eval") is not None


def harness_version() -> dict[str, str]:
    """Its version, where it is there."""
    return {"lm_eval": metadata.version("lm_eval")} if harness_installed() else {}


def harness(found: Material, questions: Sequence[Encoded], batch: int) -> tuple[Work, np.ndarray]:
    """The same as lm-evaluation-harness's `multiple_choice` scores it: a request an option."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.huggingface import HFLM

    judge = HFLM(
        pretrained=found.base.model, tokenizer=found.base.tokenizer, batch_size=batch, max_length=found.base.context
    )
    requests = [
        (("", ""), question.prompt.tolist(), option.tolist()) for question in questions for option in question.options
    ]
    with Clock() as clock:
        answers = judge._loglikelihood_tokens(requests, disable_tqdm=True)
    scores = np.array([score for score, _ in answers]).reshape(-1, 2)
    tokens = sum(len(prompt) + len(option) - 1 for _, prompt, option in requests)
    return Work(len(questions), tokens, clock.seconds), scores[:, 0] - scores[:, 1]


def generated(found: Material, questions: Sequence[Encoded]) -> Work:
    """Sample an answer of 150 tokens to each question, as the host does (temperature 0.8), one at a time."""
    return sampled(found.base.model, questions, found.pad)


def sampled(model: Any, questions: Sequence[Encoded], pad: int) -> Work:
    """As `generated`, with any model."""
    device = next(model.parameters()).device
    with Clock() as clock, torch.inference_mode():
        for question in questions:
            ids = torch.from_numpy(question.prompt).long()[None].to(device)
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.8, min_new_tokens=GENERATED,
                max_new_tokens=GENERATED, pad_token_id=pad,
            )  # fmt: skip
    tokens = sum(len(question.prompt) + GENERATED for question in questions)
    return Work(len(questions), tokens, clock.seconds)
