"""The exported pairs, and that the host takes every row of them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.errors import UserError
from nngpt_ext.host.export import check_lengths, export_pairs
from nngpt_ext.host.prompts import CHAT_TEMPLATE
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from tests import models_made

FEW = {"train": 6, "validation": 3, "test": 3}


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(source="package", networks=FEW)


def rows(file: Path) -> list[list[str]]:
    return [[m["content"] for m in json.loads(line)["messages"]] for line in file.read_text().splitlines()]


def test_the_exported_pairs(data: PairData, tmp_path: Path) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=100)
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


def words(template: str | None = CHAT_TEMPLATE) -> Any:
    made = copy.deepcopy(models_made.tokenizer())
    made.chat_template = template
    return made


def lengths(folder: Path, tokenizer: Any) -> list[int]:
    """As the host's own loader counts: chat template, special tokens, an end token."""
    tokenizer.add_eos_token = True
    lines = [line for name in ("train.jsonl", "dev.jsonl") for line in (folder / name).read_text().splitlines()]
    texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in lines]
    return [len(tokenizer(text)["input_ids"]) for text in texts]


@pytest.mark.parametrize("prompt", ["code_only", "metadata", "recipe"])
def test_the_longest_row_is_that_of_the_file(data: PairData, tmp_path: Path, prompt: str) -> None:
    renderer = Renderer(get_template(prompt), models_made.tokenizer(), code_tokens=100)
    export_pairs(data, renderer, tmp_path)
    longest = max(lengths(tmp_path, words()))
    assert check_lengths(data, renderer, words(), longest + 1) == longest
    with pytest.raises(UserError, match=rf"the longest row has {longest} tokens .* takes rows below {longest}; lower"):
        check_lengths(data, renderer, words(), longest)


@pytest.mark.parametrize(("tokens", "limit"), [(400, 350), (10**6, 600), (300, 150)])
def test_what_it_says_to_type_fits(data: PairData, tokens: int, limit: int) -> None:
    template = get_template("code_only")
    renderer = Renderer(template, models_made.tokenizer(), code_tokens=tokens)
    with pytest.raises(UserError, match=rf"lower data\.code_tokens \({tokens} now\): --set data\.code_tokens=") as said:
        check_lengths(data, renderer, words(), limit)
    fitting = int(re.search(r"--set data\.code_tokens=(\d+)", str(said.value))[1])
    longest = check_lengths(data, Renderer(template, models_made.tokenizer(), code_tokens=fitting), words(), limit)
    assert limit - 70 < longest < limit  # and nothing is thrown away for it


@pytest.mark.parametrize("prompt", ["code_only", "metadata_only"])
def test_where_no_code_is_left_to_cut(data: PairData, prompt: str) -> None:
    renderer = Renderer(get_template(prompt), models_made.tokenizer(), code_tokens=50)
    with pytest.raises(UserError, match=r"even data\.code_tokens=0 \(50 now\) leaves it too long"):
        check_lengths(data, renderer, words(), 20)


def test_a_chat_template_that_refuses_what_the_host_gives_it(data: PairData) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=50)
    refuses = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError, match=r"System role not supported\); name another in the LLM preset"):
        check_lengths(data, renderer, words(refuses), 4096)
