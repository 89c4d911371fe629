"""Small models with real tokenizers, made on the spot from real LEMUR sources.

Their weights are drawn wide (0.2), so that answers depend on every token a model sees: with the usual 0.02 a
wrong mask or position would pass unnoticed.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from nngpt_ext.data.sources.package import PackageSource, installed_folder
from nngpt_ext.models.base import Base, load_base
from nngpt_ext.prompts.builtin import get_template
from research.embedded.build import PROMPTS
from research.embedded.tokenizer import train_tokenizer

NETWORKS = ("AirNet", "AlexNet", "DenseNet", "MobileNetV3", "ResNet", "VGG")
KINDS = ("llama", "qwen2", "gpt_neox")

_kept = tempfile.TemporaryDirectory(prefix="nngpt_ext_made_")  # goes with the process


@functools.cache
def sources() -> dict[str, str]:
    """Sources of six networks of the installed LEMUR."""
    folder = installed_folder()
    assert folder is not None, "nn-dataset==2.1.2 is not installed"
    return PackageSource(folder).sources(NETWORKS)


@functools.cache
def tokenizer() -> Any:
    """The embedded model's kind of tokenizer, trained on these sources. Do not change it: use `copy.deepcopy`."""
    templates = [get_template(name) for name in PROMPTS]
    # The prompts' own words, as the embedded model's tokenizer knows them.
    return train_tokenizer([*sources().values(), *[f"{t.system}\n\n{t.prompt}" for t in templates] * 20])


@functools.cache
def pieces_tokenizer() -> Any:
    """A GPT-2-like tokenizer that knows no dataset's name: answers differ in length."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(sources().values(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


@functools.cache
def folder(kind: str, seed: int = 0, pieces: bool = False) -> Path:
    """A folder with a model of two layers and its tokenizer, as `save_pretrained` writes it."""
    import torch
    import transformers as t

    words = pieces_tokenizer() if pieces else tokenizer()
    config_class, model_class = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM),
        "qwen2": (t.Qwen2Config, t.Qwen2ForCausalLM),
        "gpt_neox": (t.GPTNeoXConfig, t.GPTNeoXForCausalLM),
    }[kind]
    shape: dict[str, Any] = {} if kind == "gpt_neox" else {"num_key_value_heads": 2}
    config = config_class(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=2048, initializer_range=0.2, bos_token_id=None, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, tie_word_embeddings=False, **shape,
    )  # fmt: skip
    torch.manual_seed(seed)
    path = Path(_kept.name) / f"{kind}-{seed}{'-pieces' if pieces else ''}"
    model_class(config).save_pretrained(path)
    words.save_pretrained(path)
    return path


_SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 2048,
}  # fmt: skip
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048}
# Of each architecture, by the name of its class in transformers: the shape, beside what all have.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "CTRL": {"n_embd": 64, "dff": 128, "n_layer": 2, "n_head": 4, "n_positions": 2048},
    "Cohere": _GROUPED,
    "DeepseekV2": {
        **_SMALL, "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
        "moe_intermediate_size": 64, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    },
    "Falcon": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "GPT2": _GPT,
    "GPTJ": {**_GPT, "rotary_dim": 8},
    "GPTNeo": {
        "hidden_size": 64, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 2048,
    },
    "GPTNeoX": _SMALL,
    "Gemma": {**_GROUPED, "head_dim": 16},
    "Gemma2": {**_GROUPED, "head_dim": 16, "sliding_window": 4096},
    "Gemma3": {**_GROUPED, "head_dim": 16, "sliding_window": 4096},
    "Gemma3n": {
        **_GROUPED, "head_dim": 16, "sliding_window": 4096, "num_kv_shared_layers": 0, "laurel_rank": 8,
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 4096,
        "activation_sparsity_pattern": [0.0, 0.0], "layer_types": ["sliding_attention", "full_attention"],
    },
    "Llama": _GROUPED,
    "Llama4": {
        **_GROUPED, "head_dim": 16, "intermediate_size_mlp": 128, "num_local_experts": 2, "attention_chunk_size": 2048,
        "no_rope_layers": [1, 0], "interleave_moe_layer_step": 1,
    },
    "Mamba": {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
    "Mistral": {**_GROUPED, "sliding_window": 4096},
    "Mixtral": {**_GROUPED, "num_local_experts": 4},
    "Mpt": {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 2048},
    "OPT": {
        "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 64,
        "max_position_embeddings": 2048,
    },
    "Olmo": _GROUPED,
    "Phi": _SMALL,
    "Phi3": _GROUPED,
    "Phimoe": {**_GROUPED, "num_local_experts": 4},
    "Qwen2": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 16},
    "Rwkv": {"hidden_size": 64, "num_hidden_layers": 2, "context_length": 2048, "attention_hidden_size": 64},
    "StableLm": _GROUPED,
    "Starcoder2": _GROUPED,
}  # fmt: skip
# Of architectures that fill in words, unless they are told otherwise, and one that projects behind its last state.
OTHERS: dict[str, dict[str, Any]] = {
    "Bert": _SMALL,
    "RoFormer": {**_SMALL, "is_decoder": True},
    "XLNet": {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128},
}
_CLASSES = {
    "Bert": ("BertConfig", "BertLMHeadModel"),
    "CTRL": ("CTRLConfig", "CTRLLMHeadModel"),
    "GPT2": ("GPT2Config", "GPT2LMHeadModel"),
    "Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM"),
    "Gemma3n": ("Gemma3nTextConfig", "Gemma3nForCausalLM"),
    "Llama4": ("Llama4TextConfig", "Llama4ForCausalLM"),
    "XLNet": ("XLNetConfig", "XLNetLMHeadModel"),
}


def architecture(name: str, to: Path, **changes: Any) -> Path:
    """A folder with a small model of that architecture, with changes of its configuration, and its tokenizer."""
    import transformers as t

    from nngpt_ext.models.base import quiet_transformers

    words = tokenizer()
    config, model = _CLASSES.get(name, (f"{name}Config", f"{name}ForCausalLM"))
    shape = {
        "vocab_size": len(words), "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id, "tie_word_embeddings": False,
        **(ARCHITECTURES | OTHERS)[name], **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    with quiet_transformers():
        getattr(t, model)(getattr(t, config)(**shape)).save_pretrained(to)
    words.save_pretrained(to)
    return to


@functools.cache
def base(kind: str, load_in_4bit: bool = False, seed: int = 0, pieces: bool = False) -> Base:
    """That model, loaded by the package's own route."""
    return load_base(str(folder(kind, seed, pieces)), load_in_4bit=load_in_4bit)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """For a folder's conftest: models this small are slower on two threads, much slower beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def damaged(made: Base) -> Iterator[None]:
    """The base with NaN in its output layer; afterwards it is as it was, for other tests share it."""
    head = made.model.get_output_embeddings().weight
    before = head.detach().clone()
    try:
        with torch.no_grad():
            head[-1] = float("nan")
        yield
    finally:
        with torch.no_grad():
            head.copy_(before)
