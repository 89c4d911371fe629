"""What the trainer refuses, without training."""

import numpy as np
import pytest

from nngpt_ext.batches.rows import Example
from nngpt_ext.tuning.trainer import _check_answers

STOP = 1


def test_a_cut_answer_is_refused():
    whole = Example(np.array([5, 6], dtype="int32"), (np.array([7, STOP], dtype="int32"),))
    cut = Example(np.array([5, 6], dtype="int32"), (np.array([7, 8], dtype="int32"),))
    _check_answers([[whole, whole]], STOP)
    with pytest.raises(RuntimeError, match="was cut"):
        _check_answers([[whole, cut]], STOP)


def test_an_answer_without_a_name_is_refused():
    with pytest.raises(RuntimeError, match="was cut"):
        _check_answers([[Example(np.array([5], dtype="int32"), (np.array([STOP], dtype="int32"),))]], STOP)
