"""A user's own trials: a CSV, Parquet or JSON Lines file, or a folder of them, with one row for each trial."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.sources.package import networks_in, sources_in
from nngpt_ext.data.trials import KEYS, NUMBER, RECIPE, TEXT
from nngpt_ext.errors import UserError, nearest, parsing, setting, shown, typed
from nngpt_ext.io import text_digest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet", ".jsonl")
CODE = "nn_code"  # the column of networks' sources, unless another one or a folder is named
_LONGEST = 64  # characters of a recipe's text
_MOST_OUTSIDE = 0.05  # share of accuracies above 1 from which they are taken for percentages
_FOLLOWS = 0.95  # absolute rank correlation with the accuracy from which a column is a result
_FEWEST = 20  # trials, for such a correlation to be no chance
_ACCURACY = re.compile(r"acc|top_?-?[15]", re.IGNORECASE)
# What a training shows, or a log notes; as a part of the recipe it would tell the answer, or nothing.
_RESULT = re.compile(
    r"acc|top_?-?[15]|loss|err(or)?$|f1|auc|score|precision|recall|perplexity|duration|time|seconds|date|^uid$|^id$|_id$",
    re.IGNORECASE,
)
# What means "no value" in a CSV file, as pandas has it; it may be the name of a network or a dataset.
_MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
_OTHER_NAMES = {
    "nn": ("model", "network", "net", "arch", "architecture", "name"),
    "dataset": ("data", "task"),
    "epoch": ("epochs", "step"),
}


def is_table(path: Path) -> bool:
    """Whether a path is a file that this source reads, or a folder of some."""
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in found if file.suffix.lower() in SUFFIXES and file.is_file()]


class TableSource:
    """Reads a table of trials; networks' sources are files of a folder or a column of the table.

    Args:
        path: the file, or a folder of files with the same columns.
        facts: of its datasets.
        code: a folder with NAME.py for each network, or the name of a column; by default the column `nn_code`.
        columns: names of columns in the table by ours; `val_acc / 100` divides a number.
        recipe: the fields of recipes, each `NUMBER` or `TEXT`; by default all other columns with numbers or short
            texts whose names do not look like results, and which do not rise or fall with the accuracy.
    """

    kind = "table"

    def __init__(
        self,
        path: str | Path,
        facts: Mapping[str, DatasetFacts],
        code: str | None = None,
        columns: Mapping[str, str] | None = None,
        recipe: Mapping[str, str] | None = None,
    ) -> None:
        self.location, self.facts = str(Path(path).resolve()), facts
        self._given, self._code, self._files = dict(columns or {}), code, _files(Path(path))
        if not self._files:
            raise UserError(f"no table of trials at '{path}': give a file {', '.join(SUFFIXES)}, or a folder of them")
        self._folder = Path(code) if code is not None and Path(code).is_dir() else None
        self._own_recipe = recipe

    @cached_property
    def _theirs(self) -> list[str]:
        import pyarrow.parquet as pq

        first = self._files[0]
        with parsing(f"cannot read '{first}'"):
            return list(pq.read_schema(first).names) if first.suffix == ".parquet" else list(_read(first).columns)

    @cached_property
    def _columns(self) -> dict[str, tuple[str, float]]:
        """Of each needed column the name in the table, and what its numbers are divided by."""
        found, names = {}, self._theirs
        for own in (*KEYS, *(self._given.keys() - set(KEYS))):
            theirs, divisor = self._given.get(own, own), 1.0
            if theirs not in names and (match := re.fullmatch(r"(.+?)\s*/\s*(\d+(?:\.\d+)?)", theirs)):
                theirs, divisor = match[1], float(match[2])
            if own in self._given and (theirs not in names or not divisor):
                raise UserError(
                    f"'{self.location}' has no column {shown(theirs)}{nearest(theirs, names)} (data.columns); its "
                    f"columns are {', '.join(names)}"
                )
            found[own] = theirs, divisor
        accuracies = [name for name in names if _ACCURACY.search(name)]
        missing = [own for own in KEYS if found[own][0] not in names]
        if missing:
            alike = {own: [n for n in names if n.lower() in _OTHER_NAMES.get(own, ())] for own in missing}
            alike |= {"accuracy": accuracies} if "accuracy" in missing else {}
            mapping = {own: (*alike[own], "COLUMN")[0] for own in missing}
            several = len(alike.get("accuracy", ())) > 1
            raise UserError(
                f"'{self.location}' has no column {', '.join(missing)}; its columns are {', '.join(names)}"
                f"{'; a trial has one accuracy, and a row for each epoch' if several else ''}; say which they are: "
                f"{_mapped(mapping)}"
            )
        others = [name for name in accuracies if name != found["accuracy"][0]]
        if others and "accuracy" not in self._given:
            raise UserError(
                f"'{self.location}' has several accuracies a trial, accuracy, {', '.join(others)}; say which one is "
                f"compared: {_mapped({'accuracy': found['accuracy'][0]})} (the others are not used)"
            )
        return found

    @property
    def _code_column(self) -> str:
        name = self._code or CODE
        if name not in self._theirs:
            raise UserError(
                f"no sources of the networks: '{self.location}' has no column {shown(name)} and there is no such "
                f"folder; name a folder with NAME.py for each network: {setting('data.code', 'FOLDER')}"
            )
        return name

    @cached_property
    def _frame(self) -> pd.DataFrame:
        """The needed columns under our names, then all others but the sources."""
        import pandas as pd

        own, wanted = self._columns, [name for name in self._theirs if name != (self._code or CODE)]
        parts = []
        for file in self._files:
            with parsing(f"cannot read '{file}'"):
                part = _read(file, wanted)
                if lost := [name for name, _ in own.values() if name not in part.columns]:
                    raise ValueError(f"it has no column {', '.join(lost)}, unlike '{self._files[0].name}'")
            if file.suffix.lower() == ".csv":
                others = part.columns.difference([own["nn"][0], own["dataset"][0]], sort=False)
                part[others] = part[others].mask(part[others].isin(_MISSING), None)
            parts.append(part)
        whole = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        taken = {theirs for theirs, _ in own.values()}
        found = {name: whole[theirs] for name, (theirs, _) in own.items()}
        for name, (_, divisor) in own.items():
            if divisor != 1.0:
                found[name] = _numbers(found[name]) / divisor
        if _nested(found["accuracy"]):
            raise UserError(f"'{self.location}' has several accuracies in a row; write a row for each epoch")
        self._check_scale(found["accuracy"], whole[own["accuracy"][0]], found["dataset"])
        return pd.DataFrame({**found, **{name: whole[name] for name in whole.columns if name not in taken | {*found}}})

    def _check_scale(self, accuracy: pd.Series, given: pd.Series, datasets: pd.Series) -> None:
        """Refuse accuracies in percent, as numbers or texts, and those of which only some are."""
        signs = given.dropna().astype(str).str.strip().str.endswith("%")
        above = _numbers(accuracy) > 1
        share = above.groupby(datasets.astype(str)).mean()
        percent = sorted(share.index[share > 0.5])
        column, divisor = self._columns["accuracy"]
        divide = f"divide them: {_mapped({'accuracy': f'{column} / 100'})}"
        fractions = "if only these are in percent, write all accuracies as numbers from 0 to 1"
        if signs.any() and not signs.all():
            raise UserError(
                f"'{self.location}': {signs.sum():,} of {len(signs):,} accuracies end in %, the others do not; "
                "write all as numbers from 0 to 1"
            )
        if signs.any() and divisor == 1.0:
            raise UserError(
                f"'{self.location}': the accuracies are percentages, such as {given.dropna().iloc[0]}; {divide}"
            )
        if above.mean() > _MOST_OUTSIDE or percent:
            some = (
                f", most of dataset {', '.join(percent)}, but few of the others"
                if 0 < len(percent) < len(share)
                else ""
            )
            mixed = f"; {fractions}" if some or above.mean() < 0.5 else ""
            raise UserError(
                f"'{self.location}': {100 * above.mean():.0f} % of the accuracies are above 1{some}; if they are in "
                f"percent, {divide}{mixed}"
            )

    @cached_property
    def recipe(self) -> Mapping[str, str]:
        others = self._frame.columns.drop(list(KEYS))
        if self._own_recipe is not None:
            if lost := [name for name in self._own_recipe if name not in others]:
                raise UserError(
                    f"'{self.location}' has no column {', '.join(lost)} (data.recipe); beside those of a trial it has "
                    f"{', '.join(others) or 'none'}"
                )
            return self._own_recipe
        kinds = {name: _kind(self._frame[name]) for name in others if not _RESULT.search(name)}
        kinds |= {name: kind for name, kind in RECIPE.items() if name in kinds}
        usable = {name: kind for name, kind in kinds.items() if kind is not None}
        results = [name for name in usable if name not in RECIPE and _follows(name, self._frame)]
        found = {name: kind for name, kind in usable.items() if name not in results}
        if left := [name for name in others if name not in found]:
            declared = json.dumps(found | {left[0]: usable.get(left[0], NUMBER)})
            log.info(
                "records: not taken as a part of the recipe: %s%s; to keep one, declare the whole recipe: %s",
                ", ".join(left),
                f" ({', '.join(results)}: in each dataset as the accuracy, or its opposite)" if results else "",
                typed(f"--set 'data.recipe={declared}'", f"data={{'recipe': {declared}}}"),
            )
        return found

    def fingerprint(self, epoch: int | None) -> str:
        states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self._files]
        return text_digest(repr((epoch, states, sorted(self._given.items()), self._code, sorted(self.networks()))))

    def records(self, epoch: int | None) -> pd.DataFrame:
        import pandas as pd

        frame = self._frame[[*KEYS, *self.recipe]]
        if epoch is not None:
            frame = frame[pd.to_numeric(frame["epoch"], errors="coerce") == epoch]
        accuracy = frame["accuracy"]
        if accuracy.isna().any():
            accuracy = accuracy.astype(object).where(accuracy.notna(), None)
        names = {name: frame[name].map(str, na_action="ignore") for name in ("nn", "dataset")}  # which may be numbers
        return frame.assign(**names, accuracy=accuracy)

    def networks(self) -> Set[str]:
        return self._codes.keys() if self._folder is None else networks_in(self._folder)

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        if self._folder is not None:
            return sources_in(self._folder, names)
        return {name: self._codes[name] for name in names}

    @cached_property
    def _codes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        nn, code = self._columns["nn"][0], self._code_column
        for file in self._files:
            with parsing(f"cannot read '{file}'"):
                rows = _read(file, [nn, code]).dropna().drop_duplicates()
            for name, text in zip(rows[nn].map(str), rows[code], strict=True):
                if not isinstance(text, str) or found.setdefault(name, text) != text:
                    wrong = "two different sources" if isinstance(text, str) else "a source that is not text"
                    raise UserError(f"'{file}': network {shown(name)} has {wrong}; give each source its own name")
        return found


def _mapped(columns: Mapping[str, str]) -> str:
    """How to say which columns are meant."""
    value = json.dumps(columns)
    options = " ".join(typed(f"--column '{own}={theirs}'", "") for own, theirs in columns.items())
    return typed(f"--set 'data.columns={value}', of records check {options}", f"data={{'columns': {value}}}")


def _read(file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A file's table, or those of some columns that it has; every value of a CSV file is text."""
    import pandas as pd

    suffix = file.suffix.lower()
    if suffix == ".csv":
        usecols = None if columns is None else lambda name: name in columns
        return pd.read_csv(file, dtype=str, usecols=usecols, keep_default_na=False, na_values=[""])
    if suffix == ".jsonl":
        frame = pd.read_json(file, lines=True, dtype=False, convert_dates=False)
        return frame if columns is None else frame[[name for name in columns if name in frame.columns]]
    import pyarrow.parquet as pq

    names = [name for name in pq.read_schema(file).names if columns is None or name in columns]
    # Long texts that many rows share, such as sources, are kept once.
    texts = [name for name in (columns or ()) if name in names]
    return pq.read_table(file, columns=names, read_dictionary=texts).to_pandas()


def _kind(values: pd.Series) -> str | None:
    """Whether the values are numbers or short texts; None for something else, and for a column without values."""
    import pandas as pd

    if _nested(values) or values.isna().all():
        return None
    distinct = values.dropna().drop_duplicates().astype(object)
    if pd.to_numeric(distinct, errors="coerce").notna().all() and not distinct.map(lambda x: isinstance(x, bool)).any():
        return NUMBER
    return TEXT if distinct.map(str).str.len().max() <= _LONGEST else None


def _numbers(values: pd.Series) -> pd.Series:
    """Numbers, and those before a percent sign; NaN for all else."""
    import pandas as pd

    if values.dtype.kind not in "iufb":
        values = values.map(lambda x: x.strip().removesuffix("%") if isinstance(x, str) else x)
    return pd.to_numeric(values, errors="coerce")


def _follows(name: str, frame: pd.DataFrame) -> bool:
    """Whether a column rises or falls with the accuracy, among the trials of each dataset and epoch."""
    import pandas as pd

    both = (
        pd.DataFrame({"own": _numbers(frame[name]), "accuracy": _numbers(frame["accuracy"])}).astype("float64").dropna()
    )
    groups = [frame.loc[both.index, key].astype(str) for key in ("dataset", "epoch")]
    ranks = both.groupby(groups).rank(pct=True)
    ranks -= ranks.groupby(groups).transform("mean")
    return len(both) >= _FEWEST and bool(abs(ranks["own"].corr(ranks["accuracy"])) > _FOLLOWS)


def _nested(values: pd.Series) -> bool:
    """Whether a value is a list or a mapping."""
    return any(not isinstance(x, str) and hasattr(x, "__len__") for x in (values if values.dtype == object else ()))
