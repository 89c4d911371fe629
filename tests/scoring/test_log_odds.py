"""Log-odds are what DESIGN.md defines, whatever the engine and however rows are cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from nngpt_ext.batches import tensors
from nngpt_ext.batches.attention import install
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import ENGINES
from nngpt_ext.batches.rows import own_length, shared_length
from nngpt_ext.batches.tensors import answer_log_probs
from nngpt_ext.models.base import Base
from nngpt_ext.scoring.log_odds import PLAIN_BATCH, log_odds
from tests import models_made
from tests.batches.asked import encoder, questions
from tests.models_made import KINDS

TOLERANCE = 1e-4


def groups_of(base: Base, prompt: str = "recipe") -> list[list[Example]]:
    """Groups of unequal size, one of them of a single question."""
    asked = encoder(base, prompt)
    return [
        asked.encode(questions("AlexNet", 3)),
        asked.encode(questions("VGG", 1)[:1]),
        asked.encode(questions("ResNet", 2)),
    ]


def score(base: Base, groups: Sequence[Sequence[Example]], **changes: object) -> list[np.ndarray]:
    given = {"row_tokens": 1024, "pad": base.tokenizer.pad_token_id, **changes}
    install(base.model)
    return log_odds(base.model, groups, **given)  # type: ignore[arg-type]


@torch.inference_mode()
def by_definition(base: Base, one: Example) -> float:
    """log p(option 1 and its stop token) − log p(option 2 and its stop token), sums over tokens."""

    def log_p(option: np.ndarray) -> float:
        total = 0.0
        ids = one.prompt.tolist()
        for token in option.tolist():
            logits = base.model(torch.tensor([ids], device=base.device)).logits[0, -1]
            total += torch.log_softmax(logits.float(), dim=-1)[token].item()
            ids.append(token)
        assert token == base.tokenizer.eos_token_id
        return total

    return log_p(one.answers[0]) - log_p(one.answers[1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("bits", "pieces"), [(False, False), (True, False), (False, True)])
def test_the_definition(engine: str, bits: bool, pieces: bool) -> None:
    base = models_made.base("llama", load_in_4bit=bits, pieces=pieces)
    groups = groups_of(base)
    found = score(base, groups, engine=engine)
    assert [len(values) for values in found] == [6, 1, 4]
    expected = [np.array([by_definition(base, one) for one in group]) for group in groups]
    for values, right in zip(found, expected, strict=True):
        assert values.dtype == np.float64
        assert np.abs(values - right).max() <= TOLERANCE
    assert np.concatenate(expected).std() > 0.1


def test_no_length_normalisation() -> None:
    base = models_made.base("llama", pieces=True)
    group = encoder(base).encode(questions("AlexNet"))
    unequal = [one for one in group if abs(len(one.answers[0]) - len(one.answers[1])) >= 3]
    assert unequal
    # Weights drawn at random know nothing: three tokens more cost about 3 log(vocabulary).
    for one, value in zip(unequal, score(base, [unequal])[0], strict=True):
        assert np.sign(value) == np.sign(len(one.answers[1]) - len(one.answers[0]))


@pytest.mark.parametrize("engine", ["shared", "masked"])
@pytest.mark.parametrize("row_tokens", [64, 200, 333, 100_000])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_matter(kind: str, row_tokens: int, engine: str) -> None:
    base = models_made.base(kind)
    groups = groups_of(base, "code_only")
    expected = score(base, groups, engine="plain")
    for values, right in zip(score(base, groups, row_tokens=row_tokens, engine=engine), expected, strict=True):
        assert np.abs(values - right).max() <= TOLERANCE


def test_a_large_group_is_scored_behind_its_prefix_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base = models_made.base("llama")
    group = encoder(base).encode(questions("AlexNet"))
    shared = shared_length([one.prompt for one in group])
    lengths: list[int] = []
    whole = type(base.model).forward

    def counted(self: Any, input_ids: Any = None, **rest: Any) -> Any:
        lengths.append(input_ids.shape[1])
        return whole(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(base.model), "forward", counted)
    found = score(base, [group], row_tokens=400)[0]
    monkeypatch.undo()
    own = sum(own_length(one, shared) for one in group)
    assert len(lengths) > 3
    assert lengths[0] == shared
    assert sum(lengths) == shared + own
    assert max(lengths[1:]) <= 400
    assert np.abs(found - score(base, [group], row_tokens=10**6)[0]).max() <= TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_same_again(engine: str) -> None:
    base = models_made.base("llama")
    groups = groups_of(base)
    for one, two in pairwise([score(base, groups, engine=engine) for _ in range(3)]):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_progress_counts_every_question(engine: str) -> None:
    base = models_made.base("llama")
    told: list[int] = []
    score(base, groups_of(base), engine=engine, row_tokens=200, advance=told.append)
    assert sum(told) == 11
    assert len(told) > 1
    assert engine != "plain" or max(told) <= PLAIN_BATCH // 2


def test_nothing_to_score() -> None:
    assert score(models_made.base("llama"), []) == []


def test_the_model_is_as_before() -> None:
    base = models_made.base("llama")
    score(base, groups_of(base))
    assert not base.model.training
    assert all(p.grad is None for p in base.model.parameters())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row_tokens", [300, 100_000])
def test_what_does_not_fit_into_memory_is_halved(engine: str, row_tokens: int, monkeypatch: Any, caplog: Any) -> None:
    base = models_made.base("llama")
    groups = groups_of(base)
    expected = score(base, groups, engine=engine, row_tokens=row_tokens)

    def short(model: Any, batch: Any, cache: Any = None) -> torch.Tensor:
        if batch.n_answers > 2:
            raise torch.OutOfMemoryError
        return answer_log_probs(model, batch, cache)

    monkeypatch.setattr(tensors, "answer_log_probs", short)
    found = score(base, groups, engine=engine, row_tokens=row_tokens)
    for values, right in zip(found, expected, strict=True):
        assert np.abs(values - right).max() <= TOLERANCE
    assert all(message.startswith("out of memory: scoring in halves") for message in caplog.messages)
    assert caplog.messages


def test_a_question_that_does_not_fit_alone_is_a_fault(monkeypatch: Any) -> None:
    def never(model: Any, batch: Any, cache: Any = None) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(tensors, "answer_log_probs", never)
    base = models_made.base("llama")
    with pytest.raises(torch.OutOfMemoryError):
        score(base, groups_of(base))
