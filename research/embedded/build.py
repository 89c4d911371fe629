"""Build an embedded base model: `python -m research.embedded.build --size NAME --out FOLDER`, in the repository root.

A small Llama and its tokenizer are trained from scratch, first on the sources of LEMUR that are in no pair at
any epoch, near-duplicates removed, then on made-up questions, from short to long. `embedded-2` starts from `embedded`
and learns to read lines of numbers by invented rules. The training is seeded; an interrupted one continues from where
it last saved.
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
from nngpt_ext.models.presets import EMBEDDED
from research.embedded.corpus import distinct, encoded, rows, unpaired_sources
from research.embedded.lessons import KINDS as LINE_KINDS
from research.embedded.lessons import Lessons
from research.embedded.questions import KINDS, Piece, Questions, apart_at
from research.embedded.rules import RULES
from research.embedded.tokenizer import extended_tokenizer, train_tokenizer

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
SHAPES["embedded-2"] = SHAPES["embedded"]


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
# `embedded-2` goes on from `embedded`: what the invented rules say of single lines, then questions about two of them.
FURTHER = (Stage("rules", 450, 64, 2.5e-3), Stage("pairs", 750, 48, 1.2e-3))
COURSES = {"embedded": STAGES, "embedded-small": STAGES, "embedded-2": FURTHER}
# Words of the prompts that there were when `embedded`'s tokenizer was made: with others it would be another one.
PROMPTS = ("code_only", "metadata", "metadata_only", "normalized_accuracy", "recipe")
CHUNK = 32  # pieces of a forward pass
ROW = 512  # tokens of a row of source
ROOM = 900  # tokens of a row with a source and questions
OLDER_TOKENS = 4081  # of `embedded`
WARM_UP = 30  # steps of each stage
NOISE = 0.02  # standard deviation of what is added to a further token's first embedding
SAVE_EVERY = 100  # steps
ASKED = 400  # fresh questions of each kind in the card's table


class Builder:
    """The state of a training: model, optimiser, and how far it is."""

    def __init__(self, out: Path, size: str, seed: int, scale: float, device: str) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        torch.manual_seed(seed)
        self.out, self.size, self.seed, self.device = out, size, seed, device
        self.further = COURSES[size] is FURTHER
        self.stages = [replace(stage, steps=max(1, round(stage.steps * scale))) for stage in COURSES[size]]
        every = unpaired_sources(open_source())
        self.found = len(every)
        self.sources = {name: every[name] for name in distinct(every)}
        self.work = out / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.tokenizer: PreTrainedTokenizerBase
        if (self.work / "tokenizer.json").exists():
            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(self.work)
        else:
            self.tokenizer = (
                extended_tokenizer(EMBEDDED) if self.further else train_tokenizer(_tokenizer_texts(self.sources))
            )
            self.tokenizer.save_pretrained(self.work)
        config = LlamaConfig(
            vocab_size=len(self.tokenizer), pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id, bos_token_id=None, **SHAPES[size],
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).to(device)  # type: ignore[arg-type]  # transformers' wrapper has no types
        self.rules = torch.nn.Linear(config.hidden_size, RULES).to(device)  # left out of the model that is written
        trained = list(self.model.parameters())
        if self.further:
            copy_weights(self.model, self.tokenizer)
            trained += self.rules.parameters()
        self.optimizer = torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.98), weight_decay=0.05)
        self.state: dict[str, Any] = {"stage": 0, "step": 0, "seconds": 0.0, "tokens": 0, "curve": [], "skills": []}
        self.saved = self.work / f"{size}.pt"
        if self.saved.exists():
            loaded = torch.load(self.saved, weights_only=True)
            self.model.load_state_dict(loaded["model"])
            self.rules.load_state_dict(loaded["rules"])
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
        if stage.name not in ("read", "rules"):
            self._look(stage)
            state["seconds"] = time.monotonic() - began

    def _batches(self, stage: Stage, tokens: list[list[int]], rng: random.Random) -> Iterator[list[Piece]]:
        if self.further:
            yield from self._lessons(stage, rng)
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

    def _lessons(self, stage: Stage, rng: random.Random) -> Iterator[list[Piece]]:
        lessons = Lessons(self.tokenizer, rng)
        while True:
            yield [lessons.line() if stage.name == "rules" else lessons.mixed() for _ in range(stage.size)]

    def _step(self, batch: list[Piece], rate: float) -> tuple[float, int]:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        learnt = max(1, sum(sum(piece.learn[1:]) for piece in batch))
        ruled = sum(len(piece.targets) for piece in batch)
        ordered, total, n = sorted(batch, key=lambda piece: len(piece.ids)), 0.0, 0
        for i in range(0, len(ordered), CHUNK):  # of like length: little is padded
            hidden, learn, ids = self._forward(ordered[i : i + CHUNK])
            # The output layer only where something is learnt.
            logits = self.model.lm_head(hidden[:, :-1][learn[:, 1:]])
            loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][learn[:, 1:]], reduction="sum") / learnt
            if ruled:
                rows, wanted = _targets(ordered[i : i + CHUNK])
                if rows:
                    away = self.rules(hidden[tuple(zip(*rows, strict=True))]) - wanted.to(self.device)
                    loss = loss + away.square().mean(-1).sum() / ruled
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
        lessons = Lessons(self.tokenizer, rng) if self.further else None
        behind = stage.name == "whole"
        code = questions.renderers["code_only"]
        code.code_tokens = 128
        self.model.eval()
        found: dict[str, float] = {}
        for kind in (*KINDS, *(LINE_KINDS if lessons else ())):
            right = []
            for _ in range(ASKED // 50):
                shown = [code.code(self.sources[rng.choice(names)]).text for _ in range(50)] if behind else [None] * 50
                if lessons and kind in LINE_KINDS:
                    batch = [lessons.pair((kind,)) for _ in shown]
                elif behind:
                    batch = [questions._piece(*questions.question(text or "", (kind,))) for text in shown]
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

        parts = {"model": self.model.state_dict(), "rules": self.rules.state_dict()}
        whole = {**parts, "optimizer": self.optimizer.state_dict(), "state": self.state}
        torch.save(whole, self.saved.with_suffix(".new"))
        self.saved.with_suffix(".new").replace(self.saved)


def _tokenizer_texts(sources: dict[str, str]) -> list[str]:
    from nngpt_ext.compact import compact_code
    from nngpt_ext.prompts.builtin import get_template

    templates = [get_template(name) for name in PROMPTS]
    # The prompts' own words many times, so that each becomes a token.
    return [compact_code(text) for text in sources.values()] + [t.system + "\n\n" + t.prompt for t in templates] * 200


def _targets(batch: list[Piece]) -> tuple[list[tuple[int, int]], Any]:
    """The positions (piece, token) at which rules are regressed, and the rules' numbers there."""
    import numpy as np
    import torch

    found = [((i, at), numbers) for i, piece in enumerate(batch) for at, numbers in piece.targets]
    return [at for at, _ in found], torch.from_numpy(np.array([numbers for _, numbers in found]))


def copy_weights(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Start a model from `embedded`.

    A further token begins as the mean of the tokens that its text had before, a hundredth between its two tenths, each
    with a little noise, since other texts of the same tokens would be the same.
    """
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    older = LlamaForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    before = AutoTokenizer.from_pretrained(EMBEDDED)
    rows = older.state_dict()["model.embed_tokens.weight"]
    further = []
    for i in range(len(before), len(tokenizer)):
        text = str(tokenizer.decode([i]))
        if "." in text:
            blank, hundredths = text[: -len("0.00")], round(100 * float(text))
            ids = [
                before(f"{blank}{min(hundredths // 10 + more, 10) / 10:.1f}", add_special_tokens=False)["input_ids"][0]
                for more in (0, 1)
            ]
            share = hundredths % 10 / 10
            further.append(rows[ids[0]] * (1 - share) + rows[ids[1]] * share)
        else:
            further.append(rows[before(text, add_special_tokens=False)["input_ids"]].mean(0))
    noise = NOISE * torch.randn(len(further), rows.shape[1])
    whole = torch.cat([rows, torch.stack(further) + noise])
    model.load_state_dict(older.state_dict() | {"model.embed_tokens.weight": whole, "lm_head.weight": whole})


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
    start = (
        f"started from `embedded` with {len(builder.tokenizer) - OLDER_TOKENS} more tokens"
        if builder.further
        else "trained from scratch"
    )
    more = FURTHER_DATA if builder.further else ""
    order = FURTHER_ORDER if builder.further else ORDER
    return f"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# The embedded base model of nngpt_ext: `{builder.size}`

A Llama of {parameters:,} parameters with its own byte-level BPE tokenizer, {start}, so that the task
`dataset_compare` runs where there is neither a model hub nor a GPU.

- **Data**: {used:,} PyTorch sources of LEMUR (nn-dataset 2.1.2, MIT), chosen from the {builder.found:,} that are in no
  pair at any epoch by leaving out near-duplicates (`corpus.json` holds the first 16 hex digits of their sha256),
  and questions made up at random in the wording of the built-in prompts: which of two decimals is larger, which
  recipe has the larger value, which recipe suits its dataset better by rules that were invented for the purpose
  (`Landscape`; they are not LEMUR's). {more}No accuracy of LEMUR was in its training.
- **Training**: {state["tokens"] / 1e6:.1f} M tokens in {state["seconds"] / 60:.0f} minutes ({builder.device}):
  `python -m research.embedded.build --size {builder.size}`. {order}
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


ORDER = """Sources first, then questions with the loss on the
  answers only: bare ones, then whole prompts behind a source."""
FURTHER_ORDER = """First regression of the invented rules
  from single lines, then bare questions about two lines; a fifth of them are the earlier ones."""
FURTHER_DATA = f"""Then lines of pace, structure, recipe and early
  accuracies, drawn at random, with {RULES} invented rules over their numbers (`Rules`). """


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
