"""What a task is, and what a run returns."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel

from nngpt_ext.tuning.history import OnEpoch

if TYPE_CHECKING:
    import pandas as pd


R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class RunResult(Generic[R_co]):
    """A finished run: its folder, its report, its predictions (a DataFrame) and its adapter.

    The type of the report depends on the task: `RunResult[Report]` for `dataset_compare`.
    """

    output_dir: Path
    report: R_co
    predictions: pd.DataFrame
    adapter: Path | None

    def _repr_html_(self) -> str:
        own = getattr(self.report, "_repr_html_", None)
        shown = own() if own is not None else f"<pre>{escape(str(self.report))}</pre>"
        return f"{shown}\n<p>The run is in <code>{escape(str(self.output_dir))}</code></p>"


class Task(Protocol):
    """A registered task: a class with a name, a configuration model and `run`."""

    name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def run(
        self, config: Any, output_dir: Path, resume: bool = False, on_epoch: OnEpoch | None = None
    ) -> RunResult[Any]:
        """Run the task in the folder `output_dir`; a task without epochs may leave out `on_epoch`."""
