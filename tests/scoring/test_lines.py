"""Scores of lines: what transformers' own class computes, antisymmetric to the bit, whatever the engine and rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForSequenceClassification

from nngpt_ext.batches.attention import install
from nngpt_ext.batches.engine import ENGINES, checked_engine
from nngpt_ext.config import ResolvedLora
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import Base
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.scoring.lines import Prior, encode_lines, line_log_odds, line_pairs, read_prior
from nngpt_ext.scoring.log_odds import scores
from nngpt_ext.scoring.scorer import Budget, LocalScorer
from nngpt_ext.tuning.lora import with_adapter
from tests import models_made
from tests.batches.asked import encoder, questions

ASKED = [*questions("AlexNet")[::2], *questions("VGG", 2)[::2], *questions("ResNet", 3)[::2]]
PRIOR = Prior(log_odds={"celeba-gender": {"cifar-10": 1.25, "cifar-100": -0.5}})
ROUNDING = 1e-5  # of scores up to 5 in fp32; measured: up to 4.3e-6


def headed(base: Base) -> Iterator[Any]:
    """The base with random LoRA weights and a random head."""
    torch.manual_seed(0)
    with with_adapter(base, ResolvedLora(r=4, alpha=8, dropout=0.0), "lines") as model:
        for name, parameter in model.named_parameters():
            if "lora_B" in name or ".score." in name:
                torch.nn.init.normal_(parameter, std=0.2)
        yield model.eval()


@pytest.fixture(params=["llama", "qwen2", "gpt_neox"])
def base(request: pytest.FixtureRequest) -> Base:
    return models_made.base(request.param)


@pytest.fixture
def model(base: Base) -> Iterator[Any]:
    yield from headed(base)


def odds(base: Base, model: Any, asked: list[Question], prior: Prior | None = None, **changes: Any) -> np.ndarray:
    encoded = encode_lines(encoder(base, lines=True), asked, prior)
    engine = changes.get("engine", "shared")
    if engine == "shared":
        install(base.model)
    return line_log_odds(model, encoded, **{"row_tokens": 1024, **changes})


def scorer(base: Base, model: Any, engine: str = "shared", prior: Prior | None = None) -> LocalScorer:
    template = get_template("recipe").lines
    assert template is not None
    return LocalScorer(base, template, Budget(60, True, 1024, engine), LEMUR_FACTS, model, prior)


def test_each_line_is_there_once_and_behind_one_prefix(base: Base) -> None:
    encoded = encode_lines(encoder(base, lines=True), ASKED)
    assert [len(lines) for lines in encoded.groups] == [7, 3, 4]  # 21, 2 and 3 pairs
    assert [sides.shape for sides in encoded.sides] == [(21, 2), (2, 2), (3, 2)]
    texts = [base.tokenizer.decode(line.prompt) for line in encoded.groups[0]]
    assert texts == sorted(texts)
    head = texts[0].rsplit("\n", 2)[0]
    assert all(text.startswith(f"{head}\n") for text in texts)
    assert head.startswith("You rate how well one neural network does on an image-classification dataset.\n\n")
    assert head.endswith("\nHow high is the relative accuracy?")
    line = "celeba-gender: lr 4e-1 batch 2 momentum 0.1 dropout none transform norm 32"
    assert texts[0].rsplit("\n", 2)[1:] == [line, ""]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row_tokens", [200, 1024])  # behind cached keys, and in one row
def test_engines_give_the_same_scores_as_transformers_own_class(
    base: Base, model: Any, engine: str, row_tokens: int
) -> None:
    encoded = encode_lines(encoder(base, lines=True), ASKED)
    if engine == "shared":
        install(base.model)
    found = scores(model, encoded.groups, row_tokens=row_tokens, pad=encoded.pad, engine=engine, head="lines")
    own = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=1, dtype=torch.float32).eval()
    states = own.base_model.state_dict()
    # The same LoRA weights, added to the weights of transformers' class.
    with torch.inference_mode():
        for name, module in model.base_model.model.base_model.named_modules():
            if hasattr(module, "get_delta_weight"):
                states[f"{name}.weight"] += module.get_delta_weight("default")
        own.score.weight.copy_(model.base_model.model.score.weight)
        for lines, values in zip(encoded.groups, found, strict=True):
            assert values.shape == (len(lines), 1)
            for line, value in zip(lines, values[:, 0], strict=True):
                expected = own(input_ids=torch.from_numpy(line.prompt).long()[None]).logits.item()
                assert value == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("engine", ["shared", "masked"])
def test_shared_prefixes_differ_by_rounding_only(base: Base, model: Any, engine: str) -> None:
    plain = odds(base, model, ASKED, engine="plain")
    assert np.abs(odds(base, model, ASKED, engine=engine) - plain).max() <= ROUNDING
    assert np.abs(plain).min() > 1e-3
    # What is left in fp32 is rounding: in fp64 it is gone.
    base.model.double()
    try:
        exact = odds(base, model, ASKED, engine="plain")
        assert np.abs(odds(base, model, ASKED, engine=engine) - exact).max() <= 1e-12
        assert np.abs(exact - plain).max() <= 1e-3
    finally:
        base.model.float()


def test_the_guard_takes_lines(base: Base) -> None:
    lines = encode_lines(encoder(base, lines=True), ASKED).groups[0]
    for engine in ENGINES:
        assert checked_engine(base.model, lines, 0, engine) == engine


@pytest.mark.parametrize("prior", [None, PRIOR])
def test_the_order_of_the_datasets_changes_the_sign_and_nothing_else(base: Base, model: Any, prior: Any) -> None:
    made = scorer(base, model, prior=prior)
    for one in ASKED[:3]:
        straight = made.log_odds([one], models_made.sources())
        turned = made.log_odds([one.turned()], models_made.sources())
        assert np.array_equal(turned, -straight)
        assert straight[0, 0] == straight[0, 1]
    both = made.log_odds([*ASKED, *(one.turned() for one in ASKED)], models_made.sources())
    assert np.array_equal(both[: len(ASKED)], -both[len(ASKED) :])


def test_log_odds_of_three_datasets_add_up(base: Base, model: Any) -> None:
    found = odds(base, model, ASKED[:21])[:, 0]
    names = sorted(LEMUR_FACTS)
    by_pair = dict(zip(combinations(names, 2), found, strict=True))
    for a, b, c in combinations(names, 3):
        assert by_pair[a, b] + by_pair[b, c] == pytest.approx(by_pair[a, c], abs=1e-12)


def test_a_head_of_zeros_says_what_the_prior_says(base: Base) -> None:
    with with_adapter(base, ResolvedLora(r=4, alpha=8, dropout=0.0), "lines") as model:
        found = odds(base, model.eval(), ASKED[:3], PRIOR)
        assert np.array_equal(found, [[1.25, 1.25], [-0.5, -0.5], [0.0, 0.0]])
        turned = odds(base, model, [ASKED[0].turned()], PRIOR)
        assert np.array_equal(turned, [[-1.25, -1.25]])


def test_pairs_to_train_on_have_the_better_line_first(base: Base) -> None:
    encoded = encode_lines(encoder(base, lines=True), ASKED, PRIOR)
    right = np.arange(len(ASKED)) % 2 == 0
    groups = line_pairs(encoded, right)
    assert [len(group) for group in groups] == [21, 2, 3]
    lines = [base.tokenizer.decode(pair.better.prompt).rsplit("\n", 2)[1].split(":")[0] for pair in groups[0]]
    assert lines == [q.dataset_1 if r else q.dataset_2 for q, r in zip(ASKED, right[:21], strict=False)]
    assert [pair.offset for pair in groups[0][:3]] == [1.25, 0.5, 0.0]
    assert groups[0][0].better is encoded.groups[0][0]  # not a copy: a row contains each line once


def test_a_prior_is_read_as_it_was_written(tmp_path: Any) -> None:
    PRIOR.save(tmp_path)
    assert read_prior(tmp_path) == PRIOR
    assert read_prior(tmp_path).hash == PRIOR.hash != Prior(log_odds={}).hash
    (tmp_path / "prior.json").write_text('{"log_odds": {"a": {"b": NaN}}}')
    with pytest.raises(UserError, match=r"prior\.json' is damaged"):
        read_prior(tmp_path)
    with pytest.raises(ValidationError):
        Prior(log_odds={"a": {"b": float("inf")}})
    (tmp_path / "prior.json").unlink()
    with pytest.raises(UserError, match=r"it has no prior\.json"):
        read_prior(tmp_path)
