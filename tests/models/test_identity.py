"""What makes a base another one, what does not, and whose names are believed as hashes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.models.base import base_hash, check_base, load_base
from nngpt_ext.run_folder import BASE_FILE
from nngpt_ext.tuning.qlora import write_base_note
from tests import models_made


def copy(to: Path) -> Path:
    return Path(shutil.copytree(models_made.folder("llama"), to / "model"))


def changed(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({k: v for k, v in {**content, **values}.items() if v is not ...}, indent=1))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter's folder as far as its base is concerned."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    write_base_note(folder, models_made.base("llama"))
    return folder


def checked(adapter: Path, folder: Path) -> None:
    check_base(adapter, load_base(str(folder), load_in_4bit=False))


def refused(adapter: Path, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        checked(adapter, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _token(folder: Path) -> None:
    """Two tokens change places."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    one, two = [token for token in vocabulary if token.isalpha()][:2]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    file.write_text(json.dumps(content))


def _weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda folder: changed(folder / "config.json", rms_norm_eps=0.5), "configuration"),
        (lambda folder: changed(folder / "config.json", rope_parameters={"rope_theta": 9e4, "rope_type": "default"}),
         "configuration"),
        (lambda folder: changed(folder / "config.json", sliding_window=3), "configuration"),
        (_token, "tokenizer"),
        (lambda folder: changed(folder / "tokenizer_config.json", eos_token="<|pad|>"), "tokenizer"),
        (lambda folder: changed(folder / "tokenizer_config.json", chat_template=TEMPLATE), "chat template"),
        (lambda folder: (folder / "chat_template.jinja").write_text(TEMPLATE), "chat template"),
        (lambda folder: (folder / "modeling_own.py").write_text("# runs with trust_remote_code\n"), "configuration"),
        (_weight, "weights"),
    ],
)  # fmt: skip
def test_another_base_is_refused_by_what_differs(
    adapter: Path, tmp_path: Path, change: Callable[[Path], None], kind: str
) -> None:
    folder = copy(tmp_path)
    checked(adapter, folder)
    change(folder)
    message = refused(adapter, folder)
    trained = models_made.base("llama").name
    before = f"the adapter in '{adapter}' was trained on '{trained}', and '{folder}' is another base model: {kind} ("
    assert message.startswith(before)
    assert message.count("sha256") == 1
    assert message.endswith("… here); load it with its own base model")


def test_all_that_differs_is_named(adapter: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    changed(folder / "config.json", rms_norm_eps=0.5)
    _weight(folder)
    message = refused(adapter, folder)
    assert "weights (" in message
    assert "configuration (" in message
    assert "tokenizer (" not in message


def _rewritten(folder: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(dict(reversed(content.items())), indent=7, ensure_ascii=True))


@pytest.mark.parametrize(
    "change",
    [
        _rewritten,
        lambda folder: changed(folder / "config.json", transformers_version="5.99.0", _name_or_path="/elsewhere"),
        lambda folder: changed(folder / "config.json", dtype=..., torch_dtype="float32"),
        lambda folder: changed(folder / "tokenizer_config.json", is_local=True, name_or_path="/elsewhere"),
        lambda folder: changed(folder / "generation_config.json", temperature=0.1),
        lambda folder: (folder / "README.md").write_text("notes do not count"),
    ],
    ids=["another order", "version and place", "type of numbers", "tokenizer's place", "generation", "notes"],
)
def test_what_only_says_who_wrote_it_makes_no_other_base(
    adapter: Path, tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    folder = copy(tmp_path)
    change(folder)
    checked(adapter, folder)


def test_saved_again_it_is_the_same_base(tmp_path: Path) -> None:
    """With a chat template, which transformers moves from tokenizer_config.json to a file of its own."""
    folder = copy(tmp_path)
    changed(folder / "tokenizer_config.json", chat_template=TEMPLATE)
    base = load_base(str(folder), load_in_4bit=False)
    again = tmp_path / "again"
    base.model.save_pretrained(again)
    base.tokenizer.save_pretrained(again)
    assert (again / "chat_template.jinja").is_file()
    assert "chat_template" not in json.loads((again / "tokenizer_config.json").read_text())
    assert load_base(str(again), load_in_4bit=False).identity == base.identity


def test_chat_templates_with_names(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    first = load_base(str(folder), load_in_4bit=False).identity
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TEMPLATE)
    second = load_base(str(folder), load_in_4bit=False)
    assert isinstance(second.tokenizer.chat_template, dict)
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TEMPLATE + "x")
    third = load_base(str(folder), load_in_4bit=False).identity
    assert len({one["chat_template"] for one in (first, second.identity, third)}) == 3


@pytest.mark.parametrize("identity", ["x", ["x"], {"configuration": 1}])
def test_a_damaged_identity_is_one_line(adapter: Path, identity: Any) -> None:
    changed(adapter / BASE_FILE, base_identity=identity)
    with pytest.raises(UserError, match=r"nngpt_ext\.json' is damaged .*; fetch or train the adapter again"):
        check_base(adapter, models_made.base("llama"))


def test_the_copy_of_an_older_version_is_named(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path / "cache"))
    folder = copy(tmp_path)
    _token(folder)
    assert refused(adapter, folder).endswith("; load it with its own base model")
    (tmp_path / "cache" / "models" / "damaged").mkdir(parents=True)
    old = shutil.copytree(models_made.folder("llama"), tmp_path / "cache" / "models" / "llama-0123")
    assert refused(adapter, folder).endswith(f"; load it with its own base model: base='{old}'")


def test_an_adapter_of_an_older_version_works_with_one_line(
    adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, folder = models_made.base("llama"), copy(tmp_path)
    check_base(adapter, base)
    assert not caplog.messages
    changed(adapter / BASE_FILE, base_identity=...)
    assert "base_identity" not in json.loads((adapter / BASE_FILE).read_text())
    with caplog.at_level(logging.WARNING):
        check_base(adapter, base)
    (message,) = caplog.messages
    assert message.startswith(f"the adapter in '{adapter}' is of an older version, which recorded the weights of its ")
    _weight(folder)
    assert "is another base model: weights (" in refused(adapter, folder)


def repository(cache: Path, name: str) -> Path:
    """A snapshot in the layout of the hub's cache whose weights are a link to a blob; returns the blob."""
    repo = cache / "models--owner--model"
    (repo / "blobs").mkdir(parents=True)
    snapshot = Path(shutil.copytree(models_made.folder("llama"), repo / "snapshots" / "0123abc"))
    blob = repo / "blobs" / name
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / name)
    return blob


NAMED = "ab" * 32


def hash_of(sha256: str) -> str:
    return hashlib.sha256(f"model.safetensors {sha256}\n".encode()).hexdigest()


def test_the_name_of_a_blob_in_the_hubs_cache_is_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content has another one here, so it was not read."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    blob = repository(tmp_path / "hub", NAMED)
    snapshot = blob.parents[1] / "snapshots" / "0123abc"
    assert base_hash(snapshot) == hash_of(NAMED)
    (tmp_path / "linked").symlink_to(snapshot)
    assert base_hash(tmp_path / "linked") == hash_of(NAMED)


@pytest.mark.parametrize("name", ["ab" * 20, "g" * 64, "AB" * 32])
def test_another_name_in_that_cache_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    blob = repository(tmp_path, name)
    assert base_hash(blob.parents[1] / "snapshots" / "0123abc") == models_made.base("llama").sha256


def test_elsewhere_a_link_named_like_a_hash_is_hashed_and_refused(adapter: Path, tmp_path: Path) -> None:
    """The name is the very hash that the trained base's weights have, the content another's."""
    folder = copy(tmp_path)
    weights = folder / "model.safetensors"
    right = hashlib.sha256(weights.read_bytes()).hexdigest()
    _weight(folder)
    weights.rename(tmp_path / right)
    weights.symlink_to(tmp_path / right)
    assert "is another base model: weights (" in refused(adapter, folder)


def test_weights_in_a_folder_below_count(tmp_path: Path) -> None:
    """transformers reads what the index names, wherever in the folder it is."""
    base = copy(tmp_path)
    (base / "more").mkdir()
    (base / "more" / "two.safetensors").write_bytes(b"one")
    before = base_hash(base)
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "more/two.safetensors"}}))
    named = base_hash(base)
    (base / "more" / "two.safetensors").write_bytes(b"two")
    assert len({before, named, base_hash(base)}) == 3
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../two.safetensors"}}))
    with pytest.raises(UserError, match=r"names weights outside itself: '../two.safetensors'"):
        base_hash(base)


@pytest.mark.parametrize("inside", [False, True])
def test_the_layout_of_the_cache_outside_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    """Another cache, and a folder whose weights are linked into the cache or out of a repository there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    blob = repository(tmp_path / ("hub" if inside else "other"), NAMED)
    folder = blob.parents[1] / "snapshots" / "0123abc"
    if inside:
        folder = copy(tmp_path)
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to(blob)
    assert base_hash(folder) == models_made.base("llama").sha256
