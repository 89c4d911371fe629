"""Presets name base models; anything else is a hub id or a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext.models.presets import EMBEDDED, EMBEDDED_2, EMBEDDED_SMALL, PRESETS, preset


def test_the_presets() -> None:
    assert list(PRESETS) == [
        "embedded", "embedded-small", "embedded-2", "smollm2-135m", "deepseek-coder-1.3b", "deepseek-coder-7b",
    ]  # fmt: skip
    assert preset("smollm2-135m").location == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert preset("deepseek-coder-1.3b").location == "deepseek-ai/deepseek-coder-1.3b-instruct"
    assert preset("deepseek-coder-7b").location == "deepseek-ai/deepseek-coder-7b-instruct-v1.5"


def test_embedded_ones_lie_in_the_package() -> None:
    assert Path(preset("embedded").location) == EMBEDDED
    assert Path(preset("embedded-small").location) == EMBEDDED_SMALL
    assert Path(preset("embedded-2").location) == EMBEDDED_2
    assert EMBEDDED.parts[-3:] == ("nngpt_ext", "models", "embedded")


@pytest.mark.parametrize("base", ["someone/some-model", "/data/models/mine", "embedded2"])
def test_any_other_name_is_a_location(base: str) -> None:
    found = preset(base)
    assert found.location == base
    assert found.code_tokens > 0
    assert found.learning_rate == preset("deepseek-coder-7b").learning_rate


@pytest.mark.parametrize(
    ("folder", "limit"), [(EMBEDDED, 3_100_000), (EMBEDDED_SMALL, 1_000_000), (EMBEDDED_2, 3_200_000)]
)
def test_embedded_ones_are_small_safetensors_only(folder: Path, limit: int) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= limit
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".jinja"}
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (folder / "README.md").read_text().startswith("---\nlicense: mit\n")
