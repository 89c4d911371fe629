"""What the commands and the server say beside an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nngpt_ext.predict.answers import Comparison, Explanation
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import Query


def with_structures(
    predictor: Predictor, nn_code: str, datasets: Sequence[str] | None, given: dict[str, Any]
) -> dict[str, Any]:
    """What is given with a question, its structure as numbers for each dataset: a prior cannot measure one.

    Args:
        predictor, nn_code, datasets: as in `Predictor.rank`.
        given: its other arguments.
    """
    if given["structure"] is None:
        return given
    found = predictor.structures(nn_code, datasets, given["recipe"], structure=given["structure"], nn=given.get("nn"))
    return given | {"structure": found or None}


def explanation_of(
    predictor: Predictor, nn_code: str, datasets: Sequence[str] | None, given: dict[str, Any],
    prior: Comparison | None = None,
) -> Explanation:  # fmt: skip
    """The explanation of an answer; arguments as in `with_structures`."""
    own = {name: value for name, value in given.items() if name != "nn"}
    basis = predictor.basis(nn_code, datasets, **own)
    warnings = predictor.check.warnings(Query(nn_code, "", "", **given), predictor.check_datasets(datasets))
    return Explanation(
        predictor.threshold, prior, None if basis is None else asdict(basis),
        () if basis is None else tuple(basis.lines()), tuple(warnings),
    )  # fmt: skip
