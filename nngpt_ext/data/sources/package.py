"""LEMUR as the nn-dataset package ships it: a folder a network and dataset, a JSON file an epoch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.data.trials import METRIC, TASK
from nngpt_ext.errors import UserError


def installed_folder() -> Path | None:
    """The folder `ab/nn` of the installed nn-dataset, or None.

    Found through the package's metadata: importing `ab.nn`, even to look for it, runs its code.
    """
    try:
        folder = Path(str(metadata.distribution("nn-dataset").locate_file("ab/nn")))
    except metadata.PackageNotFoundError:
        return None
    return folder if (folder / "stat" / "train").is_dir() else None


class PackageSource:
    """Reads `<folder>/stat/train/<task>_<dataset>_<metric>_<nn>/<epoch>.json` and `<folder>/nn/<nn>.py`."""

    kind = "package"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._train = self.folder / "stat" / "train"
        if not self._train.is_dir():
            raise UserError(
                f"no LEMUR records in '{folder}': it has no folder stat/train; "
                "give the folder 'ab/nn' of an nn-dataset that ships its data (2.1.2)"
            )
        if not (self.folder / "nn").is_dir():
            raise UserError(f"no network sources in '{folder}': it has no folder nn; give the whole folder 'ab/nn'")

    @property
    def location(self) -> str:
        return str(self.folder.resolve())

    def _folders(self) -> list[str]:
        # The name of a network may itself hold '_': only the first three separate.
        prefix, middle = f"{TASK}_", f"_{METRIC}_"
        return sorted(n for n in os.listdir(self._train) if n.startswith(prefix) and middle in n)

    def _files(self, epoch: int | None) -> Iterator[tuple[str, str, int, str]]:
        """(network, dataset, epoch, path) of every file that may exist for `epoch`."""
        root = str(self._train)
        for name in self._folders():
            _, dataset, metric, nn = name.split("_", 3)
            if metric != METRIC:
                continue
            if epoch is not None:
                yield nn, dataset, epoch, f"{root}/{name}/{epoch}.json"
                continue
            for file in sorted(os.listdir(f"{root}/{name}")):
                stem = file.removesuffix(".json")
                if stem.isdigit() and stem != file:
                    yield nn, dataset, int(stem), f"{root}/{name}/{file}"

    def fingerprint(self, epoch: int | None) -> str:
        lines: list[str] = []
        for nn, dataset, at, path in self._files(epoch):
            try:
                state = os.stat(path)  # noqa: PTH116 (Path.stat doubles the time of 20,000 calls)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(path, error) from None
            lines.append(f"{dataset} {nn} {at} {state.st_size} {state.st_mtime_ns}")
        lines.extend(sorted(self.networks()))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        for nn, dataset, at, path in self._files(epoch):
            try:
                with open(path, "rb") as file:  # noqa: PTH123 (as above)
                    raw = file.read()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(path, error) from None
            for trial in _trials(raw, path):
                get = trial.get
                yield (
                    nn, dataset, at, get("accuracy"), get("lr"), get("batch"),
                    get("momentum"), get("dropout"), get("transform"),
                )  # fmt: skip

    def networks(self) -> Set[str]:
        names = {n.removesuffix(".py") for n in os.listdir(self.folder / "nn") if n.endswith(".py")}
        return names - {"__init__"}

    def facts(self) -> Mapping[str, DatasetFacts]:
        return LEMUR_FACTS

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        return {name: self._source(self.folder / "nn" / f"{name}.py") for name in names}

    @staticmethod
    def _source(file: Path) -> str:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(file, error) from None


def _unreadable(path: str | Path, error: Exception) -> UserError:
    return UserError(f"cannot read LEMUR file '{path}' ({error}); fix its permissions, or reinstall nn-dataset")


def _trials(raw: bytes, path: str) -> list[dict[str, Any]]:
    """Parse one file; the standard parser takes over where JSON holds NaN, which orjson refuses."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            content = json.loads(raw)
        except ValueError as error:
            raise UserError(
                f"LEMUR file '{path}' is not whole JSON ({error}); reinstall nn-dataset or remove the file"
            ) from None
    if not isinstance(content, list) or not all(isinstance(trial, dict) for trial in content):
        raise UserError(f"LEMUR file '{path}' holds no list of trials; reinstall nn-dataset or remove the file")
    return content
