"""A question in a tokenizer's chat template: as a system and a user message, or all of it as the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jinja2

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A piece of code with what tokenizers and templates lose: blank lines, indentation, tabs, quotes, capitals, non-ASCII.
SAMPLE = "class Net:\n\n    def f(self, n):\n\tif n < 10:\n\t\treturn \"é\", '中'\n        return  n"
_SYSTEM = "the-system"
_USER = "\n".join([SAMPLE] * 100)  # as long as a question, so that a template that cuts is noticed too


def chat_text(tokenizer: PreTrainedTokenizerBase, system: str, user: str, *, apart: bool) -> str:
    """The text before the answer; `apart`: with a system message of its own (`takes_system`)."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    if not apart:
        messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template shows a system message beside the user's: some refuse it (Gemma), some leave it out.

    Raises:
        UserError: when it does not show the whole text either way: the model would be trained on empty questions.
    """
    reason = ""
    for apart in (True, False):
        try:
            text = chat_text(tokenizer, _SYSTEM, _USER, apart=apart)
        except (jinja2.TemplateError, ValueError, TypeError, LookupError) as error:
            reason = f" ({' '.join(str(error).split())[:200]})"
            continue
        reason = ""
        if _SYSTEM in text and _USER in text:
            return apart
    raise UserError(
        f"the chat template of the tokenizer in '{tokenizer.name_or_path}' does not show the user's whole text{reason};"
        " correct its chat template, or use another base model"
    )
