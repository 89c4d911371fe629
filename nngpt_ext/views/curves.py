"""Curves of a fine-tuning in progress, in a notebook."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nngpt_ext.views.drawing import INK, SERIES, check_installed, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = (("accuracy", "accuracy"), ("log_loss", "cross-entropy, nats"))


class LiveCurves:
    """Draws validation accuracy and cross-entropy beside the pair prior's, and redraws them after each epoch.

    `run_task("dataset_compare", …, on_epoch=LiveCurves())`

    Raises:
        UserError: if matplotlib or IPython is not installed.
    """

    def __init__(self) -> None:
        check_installed("curves in a notebook", "notebooks", "matplotlib", "IPython")
        self._output: Any = None

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        from IPython.display import DisplayHandle, Image

        drawn, words = draw_curves(history)
        file = io.BytesIO()
        drawn.savefig(file, format="png", dpi=100, transparent=True, metadata={"Software": None})
        image = Image(file.getvalue(), alt=words)
        if self._output is None:
            self._output = DisplayHandle()
            self._output.display(image)
        else:
            self._output.update(image)


def draw_curves(history: Sequence[Mapping[str, Any]]) -> tuple[Figure, str]:
    """The figure, and what it shows in words; `history` is what `run_task` passes to `on_epoch`."""
    epochs, words = [entry["epoch"] for entry in history], []
    with figure(2.4, columns=2, width=6.4) as (drawn, panels):
        for axes, (key, title) in zip(panels, _PANELS, strict=True):
            values = [entry[f"validation_{key}"] for entry in history]
            axes.plot(epochs, values, color=SERIES[0], marker="o", ms=4, label="adapter")
            shown = ", ".join(f"{value:.3f} after epoch {epoch}" for epoch, value in zip(epochs, values, strict=True))
            prior = history[-1].get(f"validation_prior_{key}")
            if prior is not None:
                axes.axhline(prior, color=INK, lw=1.2, ls="--", label=f"pair prior {prior:.3f}")
                shown += f"; pair prior {prior:.3f}"
            axes.set(title=f"Validation {title}", xlabel="epoch", xticks=epochs, xlim=(0.7, max(epochs) + 0.3))
            axes.legend(loc="best")
            words.append(f"Validation {title}: {shown}.")
    return drawn, " ".join(words)
