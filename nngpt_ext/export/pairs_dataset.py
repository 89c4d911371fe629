"""The pairs of an epoch as a dataset: Parquet with fixed parts, the networks' sources, and a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import DatasetCardData

from nngpt_ext.data.families import PERMUTATIONS, SHINGLE, THRESHOLD, clusters, signatures
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.load import PairData, load_pairs, read_records
from nngpt_ext.data.pairs import datasets_of
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.discovery import SourceConfig
from nngpt_ext.data.splits import PARTS, SPLITS, origin
from nngpt_ext.data.trials import USES
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.metrics import accuracy, first_wins
from nngpt_ext.export.publication import Exported, check_repo, exporting, push
from nngpt_ext.io import write_text
from nngpt_ext.run_folder import CARD
from nngpt_ext.views.faces import filled

ALL = "networks"  # the only part of the networks where they are in several parts of the pairs
MAIN, *EXTRA = LABELS.values()  # the main label has the columns' plain names, the others' end in _LABEL
OPTIONS = sorted({option for split in SPLITS.values() for option in split.options})
# What the command has options for, what changes no row, and the records, which the card names by their fingerprint.
_BY_OPTION = {"epoch", "split", "seed", "trials", "label", *OPTIONS, *SourceConfig.model_fields, "sources"}
_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6}


@dataclass(frozen=True)
class Part:
    """One part of the pairs; `priors` has the accuracy of the training pairs' pair prior in it, by label."""

    name: str
    pairs: int
    networks: int
    priors: dict[str, float]


def export_dataset(
    out: str | Path, config: DataConfig, *, repo: str | None = None, private: bool = False, force: bool = False
) -> tuple[Exported, dict[str, Any]]:
    """Write pairs, and the networks they are about, to a folder that `datasets.load_dataset` takes.

    Args:
        out: the folder to write.
        config: which pairs; all labels are written, whichever it names.
        repo: the repository to push it to (`owner/name`); None to push nothing.
        private: whether a new repository is private.
        force: replace what is in `out`, whatever it is.

    Returns:
        What was written, and how many pairs and networks each part has.

    Raises:
        UserError: as `load_pairs`, for an `out` that contains something else, and a hub that cannot be reached.
    """
    out = Path(out)
    check_repo(repo)
    made_of = config.model_dump(include={"epoch", "split", "seed", "trials", *OPTIONS})
    with exporting(out, "dataset", made_of, force=force) as folder:
        records = read_records(config)
        loaded = {label: load_pairs(config.model_copy(update={"label": label}), records) for label in LABELS}
        networks = _networks(loaded[MAIN.name])
        for part, rows in networks.groupby("split", sort=False):
            _parquet(rows.drop(columns="split"), folder / "networks" / f"{part}.parquet")
        groups = networks.set_index("nn")["near_duplicate_group"]
        parts = [_write_part(folder, name, loaded, groups) for name in PARTS]
        licence = _licence()
        if licence is not None:
            write_text(folder / "LICENSE", licence)
        card = _card(loaded[MAIN.name], config, parts, networks, licensed=licence is not None, name=repo or out.name)
        write_text(folder / CARD, card)
    counts = {part.name: {"pairs": part.pairs, "networks": part.networks} for part in parts}
    return Exported(out, push(out, repo, "dataset", private)), counts


def _networks(data: PairData) -> pd.DataFrame:
    """One row a network: its source, part, datasets and near-duplicates, in text order of the names."""
    names = sorted(data.pairs["nn"].unique())
    parts, trained_on = data.pairs.groupby("nn")["split"], datasets_of(data.pairs)
    near, tested = data.near_duplicates(), set(data.part("test")["nn"])
    return pd.DataFrame(
        {
            "nn": names,
            "nn_code": [data.sources[name] for name in names],
            "origin": [origin(name) for name in names],
            "datasets": [list(trained_on[name]) for name in names],
            "near_duplicate_group": clusters(signatures(data.sources, names)).astype("int64"),
            "near_duplicate_in_training": [name in near if name in tested else None for name in names],
            "split": parts.first().reindex(names).to_numpy() if (parts.nunique() == 1).all() else ALL,
        }
    ).astype({"near_duplicate_in_training": "boolean"})


def _write_part(folder: Path, name: str, loaded: Mapping[str, PairData], groups: pd.Series) -> Part:
    found = {label: data.training if name == "train" else data.part(name) for label, data in loaded.items()}
    pairs = found[MAIN.name].drop(columns="split")
    for label in EXTRA:  # made of the same trials, so the rows are the same and in the same order
        for column in ("better_dataset", "margin"):
            pairs[f"{column}_{label.name}"] = found[label.name][column].to_numpy()
    pairs["near_duplicate_group"] = pairs["nn"].map(groups).to_numpy()
    _parquet(pairs, folder / "pairs" / f"{name}.parquet")
    # Made of the training pairs of best trials, as in a run.
    priors = {
        label: accuracy(pair_prior(loaded[label].part("train"), rows, loaded[label].weights), first_wins(rows))
        for label, rows in found.items()
    }
    return Part(name, len(pairs), pairs["nn"].nunique(), priors)


def _parquet(frame: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    frame.reset_index(drop=True).to_parquet(file, index=False, compression="zstd")


def _licence() -> str | None:
    """The licence of the installed nn-dataset, which demands to be copied with the data."""
    try:
        found = metadata.distribution("nn-dataset")
    except metadata.PackageNotFoundError:
        return None
    return found.read_text("LICENSE") or found.read_text("licenses/LICENSE")


def _card(
    data: PairData, config: DataConfig, parts: list[Part], networks: pd.DataFrame, *, licensed: bool, name: str
) -> str:
    """The card as Markdown, with the metadata by which `datasets` finds the files."""
    files = {"pairs": [part.name for part in parts], "networks": networks["split"].unique().tolist()}
    configs: list[dict[str, Any]] = [
        {"config_name": table, "data_files": [{"split": part, "path": f"{table}/{part}.parquet"} for part in found]}
        for table, found in files.items()
    ]
    configs[0]["default"] = True
    rows = sum(part.pairs for part in parts)
    about = DatasetCardData(
        license=["mit", "bsd-3-clause"],
        language=["code", "en"],
        pretty_name="LEMUR dataset comparison",
        task_categories=["text-classification"],
        size_categories=[next((size for size, limit in _SIZES.items() if rows < limit), "1M<n<10M")],
        tags=["nngpt_ext", "dataset_compare", "lemur", "automl", "neural-architectures"],
        configs=configs,
    )
    given = config.model_dump(mode="json", include={*OPTIONS} - {"family_cap"}, exclude_defaults=True)
    more = config.model_dump(mode="json", exclude=_BY_OPTION, exclude_defaults=True)
    groups = networks.groupby("near_duplicate_group").size()
    return filled(
        "export/dataset_card.md.jinja",
        metadata=about.to_yaml(), name=name, config=config, split=SPLITS[config.split], split_options=given, more=more,
        parts=parts, main=MAIN, extra=EXTRA, networks_part="test" if "test" in files["networks"] else ALL,
        networks=len(networks), groups=len(groups), largest_group=int(groups.max()),
        near_share=float(networks["near_duplicate_in_training"].mean()), threshold=THRESHOLD, shingle=SHINGLE,
        permutations=PERMUTATIONS, trials=USES[config.trials], excluded=data.excluded, source=data.source,
        fingerprint=data.fingerprint, licensed=licensed,
    )  # fmt: skip
