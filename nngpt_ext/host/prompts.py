"""Our prompts and base models in the host's own JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.models.presets import preset
from nngpt_ext.prompts.template import COLUMNS, Template

HOST_COLUMNS = COLUMNS - {"recipe_1", "recipe_2"}  # what the host's own loader fills
CONTEXT = 8192  # tokens, as the host's presets state for its 7B bases
TEMPLATE_FILE = "nngpt_ext.jinja"
# For a base whose tokenizer has none: the host's loader renders everything through a chat template.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)


def prompt_json(template: Template) -> str:
    """A prompt as the host's `conf/prompt/{train,test}/*.json` have it.

    `dataset` null and the prefix "" keep the host from choosing one dataset and a few networks; the same text goes
    to training and to measuring.

    Raises:
        UserError: for a prompt that shows what the host does not fill.
    """
    strange = sorted(set(template.columns.values()) - HOST_COLUMNS)
    if strange:
        raise UserError(
            f"prompt '{template.name}' shows {', '.join(strange)}, which the host's loader does not fill; "
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
    return _json({template.name: entry})


class LlmPreset(NamedTuple):
    """An LLM preset: its file's name and text, and where a local base is linked to."""

    name: str
    text: str
    link: tuple[str, Path] | None
    chat_template: bool


def llm_preset(base: str) -> LlmPreset:
    """The LLM preset of a base model: a name of ours, a hub id or a local folder.

    A local base is named relatively, through a link: the host writes adapters to `<epoch>/<base's name>`, which
    for an absolute path is the base's own folder.
    """
    location = preset(base).location
    folder = Path(location)
    short = folder.name if folder.is_dir() else location.rsplit("/", 1)[-1]
    content: dict[str, Any] = {"base_model_name": location, "load_in_4bit": True}
    link, bare = None, False
    if folder.is_dir():
        content["base_model_name"] = f"bases/{short}"
        link, bare = (f"bases/{short}", folder.resolve()), not _has_chat_template(folder)
        content["default_context_length"] = _context(folder)
    else:
        content["default_context_length"] = CONTEXT
    if bare:
        content["chat_template_path"] = TEMPLATE_FILE
    return LlmPreset(f"nngpt_ext_{short}.json", _json(content), link, bare)


def dataset_meta() -> str:
    """`dataset_meta.json`: the facts of the datasets, as the host's `DatasetCompareBuilder` reads them."""
    names = ("num_train_images", "img_size", "num_channels", "num_classes")
    return _json({dataset: dict(zip(names, facts, strict=True)) for dataset, facts in LEMUR_FACTS.items()})


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(json.loads(file.read_text(encoding="utf-8")).get("chat_template"))


def _context(folder: Path) -> int:
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return int(content.get("max_position_embeddings") or 2048)


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
