"""A question in a tokenizer's chat template: as a system and a user message, or all of it as the user's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A piece of code with what tokenizers and templates lose: blank lines, indentation, tabs, runs of blanks, quotes,
# signs, capitals, non-ASCII.
SAMPLE = (
    "class Net:\n\n\n    def f(self, n):\n\tif n < 10:\n\t\treturn \"é\", '中🙂'\n        return  n"
    f"{' ' * 16}# {''.join(map(chr, range(33, 127)))}\n\n\n\nx"
)
# Takes the place of the function by which transformers gives a template the date.
_SAME_DAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
_SYSTEM = "the-system"
_USER = "\n".join([SAMPLE] * 100)  # as long as a question, so that a template that cuts is noticed too


def chat_text(tokenizer: PreTrainedTokenizerBase, system: str, user: str, *, apart: bool) -> str:
    """The text before the answer; `apart`: with a system message of its own (`takes_system`)."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    if not apart:
        messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
    return rendered(tokenizer, messages)


def rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, answering: bool = True) -> str:
    """Messages in the chat template; `answering`: with what precedes the model's answer.

    Some templates (Llama 3's) write today's date: they are given one fixed day, so that a prompt is the same tomorrow.
    """
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _SAME_DAY + template
    return str(
        tokenizer.apply_chat_template(
            list(messages), chat_template=template, tokenize=False, add_generation_prompt=answering
        )
    )


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
