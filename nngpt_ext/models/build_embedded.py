"""Build the embedded base model: `python -m nngpt_ext.models.build_embedded --out FOLDER`.

A small Llama and its tokenizer, trained from scratch on the sources of LEMUR that are in no pair at any
epoch, near-duplicates removed, and on made-up questions (embedded_corpus.py). Interrupted, it goes on
where it last saved.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from nngpt_ext.files import write_text
from nngpt_ext.lemur.locate import open_source
from nngpt_ext.lemur.unpaired import source_hash, unpaired_sources
from nngpt_ext.models.embedded_corpus import Questions, distinct, pieces
from nngpt_ext.models.embedded_tokenizer import train_tokenizer

SHAPE: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": True,
}
LEARNING_RATE = 2e-3
WARM_UP = 50  # steps
ROW = 512  # tokens
BATCH = 4  # rows a step
SKILLS = 0.45  # share of rows with made-up questions
# Lessons in answering, after the reading: minutes for each minute of it, questions a step and rate of each stage.
LESSONS = ((0.06, 128, 2e-3), (0.07, 20, 1e-3), (0.11, 10, 1e-3))
SAVE_EVERY = 200  # steps


def build(out: Path, minutes: float, seed: int = 0) -> None:
    """Train for about `minutes` and write model, tokenizer, `corpus.json` and `README.md` into `out`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    every = unpaired_sources(open_source())
    sources = {name: every[name] for name in distinct(every)}
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    work.mkdir(exist_ok=True)
    if (work / "tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(work)
    else:
        tokenizer = train_tokenizer(_tokenizer_texts(sources))
        tokenizer.save_pretrained(work)
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None, **SHAPE,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    print(f"{len(sources)} of {len(every)} sources, {model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": []}
    saved = work / "state.pt"
    if saved.exists():
        loaded = torch.load(saved, weights_only=True)
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
        state = loaded["state"]
        print(f"going on at step {state['step']}")
    # Seeded by the step at which it starts, so that what was read before is not read again in the same order.
    rows = pieces(sources, tokenizer, row=ROW, skills=SKILLS, seed=seed * 1_000_003 + state["step"])
    began = time.monotonic() - state["seconds"]
    model.train()
    while (spent := time.monotonic() - began) < minutes * 60:
        left = 1 - spent / (minutes * 60)
        rate = LEARNING_RATE * min(1, (state["step"] + 1) / WARM_UP) * max(min(1.0, left / 0.4), 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [next(rows) for _ in range(BATCH)]
        ids = torch.tensor([piece.ids for piece in batch])
        labels = torch.where(torch.tensor([piece.learn for piece in batch]), ids, -100)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        state["step"] += 1
        state["seconds"] = time.monotonic() - began
        if state["step"] % 20 == 0:
            state["curve"].append([state["step"], round(loss.item(), 4)])
            print(f"step {state['step']} loss {loss.item():.3f} {state['seconds']:.0f} s", flush=True)
        if state["step"] % SAVE_EVERY == 0:
            whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state}
            torch.save(whole, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
    for stage, (share, size, rate) in enumerate(LESSONS):
        _teach(model, tokenizer, sources, stage, share * minutes, size, rate, seed)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_text(out / "corpus.json", json.dumps(sorted(source_hash(text)[:16] for text in sources.values())))
    write_text(out / "README.md", _card(model.num_parameters(), len(sources), len(every), state))


def _teach(
    model: Any, tokenizer: Any, sources: dict[str, str], stage: int, minutes: float, size: int, rate: float, seed: int
) -> None:
    """Train on the questions of one stage, answers only; the rate falls to 0 in the last stage."""
    import torch

    rng = random.Random(f"{seed} {stage}")
    questions, names = Questions(tokenizer, rng), sorted(sources)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    began, step = time.monotonic(), 0
    while (left := 1 - (time.monotonic() - began) / (minutes * 60)) > 0:
        for group in optimizer.param_groups:
            falling = min(1.0, left / 0.6) if stage == len(LESSONS) - 1 else 1.0
            group["lr"] = rate * falling * min(1.0, (step + 1) / 20)
        batch = [questions.lesson(sources[rng.choice(names)], stage) for _ in range(size)]
        longest = max(len(piece.ids) for piece in batch)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([piece.ids + [pad] * (longest - len(piece.ids)) for piece in batch])
        learn = torch.tensor([piece.learn + [False] * (longest - len(piece.learn)) for piece in batch])
        loss = model(input_ids=ids, labels=torch.where(learn, ids, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 25 == 0:
            print(f"lesson {stage} step {step} loss {loss.item():.3f}", flush=True)


def _tokenizer_texts(sources: dict[str, str]) -> list[str]:
    from nngpt_ext.prompts.builtin import NAMES, get_template
    from nngpt_ext.prompts.compact import compact_code

    templates = [get_template(name) for name in NAMES]
    # The prompts' own words many times, so that each becomes a token.
    return [compact_code(text) for text in sources.values()] + [t.system + "\n\n" + t.prompt for t in templates] * 200


def _card(parameters: int, used: int, found: int, state: dict[str, Any]) -> str:
    curve, tokens = state["curve"], state["step"] * BATCH * ROW
    shown = [curve[i] for i in sorted({round(k * (len(curve) - 1) / 9) for k in range(10)})] if curve else []
    lines = "\n".join(f"| {step} | {loss:.3f} |" for step, loss in shown)
    return f"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# The embedded base model of nngpt_ext

A Llama of {parameters:,} parameters with its own byte-level BPE tokenizer, trained from scratch, so that the task
`dataset_compare` runs where there is neither a model hub nor a GPU.

- **Data**: {used:,} PyTorch sources of LEMUR (nn-dataset 2.1.2, MIT), chosen from the {found:,} that are in no
  pair at any epoch by leaving out near-duplicates (`corpus.json` holds the first 16 hex digits of their sha256),
  and questions made up at random in the wording of the built-in prompts. No accuracy of LEMUR was in its training.
- **Training**: {state["step"]:,} steps of {BATCH} rows of {ROW} tokens ({tokens / 1e6:.1f} M tokens),
  {state["seconds"] / 60:.0f} minutes on two CPU cores: `python -m nngpt_ext.models.build_embedded`.
  Then lessons, questions one at a time from short to long with the loss on the answer only, for a quarter of that time:
  without them it never reads which two datasets are offered.
- **What it is not**: a language model to talk to or to write code with. It is a start for fine-tuning on this task.

| step | training loss (code and answers) |
|---|---|
{lines}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"), help="folder for the model")
    parser.add_argument("--minutes", type=float, default=60, help="how long to train")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    build(given.out, given.minutes, given.seed)


if __name__ == "__main__":
    main()
