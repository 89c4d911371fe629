"""An adapter for one fine-tuning: the base is unchanged afterwards, and the adapter names its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nngpt_ext.models.base import Base, quiet_transformers
from nngpt_ext.tuning.lora import with_adapter
from tests.tuning.test_trainer import LORA, base

__all__ = ["base"]


def test_the_base_is_as_it_was(base: Base) -> None:
    before = dict(vars(base.model))
    with with_adapter(base, LORA) as model, quiet_transformers():
        model.get_base_model().gradient_checkpointing_enable()
        base.model.forward = print
    assert vars(base.model).get("forward") == before.get("forward")
    assert not base.model.is_gradient_checkpointing
    assert not any("lora" in name for name, _ in base.model.named_parameters())
    assert not any(p.requires_grad for p in base.model.parameters())


def test_saving_does_not_look_for_the_base_on_the_hub(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    with with_adapter(replace(base, name="smollm2-135m"), LORA) as model:
        model.save_pretrained(str(tmp_path))
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in (tmp_path / "adapter_config.json").read_text()
