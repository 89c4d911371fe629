"""TRL's SFTTrainer on rows of shared prefixes, with our batches and losses and one checkpoint an epoch."""

from __future__ import annotations

import json
import logging
import math
import operator
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch.nn.functional import logsigmoid
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from nngpt_ext.batches.encode import Example, LinePair
from nngpt_ext.batches.rows import Group, distinct, halves, tokens_of
from nngpt_ext.batches.tensors import Batch, answer_log_probs, line_scores, make_batch
from nngpt_ext.config import DecidedConfig
from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, inside, remove, write_text
from nngpt_ext.models.architecture import keep_routers_quiet
from nngpt_ext.models.base import LOADING, quiet_transformers
from nngpt_ext.models.heads import NAME as HEAD
from nngpt_ext.progress import Progress
from nngpt_ext.run_folder import HISTORY
from nngpt_ext.tuning.history import Validation, checkpoint_files, read_history, usable_entries
from nngpt_ext.tuning.lora import with_adapter
from nngpt_ext.tuning.plan import Plan, deal_rows, make_plan
from nngpt_ext.tuning.ranks import add_up, is_first, of_first, own_number, size
from nngpt_ext.tuning.thread_choice import ThreadChoice
from nngpt_ext.tuning.threads import kept_environment
from nngpt_ext.tuning.trackers import guard_trackers
from nngpt_ext.tuning.warm_start import start_of

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base

log = logging.getLogger(__name__)


def train(
    base: Base,
    examples: Sequence[Group],
    validation: Validation,
    config: DecidedConfig,
    checkpoints: Path,
) -> list[dict[str, Any]]:
    """Train LoRA weights for all epochs and return the history, one entry an epoch (see `read_history`)."""
    plan = make_plan(examples, config)
    if size() > 1 and of_first(lambda: digest(plan.steps)) != digest(plan.steps):
        raise UserError("the processes of this run prepared different steps: use the same GPUs and libraries for all")
    history = of_first(lambda: _kept_history(checkpoints, plan))
    if len(history) == config.tuning.epochs:
        return history
    set_seed(config.tuning.seed)
    with with_adapter(base, config.model.lora, config.tuning.head) as model:
        with LOADING, quiet_transformers(), kept_environment():
            trainer = AnswerTrainer(base, model, examples, plan, config, checkpoints)
        # TRL casts LoRA weights to bf16 on a quantised base, and a resumed run would get other weights: keep fp32.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if (start := start_of(config.tuning.init_from)) is not None:
            set_peft_model_state_dict(model, load_peft_weights(str(start), device="cpu"))
        last = str(checkpoints / history[-1]["checkpoint"]) if history else None
        with Progress("training", len(plan.steps), unit="step") as progress, quiet_transformers(), kept_environment():
            trainer.add_callback(ThreadChoice(trainer))
            trainer.add_callback(EpochEnd(trainer, validation, history, progress))
            trainer.train(resume_from_checkpoint=last)
        # All zeros before training.
        changed = any(p.any() for name, p in model.named_parameters() if "lora_B" in name or f".{HEAD}." in name)
        if config.tuning.learning_rate > 0 and not changed:
            raise RuntimeError("training did not change the adapter")
    return history


def _kept_history(checkpoints: Path, plan: Plan) -> list[dict[str, Any]]:
    """The history from which training continues; checkpoints that are not in it are removed."""
    history = usable_entries(read_history(checkpoints.parent), checkpoints, plan.epoch_ends)
    names = {entry["checkpoint"] for entry in history}
    # Checkpoints of epochs that are trained again, or that were cut off while they were written.
    found = [place.name for place in checkpoints.glob("checkpoint-*") if place.name not in names]
    stray = [inside(checkpoints.parent, checkpoints.name, name) for name in found]
    if (checkpoints / HISTORY).is_file():
        _write_history(checkpoints, history)  # first: no entry is ever without its checkpoint
    for place in stray:
        remove(place)
    return history


def _write_history(checkpoints: Path, history: Sequence[dict[str, Any]]) -> None:
    write_text(checkpoints / HISTORY, json.dumps(history, indent=2) + "\n")


class AnswerTrainer(SFTTrainer):
    """The mean loss over the examples of an optimiser step, whatever the rows are.

    The loss of an answer is summed over its tokens; that of two lines is logistic in the difference of their scores,
    with an offset (Bradley and Terry 1952).
    """

    def __init__(
        self,
        base: Base,
        model: PeftModel,
        examples: Sequence[Group],
        plan: Plan,
        config: DecidedConfig,
        checkpoints: Path,
    ) -> None:
        tuning = config.tuning
        self.examples = examples
        self.plan = plan
        self.engine = tuning.engine
        self.row_tokens = tuning.row_tokens if tuning.engine != "plain" else sys.maxsize
        self.pad = base.tokenizer.pad_token_id
        self.mask_dtype = base.model.dtype
        on_cuda = base.device.type == "cuda"
        arguments = SFTConfig(
            output_dir=str(checkpoints),
            per_device_train_batch_size=1,
            max_steps=len(plan.steps),
            learning_rate=tuning.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(tuning.warmup * len(plan.steps)),
            weight_decay=tuning.weight_decay,
            max_grad_norm=tuning.max_grad_norm,
            optim="adamw_torch_fused" if on_cuda else "adamw_torch",
            seed=tuning.seed,
            data_seed=tuning.seed,
            bf16=False,  # batches.tensors decides the type of a pass, in scoring too
            fp16=False,
            use_cpu=not on_cuda,
            gradient_checkpointing=tuning.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if tuning.gradient_checkpointing else None,
            save_strategy="no",  # EpochEnd requests checkpoints
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to=list(tuning.report_to) if tuning.report_to and is_first() else "none",
            run_name=checkpoints.parent.name,
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        )
        arguments.trackio_static_space_id = False  # else it publishes what it was told
        if "wandb" in tuning.report_to and "WANDB_API_KEY" not in os.environ:
            os.environ.setdefault("WANDB_MODE", "offline")
        arguments._n_gpu = min(arguments.n_gpu, 1)  # a second card would get a copy of the model and half a step
        super().__init__(
            model=model,
            args=arguments,
            data_collator=operator.itemgetter(0),  # one item is a step: its number
            train_dataset=Dataset.from_dict({"step": list(range(len(plan.steps)))}),
            processing_class=base.tokenizer,
        )
        self.remove_callback(PrinterCallback)
        guard_trackers(self.callback_handler.callbacks)
        keep_routers_quiet(model.config)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.loss_sum = 0.0
        self.n_examples = 0
        self.n_tokens = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.plan.steps)

    def _load_from_checkpoint(self, *given: Any, **named: Any) -> None:
        with LOADING:
            super()._load_from_checkpoint(*given, **named)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add the gradients of one optimiser step, row by row.

        Returns:
            The mean loss of the step's examples.

        Raises:
            UserError: if it is not finite.
        """
        model.train()
        rows = self.plan.steps[inputs["step"]]
        n = sum(len(numbers) for row in rows for _, *numbers in row)
        own, before = rows, self.n_tokens
        if size() > 1:
            own = deal_rows(self.examples, rows, size(), share=self.engine != "plain")[own_number()]
            if not is_first():  # another dropout than in the first process
                torch.manual_seed(self.args.seed + self.state.global_step * size() + own_number())
        # One wait for the device a step.
        total = float(sum(self._add_gradients(model, row, n) for row in own))
        if size() > 1:
            figures = torch.tensor([total, self.n_tokens - before], dtype=torch.float64)
            add_up(figures)
            total, self.n_tokens = figures[0].item(), before + int(figures[1])
            self._add_up_gradients()
        loss = total / n
        self.loss_sum += total
        self.n_examples += n
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged at step {self.state.global_step + 1} (loss {loss}): lower tuning.learning_rate "
                f"(now {self.args.learning_rate:g}) and start over in another folder"
            )
        return torch.tensor(loss, dtype=torch.float32, device=self.args.device)

    def _add_up_gradients(self) -> None:
        """Replace the gradients by their sums over all processes; one that got no rows has none."""
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.trained]
        flat = torch.cat([gradient.flatten() for gradient in own])
        add_up(flat)
        for parameter, gradient in zip(self.trained, flat.split([p.numel() for p in self.trained]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _add_gradients(self, model: Any, row: list[list[int]], n: int) -> torch.Tensor:
        """Add the gradients of a row's share in a mean over `n` examples, and return its sum of losses."""
        alone = sum(len(numbers) for _, *numbers in row) == 1
        length = tokens_of(self.examples, row, share=self.engine != "plain")
        if not alone and length > self.row_tokens:
            return torch.stack([self._add_gradients(model, half, n) for half in halves(row)]).sum()
        found = self._gradients(model, row, n, alone)
        if found is None:  # only now are the failed pass and its error gone from memory
            self.row_tokens = min(self.row_tokens, length) // 2
            log.warning("out of memory: continuing with %d tokens a forward pass (tuning.row_tokens)", self.row_tokens)
            torch.cuda.empty_cache()
            return self._add_gradients(model, row, n)
        loss, n_tokens, gradients = found
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self.n_tokens += n_tokens
        return loss

    def _gradients(
        self, model: Any, row: list[list[int]], n: int, alone: bool
    ) -> tuple[torch.Tensor, int, tuple[torch.Tensor | None, ...]] | None:
        """A row's loss, tokens, and gradient of each trained parameter; None if memory did not suffice.

        Raises:
            torch.OutOfMemoryError: if the row is a single example.
        """
        try:
            chosen = [[self.examples[g][e] for e in numbers] for g, *numbers in row]
            parts = [distinct(group) for group in chosen]  # type: ignore[arg-type]
            batch = make_batch(parts, self.engine, self.mask_dtype, self.pad).to(self.args.device)
            pairs = [one for group in chosen for one in group if isinstance(one, LinePair)]
            total = self._pair_loss(model, batch, parts, pairs) if pairs else -answer_log_probs(model, batch).sum()
            # Not backward(): a pass that runs out of memory halfway must leave no gradients behind.
            gradients = torch.autograd.grad(total / n, self.trained, allow_unused=True)
        except torch.OutOfMemoryError:
            if alone:
                raise
            return None
        return total.detach().double(), batch.n_tokens, gradients

    def _pair_loss(
        self, model: Any, batch: Batch, parts: Sequence[Sequence[Example]], pairs: Sequence[LinePair]
    ) -> torch.Tensor:
        """The sum over pairs of −log p(the better line is the better one)."""
        place = {id(line): i for i, line in enumerate(line for group in parts for line in group)}
        better, worse = ([place[id(line)] for line in side] for side in zip(*(p.parts for p in pairs), strict=True))
        scores = line_scores(model, batch)
        offset = scores.new_tensor([pair.offset for pair in pairs])
        return -logsigmoid(offset + scores[better] - scores[worse]).sum()

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        if is_first():
            super()._save_checkpoint(*given, **named)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card beside a checkpoint: the run writes one for the adapter."""


class EpochEnd(TrainerCallback):
    """After each epoch: validation, a checkpoint, and an entry of history with the hashes of its files."""

    def __init__(
        self, trainer: AnswerTrainer, validation: Validation, history: list[dict[str, Any]], progress: Progress
    ) -> None:
        self.trainer = trainer
        self.validation = validation
        self.history = history
        self.progress = progress
        self.began = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = time.monotonic()
        self.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        trainer = self.trainer
        elapsed = max(time.monotonic() - self.began, 1e-9)
        loss = trainer.loss_sum / max(trainer.n_examples, 1)
        self.progress.advance(1, f"loss {loss:.3f}, {trainer.n_tokens / elapsed:,.0f} tokens/s")
        if state.global_step not in trainer.plan.epoch_ends:
            return control
        epoch = trainer.plan.epoch_ends.index(state.global_step) + 1
        seconds = time.monotonic() - self.began
        model.eval()
        figures = self.validation.score(model)
        model.train()
        skill = figures["accuracy"] - figures["prior_accuracy"]
        trainer.log({"eval_accuracy": figures["accuracy"], "eval_skill": skill, "eval_log_loss": figures["log_loss"]})
        entry = {
            "epoch": epoch,
            "step": state.global_step,
            "checkpoint": f"checkpoint-{state.global_step}",
            "train_loss": loss,
            **{f"validation_{name}": value for name, value in figures.items()},
            "examples": trainer.n_examples,
            "tokens": trainer.n_tokens,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds, 2),
        }
        self.history.append(entry)
        log.info(
            "epoch %d: training loss %.4f, validation accuracy %.3f, log loss %.4f",
            epoch, loss, figures["accuracy"], figures["log_loss"],
        )  # fmt: skip
        self.validation.epoch_ended(self.history)
        trainer.loss_sum, trainer.n_examples, trainer.n_tokens = 0.0, 0, 0
        self.began = time.monotonic()
        control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the epoch's entry; an epoch without one is trained again."""
        if not is_first():
            return
        checkpoints, entry = Path(args.output_dir), self.history[-1]
        entry["files"] = checkpoint_files(checkpoints / entry["checkpoint"])
        _write_history(checkpoints, self.history)
