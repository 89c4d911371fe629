"""A tokenizer or a chat template that loses text is refused where the base is loaded; one that keeps it is not."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nngpt_ext import Predictor, run_task
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import load_base
from nngpt_ext.models.presets import SHIPPED
from tests import models_made
from tests.deadline import deadline

FIB = "def fib(n):\n    return n"
BEGIN, STOP = "<｜begin▁of▁sentence｜>", "<|EOT|>"
# DeepSeek-Coder's tokenizer_config.json, and what its config.json has beside a Llama's usual keys.
LABELS = {
    "tokenizer_class": "LlamaTokenizerFast", "legacy": True, "bos_token": BEGIN, "unk_token": None,
    "add_bos_token": True, "add_eos_token": False,
}  # fmt: skip
CONFIG = {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 100000, "max_position_embeddings": 16384}


def trained(core: Tokenizer, alphabet: list[str], special: tuple[str, ...] = ("<unk>", STOP)) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(models_made.sources().values(), trainer)
    return core


def byte_level(before: list[Any], normalizer: Any = None, words: bool = False) -> Tokenizer:
    """Byte-level BPE with other splits before it; `words`: and GPT-2's own."""
    core = Tokenizer(models.BPE())
    if normalizer is not None:
        core.normalizer = normalizer
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [*before, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words or not before)]
    )
    core.decoder = decoders.ByteLevel()
    return trained(core, pre_tokenizers.ByteLevel.alphabet(), (BEGIN, STOP))


def deepseek_coder() -> Tokenizer:
    """The layout of DeepSeek-Coder's tokenizer.json."""
    splits = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+"]
    before = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in splits]
    core = byte_level([*before, pre_tokenizers.Digits(individual_digits=True)], normalizers.Sequence([]))
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    return core


def smollm() -> Tokenizer:
    return byte_level([pre_tokenizers.Digits(individual_digits=True)], words=True)


def qwen() -> Tokenizer:
    return byte_level([pre_tokenizers.Split(Regex(r"\s+|\S+"), behavior="isolated")], normalizers.NFC())


def decomposing() -> Tokenizer:
    return byte_level([], normalizers.NFD())


def sentencepiece(prefix: bool) -> Tokenizer:
    """Llama 2 (a blank goes before the text) and Gemma (none does), with bytes for what is not in the vocabulary."""
    pieces = ["<unk>", STOP, *(f"<0x{i:02X}>" for i in range(256)), "▁", *map(chr, range(33, 127))]
    core = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence(steps)
    return core


def prefix_left() -> Tokenizer:
    """The blank before the text stays when it is decoded."""
    core = sentencepiece(True)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return core


def whitespace_splits() -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return trained(core, [])


def collapsing() -> Tokenizer:
    """As T5: runs of white space become one blank."""
    return byte_level([], normalizers.Replace(Regex(r"\s+"), " "))


def lower_case() -> Tokenizer:
    return byte_level([], normalizers.Lowercase())


def other_decoder() -> Tokenizer:
    """What transformers 5.0 to 5.21 made of DeepSeek-Coder's: Llama's pre-tokenizer and decoder."""
    core = deepseek_coder()
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


def folder(to: Path, core: Tokenizer | None = None, **config: Any) -> Path:
    """A base model with this tokenizer, and these values in tokenizer_config.json."""
    place = Path(shutil.copytree(models_made.folder("llama"), to / "model"))
    said = json.loads((place / "tokenizer_config.json").read_text())
    if core is not None:
        core.save(str(place / "tokenizer.json"))
        said = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": STOP}
    (place / "tokenizer_config.json").write_text(json.dumps(said | config))
    return place


def line(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_base(str(place), load_in_4bit=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_deepseek_coders_layout_in_a_local_folder_is_read_right(tmp_path: Path) -> None:
    place = folder(tmp_path, deepseek_coder(), **LABELS)
    tokenizer = load_base(str(place), load_in_4bit=False).tokenizer
    ids = tokenizer(FIB, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == FIB
    assert ids == deepseek_coder().encode(FIB, add_special_tokens=False).ids


def test_deepseek_coders_layout_takes_the_whole_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run, its adapter, and a predictor on it: shared prefixes, and answers of as many tokens as its words have."""
    place = folder(tmp_path, deepseek_coder(), **LABELS)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "rope_parameters": None, **CONFIG}))
    caplog.set_level("INFO", logger="nngpt_ext")
    run = run_task(
        "dataset_compare", {"model": {"base": str(place)}}, output_dir=tmp_path / "run", prompt="code_only",
        data={"train_networks": 6, "validation_networks": 3, "test_networks": 3, "code_tokens": 96},
        tuning={"epochs": 1, "learning_rate": 1e-3, "examples_per_step": 16},
    )  # fmt: skip
    assert not [record.message for record in caplog.records if record.levelname == "WARNING"]
    saved = transformers.AutoTokenizer.from_pretrained(run.output_dir / "adapter")
    assert saved.decode(saved(FIB, add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False) == FIB
    row = run.predictions.iloc[0]
    code = open_source().sources([row["nn"]])[row["nn"]]
    found = Predictor.from_run(run.output_dir).compare(code, row["dataset_1"], row["dataset_2"])
    assert found.log_odds == pytest.approx(row["log_odds"], abs=1e-4)


def test_what_older_versions_made_of_it_is_refused_with_the_version_that_reads_it(tmp_path: Path) -> None:
    place = folder(tmp_path, other_decoder())
    message = line(place)
    assert message.startswith(f"the tokenizer of '{place}' loses text: 'class Net:\\n\\n\\n    def f(self, n):")
    assert "comes back as 'classNet:deff(self,n):" in message
    assert f"(transformers {transformers.__version__}); some tokenizers need a later version: " in message
    assert message.endswith("pip install 'transformers>=5.22', or use another base model")


@pytest.mark.parametrize("make", [whitespace_splits, collapsing, lower_case])
def test_a_tokenizer_that_loses_text_is_refused(tmp_path: Path, make: Callable[[], Tokenizer]) -> None:
    assert "loses text" in line(folder(tmp_path, make()))


@pytest.mark.parametrize(
    "make",
    [deepseek_coder, smollm, qwen, decomposing, lambda: sentencepiece(True), lambda: sentencepiece(False), prefix_left],
    ids=["deepseek-coder", "smollm", "qwen", "decomposing", "llama", "gemma", "prefix left"],
)
def test_a_tokenizer_that_keeps_it_is_taken(tmp_path: Path, make: Callable[[], Tokenizer]) -> None:
    assert load_base(str(folder(tmp_path, make())), load_in_4bit=False).tokenizer.eos_token == STOP


def test_a_tokenizer_that_was_saved_with_a_limit_is_taken(tmp_path: Path) -> None:
    """The limit is not applied where none is asked for."""
    core = smollm()
    core.enable_truncation(5)
    core.enable_padding(length=20)
    assert load_base(str(folder(tmp_path, core)), load_in_4bit=False)


@pytest.mark.parametrize("base", SHIPPED)
def test_ours_keep_it(base: Path) -> None:
    assert load_base(str(base), load_in_4bit=False)


SYSTEM_ONLY = "{% for m in messages if m.role == 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
PARTS = "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
CUT = "{% for m in messages %}<{{ m.role }}>{{ m.content[:300] }}{% endfor %}"
ONE_LINE = "{% for m in messages %}{{ m.content | replace('\n', ' ') }}{% endfor %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}[INST] {{ m.content | trim }} [/INST]"
    "{% endfor %}"
)
FIRST = "{{ messages[0].content }}\n### Response:\n"


@pytest.mark.parametrize("template", [SYSTEM_ONLY, PARTS, CUT, ONE_LINE], ids=["system", "parts", "cut", "one line"])
def test_a_chat_template_that_drops_the_users_text_is_refused(tmp_path: Path, template: str) -> None:
    place = folder(tmp_path, chat_template=template)
    assert line(place) == (
        f"the chat template of the tokenizer in '{place}' does not show the user's whole text; "
        "correct its chat template, or use another base model"
    )


def test_a_chat_template_that_draws_at_random_is_refused(tmp_path: Path) -> None:
    drawn = "{{ ['a', 'b'] | random }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    place = folder(tmp_path, chat_template=drawn)
    assert line(place) == (
        f"the chat template of '{place}' renders the same question differently each time, so the model would be asked "
        "another question in scoring; correct its chat template, or use another base model"
    )


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "filters": "{% for a in range(99999) %}{{ range(99999)|map('string')|list|length }}{% endfor %}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_chat_template_that_does_not_end_is_stopped(tmp_path: Path, template: str) -> None:
    before = sys.gettrace()
    with deadline():
        told = line(folder(tmp_path, chat_template=template))
    assert "does not show the user's whole text (it takes more than 1,000,000 steps); correct" in told
    assert sys.gettrace() is before


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no chat') }}", "no chat); correct"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{{ '%d' % 'x' }}", "%d format: a real number is required, not str"),
        ("{% for m in messages %}{{ m.content }", "unexpected '}'"),
        (
            [{"name": "tools", "template": "{{ messages[0].content }}"}],
            "This model has multiple chat templates with no",
        ),
    ],
)
def test_whatever_a_chat_template_raises_is_a_line(tmp_path: Path, template: Any, reason: str) -> None:
    assert f"does not show the user's whole text ({reason}" in line(folder(tmp_path, chat_template=template))


def test_a_chat_template_that_fails_on_one_question_only() -> None:
    from nngpt_ext.prompts.chat import chat_text, takes_system

    tokenizer = copy.deepcopy(models_made.tokenizer())
    shown = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    endless = "{% if 'svhn' in messages[-1].content %}" + ENDLESS["loops"] + "{% endif %}"
    tokenizer.chat_template = endless + shown
    assert takes_system(tokenizer)
    assert chat_text(tokenizer, "s", "mnist", apart=True) == "<system>s<user>mnist"
    with deadline(), pytest.raises(UserError) as caught:
        chat_text(tokenizer, "s", "svhn", apart=True)
    assert str(caught.value) == (
        f"the chat template of the tokenizer in '{tokenizer.name_or_path}' fails on a question (it takes more than "
        "1,000,000 steps); correct it, or use another base model"
    )


@pytest.mark.parametrize("template", [ALTERNATING, FIRST], ids=["alternating", "first message"])
def test_where_all_goes_into_the_users_message(tmp_path: Path, template: str) -> None:
    """Templates that take no system message, and those that show one message only, are asked with one."""
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer
    from tests.prompts.real import CODE, QUESTION

    tokenizer = load_base(str(folder(tmp_path, chat_template=template)), load_in_4bit=False).tokenizer
    renderer = Renderer(get_template("code_only"), tokenizer, code_tokens=100, facts=LEMUR_FACTS)
    said = renderer.messages(QUESTION, CODE)
    system, user = said.system, said.user
    assert f"{system}\n\n{user}" in renderer.text(QUESTION, CODE)


def test_a_renderer_refuses_it_too() -> None:
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer
    from tests.prompts.real import CODE, QUESTION

    tokenizer = copy.deepcopy(models_made.tokenizer())
    tokenizer.chat_template = SYSTEM_ONLY
    with pytest.raises(UserError, match="does not show the user's whole text"):
        Renderer(get_template("code_only"), tokenizer, code_tokens=100, facts=LEMUR_FACTS).text(QUESTION, CODE)


def test_a_template_that_writes_todays_date_gives_the_same_prompt_tomorrow(tmp_path: Path) -> None:
    from nngpt_ext.prompts.chat import chat_text

    dated = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    tokenizer = load_base(str(folder(tmp_path, chat_template=dated)), load_in_4bit=False).tokenizer
    assert chat_text(tokenizer, "s", "u", apart=True) == "26 Jul 2024<|system|>s<|user|>u"


@pytest.mark.parametrize("lost", ["_", "#", "=", " " * 9, "\n\n\n"])
def test_signs_and_runs_of_blanks_are_looked_at(tmp_path: Path, lost: str) -> None:
    core = Tokenizer.from_file(str(models_made.folder("llama") / "tokenizer.json"))
    core.normalizer = normalizers.Replace(lost, lost[0] if len(lost) > 1 else "")
    assert "loses text" in line(folder(tmp_path, core, eos_token="<|end|>"))


def with_tokens(to: Path, *tokens: str, special: bool = False, **config: Any) -> Path:
    """A base whose tokenizer has more tokens than it has embeddings."""
    core = Tokenizer.from_file(str(models_made.folder("llama") / "tokenizer.json"))
    core.add_special_tokens(list(tokens)) if special else core.add_tokens(list(tokens))
    place = folder(to, **config)
    core.save(str(place / "tokenizer.json"))
    return place


def test_tokens_without_an_embedding_are_refused(tmp_path: Path) -> None:
    place, n = with_tokens(tmp_path, "nn.Conv9d", "nn.Conv8d"), len(models_made.tokenizer())
    assert line(place) == (
        f"the tokenizer of '{place}' has 2 tokens without an embedding, such as 'nn.Conv8d' (the model has {n:,}): it "
        "belongs to another model; fetch both again, or use another base model"
    )


def test_a_stop_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    assert "1 tokens without an embedding" in line(with_tokens(tmp_path, "<stop>", special=True, eos_token="<stop>"))


def test_special_tokens_that_no_text_has_need_no_embedding(tmp_path: Path) -> None:
    """Gemma 3's for images has none; a padding token without one is replaced."""
    place = with_tokens(tmp_path, "<image>", "<fill>", special=True, pad_token="<fill>")
    base = load_base(str(place), load_in_4bit=False)
    assert base.tokenizer.pad_token == base.tokenizer.eos_token


def test_a_stop_token_of_blanks_is_refused(tmp_path: Path) -> None:
    core = Tokenizer.from_file(str(models_made.folder("llama") / "tokenizer.json"))
    core.add_special_tokens(["\n"])
    place = folder(tmp_path, core, eos_token="\n")
    assert line(place) == (
        f"the stop token of '{place}' is white space ('\\n'), which all sources contain; use another base model"
    )


def test_a_padding_token_of_blanks_leaves_the_source_as_it_is(tmp_path: Path) -> None:
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer

    core = smollm()
    core.add_special_tokens([" "])
    tokenizer = load_base(str(folder(tmp_path, core, pad_token=" ")), load_in_4bit=False).tokenizer
    renderer = Renderer(get_template("code_only"), tokenizer, code_tokens=100, facts=LEMUR_FACTS)
    assert renderer.code(FIB).text == FIB
    assert renderer.inert(f"a {STOP} b") == f"a {STOP[0]} {STOP[1:]} b"


@pytest.mark.parametrize("template", [None, "{{ messages[0].content }}", "{{ bos_token }}{{ messages[0].content }}"])
@pytest.mark.parametrize("adds", [True, False])
def test_a_text_begins_as_the_tokenizer_begins_it(tmp_path: Path, template: str | None, adds: bool) -> None:
    """Llama's and Gemma's tokenizers begin each text with a token that a prompt without a chat template lacked."""
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer
    from tests.prompts.real import CODE, QUESTION

    core = deepseek_coder()
    if adds:
        core.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)])
    chat = {} if template is None else {"chat_template": template}
    place = folder(tmp_path, core, bos_token=BEGIN, **chat)
    tokenizer = load_base(str(place), load_in_4bit=False).tokenizer
    text = Renderer(get_template("code_only"), tokenizer, code_tokens=100, facts=LEMUR_FACTS).text(QUESTION, CODE)
    wanted = adds or (template is not None and "bos_token" in template)
    assert text.count(BEGIN) == text.startswith(BEGIN) == wanted
