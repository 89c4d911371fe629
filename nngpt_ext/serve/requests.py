"""What a server is asked and what it says besides the answers of a predictor: types of its JSON."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from nngpt_ext.networks.source import LIMIT

MOST_DATASETS, MOST_NETWORKS, MOST_ROWS, MOST_KEYS = 64, 1_000, 10_000, 100  # of one request
LONGEST = 200  # characters of a dataset's name
_CODE = "class Net(nn.Module): …"
_EXPLAIN = "whether the answer has an `explanation`: the prior, what it rests on, and warnings"
_RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}


def _short(dataset: Any) -> Any:
    if isinstance(dataset, str) and len(dataset) > LONGEST:
        raise ValueError(f"a dataset's name has at most {LONGEST} characters, not {len(dataset):,}")
    return dataset


def _few(datasets: Any) -> Any:
    if isinstance(datasets, list):
        if len(datasets) > MOST_DATASETS:
            raise ValueError(f"at most {MOST_DATASETS} datasets are ranked at once, not {len(datasets):,}")
        for one in datasets:
            _short(one)
    return datasets


def _schema(kind: Any) -> WithJsonSchema:
    """What the schema says of a value that the predictor checks: in the words that its users know."""
    return WithJsonSchema(TypeAdapter(kind).json_schema())


_Name = Annotated[str, Field(min_length=1, max_length=LONGEST)]
_Names = Annotated[list[_Name], Field(min_length=2, max_length=MOST_DATASETS)]
Dataset = Annotated[Any, AfterValidator(_short), _schema(_Name)]
Datasets = Annotated[Any, AfterValidator(_few), _schema(_Names | None)]
Recipe = Annotated[Any, _schema(dict[str, Any] | None)]
Accuracies = Annotated[Any, _schema(dict[str, float] | None)]
Structure = Annotated[Any, _schema(str | dict[str, Any] | list[Any] | None)]
Evidence = Annotated[Any, _schema(dict[str, dict[str, float]] | None)]


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

    dataset_1: Dataset = Field(examples=["mnist"])
    dataset_2: Dataset = Field(examples=["svhn"])
    adapter: str | None = Field(None, description="which one answers, if the server has several")
    explain: bool = Field(False, description=_EXPLAIN)


class RankRequest(Network):
    """A network and the datasets to rank."""

    datasets: Datasets = Field(None, description="two or more; by default those of the training")
    adapter: str | None = Field(None, description="which one answers, if the server has several")
    explain: bool = Field(False, description=_EXPLAIN)


class ScoreRequest(_Asked):
    """Networks for each of which datasets are ranked."""

    networks: list[Network] = Field(min_length=1, max_length=MOST_NETWORKS)
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


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what was given, what is allowed, what to do")
