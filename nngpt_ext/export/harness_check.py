"""lm-evaluation-harness on an exported task, compared answer by answer with our own scores."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nngpt_ext.errors import UserError
from nngpt_ext.export.finished import read_run
from nngpt_ext.export.harness import BATCH, ExportedTask, asked_pairs

ORDERS = ("straight", "turned")


class Compared(NamedTuple):
    """Accuracies by order of the names and with both averaged, and how far apart the two sides are."""

    questions: int
    accuracy: dict[str, float]  # ours: straight, turned, pairs
    lm_eval: dict[str, float]  # the harness's own figures
    different_answers: int  # questions whose answer is not the same
    largest_difference: float  # of log-odds
    seconds: float
    lm_eval_seconds: float  # with loading the model, as ours

    def text(self) -> str:
        """For people."""
        names = {"straight": "in the pair's own order", "turned": "turned", "pairs": "both orders averaged"}
        lines = [
            f"{self.questions:,} questions, {self.different_answers} answered otherwise by lm_eval; "
            f"log-odds differ by {self.largest_difference:.1e} at most; "
            f"lm_eval {self.lm_eval_seconds:.0f} s, nngpt-ext {self.seconds:.0f} s"
        ]
        for order, shown in names.items():
            lines.append(f"  {shown}: lm_eval {self.lm_eval[order]:.4f}, nngpt-ext {self.accuracy[order]:.4f}")
        return "\n".join(lines)


def check_installed() -> None:
    """See that lm-evaluation-harness is there.

    Raises:
        UserError: when not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("lm-evaluation-harness is not installed; type: pip install 'nngpt-ext[lm-eval]'")


def check_harness(run: str | Path, exported: ExportedTask) -> Compared:
    """Run lm_eval on an exported task and score the same questions ourselves.

    Args:
        run: the run that it was made of.
        exported: the task.

    Raises:
        UserError: where lm-evaluation-harness is missing.
    """
    check_installed()
    began = time.monotonic()
    odds, right = _ours(Path(run), exported.networks)
    ours_took, began = time.monotonic() - began, time.monotonic()
    figures, theirs = _theirs(exported)
    theirs_took = time.monotonic() - began
    first = right[:, None]
    return Compared(
        questions=odds.size,
        accuracy={
            **{order: float(((odds[:, i] >= 0) == right).mean()) for i, order in enumerate(ORDERS)},
            "pairs": float(((odds.mean(axis=1) >= 0) == right).mean()),
        },
        lm_eval={
            **{order: float(((theirs[:, i] >= 0) == right).mean()) for i, order in enumerate(ORDERS)},
            "pairs": float(figures["acc_pairs,none"]),
        },
        different_answers=int((((odds >= 0) == first) != ((theirs >= 0) == first)).sum()),
        largest_difference=float(np.abs(odds - theirs).max()),
        seconds=round(ours_took, 1),
        lm_eval_seconds=round(theirs_took, 1),
    )


def _ours(run: Path, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of dataset_1 in both orders, shape (pairs, 2), and whether it is the better one, shape (pairs,)."""
    from nngpt_ext.predict.adapter import load_scorer
    from nngpt_ext.scoring.predictions import questions_of

    found = read_run(run)
    pairs, sources = asked_pairs(found, networks)
    scorer = load_scorer(found.adapter, found.adapter.base_place, found.adapter.note.known_facts())
    return (
        scorer.log_odds(questions_of(pairs), sources),
        (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy(),
    )


def _theirs(exported: ExportedTask) -> tuple[dict[str, Any], np.ndarray]:
    """lm_eval's own figures, and its log-odds of dataset_1 as `_ours` has them."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with contextlib.redirect_stdout(sys.stderr):  # ours is for results
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
        raise RuntimeError("lm_eval answered fewer questions than it was asked")
    return done["results"][exported.task], odds
