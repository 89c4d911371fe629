from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from nngpt_ext.scoring.logistic import logistic


@given(st.lists(st.floats(-1e4, 1e4)))
def test_as_scipy_has_it(values: list[float]) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = logistic(values)
    assert found.shape == (len(values),)
    np.testing.assert_allclose(found, expit(np.array(values, dtype="float64")), rtol=1e-12, atol=1e-300)
