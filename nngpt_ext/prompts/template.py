"""Prompt templates in NNGPT's own JSON format, filled strictly."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nngpt_ext.errors import UserError, shown
from nngpt_ext.io import parse_json, read_text
from nngpt_ext.prompts.fields import COLUMNS, FIELDS, GIVEN, Given
from nngpt_ext.settings import build_config

_ROUNDED = {column for column, (one, _) in COLUMNS.items() if one.rounded}


@dataclass(frozen=True)
class Messages:
    """The text for the model: the system's and the user's."""

    system: str
    user: str


@dataclass(frozen=True)
class Template:
    """One prompt: texts with `{variables}`, and for each variable the column that fills it."""

    name: str
    system: str
    prompt: str
    columns: dict[str, str]  # variable -> column

    def needs(self, column: str) -> bool:
        """Whether the prompt shows this column."""
        return column in self.columns.values()

    def shows(self, name: str) -> bool:
        """Whether the prompt shows a field (`nngpt_ext.prompts.fields.FIELDS`), on either side."""
        return any(self.needs(column) for column in FIELDS[name].columns)

    @property
    def needs_facts(self) -> bool:
        """Whether the prompt shows anything that is computed from facts about a dataset."""
        return any(self.shows(one.name) for one in FIELDS.values() if one.facts)

    def takes(self, given: Given) -> bool:
        """Whether the prompt shows something of what the user gives for each dataset, on either side."""
        return any(self.shows(one.name) for one in FIELDS.values() if one.given is given)

    @property
    def at_resolution(self) -> bool:
        """Whether a structure is that at the resolution which the recipe gives, and not at the dataset's own size."""
        return self.takes(GIVEN["recipe"])

    def fill(self, values: Mapping[str, Any]) -> Messages:
        """Replace the variables by values, which are given by column.

        Raises:
            UserError: naming all needed columns that are missing or None.
        """
        missing = sorted({c for c in self.columns.values() if values.get(c) is None})
        if missing:
            raise UserError(f"prompt '{self.name}' needs {', '.join(missing)}, which was not given")
        filled = {variable: values[column] for variable, column in self.columns.items()} | {None: ""}
        system, prompt = (
            "".join(literal + format(filled[name], form[1:]) for literal, name, form in _fields(text))
            for text in (self.system, self.prompt)
        )
        return Messages(system, prompt)


class _Input(BaseModel):
    para: str
    value: str


class _Entry(BaseModel):
    """A prompt in NNGPT's format; other keys, such as `output`, are not used."""

    prompt: list[str]
    input_list: list[_Input]
    system: list[str] = []


def load_template(path: str | Path, key: str | None = None) -> Template:
    """Read a template from a JSON file in the format of `ab/gpt/conf/prompt/*/*.json`.

    Args:
        path: the file; its top level maps prompt names to prompts.
        key: which of them; by default the only one.

    Raises:
        UserError: for an unreadable file or variables that no column fills; names all of them.
    """
    content = parse_json(read_text(path, "the prompt file"), f"the prompt file '{path}'")
    if not isinstance(content, dict) or (key is None and len(content) != 1) or (key and key not in content):
        raise UserError(f"the prompt file '{path}' must contain {f'a prompt {key!r}' if key else 'one prompt'}")
    name = key or next(iter(content))
    entry = build_config(_Entry, content[name], what=f"prompt {shown(name)} in '{path}'")
    columns = {one.para: one.value for one in entry.input_list}
    return checked(Template(name, "\n".join(entry.system), "\n".join(entry.prompt), columns))


def checked(template: Template) -> Template:
    """Return the template if each variable is filled by a known column, else raise a UserError with all faults."""
    fields = [*_fields(template.system), *_fields(template.prompt)]
    used = {name for _, name, _ in fields if name is not None}
    faults = [
        f"{{{name}{form}}} has a format: write {{{name}}}; only accuracies can be rounded, as {{x:.3f}}"
        for _, name, form in fields
        if form and not (re.fullmatch(r":\.\df", form) and template.columns.get(name or "") in _ROUNDED)
    ]
    faults += [f"variable {{{v}}} is not in input_list" for v in sorted(used - set(template.columns))]
    faults += [f"input_list has {{{v}}}, which the text does not use" for v in sorted(set(template.columns) - used)]
    faults += [
        f"unknown column {shown(column)} for {{{variable}}} (known: {', '.join(sorted(COLUMNS))})"
        for variable, column in sorted(template.columns.items())
        if column not in COLUMNS
    ]
    if not {"dataset", "dataset_2"} <= set(template.columns.values()):
        faults.append("the columns dataset and dataset_2 must both be shown")
    if faults:
        raise UserError(f"prompt {shown(template.name)}: {'; '.join(faults)}")
    return template


def _fields(text: str) -> list[tuple[str, str | None, str]]:
    """The parts of a text: what is written as it is, then a variable or None, and its conversion and format."""
    try:
        return [
            (literal, name, (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else ""))
            for literal, name, spec, conversion in string.Formatter().parse(text)
        ]
    except ValueError as error:
        raise UserError(f"a prompt's braces do not match: {error}; write {{{{ or }}}} for a plain brace") from None
