"""How sure a mean is, when the rows of one network are not independent of one another.

A network gives up to 21 pairs, which are right or wrong together; counting rows as independent would make
intervals far too narrow. Everything here therefore draws, or flips, whole networks; but for `wilson`, which is
for published figures whose rows nobody has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 2_000
FLIPS = 10_000
_CHUNK = 500  # draws at a time: keeps the matrix draws × networks below some 20 MB


class Interval(NamedTuple):
    """A 95 % interval, in the units of what was averaged."""

    low: float
    high: float


class _Sums(NamedTuple):
    """Per network, in text order of the names: the sum of its rows and their number; shape (networks,)."""

    sums: np.ndarray
    counts: np.ndarray


def bootstrap_networks(values: ArrayLike, networks: Any, draws: int = DRAWS, seed: int = 0) -> Interval:
    """95 % percentile bootstrap interval of the mean over rows, resampling whole networks.

    As many networks as there are are drawn with replacement; a draw's mean is the sum of the drawn
    networks' rows over their number (a cluster bootstrap: Davison & Hinkley 1997, section 3.8; percentile
    interval: Efron & Tibshirani 1993, section 13.3). One network alone gives an interval of width 0.

    Args:
        values: one number a row, shape (rows,).
        networks: the name of each row's network, shape (rows,). The order of rows does not matter.
        draws: number of bootstrap draws.
        seed: same seed, same interval.

    Raises:
        ValueError: for no rows, for values that are not finite and for lengths that differ.
    """
    per = _per_network(values, networks)
    size = len(per.sums)
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for start in range(0, draws, _CHUNK):
        stop = min(start + _CHUNK, draws)
        weights = generator.multinomial(size, np.full(size, 1 / size), size=stop - start)
        means[start:stop] = (weights @ per.sums) / (weights @ per.counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def bootstrap_measure(
    measure: Callable[[np.ndarray], float], networks: Any, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """As `bootstrap_networks`, for what is no mean over rows: `measure` takes the numbers of the rows drawn.

    Raises:
        ValueError: for no rows.
    """
    names = np.asarray(networks, dtype=object).astype(str)
    if names.size == 0:
        raise ValueError("no rows: there is nothing to measure")
    _, codes = np.unique(names, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    own = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    generator = np.random.default_rng(seed)
    values = [
        measure(np.concatenate([own[i] for i in generator.integers(0, len(own), len(own))])) for _ in range(draws)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def sign_flip_p(differences: ArrayLike, networks: Any, draws: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of "the mean over rows is 0", by flipping the sign of all of a network's rows at once.

    Under the hypothesis a network's differences are as likely to have the opposite sign. p is
    (1 + b) / (1 + draws), where b counts the draws whose mean is at least as far from 0 as the one seen
    (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585): never 0, and 1 where all differences are 0.

    Args:
        differences: one number a row, shape (rows,).
        networks: the name of each row's network, shape (rows,).
        draws: number of random sign patterns.
        seed: same seed, same p.

    Raises:
        ValueError: for no rows, for values that are not finite and for lengths that differ.
    """
    # The number of rows is the same in every draw: sums can stand for means.
    sums = _per_network(differences, networks).sums
    # Rounding must not make a draw that equals the observed one look smaller.
    seen = abs(sums.sum()) - 1e-9 * max(1.0, float(np.abs(sums).sum()))
    generator = np.random.default_rng(seed)
    at_least = 0
    for start in range(0, draws, _CHUNK):
        count = min(_CHUNK, draws - start)
        signs = generator.integers(0, 2, size=(count, len(sums)), dtype="int8") * 2.0 - 1.0
        at_least += int((np.abs(signs @ sums) >= seen).sum())
    return (1 + at_least) / (1 + draws)


def wilson(successes: int, n: int) -> Interval:
    """95 % score interval of a share among n independent trials (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    With z = 1.959964, the 97.5 % point of the normal distribution, and s = successes / n: the two solutions x of
    (x − s)² = z² x (1 − x) / n.

    Raises:
        ValueError: when n is not positive, or `successes` is not between 0 and n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} trials")
    z = 1.959963984540054
    share, weight = successes / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _per_network(values: ArrayLike, networks: Any) -> _Sums:
    array = np.asarray(values, dtype="float64")
    names = np.asarray(networks, dtype=object)
    if array.ndim != 1 or array.shape != names.shape:
        raise ValueError(f"values {array.shape} and networks {names.shape} must be two columns of one length")
    if array.size == 0:
        raise ValueError("no rows: there is nothing to take a mean of")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    _, codes = np.unique(names.astype(str), return_inverse=True)
    return _Sums(np.bincount(codes, weights=array), np.bincount(codes))
