"""Curves beside the pair prior."""

from __future__ import annotations

import io

import pytest

from nngpt_ext import LiveCurves, UserError
from nngpt_ext.views.curves import draw_curves

HISTORY = [
    {
        "epoch": epoch, "train_loss": 0.6, "validation_accuracy": accuracy, "validation_log_loss": loss,
        "validation_prior_accuracy": 0.832, "validation_prior_log_loss": 0.41,
    }
    for epoch, accuracy, loss in ((1, 0.7, 0.6), (2, 0.85, 0.4))
]  # fmt: skip


def test_both_curves_stand_beside_the_prior():
    drawn, words = draw_curves(HISTORY)
    accuracy, loss = drawn.axes
    for axes, values, prior in ((accuracy, [0.7, 0.85], 0.832), (loss, [0.6, 0.4], 0.41)):
        ours, line = axes.lines
        assert list(ours.get_xdata()) == [1, 2]
        assert list(ours.get_ydata()) == values
        assert list(line.get_ydata()) == [prior, prior]
        assert line.get_label() == f"pair prior {prior:.3f}"
    assert words == (
        "Validation accuracy: 0.700 after epoch 1, 0.850 after epoch 2; pair prior 0.832. "
        "Validation cross-entropy, nats: 0.600 after epoch 1, 0.400 after epoch 2; pair prior 0.410."
    )


def test_a_fine_tuner_that_knows_no_prior_gets_none():
    history = [{k: v for k, v in entry.items() if "prior" not in k} for entry in HISTORY]
    drawn, words = draw_curves(history)
    assert [len(axes.lines) for axes in drawn.axes] == [1, 1]
    assert "prior" not in words


def test_the_picture_is_transparent_and_small():
    file = io.BytesIO()
    draw_curves(HISTORY[:1])[0].savefig(file, format="png", dpi=100, transparent=True)
    from PIL import Image

    image = Image.open(file)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0))[3] == 0
    assert len(file.getvalue()) < 40_000


def test_what_is_missing_is_named(missing):
    missing("IPython")
    with pytest.raises(UserError, match=r"need IPython; type: .*pip install 'ipykernel>=6\.29' 'matplotlib>=3\.8'$"):
        LiveCurves()
