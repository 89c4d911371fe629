"""The guard tries the shapes of a run: full rows, and pieces behind a cached prefix."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from nngpt_ext.batches import attention
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import MASKED_TOKENS, QUESTIONS, checked_engine, full_row, gradient_in_row
from nngpt_ext.batches.rows import shared_length, tokens_of
from nngpt_ext.batches.tensors import answer_log_probs
from tests import models_made
from tests.models_made import KINDS


@pytest.fixture
def model(caplog: Any) -> Any:
    found = models_made.base("llama", load_in_4bit=False).model.eval()  # whatever other tests left
    caplog.clear()  # of what loading says
    return found


def length_of(groups: Sequence[Sequence[Example]]) -> int:
    return tokens_of(groups, [[g, *range(len(group))] for g, group in enumerate(groups)])


@pytest.mark.parametrize("row_tokens", [700, 2048, 8192])
def test_a_full_row_is_full_of_other_networks(row_tokens: int, group: list[Example]) -> None:
    groups = full_row(group, row_tokens)
    assert groups[-1] == group[:QUESTIONS]
    own = length_of([group]) - shared_length([one.prompt for one in group])
    assert row_tokens - own < length_of(groups) <= row_tokens
    assert all(2 <= len(other) <= len(group) for other in groups[:-1])
    starts = {bytes(each[0].prompt[:20]) for each in groups}
    assert len(starts) == len(groups) > 1


def test_a_row_that_is_full_with_the_group_has_no_others(group: list[Example]) -> None:
    for row_tokens in (0, length_of([group[:QUESTIONS]])):
        assert full_row(group, row_tokens) == [group[:QUESTIONS]]


@pytest.mark.parametrize("engine", ["shared", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_models_keep_the_engine_in_a_full_row(kind: str, engine: str, group: list[Example], caplog: Any) -> None:
    model = models_made.base(kind, load_in_4bit=False).model.eval()  # whatever other tests left
    caplog.clear()
    assert checked_engine(model, group, 0, engine, 2048, training=True, row_tokens=2048) == engine
    assert caplog.records == []
    assert not model.training
    differences = gradient_in_row(model, full_row(group, 2048), engine, 0)
    assert differences[0] < 1e-5
    assert differences[1] == 0


@pytest.mark.parametrize("engine", ["shared", "masked"])
def test_in_16_bits_nothing_reaches_other_networks(engine: str, group: list[Example]) -> None:
    model = copy.deepcopy(models_made.base("qwen2", load_in_4bit=False).model).bfloat16()
    assert checked_engine(model, group, 0, engine, 2048, training=True, row_tokens=2048) == engine
    assert gradient_in_row(model, full_row(group, 2048), engine, 0)[1] == 0


@pytest.mark.parametrize(("factor", "difference"), [(1.01, r"[\d.]+"), (torch.nan, "nan")])
def test_a_fault_of_long_rows_only_is_found(
    factor: float, difference: str, model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = model.model.forward

    def wrong_if_long(*given: Any, **named: Any) -> Any:
        found = whole(*given, **named)
        if named["input_ids"].shape[1] > 1000:
            found.last_hidden_state = factor * found.last_hidden_state
        return found

    monkeypatch.setattr(model.model, "forward", wrong_if_long)
    assert checked_engine(model, group, 0, "shared", row_tokens=1000) == "shared"
    assert checked_engine(model, group, 0, "shared", row_tokens=2048) == "plain"
    [message] = [record.getMessage() for record in caplog.records if record.name.startswith("nngpt_ext")]
    reason = rf"in a row of [12],\d{{3}} tokens, answers differ by {difference} in log-probability"
    assert re.search(rf"\(shared: {reason}; masked: {reason}\)", message)


@pytest.mark.parametrize(("factor", "difference"), [(0.5, r"[\d.]+"), (torch.nan, "nan")])
def test_a_fault_of_another_network_of_a_long_row_is_found(
    factor: float, difference: str, model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = attention._Parts.forward

    def wrong_at_first(*given: Any) -> Any:
        found = whole(*given)
        if found.shape[2] > 1000:
            found = torch.cat([factor * found[:, :, :200], found[:, :, 200:]], dim=2)
        return found

    monkeypatch.setattr(attention._Parts, "forward", staticmethod(wrong_at_first))
    assert checked_engine(model, group, 0, "shared", row_tokens=2048) == "masked"
    assert re.search(rf"\(shared: in a row of [12],\d{{3}} tokens, answers differ by {difference} in", caplog.text)


@pytest.mark.parametrize(
    ("factors", "why"),
    [
        ((3, 3, 3), r"its gradients differ by [\de.+]+ %"),
        ((1, 0, 0), r"its gradients differ by [\de.+]+ %"),
        ((torch.nan, torch.nan, torch.nan), "its gradients differ by nan %"),
    ],
)
def test_wrong_gradients_of_long_rows_only_are_found(
    factors: tuple[float, ...], why: str, model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = attention._Parts.backward

    def wrong_if_long(ctx: Any, grad: Any) -> Any:
        found = whole(ctx, grad)
        if grad.shape[2] <= 1000:
            return found
        return (*(f * each for f, each in zip(factors, found[:3], strict=True)), None, None)

    monkeypatch.setattr(attention._Parts, "backward", staticmethod(wrong_if_long))
    assert checked_engine(model, group, 0, "shared", training=True, row_tokens=1000) == "shared"
    assert checked_engine(model, group, 0, "shared", row_tokens=2048) == "shared"
    assert checked_engine(model, group, 0, "shared", training=True, row_tokens=2048) == "masked"
    assert re.search(rf"\(shared: in a row of [12],\d{{3}} tokens, {why}\)", caplog.text)
    assert not model.training


def test_a_gradient_that_reaches_other_networks_is_found(
    model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole = attention._Parts.backward

    def reaching(ctx: Any, grad: Any) -> Any:
        """The row's first token, of another network, gets a little of the value's gradient."""
        found = whole(ctx, grad)
        if grad.shape[2] > 1000:
            found[2][:, :, 0] += 1e-4 * found[2].sum(dim=2)
        return found

    monkeypatch.setattr(attention._Parts, "backward", staticmethod(reaching))
    assert checked_engine(model, group, 0, "shared", training=True, row_tokens=2048) == "masked"
    assert re.search(r"tokens, other networks get [\de.-]+ % of a gradient\)", caplog.text)


def test_a_fault_behind_a_cached_prefix_is_found(
    model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    attend_to = attention._prefixes

    def shortened(layout: Any, length: int) -> Any:
        parts = attend_to(layout, length)
        return [(q, slice(0, k.stop - 1), causal) for q, k, causal in parts] if layout.cached else parts

    monkeypatch.setattr(attention, "_prefixes", shortened)
    assert checked_engine(model, group, 0, "shared") == "masked"
    assert re.search(r"\(shared: with a cached prefix, answers differ by [\d.]+ in log-probability\)", caplog.text)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("engine", ["shared", "masked"])
def test_a_full_row_without_memory_is_skipped(
    engine: str, back: bool, model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    whole, lengths = model.model.forward, list[int]()

    def full(*given: Any, **named: Any) -> Any:
        lengths.append(named["input_ids"].shape[1])
        if lengths[-1] > 1000 and torch.is_grad_enabled() == back:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*given, **named)

    monkeypatch.setattr(model.model, "forward", full)
    caplog.clear()
    assert checked_engine(model, group, 0, engine, training=True, row_tokens=2048) == engine
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert sum(length > 1000 for length in lengths) == 1 + back
    assert not model.training


@pytest.mark.parametrize(("engine", "longest"), [("shared", 4096), ("masked", MASKED_TOKENS)])
def test_one_long_row_is_computed_and_behind_a_mask_no_very_long_one(
    engine: str, longest: int, model: Any, group: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = list[int]()
    monkeypatch.setattr(
        "nngpt_ext.batches.plain.answer_log_probs",
        lambda model, batch, *rest: lengths.append(batch.n_tokens) or answer_log_probs(model, batch, *rest),
    )
    assert checked_engine(model, group, 0, engine, row_tokens=4096) == engine
    [length] = [length for length in lengths if length > 1500]
    assert 0.8 * longest < length <= longest
