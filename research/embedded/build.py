"""Build an embedded base model: `python -m research.embedded.build --out FOLDER`, from the repository root.

A small Llama and its tokenizer are trained from scratch, first on the sources of LEMUR that are in no pair at
any epoch, near-duplicates removed, then on made-up questions, from short to long. The training is seeded; an
interrupted one continues from where it last saved.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.io import text_digest, write_text
from research.embedded.corpus import distinct, encoded, rows, unpaired_sources
from research.embedded.questions import KINDS, Piece, Questions, apart_at
from research.embedded.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COMMON: dict[str, Any] = {
    "num_hidden_layers": 4,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": True,
}
# Narrow, because a laptop's fifteen minutes of fine-tuning count in examples seen (docs/LOG.md).
SHAPES: dict[str, dict[str, Any]] = {
    "embedded": {
        **_COMMON, "hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 4,
    },
    "embedded-small": {
        **_COMMON, "hidden_size": 48, "intermediate_size": 144, "num_attention_heads": 2, "num_key_value_heads": 2,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A part of the training."""

    name: str
    steps: int
    size: int  # rows, or questions, a step
    rate: float  # the learning rate at its height


# Reading which two names are offered is hard to find in long texts and easy in short ones, so questions grow:
# bare ones about names only, about decimals only, of all kinds, then whole prompts behind sources.
STAGES = (
    Stage("read", 1500, 4, 3e-3),
    Stage("names", 250, 128, 2e-3),
    Stage("decimals", 1500, 128, 1e-3),
    Stage("bare", 2800, 128, 1.5e-3),
    Stage("whole", 900, 6, 1e-3),
)
CHUNK = 32  # pieces of a forward pass
ROW = 512  # tokens of a row of source
ROOM = 900  # tokens of a row with a source and questions
WARM_UP = 30  # steps of each stage
SAVE_EVERY = 200  # steps
ASKED = 400  # fresh questions of each kind in the card's table


class Builder:
    """The state of a training: model, optimiser, and how far it is."""

    def __init__(self, out: Path, size: str, seed: int, scale: float, device: str) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        torch.manual_seed(seed)
        self.out, self.size, self.seed, self.device = out, size, seed, device
        self.stages = [replace(stage, steps=max(1, round(stage.steps * scale))) for stage in STAGES]
        every = unpaired_sources(open_source())
        self.found = len(every)
        self.sources = {name: every[name] for name in distinct(every)}
        self.work = out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.tokenizer: PreTrainedTokenizerBase
        if (self.work / "tokenizer.json").exists():
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.work)
        else:
            self.tokenizer = train_tokenizer(_tokenizer_texts(self.sources))
            self.tokenizer.save_pretrained(self.work)
        config = LlamaConfig(
            vocab_size=len(self.tokenizer), pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id, bos_token_id=None, **SHAPES[size],
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).to(device)  # type: ignore[arg-type]  # transformers' wrapper has no types
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.05)
        self.state: dict[str, Any] = {"stage": 0, "step": 0, "seconds": 0.0, "tokens": 0, "curve": [], "skills": []}
        self.saved = self.work / f"{size}.pt"
        if self.saved.exists():
            loaded = torch.load(self.saved, weights_only=True)
            self.model.load_state_dict(loaded["model"])
            self.optimizer.load_state_dict(loaded["optimizer"])
            self.state = loaded["state"]
            print(f"continuing with stage {self.state['stage']} at step {self.state['step']}")

    def run(self) -> None:
        """Train what is left and write model, tokenizer, `corpus.json` and `README.md`."""
        print(
            f"{len(self.sources)} of {self.found} sources, {self.model.num_parameters():,} parameters, "
            f"{len(self.tokenizer)} tokens",
            flush=True,
        )
        tokens = encoded(self.sources, self.tokenizer)
        while self.state["stage"] < len(self.stages):
            self._stage(self.stages[self.state["stage"]], tokens)
            self.state["stage"] += 1
            self.state["step"] = 0
            self._save()
        self.model.cpu().bfloat16().save_pretrained(self.out)
        self.tokenizer.save_pretrained(self.out)
        hashes = sorted(text_digest(text)[:16] for text in self.sources.values())
        write_text(self.out / "corpus.json", json.dumps(hashes))
        write_text(self.out / "README.md", card(self))

    def _stage(self, stage: Stage, tokens: list[list[int]]) -> None:
        state = self.state
        # Seeded by the step at which it starts: what was read before is not read again in the same order.
        rng = random.Random(f"{self.seed} {stage.name} {state['step']}")
        batches = self._batches(stage, tokens, rng)
        began = time.monotonic() - state["seconds"]
        self.model.train()
        while state["step"] < stage.steps:
            done = state["step"] / stage.steps
            rate = stage.rate * min(1.0, (state["step"] + 1) / WARM_UP) * min(1.0, (1 - done) / 0.5 + 0.02)
            loss, n = self._step(next(batches), rate)
            state["step"] += 1
            state["tokens"] += n
            state["seconds"] = time.monotonic() - began
            if state["step"] % 50 == 0 or state["step"] == stage.steps:
                state["curve"].append([stage.name, state["step"], round(loss, 4)])
                print(f"{stage.name} {state['step']} loss {loss:.3f} {state['seconds']:.0f} s", flush=True)
            if state["step"] % SAVE_EVERY == 0:
                self._save()
        if stage.name != "read":
            self._look(stage)
            state["seconds"] = time.monotonic() - began

    def _batches(self, stage: Stage, tokens: list[list[int]], rng: random.Random) -> Iterator[list[Piece]]:
        questions, names, read = Questions(self.tokenizer, rng), sorted(self.sources), rows(tokens, ROW, rng)
        while True:
            if stage.name == "read":
                yield [Piece(ids, [True] * ROW) for ids in (next(read) for _ in range(stage.size))]
            elif stage.name == "whole":
                yield [questions.whole(self.sources[rng.choice(names)], ROOM) for _ in range(stage.size)]
            elif stage.name == "decimals":
                apart = apart_at(self.state["step"] / stage.steps)
                yield [questions.decimals(apart) for _ in range(stage.size)]
            else:
                yield [questions.bare(("code_only",) if stage.name == "names" else KINDS) for _ in range(stage.size)]

    def _step(self, batch: list[Piece], rate: float) -> tuple[float, int]:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        learnt = sum(sum(piece.learn[1:]) for piece in batch)
        ordered, total, n = sorted(batch, key=lambda piece: len(piece.ids)), 0.0, 0
        for i in range(0, len(ordered), CHUNK):  # of like length: little is padded
            hidden, learn, ids = self._forward(ordered[i : i + CHUNK])
            # The output layer only where something is learnt.
            logits = self.model.lm_head(hidden[:, :-1][learn[:, 1:]])
            loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][learn[:, 1:]], reduction="sum") / learnt
            loss.backward()
            total += float(loss.detach())
            n += ids.numel()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total, n

    def _forward(self, batch: list[Piece]) -> tuple[Any, Any, Any]:
        import torch

        longest = max(len(piece.ids) for piece in batch)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([piece.ids + [pad] * (longest - len(piece.ids)) for piece in batch], device=self.device)
        learn = torch.tensor(
            [piece.learn + [False] * (longest - len(piece.learn)) for piece in batch], device=self.device
        )
        return self.model.model(input_ids=ids).last_hidden_state, learn, ids  # rows are padded on the right

    def _look(self, stage: Stage) -> None:
        """Ask fresh questions: the share of answers whose tokens are all the likeliest ones."""
        import torch

        rng = random.Random(f"{self.seed} look")
        questions, names = Questions(self.tokenizer, rng), sorted(self.sources)
        self.model.eval()
        found: dict[str, float] = {}
        for kind in KINDS:
            right = []
            for _ in range(ASKED // 50):
                if stage.name == "whole":
                    code = questions.renderers["code_only"]
                    code.code_tokens = 128
                    shown = [code.code(self.sources[rng.choice(names)]).text for _ in range(50)]
                    batch = [questions._piece(*questions.question(text, (kind,))) for text in shown]
                else:
                    batch = [questions.bare((kind,)) for _ in range(50)]
                with torch.no_grad():
                    hidden, learn, ids = self._forward(batch)
                    said = self.model.lm_head(hidden[:, :-1]).argmax(-1)
                right.append((((said == ids[:, 1:]) | ~learn[:, 1:]).all(-1)).float().mean().item())
            found[kind] = round(sum(right) / len(right), 3)
        self.model.train()
        self.state["skills"].append([stage.name, found])
        print(f"after {stage.name}: {found}", flush=True)

    def _save(self) -> None:
        import torch

        whole = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "state": self.state}
        torch.save(whole, self.saved.with_suffix(".new"))
        self.saved.with_suffix(".new").replace(self.saved)


def _tokenizer_texts(sources: dict[str, str]) -> list[str]:
    from nngpt_ext.compact import compact_code
    from nngpt_ext.prompts.builtin import NAMES, get_template

    templates = [get_template(name) for name in NAMES]
    # The prompts' own words many times, so that each becomes a token.
    return [compact_code(text) for text in sources.values()] + [t.system + "\n\n" + t.prompt for t in templates] * 200


def card(builder: Builder) -> str:
    """The model card: data, tokens, time, training curve, skills, and what the model is not."""
    state = builder.state
    lines: list[str] = []
    for stage in builder.stages:
        curve = [entry[1:] for entry in state["curve"] if entry[0] == stage.name]
        picked = sorted({round(k * (len(curve) - 1) / 4) for k in range(5)}) if curve else []
        lines += [f"| {stage.name} | {curve[i][0]:,} | {curve[i][1]:.3f} |" for i in picked]
    skills = [
        f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |"
        for name, figures in state["skills"]
    ]
    kinds = list(state["skills"][-1][1]) if state["skills"] else []
    curve_table, skill_table = "\n".join(lines), "\n".join(skills)
    parameters, used = builder.model.num_parameters(), len(builder.sources)
    return f"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# The embedded base model of nngpt_ext: `{builder.size}`

A Llama of {parameters:,} parameters with its own byte-level BPE tokenizer, trained from scratch, so that the task
`dataset_compare` runs where there is neither a model hub nor a GPU.

- **Data**: {used:,} PyTorch sources of LEMUR (nn-dataset 2.1.2, MIT), chosen from the {builder.found:,} that are in no
  pair at any epoch by leaving out near-duplicates (`corpus.json` holds the first 16 hex digits of their sha256),
  and questions made up at random in the wording of the built-in prompts: which of two decimals is larger, which
  recipe has the larger value, which recipe suits its dataset better by rules that were invented for the purpose
  (`Landscape`; they are not LEMUR's). No accuracy of LEMUR was in its training.
- **Training**: {state["tokens"] / 1e6:.1f} M tokens in {state["seconds"] / 60:.0f} minutes ({builder.device}):
  `python -m research.embedded.build --size {builder.size}`. Sources first, then questions with the loss on the
  answers only: bare ones, then whole prompts behind a source.
- **What it is not**: a language model to talk to or to write code with. It is a start for fine-tuning on this task.
  What it says of a dataset before fine-tuning is invented.

| stage | step | training loss |
|---|---|---|
{curve_table}

Share of fresh made-up questions answered correctly after each stage (`code_only` has no right answer: half is all):

| stage | {" | ".join(kinds)} |
|---|{"---|" * len(kinds)}
{skill_table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"), help="folder for the model")
    parser.add_argument("--size", choices=sorted(SHAPES), default="embedded")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps of every stage")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    Builder(given.out, given.size, given.seed, given.scale, given.device).run()


if __name__ == "__main__":
    main()
