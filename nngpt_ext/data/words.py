"""The words that the data stages take; here, so that checking them loads nothing."""

from __future__ import annotations

LABELS = ("normalized", "percentile")
TRIALS = ("best", "random", "all")
SPLITS = ("by_network", "by_cluster", "by_origin", "random_pairs")
PARTS = ("train", "validation", "test")
