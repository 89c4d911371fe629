"""A check that a base model's tokenizer preserves text."""

from __future__ import annotations

import unicodedata
from importlib import metadata
from typing import TYPE_CHECKING

from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.prompts.chat import SAMPLE, takes_system

_UPDATE = "install 'transformers>=5.22'"

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_text(tokenizer: PreTrainedTokenizerBase, base: str) -> None:
    """Check that a piece of code survives tokenising and decoding, and that the chat template, if any, shows it.

    transformers 5.0 to 5.21 replace the pre-tokenizer of a byte-level tokenizer that a local folder labels
    `LlamaTokenizerFast`, as DeepSeek-Coder's does: all white space is lost, and training continues without an error.
    A space added before or after the text (sentencepiece) and the composition of accents do not count as loss.

    Raises:
        UserError: if some of the text is lost.
    """
    ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    if unicodedata.normalize("NFC", back).strip(" ") != SAMPLE:
        raise UserError(
            f"the tokenizer of '{base}' loses text: {SAMPLE!r} comes back as {back[:200]!r} "
            f"(transformers {metadata.version('transformers')}); some tokenizers need a later version: "
            f"{pip(_UPDATE)}, or use another base model"
        )
    if tokenizer.chat_template:
        takes_system(tokenizer)
