"""Our training pairs as the host's own corpus: `train.jsonl`, a line of chat messages for each question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.files import replacing
from nngpt_ext.lemur.dataset import PairData
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import questions_of

if TYPE_CHECKING:
    import pandas as pd

FILES = {"train": "train.jsonl", "validation": "dev.jsonl"}


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


def export_pairs(data: PairData, renderer: Renderer, folder: Path) -> dict[str, int]:
    """Write `train.jsonl` (training pairs) and `dev.jsonl` (validation pairs); the test pairs stay out.

    Returns:
        The number of lines of each part.
    """
    counts = {}
    for part, name in FILES.items():
        pairs = data.training if part == "train" else data.part(part)
        with replacing(folder / name) as temporary, temporary.open("w", encoding="utf-8") as stream:
            counts[part] = 0
            for row in chat_rows(pairs, renderer, data.sources):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[part] += 1
    return counts
