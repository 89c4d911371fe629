"""Checks of a base model's tokenizer: its tokens have embeddings, and it preserves text."""

from __future__ import annotations

import unicodedata
from importlib import metadata
from typing import TYPE_CHECKING

from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.prompts.chat import SAMPLE, chat_text, takes_system

_UPDATE = "install 'transformers>=5.22'"
_RENDERINGS = 10  # a template that draws one of two words writes the same twice in half of the cases

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, embeddings: int, base: str) -> None:
    """Check that a tokenizer can end an answer and cut a source, and that the model knows its tokens.

    A padding token that is missing or has no embedding is replaced by the stop token. Other special tokens may lack an
    embedding, as some of images do: they are never parsed in a text.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of '{base}' has no stop token (eos_token); the task cannot end an answer")
    if not str(tokenizer.eos_token).strip():
        raise UserError(
            f"the stop token of '{base}' is white space ({tokenizer.eos_token!r}), which all sources contain; "
            "use another base model"
        )
    if not tokenizer.is_fast:
        raise UserError(f"the tokenizer of '{base}' is not a fast one, so sources cannot be cut by tokens")
    idle = {*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)}
    idle -= {tokenizer.eos_token_id, tokenizer.bos_token_id}
    unknown = [token for token, i in tokenizer.get_vocab().items() if i >= embeddings and i not in idle]
    if unknown:
        raise UserError(
            f"the tokenizer of '{base}' has {len(unknown):,} tokens without an embedding, such as {min(unknown)!r} "
            f"(the model has {embeddings:,}): it belongs to another model; fetch both again, or use another base model"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= embeddings:
        tokenizer.pad_token = tokenizer.eos_token


def check_text(tokenizer: PreTrainedTokenizerBase, base: str) -> None:
    """Check that a piece of code survives tokenising and decoding, and that the chat template, if any, shows it.

    transformers 5.0 to 5.21 replace the pre-tokenizer of a byte-level tokenizer that a local folder labels
    `LlamaTokenizerFast`, as DeepSeek-Coder's does: all white space is lost, and training continues without an error.
    A space added before or after the text (sentencepiece) and the composition of accents do not count as loss.

    Raises:
        UserError: if some of the text is lost, or the template draws at random.
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
        apart = takes_system(tokenizer)
        if len({chat_text(tokenizer, "system", "user", apart=apart) for _ in range(_RENDERINGS)}) > 1:
            raise UserError(
                f"the chat template of '{base}' renders the same question differently each time, so the model would "
                "be asked another question in scoring; correct its chat template, or use another base model"
            )
