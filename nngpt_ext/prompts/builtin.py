"""The built-in prompts: four equivalent to the paper's, and five of ours. They are registered like a plugin's."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from pathlib import Path

from nngpt_ext.prompts.template import Template, checked, load_template
from nngpt_ext.registry import prompts, register_prompt

FOLDER = Path(str(files("nngpt_ext.prompts").joinpath("templates")))
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.json")))

for _name in NAMES:
    register_prompt(_name)(partial(load_template, FOLDER / f"{_name}.json"))


def get_template(name: str) -> Template:
    """The registered prompt of that name: a plugin registers a `Template`, or a function that returns one."""
    found = prompts.get(name)
    return checked(found if isinstance(found, Template) else found())
