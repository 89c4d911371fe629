"""Which records to read: the sources that the configuration names, or the first one found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from nngpt_ext.data.facts import LEMUR_FACTS, read_facts
from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.sources.joined import JoinedSource
from nngpt_ext.data.sources.package import PackageSource, installed_folder
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.data.sources.trial_table import TableSource, is_table
from nngpt_ext.data.trials import RECIPE, Source
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError, parsing, setting, shown
from nngpt_ext.extras import pip
from nngpt_ext.settings import FileName, Stage

log = logging.getLogger(__name__)

DATABASE = Path("db") / "ab.nn.db"
INSTALL = pip("install --no-deps nn-dataset==2.1.2")
Found = tuple[Source, str]  # a source, and why it was chosen


@dataclass(frozen=True)
class SourceKind:
    """A kind of place that records are read from; `open` is called with the configuration."""

    name: str
    description: str
    open: Callable[[SourceConfig], Found]


class SourceConfig(Stage):
    """A place that records are read from, and how what is there is called."""

    source: Annotated[str, AfterValidator(lambda name: KINDS.check(name))] = Field(
        "auto", description="where records are read from"
    )
    path: str | None = Field(
        None, description="folder ab/nn, database ab.nn.db, or table of trials; by default the first LEMUR found"
    )
    facts: FileName | None = Field(None, description="YAML file with facts of datasets, beside those of LEMUR")
    recipe: dict[str, Literal["number", "text"]] | None = Field(
        None, description="fields of recipes, each number or text; by default LEMUR's, or a table's other columns"
    )
    code: FileName | None = Field(
        None, description="table: folder with NAME.py for each network, or a column; by default the column nn_code"
    )
    columns: dict[str, str] = Field(
        {}, description='table: its columns by our names, such as {nn: model, accuracy: "val_acc / 100"}'
    )
    datasets: dict[str, str] = Field({}, description="the source's datasets by the names that they get here")

    @field_validator("recipe")
    @classmethod
    def _known_kinds(cls, recipe: dict[str, str] | None) -> dict[str, str] | None:
        for name in (recipe or {}).keys() & RECIPE.keys():
            if recipe is not None and recipe[name] != RECIPE[name]:
                raise ValueError(f"{name} is a {RECIPE[name]}, as in LEMUR; give the column another name (columns)")
        return recipe

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        """`lemur` and `{table: trials.csv, …}` stand for a kind, and its path."""
        if cls is not SourceConfig:  # DataConfig is written in full
            return given
        if isinstance(given, str):
            return {"source": "auto" if given == "lemur" else given}
        kinds = [name for name in ("lemur", *KINDS) if isinstance(given, dict) and isinstance(given.get(name), str)]
        if len(kinds) != 1 or kinds[0] == "source":
            return given
        rest = {key: value for key, value in given.items() if key != kinds[0]}
        return {"source": "auto" if kinds[0] == "lemur" else kinds[0], "path": given[kinds[0]], **rest}


def open_source(kind: str = "auto", path: str | Path | None = None) -> Source:
    """Open a source of a kind in `KINDS`: the folder `ab/nn` (or one that contains it), a database file or a table."""
    return open_sources([SourceConfig(source=KINDS.check(kind), path=None if path is None else str(path))])


def open_sources(configs: Sequence[SourceConfig]) -> Source:
    """Open one source, or several as one."""
    found = []
    for config in configs:
        with parsing(f"cannot read records{'' if config.path is None else f' at {shown(config.path)}'}"):
            source, why = KINDS[config.source].open(config)
        log.info("records: %s at %s, because %s", source.kind, source.location, why)
        if not isinstance(source, TableSource) and (config.code or config.columns):
            key = "code" if config.code else "columns"
            raise UserError(f"{key} goes with source table, not {source.kind}; give the table's path")
        found.append((source, config.datasets))
    source, datasets = found[0]
    alone = len(found) == 1 and not datasets and not isinstance(source, TableSource)
    return source if alone else JoinedSource(found)


def own_place(source: Source) -> str | None:
    """Where a source's records are, if they are not those of the installed nn-dataset."""
    folder = installed_folder()
    installed = source.kind == ApiSource.kind or (folder is not None and source.location == str(folder.resolve()))
    return None if installed else source.location


def _auto(config: SourceConfig) -> Found:
    if config.path is not None:
        return _given(config)
    if DATABASE.is_file():
        return SqliteSource(DATABASE, **_described(config)), f"there is {DATABASE} here"
    return _installed(config) or (ApiSource(**_described(config)), f"nn-dataset {_version()} ships no records")


def _package(config: SourceConfig) -> Found:
    if config.path is None:
        found = _installed(config)
        if found is None:
            raise UserError(f"nn-dataset {_version()} ships no records; type: {INSTALL}")
        return found
    if Path(config.path).is_file():
        raise UserError(f"'{config.path}' is a file; source 'package' needs the folder ab/nn (or use source 'sqlite')")
    return _given(config)


def _given(config: SourceConfig) -> Found:
    path, why = Path(config.path or ""), "its path was given"
    if not path.exists():
        raise UserError(f"no records at '{path}': there is no such file or folder")
    if is_table(path):
        return _table(config)
    inner = path / "ab" / "nn"
    folder = inner if (inner / "stat").is_dir() else path
    kind: Any = SqliteSource if path.is_file() else PackageSource
    return kind(folder, **_described(config)), why


def _table(config: SourceConfig) -> Found:
    if config.path is None:
        raise UserError(f"source table needs the path of the table: {setting('data.path', 'trials.csv')}")
    facts = read_facts(config.facts) if config.facts else {}
    source = TableSource(config.path, facts, config.code, config.columns, config.recipe)
    return source, "its path was given"


def _described(config: SourceConfig) -> dict[str, Any]:
    """The facts of datasets and the fields of recipes of a LEMUR."""
    own = read_facts(config.facts) if config.facts else {}
    return {"facts": {**LEMUR_FACTS, **own}, "recipe": config.recipe or RECIPE}


def _installed(config: SourceConfig) -> Found | None:
    folder = installed_folder()
    return (
        (PackageSource(folder, **_described(config)), "the installed nn-dataset ships its records") if folder else None
    )


def _version() -> str:
    try:
        return metadata.version("nn-dataset")
    except metadata.PackageNotFoundError:
        raise UserError(f"no LEMUR found: nn-dataset is not installed; type: {INSTALL}") from None


def _sqlite(config: SourceConfig) -> Found:
    return SqliteSource(config.path or DATABASE, **_described(config)), "it was chosen"


KINDS = Declarations(
    "data source",
    [
        SourceKind("auto", "the path if given, else db/ab.nn.db here, else the installed package, else the API", _auto),
        SourceKind("package", "the folder tree ab/nn that nn-dataset 2.1.2 ships", _package),
        SourceKind("sqlite", "the database ab.nn.db", _sqlite),
        SourceKind(
            "api",
            "ab.nn.api, which downloads or builds its database",
            lambda config: (ApiSource(**_described(config)), "it was chosen"),
        ),
        SourceKind("table", "your own trials: CSV, Parquet or JSON Lines", _table),
    ],
)
