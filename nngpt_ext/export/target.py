"""Folders to publish: whole or not there, and never in the place of something else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.io import replacing_folder, write_text
from nngpt_ext.version import __version__

NOTE = "export.json"  # says what a folder is, and so that it may be written again


@contextmanager
def exporting(
    out: Path, kind: str, made_of: Mapping[str, Any], *, force: bool = False, apart: Path | None = None
) -> Iterator[Path]:
    """Give a temporary folder; put it in `out`'s place when the block ends without error.

    Args:
        made_of: what it is made of, for its `export.json`.
        out, kind, force, apart: as of `check_target`.

    Raises:
        UserError: as `check_target`, and when the folder cannot be written.
    """
    check_target(out, kind, force=force, apart=apart)
    with replacing_folder(out) as folder:
        yield folder
        write_text(folder / NOTE, json.dumps({"kind": kind, "nngpt_ext": __version__, **made_of}, indent=2) + "\n")


def check_target(out: Path, kind: str, *, force: bool = False, apart: Path | None = None) -> None:
    """See that a folder may be written, before anything is read for it.

    Args:
        out: the folder to be.
        kind: `hub`, `dataset` or `lm-eval`; an earlier export of the same kind may be replaced.
        force: replace whatever is there.
        apart: a folder, such as the run's, that is never replaced.

    Raises:
        UserError: when something else is there.
    """
    place = out.resolve()
    if not place.parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{place.parent}'")
    if out.exists() and not out.is_dir():
        raise UserError(f"the output folder '{out}' is a file; give another with --out")
    for holder, name in ((Path.cwd(), "the current folder"), (apart, f"'{apart}'")):
        if holder is not None and holder.resolve().is_relative_to(place):
            raise UserError(f"'{out}' would replace {name}; give another folder with --out")
    if out.is_dir() and any(out.iterdir()) and not force and _kind(out) != kind:
        raise UserError(
            f"the output folder '{out}' holds something else than an export of this kind ({kind}); give another with "
            "--out, or replace it with --force"
        )


def _kind(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / NOTE).read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
