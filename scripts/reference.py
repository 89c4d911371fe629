"""The pages that are made from the package: docs/cli.md and docs/configuration.md.

python scripts/reference.py           # writes them
python scripts/reference.py --check   # says which are out of date, and writes nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nngpt_ext import cli
from nngpt_ext.config import TaskConfig

MADE = "<!-- Made by scripts/reference.py: edit the package, then run it again. -->\n"
CONFIGURATION = """# Configuration

The keys of the task `dataset_compare` are set in one file: the nearest `nngpt.yaml`, or the one that `--config`
names, which is read instead of it. They stand below `tasks: {dataset_compare: …}` or at the file's top level.
`--set key=value` and keywords of `run_task` override single keys of the file; with them no file is needed. An unknown
key is an error that names the nearest known one. If the default is *preset*, the value comes from the preset of the
base model (`nngpt_ext/models/presets.py`); `config.yaml` in the run's folder records it.
"""


def cli_page() -> str:
    """All commands with their arguments and options, as typer describes them."""
    command = typer.main.get_command(cli.app)
    context = typer.Context(command, info_name="nngpt-ext")
    for one in walk(command):
        one.short_help = (one.help or "").splitlines()[0]  # else cut after 45 characters
    text = get_docs_for_click(obj=command, ctx=context, name="nngpt-ext", title="Commands")
    # Usage holds placeholders, so it is no command to copy; the example is one.
    text = text.replace("```console\n$ ", "```text\n")
    lines = [f"Example: `{line[9:]}`" if line.startswith("Example: ") else line for line in text.splitlines()]
    return MADE + "\n".join(lines).rstrip() + "\n"


def walk(command: Any) -> Iterator[Any]:
    """A command and those below it."""
    yield command
    for one in getattr(command, "commands", {}).values():
        yield from walk(one)


def configuration_page() -> str:
    """All keys with their defaults, what is allowed and what they are for."""
    parts = [MADE, CONFIGURATION]
    for title, kind, prefix in sections(TaskConfig):
        parts.append(f"\n## {title}\n\n| key | default | allowed | |\n|---|---|---|---|\n")
        for name, field in kind.model_fields.items():
            if model_of(field) is None:
                parts.append(
                    f"| `{prefix}{name}` | {default(field)} | {allowed(field)} | {field.description or ''} |\n"
                )
    return "".join(parts)


def sections(kind: type[BaseModel], prefix: str = "", title: str = "At the top") -> Iterator[tuple[str, type, str]]:
    """A configuration and its parts: title, class, and what stands before their keys."""
    yield title, kind, prefix
    for name, field in kind.model_fields.items():
        inner = model_of(field)
        if inner is not None:
            yield from sections(
                inner, f"{prefix}{name}.", f"`{prefix}{name}`: {(inner.__doc__ or '').splitlines()[0].rstrip('.')}"
            )


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The configuration that a key holds, where it holds one."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def default(field: FieldInfo) -> str:
    """The default as YAML would have it."""
    value = field.default
    if value is None:
        return "*preset*" if "preset" in (field.description or "") else "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value}`"


def allowed(field: FieldInfo) -> str:
    """The choices, or the range."""
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    if isinstance(field.json_schema_extra, dict):
        choices += [str(name) for name in field.json_schema_extra.get("choices", [])]  # of nngpt_ext.declaration
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(f"{signs[k]} {getattr(m, k)}" for m in field.metadata for k in signs if hasattr(m, k))


PAGES = {"cli.md": cli_page, "configuration.md": configuration_page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is out of date")
    check = parser.parse_args().check
    old = []
    for name, page in PAGES.items():
        file, text = ROOT / "docs" / name, page()
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            old.append(name)
            if not check:
                file.write_text(text, encoding="utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(old) or 'none'}")
    raise SystemExit(1 if check and old else 0)


if __name__ == "__main__":
    main()
