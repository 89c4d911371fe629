"""A scoring head is added to a base model for an adapter, and taken away with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nngpt_ext.batches.tensors import line_scores, plain_batch
from nngpt_ext.config import ResolvedLora
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import adapted, load_base
from nngpt_ext.models.heads import add_head, has_head, remove_head
from nngpt_ext.tuning.lora import with_adapter
from tests import models_made
from tests.batches.asked import encoded

LORA = ResolvedLora(r=4, alpha=8, dropout=0.0)


@pytest.mark.parametrize("kind", models_made.KINDS)
@pytest.mark.parametrize("bits", [False, True])
def test_an_adapter_with_a_head_leaves_the_base_as_it_was(kind: str, bits: bool, tmp_path: Path) -> None:
    base = models_made.base(kind, load_in_4bit=bits)
    before = [name for name, _ in base.model.named_modules()]
    with with_adapter(base, LORA, "lines") as model:
        trained = {name for name, p in model.named_parameters() if p.requires_grad and "lora" not in name}
        assert trained == {"base_model.model.score.modules_to_save.default.weight"}
        assert "score" not in model.peft_config["default"].target_modules
        weight = model.get_parameter(trained.pop())
        assert (weight.shape, weight.dtype, float(weight.abs().max())) == ((1, 64), torch.float32, 0.0)
        torch.nn.init.normal_(weight)
        expected = weight.detach().clone()
        model.save_pretrained(tmp_path)
    assert [name for name, _ in base.model.named_modules()] == before
    assert has_head(tmp_path)
    with adapted(base, tmp_path) as model:
        assert torch.equal(model.base_model.model.score.weight, expected)
    assert [name for name, _ in base.model.named_modules()] == before


@pytest.mark.parametrize(
    ("name", "changes", "width"),
    [
        ("OPT", {"word_embed_proj_dim": 32, "do_layer_norm_before": False}, 32),  # it projects before
        ("RoFormer", {"embedding_size": 32}, 64),  # behind
        ("Llama4", {}, 64),
    ],
)
def test_a_head_is_as_wide_as_the_last_hidden_state(name: str, changes: Any, width: int, tmp_path: Path) -> None:
    base = load_base(str(models_made.architecture(name, tmp_path, **changes)), load_in_4bit=False)
    batch = plain_batch(encoded(models_made.base("llama")), 0)
    with with_adapter(base, LORA, "lines") as model, torch.no_grad():
        assert model.base_model.model.score.weight.shape == (1, width)
        scores = line_scores(model, batch)
        assert len(scores) == len(batch.targets)
        assert not scores.any()


def test_an_adapter_for_answers_has_none(tmp_path: Path) -> None:
    base = models_made.base("llama")
    with with_adapter(base, LORA) as model:
        model.save_pretrained(tmp_path)
    assert not has_head(tmp_path)
    with adapted(base, tmp_path) as model:
        assert not hasattr(base.model, "score")


def test_a_head_may_be_removed_twice() -> None:
    model = models_made.base("llama").model
    add_head(model)
    remove_head(model)
    remove_head(model)
    assert not hasattr(model, "score")


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no adapter_config\.json"):
        has_head(tmp_path)
