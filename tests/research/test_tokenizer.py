"""The embedded tokenizer: numbers digit by digit, names and recipe steps whole, any text encodable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.models.presets import EMBEDDED, EMBEDDED_2
from nngpt_ext.prompts.recipe import recipe_text
from research.embedded.tokenizer import (
    FURTHER_VOCABULARY,
    PAD,
    STOP,
    VOCABULARY,
    extended_tokenizer,
    further_words,
    whole_words,
)
from tests import models_made

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*whole_words(), " ", "\n", "    ", "def ", "ü", "✓", "0", "9", ".", "-", "e", "_", "cifar"])
).map("".join)


@pytest.fixture(params=["made", "embedded", "embedded_2"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Any:
    from transformers import AutoTokenizer

    if request.param == "made":
        return models_made.tokenizer()
    return AutoTokenizer.from_pretrained(EMBEDDED.with_name(request.param))


def is_further(tokenizer: Any) -> bool:
    """Whether it is that of `embedded-2`, which reads hundredths as one token."""
    return "0.81" in tokenizer.get_vocab()


def tokens(tokenizer: Any, text: str) -> list[str]:
    """Texts of the tokens, blanks left out."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [token for token in (tokenizer.decode([i]).strip(" ") for i in ids) if token]


def test_stop_and_pad(tokenizer: Any) -> None:
    assert tokenizer.eos_token == STOP
    assert tokenizer.pad_token == PAD
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer(STOP)["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer("x")["input_ids"] == tokenizer("x", add_special_tokens=False)["input_ids"]  # adds none itself


def test_size(tokenizer: Any) -> None:
    assert len(tokenizer) <= (FURTHER_VOCABULARY if is_further(tokenizer) else VOCABULARY)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_no_token_joins_digits(tokenizer: Any) -> None:
    joined = {token.removeprefix("Ġ") for token in tokenizer.get_vocab() if sum(c.isdigit() for c in token) > 1}
    assert joined <= {*whole_words(), *(further_words() if is_further(tokenizer) else ())}
    assert tokens(tokenizer, "1234567890") == list("1234567890")


def test_accuracies_are_read_digit_by_digit(tokenizer: Any) -> None:
    for value in range(1000):
        text = f"0.{value:03d}"
        assert tokens(tokenizer, text) == list(text)
    assert tokens(tokenizer, "1.000") == list("1.000")


def test_tenths_alone_are_one_token(tokenizer: Any) -> None:
    assert tokens(tokenizer, "0.8") == ["0.8"]
    assert tokens(tokenizer, "= 0.8, 1.0)") == ["=", "0.8", ",", "1.0", ")"]
    assert tokens(tokenizer, "0.812") == ["0", ".", "8", "1", "2"]
    assert tokens(tokenizer, "0.8\n0.81") == ["0.8", "\n", *(["0.81"] if is_further(tokenizer) else "0.81")]


def test_dataset_names_are_one_token_each(tokenizer: Any) -> None:
    ids = {name: tokenizer(name, add_special_tokens=False)["input_ids"] for name in LEMUR_FACTS}
    assert all(len(found) == 1 for found in ids.values())
    assert len({found[0] for found in ids.values()}) == len(LEMUR_FACTS)
    assert ids["cifar-10"] != ids["cifar-100"]
    asked = "Which dataset has the higher relative accuracy?\ncifar-100 or cifar-10?"
    found = tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert found.count(ids["cifar-100"][0]) == found.count(ids["cifar-10"][0]) == 1
    # Only where they stand alone.
    assert ids["mnist"][0] not in tokenizer("emnist_loader", add_special_tokens=False)["input_ids"]


def test_recipe_values_are_one_token_each(tokenizer: Any) -> None:
    recipe = {"lr": 0.0039, "batch": 128, "momentum": 0.91, "dropout": 0.28, "transform": "norm_299"}
    found = tokens(tokenizer, recipe_text(recipe))
    assert {"4e-3", "128", "0.9", "0.3", "299"} <= set(found)


@given(text=TEXTS)
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_sources_come_back(tokenizer: Any) -> None:
    for source in models_made.sources().values():
        assert tokenizer.decode(tokenizer(source)["input_ids"]) == source


def test_is_saved_whole(tokenizer: Any, tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "lr 4e-3 0.812 0.8 cifar-10 cifar-100 <|end|> def x():\n    pass  # ü"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.eos_token_id == tokenizer.eos_token_id


def test_embedded_2_has_the_same_tokens_and_further_ones() -> None:
    from transformers import AutoTokenizer

    older, further = AutoTokenizer.from_pretrained(EMBEDDED), AutoTokenizer.from_pretrained(EMBEDDED_2)
    assert further.get_vocab() == extended_tokenizer(EMBEDDED).get_vocab()
    assert older.get_vocab().items() <= further.get_vocab().items()
    same = 0
    for line in models_made.sources()["VGG"].splitlines():
        ids = further(line)["input_ids"]
        if all(token < len(older) for token in ids):  # no hundredths, and none of the words of lines
            assert ids == older(line)["input_ids"]
            same += 1
    assert same > 20


def test_each_word_of_a_line_is_one_token_of_embedded_2() -> None:
    from transformers import AutoTokenizer

    further = AutoTokenizer.from_pretrained(EMBEDDED_2)
    line = "svhn: early 0.83 1.00 step 0.7 params unknown layers 0.4 last none input 0.5 lr 4e-3 batch 32 momentum 0.9"
    assert tokens(further, line) == line.replace(":", " :").split()
    assert all(len(further(f" {i / 100:.2f}")["input_ids"]) == 1 for i in range(101))
    assert tokens(further, "0.835") == list("0.835")
