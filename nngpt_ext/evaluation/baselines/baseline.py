"""What a baseline is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from nngpt_ext.data.load import PairData


@dataclass(frozen=True)
class Baseline:
    """A predictor without a language model.

    Attributes:
        description: one line for reports and help texts.
        fit: P(dataset_1 is the better one) for the test pairs, in their order, shape (test pairs,). An answer is
            dataset_1 where that is at least 0.5. It looks at nothing but the training pairs, the source code of the
            networks and what a prompt may show of the test pairs.
    """

    name: str
    description: str
    fit: Callable[[PairData], np.ndarray]
