"""Boosted trees on what a prompt may show: the source code, or the recipes. They train on what the model trains on."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from nngpt_ext.evaluation.baselines.baseline import Baseline
from nngpt_ext.evaluation.baselines.priors import pair_prior

# scikit-learn is imported where it fits: a finished run is printed without it.

# Identifiers, numbers and the operators that shape a network; comments and layout are noise, but short.
CODE_WORD = r"[A-Za-z_][A-Za-z_0-9]*|\d+(?:\.\d+)?|[-+*/@=<>]+"
MAX_WORDS = 8_000
MAX_CHARACTERS = 20_000  # 99 % of LEMUR's sources are shorter; the longest repeat one block
COMPONENTS = 48
MAX_TRANSFORMS = 250  # HistGradientBoosting takes at most 255 codes of one category
UNCOMMON = float(MAX_TRANSFORMS)


def code_gbm(train: pd.DataFrame, pairs: pd.DataFrame, sources: Mapping[str, str], seed: int = 0) -> np.ndarray:
    """Gradient boosting on the source code (TF-IDF, then latent semantic analysis) and the two datasets.

    Args:
        train: training pairs.
        pairs: the pairs to judge.
        sources: source code of every network in both.
        seed: of the decomposition and the boosting.

    Raises:
        ValueError: names networks that `sources` lacks.
    """
    known, asked = pd.unique(train["nn"]), pd.unique(pairs["nn"])
    missing = sorted({*known, *asked} - sources.keys())
    if missing:
        raise ValueError(f"no source code for {len(missing)} networks: {', '.join(missing[:5])}")
    fitted, judged = _code_features([sources[nn] for nn in known], [sources[nn] for nn in asked], seed)
    categories = _DatasetCodes(train)
    return _boosted(
        train,
        pairs,
        np.hstack([categories(train), fitted[pd.Index(known).get_indexer(pd.Index(train["nn"]))]]),
        np.hstack([categories(pairs), judged[pd.Index(asked).get_indexer(pd.Index(pairs["nn"]))]]),
        categorical=[0, 1, 2],
        seed=seed,
    )


def recipe_gbm(train: pd.DataFrame, pairs: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Gradient boosting on the two training recipes and the two datasets, without the source code."""
    categories = _DatasetCodes(train)
    transforms = _transform_codes(train)
    return _boosted(
        train,
        pairs,
        np.hstack([categories(train), _recipe_features(train, transforms)]),
        np.hstack([categories(pairs), _recipe_features(pairs, transforms)]),
        categorical=[0, 1, 2, 3, 4],
        seed=seed,
    )


def _boosted(
    train: pd.DataFrame,
    pairs: pd.DataFrame,
    x_train: np.ndarray,
    x_pairs: np.ndarray,
    categorical: list[int],
    seed: int,
) -> np.ndarray:
    """Probabilities of a boosted model; the pair prior where training has one answer only, or no pairs."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    first_wins = (train["better_dataset"] == train["dataset_1"]).to_numpy()
    if len(pairs) == 0 or len(np.unique(first_wins)) < 2:
        return pair_prior(train, pairs)
    # scikit-learn 1.9 fails on a column without any value; a constant one is never split on.
    stated = ~np.isnan(x_train).all(axis=0)
    x_train, x_pairs = np.where(stated, x_train, 0.0), np.where(stated, x_pairs, 0.0)
    # Early stopping would hold out rows at random, of networks that it also trains on: a fixed length.
    model = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        max_leaf_nodes=31,
        l2_regularization=1.0,
        categorical_features=categorical,
        early_stopping=False,
        random_state=seed,
    )
    with _one_thread():
        return model.fit(x_train, first_wins).predict_proba(x_pairs)[:, 1]


def _one_thread() -> threadpool_limits:
    """One thread for OpenMP and BLAS.

    Two threads on a core and a half wait for one another at every split: 70 s instead of 2 s were seen
    beside another process. One thread also gives the same result whatever the number of cores.
    """
    return threadpool_limits(limits=1)


class _Codes:
    """Numbers for the values of one category, as training has them; NaN or `other` for the rest."""

    def __init__(self, values: Iterable[Any], other: float = math.nan) -> None:
        self.codes = {value: float(i) for i, value in enumerate(values)}
        self.other = other

    def __call__(self, values: Iterable[Any]) -> np.ndarray:
        return np.array([self.codes.get(value, self.other) for value in values], dtype="float64")


class _DatasetCodes:
    """Columns dataset_1, dataset_2 and their pair as codes that were made from the training pairs."""

    def __init__(self, train: pd.DataFrame) -> None:
        self.dataset = _Codes(sorted({*train["dataset_1"], *train["dataset_2"]}))
        self.pair = _Codes(sorted(set(zip(train["dataset_1"], train["dataset_2"], strict=True))))

    def __call__(self, pairs: pd.DataFrame) -> np.ndarray:
        first, second = pairs["dataset_1"], pairs["dataset_2"]
        both = self.pair(zip(first, second, strict=True))
        return np.column_stack([self.dataset(first), self.dataset(second), both])


def _transform_codes(train: pd.DataFrame) -> _Codes:
    """Codes of the most common transforms of both sides of the training pairs; one code for the others."""
    recipes = itertools.chain(train["recipe_1"], train["recipe_2"])
    counts = Counter(recipe["transform"] for recipe in recipes if recipe.get("transform") is not None)
    common = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_TRANSFORMS]
    return _Codes(common, other=UNCOMMON)


def _recipe_features(pairs: pd.DataFrame, transforms: _Codes) -> np.ndarray:
    """Both transforms, then log10 lr, log2 batch, momentum and dropout of either side; shape (rows, 10)."""
    sides = [list(pairs[side]) for side in ("recipe_1", "recipe_2")]
    codes = [transforms(recipe.get("transform") for recipe in side) for side in sides]
    numbers = [np.array([_numbers(recipe) for recipe in side]).reshape(-1, 4) for side in sides]
    return np.hstack([np.column_stack(codes), *numbers])


def _numbers(recipe: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """log10 lr, log2 batch, momentum, dropout; NaN for what is not stated or has no logarithm."""
    names = ("lr", "batch", "momentum", "dropout")
    lr, batch, momentum, dropout = (math.nan if recipe.get(name) is None else float(recipe[name]) for name in names)
    return (
        math.log10(lr) if lr > 0 else math.nan,
        math.log2(batch) if batch > 0 else math.nan,
        momentum,
        dropout,
    )


def _code_features(known: list[str], asked: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic analysis of source code, fitted on `known`; shapes (known, k) and (asked, k)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    known, asked = ([text[:MAX_CHARACTERS] for text in texts] for texts in (known, asked))
    words = TfidfVectorizer(
        lowercase=False,
        token_pattern=CODE_WORD,
        sublinear_tf=True,
        min_df=2,
        max_features=MAX_WORDS,
        dtype=np.float32,
    )
    nothing = np.zeros((len(known), 0)), np.zeros((len(asked), 0))
    # Words of one network only are left out (min_df), so there may be none at all.
    if len(known) < 2 or not asked:
        return nothing
    try:
        table = words.fit_transform(known)
    except ValueError:  # "no terms remain", "empty vocabulary"
        return nothing
    size = min(COMPONENTS, table.shape[1] - 1, table.shape[0] - 1)
    if size < 1:
        return table.toarray(), words.transform(asked).toarray()
    reduce = TruncatedSVD(n_components=size, random_state=seed)
    # Its explained variance divides by nothing where all sources are alike. Threads change its last digits, and trees
    # make 0.823 or 0.828 of that on LEMUR's test pairs.
    with _one_thread(), np.errstate(divide="ignore", invalid="ignore"):
        fitted = reduce.fit_transform(table)
    return fitted, reduce.transform(words.transform(asked))


TREES = (
    Baseline(
        "code_gbm",
        "boosted trees on the source code and the pair",
        lambda data: code_gbm(data.training, data.part("test"), data.sources),
    ),
    Baseline(
        "recipe_gbm",
        "boosted trees on the two recipes and the pair",
        lambda data: recipe_gbm(data.training, data.part("test")),
    ),
)
