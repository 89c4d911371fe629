"""lm-evaluation-harness run on an exported task, and compared answer by answer with our own scores."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nngpt_ext.errors import UserError
from nngpt_ext.export.harness import BATCH, ORDERS, ExportedTask, tested_pairs
from nngpt_ext.export.publication import read_run
from nngpt_ext.predict.adapter import load_scorer
from nngpt_ext.scoring.predictions import questions_of


@dataclass(frozen=True)
class Compared:
    """How nngpt-ext and lm_eval answered the same questions.

    Attributes:
        accuracy, lm_eval: accuracies of the two by order of the names, and with both averaged (`pairs`).
        different_answers: the number of questions that they answered differently.
        largest_difference: of the log-odds.
        seconds, lm_eval_seconds: both with loading the model.
    """

    questions: int
    accuracy: dict[str, float]
    lm_eval: dict[str, float]
    different_answers: int
    largest_difference: float
    seconds: float
    lm_eval_seconds: float

    def text(self) -> str:
        """For the terminal."""
        names = {"straight": "names in text order", "turned": "turned", "pairs": "both orders averaged"}
        lines = [
            f"{self.questions:,} questions, {self.different_answers} answered differently by lm_eval; "
            f"log-odds differ by {self.largest_difference:.1e} at most; "
            f"lm_eval {self.lm_eval_seconds:.0f} s, nngpt-ext {self.seconds:.0f} s"
        ]
        for order, shown in names.items():
            lines.append(f"  {shown}: lm_eval {self.lm_eval[order]:.4f}, nngpt-ext {self.accuracy[order]:.4f}")
        return "\n".join(lines)


def check_installed() -> None:
    """Check that lm-evaluation-harness is installed.

    Raises:
        UserError: if it is not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("lm-evaluation-harness is not installed; type: pip install 'nngpt-ext[lm-eval]'")


def check_harness(run: str | Path, exported: ExportedTask) -> Compared:
    """Run lm_eval on an exported task and score the same questions ourselves.

    Args:
        run: the run that the task was made from.
        exported: the task.

    Raises:
        UserError: if lm-evaluation-harness is not installed.
    """
    check_installed()
    began = time.monotonic()
    odds, right = _ours(Path(run), exported.networks)
    changed = time.monotonic()
    figures, theirs = _theirs(exported)
    ended = time.monotonic()
    return Compared(
        questions=odds.size,
        accuracy=_by_order(odds, right) | {"pairs": float(((odds.mean(axis=1) >= 0) == right).mean())},
        lm_eval=_by_order(theirs, right) | {"pairs": float(figures["acc_pairs,none"])},
        different_answers=int(((odds >= 0) != (theirs >= 0)).sum()),
        largest_difference=float(np.abs(odds - theirs).max()),
        seconds=round(changed - began, 1),
        lm_eval_seconds=round(ended - changed, 1),
    )


def _by_order(odds: np.ndarray, right: np.ndarray) -> dict[str, float]:
    return {order: float(((odds[:, i] >= 0) == right).mean()) for i, order in enumerate(ORDERS)}


def _ours(run: Path, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of dataset_1 in both orders, shape (pairs, 2), and whether it is the better one, shape (pairs,)."""
    found = read_run(run)
    pairs, sources = tested_pairs(found, networks)
    scorer = load_scorer(found.adapter, found.adapter.base_place, found.adapter.note.known_facts())
    right = (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()
    return scorer.log_odds(questions_of(pairs), sources), right


def _theirs(exported: ExportedTask) -> tuple[dict[str, Any], np.ndarray]:
    """lm_eval's own figures, and its log-odds of dataset_1 as `_ours` has them."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        done: Any = simple_evaluate(
            model="hf", model_args=dict(exported.model_args), device=exported.device, batch_size=BATCH,
            tasks=[exported.task], bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(exported.folder), include_defaults=False),
        )  # fmt: skip
    odds = np.full((exported.pairs, 2), np.nan)
    for sample in done["samples"][exported.task]:
        doc = sample["doc"]
        first, second = (float(answer[0]) for answer in sample["filtered_resps"])
        odds[doc["pair"], int(doc["turned"])] = second - first if doc["turned"] else first - second
    if np.isnan(odds).any():
        raise RuntimeError("lm_eval did not answer all questions")
    return done["results"][exported.task], odds
