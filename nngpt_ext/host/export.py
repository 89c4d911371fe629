"""Our training pairs as the host's own corpus: `train.jsonl`, a line of chat messages for each question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.load import PairData
from nngpt_ext.errors import UserError
from nngpt_ext.io import replacing
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import questions_of

if TYPE_CHECKING:
    import pandas as pd

FILES = {"train": "train.jsonl", "validation": "dev.jsonl"}
_AT_ONCE = 512  # rows tokenised together


def chat_rows(pairs: pd.DataFrame, renderer: Renderer, sources: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each pair in both orders of its datasets, as `{"messages": [system, user, assistant]}`."""
    shown: dict[str, str] = {}
    for question, answer in zip(questions_of(pairs), pairs["better_dataset"], strict=True):
        if question.nn not in shown:
            shown[question.nn] = renderer.code(sources[question.nn]).text
        for asked in (question, question.turned()):
            system, user = renderer.messages(asked, shown[question.nn])
            texts = {"system": system, "user": user, "assistant": answer}
            yield {"messages": [{"role": role, "content": text} for role, text in texts.items()]}


def check_lengths(data: PairData, renderer: Renderer, tokenizer: Any, limit: int) -> int:
    """See that the host takes every row that would be exported: question and answer as its loader tokenises them.

    Args:
        data, renderer: as of `export_pairs`.
        tokenizer: the base's, with the chat template that the host gives it.
        limit: tokens that a row must stay below.

    Returns:
        The tokens of the longest row.

    Raises:
        UserError: when a row has as many or more; it says to which `data.code_tokens` they fit.
    """
    tokenizer.add_eos_token = True  # as the host does
    longest, fitting = 0, renderer.code_tokens
    for part in FILES:
        pairs = _pairs(data, part)
        rows = zip(pairs["nn"].repeat(2), chat_rows(pairs, renderer, data.sources), strict=True)
        while some := list(islice(rows, _AT_ONCE)):
            texts = [_rendered(tokenizer, row["messages"]) for _, row in some]
            for (nn, _), tokens in zip(some, tokenizer(texts, verbose=False)["input_ids"], strict=True):
                longest = max(longest, len(tokens))
                if len(tokens) >= limit:
                    code = renderer.code(data.sources[nn]).text
                    shown = len(renderer.tokenizer(code, add_special_tokens=False, verbose=False)["input_ids"])
                    fitting = min(fitting, shown - (len(tokens) - limit + 1))
    if longest >= limit:
        raise UserError(
            f"the longest row has {longest:,} tokens with its answer, and the host takes rows below {limit:,}; "
            + _cure(renderer.code_tokens, fitting if renderer.template.needs("nn_code") else -1)
        )
    return longest


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    import jinja2

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (jinja2.TemplateError, ValueError) as error:
        raise UserError(
            f"the base's chat template does not take what the host gives it, a system text, a question and an answer "
            f"({error}); name another in the LLM preset: chat_template_path"
        ) from None


def _cure(now: int, fitting: int) -> str:
    fitting = fitting // 50 * 50 if fitting >= 100 else fitting - 2  # a cut within a word may give one token more
    if fitting < 0:
        return f"even data.code_tokens=0 ({now} now) leaves it too long; use a prompt that shows less"
    return f"lower data.code_tokens ({now} now): --set data.code_tokens={fitting}"


def export_pairs(data: PairData, renderer: Renderer, folder: Path) -> dict[str, int]:
    """Write `train.jsonl` (training pairs) and `dev.jsonl` (validation pairs); the test pairs stay out.

    Returns:
        The number of lines of each part.
    """
    counts = {}
    for part, name in FILES.items():
        with replacing(folder / name) as temporary, temporary.open("w", encoding="utf-8") as stream:
            counts[part] = 0
            for row in chat_rows(_pairs(data, part), renderer, data.sources):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[part] += 1
    return counts


def _pairs(data: PairData, part: str) -> pd.DataFrame:
    return data.training if part == "train" else data.part(part)
