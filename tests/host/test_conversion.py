"""Prompts, LLM presets and pairs in NNGPT's formats."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import (
    CHAT_TEMPLATE,
    CUT,
    HOST_COLUMNS,
    base_of,
    chat_template,
    export_pairs,
    find_conf,
    llm_preset,
    prompt_json,
    read_llm_preset,
    row_limit,
)
from nngpt_ext.host.installation import CONF, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import FOLDER, NAMES, get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template
from tests import models_made
from tests.host.test_installation import made

FEW = {"train_networks": 6, "validation_networks": 3, "test_networks": 3}


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(DataConfig(source="package", **FEW))


def rows(file: Path) -> list[list[str]]:
    return [[m["content"] for m in json.loads(line)["messages"]] for line in file.read_text().splitlines()]


def test_the_exported_pairs(data: PairData, tmp_path: Path) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    counts = export_pairs(data, renderer, tmp_path)
    train, dev = rows(tmp_path / "train.jsonl"), rows(tmp_path / "dev.jsonl")
    assert counts == {"train": len(train), "validation": len(dev)}
    assert len(train) == 2 * len(data.training)
    assert len(dev) == 2 * len(data.part("validation"))
    assert [answer for *_, answer in train[::2]] == [answer for *_, answer in train[1::2]]
    assert [answer for *_, answer in train[::2]] == data.training["better_dataset"].tolist()
    for system, user, answer in train:
        assert system == get_template("code_only").system
        assert user.rsplit("\n", 1)[1].rstrip("?").split(" or ").count(answer) == 1
    # No source of a network that is held out, in whole or in the part that is shown.
    held = {renderer.code(data.sources[nn]).text for part in ("validation", "test") for nn in data.part(part)["nn"]}
    train_sources = {renderer.code(data.sources[nn]).text for nn in data.training["nn"]}
    shown = {user.split("\n", 1)[1].rsplit("\n\nIt was trained", 1)[0] for _, user, _ in train}
    assert shown == train_sources
    assert held - train_sources  # networks that begin alike are near-duplicates, not the same network


@pytest.mark.parametrize("name", [name for name in NAMES if set(get_template(name).columns.values()) <= HOST_COLUMNS])
def test_our_own_templates_in_the_hosts_format(name: str) -> None:
    written, shipped = json.loads(prompt_json(get_template(name))), json.loads((FOLDER / f"{name}.json").read_text())
    for prompts in (written, shipped):
        prompts[name].pop("comment")
    assert written == shipped


def test_braces_survive() -> None:
    template = Template("t", "say {{}}", "{a}: {{x}}\n{b}", {"a": "dataset", "b": "dataset_2"})
    entry = json.loads(prompt_json(template))["t"]
    assert "\n".join(entry["prompt"]).format(a="mnist", b="svhn") == "mnist: {x}\nsvhn"


def test_presets_of_bases() -> None:
    local = llm_preset("embedded")
    assert local["base_model_name"] == "bases/embedded"  # relative: NNGPT writes adapters below this name
    assert local["chat_template_path"] == "nngpt_ext.jinja"
    hub = llm_preset("someone/a-model")
    assert hub["base_model_name"] == "someone/a-model"
    assert "chat_template_path" not in hub


def test_the_chat_template_says_what_we_say_without_one() -> None:
    from transformers import AutoTokenizer

    from nngpt_ext.prompts.fields import Question
    from nngpt_ext.prompts.render import Renderer

    words = AutoTokenizer.from_pretrained(EMBEDDED)
    assert not words.chat_template
    question = Question.of("AlexNet", "mnist", "svhn", 5)
    renderer = Renderer(get_template("code_only"), words, code_tokens=8, facts=LEMUR_FACTS)
    plain = renderer.text(question, "import torch")
    said = renderer.messages(question, "import torch")
    system, user = said.system, said.user
    words.chat_template = CHAT_TEMPLATE
    said = [
        {"role": role, "content": text} for role, text in (("system", system), ("user", user), ("assistant", "mnist"))
    ]
    assert words.apply_chat_template(said, tokenize=False) == f"{plain}mnist{words.eos_token}"


def test_a_preset_by_name_and_by_path(tmp_path: Path) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    folders = [tmp_path / "absent", tmp_path / "nngpt" / CONF]
    file = find_conf("nngpt_ext_embedded.json", "llm", folders)
    assert find_conf(str(file), "llm", []) == file
    assert base_of(file) == "embedded"
    with pytest.raises(
        UserError, match=r"no LLM preset 'nngpt_ext_embeded\.json' .*\(did you mean 'nngpt_ext_embedded"
    ):
        find_conf("nngpt_ext_embeded.json", "llm", folders)


@pytest.mark.parametrize(
    ("name", "prompt"), [("NN_dataset_compare_recipe.json", "recipe"), ("nngpt_ext_deepseek.json", "code_only")]
)
def test_a_file_that_enable_would_write(tmp_path: Path, name: str, prompt: str) -> None:
    theirs = tmp_path / "llm" / "NN_dataset_compare_code_based.json"  # NNGPT's own, which has a near name
    theirs.parent.mkdir()
    theirs.touch()
    with pytest.raises(UserError, match=rf"'; type: nngpt-ext host enable dataset_compare --prompt {prompt}$"):
        find_conf(name, "llm", [tmp_path])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base_model_name": 3}'])
def test_a_preset_edited_by_hand(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"LLM preset '.*p\.json'"):
        read_llm_preset(file)


@pytest.mark.parametrize("length", ["8k", 0, -1, True, 4096.5])
def test_a_context_that_is_no_number_of_tokens(tmp_path: Path, length: object) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"base_model_name": "a/b", "default_context_length": length}))
    with pytest.raises(UserError, match=r"p\.json' has the default_context_length .*, not a number of tokens"):
        read_llm_preset(file)


@pytest.mark.parametrize(
    ("stated", "config", "limit"),
    [
        (8192, {"max_position_embeddings": 16384}, CUT),
        (1000, {"max_position_embeddings": 16384}, 1000),
        (8192, {"max_position_embeddings": 2048}, 2048),
        (None, {"n_positions": 1024}, 1024),
        (None, {}, CUT),
    ],
)
def test_how_long_a_row_may_be(tmp_path: Path, stated: int | None, config: dict[str, int], limit: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert row_limit({"default_context_length": stated}, tmp_path) == limit


def test_the_embedded_base_takes_what_its_preset_shows() -> None:
    assert row_limit({}, EMBEDDED) == 2048


def test_whose_chat_template(tmp_path: Path) -> None:
    host = find_host(made(tmp_path, "TuneNNGen"))
    preset = tmp_path / "project" / "conf" / "llm" / "p.json"
    bare, own = SimpleNamespace(chat_template=None), SimpleNamespace(chat_template="{{ messages }}")
    assert chat_template({}, preset, host, own) is None
    assert chat_template({}, preset, host, bare) == CHAT_TEMPLATE
    for place in (host.conf, preset.parents[1]):  # the project's goes before the host's
        (place / "chat_template").mkdir(parents=True)
        (place / "chat_template" / "x.jinja").write_text(str(place))
        assert chat_template({"chat_template_path": "x.jinja"}, preset, host, own) == str(place)
    with pytest.raises(UserError, match=r"there is no chat template 'absent\.jinja' here or in '/"):
        chat_template({"chat_template_path": "absent.jinja"}, preset, host, own)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "the name of the LLM preset is empty; give a path, or one in '{llm}': mine.json, other.json"),
        (" ", "the name of the LLM preset is empty; give a path, or one in '{llm}': mine.json, other.json"),
        ("mine.jsn", "there is no LLM preset 'mine.jsn' here or in '{llm}' (did you mean 'mine.json'?)"),
        ("x" * 300, f"there is no LLM preset '{'x' * 65}…{'x' * 33}' here or in '{{llm}}'"),
        ("a\0b", r"there is no LLM preset 'a\x00b' here or in '{llm}'"),
    ],
)
def test_a_file_that_is_not_there(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "llm").mkdir()
    for one in ("mine.json", "other.json"):
        (tmp_path / "llm" / one).touch()
    with pytest.raises(UserError) as caught:
        find_conf(name, "llm", [tmp_path])
    assert str(caught.value) == told.format(llm=tmp_path / "llm")


def test_a_preset_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"cannot read the LLM preset '.*deep\.json': too deeply nested$"):
        read_llm_preset(tmp_path / "deep.json")
