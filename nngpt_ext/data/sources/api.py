"""LEMUR through its own Python interface, `ab.nn.api`: for versions that download their records."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.data.trials import METRIC, TASK
from nngpt_ext.errors import UserError


class ApiSource:
    """Asks `ab.nn.api.data`. Its first import builds or downloads a database, which takes minutes."""

    kind = "api"

    @property
    def location(self) -> str:
        return "ab.nn.api"

    @cached_property
    def _api(self) -> Any:
        try:
            # It prints what it does while it is imported; our standard output is for results.
            with contextlib.redirect_stdout(sys.stderr):
                import ab.nn.api as lemur
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            package = "--no-deps nn-dataset==2.1.2" if missing in ("ab", "") else missing
            raise UserError(f"ab.nn.api cannot be imported ({error}); type: pip install {package}") from None
        except Exception as error:
            raise UserError(
                f"ab.nn.api cannot be imported ({type(error).__name__}: {error}); "
                "install LEMUR's data with: pip install --no-deps nn-dataset==2.1.2"
            ) from None
        return lemur

    def fingerprint(self, epoch: int | None) -> str:
        from importlib import import_module

        _ = self._api  # makes its database
        parts = [str(epoch), metadata.version("nn-dataset")]
        database = Path(str(getattr(import_module("ab.nn.util.Const"), "db_file", "")))
        if database.is_file():
            state = database.stat()
            parts.append(f"{state.st_size} {state.st_mtime_ns}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _rows(self, epoch: int | None) -> Any:
        with contextlib.redirect_stdout(sys.stderr):
            return self._api.data(only_best_accuracy=False, task=TASK, metric=METRIC, epoch=epoch)

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        for row in self._rows(epoch).itertuples(index=False):
            recipe = row.prm or {}
            yield (
                row.nn, row.dataset, row.epoch, row.accuracy, recipe.get("lr"), recipe.get("batch"),
                recipe.get("momentum"), recipe.get("dropout"), recipe.get("transform"),
            )  # fmt: skip

    @cached_property
    def _codes(self) -> dict[str, str]:
        rows = self._rows(None)
        return dict(zip(rows["nn"], rows["nn_code"], strict=True)) if len(rows) else {}

    def networks(self) -> Set[str]:
        return {name for name, code in self._codes.items() if isinstance(code, str)}

    def facts(self) -> Mapping[str, DatasetFacts]:
        return LEMUR_FACTS

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._codes[name] for name in names}
