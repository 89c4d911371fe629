"""What a server answers with: its adapters by name, which can be read again while it runs, and its store."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.facts import GivenFacts
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.prompts.structures import MEASURE
from nngpt_ext.run_folder import REPORT, adapter_in, read_sealed
from nngpt_ext.serve.requests import Served

if TYPE_CHECKING:
    from nngpt_ext.predict.store import PredictionStore
    from nngpt_ext.serve.patient_store import ServedStore

log = logging.getLogger(__name__)

NO_STORE = "this server has no store; start it with --store sqlite:///predictions.db"

# Of report.json: how well an adapter was tested.
_TESTED = (
    "split", "n_test_pairs", "n_test_networks", "accuracy", "skill", "skill_beyond_best_prior", "within_pair_auc",
)  # fmt: skip


def predictor_of(
    run: Path, base: str | None = None, store: PredictionStore | str | None = None, facts: GivenFacts | None = None
) -> Predictor:
    """The predictor of a run's folder, or of an adapter's."""
    make = Predictor.from_pretrained if adapter_in(run) == run else Predictor.from_run
    return make(run, base=base, store=store, facts=facts)


class Deployment:
    """The adapters of a server; no model is loaded before `load`.

    Args:
        runs: folders of runs or adapters, each optionally with a name: `demo=runs/demo`; by default the folder's.
        store, base, facts: as in `Predictor`.
        measure: whether a question may have the network's structure measured, in the sandbox.

    Attributes:
        predictors: by name.
        store: the store of all of them, or None.

    Raises:
        UserError: for two adapters with one name, and as `Predictor`.
    """

    def __init__(
        self, runs: Sequence[str], *, store: str | None = None, base: str | None = None,
        facts: GivenFacts | None = None, measure: bool = False,
    ) -> None:  # fmt: skip
        self._folders: dict[str, Path] = {}
        for given in runs:
            name, _, place = given.rpartition("=") if not Path(given).exists() else ("", "", given)
            name = name or Path(place).resolve().name
            if name in self._folders:
                raise UserError(f"two adapters are called '{name}'; name one of them: --run other={place}")
            self._folders[name] = Path(place)
        self.store: ServedStore | None = None
        if store is not None:
            from nngpt_ext.serve.patient_store import PATIENCE, ServedStore

            self.store = ServedStore.open(store, PATIENCE)
        self.measure = measure
        self._make = partial(predictor_of, base=base, store=self.store, facts=facts)
        self.predictors = {name: self._make(folder) for name, folder in self._folders.items()}

    def of(self, name: str | None) -> Predictor:
        """An adapter's predictor; the name may be missing if there is only one.

        Raises:
            UserError: for an unknown or a missing name.
        """
        if name is None and len(self.predictors) == 1:
            (name,) = self.predictors
        if name is None:
            raise UserError(f"this server has several adapters, name one as `adapter`: {', '.join(self.predictors)}")
        if name not in self.predictors:
            raise unknown("adapter", name, self.predictors)
        return self.predictors[name]

    def asked(self, name: str | None, structure: Any) -> Predictor:
        """The adapter's predictor for a question with this structure: code runs only where the server's user said so.

        Raises:
            UserError: as `of`, and for the structure `measure` if this server does not measure.
        """
        predictor = self.of(name)
        if structure == MEASURE and not self.measure:
            raise UserError(
                "this server runs no code, so it does not measure structures; give the numbers that nngpt-ext "
                "structure --json prints as `structure`, or start the server with --structure measure"
            )
        return predictor

    def load(self) -> None:
        """Load all models."""
        for predictor in self.predictors.values():
            predictor.load()
        _settle()

    def reload(self) -> None:
        """Read again the adapters that have changed, and load their models; one that cannot be read stays as it was."""
        for name, old in list(self.predictors.items()):
            try:
                new = self._make(self._folders[name])
                if new.fingerprint != old.fingerprint:
                    new.load()
                    self.predictors[name] = new
                    log.info("adapter %s was read again: %s", name, new.model)
            except UserError as error:
                log.warning("adapter %s stays as it was: %s", name, error)
        _settle()

    def predictions(self, **conditions: Any) -> str | None:
        """JSON of the stored predictions that meet the conditions of `PredictionStore.query`; None without a store."""
        if self.store is None:
            return None
        rows = self.store.query(**conditions)
        return str(rows.to_json(orient="records", date_format="iso", double_precision=15))

    def served(self) -> list[Served]:
        """What the adapters are, and how well they were tested."""
        return [
            Served(
                name=name, model=one.model, prompt=one.prompt, datasets=one.datasets, needs=one.needs,
                threshold=one.threshold, tested=_tested(self._folders[name]),
            )
            for name, one in self.predictors.items()
        ]  # fmt: skip


def _settle() -> None:
    """Keep what is loaded from Python's garbage collector, which would look through it again with every few networks.

    Parsing a source makes so many objects that this took half of a question's preparation.
    """
    gc.unfreeze()  # an adapter that was replaced
    gc.collect()
    gc.freeze()


def _tested(folder: Path) -> dict[str, Any] | None:
    """From the report of the run; None for an adapter without its run."""
    with suppress(OSError, ValueError, TypeError):
        report = read_sealed(adapter_in(folder).parent / REPORT)
        return {name: report[name] for name in _TESTED if name in report} or None
    return None
