"""The figures that the paper gives, with the interval that their number of examples allows.

"From Code to Prediction: Fine-Tuning LLMs for Neural Network Performance Classification in NNGPT"
(arXiv 2605.03686): DeepSeek-Coder-7B-Instruct with LoRA, the best of 15 epochs. The host's code draws 30 examples an
epoch, of 3 to 15 networks, from the same rows that it trains on, with sampled text.
"""

from __future__ import annotations

from typing import NamedTuple

from nngpt_ext.evaluation.statistics import Interval, wilson

EXAMPLES = 30
EPOCHS = 15


class PaperFigure(NamedTuple):
    """A published accuracy: of 30 examples where `right` is known, else as it stands."""

    what: str
    prompt: str | None  # ours that asks the same
    accuracy: float
    right: int | None  # of EXAMPLES

    @property
    def ci95(self) -> Interval | None:
        """Wilson's interval, as if the examples were independent, which those of one network are not."""
        return None if self.right is None else wilson(self.right, EXAMPLES)


FIGURES = (
    PaperFigure("normalised accuracies shown", "normalized_accuracy", 1.0, 30),
    PaperFigure("metadata", "metadata", 0.70, 21),
    PaperFigure("metadata, celeba-gender alone", None, 0.909, None),
    PaperFigure("code only", "code_only", 0.80, 24),
)
