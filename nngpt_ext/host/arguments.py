"""The arguments of NNGPT's `main` and our configuration keys, mapped in both directions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, nearest, shown, unknown
from nngpt_ext.host.conversion import base_of, find_conf
from nngpt_ext.host.installation import CONF, Host, installed_host
from nngpt_ext.settings import Stage, build_config, find_project, read_project

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report
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
    "skip_lm_finetune",
)  # fmt: skip
# The other arguments are ignored: reason -> names.
_REASONS: dict[str, tuple[str, ...]] = {
    "training and measuring use the same prompt, llm_tune_conf": ("nn_gen_conf",),
    "the prompt file contains one prompt": ("nn_gen_conf_id",),
    "the pairs are built from LEMUR, with whole networks held out": ("data_dir", "base_data_dir"),
    "all datasets are compared; data in nngpt.yaml chooses networks, trials and how many of them": (
        "dataset", "nn_prefixes", "max_prompts", "only_best_accuracy",
    ),
    "LoRA is on all linear layers of all blocks, for a causal language model, without biases": (
        "tune_layers", "target_modules", "task_type", "bias",
    ),
    "the optimiser is AdamW, and the learning rate falls by a cosine": ("optimizer", "lr_scheduler"),
    "use warmup_ratio": ("warmup_steps",),
    "a run begins with a new adapter; an unfinished one continues with resume": ("peft",),
    "data.code_tokens in nngpt.yaml limits the source": ("context_length", "max_input_length"),
    "training uses one device, torch, and masks that unsloth would replace": (
        "use_deepspeed", "onnx_run", "unsloth_opt",
    ),
    "a run is not a graph; see nngpt_ext.host.agents": ("use_agents",),
    "the run is in output_dir": ("epoch_root",),
    "answers are scored, not generated": (
        "save_llm_output", "max_new_tokens", "temperature", "top_k", "top_p", "prompt_batch", "suppress_thinking",
        "budget_tokens",
    ),
    "each epoch is logged, saved and validated, the best one is selected, and all held-out pairs are scored": (
        "skip_epoches", "test_nn", "test_metric", "evaluation_strategy", "eval_steps", "load_best_model_at_end",
        "metric_for_best_model", "per_device_eval_batch_size", "save_strategy", "save_steps", "save_total_limit",
        "logging_steps", "logging_dir", "report_to",
    ),
    "no network is generated or trained": (
        "use_predictor", "use_backbone", "trans_mode", "nn_name_prefix", "nn_train_epochs", "models_per_cycle",
        "samples_per_prompt", "accuracy_threshold", "min_selected_k", "fallback_threshold", "adaptive_threshold",
        "novelty_check", "resume_from_cycle", "max_retries", "use_optimized_training", "llmatic",
        "llmatic_crossover_every",
    ),
    "adapters are neither merged nor deployed": (
        "enable_merge", "mobile_deployment", "mobile_reval_only", "mobile_min_quantized_accuracy",
        "mobile_max_duration_ms", "mobile_score_tolerance", "mobile_min_valid_models", "mobile_delegate_priority",
    ),
}  # fmt: skip
_LATER = "this package does not know it; the installed NNGPT's main has it"
_ANY = "this package does not know it{}; the installed NNGPT's main accepts any name"
IGNORED = {name: reason for reason, names in _REASONS.items() for name in names}
# Argument, the value that asks for another task, and what that task is.
_OTHER_TASKS = (
    ("classification_mode", False, "this one compares datasets"),
    ("run_iterative_pipeline", True, "it generates networks"),
    ("skip_lm_finetune", True, "nothing is fine-tuned in it"),
)
# A warning is logged for these: whoever gives one expects something else to be trained.
WARNED = (
    "peft", "data_dir", "base_data_dir", "dataset", "nn_prefixes", "trans_mode", "use_backbone", "onnx_run",
    "enable_merge", "mobile_deployment",
)  # fmt: skip


def tune_main(*, resume: bool = False, **host_arguments: Any) -> RunResult[Report]:
    """Fine-tune by the arguments of NNGPT's `main`: `llm_conf=`, `llm_tune_conf=`, `learning_rate=`, …

    Configuration files are paths, or names in `ab/gpt/conf` here, in `nngpt/` (where `host enable` writes) or among
    NNGPT's own. Settings that the arguments do not give come from the nearest nngpt.yaml, if there is one, and from
    the base model's preset.

    Raises:
        UserError: for an argument that NNGPT does not have, an invalid value, `classification_mode=False`,
            `run_iterative_pipeline=True`, `skip_lm_finetune=True`, and a configuration file that is missing or damaged.
    """
    from nngpt_ext.tasks.run import run_task

    config, ignored = map_arguments(host_arguments)
    for name, reason in ignored.items():
        matters = name in WARNED or name not in IGNORED
        level = logging.WARNING if matters and host_arguments[name] else logging.INFO
        log.log(level, "%s is ignored: %s", name, reason)
    project = find_project()
    enabled: Mapping[str, Any] = read_project(project, "dataset_compare") if project is not None else {}
    return run_task("dataset_compare", enabled, resume=resume, **config)


class Counts(Stage):
    """Arguments that are multiplied, with the defaults of NNGPT's main.

    Cycles are the exception: NNGPT's are rounds of generating networks, so one is assumed.
    """

    num_train_epochs: PositiveInt = 3
    num_cycles: PositiveInt = 1
    per_device_train_batch_size: PositiveInt = 1
    gradient_accumulation_steps: PositiveInt = 8


def map_arguments(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Map arguments of NNGPT's main to our configuration; None counts as not given.

    `num_train_epochs` and `num_cycles` (or `cycles`) are multiplied, as are the batch size and the accumulation steps;
    if only one of them is given, the other has the default in `Counts`.

    Returns:
        The configuration, nested as for `run_task`, and the ignored arguments with the reason.
    """
    known, host = {*MAPPED, *JOINED, *IGNORED}, installed_host()
    main = host if host is not None and "main" in host.modules else None
    later = dict.fromkeys(set(main.parameters("main")) - known if main is not None else (), _LATER)
    for name in given:
        if name not in known | later.keys():
            if main is None or not main.takes_any("main"):
                raise unknown("argument of NNGPT's main", name, known | later.keys())
            later[name] = _ANY.format(nearest(name, known))
    values = {name: value for name, value in given.items() if value is not None}
    for name, other, what in _OTHER_TASKS:
        if type(value := values.get(name, not other)) is not bool:  # NNGPT would take a text such as 'false' for true
            raise UserError(f"{name} must be True or False, not {shown(value)}")
        if value == other:
            raise UserError(f"{name}={other} is another task: {what}; call NNGPT's main")
    found: dict[str, Any] = {key: values[name] for name, key in MAPPED.items() if name in values}
    if "output_dir" in values:
        found["output_dir"] = str(values["output_dir"])
    if "cycles" in values:
        values.setdefault("num_cycles", values["cycles"])
    numbers = {name: value for name, value in values.items() if name in Counts.model_fields}
    counts = build_config(Counts, numbers, what="arguments of NNGPT's main")
    if {"num_train_epochs", "num_cycles"} & numbers.keys():
        found["tuning.epochs"] = counts.num_train_epochs * counts.num_cycles
    if {"per_device_train_batch_size", "gradient_accumulation_steps"} & numbers.keys():
        found["tuning.examples_per_step"] = counts.per_device_train_batch_size * counts.gradient_accumulation_steps
    folders = [CONF, "nngpt" / CONF, *([host.conf] if host is not None else [])]
    if "llm_conf" in values:
        found["model.base"] = base_of(find_conf(str(values["llm_conf"]), "llm", folders))
    if "llm_tune_conf" in values:
        found["prompt"] = str(find_conf(str(values["llm_tune_conf"]), "prompt/train", folders))
    return _nested(found), {name: (IGNORED | later)[name] for name in values if name in IGNORED | later}


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
    host.require("main", (*call, *later))
    host.require("tune", ("num_cycles",))
    return call


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return nested
