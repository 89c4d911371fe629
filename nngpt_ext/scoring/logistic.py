"""The logistic function."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def logistic(x: ArrayLike) -> np.ndarray:
    """1 / (1 + exp(-x)), of the shape of `x`, without overflow.

    `scipy.special.expit` is the same, but takes 0.2 s of CPU to import, a twentieth of `compare`.
    """
    return np.exp(-np.logaddexp(0.0, -np.asarray(x, dtype="float64")))
