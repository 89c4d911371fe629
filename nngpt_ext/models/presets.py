"""Base models by name, with the settings that suit each."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class Preset(NamedTuple):
    """A base model: where it is, and what to use where the configuration says nothing."""

    location: str  # hub id, or a folder
    code_tokens: int  # tokens of source that a prompt shows
    learning_rate: float
    epochs: int


EMBEDDED = Path(str(files("nngpt_ext.models").joinpath("embedded")))

PRESETS: dict[str, Preset] = {
    # 512 tokens hold the whole compacted source of half of the networks; a small model learns fast.
    "embedded": Preset(str(EMBEDDED), code_tokens=512, learning_rate=1e-3, epochs=3),
    # The paper trains 15 epochs; 1e-4 is the host's rate for LoRA.
    "deepseek-coder-1.3b": Preset("deepseek-ai/deepseek-coder-1.3b-instruct", 1500, 1e-4, 15),
    "deepseek-coder-7b": Preset("deepseek-ai/deepseek-coder-7b-instruct-v1.5", 1500, 1e-4, 15),
}
# For any other base: nothing is known of it, so the host's settings.
OTHER = Preset("", 1500, 1e-4, 15)


def preset(base: str) -> Preset:
    """The preset of that name, or one for a hub id or folder."""
    return PRESETS.get(base) or OTHER._replace(location=base)
