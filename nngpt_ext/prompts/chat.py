"""A question in a tokenizer's chat template, and the plain text by which the template marks who speaks.

Some tokenizers know their markers as special tokens; others write them as ordinary text (`[/INST]`,
`### Response:`), which a network's source may contain too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError, parsing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Code with everything that tokenizers and templates lose: blank lines, indentation, tabs, runs of spaces, quotes,
# punctuation, capitals, non-ASCII.
SAMPLE = (
    "class Net:\n\n\n    def f(self, n):\n\tif n < 10:\n\t\treturn \"é\", '中🙂'\n        return  n"
    f"{' ' * 16}# {''.join(map(chr, range(33, 127)))}\n\n\n\nx"
)
# Replaces the function by which transformers tells a template the date.
_SAME_DAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
_SYSTEM = "the-system"
_USER = "\n".join([SAMPLE] * 100)  # as long as a question, so that a template that truncates is noticed too
_SAID = "0said0by0"  # stands for a message; no template writes it
_TALKS = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("system", "user"), ("user",))
_SHORTEST = 3  # characters of a marker: shorter ones, such as `:`, would break up every source
_MOST_STEPS = 1_000_000  # lines and calls of one rendering; real templates need a few hundred


def chat_text(tokenizer: PreTrainedTokenizerBase, system: str, user: str, *, apart: bool) -> str:
    """The text before the answer; with `apart`, system and user are separate messages (see `takes_system`).

    Raises:
        UserError: if the chat template fails on these messages, or does not end.
    """
    where = f"the chat template of the tokenizer in '{tokenizer.name_or_path}'"
    with parsing(f"{where} fails on a question", "correct it, or use another base model"):
        return _chat_text(tokenizer, system, user, apart)


def _chat_text(tokenizer: PreTrainedTokenizerBase, system: str, user: str, apart: bool) -> str:
    if apart:
        return _rendered(tokenizer, [("system", system), ("user", user)])
    return _rendered(tokenizer, [("user", f"{system}\n\n{user}")])


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[tuple[str, str]], answering: bool = True) -> str:
    """Messages (role, content) in the chat template; with `answering`, what precedes the model's answer follows.

    Some templates (Llama 3's) write today's date: a fixed day keeps prompts the same tomorrow.
    """
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _SAME_DAY + template
    said = [{"role": role, "content": content} for role, content in messages]
    with _bounded():
        return str(
            tokenizer.apply_chat_template(said, chat_template=template, tokenize=False, add_generation_prompt=answering)
        )


@contextmanager
def _bounded() -> Iterator[None]:
    """Stop a template that does not end: jinja2 bounds each range, but not loops inside loops."""
    steps = 0

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > _MOST_STEPS:
            raise ValueError(f"it takes more than {_MOST_STEPS:,} steps")
        return step if frame.f_code.co_filename == "<template>" else None  # of other code, only calls are counted

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield
    finally:
        sys.settrace(before)


def takes_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template shows a system message beside the user's; some reject it (Gemma), some omit it.

    Raises:
        UserError: if it does not show the whole text either way: the model would be trained on empty questions.
    """
    reason = ""
    for apart in (True, False):
        try:
            text, reason = _chat_text(tokenizer, _SYSTEM, _USER, apart), ""
        except Exception as error:  # a template may raise anything
            text, reason = "", f" ({' '.join(str(error).split())[:200]})"
        if _SYSTEM in text and _USER in text:
            return apart
    raise UserError(
        f"the chat template of the tokenizer in '{tokenizer.name_or_path}' does not show the user's whole text{reason};"
        " correct its chat template, or use another base model"
    )


def text_markers(tokenizer: PreTrainedTokenizerBase, specials: Collection[str]) -> set[str]:
    """The markers of the tokenizer's chat template that are ordinary text to it; empty if it has no template.

    A marker is a line of what the template writes around messages, or a bracketed word in it, without special
    tokens (`specials`). Bare words such as `user` are left out: they mark something only beside a special token.
    """
    if not tokenizer.chat_template:
        return set()
    texts = []
    for talk in _TALKS:
        for answering in (True, False):
            try:
                texts.append(_rendered(tokenizer, [(role, _SAID) for role in talk], answering))
            except Exception:  # some roles in this order are refused
                continue
    breaks = re.compile("|".join([*(re.escape(text) for text in sorted(specials, key=len, reverse=True)), _SAID, "\n"]))
    lines = {line.strip() for text in texts for line in breaks.split(text)}
    words = {word for line in lines for word in line.split() if not (word[0].isalnum() or word[-1].isalnum())}
    return {text for text in lines | words if len(text) >= _SHORTEST and _marks(text)}


def normal_forms(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], str] | None:
    """What the tokenizer makes of one character before it looks for tokens; None if it leaves text as it is.

    A tokenizer may read `＜` (full width) as `<`, a capital as a small letter, or drop a zero-width space, and then
    finds markers that are not in the text as written.
    """
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None:
        return None

    @cache
    def normal(character: str) -> str:
        # Between two others, because some put a sign before a text or drop spaces at its ends.
        around = str(normalizer.normalize_str(f"0{character}0"))
        return around[around.index("0") + 1 : around.rindex("0")]

    return normal


def _marks(text: str) -> bool:
    return any(c.isalnum() for c in text) and not text.replace(" ", "").isalnum()
