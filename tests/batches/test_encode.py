"""Questions become tokens as a whole, options end with the stop token, nothing is cut but the source."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from nngpt_ext.batches import encode
from nngpt_ext.batches.encode import Encoder, token_ids, training_example
from nngpt_ext.batches.rows import shared_length
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.render import Renderer
from tests import models_made

from .asked import questions

PAIRS = list(itertools.permutations(sorted(LEMUR_FACTS), 2))


def make(prompt: str = "code_only", code_tokens: int = 100, context: int = 2048, pieces: bool = False) -> Encoder:
    tokenizer = models_made.pieces_tokenizer() if pieces else models_made.tokenizer()
    renderer = Renderer(get_template(prompt), tokenizer, code_tokens=code_tokens, facts=LEMUR_FACTS)
    return Encoder(renderer, models_made.sources(), context)


@pytest.mark.parametrize("prompt", NAMES)
def test_prompts_are_the_rendered_text(prompt: str) -> None:
    encoder = make(prompt)
    asked = questions("VGG", 4)
    code = encoder.renderer.code(models_made.sources()["VGG"]).text
    for question, one in zip(asked, encoder.encode(asked), strict=True):
        text = encoder.tokenizer.decode(one.prompt)
        assert text == encoder.renderer.text(question, code)
        asked_last = text.rpartition("Which dataset has the higher relative accuracy?\n")[2]
        assert asked_last.startswith((f"{question.dataset_1}:", f"{question.dataset_1} or "))
        assert one.prompt.dtype == np.int32
        assert encoder.tokenizer.eos_token_id not in one.prompt
        assert encoder.tokenizer.pad_token_id not in one.prompt


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("prompt", NAMES)
def test_what_texts_share_is_tokenised_once_and_nothing_changes(
    prompt: str, pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make(prompt, pieces=pieces)
    code = encoder.renderer.code(models_made.sources()["VGG"]).text
    texts = [encoder.renderer.text(question, code) for question in questions("VGG", 8)]
    whole = encoder.tokenizer(texts, add_special_tokens=False)["input_ids"]
    read: list[int] = []
    plain = encode._ids

    def counted(tokenizer: Any, some: Any) -> list[list[int]]:
        read.append(sum(map(len, some)))
        return plain(tokenizer, some)

    monkeypatch.setattr(encode, "_ids", counted)
    assert token_ids(encoder.tokenizer, texts) == whole
    assert len(read) == 1
    if "nn_code" in encoder.renderer.template.required:
        assert read[0] < 0.6 * sum(map(len, texts))


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (None, None),  # none: a token may reach over any place
        (pre_tokenizers.Metaspace(prepend_scheme="always"), None),  # every text begins with a blank
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
        (pre_tokenizers.Whitespace(), None),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.NFC()),
        (pre_tokenizers.Split("Which", "merged_with_previous"), normalizers.Prepend("x")),
    ],
)  # fmt: skip
def test_any_tokenizer_gives_its_own_tokens(words: Any, before: Any) -> None:
    source = models_made.sources()["VGG"]
    made = Tokenizer(models.BPE(unk_token="?"))
    if words is not None:
        made.pre_tokenizer = words
    if before is not None:
        made.normalizer = before
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["?"], show_progress=False)
    made.train_from_iterator([source, "\nWhich\nWhich dataset\nmnist or svhn\n" * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    texts = [f"{source[:900]}\nWhich dataset has the higher relative accuracy?\n{a} or {b}\n" for a, b in PAIRS]
    assert token_ids(tokenizer, texts) == tokenizer(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("pieces", [False, True])
def test_options_are_names_and_the_stop_token(pieces: bool) -> None:
    encoder = make(pieces=pieces)
    for question, one in zip(questions("VGG"), encoder.encode(questions("VGG")), strict=True):
        for dataset, option in zip((question.dataset_1, question.dataset_2), one.answers, strict=True):
            assert option[-1] == encoder.tokenizer.eos_token_id
            assert encoder.tokenizer.decode(option[:-1]) == dataset
            assert option.dtype == np.int32
    lengths = {len(encoder.option(name)) for name in LEMUR_FACTS}
    assert lengths == {2} if not pieces else len(lengths) > 1


def test_an_options_own_special_tokens_are_text() -> None:
    encoder = make()
    option = encoder.option("a<|end|>b").tolist()
    assert option.count(encoder.tokenizer.eos_token_id) == 1
    assert option[-1] == encoder.tokenizer.eos_token_id


def test_turned_questions_swap_options_and_share_the_source() -> None:
    asked, turned = make().encode(questions("ResNet", 1))
    assert [option.tolist() for option in asked.answers] == [option.tolist() for option in turned.answers[::-1]]
    assert shared_length([asked.prompt, turned.prompt]) > 100


def test_cut_sources_are_counted_once() -> None:
    encoder = make(code_tokens=100)
    encoder.encode([*questions("AlexNet", 2), *questions("VGG", 2)])
    assert encoder.cut_networks() == {"AlexNet", "VGG"}
    whole = make(code_tokens=5000, context=10_000)
    whole.encode(questions("AlexNet", 2))
    assert whole.cut_networks() == set()


def test_a_prompt_without_source_needs_none() -> None:
    encoder = make("metadata_only")
    here, gone = (encoder.encode([Question.of(nn, "mnist", "svhn")])[0] for nn in ("AlexNet", "no such network"))
    assert here.prompt.tolist() == gone.prompt.tolist()
    assert encoder.cut_networks() == set()


def test_no_questions() -> None:
    assert make().encode([]) == []


def test_what_does_not_fit_is_an_error_that_names_the_setting() -> None:
    question = questions("AlexNet", 1)[:1]
    needed = len(make().encode(question)[0].prompt) + 2
    assert make(context=needed).encode(question)
    with pytest.raises(UserError) as caught:
        make(context=needed - 3).encode(question)
    assert str(caught.value) == (
        f"a question about 'AlexNet' has {needed} tokens and the base model takes {needed - 3}; "
        "lower data.code_tokens (now 100) by at least 3"
    )


def test_a_question_longer_than_a_row_is_an_error_that_names_the_setting() -> None:
    encoder = make()
    question = questions("AlexNet", 1)[:1]
    needed = len(encoder.encode(question)[0].prompt) + 2
    encoder.row_tokens = needed
    assert encoder.encode(question)
    encoder.row_tokens = needed - 1
    with pytest.raises(UserError) as caught:
        encoder.encode(question)
    assert str(caught.value) == (
        f"a question about 'AlexNet' has {needed} tokens and tuning.row_tokens is {needed - 1}; raise it to at least "
        f"{needed}, or lower data.code_tokens (now 100)"
    )


@pytest.mark.parametrize("first_is_right", [True, False])
def test_a_question_is_trained_on_its_right_answer(first_is_right: bool) -> None:
    (question,) = make().encode(questions("VGG", 4)[:1])
    found = training_example(question, first_is_right)
    assert found.prompt is question.prompt
    assert found.answers == (question.answers[0 if first_is_right else 1],)
