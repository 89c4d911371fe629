"""The host's LLM presets: found, read, and what they make of our rows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.conf import enable
from nngpt_ext.host.layout import find_host
from nngpt_ext.host.presets import CUT, chat_template, find_preset, read_preset, row_limit
from nngpt_ext.host.prompts import CHAT_TEMPLATE
from nngpt_ext.models.presets import EMBEDDED
from tests.host.test_layout import made


def test_a_preset_by_name_and_by_path(tmp_path: Path) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    file = find_preset("nngpt_ext_embedded.json", None, tmp_path / "nngpt")
    assert find_preset(str(file), None, tmp_path) == file
    with pytest.raises(UserError, match=r"no LLM preset 'nngpt_ext_embeded\.json' \(did you mean 'nngpt_ext_embedded"):
        find_preset("nngpt_ext_embeded.json", None, tmp_path / "nngpt")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base_model_name": 3}'])
def test_a_preset_edited_by_hand(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"LLM preset '.*p\.json'"):
        read_preset(file)


@pytest.mark.parametrize("length", ["8k", 0, -1, True, 4096.5])
def test_a_context_that_is_no_number_of_tokens(tmp_path: Path, length: object) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"base_model_name": "a/b", "default_context_length": length}))
    with pytest.raises(UserError, match=r"p\.json' has the default_context_length .*, which is no whole number"):
        read_preset(file)


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
    with pytest.raises(UserError, match=r"p\.json' names the chat template 'absent\.jinja', which is not there: /"):
        chat_template({"chat_template_path": "absent.jinja"}, preset, host, own)
