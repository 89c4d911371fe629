"""Our prompts, base models, dataset facts and pairs in NNGPT's formats, and NNGPT's LLM presets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError, nearest, reason, shown
from nngpt_ext.host.installation import CONF, Host
from nngpt_ext.io import is_file, replacing
from nngpt_ext.models.base import local_base
from nngpt_ext.models.gguf import copy_place, packaged_file
from nngpt_ext.models.presets import PRESETS, preset
from nngpt_ext.prompts.builtin import NAMES
from nngpt_ext.prompts.fields import COLUMNS, FACT_FIELDS, Question, Shown
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template
from nngpt_ext.scoring.predictions import questions_of

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext.data.load import PairData

HOST_COLUMNS = {column for column, (field, _) in COLUMNS.items() if field.host}
CONTEXT = 8192  # tokens; the value in NNGPT's presets of 7B bases
CHAT_TEMPLATE_FILE = "nngpt_ext.jinja"
# For a base whose tokenizer has no chat template: NNGPT's loader needs one.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)
# What the files are in a part of a conf folder.
PARTS = {"llm": "LLM preset", "prompt/train": "prompt file", "chat_template": "chat template"}
CUT = 4096  # tokens at which NNGPT's head cuts a row; the answer is cut first
# The keys for the context length in transformers' configurations, in the order in which NNGPT reads them.
_CONTEXT = ("n_positions", "max_position_embeddings", "seq_length")
# The files of exported pairs.
CORPUS = {"train": "train.jsonl", "validation": "dev.jsonl"}


def prompt_file(prompt: str) -> str:
    """The name of a prompt's JSON file."""
    return f"NN_dataset_compare_{prompt}.json"


def prompt_json(template: Template) -> str:
    """A prompt in the format of NNGPT's `conf/prompt/{train,test}/*.json`.

    `dataset` null and the prefix "" keep NNGPT from choosing one dataset and a few networks.

    Raises:
        UserError: if the prompt shows something that NNGPT's loader does not fill.
    """
    unfilled = sorted(set(template.columns.values()) - HOST_COLUMNS)
    if unfilled:
        raise UserError(
            f"prompt '{template.name}' shows {', '.join(unfilled)}, which NNGPT's loader does not fill; "
            "use code_only, metadata, metadata_only or normalized_accuracy, or our own run_task"
        )
    entry = {
        "comment": ["Written by nngpt-ext host enable."],
        "system": template.system.split("\n"),
        "task": "img-classification",
        "addon_task": "img-classification",
        "dataset": None,
        "num_joint_nns": 2,
        "keep_same": ["epoch", "metric", "task", "nn"],
        "no_repeat": ["dataset"],
        "improve": False,
        "nn_prefixes": [""],
        "output_type": "classification",
        "input_list": [{"para": name, "value": column} for name, column in template.columns.items()],
        "prompt": template.prompt.split("\n"),
        "output": ["{better_dataset}"],
    }
    return to_json({template.name: entry})


def dataset_meta() -> str:
    """`dataset_meta.json`: the facts of the datasets, in the format that NNGPT's `DatasetCompareBuilder` reads."""
    found = {}
    for dataset in LEMUR_FACTS:
        question = Question.of("", dataset, dataset)
        shown = Shown(question, None, None, LEMUR_FACTS)
        found[dataset] = {field.name: field.value(shown, question.first) for field in FACT_FIELDS}
    return to_json(found)


def llm_preset(base: str) -> dict[str, Any]:
    """The content of NNGPT's LLM preset for a base model: one of our names, a hub id, a local folder or a GGUF file.

    A local base is named relatively, through a link `bases/<its name>`: NNGPT writes adapters to
    `<epoch>/<the base's name>`, which for an absolute path is the base's own folder.
    """
    content: dict[str, Any] = {
        "base_model_name": preset(base).location,
        "load_in_4bit": True,
        "default_context_length": CONTEXT,
    }
    if (folder := local_base(base)) is not None:
        config, tokenizer = (_json_of(folder / name) for name in ("config.json", "tokenizer_config.json"))
        content["base_model_name"] = f"bases/{folder.name}"
        content["default_context_length"] = int(config.get("max_position_embeddings") or 2048)
        if not tokenizer.get("chat_template") and not (folder / "chat_template.jinja").is_file():
            content["chat_template_path"] = CHAT_TEMPLATE_FILE
    return content


def find_conf(name: str, part: str, folders: Sequence[Path]) -> Path:
    """A file of NNGPT's configuration: a path, or a name in a part of `PARTS` of one of several conf folders."""
    places = [folder / part for folder in folders]
    for file in (Path(name), *(place / name for place in places)):
        if is_file(file):
            return file.resolve()
    known = sorted({file.name for place in places for file in place.glob("*.json")})
    where = ", ".join(f"'{place}'" for place in places)
    if not name.strip():
        raise UserError(f"the name of the {PARTS[part]} is empty; give a path, or one in {where}: {', '.join(known)}")
    ours = next((prompt for prompt in NAMES if name == prompt_file(prompt)), None)  # which `host enable` writes
    advice = "" if ours else nearest(name, known)
    if not advice and (ours or name.startswith("nngpt_ext_")):
        advice = f"; type: nngpt-ext host enable dataset_compare --prompt {ours or 'code_only'}"
    raise UserError(f"there is no {PARTS[part]} {shown(name)} here or in {where}{advice}")


def read_llm_preset(file: Path) -> dict[str, Any]:
    """Read an LLM preset; it must name a base model, and its context length must be a number of tokens."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the LLM preset '{file}': {reason(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("base_model_name"), str):
        raise UserError(f"the LLM preset '{file}' has no base_model_name")
    context = content.get("default_context_length")
    if context is not None and (type(context) is not int or context < 1):
        raise UserError(f"the LLM preset '{file}' has the default_context_length {context!r}, not a number of tokens")
    return content


def base_of(file: Path) -> str:
    """The base model that an LLM preset names: our name of it, a hub id, or a folder.

    A relative folder is looked for where NNGPT would be started, above `ab/gpt/conf/llm`.
    """
    base = str(read_llm_preset(file)["base_model_name"])
    root = next((place for place in file.parents if place / CONF / "llm" == file.parent), file.parent)
    names = {known.location: name for name, known in PRESETS.items()}
    if (root / base).is_dir():
        base = str((root / base).resolve())
        packaged = {packaged_file(known.package): name for name, known in PRESETS.items() if known.package}
        names |= {str(copy_place(file).resolve()): name for file, name in packaged.items() if file is not None}
    return names.get(base, base)


def row_limit(preset: Mapping[str, Any], folder: Path) -> int:
    """The number of tokens that a row, including its answer, must stay below, by a preset and the base's folder.

    NNGPT drops rows that are not shorter than the preset's `default_context_length` (or the base's own context), and
    its head first cuts them at 4,096 tokens.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated = [preset.get("default_context_length"), *(config.get(name) for name in _CONTEXT)]
    return min([CUT, *(int(length) for length in stated if length)])


def chat_template(preset: Mapping[str, Any], file: Path, host: Host, tokenizer: Any) -> str | None:
    """The chat template that a preset names, ours if neither it nor the tokenizer has one, None for the tokenizer's."""
    named = preset.get("chat_template_path")
    if named:
        return find_conf(str(named), "chat_template", [file.parent.parent, host.conf]).read_text(encoding="utf-8")
    return None if tokenizer.chat_template else CHAT_TEMPLATE


def chat_rows(pairs: pd.DataFrame, renderer: Renderer, sources: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each pair in both orders of its datasets, as `{"messages": [system, user, assistant]}`."""
    shown: dict[str, str] = {}
    for question, answer in zip(questions_of(pairs), pairs["better_dataset"], strict=True):
        if question.nn not in shown:
            shown[question.nn] = renderer.code(sources[question.nn]).text
        for ordered in (question, question.turned()):
            messages = renderer.messages(ordered, shown[question.nn], sources[question.nn])
            texts = {"system": messages.system, "user": messages.user, "assistant": answer}
            yield {"messages": [{"role": role, "content": text} for role, text in texts.items()]}


def corpus_pairs(data: PairData, part: str) -> pd.DataFrame:
    """The pairs that are exported for a part of `CORPUS`."""
    return data.training if part == "train" else data.part(part)


def export_pairs(data: PairData, renderer: Renderer, folder: Path) -> dict[str, int]:
    """Write `train.jsonl` (training pairs) and `dev.jsonl` (validation pairs); return the numbers of their lines."""
    counts = {}
    for part, name in CORPUS.items():
        with replacing(folder / name) as temporary, temporary.open("w", encoding="utf-8") as stream:
            counts[part] = 0
            for row in chat_rows(corpus_pairs(data, part), renderer, data.sources):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[part] += 1
    return counts


def to_json(content: Any) -> str:
    """JSON in the style of NNGPT's own files."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _json_of(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
