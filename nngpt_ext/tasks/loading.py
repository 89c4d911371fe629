"""Loading what runs are made of: LEMUR's records, pairs, baselines and the base model, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngpt_ext.config import ModelConfig
from nngpt_ext.data.load import PairData, Records, load_pairs, read_records
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import baseline_probabilities
from nngpt_ext.models.base import load_base

if TYPE_CHECKING:
    import numpy as np

    from nngpt_ext.models.base import Base

# What decides the pairs; the others say how they are shown and drawn in training.
_PAIRS = (
    "source", "path", "epoch", "label", "trials", "split", "hold_out", "seed", "train_networks",
    "validation_networks", "test_networks",
)  # fmt: skip


class Loader:
    """Gives one run, or several, what they need.

    Records and baselines are kept, of pairs and base models the last ones only: those are large.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str | None, int], Records] = {}
        self._baselines: dict[str, dict[str, np.ndarray]] = {}
        self._data: tuple[str, PairData] | None = None
        self._base: tuple[str, Base] | None = None

    def data(self, config: DataConfig) -> PairData:
        """The pairs of a configuration.

        Raises:
            UserError: as `load_pairs`.
        """
        key = _key(config)
        if self._data is None or self._data[0] != key:
            self._data = None  # the former ones go before the next come
            place = (config.source, config.path, config.epoch)
            if place not in self._records:
                self._records[place] = read_records(config)
            found = load_pairs(config, self._records[place])
            self._data = (key, found)
        return self._data[1]

    def baselines(self, config: DataConfig) -> dict[str, np.ndarray]:
        """What `baseline_probabilities` gives for the pairs of a configuration."""
        key = _key(config)
        if key not in self._baselines:
            self._baselines[key] = baseline_probabilities(self.data(config))
        return self._baselines[key]

    def base(self, config: ModelConfig) -> Base:
        """The base model of a configuration, as it was loaded: runs leave it so.

        Raises:
            UserError: as `load_base`.
        """
        key = config.model_dump_json(exclude={"lora"})
        if self._base is None or self._base[0] != key:
            self._base = None
            found = load_base(
                config.base, load_in_4bit=config.load_in_4bit, revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            )  # fmt: skip
            self._base = (key, found)
        return self._base[1]


def _key(config: DataConfig) -> str:
    return config.model_dump_json(include=set(_PAIRS))
