"""Shared-prefix QLoRA at the sizes of DeepSeek-Coder 1.3B and 7B, on random weights.

    python benchmarks/gpu.py --shape 7b --out benchmarks/results        # on a CUDA device
    python benchmarks/gpu.py --tiny                                     # the same code on a CPU, in seconds

Speed and memory do not depend on the values of weights, so none are loaded: they are drawn on the device and the
output says so. Needs torch, transformers, peft and this tree; bitsandbytes for NF4 (else bf16, and the output says
so). Steps are taken by a plain loop; where trl is there too, once more by the package's own trainer. Each result is
printed and written as it is measured, so that a run that is cut off has kept it.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import own_length, pack, tokens_of
from nngpt_ext.batches.tensors import answer_log_probs, make_batch, mask_dtype
from nngpt_ext.io import write_text
from nngpt_ext.models.base import keep_compute_dtype
from nngpt_ext.models.fused import fuse, fuse_norms
from nngpt_ext.version import __version__

# hidden, intermediate, layers, heads, vocabulary: the config.json of deepseek-coder-1.3b-instruct and of
# deepseek-coder-7b-instruct-v1.5.
SHAPES = {
    "1.3b": (2048, 5504, 24, 16, 32256),
    "7b": (4096, 11008, 30, 32, 102400),
    "tiny": (64, 128, 2, 4, 512),
}
STOP = 1

# examples_per_second, tokens_per_second (that went through the model), tokens_per_row (or batch), peak_gb
Rates = dict[str, Any]


def base_model(shape: str, device: torch.device, four_bits: bool, dtype: torch.dtype | None = None) -> Any:
    """A Llama of that shape with random frozen weights, its linear layers in NF4, made layer by layer.

    It computes in bf16 on a card and in fp32 on a CPU, unless `dtype` says otherwise.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, inner, layers, heads, vocabulary = SHAPES[shape]
    config: Any = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=vocabulary, max_position_embeddings=16384, pad_token_id=0,
        bos_token_id=None, eos_token_id=STOP, tie_word_embeddings=False,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
        model.to(dtype)
    torch.manual_seed(0)
    if four_bits:
        _quantise(model, device, dtype)
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            drawn = torch.ones if "norm" in name else torch.randn
            scale = 1.0 if "norm" in name else 0.02
            _put(model, name, torch.nn.Parameter(drawn(parameter.shape, dtype=dtype, device=device) * scale, False))
    rotary = model.model.rotary_emb
    with device:
        model.model.rotary_emb = type(rotary)(config)
    model.is_loaded_in_4bit = four_bits
    keep_compute_dtype(model)
    fuse_norms(model)
    return model.eval().requires_grad_(False)


def _quantise(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    import bitsandbytes as bnb

    for name, module in list(model.model.layers.named_modules()):
        if isinstance(module, torch.nn.Linear):
            layer: Any = bnb.nn.Linear4bit(
                module.in_features, module.out_features, bias=False, compute_dtype=dtype, quant_type="nf4",
                compress_statistics=True, device="meta",
            )  # fmt: skip
            drawn = torch.randn(module.out_features, module.in_features, dtype=dtype, device=device) * 0.02
            weight: Any = bnb.nn.Params4bit(
                drawn.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            layer.weight = weight.to(device)
            layer.weight.module = layer
            _put(model.model.layers, name, layer)


def _put(model: Any, name: str, part: torch.nn.Parameter | torch.nn.Module) -> None:
    """Replace a parameter or a layer of a model."""
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, part)


def with_lora(model: Any, rank: int) -> Any:
    """LoRA on all linear layers, its weights in fp32, with activations recomputed as a run on a card does it."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules="all-linear")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    tuned = get_peft_model(model, lora)
    fuse(tuned)
    for name, parameter in tuned.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            if "lora_B" in name:  # zeros at first: every gradient of an A would be zero
                torch.nn.init.normal_(parameter, std=0.01)
    return tuned


def questions(networks: int, each: int, prefix: int, own: int, vocabulary: int) -> list[list[Example]]:
    """Random examples: a prefix a network, questions of their own, an answer of three tokens and a stop."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> np.ndarray:
        return rng.integers(2, vocabulary, n).astype("int32")

    groups = []
    for _ in range(networks):
        source = drawn(prefix)
        groups.append([
            Example(np.concatenate([source, drawn(own)]), (np.append(drawn(3), STOP).astype("int32"),))
            for _ in range(each)
        ])  # fmt: skip
    return groups


def tokens_of_network(group: list[Example], share: bool = True) -> int:
    """Tokens of all questions about a network, with the prefix once or in each."""
    return tokens_of([group], [[0, *range(len(group))]], share=share)


def filling(groups: list[list[Example]], row_tokens: int, rows: int | None = None) -> list[list[Example]]:
    """The networks of full rows: of that many, or of as many as hold all. If there are too few, they come again."""
    held = max(1, row_tokens // max(map(tokens_of_network, groups)))
    return list(itertools.islice(itertools.cycle(groups), held * (rows or math.ceil(len(groups) / held))))


def passes(model: Any, groups: list[list[Example]], engine: str, row_tokens: int) -> list[Any]:
    """The batches of one pass over the examples."""
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    if engine == "plain":
        flat = [example for group in groups for example in group]
        size = max(1, row_tokens // max(own_length(e, 0) for e in flat))
        rows = [[flat[i : i + size]] for i in range(0, len(flat), size)]
    else:
        rows = [[[groups[g][e] for e in numbers] for g, *numbers in row] for row in pack(groups, row_tokens)]
    return [make_batch(row, engine, dtype, 0).to(device) for row in rows]


def gradients(model: Any, batches: list[Any]) -> torch.Tensor:
    """The gradient of the mean loss over all examples, flat, fp32."""
    trained = [p for p in model.parameters() if p.requires_grad]
    n = sum(batch.n_answers for batch in batches)
    sums = [torch.zeros_like(p) for p in trained]
    for batch in batches:
        loss = -answer_log_probs(model, batch).sum() / n
        for total, gradient in zip(sums, torch.autograd.grad(loss, trained), strict=True):
            total += gradient
    return torch.cat([one.flatten() for one in sums])


def gradient_error(model: Any, groups: list[list[Example]], engine: str) -> float:
    """Relative difference between the gradients of an engine and of one example a row."""
    few = [group[:6] for group in groups[:2]]
    ours, single = (gradients(model, passes(model, few, way, 2048)) for way in (engine, "plain"))
    return float((ours - single).norm() / single.norm())


def rounding(model: Any, groups: list[list[Example]]) -> float:
    """The difference from rounding alone: one example a row, in batches of another size."""
    few = [group[:6] for group in groups[:2]]
    one, other = (gradients(model, passes(model, few, "plain", tokens)) for tokens in (2048, 8192))
    return float((one - other).norm() / other.norm())


def gradient_error_in_fp32(device: torch.device, four_bits: bool, rank: int) -> float:
    """The same for a small model that computes in fp32, where rounding hides nothing."""
    groups = questions(2, 6, 200, 24, SHAPES["tiny"][-1])
    model = base_model("tiny", device, four_bits, torch.float32)
    engine = checked_engine(model, groups[0], 0, "shared")
    return gradient_error(with_lora(model, rank).train(), groups, engine)


def by_loop(model: Any, groups: list[list[Example]], engine: str, row_tokens: int, seconds: float) -> Rates:
    """Optimiser steps over the examples for about that long, after one that warms up."""
    cuda = next(model.parameters()).is_cuda
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=cuda)
    batches = passes(model, filling(groups, row_tokens), engine, row_tokens)
    model.train()

    def step(batch: Any) -> None:
        loss = -answer_log_probs(model, batch).sum() / batch.n_answers
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    for batch in {batch.n_tokens: batch for batch in batches}.values():  # every length once, to warm up
        step(batch)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    done = tokens = number = 0
    began = now(cuda)
    while done == 0 or now(cuda) - began < seconds:
        batch = batches[number % len(batches)]
        if "layout" in batch.inputs:  # a run makes the mask of each row again
            batch.inputs["layout"].kept.clear()
        step(batch)
        done, tokens, number = done + batch.n_answers, tokens + batch.n_tokens, number + 1
    elapsed = now(cuda) - began
    model.eval()
    return rates(done, tokens, number, elapsed, cuda)


def rates(examples: float, tokens: float, rows: float, seconds: float, cuda: bool) -> Rates:
    return {
        "examples_per_second": examples / seconds,
        "tokens_per_second": tokens / seconds,
        "tokens_per_row": tokens / rows,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
    }


def now(cuda: bool) -> float:
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(device: torch.device, size: int) -> float:
    """TFLOP/s of square matrix products in the type that the model computes in."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    cuda = device.type == "cuda"
    best = math.inf
    for _ in range(20 if cuda else 3):
        began = now(cuda)
        a @ b
        best = min(best, now(cuda) - began)
    return 2 * size**3 / best / 1e12


def by_trainer(tuned: Any, groups: list[list[Example]], engine: str, row_tokens: int, rank: int) -> Rates:
    """Three equal steps of the package's own trainer, on trl, of which the first warms up.

    A step has as many networks as a row of shared prefixes holds.

    Raises:
        ImportError: if trl or one of its requirements is not installed.
        OutOfMemoryError: also if the trainer went on with shorter rows.
    """
    from transformers import AutoTokenizer, TrainerCallback

    from nngpt_ext.config import TaskConfig
    from nngpt_ext.models.base import Base
    from nngpt_ext.models.presets import EMBEDDED
    from nngpt_ext.tuning.plan import make_plan
    from nngpt_ext.tuning.trainer import AnswerTrainer

    cuda = next(tuned.parameters()).is_cuda
    groups = filling(groups, row_tokens, rows=3)
    tuning = {
        "epochs": 1, "learning_rate": 1e-5, "examples_per_step": len(groups) // 3 * 2 * (len(groups[0]) // 2),
        "row_tokens": row_tokens, "warmup": 0.0, "gradient_checkpointing": True, "engine": engine,
    }  # fmt: skip
    lora = {"r": rank, "alpha": rank, "dropout": 0.0}
    config = TaskConfig.model_validate({"model": {"lora": lora}, "tuning": tuning}).resolved(Path()).decided()
    plan = make_plan(groups, config)

    ends: list[float] = []

    class Timed(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(now(cuda))

    # Its tokenizer is only saved with checkpoints; nothing is tokenised here.
    base = Base("random", Path(), "", tuned.get_base_model(), AutoTokenizer.from_pretrained(EMBEDDED), True, {})
    with tempfile.TemporaryDirectory() as folder:
        trainer = AnswerTrainer(base, tuned, groups, plan, config, Path(folder))
        for parameter in tuned.parameters():  # TRL makes them bf16; a run keeps fp32
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        trainer.add_callback(Timed())
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    if trainer.row_tokens < row_tokens:
        raise torch.OutOfMemoryError
    share = (len(plan.steps) - 1) / len(plan.steps)
    measured = (trainer.n_examples * share, trainer.n_tokens * share, sum(map(len, plan.steps[1:])))
    return rates(*measured, ends[-1] - ends[0], cuda)


def attempt(way: Callable[..., Rates], *given: Any) -> Rates:
    try:
        return way(*given)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"failed": "out of memory"}
    except ImportError as missing:
        return {"failed": str(missing)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["1.3b", "7b"], default="7b")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--questions", type=int, default=20, help="about each network: 20 is LEMUR's mean, both orders")
    parser.add_argument("--prefix", type=int, default=1500, help="tokens of instructions and source")
    parser.add_argument("--own", type=int, default=24, help="further tokens of each question")
    parser.add_argument("--row-tokens", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each measurement")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--out", type=Path, help="folder for the result, a JSON file named after the device")
    given = parser.parse_args()
    if given.tiny:
        given.shape, given.prefix, given.row_tokens, given.seconds = "tiny", 200, [512, 1024], 0.5
    if not given.tiny and not torch.cuda.is_available():
        parser.exit(2, "no CUDA device found; --tiny runs the same code on a CPU\n")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu" if given.tiny else "cuda")
    four_bits = importlib.util.find_spec("bitsandbytes") is not None
    print(json.dumps(run(given, device, four_bits), indent=2))


def run(given: argparse.Namespace, device: torch.device, four_bits: bool) -> dict[str, Any]:
    """Everything that is measured, as one mapping, which is written anew after each result."""
    groups = questions(given.networks, given.questions, given.prefix, given.own, SHAPES[given.shape][-1])
    rate = matrix_rate(device, 8192 if device.type == "cuda" else 1024)
    model = base_model(given.shape, device, four_bits)
    engine = checked_engine(model, groups[0], 0, "shared")
    tuned = with_lora(model, given.rank)
    tuned.train()  # no dropout: only so that activations are recomputed
    frozen = sum(
        math.prod(layer.weight.quant_state.shape if four_bits else layer.weight.shape)
        for layer in (m.base_layer for m in tuned.modules() if hasattr(m, "base_layer"))
    )
    names = ("torch", "triton", "transformers", "peft", "accelerate", "bitsandbytes", "trl")
    table: list[dict[str, Any]] = []
    found = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "shape": given.shape,
        "weights": "random, drawn on the device",
        "base": "NF4, double quantisation" if four_bits else "not quantised: bitsandbytes is not installed",
        "engine": engine,
        "lora_rank": given.rank,
        "gradient_checkpointing": True,
        "lengths": {"networks": given.networks, "questions": given.questions, "prefix": given.prefix, "own": given.own},
        "bound": sum(tokens_of_network(g, share=False) for g in groups) / sum(map(tokens_of_network, groups)),
        "gradient_relative_error": gradient_error(tuned, groups, engine),
        "gradient_rounding": rounding(tuned, groups),
        "gradient_relative_error_tiny_fp32": gradient_error_in_fp32(device, four_bits, given.rank),
        "results": table,
        "matrix_tflops": rate,
        "versions": {"nngpt_ext": __version__, **{name: _version(name) for name in names}, "cuda": torch.version.cuda},
        "python": sys.version.split()[0],
    }
    file = f"gpu-{given.shape}-{found['device']}.json".lower().replace(" ", "-")

    def measure(name: str, row_tokens: int, way: Callable[..., Rates], *more: Any) -> None:
        table.append({"engine": name, "row_tokens": row_tokens, **attempt(way, tuned, groups, *more)})
        print(json.dumps(table[-1]), file=sys.stderr, flush=True)
        found.update(summary(table, engine, frozen, rate))
        if given.out:
            write_text(given.out / file, json.dumps(found, indent=2) + "\n")

    ways = dict.fromkeys([engine, "plain"])
    for row_tokens, way in itertools.product(given.row_tokens, ways):
        measure(way, row_tokens, by_loop, way, row_tokens, given.seconds)
    for way in ways:
        measure(f"{way}, the package's trainer", row_tokens, by_trainer, way, row_tokens, given.rank)
    return found


def summary(table: list[dict[str, Any]], engine: str, frozen: int, rate: float) -> dict[str, float | None]:
    """What the loop's fastest rows say; `frozen` weights have LoRA, and `rate` is of matrix products, in TFLOP/s."""
    ran = sorted((row for row in table if "failed" not in row), key=lambda row: row["examples_per_second"])
    best = {row["engine"]: row for row in ran}
    ours, plain = best.get(engine), best.get("plain")
    # Forward, forward again (recomputed), and backward to the activations: 2 FLOP a weight each; frozen weights
    # have no gradient, and attention and LoRA are left out.
    return {
        "examples_ratio": ours["examples_per_second"] / plain["examples_per_second"] if ours and plain else None,
        "share_of_matrix_rate": 6 * frozen * ours["tokens_per_second"] / 1e12 / rate if ours else None,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
