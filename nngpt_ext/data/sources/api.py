"""LEMUR through its own Python interface, `ab.nn.api`: for versions that download their records."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.data.trials import METRIC, RECIPE, TASK
from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.io import text_digest


class ApiSource:
    """Queries `ab.nn.api.data`, whose first import builds or downloads a database, which takes minutes."""

    kind = "api"
    location = "ab.nn.api"

    def __init__(self, facts: Mapping[str, DatasetFacts] = LEMUR_FACTS, recipe: Mapping[str, str] = RECIPE) -> None:
        self.facts, self.recipe = facts, recipe

    @cached_property
    def _api(self) -> Any:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints while it is imported
                import ab.nn.api as lemur
        except Exception as error:
            module = (error.name or "ab") if isinstance(error, ModuleNotFoundError) else "ab"
            package = "--no-deps nn-dataset==2.1.2" if module.split(".")[0] == "ab" else module.split(".")[0]
            raise UserError(
                f"ab.nn.api cannot be imported ({type(error).__name__}: {error}); type: {pip(f'install {package}')}"
            ) from None
        return lemur

    def fingerprint(self, epoch: int | None) -> str:
        _ = self._api  # makes its database
        parts = [str(epoch), metadata.version("nn-dataset")]
        database = Path(str(getattr(import_module("ab.nn.util.Const"), "db_file", "")))
        if database.is_file():
            state = database.stat()
            parts.append(f"{state.st_size} {state.st_mtime_ns}")
        return text_digest("\n".join(parts))

    def _rows(self, epoch: int | None) -> Any:
        with contextlib.redirect_stdout(sys.stderr):
            return self._api.data(only_best_accuracy=False, task=TASK, metric=METRIC, epoch=epoch)

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        for row in self._rows(epoch).itertuples(index=False):
            yield row.nn, row.dataset, row.epoch, row.accuracy, *((row.prm or {}).get(name) for name in self.recipe)

    @cached_property
    def _codes(self) -> dict[str, str]:
        rows = self._rows(None)
        return dict(zip(rows["nn"], rows["nn_code"], strict=True)) if len(rows) else {}

    def networks(self) -> Set[str]:
        return {name for name, code in self._codes.items() if isinstance(code, str)}

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._codes[name] for name in names}
