"""Our fine-tuner behind the arguments of the host's `main`: each is mapped, or ignored with a reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.reading import constant, parameters
from nngpt_ext.host.root import CONF
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.settings import find_project, read_project

if TYPE_CHECKING:
    from nngpt_ext.tasks.protocol import RunResult

log = logging.getLogger(__name__)

# The host's argument -> our key.
MAPPED = {
    "learning_rate": "tuning.learning_rate",
    "warmup_ratio": "tuning.warmup",
    "weight_decay": "tuning.weight_decay",
    "max_grad_norm": "tuning.max_grad_norm",
    "r": "model.lora.r",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "load_in_4bit": "model.load_in_4bit",
    "output_dir": "output_dir",
}
# Those that take more than a renaming; `mapped` does it.
JOINED = {
    "llm_conf": "model.base",
    "llm_tune_conf": "prompt",
    # The host's cycles are rounds of generating and training; without either there is one.
    "num_train_epochs": "tuning.epochs, times num_cycles or cycles",
    "num_cycles": "tuning.epochs, times num_train_epochs (3 where it is not given, as of the host's main)",
    "cycles": "tuning.epochs, times num_train_epochs (3 where it is not given); num_cycles goes before it",
    "per_device_train_batch_size": "tuning.examples_per_step, times gradient_accumulation_steps (8 if not given)",
    "gradient_accumulation_steps": "tuning.examples_per_step, times per_device_train_batch_size (1 if not given)",
    "classification_mode": "must be true: this task is one",
    "run_iterative_pipeline": "must be false: the iterative pipeline generates networks",
}
# What main takes where it is not told: so in 1.0.6 and in its head; an installed host's own signature goes before.
DEFAULTS = {"num_train_epochs": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
# Ignored as well, but whoever gives one of these expects something else to be trained: a warning.
TOLD = ("peft", "data_dir", "base_data_dir", "dataset", "nn_prefixes", "trans_mode", "use_backbone", "onnx_run",
        "enable_merge", "mobile_deployment")  # fmt: skip
_GENERATION = "answers are scored, not generated"
_CODE = "no network is generated or trained"
_ITERATIVE = "the iterative pipeline generates networks; this task does not"
_SELECTION = "the epoch is chosen by validation after each epoch"
IGNORED = {
    "nn_gen_conf": "training and measuring ask the same prompt, llm_tune_conf",
    "nn_gen_conf_id": "the prompt file holds one prompt",
    "data_dir": "the pairs are built from LEMUR, networks held out whole",
    "base_data_dir": "the pairs are built from LEMUR, networks held out whole",
    "max_prompts": "all training pairs are used; data.train_networks in nngpt.yaml limits them",
    "only_best_accuracy": "data.trials in nngpt.yaml says which trials",
    "dataset": "all datasets are compared",
    "nn_prefixes": "data.split in nngpt.yaml says which networks",
    "tune_layers": "LoRA is on all layers",
    "target_modules": "LoRA is on all linear layers but the output layer",
    "task_type": "a causal language model",
    "bias": "LoRA trains no biases",
    "lr_scheduler": "the rate falls by a cosine",
    "optimizer": "AdamW",
    "warmup_steps": "give warmup_ratio",
    "peft": "a run begins with a new adapter; an unfinished one goes on with resume",
    "context_length": "data.code_tokens in nngpt.yaml says how much source is shown",
    "max_input_length": "data.code_tokens in nngpt.yaml says how much source is shown",
    "use_deepspeed": "one device", "unsloth_opt": "unsloth replaces the masks that shared prefixes need",
    "onnx_run": "torch", "use_agents": "a run is no graph; see nngpt_ext.host.agents",
    "use_predictor": _CODE, "use_backbone": _CODE, "trans_mode": _CODE, "enable_merge": "adapters are not merged",
    "epoch_root": "the run is in output_dir", "save_llm_output": _GENERATION, "max_new_tokens": _GENERATION,
    "temperature": _GENERATION, "top_k": _GENERATION, "top_p": _GENERATION, "prompt_batch": _GENERATION,
    "test_nn": "all held-out pairs are scored", "skip_epoches": _SELECTION, "nn_name_prefix": _CODE,
    "nn_train_epochs": _CODE, "test_metric": _SELECTION, "evaluation_strategy": _SELECTION, "eval_steps": _SELECTION,
    "save_strategy": "each epoch is kept", "save_steps": "each epoch is kept", "save_total_limit": "each epoch is kept",
    "load_best_model_at_end": _SELECTION, "metric_for_best_model": _SELECTION, "per_device_eval_batch_size": _SELECTION,
    "logging_steps": "each epoch is logged", "logging_dir": "the run's report has the figures",
    "report_to": "the run's report has the figures",
    **dict.fromkeys(
        ("models_per_cycle", "samples_per_prompt", "accuracy_threshold", "min_selected_k", "fallback_threshold",
         "adaptive_threshold", "novelty_check", "resume_from_cycle", "max_retries", "use_optimized_training"),
        _ITERATIVE,
    ),
    **dict.fromkeys(
        ("mobile_deployment", "mobile_reval_only", "mobile_min_quantized_accuracy", "mobile_max_duration_ms",
         "mobile_score_tolerance", "mobile_min_valid_models", "mobile_delegate_priority"),
        "nothing is deployed",
    ),
}  # fmt: skip


class Mapped(NamedTuple):
    """The host's arguments in our words."""

    config: dict[str, Any]  # nested, for `run_task`
    ignored: dict[str, str]  # argument -> why


def tune_main(*, resume: bool = False, **host_arguments: Any) -> RunResult:
    """Fine-tune by the arguments of the host's `main`: `llm_conf=`, `llm_tune_conf=`, `learning_rate=`, …

    Conf files are paths, or names in `ab/gpt/conf` here, in `nngpt/` (where `host enable` writes) or among the
    host's own. What the arguments do not say comes from the nearest nngpt.yaml, if there is one, and from the base
    model's preset.

    Returns:
        The run's report, predictions and adapter.

    Raises:
        UserError: for an argument that the host does not have, a value of the wrong kind, `classification_mode=False`,
            `run_iterative_pipeline=True`, and a conf file that is missing or damaged.
    """
    from nngpt_ext.tasks.run import run_task

    found = map_arguments(host_arguments)
    for name, why in found.ignored.items():
        told = name in TOLD and bool(host_arguments[name])
        log.log(logging.WARNING if told else logging.INFO, "%s is ignored: %s", name, why)
    project = find_project()
    enabled: Mapping[str, Any] = read_project(project, "dataset_compare") if project is not None else {}
    return run_task("dataset_compare", enabled, resume=resume, **found.config)


def map_arguments(given: Mapping[str, Any]) -> Mapped:
    """Map the host's arguments; None counts as not given.

    Raises:
        UserError: as `tune_main`.
    """
    known = {*MAPPED, *JOINED, *IGNORED}
    for name in given:
        if name not in known:
            raise unknown("argument of the host's main", name, known)
    said = {name: value for name, value in given.items() if value is not None}
    if said.get("classification_mode") is False:
        raise UserError("classification_mode=False is not this task: nngpt_ext compares datasets; call the host's main")
    if said.get("run_iterative_pipeline"):
        raise UserError(
            "run_iterative_pipeline=True is not this task: it generates networks; call the host's main, or leave it out"
        )
    config: dict[str, Any] = {}
    for name, key in MAPPED.items():
        if name in said:
            _put(config, key, _KINDS.get(name, _number)(name, said[name]))
    cycles = next((_whole(name, said[name]) for name in ("num_cycles", "cycles") if name in said), None)
    if "num_train_epochs" in said or cycles is not None:
        _put(config, "tuning.epochs", _given("num_train_epochs", said) * (cycles or 1))
    batch = ("per_device_train_batch_size", "gradient_accumulation_steps")
    if any(name in said for name in batch):
        _put(config, "tuning.examples_per_step", math.prod(_given(name, said) for name in batch))
    if "llm_conf" in said:
        _put(config, "model.base", _base(str(said["llm_conf"])))
    if "llm_tune_conf" in said:
        config["prompt"] = str(conf_file(str(said["llm_tune_conf"]), Path("prompt") / "train"))
    return Mapped(config, {name: IGNORED[name] for name in said if name in IGNORED})


def _given(name: str, said: Mapping[str, Any]) -> int:
    """A number as it was given, or as the host's main has it."""
    if name in said:
        return _whole(name, said[name])
    host = _host()
    own = constant(host, "main", parameters(host, "main", "main").get(name)) if host is not None else None
    return own if isinstance(own, int) else DEFAULTS[name]


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    if number != int(number) or number < 1:
        raise UserError(f"{name}={value!r} is no whole number of 1 or more")
    return int(number)  # the host's command line reads alpha as a float


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(f"{name}={value!r} is no number")
    return value if isinstance(value, int) else float(value)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r} is neither True nor False")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise UserError(f"{name}={value!r} is no path")
    return str(value)


_KINDS = {"r": _whole, "lora_alpha": _whole, "load_in_4bit": _truth, "output_dir": _path}


def conf_file(name: str, part: Path) -> Path:
    """A conf file as the host would find it, or in the folder of `host enable`, or among the host's own.

    Raises:
        UserError: when it is nowhere.
    """
    places = [CONF / part, Path("nngpt") / CONF / part]
    host = _host()
    if host is not None:
        places.append(host.conf / part)
    for file in (Path(name), *(place / name for place in places)):
        if file.is_file():
            return file.resolve()
    raise UserError(f"no conf file '{name}' here or in {', '.join(str(place) for place in places)}")


def _base(name: str) -> str:
    from nngpt_ext.host.presets import read_preset

    file = conf_file(name, Path("llm"))
    base = str(read_preset(file)["base_model_name"])
    root = next((p for p in file.parents if p / CONF / "llm" == file.parent), None)
    if root is not None and (root / base).is_dir():
        base = str((root / base).resolve())
    return {preset.location: ours for ours, preset in PRESETS.items()}.get(base, base)


def _host() -> Host | None:
    try:
        return find_host()
    except UserError:
        return None


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for part in outer:
        config = config.setdefault(part, {})
    config[last] = value
