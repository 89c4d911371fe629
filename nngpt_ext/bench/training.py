"""Fine-tuning behind shared prefixes, beside TRL's SFTTrainer on the same examples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import Example, pack
from nngpt_ext.batches.tensors import Batch, answer_log_probs, make_batch, mask_dtype, plain_batch
from nngpt_ext.bench.material import Material, in_fp32, tune_config
from nngpt_ext.bench.measure import Work, now
from nngpt_ext.models.base import quiet_transformers
from nngpt_ext.tuning.adapter import with_adapter
from nngpt_ext.tuning.plan import make_plan
from nngpt_ext.tuning.trainer import AnswerTrainer

FIGURES = {"accuracy": 0.0, "log_loss": 0.0}  # what validation would say: it is not measured


def step_of(found: Material) -> int:
    """Examples of an optimiser step, the same for all: a run's 64, or fewer where there are few."""
    return min(64, max(2, found.n_examples // 4))


class Timed(TrainerCallback):
    """Seconds from the end of the first optimiser step, which warms up, to the end of the last."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(now())


def shared(found: Material, row_tokens: int, engine: str = "shared") -> Work:
    """Train one epoch over the material with our trainer."""
    checked_engine(found.base.model, found.training[0], found.pad, engine)
    config = tune_config(found, row_tokens, engine)._replace(examples_per_step=step_of(found))
    plan = make_plan(
        found.training, epochs=1, networks_per_epoch=None, pairs_per_network=None,
        examples_per_step=config.examples_per_step, row_tokens=row_tokens, engine=engine, seed=0,
    )  # fmt: skip

    def trainer(model: Any, folder: Path) -> AnswerTrainer:
        return AnswerTrainer(found.base, model, found.training, plan, config, folder, lambda _: FIGURES, [])

    clock, made = _trained(found, trainer)
    first = sum(len(numbers) for row in plan.steps[0] for _, *numbers in row)
    total, tokens = made.history[0]["examples"], made.history[0]["tokens"]
    share = (total - first) / total
    return Work(total - first, round(tokens * share), clock.ends[-1] - clock.ends[0])


def trl(found: Material, examples: Sequence[Example], batch: int, packed: int | None = None) -> Work:
    """Train on single examples with TRL as it comes, loss on the answer only.

    Args:
        found: the base model.
        examples: of which the first step's warm up.
        batch: examples of a forward pass; 1 where they are packed.
        packed: tokens of a row of TRL's padding-free packing, None for one example a row.
    """
    lengths = [len(example.prompt) + len(example.answers[0]) for example in examples]
    step = step_of(found)
    accumulated = max(1, step // (batch if packed is None else max(1, packed // max(lengths))))
    if packed is not None:  # two steps at least: the first one warms up
        accumulated = max(1, min(accumulated, sum(lengths) // packed // 2))
    if packed is None:  # whole steps only, so that all that is counted was computed
        steps = max(2, len(examples) // (accumulated * batch))
        examples = [examples[i % len(examples)] for i in range(steps * accumulated * batch)]
    prompts = [example.prompt.tolist() for example in examples]
    answers = [example.answers[0].tolist() for example in examples]
    rows = {
        "input_ids": [p + a for p, a in zip(prompts, answers, strict=True)],
        "completion_mask": [[0] * len(p) + [1] * len(a) for p, a in zip(prompts, answers, strict=True)],
    }
    config = tune_config(found, 0)

    def trainer(model: Any, folder: Path) -> SFTTrainer:
        cuda = found.base.device.type == "cuda"
        arguments = SFTConfig(
            output_dir=str(folder), per_device_train_batch_size=batch, num_train_epochs=1,
            gradient_accumulation_steps=accumulated, learning_rate=config.learning_rate, optim="adamw_torch", bf16=cuda,
            use_cpu=not cuda, seed=0, gradient_checkpointing=config.gradient_checkpointing, save_strategy="no",
            report_to="none", disable_tqdm=True, completion_only_loss=True, max_length=packed,
            packing=packed is not None, dataset_num_proc=None, logging_steps=10**6,
        )  # fmt: skip
        made = SFTTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=found.base.tokenizer
        )
        made.remove_callback(PrinterCallback)
        return made

    clock, made = _trained(found, trainer)
    seconds = clock.ends[-1] - clock.ends[0]
    if packed:
        row_lengths = [sum(len(ids) for ids in _sequences(row)) for row in made.train_dataset]
        counts = [len(_sequences(row)) for row in made.train_dataset]
        share = max(len(counts) - accumulated, 0) / len(counts)  # all but the first step
        return Work(round(sum(counts) * share), round(sum(row_lengths) * share), seconds)
    n = (len(clock.ends) - 1) * accumulated * batch
    mean = float(np.mean([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]))
    return Work(n, round(n * mean), seconds)


def _sequences(row: dict[str, Any]) -> list[Any]:
    lengths = row.get("seq_lengths") or [len(row["input_ids"])]
    return [range(n) for n in lengths]


def _trained(found: Material, trainer: Callable[[Any, Path], Any]) -> tuple[Timed, Any]:
    clock = Timed()
    set_seed(0)
    disable_progress_bars()  # of datasets, whose rows TRL prepares
    with (
        tempfile.TemporaryDirectory() as folder,
        with_adapter(found.base, tune_config(found, 0)) as model,
        quiet_transformers(),
    ):
        made = trainer(model, Path(folder))
        in_fp32(model)
        made.add_callback(clock)
        made.train()
    return clock, made


def passes(found: Material, row_tokens: int, engine: str) -> Work:
    """Forwards and backwards over the material, without an optimiser."""
    checked_engine(found.base.model, found.training[0], found.pad, engine)
    with with_adapter(found.base, tune_config(found, row_tokens)) as model:
        tokens = 0
        began = now()
        for batch in _batches(found, in_fp32(model), found.training, row_tokens, engine):
            tokens += batch.n_tokens
            torch.autograd.grad(-answer_log_probs(model, batch).sum(), _trained_weights(model))
        return Work(found.n_examples, tokens, now() - began)


def gradient_error(found: Material, row_tokens: int) -> dict[str, float]:
    """Differences between shared and single computation of one step's loss and gradients, dropout off.

    The step is over all questions about all networks.
    """
    groups = found.training
    checked_engine(found.base.model, groups[0], found.pad, "shared")
    n = sum(len(group) for group in groups)
    one_a_row = (plain_batch([e], found.pad).to(found.base.device) for group in groups for e in group)
    torch.manual_seed(0)
    with with_adapter(found.base, tune_config(found, row_tokens)) as model:
        for name, parameter in in_fp32(model).named_parameters():
            if "lora_B" in name:  # zeros at first: every gradient of an A would be zero
                torch.nn.init.normal_(parameter, std=0.02)
        loss, single = _summed(model, one_a_row, n)
        our_loss, ours = _summed(model, _batches(found, model, groups, row_tokens, "shared"), n)
    return {
        "loss_difference": abs(our_loss - loss),
        "gradient_relative_error": float((ours - single).norm() / single.norm()),
    }


def _batches(
    found: Material, model: Any, groups: Sequence[Sequence[Example]], row_tokens: int, engine: str
) -> Iterator[Batch]:
    for row in pack(groups, row_tokens):
        chosen = [[groups[g][e] for e in numbers] for g, *numbers in row]
        yield make_batch(chosen, engine, mask_dtype(model), found.pad).to(found.base.device)


def _summed(model: Any, batches: Iterable[Batch], n: int) -> tuple[float, torch.Tensor]:
    """Mean loss over `n` examples and its gradient, flat."""
    trained = _trained_weights(model)
    total, sums = 0.0, [torch.zeros_like(p) for p in trained]
    for batch in batches:
        loss = -answer_log_probs(model, batch).sum() / n
        total += float(loss.detach())
        for kept, gradient in zip(sums, torch.autograd.grad(loss, trained), strict=True):
            kept += gradient
    return total, torch.cat([one.flatten() for one in sums])


def _trained_weights(model: Any) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
