"""What a server is asked and what it says besides the answers of a predictor: types of its JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from nngpt_ext.networks.source import LIMIT

MOST_DATASETS, MOST_NETWORKS, MOST_ROWS, MOST_KEYS = 64, 1_000, 10_000, 100  # of one request
LONGEST = 200  # characters of a dataset's name
MOST_GIVEN = 10_000  # values of one recipe, structure or evidence: 150 for each of the most datasets
TOO_LONG = f"a network's source may have {LIMIT:,} characters"
_CODE = """\
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, in_shape, out_shape, prm, device):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(out_shape[0]))

    def forward(self, x):
        return self.layers(x)
"""
_EXPLAIN = "whether the answer has an `explanation`: what it rests on, warnings and, of two datasets, the prior"
_RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


def _short(dataset: Any) -> Any:
    if isinstance(dataset, str) and len(dataset) > LONGEST:
        raise ValueError(f"a dataset's name has at most {LONGEST} characters, not {len(dataset):,}")
    return dataset


def _few(datasets: Any) -> Any:
    if isinstance(datasets, (list, dict)):
        if len(datasets) > MOST_DATASETS:
            raise ValueError(f"at most {MOST_DATASETS} datasets are ranked at once, not {len(datasets):,}")
        for one in datasets:
            _short(one)
    return datasets


def _small(given: Any) -> Any:
    """Refuse what has far too many values: each pair of datasets looks through them again."""
    number, waiting = 0, [given]
    while waiting:
        one = waiting.pop()
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        number += len(inner)
        if number > MOST_GIVEN:
            raise ValueError(f"has more than {MOST_GIVEN:,} values")
        waiting.extend(inner)
    return given


def _few_networks(networks: Any) -> Any:
    """Refuse too many before each is looked at."""
    if isinstance(networks, list) and len(networks) > MOST_NETWORKS:
        raise ValueError(f"at most {MOST_NETWORKS:,} networks are scored at once, not {len(networks):,}")
    return networks


def _schema(kind: Any) -> WithJsonSchema:
    """What the schema says of a value that the predictor checks: in the words that its users know."""
    return WithJsonSchema(TypeAdapter(kind).json_schema())


_Name = Annotated[str, Field(min_length=1, max_length=LONGEST)]
_Names = Annotated[list[_Name], Field(min_length=2, max_length=MOST_DATASETS)]
Dataset = Annotated[Any, AfterValidator(_short), _schema(_Name)]
Datasets = Annotated[Any, AfterValidator(_few), _schema(_Names | None)]
Recipe = Annotated[Any, AfterValidator(_small), _schema(dict[str, Any] | None)]
Accuracies = Annotated[Any, AfterValidator(_small), _schema(dict[str, float] | None)]
Structure = Annotated[Any, AfterValidator(_small), _schema(str | dict[str, Any] | list[Any] | None)]
Evidence = Annotated[Any, AfterValidator(_small), _schema(dict[str, dict[str, float]] | None)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, data: Any) -> Any:
        """Refuse what has far too many keys as a whole: an error for each would take minutes."""
        if isinstance(data, dict) and len(data) > MOST_KEYS:
            raise ValueError(f"has {len(data):,} keys; known: {', '.join(cls.model_fields)}")
        return data


class Network(_Asked):
    """A network, and what a prompt may need about it, as in `nngpt_ext.Query`."""

    nn_code: str = Field(max_length=LIMIT, description="the network's source", examples=[_CODE])
    nn: Annotated[str, Field(max_length=500)] | None = Field(None, description="the network's name in the store")
    recipe: Recipe = Field(None, description="one, or one for each dataset", examples=[_RECIPE])
    accuracies: Accuracies = Field(None, description="by dataset, normalised", examples=[{"mnist": 0.9}])
    structure: Structure = Field(None, description="numbers by dataset, or `measure`")
    evidence: Evidence = Field(None, description="accuracies by dataset and epoch")

    def given(self) -> dict[str, Any]:
        """What is given beside the source, as arguments of a `Query`."""
        return {name: getattr(self, name) for name in ("nn", "recipe", "accuracies", "structure", "evidence")}


class CompareRequest(Network):
    """A network and two datasets."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"nn_code": _CODE, "dataset_1": "mnist", "dataset_2": "svhn"}]}
    )

    dataset_1: Dataset = Field(examples=["mnist"])
    dataset_2: Dataset = Field(examples=["svhn"])
    adapter: str | None = Field(None, description="which one answers, if the server has several")
    explain: bool = Field(False, description=_EXPLAIN)


class RankRequest(Network):
    """A network and the datasets to rank."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"nn_code": _CODE, "datasets": ["mnist", "svhn", "cifar-10"]}]}
    )

    datasets: Datasets = Field(None, description="two or more; by default those of the training")
    adapter: str | None = Field(None, description="which one answers, if the server has several")
    explain: bool = Field(False, description=_EXPLAIN)


_Networks = Annotated[list[Network], Field(min_length=1, max_length=MOST_NETWORKS)]


class ScoreRequest(_Asked):
    """Networks for each of which datasets are ranked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"networks": [{"nn_code": _CODE, "nn": "Net"}], "datasets": ["mnist", "svhn", "cifar-10"]}]
        }
    )
    networks: Annotated[_Networks, BeforeValidator(_few_networks)]
    datasets: Datasets = Field(None, description="two or more; by default those of the training")
    recipe: Recipe = Field(None, description="of the networks without their own")
    adapter: str | None = Field(None, description="which one answers, if the server has several")


class Served(BaseModel):
    """An adapter of the server."""

    name: str
    model: str = Field(description="base model and the first digits of the adapter's hash")
    prompt: str
    datasets: list[str] = Field(description="those of the training; answers about others abstain")
    needs: list[str] = Field(description="what a question must give beside source and datasets")
    threshold: float | None = Field(description="the confidence below which it abstains; null: it always does")
    tested: dict[str, Any] | None = Field(description="of the run's report: split, accuracy, skill, and both priors")


class Prediction(BaseModel):
    """An answer in the server's store, or a prediction of a run that was written there."""

    question: str = Field(description="hash of what was asked")
    nn: str = Field(description="the network's name")
    source: str = Field(description="sha256 of its source")
    epoch: int | None = Field(description="of the accuracies that the adapter learned")
    dataset_1: str
    dataset_2: str
    given_1: str = Field(description="what the prompt showed of the first dataset beside its name")
    given_2: str
    log_odds: float = Field(description="of `dataset_1`, uncalibrated")
    probability_1: float = Field(description="P(`dataset_1` is the better one), uncalibrated")
    calibrated_1: float | None = Field(description="the probability to use; null: the adapter has no calibration")
    flipped: bool = Field(description="whether the two orders of the names gave different winners")
    abstain: bool = Field(description="whether the answer is to be treated as open")
    cut: bool | None = Field(description="whether only the source's beginning was read; null: unknown")
    source_tokens: int | None
    predicted: str = Field(description="the better dataset, as answered")
    better_dataset: str | None = Field(description="as measured, of a run's test")
    prompt: str
    prompt_hash: str
    adapter: str = Field(description="the adapter's hash")
    calibration: str = Field(description="the calibration's hash")
    base_model: str
    tuning_epoch: int | None
    split: str | None
    created: datetime


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what was given, what is allowed, what to do")
