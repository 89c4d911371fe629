"""Write examples/own_records: LEMUR's records of 120 networks as a user's own, two datasets under other names.

python research/own_records.py        # writes trials.csv and datasets.yaml there
"""

from __future__ import annotations

from pathlib import Path

import yaml

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.sources.discovery import open_source

FOLDER = Path(__file__).parents[1] / "examples" / "own_records"
NAMES = {"celeba-gender": "portraits", "cifar-10": "cifar-10", "mnist": "mnist", "svhn": "house-numbers"}
NETWORKS, LONGEST = 120, 4_000  # characters of a source


def main() -> None:
    source = open_source("package")
    frame = read_trials(source, 5).frame
    frame = frame[frame["dataset"].isin(NAMES)]
    frame = frame.drop_duplicates(["nn", "dataset"])  # the best trial comes first
    several = frame.groupby("nn")["dataset"].nunique()
    codes = source.sources(sorted(several[several >= 3].index))
    short = [nn for nn, code in codes.items() if len(code) <= LONGEST]
    chosen = {short[i * len(short) // NETWORKS]: f"net_{i:03}" for i in range(NETWORKS)}
    own = frame[frame["nn"].isin(chosen)]
    own = own.assign(nn=own["nn"].map(chosen), dataset=own["dataset"].map(NAMES))
    own["accuracy"] = (100 * own["accuracy"]).round(3)
    own = own.round(6).sort_values(["nn", "dataset"], ignore_index=True)
    first = ~own["nn"].duplicated()  # the source is needed once
    own["nn_code"] = own["nn"].map({name: codes[nn] for nn, name in chosen.items()}).where(first)
    FOLDER.mkdir(exist_ok=True)
    names = {"nn": "model", "accuracy": "val_acc", "lr": "learning_rate"}
    own.rename(columns=names).to_csv(FOLDER / "trials.csv", index=False)
    facts = {NAMES[name]: LEMUR_FACTS[name].by_name() for name in ("celeba-gender", "cifar-10", "mnist", "svhn")}
    text = yaml.safe_dump(facts, sort_keys=False, default_flow_style=None, width=200)
    (FOLDER / "datasets.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
