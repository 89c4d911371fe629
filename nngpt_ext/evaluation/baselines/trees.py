"""Boosted trees on what a prompt may show, the source code or the recipes, trained on the model's training pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from nngpt_ext.evaluation.baselines.priors import Baseline, pair_prior
from nngpt_ext.evaluation.metrics import first_wins

# scikit-learn is imported in the functions that fit: printing a finished run does not need it.

# Identifiers, numbers and operators.
CODE_WORD = r"[A-Za-z_][A-Za-z_0-9]*|\d+(?:\.\d+)?|[-+*/@=<>]+"
MAX_WORDS = 8_000
MAX_CHARACTERS = 20_000  # 99 % of LEMUR's sources are shorter; the longest ones repeat one block
COMPONENTS = 48
DECIMALS = 6  # of a component; another machine's linear algebra differs by 1e-13
MAX_TRANSFORMS = 250  # HistGradientBoosting takes at most 255 codes of one category
UNCOMMON = float(MAX_TRANSFORMS)
_NUMBERS = ("lr", "batch", "momentum", "dropout")


def code_gbm(train: pd.DataFrame, pairs: pd.DataFrame, sources: Mapping[str, str], seed: int = 0) -> np.ndarray:
    """Gradient boosting on the source code (TF-IDF, then latent semantic analysis) and the two datasets.

    Args:
        train: training pairs.
        pairs: the pairs to judge.
        sources: source code of every network in both.
        seed: of the decomposition and the boosting.

    Raises:
        ValueError: if `sources` lacks networks.
    """
    known, judged = pd.unique(train["nn"]), pd.unique(pairs["nn"])
    missing = sorted({*known, *judged} - sources.keys())
    if missing:
        raise ValueError(f"no source code for {len(missing)} networks: {', '.join(missing[:5])}")
    texts = _code_features([sources[nn] for nn in known], [sources[nn] for nn in judged], seed)
    features = [
        table[pd.Index(names).get_indexer(pd.Index(rows["nn"]))]
        for table, names, rows in zip(texts, (known, judged), (train, pairs), strict=True)
    ]
    return _boosted(train, pairs, features, 0, seed)


def recipe_gbm(train: pd.DataFrame, pairs: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Gradient boosting on the two training recipes and the two datasets, without the source code."""
    used = Counter(recipe.get("transform") for side in ("recipe_1", "recipe_2") for recipe in train[side])
    del used[None]
    common = sorted(used, key=lambda name: (-used[name], name))[:MAX_TRANSFORMS]
    return _boosted(train, pairs, [_recipe_features(rows, common) for rows in (train, pairs)], 2, seed)


def _boosted(
    train: pd.DataFrame, pairs: pd.DataFrame, features: Sequence[np.ndarray], categories: int, seed: int
) -> np.ndarray:
    """P(dataset_1) of a boosted model of the two datasets and the features, whose first columns are categories.

    It is the pair prior if training has only one answer, or no pairs.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.preprocessing import OrdinalEncoder

    wins = first_wins(train)
    if len(pairs) == 0 or len(np.unique(wins)) < 2:
        return pair_prior(train, pairs)
    names = [
        np.column_stack([rows["dataset_1"], rows["dataset_2"], rows["dataset_1"] + " " + rows["dataset_2"]])
        for rows in (train, pairs)
    ]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=math.nan).fit(names[0])
    x_train, x_pairs = (np.column_stack([codes.transform(n), more]) for n, more in zip(names, features, strict=True))
    # scikit-learn 1.9 fails on a column without any value; a constant one is never split on.
    stated = ~np.isnan(x_train).all(axis=0)
    x_train, x_pairs = np.where(stated, x_train, 0.0), np.where(stated, x_pairs, 0.0)
    # Early stopping would hold out rows at random, of networks that it also trains on: a fixed length.
    model = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        max_leaf_nodes=31,
        l2_regularization=1.0,
        categorical_features=list(range(3 + categories)),
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(limits=1):  # see _code_features; and on busy cores two threads took 70 s instead of 2
        return model.fit(x_train, wins).predict_proba(x_pairs)[:, 1]


def _recipe_features(pairs: pd.DataFrame, transforms: Sequence[str]) -> np.ndarray:
    """Both transforms, then log10 lr, log2 batch, momentum and dropout of either side; shape (rows, 10).

    What is not stated, or has no logarithm, is NaN.
    """
    codes = {name: float(i) for i, name in enumerate(transforms)}
    sides = [pd.DataFrame(list(pairs[side]), columns=["transform", *_NUMBERS]) for side in ("recipe_1", "recipe_2")]
    columns = [np.array([codes.get(name, UNCOMMON) for name in side["transform"]], dtype="float64") for side in sides]
    for side in sides:
        lr, batch, momentum, dropout = (side[name].to_numpy(dtype="float64") for name in _NUMBERS)
        columns += [np.log10(np.where(lr > 0, lr, math.nan)), np.log2(np.where(batch > 0, batch, math.nan))]
        columns += [momentum, dropout]
    return np.column_stack(columns)


def _code_features(known: list[str], asked: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic analysis of source code, fitted on `known`; shapes (known, k) and (asked, k)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    known, asked = ([text[:MAX_CHARACTERS] for text in texts] for texts in (known, asked))
    words = TfidfVectorizer(
        lowercase=False, token_pattern=CODE_WORD, sublinear_tf=True, min_df=2, max_features=MAX_WORDS
    )
    nothing = np.zeros((len(known), 0)), np.zeros((len(asked), 0))
    try:
        table = words.fit_transform(known)
    except ValueError:  # no word is left: min_df leaves out those of a single network
        return nothing
    size = min(COMPONENTS, table.shape[1] - 1, table.shape[0] - 1)
    if size < 1 or not asked:
        return nothing
    reduce = TruncatedSVD(n_components=size, random_state=seed)
    # Its explained variance divides by zero if all sources are alike. Another processor or number of threads changes
    # its last digits, from which trees made 0.823 to 0.828 on LEMUR's test pairs: the features are rounded.
    with threadpool_limits(limits=1), np.errstate(divide="ignore", invalid="ignore"):
        fitted = reduce.fit_transform(table)
        return np.round(fitted, DECIMALS), np.round(reduce.transform(words.transform(asked)), DECIMALS)


TREES = (
    Baseline(
        "code_gbm",
        "boosted trees on the source code and the pair; another machine's BLAS can change the third digit",
        lambda data: code_gbm(data.training, data.part("test"), data.sources),
    ),
    Baseline(
        "recipe_gbm",
        "boosted trees on the two recipes and the pair",
        lambda data: recipe_gbm(data.training, data.part("test")),
    ),
)
