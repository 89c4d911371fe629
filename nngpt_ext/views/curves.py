"""Curves of a fine-tuning in progress, in a notebook."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#7d7d7d"  # a contrast of 4.1 on white and 4.0 on #1e1e1e: one picture for light and dark pages
OURS = "#3b82d6"
_STYLE: dict[Any, Any] = {
    "font.size": 8.5, "axes.titlesize": 9, "legend.fontsize": 8, "legend.frameon": False, "text.color": INK,
    "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
_PANELS = (("validation_accuracy", "accuracy"), ("validation_log_loss", "cross-entropy, nats"))


class LiveCurves:
    """Validation accuracy and cross-entropy after each epoch and the pair prior's, redrawn after each.

    `run_task("dataset_compare", …, on_epoch=LiveCurves())`

    Raises:
        UserError: when matplotlib or IPython is missing.
    """

    def __init__(self) -> None:
        missing = [name for name in ("matplotlib", "IPython") if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"curves in a notebook need {' and '.join(missing)}; type: pip install 'nngpt-ext[notebooks]'"
            )
        self._output: Any = None

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        from IPython.display import DisplayHandle, Image

        drawn = io.BytesIO()
        draw_curves(history).savefig(drawn, format="png", dpi=100, transparent=True, metadata={"Software": None})
        image = Image(drawn.getvalue(), alt=describe(history))
        if self._output is None:
            self._output = DisplayHandle()
            self._output.display(image)
        else:
            self._output.update(image)


def draw_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """The figure; `history` as `run_task` gives it to `on_epoch`."""
    import matplotlib
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] for entry in history]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 2.4), layout="constrained")
        for axes, (key, title) in zip(figure.subplots(1, 2), _PANELS, strict=True):
            axes.plot(epochs, [entry[key] for entry in history], color=OURS, marker="o", ms=4, label="adapter")
            prior = history[-1].get(_prior(key))
            if prior is not None:
                axes.axhline(prior, color=INK, lw=1.2, ls="--", label=f"pair prior {prior:.3f}")
            axes.set(title=f"Validation {title}", xlabel="epoch", xticks=epochs, xlim=(0.7, max(epochs) + 0.3))
            axes.legend(loc="best")
    return figure


def describe(history: Sequence[Mapping[str, Any]]) -> str:
    """The figure in words, for those who do not see it."""
    parts = []
    for key, title in _PANELS:
        prior = history[-1].get(_prior(key))
        values = ", ".join(f"{entry[key]:.3f} after epoch {entry['epoch']}" for entry in history)
        parts.append(f"Validation {title}: {values}" + (f"; pair prior {prior:.3f}" if prior is not None else ""))
    return ". ".join(parts) + "."


def _prior(key: str) -> str:
    return key.replace("validation_", "validation_prior_")
