"""Loading: real 4 bits, only safetensors, one line for what cannot be loaded, and whose adapter it is."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from nngpt_ext.compact import compact_code
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import (
    ACTIVATION_BYTES,
    adapted,
    base_folder,
    base_hash,
    check_base,
    compute_dtype,
    load_base,
    quiet_transformers,
)
from nngpt_ext.models.presets import EMBEDDED, PRESETS
from nngpt_ext.networks.source import read_source
from nngpt_ext.run_folder import BASE_FILE
from tests import models_made
from tests.models_made import KINDS


def copy(to: Path, kind: str = "llama") -> Path:
    return Path(shutil.copytree(models_made.folder(kind), to / "model"))


def linears(model: Any) -> dict[str, Any]:
    """Linear layers of the blocks; the language-model head stays as it is in 4 bits too."""
    chosen = (module for module in model.named_modules() if isinstance(module[1], torch.nn.Linear))
    return {name: module for name, module in chosen if name.split(".")[-1] not in {"lm_head", "embed_out"}}


@pytest.mark.parametrize("kind", KINDS)
def test_nf4_is_real(kind: str) -> None:
    import bitsandbytes as bnb

    base = models_made.base(kind, load_in_4bit=True)
    layers = linears(base.model)
    assert len(layers) == {"llama": 14, "qwen2": 14, "gpt_neox": 8}[kind]
    for layer in layers.values():
        assert isinstance(layer, bnb.nn.Linear4bit)
        assert isinstance(layer.weight, bnb.nn.Params4bit)
        assert layer.weight.dtype == torch.uint8
        assert layer.weight.numel() * 2 == layer.in_features * layer.out_features
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested  # double quantisation
        assert layer.compute_dtype == compute_dtype(str(base.device))
    assert compute_dtype("cpu") == torch.float32
    assert base.load_in_4bit


@pytest.mark.parametrize("kind", KINDS)
def test_without_4_bits_layers_are_plain(kind: str) -> None:
    base = models_made.base(kind)
    assert {type(layer) for layer in linears(base.model).values()} == {torch.nn.Linear}
    assert {p.dtype for p in base.model.parameters()} == {compute_dtype(str(base.device))}
    assert not base.load_in_4bit


def test_products_are_in_the_compute_type_on_every_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with AVX512-BF16, where bitsandbytes repacks weights at the first pass without gradients."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    base = models_made.base("llama", load_in_4bit=True)
    layers = [layer for layer in base.model.modules() if type(layer).__name__ == "Linear4bit"]
    before = layers[0].weight.data.clone()
    with torch.inference_mode():
        base.model(torch.arange(5)[None])
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert torch.equal(layers[0].weight.data, before)


def test_4_bits_change_answers_a_little() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        whole = models_made.base("llama").model(ids).logits
        bits = models_made.base("llama", load_in_4bit=True).model(ids).logits
    relative = ((whole - bits).norm() / whole.norm()).item()
    assert 0.01 < relative < 0.7


@pytest.mark.parametrize("bits", [True, False])
def test_a_base_is_frozen_and_ready(bits: bool) -> None:
    base = load_base(str(models_made.folder("llama")), load_in_4bit=bits)  # its own: others change its attention
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training
    assert base.context == 2048
    assert base.name == str(base.folder)
    assert base.tokenizer.eos_token == "<|end|>"
    assert base.tokenizer.get_vocab() == models_made.tokenizer().get_vocab()
    assert base.model.config._attn_implementation == "sdpa"


def test_a_tokenizer_without_padding_pads_with_its_stop_token() -> None:
    tokenizer = models_made.base("llama", pieces=True).tokenizer
    assert models_made.pieces_tokenizer().pad_token is None
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_without_stop_token_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["eos_token"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no stop token"):
        load_base(str(folder), load_in_4bit=False)


@pytest.mark.parametrize("base", ["deepseek", "gpt2"])
def test_unknown_base_lists_the_presets(base: str) -> None:
    with pytest.raises(UserError) as caught:
        load_base(base)
    message = str(caught.value)
    assert message == (
        f"unknown base model '{base}'; known: deepseek-coder-1.3b, deepseek-coder-7b, embedded, embedded-2, "
        "embedded-small, smollm2-135m, a folder, a GGUF file, a hub id (owner/name)"
    )
    assert all(name in message for name in PRESETS)


@pytest.mark.parametrize("base", ["/no/such/folder", "./models/none", "~/model", "a/b/c", "a/model.GGUF", "none.gguf"])
def test_a_place_that_does_not_exist(base: str) -> None:
    known = "a base model is one of deepseek-coder-1.3b, .*a GGUF file"
    with pytest.raises(UserError, match=f"^there is no '{base}'; {known}"):
        load_base(base)


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model: it has no config\.json"):
        base_folder(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    model = models_made.base("llama").model
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no \*\.safetensors; other weights are not read"):
        load_base(str(folder), load_in_4bit=False)


def test_pickled_weights_beside_are_not_read(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"not to be read")
    assert load_base(str(folder), load_in_4bit=False).sha256 == models_made.base("llama").sha256


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("model.safetensors", b"cut"),
        ("tokenizer.json", None),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"{}"),
        ("config.json", b"[]"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = copy(tmp_path)
    if content is None:
        (folder / name).unlink()
        (folder / "tokenizer_config.json").unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_base(str(folder), load_in_4bit=False)
    assert str(caught.value).startswith(f"cannot load base model '{folder}' from '{folder}': ")
    assert "\n" not in str(caught.value)


def test_hash_is_stable_and_changes_with_weights(tmp_path: Path) -> None:
    folder = models_made.folder("llama")
    first = base_hash(folder)
    assert first == base_hash(folder) == models_made.base("llama").sha256
    assert first == models_made.base("llama", load_in_4bit=True).sha256
    assert len(first) == 64
    same = copy(tmp_path)
    (same / "README.md").write_text("notes do not count")
    assert base_hash(same) == first
    file = same / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert base_hash(same) != first
    assert base_hash(models_made.folder("llama", seed=1)) != first


def test_hash_covers_every_weights_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"1")
    one = base_hash(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"2")
    two = base_hash(tmp_path)
    (tmp_path / "b.safetensors").rename(tmp_path / "c.safetensors")
    assert len({one, two, base_hash(tmp_path)}) == 3


def adapter(folder: Path, base: Any, sha256: str) -> Path:
    """A LoRA adapter that changes answers, with the note that says whose it is."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    wrapped = get_peft_model(base.model, config)
    wrapped.save_pretrained(folder)
    wrapped.unload()
    note = {"base_model": "the-one", "base_sha256": sha256}
    (folder / BASE_FILE).write_text(json.dumps(note))
    return folder


@pytest.mark.parametrize("bits", [True, False])
def test_an_adapter_works_inside_the_block_only(tmp_path: Path, bits: bool) -> None:
    # A base of its own: the shared one must not be touched by what goes wrong here.
    base = load_base(str(models_made.folder("llama")), load_in_4bit=bits)
    folder = adapter(tmp_path / "adapter", base, base.sha256)
    check_base(folder, base)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])

    def logits(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            return model(ids).logits

    before = logits(base.model)
    first = []
    for _ in range(2):
        with adapted(base, folder) as model:
            first.append(logits(model))
        assert torch.equal(logits(base.model), before)
    assert torch.equal(first[0], first[1])
    assert (first[0] - before).abs().max() > 0.01
    assert not [name for name, _ in base.model.named_modules() if "lora" in name]
    with pytest.raises(KeyError), adapted(base, folder):
        raise KeyError
    assert torch.equal(logits(base.model), before)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    one, other = models_made.base("llama"), models_made.base("llama", seed=1)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / BASE_FILE).write_text(json.dumps({"base_model": "the-one", "base_sha256": one.sha256}))
    check_base(tmp_path, one)
    with pytest.raises(UserError) as caught:
        check_base(tmp_path, other)
    message = str(caught.value)
    assert "was trained on 'the-one'" in message
    assert one.sha256[:12] in message
    assert other.sha256[:12] in message
    assert "load it with its own base model" in message
    assert "\n" not in message


def test_a_folder_without_adapter_or_note(tmp_path: Path) -> None:
    base = models_made.base("llama")
    with pytest.raises(UserError, match=r"no adapter in .*adapter_config\.json"):
        check_base(tmp_path, base)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no nngpt_ext\.json"):
        check_base(tmp_path, base)


@pytest.mark.parametrize("note", ["{", "[]", "{}", '{"base_model": "x"}'])
def test_a_damaged_note_beside_an_adapter(tmp_path: Path, note: str) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / BASE_FILE).write_text(note)
    with pytest.raises(UserError, match=r"nngpt_ext\.json' is damaged .*; fetch or train the adapter again"):
        check_base(tmp_path, models_made.base("llama"))


def test_embedded_loads_in_4_bits() -> None:
    import bitsandbytes as bnb

    base = load_base("embedded")
    assert base.folder == EMBEDDED
    assert base.sha256 == base_hash(EMBEDDED)
    assert type(base.model).__name__ == "LlamaForCausalLM"
    assert all(isinstance(layer, bnb.nn.Linear4bit) for layer in linears(base.model).values())
    assert linears(base.model)
    plain = load_base("embedded", load_in_4bit=False)
    assert sum(p.numel() for p in plain.model.parameters()) <= 7_000_000
    assert base.tokenizer.eos_token == "<|end|>"
    assert base.tokenizer.pad_token == "<|pad|>"
    assert len(base.tokenizer) == plain.model.get_input_embeddings().num_embeddings


def test_threads_that_overlap_leave_the_terminal_as_it_was() -> None:
    """The first to come in is the first to leave: what the second found is not how it was."""
    from transformers.utils import logging

    def state() -> tuple[Any, ...]:
        return logging.get_verbosity(), logging.is_progress_bar_enabled(), list(warnings.filters)

    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    before = state()
    inside, out = threading.Event(), threading.Event()

    def second() -> bool:
        with quiet_transformers():
            inside.set()
            out.wait(10)
            return logging.is_progress_bar_enabled()

    with ThreadPoolExecutor(1) as pool:
        with quiet_transformers():
            shown = pool.submit(second)
            inside.wait(10)
        out.set()
        assert not shown.result()
    assert state() == before


def test_warnings_of_sources_are_ignored_by_many_threads_and_shown_afterwards() -> None:
    before = list(warnings.filters)
    code = "x = '\\d'  # an invalid escape\n" * 50

    def compacted(_: int) -> str:
        return compact_code(read_source(code))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with warnings.catch_warnings(record=True) as shown, ThreadPoolExecutor(8) as pool:
            warnings.simplefilter("always")
            during = list(warnings.filters)
            assert len(set(pool.map(compacted, range(400)))) == 1
            after = list(warnings.filters)
    finally:
        sys.setswitchinterval(interval)
    assert after == during
    assert shown == []
    assert list(warnings.filters) == before


def test_memory_that_earlier_runs_left_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps what a run of this process has freed, and the next one may have it."""
    base = models_made.base("llama")
    config = base.model.config
    needed = 8192 * config.num_hidden_layers * config.hidden_size * ACTIVATION_BYTES
    for name, value in (("memory_reserved", needed), ("memory_allocated", 0)):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda _device, value=value: value)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (needed // 2, 4 * needed))
    assert base.holds_activations(8192)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda _device: needed)  # by a model
    assert not base.holds_activations(8192)
