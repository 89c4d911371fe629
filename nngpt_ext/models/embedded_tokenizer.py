"""The embedded model's tokenizer: byte-level BPE with single digits and short recipe steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nngpt_ext.lemur.facts import FACTS
from nngpt_ext.prompts.recipe import LR_STEPS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
STOP = "<|end|>"
PAD = "<|pad|>"


def whole_words() -> list[str]:
    """Words that are one token each where they stand alone: dataset names and the steps of recipes.

    A decimal such as 0.812 is not touched: `0.8` is a token only where no digit follows, so that
    accuracies are read digit by digit and recipes step by step.
    """
    rates = [f"{step}e{decade}" for decade in range(-6, 1) for step in LR_STEPS]
    tenths = [f"{i / 10:.1f}" for i in range(11)]
    sizes = [str(2**i) for i in range(4, 13)] + ["299"]
    return [*sorted(FACTS), *rates, *tenths, *sizes]


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts; it has `VOCABULARY` tokens at most and any text is encodable."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = [AddedToken(word, single_word=True, normalized=False) for word in whole_words()]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(words),
        special_tokens=[PAD, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_tokens(words)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=STOP, pad_token=PAD)
