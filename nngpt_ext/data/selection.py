"""Which records, pairs and split: the part of the configuration that the data stages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from nngpt_ext.data.evidence import EvidenceConfig
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.lineage import LEVELS
from nngpt_ext.data.sources.discovery import KINDS, SourceConfig
from nngpt_ext.data.splits import SPLITS, SplitOptions, check_options
from nngpt_ext.data.trials import USES
from nngpt_ext.declaration import choice


class DataConfig(SourceConfig):
    """Which records, pairs and split."""

    source: Annotated[str, AfterValidator(KINDS.check)] = choice("auto", "where records are read from", KINDS)
    sources: tuple[SourceConfig, ...] = Field(
        (), description="several sources instead of one, such as [lemur, {table: trials.csv, facts: datasets.yaml}]"
    )
    epoch: int = Field(5, ge=1, le=10**6, description="training epoch at which accuracies are compared")
    label: Annotated[str, AfterValidator(LABELS.check)] = choice("normalized", "what is compared", LABELS)
    trials: Annotated[str, AfterValidator(USES.check)] = choice("best", "trials that training pairs are made of", USES)
    test_trials: Literal["best", "random"] | None = Field(
        None,
        description="best or random: trials that validation and test pairs are made of; "
        "by default as trials, or best if trials is all",
    )
    evidence: EvidenceConfig = EvidenceConfig()
    split: Annotated[str, AfterValidator(SPLITS.check)] = choice("by_network", "who trains and who tests", SPLITS)
    hold_out: str | None = Field(None, description="by_origin: the origin that is the test set")
    fold: int | None = Field(
        None, ge=0, description="by_family, by_dataset: the fold that tests, from 0; by default all folds are run"
    )
    folds: int = Field(SplitOptions.folds, ge=2, le=100, description="by_family: how many folds there are")
    family_level: Annotated[str, AfterValidator(LEVELS.check)] = choice(
        SplitOptions.family_level, "by_family: what makes a family", LEVELS
    )
    family_cap: int = Field(
        SplitOptions.family_cap, ge=1, description="by_family: networks that a giant family weighs at most an epoch"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the split and of seeded trials")
    train_networks: int | None = Field(None, ge=1, description="use this many training networks; all by default")
    validation_networks: int | None = Field(None, ge=1, description="use this many validation networks")
    test_networks: int | None = Field(None, ge=1, description="use this many test networks, with all their pairs")
    pairs_per_network: int | None = Field(None, ge=1, description="training pairs a network and epoch at most")
    code_tokens: int | None = Field(None, ge=0, description="tokens of source shown; by default the base's preset")
    compact_code: bool = Field(True, description="take comments and docstrings out before the cut")

    @model_validator(mode="after")
    def _options_fit(self) -> DataConfig:
        check_options(self.split, self.options)
        single = [name for name, field in SourceConfig.model_fields.items() if getattr(self, name) != field.default]
        if self.sources and single:
            raise ValueError(f"give {', '.join(single)} of each source, in sources")
        if self.evidence.epochs and self.evidence.epochs[-1] >= self.epoch:
            raise ValueError(f"evidence.epochs are earlier than epoch {self.epoch}, not {self.evidence.epochs[-1]}")
        if self.evidence.epochs and SPLITS[self.split].by_datasets:
            raise ValueError(
                f"evidence.epochs do not go with split {self.split}: early accuracies are divided by the best of "
                "training, which a dataset that is held out does not have"
            )
        return self

    @property
    def places(self) -> Sequence[SourceConfig]:
        """Where records are read from."""
        return self.sources or [SourceConfig(**self.model_dump(include=set(SourceConfig.model_fields)))]

    @property
    def options(self) -> SplitOptions:
        """What the split takes besides the seed."""
        return SplitOptions(**{field.name: getattr(self, field.name) for field in fields(SplitOptions)})

    @property
    def tested_trials(self) -> str:
        """The trials that validation and test pairs are made of, and the priors."""
        return self.test_trials or ("random" if self.trials == "random" else "best")

    @property
    def all_folds(self) -> bool:
        """Whether it stands for all folds of a split with folds, because none is chosen."""
        return "fold" in SPLITS[self.split].options and self.fold is None

    def networks(self, part: str) -> int | None:
        """How many networks of a part to use; None for all of them."""
        limit: int | None = getattr(self, f"{part}_networks")
        return limit
