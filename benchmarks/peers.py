"""Ways to train and to score: with shared prefixes, and as TRL, lm-evaluation-harness and NNGPT do it."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from benchmarks.stopwatch import Clock, Work, now
from benchmarks.workload import Workload, lengths
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import pack
from nngpt_ext.batches.tensors import answer_log_probs, make_batch, mask_dtype
from nngpt_ext.config import DecidedConfig, TaskConfig
from nngpt_ext.models.base import quiet_transformers
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.tuning.lora import with_adapter
from nngpt_ext.tuning.plan import make_plan
from nngpt_ext.tuning.trainer import AnswerTrainer

GENERATED = 150  # tokens that NNGPT lets a model write before it reads an answer from them
RANK = 32  # NNGPT's
HARNESS = importlib.util.find_spec("lm_eval") is not None


def step_of(found: Workload) -> int:
    """Examples of an optimiser step, the same for all ways: 64 as in a run, or fewer for a small workload."""
    return min(64, max(2, len(found.questions) // 4))


def run_config(found: Workload) -> DecidedConfig:
    """Settings of one epoch of fine-tuning; on CUDA with activation checkpoints, as in a run."""
    tuning = {
        "epochs": 1, "learning_rate": 1e-4, "examples_per_step": step_of(found), "row_tokens": found.row_tokens,
        "warmup": 0.0, "gradient_checkpointing": found.base.device.type == "cuda",
    }  # fmt: skip
    lora = {"r": RANK, "alpha": RANK, "dropout": 0.0}
    return TaskConfig.model_validate({"model": {"lora": lora}, "tuning": tuning}).resolved(Path()).decided()


class _Timed(TrainerCallback):
    """Records when each optimiser step ended; the first step warms up."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(now())

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.ends[0]


def _trained(found: Workload, trainer: Callable[[Any, Path], Any]) -> tuple[float, Any]:
    """Train a fresh adapter; returns the seconds after the first optimiser step, and the trainer."""
    timed = _Timed()
    set_seed(0)
    disable_progress_bars()  # of datasets, when TRL prepares the rows
    with (
        tempfile.TemporaryDirectory() as folder,
        with_adapter(found.base, run_config(found).model.lora) as model,
        quiet_transformers(),
    ):
        made = trainer(model, Path(folder))
        _in_fp32(model)
        made.add_callback(timed)
        made.train()
    return timed.seconds, made


def _in_fp32(model: Any) -> Any:
    """The model with its adapter's weights in fp32: TRL makes them bf16, which a CPU multiplies very slowly."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def train_shared(found: Workload) -> Work:
    """Train one epoch with the package's own trainer."""
    config = run_config(found)
    plan = make_plan(found.training, config)

    def trainer(model: Any, folder: Path) -> AnswerTrainer:
        return AnswerTrainer(found.base, model, found.training, plan, config, folder)

    seconds, made = _trained(found, trainer)
    first = sum(len(numbers) for row in plan.steps[0] for _, *numbers in row)
    total, tokens = made.n_examples, made.n_tokens
    return Work(total - first, round(tokens * (total - first) / total), seconds)


def train_trl(found: Workload, examples: Sequence[Example], batch: int, packed: bool = False) -> Work:
    """Train on single examples with TRL as it comes, with the loss on the answers only.

    Args:
        found: the base model.
        examples: the examples; those of the first optimiser step warm up.
        batch: examples of a forward pass; 1 if they are packed.
        packed: use TRL's padding-free packing into rows of the workload's length, not one example a row.
    """
    tokens = [len(example.prompt) + len(example.answers[0]) for example in examples]
    accumulated = max(1, step_of(found) // (max(1, found.row_tokens // max(tokens)) if packed else batch))
    if packed:  # at least two steps, because the first one warms up
        accumulated = max(1, min(accumulated, sum(tokens) // found.row_tokens // 2))
    else:  # whole steps only, so that everything that is counted was computed
        n = max(2, len(examples) // (accumulated * batch)) * accumulated * batch
        examples = list(itertools.islice(itertools.cycle(examples), n))
    parts = [(example.prompt.tolist(), example.answers[0].tolist()) for example in examples]
    rows = {
        "input_ids": [prompt + answer for prompt, answer in parts],
        "completion_mask": [[0] * len(prompt) + [1] * len(answer) for prompt, answer in parts],
    }
    tuning, cuda = run_config(found).tuning, found.base.device.type == "cuda"

    def trainer(model: Any, folder: Path) -> SFTTrainer:
        arguments = SFTConfig(
            output_dir=str(folder), per_device_train_batch_size=batch, num_train_epochs=1,
            gradient_accumulation_steps=accumulated, learning_rate=tuning.learning_rate, optim="adamw_torch", bf16=cuda,
            use_cpu=not cuda, seed=0, gradient_checkpointing=cuda, save_strategy="no",
            report_to="none", disable_tqdm=True, completion_only_loss=True, dataset_num_proc=None, logging_steps=10**6,
            max_length=found.row_tokens if packed else None, packing=packed,
        )  # fmt: skip
        made = SFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=found.base.tokenizer
        )
        made.remove_callback(PrinterCallback)
        return made

    seconds, made = _trained(found, trainer)
    share = max(0.0, 1 - accumulated * batch / len(made.train_dataset))  # all steps but the first
    return Work(round(len(parts) * share), round(sum(len(ids) for ids in rows["input_ids"]) * share), seconds)


def forward_and_backward(found: Workload, engine: str) -> Work:
    """Losses and gradients of all examples, without an optimiser."""
    with with_adapter(found.base, run_config(found).model.lora) as model:
        _in_fp32(model)
        with Clock() as clock:
            tokens = _mean_loss(found, model, engine)[2]
    return Work(len(found.questions), tokens, clock.seconds)


def gradient_error(found: Workload) -> dict[str, float]:
    """How much shared prefixes change the loss and the gradients of one step over all examples, dropout off."""
    torch.manual_seed(0)
    with with_adapter(found.base, run_config(found).model.lora) as model:
        for name, parameter in _in_fp32(model).named_parameters():
            if "lora_B" in name:  # zeros at first: all gradients of the A matrices would be zero
                torch.nn.init.normal_(parameter, std=0.02)
        loss, single, _ = _mean_loss(found, model, "plain")
        shared_loss, shared, _ = _mean_loss(found, model, "shared")
    return {
        "loss_difference": abs(shared_loss - loss),
        "gradient_relative_error": float((shared - single).norm() / single.norm()),
    }


def _mean_loss(found: Workload, model: Any, engine: str) -> tuple[float, torch.Tensor, int]:
    """Mean loss over all examples, its gradient, and the number of tokens computed; `plain`: one example a row."""
    groups, limit = found.training, found.row_tokens
    if engine == "plain":
        groups, limit = [[example] for group in groups for example in group], 1
    trained = [p for p in model.parameters() if p.requires_grad]
    total, tokens, sums = 0.0, 0, [torch.zeros_like(p) for p in trained]
    for row in pack(groups, limit):
        chosen = [[groups[g][e] for e in numbers] for g, *numbers in row]
        batch = make_batch(chosen, engine, mask_dtype(model), found.pad).to(found.base.device)
        loss = -answer_log_probs(model, batch).sum() / len(found.questions)
        total += float(loss.detach())
        tokens += batch.n_tokens
        for kept, gradient in zip(sums, torch.autograd.grad(loss, trained), strict=True):
            kept += gradient
    return total, torch.cat([one.flatten() for one in sums]), tokens


def score(found: Workload, groups: Sequence[Sequence[Example]], **how: Any) -> Work:
    """Score questions.

    Args:
        found: the base model.
        groups: questions, those with a common prefix together.
        how: `engine="plain"` for one example a row, and its `plain_batch`; by default prefixes are shared.
    """
    with Clock() as clock:
        values = log_odds(found.base.model, groups, row_tokens=found.row_tokens, pad=found.pad, **how)
    if how.get("engine") == "plain":
        tokens = sum(len(e.prompt) + len(option) - 1 for group in groups for e in group for option in e.answers)
    else:
        tokens = lengths(groups).once
    return Work(sum(len(group) for group in groups), tokens, clock.seconds, np.concatenate(values))


def score_harness(found: Workload, questions: Sequence[Example], batch: int) -> Work:
    """Score questions as lm-evaluation-harness's `multiple_choice` does: one request an option."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.huggingface import HFLM

    base = found.base
    judge = HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=batch, max_length=base.context)
    requests = [(("", ""), e.prompt.tolist(), option.tolist()) for e in questions for option in e.answers]
    with Clock() as clock:
        answers = judge._loglikelihood_tokens(requests, disable_tqdm=True)
    scores = np.array([score for score, _ in answers]).reshape(-1, 2)
    tokens = sum(len(prompt) + len(option) - 1 for _, prompt, option in requests)
    return Work(len(questions), tokens, clock.seconds, scores[:, 0] - scores[:, 1])


def generate(model: Any, questions: Sequence[Example], pad: int) -> Work:
    """Sample an answer of 150 tokens to each question as NNGPT does (temperature 0.8), one at a time."""
    device = next(model.parameters()).device
    with Clock() as clock, torch.inference_mode():
        for question in questions:
            ids = torch.from_numpy(question.prompt).long()[None].to(device)
            model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.8, min_new_tokens=GENERATED,
                max_new_tokens=GENERATED, pad_token_id=pad,
            )  # fmt: skip
    tokens = sum(len(question.prompt) + GENERATED for question in questions)
    return Work(len(questions), tokens, clock.seconds)
