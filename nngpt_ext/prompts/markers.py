"""The plain text by which a chat template says who speaks: `[/INST]`, `### Response:`.

Some tokenizers know their markers as tokens of their own; others write them as ordinary text, which a source
can hold too. What a template writes around the messages is found by rendering it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import jinja2

from nngpt_ext.prompts.chat import rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAID = "0said0by0"  # stands for a message; no template writes it
_TALKS = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("system", "user"), ("user",))
_LEAST = 3  # characters of a marker: fewer, such as `:`, would tear every source apart


def text_markers(tokenizer: PreTrainedTokenizerBase, specials: Collection[str]) -> set[str]:
    """The markers of the tokenizer's chat template that are ordinary text to it; none where it has no template.

    A marker is a line, or a bracketed word of it, without special tokens. Bare words such as `user` are left out:
    they mark something only beside a special token.

    Args:
        tokenizer: with or without a chat template.
        specials: texts that the tokenizer parses as tokens of their own.
    """
    if not tokenizer.chat_template:
        return set()
    breaks = re.compile("|".join([*(re.escape(text) for text in sorted(specials, key=len, reverse=True)), _SAID, "\n"]))
    lines = {line.strip() for text in _rendered(tokenizer) for line in breaks.split(text)}
    words = {word for line in lines for word in line.split() if not (word[0].isalnum() or word[-1].isalnum())}
    return {text for text in lines | words if len(text) >= _LEAST and _marks(text)}


def _marks(text: str) -> bool:
    return any(c.isalnum() for c in text) and not text.replace(" ", "").isalnum()


def _rendered(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the template makes of short talks; those that it refuses are left out."""
    texts = []
    for talk in _TALKS:
        messages = [{"role": role, "content": _SAID} for role in talk]
        for answering in (True, False):
            try:
                texts.append(rendered(tokenizer, messages, answering=answering))
            except (jinja2.TemplateError, ValueError, TypeError, LookupError):
                continue
    return texts
