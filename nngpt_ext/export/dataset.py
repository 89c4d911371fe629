"""The pairs of an epoch as a dataset: Parquet with fixed parts, the networks' sources, and a card."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.families import clusters, signatures
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.load import PairData, load_pairs, read_records
from nngpt_ext.data.pairs import datasets_of
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import PARTS, origin
from nngpt_ext.export.dataset_card import Figures, Part, dataset_card
from nngpt_ext.export.hub import Exported
from nngpt_ext.export.push import check_repo, push
from nngpt_ext.export.target import check_target, exporting
from nngpt_ext.io import write_text
from nngpt_ext.run_folder import CARD

if TYPE_CHECKING:
    import pandas as pd

ALL = "networks"  # the one part of the networks where they are in several parts of the pairs
PERCENTILE = {"better_dataset": "better_dataset_percentile", "margin": "margin_percentile"}
_KEYS = ["nn", "dataset_1", "dataset_2"]


def export_dataset(
    out: str | Path,
    config: DataConfig,
    *,
    repo: str | None = None,
    private: bool = False,
    force: bool = False,
) -> tuple[Exported, dict[str, Any]]:
    """Write pairs, and the networks they are about, to a folder that `datasets.load_dataset` takes.

    Args:
        out: the folder to write.
        config: which pairs; the labels are all there, whatever it says.
        repo: push it there (`owner/name`); None for no push.
        private: whether a new repository is.
        force: replace what is in `out`, whatever it is.

    Returns:
        What was written, and how many pairs and networks each part has.

    Raises:
        UserError: as `load_pairs`, for a folder that holds something else, and a hub that cannot be reached.
    """
    if repo is not None:
        check_repo(repo)
    out = Path(out)
    made_of = config.model_dump(include={"epoch", "split", "hold_out", "seed", "trials"})
    check_target(out, "dataset", force=force)
    records = read_records(config)
    data, other = (load_pairs(config.model_copy(update={"label": label}), records) for label in LABELS)
    with exporting(out, "dataset", made_of, force=force) as folder:
        figures = _write(folder, data, other, {**made_of, "fingerprint": data.fingerprint})
        licensed = _licence(folder)
        write_text(folder / CARD, dataset_card(figures, licensed, repo or out.name))
    counts = {part.name: {"pairs": part.pairs, "networks": part.networks} for part in figures.parts}
    return Exported(out, None if repo is None else push(out, repo, "dataset", private=private)), counts


def _write(folder: Path, data: PairData, other: PairData, made_of: dict[str, Any]) -> Figures:
    networks = _networks(data)
    groups = networks.set_index("nn")["near_duplicate_group"]
    parts = []
    for name in PARTS:
        pairs, again = (found.training if name == "train" else found.part(name) for found in (data, other))
        if not pairs[_KEYS].equals(again[_KEYS]):
            raise RuntimeError("the two labels are of other pairs")  # they come from the same trials, in one order
        pairs = pairs.drop(columns="split").assign(
            **{column: again[known].to_numpy() for known, column in PERCENTILE.items()},
            near_duplicate_group=pairs["nn"].map(groups).to_numpy(),
        )
        _parquet(pairs, folder / "pairs" / f"{name}.parquet")
        parts.append(Part(name, len(pairs), pairs["nn"].nunique(), _prior(data, pairs), _prior(other, again)))
    for label, rows in networks.groupby("split", sort=False):
        _parquet(rows.drop(columns="split"), folder / "networks" / f"{label}.parquet")
    near = networks.loc[networks["near_duplicate_in_training"].eq(True), "nn"]
    sizes = networks.groupby("near_duplicate_group").size()
    return Figures(
        made_of=made_of, parts=parts, network_parts=[str(name) for name in networks["split"].unique()],
        networks=len(networks), groups=len(sizes), largest_group=int(sizes.max()), test_with_near_duplicate=len(near),
        excluded=data.excluded, source=data.source,
    )  # fmt: skip


def _networks(data: PairData) -> pd.DataFrame:
    """A row a network: its source, part, datasets and near-duplicates, in text order of the names."""
    import pandas as pd

    names = sorted(data.sources)
    parts = data.pairs.groupby("nn")["split"].agg(lambda found: found.iloc[0] if found.nunique() == 1 else ALL)
    near, tested = data.near_duplicates(), set(data.part("test")["nn"])
    there = datasets_of(data.pairs)
    frame = pd.DataFrame(
        {
            "nn": names,
            "nn_code": [data.sources[name] for name in names],
            "origin": [origin(name) for name in names],
            "datasets": [list(there[name]) for name in names],
            "near_duplicate_group": clusters(signatures(data.sources, names)).astype("int64"),
            "near_duplicate_in_training": [name in near if name in tested else None for name in names],
            "split": parts.reindex(names).to_numpy(),
        }
    )
    frame["near_duplicate_in_training"] = frame["near_duplicate_in_training"].astype("boolean")
    if (frame["split"] == ALL).any():
        frame["split"] = ALL
    return frame


def _prior(data: PairData, pairs: pd.DataFrame) -> float:
    """How often the pair prior of the training pairs of best trials is right in these."""
    from nngpt_ext.evaluation.baselines import pair_prior

    first = (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()
    return float(((pair_prior(data.part("train"), pairs) >= 0.5) == first).mean())


def _parquet(frame: pd.DataFrame, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    frame.reset_index(drop=True).to_parquet(file, index=False, compression="zstd")


def _licence(folder: Path) -> bool:
    """Put the licence of the installed nn-dataset beside its records, as it asks for; whether there was one."""
    try:
        files = metadata.distribution("nn-dataset").files or []
    except metadata.PackageNotFoundError:
        return False
    for file in files:
        if file.name == "LICENSE" and ".dist-info" in str(file):
            shutil.copyfile(Path(str(file.locate())), folder / "LICENSE")
            return True
    return False
