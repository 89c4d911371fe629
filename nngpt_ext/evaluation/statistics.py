"""Intervals and p-values of means over rows, where the rows of a network depend on each other.

A network has up to 21 pairs, which are correct or wrong together: intervals that treat rows as independent would be
far too narrow. Everything here therefore draws, or flips, whole networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nngpt_ext.views.wording import count

Ci95 = tuple[float, float]  # a 95 % interval, in the units of what was averaged

FEW = 30  # networks: percentile intervals of fewer are too narrow, so no skill is claimed
DRAWS = 2_000
FLIPS = 10_000
_BATCH = 100  # draws at a time: a few MB, and faster than all at once


def few_networks(number: int, noun: str = "test network") -> str:
    """The sentence about too few networks, or of what else is drawn; empty if there are enough."""
    few = f"With {count(number, noun)}, fewer than {FEW}, intervals are too narrow and show no skill."
    return few if number < FEW else ""


def bootstrap_networks(values: ArrayLike, networks: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Ci95:
    """95 % percentile bootstrap interval of the mean over rows, resampling whole networks.

    A draw takes as many networks as there are, with replacement; its mean is the sum of their rows over the number of
    rows (a cluster bootstrap: Davison & Hinkley 1997, section 3.8). A single network has an interval of width 0.

    Args:
        values: one number for each row, shape (rows,).
        networks: the name of each row's network, shape (rows,). The order of rows does not matter.
        draws: number of bootstrap draws.
        seed: of the draws.
    """
    sums, counts = _per_network(values, networks)

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> Any:
        return sums.sum(axis) / counts.sum(axis)

    return _bootstrap((sums, counts), mean, draws, seed, vectorized=True)


def bootstrap_measure(
    measure: Callable[[np.ndarray], float], networks: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> Ci95:
    """Like `bootstrap_networks`, for a measure that is not a mean: it is called with the indices of the rows drawn."""
    _, counts = _per_network(np.ones(np.size(networks)), networks)
    order = np.argsort(np.asarray(networks).astype(str), kind="stable")
    rows = np.split(order, np.cumsum(counts)[:-1])

    def of_drawn(drawn: np.ndarray) -> float:
        return measure(np.concatenate([rows[i] for i in drawn]))

    return _bootstrap((np.arange(len(rows)),), of_drawn, draws, seed, vectorized=False)


def _bootstrap(
    data: tuple[np.ndarray, ...], statistic: Callable[..., Any], draws: int, seed: int, vectorized: bool
) -> Ci95:
    from scipy import stats

    if len(data[0]) == 1:  # which scipy refuses
        value = float(statistic(*data))
        return value, value
    found = stats.bootstrap(
        data, statistic, paired=True, vectorized=vectorized, method="percentile", n_resamples=draws, rng=seed,
        batch=_BATCH,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def sign_flip_p(differences: ArrayLike, networks: ArrayLike, draws: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of "the mean over rows is 0", by flipping the signs of all rows of a network at once.

    Under the hypothesis a network's differences are as likely to have the opposite sign. p is (1 + b) / (1 + draws),
    where b counts the draws whose mean is at least as far from 0 as the observed one (Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585): never 0, and 1 if all differences are 0. Arguments as in `bootstrap_networks`.
    """
    # Every draw has the same number of rows, so sums can stand for means. `scipy.stats.permutation_test` gives the
    # same, 13 times more slowly.
    sums, _ = _per_network(differences, networks)
    # Rounding must not make a draw smaller that equals the observed one.
    seen = abs(sums.sum()) - 1e-9 * max(1.0, float(np.abs(sums).sum()))
    generator = np.random.default_rng(seed)
    at_least = 0
    for start in range(0, draws, 500):  # some MB at a time
        signs = generator.integers(0, 2, size=(min(500, draws - start), len(sums)), dtype="int8") * 2.0 - 1.0
        at_least += int((np.abs(signs @ sums) >= seen).sum())
    return (1 + at_least) / (1 + draws)


def _per_network(values: ArrayLike, networks: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The sum of each network's rows and their number, in text order of the names; shapes (networks,).

    Raises:
        ValueError: if there are no rows, a value is not finite, or the lengths differ.
    """
    array, names = np.asarray(values, dtype="float64"), np.asarray(networks, dtype=object)
    if array.ndim != 1 or array.shape != names.shape:
        raise ValueError(f"values {array.shape} and networks {names.shape} must be two columns of one length")
    if array.size == 0:
        raise ValueError("no rows: there is nothing to take a mean of")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    _, codes = np.unique(names.astype(str), return_inverse=True)
    return np.bincount(codes, weights=array), np.bincount(codes)
