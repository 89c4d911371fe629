"""Prompt templates in NNGPT's own JSON format, filled strictly."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nngpt_ext.data.facts import FACT
from nngpt_ext.errors import UserError, shown
from nngpt_ext.io import digest, parse_json, read_text
from nngpt_ext.prompts.fields import COLUMNS, FIELDS, GIVEN, Given
from nngpt_ext.settings import build_config

_OF_RATE = {"recipe", "pace", "pace_tenths"}
_ROUNDED = {column for column, (one, _) in COLUMNS.items() if one.rounded}
# What a line may show: values of one dataset, which the text before the lines may not.
_OF_A_DATASET = {one.columns[0] for one in FIELDS.values() if len(one.columns) > 1}
_OF_A_NETWORK = {one.columns[0] for one in FIELDS.values() if len(one.columns) == 1}


@dataclass(frozen=True)
class Messages:
    """The text for the model: the system's and the user's."""

    system: str
    user: str


@dataclass(frozen=True)
class Template:
    """One prompt: texts with `{variables}`, and for each variable the column that fills it.

    With a `line`, the prompt shows one dataset at a time (`tuning.head: lines`): `prompt` is what all lines of a
    network share, and the columns of `line` are those of the first dataset, whichever is shown.

    Attributes:
        columns: variable -> column.
        line: a dataset's line; None if the prompt shows both datasets.
        lines: the same prompt with a line; None if it has none.
    """

    name: str
    system: str
    prompt: str
    columns: dict[str, str]
    line: str | None = None
    lines: Template | None = None

    @cached_property
    def shown(self) -> set[str]:
        """The columns that the prompt shows; with a line, those of both datasets."""
        own = set(self.columns.values())
        return own | {_turned(column) for column in own} if self.line is not None else own

    @property
    def hash(self) -> str:
        """Hash of what it shows."""
        own = [self.name, self.system, self.prompt, self.columns]
        return digest(own if self.line is None else [*own, self.line])

    def needs(self, column: str) -> bool:
        """Whether the prompt shows this column."""
        return column in self.shown

    def shows(self, name: str) -> bool:
        """Whether the prompt shows a field (`nngpt_ext.prompts.fields.FIELDS`), on either side."""
        return any(self.needs(column) for column in FIELDS[name].columns)

    @cached_property
    def needs_facts(self) -> bool:
        """Whether the prompt shows anything that is computed from facts about a dataset."""
        return any(COLUMNS[column][0].facts for column in self.shown)

    @cached_property
    def required(self) -> set[str]:
        """What a trial must have: `lr` for a prompt with recipes or paces, and further facts as `fact_NAME`."""
        names = {COLUMNS[column][0].name for column in self.shown}
        return {name for name in names if name.startswith(FACT)} | ({"lr"} if names & _OF_RATE else set())

    def takes(self, given: Given) -> bool:
        """Whether the prompt shows something of what the user gives for each dataset, on either side."""
        return any(self.shows(one.name) for one in FIELDS.values() if one.given is given)

    @property
    def at_resolution(self) -> bool:
        """Whether a structure is that at the resolution which the recipe gives, and not at the dataset's own size."""
        return self.takes(GIVEN["recipe"])

    def fill(self, values: Mapping[str, Any]) -> Messages:
        """Replace the variables by values, which are given by column; with a line, both datasets' lines follow.

        Raises:
            UserError: naming all needed columns that are missing or None.
        """
        one, other = self._filled(values)
        return Messages(one[0], "\n".join([one[1]] if self.line is None else [one[1], one[2], other[2]]))

    def fill_lines(self, values: Mapping[str, Any]) -> tuple[Messages, Messages]:
        """`fill` for the line of each dataset alone.

        Raises:
            UserError: as `fill`.
        """
        one, other = (Messages(system, f"{prompt}\n{line}") for system, prompt, line in self._filled(values))
        return one, other

    def _filled(self, values: Mapping[str, Any]) -> list[list[str]]:
        """System text, prompt and line, with the values of each dataset as the first one's."""
        missing = sorted(c for c in self.shown if values.get(c) is None)
        if missing:
            raise UserError(f"prompt '{self.name}' needs {', '.join(missing)}, which was not given")
        texts = []
        for turned in (False, self.line is not None):
            filled = {v: values[_turned(c) if turned else c] for v, c in self.columns.items()} | {None: ""}
            texts.append(
                [
                    "".join(literal + format(filled[name], form[1:]) for literal, name, form in _fields(text))
                    for text in (self.system, self.prompt, self.line or "")
                ]
            )
        return texts


def _turned(column: str) -> str:
    """The column of the other dataset, for one of the first; a network's own column is the same for both."""
    return COLUMNS[column][0].columns[-1]


class _Input(BaseModel):
    para: str
    value: str


class _Lines(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: list[str]
    line: list[str]
    system: list[str] = []


class _Entry(BaseModel):
    """A prompt in NNGPT's format, and `lines`, which is ours; other keys, such as `output`, are not used."""

    prompt: list[str]
    input_list: list[_Input]
    system: list[str] = []
    lines: _Lines | None = None


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
    system, prompt, lines = "\n".join(entry.system), "\n".join(entry.prompt), None
    if entry.lines is not None:
        parts = ["\n".join(part) for part in (entry.lines.system, entry.lines.prompt, entry.lines.line)]
        # What only one of the two texts uses is no fault of the other; what neither uses is one of the question.
        own, used = (_variables(*texts) for texts in (parts, (system, prompt)))
        lines = Template(name, parts[0], parts[1], {v: c for v, c in columns.items() if v in own}, parts[2])
        columns = {v: c for v, c in columns.items() if v in used or v not in own}
    return checked(Template(name, system, prompt, columns, lines=lines))


def _variables(*texts: str) -> set[str]:
    return {name for text in texts for _, name, _ in _fields(text) if name is not None}


def checked(template: Template) -> Template:
    """Return the template if each variable is filled by a known column, else raise a UserError with all faults."""
    if template.lines is not None:
        checked(template.lines)
    fields = [part for text in (template.system, template.prompt, template.line or "") for part in _fields(text)]
    used = {name for _, name, _ in fields if name is not None}
    faults = [
        f"{{{name}{form}}} has a format: write {{{name}}}; only accuracies can be rounded, as {{x:.3f}}"
        for _, name, form in fields
        if form and not (re.fullmatch(r":\.\df", form) and template.columns.get(name or "") in _ROUNDED)
    ]
    faults += [f"variable {{{v}}} is not in input_list" for v in sorted(used - set(template.columns))]
    faults += [f"input_list has {{{v}}}, which the text does not use" for v in sorted(set(template.columns) - used)]
    faults += [
        f"unknown column {shown(column)} for {{{variable}}} (known: {', '.join(sorted(COLUMNS))}, {FACT}NAME_1)"
        for variable, column in sorted(template.columns.items())
        if column not in COLUMNS
    ]
    if template.line is not None:
        faults += _line_faults(template)
    elif not {"dataset", "dataset_2"} <= set(template.columns.values()):
        faults.append("the columns dataset and dataset_2 must both be shown")
    if faults:
        what = "prompt" if template.line is None else "the lines of prompt"
        raise UserError(f"{what} {shown(template.name)}: {'; '.join(faults)}")
    return template


def _line_faults(template: Template) -> list[str]:
    """What a line, or the text before the lines, shows that it may not."""
    places = (
        (_variables(template.line or ""), _OF_A_DATASET, "a line shows values of the first dataset only"),
        (_variables(template.system, template.prompt), _OF_A_NETWORK, "lines share values of the network only"),
    )
    faults = [
        f"{{{variable}}} is {column}, and {rule}: {', '.join(sorted(allowed))}"
        for variables, allowed, rule in places
        for variable in sorted(variables & set(template.columns))
        if (column := template.columns[variable]) in COLUMNS
        and column not in allowed
        and not (allowed is _OF_A_DATASET and column.startswith(FACT) and COLUMNS[column][1] == 0)
    ]
    named = {template.columns.get(variable) for variable in places[0][0]}
    return faults if "dataset" in named else [*faults, "the line must show the column dataset"]


def _fields(text: str) -> list[tuple[str, str | None, str]]:
    """The parts of a text: what is written as it is, then a variable or None, and its conversion and format."""
    try:
        return [
            (literal, name, (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else ""))
            for literal, name, spec, conversion in string.Formatter().parse(text)
        ]
    except ValueError as error:
        raise UserError(f"a prompt's braces do not match: {error}; write {{{{ or }}}} for a plain brace") from None
