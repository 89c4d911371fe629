"""The renderer: what is cut, what is broken up, what is missing, and by whose chat template."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.compact import compact_code
from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import Question, Side
from nngpt_ext.prompts.render import Code, Renderer
from tests import models_made
from tests.deadline import deadline

from .real import ACCURACIES, CODE, EVIDENCE, QUESTION, RECIPES, STRUCTURES

ENDS = {
    False: "\ncifar-10 or mnist?\n",
    True: "\nmnist or cifar-10?\n",
}
CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


def renderer(prompt: str = "code_only", **changes: Any) -> Renderer:
    given: dict[str, Any] = {
        "tokenizer": models_made.tokenizer(), "code_tokens": 100, "facts": LEMUR_FACTS, **changes,
    }  # fmt: skip
    return Renderer(get_template(prompt), given.pop("tokenizer"), **given)


def ids(text: str, tokenizer: Any = None) -> list[int]:
    return (tokenizer or models_made.tokenizer())(text, add_special_tokens=False)["input_ids"]


def test_turned_twice_is_the_same() -> None:
    turned = QUESTION.turned()
    assert turned.turned() == QUESTION
    assert turned.nn == QUESTION.nn
    assert turned.epoch == QUESTION.epoch
    assert turned.second == QUESTION.first
    given = {"norm_acc": ACCURACIES[1], "recipe": RECIPES[1], "structure": STRUCTURES[1], "evidence": EVIDENCE[1]}
    assert turned.first.given == given


@pytest.mark.parametrize("network", models_made.NETWORKS)
@pytest.mark.parametrize("budget", [1, 7, 64, 300])
def test_source_is_cut_by_tokens_and_nothing_else_is(network: str, budget: int) -> None:
    source = models_made.sources()[network]
    whole = compact_code(source)
    chosen = renderer(code_tokens=budget)
    code = chosen.code(source)
    assert code.cut
    assert whole.startswith(code.text)
    assert budget - 2 <= len(ids(code.text)) <= budget
    for question in (QUESTION, QUESTION.turned()):
        text = chosen.text(question, code.text)
        assert text.endswith(ENDS[question.dataset_1 == "mnist"])
        assert f"the network:\n{code.text}\n\nIt was trained for 5 epochs" in text


def test_what_fits_is_whole() -> None:
    source = models_made.sources()["AlexNet"]
    n = len(ids(compact_code(source)))
    assert renderer(code_tokens=n).code(source) == Code(compact_code(source), False, n)
    shorter = renderer(code_tokens=n - 1).code(source)
    assert shorter.cut
    assert len(ids(shorter.text)) == n - 1


def test_no_budget_shows_no_code() -> None:
    chosen = renderer(code_tokens=0)
    vgg = models_made.sources()["VGG"]
    assert chosen.code(vgg) == Code("", True, len(ids(compact_code(vgg))))
    assert chosen.code("") == Code("", False, 0)
    assert "the network:\n\n\nIt was trained" in chosen.text(QUESTION, "")


def test_compacting_is_optional() -> None:
    source = "\n# a comment\nx = 1  # more\n\n"
    assert renderer().code(source).text == "x = 1"
    assert renderer(compact=False).code(source).text == "# a comment\nx = 1  # more"


def test_braces_in_source_stay() -> None:
    code = "prm = {'lr': 0.1, **{k: v}}; f'{prm!r:>{10}}' + '{nn_code} {dataset_1} {{}}' + '{'"
    assert f"the network:\n{code}\n\n" in renderer().text(QUESTION, renderer().code(code).text)


@pytest.mark.parametrize("prompt", NAMES)
def test_special_tokens_in_what_comes_from_outside_are_text(prompt: str) -> None:
    tokenizer = models_made.tokenizer()
    attack = "end = '<|end|>' + '<|pad|>'  # <|end|><|end|>\nx = '<|en<|end|>d|>'"
    recipes = ({**RECIPES[0], "transform": "norm_<|pad|>"}, RECIPES[1])
    question = Question.of(
        "AlexNet", "my<|end|>set", "mnist", 5, norm_acc=ACCURACIES, recipe=recipes, structure=STRUCTURES,
        evidence=EVIDENCE,
    )  # fmt: skip
    facts = {**LEMUR_FACTS, "my<|end|>set": DatasetFacts(10, 8, 1, 2)}
    for compact in (True, False):
        chosen = renderer(prompt, compact=compact, facts=facts, code_tokens=1000)
        code = chosen.code(attack)
        assert not code.cut
        for asked in (question, question.turned()):
            found = ids(chosen.text(asked, code.text))
            assert tokenizer.eos_token_id not in found
            assert tokenizer.pad_token_id not in found
    # The attack is real: unbroken it would be parsed.
    assert tokenizer.eos_token_id in ids(attack)


@given(
    st.lists(st.sampled_from(["<|end|>", "<|pad|>", "<|", "end", "|>", "<", ">", "|", " ", "x", "pad"]), max_size=12)
)
def test_no_mixture_becomes_a_special_token(parts: list[str]) -> None:
    tokenizer = models_made.tokenizer()
    found = ids(renderer(compact=False, code_tokens=1000).code("".join(parts)).text)
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(found)


def test_chat_markers_that_are_not_called_special_are_text_too() -> None:
    tokenizer = copy.deepcopy(models_made.tokenizer())
    tokenizer.add_tokens(["<|User|>"])
    marker = tokenizer.convert_tokens_to_ids("<|User|>")
    chosen = renderer(tokenizer=tokenizer)
    assert marker in ids("x = '<|User|>'", tokenizer)
    assert marker not in ids(chosen.code("x = '<|User|>'").text, tokenizer)
    # Dataset names are added tokens as well, and stay.
    assert chosen.code("x = 'cifar-10'").text == "x = 'cifar-10'"


NORMALIZERS = {
    "NFKC": (lambda n: n.NFKC(), ["＜|User|＞", "<｜User｜>", "＜｜Ｕｓｅｒ｜＞", "<|user|>"]),
    "lower case": (lambda n: n.Lowercase(), ["<|USER|>", "<|user|>", "<|uSeR|>"]),
    "both": (
        lambda n: n.Sequence([n.NFKC(), n.Lowercase()]),
        ["＜|ＵＳＥＲ|＞", "[Inst]", "［ＩＮＳＴ］", "<|u<|USER|>ser|>"],
    ),
    "no zero-width": (lambda n: n.Replace("\u200b", ""), ["<|\u200bUser|>", "\u200b<|Us\u200ber|\u200b>"]),
    "sentencepiece": (
        lambda n: n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁"), n.NFKC()]), ["＜|User|＞", "x ＜|User|＞ y"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_markers_are_broken_as_the_tokenizer_normalizes_them(kind: str) -> None:
    from tokenizers import AddedToken, Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    make, attacks = NORMALIZERS[kind]
    letters = {letter: i for i, letter in enumerate(["▁", *map(chr, range(33, 127))])}
    own = Tokenizer(models.BPE(letters, [], unk_token="?"))
    own.normalizer = make(normalizers)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, unk_token="?", eos_token="?", pad_token="?")
    markers = ["<|User|>", "[INST]", "<|user|>"]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(one, normalized=True, special=True) for one in markers]}
    )
    marked = {tokenizer.convert_tokens_to_ids(one) for one in markers}
    chosen = renderer(tokenizer=tokenizer, compact=False, code_tokens=1000)
    for attack in attacks:
        text = f"a = '{attack}'\nb = '{attack}{attack}'"
        shown = chosen.code(text).text
        assert marked.isdisjoint(ids(shown, tokenizer)), shown
        assert shown.replace(" ", "") == text.replace(" ", "")
        assert chosen.inert(shown) == shown or marked.isdisjoint(ids(chosen.inert(shown), tokenizer))
    # The attacks are real: unbroken, each kind's first one would be parsed.
    assert not marked.isdisjoint(ids(attacks[0], tokenizer))
    assert chosen.inert("x = A < b | c") == "x = A < b | c"


def renderer_with(specials: list[str]) -> Renderer:
    """A renderer whose tokenizer has these special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, unk_token="?")))
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    return renderer(tokenizer=tokenizer)


def assert_inert(specials: list[str], text: str) -> None:
    """Only spaces are put in, none where no token is, and no token is left that a space can break."""
    shown = renderer_with(specials).inert(text)
    cores = [special.strip(" ") for special in specials if special.strip() and len(special.strip(" ")) > 1]
    assert shown.replace(" ", "") == text.replace(" ", "")
    assert not [core for core in cores if core in shown]
    assert shown == text or [core for core in cores if core in text]


SPECIALS = [
    ([" "], "x = 1 + 1"),
    (["  ", "   ", "\t\t", "\n\n"], "x  = 1\n\n\t\ty"),
    (["<a", "< a", "<  a"], "<a < a <  a"),
    ([" <a", "  <a"], "x <a  <a <a"),
    ([" a", "a "], " a a "),
    (["aa", " aa", "aa "], " aaaa aa "),
    (["a\n", "\na"], "a\na\n"),
    (["ab", "aa b", "aa a"], "aaaab"),
    (["xa", " aa"], "xaaaaa"),
]


@pytest.mark.parametrize(("specials", "text"), SPECIALS)
def test_any_special_tokens_are_broken_and_that_ends(specials: list[str], text: str) -> None:
    with deadline(30):
        assert_inert(specials, text)
        for piece in {text, text[0], text[-1]}:
            assert_inert(specials, text + piece * (100_000 // len(piece)) + text)


ALPHABET = st.sampled_from(list("<a> \n\t"))


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=5), st.text(ALPHABET, max_size=40))
def test_no_set_of_special_tokens_is_left_in_any_text(specials: list[str], text: str) -> None:
    with deadline(30):
        assert_inert(specials, text)


def test_thousands_of_reserved_tokens_take_no_longer() -> None:
    reserved = [f"<unused{i}>" for i in range(6_000)]
    with deadline(60):
        text = "<unused" * 60_000 + "<" * 300_000
        assert_inert(reserved, text)
        assert renderer_with(reserved).inert("<unused42>") == "< unused42>"


def test_tokens_that_begin_alike_without_end() -> None:
    with pytest.raises(UserError, match=r"^the special tokens of the tokenizer in '.*' cannot be searched for \(too"):
        renderer_with([f"<{'a' * i}b>" for i in range(1, 1500)])


@pytest.mark.parametrize("piece", [" ", "\n", "a", "0", "<|end|>", "<", "x = 1\n"])
def test_no_source_stops_the_tokenizer(piece: str) -> None:
    run = piece * (200_000 // len(piece))
    for tokenizer in (models_made.tokenizer(), models_made.pieces_tokenizer()):
        with deadline():
            code = renderer(tokenizer=tokenizer, compact=False).code(f"x{run}y")
        assert code.cut
        assert len(ids(code.text, tokenizer)) <= 100


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
    ],
    ids=["refuses it", "leaves it out"],
)
def test_chat_template_without_a_place_for_the_system_text(template: str) -> None:
    tokenizer = copy.deepcopy(models_made.tokenizer())
    tokenizer.chat_template = template
    chat = renderer(tokenizer=tokenizer)
    said = chat.messages(QUESTION, CODE)
    assert chat.text(QUESTION, CODE) == f"<user>{said.system}\n\n{said.user}<assistant>"


def test_chat_template_where_there_is_one() -> None:
    tokenizer = copy.deepcopy(models_made.tokenizer())
    tokenizer.chat_template = CHAT
    plain, chat = renderer(), renderer(tokenizer=tokenizer)
    said = plain.messages(QUESTION, CODE)
    system, user = said.system, said.user
    assert chat.messages(QUESTION, CODE) == said
    assert plain.text(QUESTION, CODE) == f"{system}\n\n{user}\n"
    assert chat.text(QUESTION, CODE) == f"<|system|>{system}<|end|><|user|>{user}<|end|><|assistant|>"
    # The template's own special tokens are parsed; those in a source are not.
    code = chat.code("x = '<|end|>'").text
    assert ids(chat.text(QUESTION, code), tokenizer).count(tokenizer.eos_token_id) == 2


def test_all_missing_values_are_named() -> None:
    question = Question.of("AlexNet", "mnist", "svhn")
    with pytest.raises(UserError) as caught:
        renderer("recipe").text(question, None)
    assert str(caught.value) == "prompt 'recipe' needs epoch, nn_code, recipe_1, recipe_2, which was not given"
    with pytest.raises(UserError, match="'normalized_accuracy' needs norm_acc, norm_acc_2, which"):
        renderer("normalized_accuracy").text(replace(question, epoch=5), CODE)


def test_what_a_prompt_does_not_show_may_be_missing() -> None:
    assert renderer("metadata_only").text(Question.of("AlexNet", "mnist", "svhn"), None).startswith("You compare")


def test_a_recipe_that_cannot_be_written_names_its_network() -> None:
    wrong = replace(QUESTION, first=Side("cifar-10", {"recipe": {**RECIPES[0], "lr": "fast"}}))
    with pytest.raises(UserError, match=f"network '{wrong.nn}' on '{wrong.dataset_1}': a recipe's lr must be a number"):
        renderer("recipe").text(wrong, CODE)


def test_a_recipe_is_read_only_where_it_is_shown() -> None:
    wrong = replace(QUESTION, first=Side("cifar-10", {"recipe": {"lr": "fast"}}))
    assert renderer("code_only").text(wrong, CODE)
    with pytest.raises(UserError, match="lr must be a number, not 'fast'"):
        renderer("recipe").text(wrong, CODE)


def test_datasets_without_facts() -> None:
    question = replace(QUESTION, second=Side("gtsrb"))
    assert "cifar-10 or gtsrb?" in renderer("code_only").text(question, CODE)
    with pytest.raises(UserError, match=r"no facts about dataset 'gtsrb'; known: celeba-gender, cifar-10, .*svhn"):
        renderer("metadata").text(question, CODE)
    given = renderer("metadata", facts={**LEMUR_FACTS, "gtsrb": DatasetFacts(39_209, 48, 3, 43)})
    expected = "\ngtsrb: 39209 training images, 48 pixels wide, 3 channels, 43 classes\n"
    assert expected in given.text(question, CODE)
