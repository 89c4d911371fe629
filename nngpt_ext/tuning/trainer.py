"""TRL's SFTTrainer on rows of shared prefixes: own batches, own loss, one checkpoint an epoch."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from nngpt_ext.batches.rows import Example
from nngpt_ext.batches.tensors import PLACES, Batch, answer_log_probs, make_batch, plain_batch
from nngpt_ext.files import write_text
from nngpt_ext.models.load import quiet_transformers
from nngpt_ext.models.presets import preset
from nngpt_ext.progress import Progress
from nngpt_ext.tuning.plan import Plan, make_plan
from nngpt_ext.tuning.qlora import HISTORY, TuneConfig, read_history

if TYPE_CHECKING:
    from nngpt_ext.models.load import Base

INPUTS = ("input_ids", "attention_mask", "position_ids", "layout")

log = logging.getLogger(__name__)


def train(
    base: Base,
    examples: Sequence[Sequence[Example]],
    validate: Callable[[Any], dict[str, float]],
    config: TuneConfig,
    checkpoints: Path,
) -> list[dict[str, Any]]:
    """Train LoRA weights for all epochs and return the history, one entry an epoch (see `read_history`)."""
    _check_answers(examples, base.tokenizer.eos_token_id)
    plan = make_plan(
        examples,
        epochs=config.epochs,
        networks_per_epoch=config.networks_per_epoch,
        pairs_per_network=config.pairs_per_network,
        examples_per_step=config.examples_per_step,
        row_tokens=config.row_tokens,
        engine=config.engine,
        seed=config.seed,
    )
    history = read_history(checkpoints.parent) if config.resume else []
    history = [entry for entry in history if _is_whole(checkpoints / entry["checkpoint"])]
    for folder in checkpoints.glob("checkpoint-*"):
        if folder.name not in {entry["checkpoint"] for entry in history}:
            shutil.rmtree(folder)  # cut off while it was written, or of a run that was started over
    if len(history) == config.epochs:
        return history
    set_seed(config.seed)
    with quiet_transformers():
        model = add_lora(base, config)
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if n_trainable == 0:
        raise RuntimeError("the adapter has no trainable parameters")
    with quiet_transformers():
        trainer = AnswerTrainer(base, model, examples, plan, config, checkpoints, validate, history)
    # TRL casts LoRA weights to bf16 on a quantised base, and a resumed run would get others: keep fp32.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    last = str(checkpoints / history[-1]["checkpoint"]) if history else None
    try:
        with trainer.progress, quiet_transformers():
            trainer.train(resume_from_checkpoint=last)
        if config.learning_rate > 0 and not adapter_matters(model, examples, base):
            raise RuntimeError("training left the scores of the base model as they were")
    finally:
        model.unload()
    return trainer.history


def _check_answers(examples: Sequence[Sequence[Example]], stop: int) -> None:
    """See that every answer is whole: a name and the stop token behind it."""
    for group in examples:
        for example in group:
            for answer in example.answers:
                if len(answer) < 2 or int(answer[-1]) != stop:
                    raise RuntimeError("a training answer was cut: it does not end with the stop token")


def add_lora(base: Base, config: TuneConfig) -> PeftModel:
    """LoRA on all linear layers but the output layer."""
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
    )
    model = get_peft_model(base.model, lora)
    # PEFT notes the local folder of a hub model's snapshot, which means nothing elsewhere.
    model.peft_config["default"].base_model_name_or_path = preset(base.name).location
    return model


def adapter_matters(model: PeftModel, examples: Sequence[Sequence[Example]], base: Base) -> bool:
    """Whether switching the adapter off changes the score of one training example."""
    model.eval()
    batch = plain_batch(examples[0][:1], base.tokenizer.pad_token_id).to(base.device)
    with torch.inference_mode():
        with_adapter = answer_log_probs(model, batch)
        with model.disable_adapter():
            without = answer_log_probs(model, batch)
    return not torch.equal(with_adapter, without)


def _is_whole(checkpoint: Path) -> bool:
    # Trainer writes trainer_state.json last.
    return (checkpoint / "trainer_state.json").is_file() and (checkpoint / "adapter_model.safetensors").is_file()


class AnswerTrainer(SFTTrainer):
    """Sum over an answer's tokens, mean over the examples of an optimiser step, whatever the rows are."""

    # The loss below is already divided by the examples of the whole accumulation window.
    loss_is_scaled_for_ga = True  # type: ignore[assignment]

    def __init__(
        self,
        base: Base,
        model: PeftModel,
        examples: Sequence[Sequence[Example]],
        plan: Plan,
        config: TuneConfig,
        checkpoints: Path,
        validate: Callable[[Any], dict[str, float]],
        history: list[dict[str, Any]],
    ) -> None:
        self.examples = examples
        self.plan = plan
        self.engine = config.engine
        self.pad = base.tokenizer.pad_token_id
        self.mask_dtype = base.model.dtype
        self.history = history
        self.progress = Progress("training", plan.steps, unit="step")
        on_cuda = base.device.type == "cuda"
        arguments = SFTConfig(
            output_dir=str(checkpoints),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=plan.rows_per_step,
            max_steps=plan.steps,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(config.warmup * plan.steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            optim="adamw_torch",
            seed=config.seed,
            data_seed=config.seed,
            bf16=on_cuda and base.model.dtype == torch.bfloat16,
            fp16=False,
            use_cpu=not on_cuda,
            gradient_checkpointing=config.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
            save_strategy="no",  # EpochEnd asks for checkpoints
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        )
        super().__init__(
            model=model,
            args=arguments,
            data_collator=self._collate,
            train_dataset=Dataset.from_dict({"row": list(range(len(plan.rows)))}),
            processing_class=base.tokenizer,
            callbacks=[EpochEnd(self, validate, checkpoints)],
        )
        self.remove_callback(PrinterCallback)
        self.loss_sum = 0.0
        self.n_examples = 0
        self.n_tokens = 0

    def _collate(self, items: list[dict[str, int]]) -> dict[str, Any]:
        row = self.plan.rows[items[0]["row"]]
        if not row:
            return {"n_answers": torch.tensor(0)}
        chosen = [[self.examples[part[0]][e] for e in part[1:]] for part in row]
        batch = make_batch(chosen, self.engine, self.mask_dtype, self.pad)
        places = {name: getattr(batch, name) for name in PLACES}
        return {**batch.inputs, **places, "n_answers": torch.tensor(batch.n_answers), "n_tokens": batch.n_tokens}

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.plan.rows)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        return torch.stack([sample["n_answers"] for sample in batch_samples]).sum().to(device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        n_answers = int(inputs["n_answers"])
        if n_answers == 0:
            return sum(p.sum() * 0.0 for p in model.parameters() if p.requires_grad)  # type: ignore[return-value]
        given = {name: inputs[name] for name in INPUTS if name in inputs}
        places = {name: inputs[name] for name in PLACES}
        batch = Batch(inputs=given, **places, n_answers=n_answers, n_tokens=int(inputs["n_tokens"]))
        total = -answer_log_probs(model, batch).sum()
        self.loss_sum += float(total.detach())
        self.n_examples += n_answers
        self.n_tokens += batch.n_tokens
        return total / (num_items_in_batch if num_items_in_batch is not None else n_answers)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """No card beside a checkpoint: the run writes one for the adapter, with figures."""


class EpochEnd(TrainerCallback):
    """After each epoch: validation, a line of history, a checkpoint."""

    def __init__(self, trainer: AnswerTrainer, validate: Callable[[Any], dict[str, float]], checkpoints: Path) -> None:
        self.trainer = trainer
        self.validate = validate
        self.checkpoints = checkpoints
        self.began = time.monotonic()
        self.tokens_before = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = time.monotonic()
        self.trainer.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        trainer = self.trainer
        elapsed = max(time.monotonic() - self.began, 1e-9)
        loss = trainer.loss_sum / max(trainer.n_examples, 1)
        trainer.progress.advance(1, f"loss {loss:.3f}, {trainer.n_tokens / elapsed:,.0f} tokens/s")
        if state.global_step not in trainer.plan.epoch_ends:
            return control
        epoch = trainer.plan.epoch_ends.index(state.global_step) + 1
        seconds = time.monotonic() - self.began
        model.eval()
        figures = self.validate(model)
        model.train()
        entry = {
            "epoch": epoch,
            "step": state.global_step,
            "checkpoint": f"checkpoint-{state.global_step}",
            "train_loss": loss,
            "validation_accuracy": figures["accuracy"],
            "validation_log_loss": figures["log_loss"],
            "examples": trainer.n_examples,
            "tokens": trainer.n_tokens,
            "seconds": round(seconds, 2),
        }
        trainer.history.append(entry)
        # Before the checkpoint: an entry without one is dropped when the run goes on, the reverse is not.
        write_text(self.checkpoints / HISTORY, json.dumps(trainer.history, indent=2) + "\n")
        log.info(
            "epoch %d: training loss %.4f, validation accuracy %.3f, log loss %.4f",
            epoch, loss, figures["accuracy"], figures["log_loss"],
        )  # fmt: skip
        trainer.loss_sum, trainer.n_examples, trainer.n_tokens = 0.0, 0, 0
        self.began = time.monotonic()
        control.should_save = True
        return control
