"""What share of a training's time its first epochs take, by LEMUR's `duration` of the same trial at each epoch.

python benchmarks/durations.py --out benchmarks/results/durations.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.figures import publish
from nngpt_ext.data.sources.package import installed_folder

EPOCHS = (1, 2, 5)


def durations(folder: Path, epoch: int) -> dict[tuple[str, str], float]:
    """Seconds by folder of records and the trial's `uid`."""
    found = {}
    for file in folder.glob(f"img-classification_*/{epoch}.json"):
        for trial in json.loads(file.read_bytes()):
            if trial.get("uid") and trial.get("duration"):
                found[file.parent.name, trial["uid"]] = trial["duration"] / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    folder = installed_folder()
    if folder is None:
        raise SystemExit("nn-dataset is not installed")
    known = [durations(folder / "stat" / "train", epoch) for epoch in EPOCHS]
    both = sorted(set.intersection(*map(set, known)))
    seconds = np.array([[one[trial] for one in known] for trial in both])

    def quartiles(values: np.ndarray) -> list[float]:
        return [round(float(value), 4) for value in np.percentile(values, (25, 50, 75))]

    shares = {str(epoch): quartiles(seconds[:, i] / seconds[:, -1]) for i, epoch in enumerate(EPOCHS)}
    seconds_of = {str(epoch): quartiles(seconds[:, i]) for i, epoch in enumerate(EPOCHS)}
    publish({"trials": len(both), "share_of_epoch_5": shares, "seconds": seconds_of}, options.out)


if __name__ == "__main__":
    main()
