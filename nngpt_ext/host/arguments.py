"""The arguments of NNGPT's `main` and our configuration keys, mapped in both directions."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.host.conversion import base_of, find_conf
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.settings import find_project, read_project

if TYPE_CHECKING:
    from nngpt_ext.tasks.protocol import RunResult

log = logging.getLogger(__name__)

# NNGPT's argument -> our key, with the same meaning and unit.
MAPPED = {
    "learning_rate": "tuning.learning_rate",
    "warmup_ratio": "tuning.warmup",
    "weight_decay": "tuning.weight_decay",
    "max_grad_norm": "tuning.max_grad_norm",
    "r": "model.lora.r",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "load_in_4bit": "model.load_in_4bit",
}
# Arguments that `map_arguments` converts, several of them together.
JOINED = (
    "llm_conf", "llm_tune_conf", "output_dir", "num_train_epochs", "num_cycles", "cycles",
    "per_device_train_batch_size", "gradient_accumulation_steps", "classification_mode", "run_iterative_pipeline",
)  # fmt: skip
# The defaults of main in 1.0.6 and in its head, used where no NNGPT is installed whose signature says otherwise.
DEFAULTS = {"num_train_epochs": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
# The other arguments are ignored: reason -> names.
_REASONS: dict[str, tuple[str, ...]] = {
    "training and measuring use the same prompt, llm_tune_conf": ("nn_gen_conf",),
    "the prompt file holds one prompt": ("nn_gen_conf_id",),
    "the pairs are built from LEMUR, with whole networks held out": ("data_dir", "base_data_dir"),
    "all training pairs are used; data.train_networks in nngpt.yaml limits them": ("max_prompts",),
    "data.trials in nngpt.yaml chooses the trials": ("only_best_accuracy",),
    "all datasets are compared": ("dataset",),
    "data.split in nngpt.yaml chooses the networks": ("nn_prefixes",),
    "LoRA is on all linear layers of all blocks": ("tune_layers", "target_modules"),
    "LoRA is trained for a causal language model, without biases": ("task_type", "bias"),
    "the learning rate falls by a cosine": ("lr_scheduler",),
    "the optimiser is AdamW": ("optimizer",),
    "use warmup_ratio": ("warmup_steps",),
    "a run begins with a new adapter; an unfinished one continues with resume": ("peft",),
    "data.code_tokens in nngpt.yaml limits the source": ("context_length", "max_input_length"),
    "training uses one device and torch": ("use_deepspeed", "onnx_run"),
    "unsloth replaces the masks that shared prefixes need": ("unsloth_opt",),
    "a run is not a graph; see nngpt_ext.host.agents": ("use_agents",),
    "adapters are not merged": ("enable_merge",),
    "the run is in output_dir": ("epoch_root",),
    "answers are scored, not generated": (
        "save_llm_output", "max_new_tokens", "temperature", "top_k", "top_p", "prompt_batch",
    ),
    "no network is generated or trained": (
        "use_predictor", "use_backbone", "trans_mode", "nn_name_prefix", "nn_train_epochs",
    ),
    "all held-out pairs are scored": ("test_nn",),
    "the epoch is chosen by validation after each epoch": (
        "skip_epoches", "test_metric", "evaluation_strategy", "eval_steps", "load_best_model_at_end",
        "metric_for_best_model", "per_device_eval_batch_size",
    ),
    "each epoch is saved": ("save_strategy", "save_steps", "save_total_limit"),
    "each epoch is logged, and the figures are in the run's report": ("logging_steps", "logging_dir", "report_to"),
    "this task does not run the iterative pipeline": (
        "models_per_cycle", "samples_per_prompt", "accuracy_threshold", "min_selected_k", "fallback_threshold",
        "adaptive_threshold", "novelty_check", "resume_from_cycle", "max_retries", "use_optimized_training",
    ),
    "nothing is deployed": (
        "mobile_deployment", "mobile_reval_only", "mobile_min_quantized_accuracy", "mobile_max_duration_ms",
        "mobile_score_tolerance", "mobile_min_valid_models", "mobile_delegate_priority",
    ),
}  # fmt: skip
IGNORED = {name: reason for reason, names in _REASONS.items() for name in names}
# A warning is logged for these: whoever gives one expects something else to be trained.
WARNED = (
    "peft", "data_dir", "base_data_dir", "dataset", "nn_prefixes", "trans_mode", "use_backbone", "onnx_run",
    "enable_merge", "mobile_deployment",
)  # fmt: skip


def tune_main(*, resume: bool = False, **host_arguments: Any) -> RunResult:
    """Fine-tune by the arguments of NNGPT's `main`: `llm_conf=`, `llm_tune_conf=`, `learning_rate=`, …

    Configuration files are paths, or names in `ab/gpt/conf` here, in `nngpt/` (where `host enable` writes) or among
    NNGPT's own. What the arguments do not say comes from the nearest nngpt.yaml, if there is one, and from the base
    model's preset.

    Raises:
        UserError: for an argument that NNGPT does not have, an invalid value, `classification_mode=False`,
            `run_iterative_pipeline=True`, and a configuration file that is missing or damaged.
    """
    from nngpt_ext.tasks.run import run_task

    config, ignored = map_arguments(host_arguments)
    for name, reason in ignored.items():
        level = logging.WARNING if name in WARNED and host_arguments[name] else logging.INFO
        log.log(level, "%s is ignored: %s", name, reason)
    project = find_project()
    enabled: Mapping[str, Any] = read_project(project, "dataset_compare") if project is not None else {}
    return run_task("dataset_compare", enabled, resume=resume, **config)


def map_arguments(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Map arguments of NNGPT's main to our configuration; None counts as not given.

    `num_train_epochs` and `num_cycles` (or `cycles`) are multiplied, as are the batch size and the accumulation steps;
    where only one of them is given, the other has NNGPT's default, except that one cycle is assumed: its cycles are
    rounds of generating networks.

    Returns:
        The configuration, nested as for `run_task`, and the ignored arguments with the reason.
    """
    known = {*MAPPED, *JOINED, *IGNORED}
    for name in given:
        if name not in known:
            raise unknown("argument of NNGPT's main", name, known)
    values = {name: value for name, value in given.items() if value is not None}
    if values.get("classification_mode") is False:
        raise UserError("classification_mode=False is another task: this one compares datasets; call NNGPT's main")
    if values.get("run_iterative_pipeline"):
        raise UserError("run_iterative_pipeline=True is another task: it generates networks; call NNGPT's main")
    config: dict[str, Any] = {}
    for name, key in MAPPED.items():
        if name in values:
            _put(config, key, values[name])
    if "output_dir" in values:
        _put(config, "output_dir", str(values["output_dir"]))
    cycles = next((name for name in ("num_cycles", "cycles") if name in values), None)
    if "num_train_epochs" in values or cycles:
        rounds = _whole(cycles, values[cycles]) if cycles else 1
        _put(config, "tuning.epochs", _number("num_train_epochs", values) * rounds)
    batch = ("per_device_train_batch_size", "gradient_accumulation_steps")
    if any(name in values for name in batch):
        _put(config, "tuning.examples_per_step", math.prod(_number(name, values) for name in batch))
    if "llm_conf" in values:
        _put(config, "model.base", base_of(_conf(values["llm_conf"], "llm")))
    if "llm_tune_conf" in values:
        _put(config, "prompt", str(_conf(values["llm_tune_conf"], "prompt/train")))
    return config, {name: IGNORED[name] for name in values if name in IGNORED}


def main_arguments(host: Host, config: TaskConfig) -> dict[str, Any]:
    """The arguments of NNGPT's main for a resolved configuration, without paths and numbers of rows."""
    call: dict[str, Any] = {
        name: functools.reduce(getattr, key.split("."), config) for name, key in MAPPED.items()
    } | {
        "num_train_epochs": 1, "classification_mode": True, "use_agents": False, "only_best_accuracy": True,
        "max_new_tokens": 64, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": config.tuning.examples_per_step,
    }  # fmt: skip
    later = ("llm_conf", "llm_tune_conf", "nn_gen_conf", "nn_gen_conf_id", "data_dir", "max_prompts", "skip_epoches")
    host.require("main", "main", (*call, *later))
    host.require("tune", "tune", ("num_cycles",))
    return call


def _number(name: str, values: Mapping[str, Any]) -> int:
    """A number as it was given, or the default of NNGPT's main."""
    if name in values:
        return _whole(name, values[name])
    host = _host()
    default = host.parameters("main", "main").get(name) if host is not None else None
    return default if isinstance(default, int) else DEFAULTS[name]


def _whole(name: str, value: Any) -> int:
    try:
        if float(value) == int(value) >= 1:
            return int(value)  # NNGPT's command line reads some whole numbers as floats
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{name}={value!r} is not a whole number of 1 or more")


def _conf(name: Any, part: str) -> Path:
    host = _host()
    return find_conf(str(name), part, [CONF, "nngpt" / CONF, *([host.conf] if host is not None else [])])


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
