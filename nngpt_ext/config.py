"""The configuration of the task `dataset_compare`, as given and resolved (with every default decided)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_serializer, model_validator

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.declaration import choice
from nngpt_ext.models.presets import PRESETS, preset
from nngpt_ext.networks.sandbox import RUN_CODE
from nngpt_ext.run_folder import STORE
from nngpt_ext.settings import FileName, Stage, hide_password

Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


def _listed(value: Any) -> Any:
    """One name as a list of it; each name once, or it would write everything twice."""
    names = [value] if isinstance(value, str) else value
    return list(dict.fromkeys(names)) if isinstance(names, list) and all(isinstance(x, str) for x in names) else names


class LoraConfig(Stage):
    """Low-rank adapters (Hu et al. 2021) on all linear layers but the output layer."""

    r: int | None = Field(None, ge=1, description="rank; by default the base's preset")
    alpha: int | None = Field(None, ge=1, description="scale is alpha / r; by default the base's preset")
    dropout: float | None = Field(None, ge=0.0, lt=1.0, description="by default the base's preset")


class ModelConfig(Stage):
    """The base model."""

    base: FileName = Field(
        "deepseek-coder-7b",
        description=f"{', '.join(PRESETS)}, a hub id, folder or GGUF file",
    )
    load_in_4bit: bool = Field(True, description="NF4 with double quantisation")
    lora: LoraConfig = LoraConfig()
    revision: str | None = Field(None, description="of a hub id")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class TuningConfig(Stage):
    """Fine-tuning."""

    finetuner: str = Field("qlora", description="a registered fine-tuner")
    init_from: FileName | None = Field(
        None,
        description="begin with the adapter of this run or folder; base, prompt, head, rank and alpha must be the same",
    )
    epochs: int | None = Field(None, ge=1, description="by default the base's preset")
    learning_rate: float | None = Field(None, ge=0.0, description="by default the base's preset")
    networks_per_epoch: int | None = Field(None, ge=1, description="networks drawn for each epoch; default: preset")
    examples_per_step: int | None = Field(
        None, ge=1, description="about how many examples an optimiser step averages; by default the base's preset"
    )
    row_tokens: int | None = Field(
        None, ge=64, description="tokens of one forward pass; by default 2,048, on a CUDA device 8,192"
    )
    warmup: float = Field(0.05, ge=0.0, le=1.0, description="share of the steps in which the rate rises")
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    gradient_checkpointing: bool | None = Field(
        None, description="by default on a CUDA device whose memory might not suffice without"
    )
    engine: Literal["shared", "masked", "plain"] = Field(
        "shared", description="shared prefixes, the same behind one dense mask, or one example a row"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    test_every_epoch: bool = Field(True, description="score the test pairs after each epoch (the paper's curve)")
    head: Literal["answer", "lines"] = Field(
        "answer", description="name the better dataset (the paper's way), or score each dataset's line alone"
    )
    offset: Literal["none", "pair_prior", "kind_prior"] = Field(
        "none", description="with head lines: what is added to the log-odds, in training and in answers"
    )

    report_to: Annotated[list[Tracker], BeforeValidator(_listed)] = Field(
        [],
        description=f"{', '.join(get_args(Tracker))}: they follow training; "
        "they stay on this machine unless their own settings say more",
    )

    @model_validator(mode="after")
    def _check_offset(self) -> TuningConfig:
        if self.offset != "none" and self.head != "lines":
            raise ValueError(f"offset {self.offset} needs head lines (head is {self.head}): set tuning.head=lines")
        return self

    @property
    def orders(self) -> int:
        """Training examples of a pair: with the head `answer`, one for each order of the names."""
        return 1 if self.head == "lines" else 2


class CalibrationConfig(Stage):
    """Probabilities after fine-tuning."""

    target: float = Field(0.95, gt=0.5, le=1.0, description="accuracy on validation of the answers that do not abstain")


class NetworksConfig(Stage):
    """The networks' code."""

    run_code: Annotated[str, AfterValidator(RUN_CODE.check)] = choice(
        "sandbox", "how a structure is measured that neither the package nor the cache has", RUN_CODE
    )


class TaskConfig(Stage):
    """Configuration of the task `dataset_compare`."""

    data: DataConfig = DataConfig()
    networks: NetworksConfig = NetworksConfig()
    prompt: str = Field("code_only", description="a registered prompt, or the path of a prompt file")
    model: ModelConfig = ModelConfig()
    tuning: TuningConfig = TuningConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    output_dir: FileName = Field("runs/dataset_compare", description="the run's folder")
    store: str | None = Field(
        "default", description="predictions database (URL), null for none; default: predictions.db in output_dir"
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="folds run at the same time; by default one for each GPU, else for each core",
    )

    @field_serializer("store", when_used="json")
    def _without_password(self, store: str | None) -> str | None:
        """Files and reports show the database's URL without its password."""
        return None if store is None else hide_password(store)

    def resolved(self, folder: Path) -> ResolvedConfig:
        """The configuration for a run in `folder`, its unset values taken from the base model's preset."""
        content, defaults = self.model_dump(), asdict(preset(self.model.base))
        for group in (content["data"], content["model"]["lora"], content["tuning"]):
            group.update({key: defaults[key] for key in group.keys() & defaults.keys() if group[key] is None})
        content["output_dir"] = str(folder)
        if self.store == "default":
            content["store"] = f"sqlite:///{folder / STORE}"
        return ResolvedConfig.model_validate(content)


class ResolvedData(DataConfig):
    """`data`, every default decided."""

    code_tokens: int


class ResolvedLora(LoraConfig):
    """`model.lora`, every default decided."""

    r: int
    alpha: int
    dropout: float


class ResolvedModel(ModelConfig):
    """`model`, every default decided."""

    lora: ResolvedLora


class ResolvedTuning(TuningConfig):
    """`tuning`, every default decided; `networks_per_epoch` None stands for all networks.

    What suits the device stays undecided until the base model is loaded (`DecidedTuning`).
    """

    epochs: int
    learning_rate: float
    examples_per_step: int


class DecidedTuning(ResolvedTuning):
    """`tuning` for a loaded base model, on its device."""

    row_tokens: int
    gradient_checkpointing: bool


class ResolvedConfig(TaskConfig):
    """The configuration of a run as it travels through the stages and is written to config.yaml."""

    data: ResolvedData
    model: ResolvedModel
    tuning: ResolvedTuning

    def decided(self, on_cuda: bool = False, fits: Callable[[int], bool] = lambda tokens: True) -> DecidedConfig:
        """The configuration on a device; `fits` says whether its memory holds the activations of so many tokens."""
        content = self.model_dump()
        tuning = content["tuning"]
        if tuning["row_tokens"] is None:  # long rows repeat few prefixes, and fill a GPU
            tuning["row_tokens"] = 8192 if on_cuda else 2048
        if tuning["gradient_checkpointing"] is None:
            tuning["gradient_checkpointing"] = on_cuda and not fits(tuning["row_tokens"])
        return DecidedConfig.model_validate(content)


class DecidedConfig(ResolvedConfig):
    """The configuration of a run whose base model is loaded."""

    tuning: DecidedTuning
