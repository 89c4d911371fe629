"""LEMUR as the nn-dataset package ships it: a folder for each network and dataset, a JSON file for each epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.data.trials import METRIC, RECIPE, TASK
from nngpt_ext.errors import UserError, reason
from nngpt_ext.io import parse_json, text_digest

T = TypeVar("T")
_CURE = "reinstall nn-dataset or remove the file"


def installed_folder() -> Path | None:
    """The folder `ab/nn` of the installed nn-dataset, or None.

    It is found through the package's metadata, because importing `ab.nn` runs its code.
    """
    try:
        folder = Path(str(metadata.distribution("nn-dataset").locate_file("ab/nn")))
    except metadata.PackageNotFoundError:
        return None
    return folder if (folder / "stat" / "train").is_dir() else None


class PackageSource:
    """Reads `<folder>/stat/train/<task>_<dataset>_<metric>_<nn>/<epoch>.json` and `<folder>/nn/<nn>.py`."""

    kind = "package"

    def __init__(
        self, folder: str | Path, facts: Mapping[str, DatasetFacts] = LEMUR_FACTS, recipe: Mapping[str, str] = RECIPE
    ) -> None:
        self.facts, self.recipe = facts, recipe
        self.location = str(Path(folder).resolve())
        self._train, self._code = Path(folder) / "stat" / "train", Path(folder) / "nn"
        if not self._train.is_dir():
            raise UserError(
                f"no LEMUR records in '{folder}': it has no folder stat/train; "
                "give the folder 'ab/nn' of an nn-dataset that ships its data (2.1.2)"
            )
        if not self._code.is_dir():
            raise UserError(f"no network sources in '{folder}': it has no folder nn; give the whole folder 'ab/nn'")

    def _files(self, epoch: int | None, read: Callable[[str], T]) -> Iterator[tuple[str, str, int, str, T]]:
        """(network, dataset, epoch, path, what `read` returns) of every file of `epoch`."""
        for folder in sorted(os.listdir(self._train)):
            parts = folder.split("_", 3)  # a network's name may contain '_' too
            if len(parts) != 4 or (parts[0], parts[2]) != (TASK, METRIC):
                continue
            place = f"{self._train}/{folder}"
            for name in sorted(os.listdir(place)) if epoch is None else (f"{epoch}.json",):
                stem, path = name.removesuffix(".json"), f"{place}/{name}"
                if stem == name or not (stem.isascii() and stem.isdigit()):
                    continue
                try:
                    content = read(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise _unreadable(path, error) from None
                yield parts[3], parts[1], int(stem), path, content

    def fingerprint(self, epoch: int | None) -> str:
        # os.stat, because Path.stat doubles the time of 20,000 calls
        lines = [
            f"{dataset} {nn} {at} {state.st_size} {state.st_mtime_ns}"
            for nn, dataset, at, _, state in self._files(epoch, os.stat)
        ]
        return text_digest("\n".join([*lines, *sorted(self.networks())]))

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        for nn, dataset, at, path, raw in self._files(epoch, _bytes):
            # Of LEMUR's 105,447 files, one has a key twice; NNGPT takes the last value as well.
            trials = parse_json(raw, f"LEMUR file '{path}'", _CURE, last_wins=True)
            if not isinstance(trials, list) or not all(isinstance(trial, dict) for trial in trials):
                raise UserError(f"LEMUR file '{path}' is not a list of trials; {_CURE}")
            for trial in trials:
                yield nn, dataset, at, *map(trial.get, ("accuracy", *self.recipe))

    def networks(self) -> Set[str]:
        return networks_in(self._code)

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        return sources_in(self._code, names)


def networks_in(folder: Path) -> Set[str]:
    """The networks of a folder with one file `NAME.py` for each."""
    return {name.removesuffix(".py") for name in os.listdir(folder) if name.endswith(".py")} - {"__init__"}


def sources_in(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Source text of networks of such a folder."""
    found = {}
    for name in names:
        file = folder / f"{name}.py"
        try:
            found[name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(file, error) from None
    return found


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 (Path.read_bytes is slower)
        return file.read()


def _unreadable(path: str | Path, error: Exception) -> UserError:
    cure = "fix its permissions" if isinstance(error, PermissionError) else _CURE
    return UserError(f"cannot read LEMUR file '{path}' ({reason(error)}); {cure}")
