"""Prompt templates in NNGPT's own JSON format, filled strictly."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import COLUMNS, FACT_FIELDS, FIELDS


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
        """Whether the prompt shows any fact about a dataset."""
        return any(self.shows(one.name) for one in FACT_FIELDS)

    def fill(self, values: Mapping[str, Any]) -> Messages:
        """Replace the variables by values, which are given by column.

        Raises:
            UserError: naming all needed columns that are missing or None.
        """
        missing = sorted({c for c in self.columns.values() if values.get(c) is None})
        if missing:
            raise UserError(f"prompt '{self.name}' needs {', '.join(missing)}, which was not given")
        filled = {variable: values[column] for variable, column in self.columns.items()}
        return Messages(self.system.format(**filled), self.prompt.format(**filled))


def load_template(path: str | Path, key: str | None = None) -> Template:
    """Read a template from a JSON file in the format of `ab/gpt/conf/prompt/*/*.json`.

    Args:
        path: the file; its top level maps prompt names to prompts.
        key: which of them; by default the only one.

    Raises:
        UserError: for an unreadable file or variables that no column fills; names all of them.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the prompt file '{path}': {error}") from None
    if not isinstance(content, dict) or (key is None and len(content) != 1) or (key and key not in content):
        raise UserError(f"the prompt file '{path}' must contain {f'a prompt {key!r}' if key else 'one prompt'}")
    name = key or next(iter(content))
    entry = content[name]
    try:
        system, prompt = "\n".join(entry.get("system", [])), "\n".join(entry["prompt"])
        columns = {item["para"]: item["value"] for item in entry["input_list"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"prompt '{name}' in '{path}' is not in NNGPT's format: {error!r}") from None
    return checked(Template(name, system, prompt, columns))


def checked(template: Template) -> Template:
    """Return the template if each variable is filled by a known column, else raise a UserError with all faults."""
    used = _variables(template.system) | _variables(template.prompt)
    faults = [f"variable {{{v}}} is not in input_list" for v in sorted(used - set(template.columns))]
    faults += [f"input_list has {{{v}}}, which the text does not use" for v in sorted(set(template.columns) - used)]
    faults += [
        f"unknown column '{column}' for {{{variable}}} (known: {', '.join(sorted(COLUMNS))})"
        for variable, column in sorted(template.columns.items())
        if column not in COLUMNS
    ]
    if not {"dataset", "dataset_2"} <= set(template.columns.values()):
        faults.append("the columns dataset and dataset_2 must both be shown")
    if faults:
        raise UserError(f"prompt '{template.name}': {'; '.join(faults)}")
    return template


def _variables(text: str) -> set[str]:
    try:
        fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(text) if name is not None]
        return {name for name, _ in fields}.union(*(_variables(spec) for _, spec in fields))
    except ValueError as error:
        raise UserError(f"a prompt's braces do not match: {error}; write {{{{ or }}}} for a plain brace") from None
