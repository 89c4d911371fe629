"""How a GGUF file's tokenizer splits text before it looks for tokens, by the name that llama.cpp gave it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_AS_GPT2 = ("default", "gpt-2")
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {"llama-bpe": rf"{_WORDS}\p{{N}}{{1,3}}{_REST}", "qwen2": rf"{_WORDS}\p{{N}}{_REST}"}


def set_splits(tokenizer: Tokenizer, name: str, file: str) -> None:
    """Make a byte-level tokenizer split as the model's own does, where transformers left it at GPT-2's splits.

    Args:
        tokenizer: as transformers made it; if its splits are other than GPT-2's, they stay.
        name: the file's `tokenizer.ggml.pre`.
        file: which file it is, for the warning about a name that is not known.
    """
    from tokenizers import Regex, pre_tokenizers

    now: Any = tokenizer.pre_tokenizer
    if not (isinstance(now, pre_tokenizers.ByteLevel) and now.use_regex) or name in _AS_GPT2:
        return
    if name in _SINGLE_DIGITS:
        first: Any = pre_tokenizers.Digits(individual_digits=True)
    elif name in _PATTERNS:
        first = pre_tokenizers.Split(Regex(_PATTERNS[name]), behavior="isolated")
    else:
        log.warning(
            "'%s' says that its tokenizer splits text as '%s' does, which is not known here: it is split as GPT-2 does,"
            " and tokens may differ from the model's own", file, name
        )  # fmt: skip
        return
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in _SINGLE_DIGITS)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, bytes_])
