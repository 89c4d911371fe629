"""Shared prefixes give the log-probabilities and gradients of one example at a time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from nngpt_ext.batches.attention import install
from nngpt_ext.batches.encode import Example, training_example
from nngpt_ext.batches.engine import ENGINES
from nngpt_ext.batches.rows import build_row
from nngpt_ext.batches.tensors import (
    answer_log_probs,
    make_batch,
    mask_dtype,
    masked_batch,
    plain_batch,
    takes_positions,
)
from nngpt_ext.models.base import Base
from tests import models_made
from tests.models_made import KINDS

from .asked import encoded

TOLERANCE = 1e-4


def computed(engine: str, base: Base, groups: Sequence[Sequence[Example]], model: Any = None) -> torch.Tensor:
    model = model or base.model
    if engine == "shared":
        install(getattr(model, "inner", model))
    batch = make_batch(groups, engine, mask_dtype(model), base.tokenizer.pad_token_id)
    return answer_log_probs(model, batch.to(base.device))


def by_hand(base: Base, groups: Sequence[Sequence[Example]]) -> torch.Tensor:
    """One answer a pass, no mask, no positions, no padding."""
    sums = []
    for example in (example for group in groups for example in group):
        for answer in example.answers:
            ids = torch.tensor([[*example.prompt, *answer]], device=base.device)
            scores = torch.log_softmax(base.model(ids).logits[0].float(), dim=-1)
            n = len(example.prompt)
            sums.append(sum(scores[n - 1 + k, token] for k, token in enumerate(answer.tolist())))
    return torch.stack(sums)


def scoring(base: Base, nn: str = "AlexNet", pairs: int = 3, prompt: str = "recipe") -> list[Example]:
    return encoded(base, nn, pairs, prompt)


def check(base: Base, groups: Sequence[Sequence[Example]]) -> None:
    with torch.inference_mode():
        expected = by_hand(base, groups)
        for engine in ENGINES:
            assert (computed(engine, base, groups) - expected).abs().max() <= TOLERANCE
        # Answers differ between the questions far more than the tolerance, or the comparison says nothing.
        assert len(expected) < 3 or expected.std() > 100 * TOLERANCE


@pytest.mark.parametrize(("kind", "bits"), [*((kind, False) for kind in KINDS), ("llama", True)])
def test_all_ways_are_one_example_at_a_time(kind: str, bits: bool) -> None:
    base = models_made.base(kind, load_in_4bit=bits)
    check(base, [scoring(base, "AlexNet"), scoring(base, "VGG", 2)])


@pytest.mark.parametrize("prompt", ["code_only", "metadata_only"])
def test_other_prompts(prompt: str) -> None:
    base = models_made.base("llama")
    check(base, [scoring(base, prompt=prompt)])


def test_options_of_different_lengths() -> None:
    base = models_made.base("llama", pieces=True)
    examples = scoring(base, pairs=6)
    assert len({len(answer) for example in examples for answer in example.answers}) > 2
    check(base, [examples])


def test_groups_of_one_and_identical_prompts() -> None:
    base = models_made.base("llama")
    examples = scoring(base)
    check(base, [examples[:1]])
    check(base, [[example] for example in examples])
    check(base, [[examples[0]] * 3, [examples[1]]])


def test_a_prompt_that_begins_another() -> None:
    base = models_made.base("llama")
    long = scoring(base)[0]
    check(base, [[long, Example(long.prompt[:-7], long.answers), Example(long.prompt[:3], long.answers)]])


def gradient(base: Base, engine: str, groups: Sequence[Sequence[Example]]) -> torch.Tensor:
    model = copy.deepcopy(base.model).requires_grad_(True)
    (-computed(engine, base, groups, model).sum()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("engine", ["shared", "masked"])
@pytest.mark.parametrize("answers", ["training", "scoring"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_equal(kind: str, answers: str, engine: str) -> None:
    base = models_made.base(kind)
    chosen = [encoded(base, "AlexNet"), encoded(base, "VGG", 2)]
    if answers == "training":
        groups = [[training_example(one, i % 2 == 0) for i, one in enumerate(group)] for group in chosen]
    else:
        groups = chosen
    one, other = gradient(base, engine, groups), gradient(base, "plain", groups)
    assert ((one - other).norm() / other.norm()).item() <= 1e-5


def test_shared_rows_are_shorter() -> None:
    base = models_made.base("llama")
    examples = scoring(base, pairs=6)
    row = make_batch([examples], "shared", torch.float32, 0)
    one_by_one = plain_batch(examples, 0)
    assert row.n_answers == one_by_one.n_answers == 24
    assert row.n_tokens * 5 < one_by_one.n_tokens
    assert one_by_one.n_tokens == sum(len(e.prompt) + len(a) - 1 for e in examples for a in e.answers)


def test_the_mask_is_additive_and_finite() -> None:
    base = models_made.base("llama")
    row = build_row([scoring(base)])
    for dtype in (torch.float32, torch.bfloat16):
        mask = masked_batch(row, dtype).inputs["attention_mask"]
        assert mask.shape == (1, 1, len(row.ids), len(row.ids))
        assert mask.dtype == dtype
        assert torch.isfinite(mask).all()
        assert np.array_equal((mask[0, 0] == 0).numpy(), row.visible())
        assert (mask[0, 0][torch.from_numpy(~row.visible())] == torch.finfo(dtype).min).all()


def test_what_pads_a_plain_batch_does_not_matter() -> None:
    base = models_made.base("llama")
    examples = [*scoring(base, "AlexNet", 1), *scoring(base, "VGG", 2, "metadata_only")]
    assert len({len(example.prompt) for example in examples}) > 1
    with torch.inference_mode():
        scores = [answer_log_probs(base.model, plain_batch(examples, pad).to(base.device)) for pad in (0, 5)]
    assert torch.equal(*scores)


class WholeLogits(torch.nn.Module):
    """A model that cannot be asked for the logits of chosen positions, as older architectures."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, use_cache: bool) -> Any:
        return self.inner(input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache)


def test_models_that_compute_all_logits() -> None:
    base = models_made.base("llama")
    whole = WholeLogits(base.model)
    assert takes_positions(base.model)
    assert not takes_positions(whole)
    groups = [scoring(base)]
    with torch.inference_mode():
        for engine in ("masked", "plain"):
            assert (computed(engine, base, groups, whole) - computed(engine, base, groups)).abs().max() <= TOLERANCE


def test_a_layout_is_never_ignored() -> None:
    base = models_made.base("llama")
    fresh = copy.deepcopy(base.model)
    fresh.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="does not attend in parts"):
        answer_log_probs(fresh, make_batch([scoring(base)], "shared", torch.float32, 0))


def test_an_adapter_is_looked_through() -> None:
    from peft import LoraConfig, get_peft_model

    base = models_made.base("llama")
    wrapped = get_peft_model(copy.deepcopy(base.model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert takes_positions(wrapped)
    assert mask_dtype(wrapped) == torch.float32


def test_a_quantised_models_mask_has_the_type_it_computes_in() -> None:
    assert mask_dtype(models_made.base("llama", load_in_4bit=True).model) == torch.float32
