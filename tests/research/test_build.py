"""The builder, on a hundredth of its steps: it is interrupted, goes on, and writes a model that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext.models.base import load_base
from research.embedded.build import SHAPES, STAGES, Builder


@pytest.mark.slow
def test_interrupted_it_goes_on_and_the_model_loads(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    first = Builder(tmp_path, "embedded-small", 0, 0.003, "cpu")
    whole = first._look

    def interrupt(stage: object) -> None:
        first._save()
        raise Interrupted

    first._look = interrupt  # type: ignore[method-assign, assignment]
    with pytest.raises(Interrupted):
        first.run()
    assert whole is not None
    again = Builder(tmp_path, "embedded-small", 0, 0.003, "cpu")
    assert again.state["stage"] == 1
    assert again.state["curve"][0][0] == "read"
    again.run()
    assert [name for name, _ in again.state["skills"]] == [stage.name for stage in STAGES[1:]]
    base = load_base(str(tmp_path), load_in_4bit=True)
    assert base.context == 2048
    assert sum(p.numel() for p in again.model.parameters()) < 400_000
    assert len(json.loads((tmp_path / "corpus.json").read_text())) > 1000
    card = (tmp_path / "README.md").read_text()
    assert "No accuracy of LEMUR was in its training" in card
    assert "| whole |" in card


def test_the_small_size_has_a_quarter_of_the_parameters() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        name: LlamaForCausalLM(LlamaConfig(vocab_size=4096, **shape)).num_parameters() for name, shape in SHAPES.items()
    }
    assert sizes["embedded"] <= 7_000_000
    assert sizes["embedded-small"] == pytest.approx(sizes["embedded"] / 4, rel=0.1)
