"""The embedded model's tokenizer: byte-level BPE with single digits and short recipe steps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.trials import RECIPE
from nngpt_ext.prompts.recipe import LR_STEPS
from nngpt_ext.prompts.scales import EARLY, SCALES, UNKNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
FURTHER_VOCABULARY = 4352  # of `embedded-2`
STOP = "<|end|>"
PAD = "<|pad|>"
BLANK = "Ġ"  # a blank as byte-level BPE writes it
_RECIPE_WORDS = (*RECIPE, "none", "norm", "echo", "flip", "or")


def whole_words() -> list[str]:
    """Words that are one token each where they stand alone: dataset names and the steps of recipes.

    A decimal such as 0.812 is not touched: `0.8` is a token only where no digit follows, so that
    accuracies are read digit by digit and recipes step by step.
    """
    rates = [f"{step}e{decade}" for decade in range(-6, 1) for step in LR_STEPS]
    tenths = [f"{i / 10:.1f}" for i in range(11)]
    sizes = [str(2**i) for i in range(4, 13)] + ["299"]
    return [*sorted(LEMUR_FACTS), *rates, *tenths, *sizes]


def further_words() -> list[str]:
    """What `embedded-2` has as single tokens too: hundredths, and the words of lines."""
    return [*(f"{i / 100:.2f}" for i in range(101)), *(scale.name for scale in SCALES), UNKNOWN, EARLY, "pace"]


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _whole_pattern(further: bool = False) -> str:
    """A whole word where it stands alone. A dataset's name has one token, with a blank before it or not: to
    answer is to copy it."""
    before, behind = r"(?<![\w.\-])", r"(?![\w\-]|\.[0-9])"
    name = f"(?:{_either(LEMUR_FACTS)}){behind}"
    words = [*whole_words(), *(further_words() if further else ())]
    step = f"(?:{_either(word for word in words if word not in LEMUR_FACTS)}){behind}"
    return f" (?={name})|{before}{name}| ?{before}{step}"


def _pattern(further: bool = False) -> str:
    """Where texts are split before BPE: a blank belongs to what follows it, as it does in GPT-2."""
    return rf"{_whole_pattern(further)}| ?[0-9]| ?[^\W\d_]+| ?_+| ?[^\s\w]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts; it has `VOCABULARY` tokens at most and any text is encodable."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    words = [prefix + word for word in (*whole_words(), *_RECIPE_WORDS) for prefix in ("", BLANK)]
    words = [word for word in words if word.removeprefix(BLANK) not in LEMUR_FACTS or word in LEMUR_FACTS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(words),
        special_tokens=[PAD, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Whole words are left out here, or BPE would make tokens of their parts.
    core.train_from_iterator((re.sub(_whole_pattern(), "", text) for text in texts), trainer)
    # A piece of text that is in the vocabulary is taken whole (ignore_merges), so these need no merges,
    # and none of their parts becomes a token.
    whole = json.loads(core.to_str())
    vocabulary = whole["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)), eos_token=STOP, pad_token=PAD
    )


def extended_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder with `further_words` behind its tokens, whose ids stay as they are."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (split,) = [part for part in whole["pre_tokenizer"]["pretokenizers"] if part["type"] == "Split"]
    split["pattern"] = {"Regex": _pattern(further=True)}
    vocabulary = whole["model"]["vocab"]
    for word in further_words():
        for token in (word, BLANK + word):
            vocabulary.setdefault(token, len(vocabulary))
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)), eos_token=STOP, pad_token=PAD
    )
