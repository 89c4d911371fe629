"""What every export shares: a finished run, its files, the folder that is written, and the hub."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, elsewhere, typed
from nngpt_ext.evaluation.report import Report, read_report
from nngpt_ext.io import inside, replacing_folder, write_text
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.run_folder import ADAPTER, CONFIG, PREDICTIONS, RECORD, REPORT, model_files, read_config, read_record
from nngpt_ext.settings import build_config
from nngpt_ext.version import __version__

MANIFEST = "export.json"  # says what a folder is, so that the same export may replace it
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass(frozen=True)
class Exported:
    """The folder that was written, and the URL of the commit if it was pushed."""

    folder: Path
    pushed: str | None = None


@dataclass(frozen=True)
class FinishedRun:
    """The files of a finished run; `record` is its run.json."""

    folder: Path
    config: TaskConfig
    record: dict[str, Any]
    report: Report
    adapter: AdapterFiles

    def made_of(self) -> dict[str, Any]:
        """Which adapter is published, for `export.json`."""
        return {"adapter": self.adapter.hash, "prompt": self.adapter.note.prompt}


def read_run(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        UserError: if the run does not exist or is not finished, its adapter is not the one it wrote, or one of its
            files is damaged or is a link out of the folder.
    """
    for name in (CONFIG, RECORD, REPORT, ADAPTER):
        inside(folder, name)
    record = read_record(folder, ("split_hash", "data", "versions"), (CONFIG, PREDICTIONS))
    report = read_report(folder)
    config = build_config(TaskConfig, read_config(folder / CONFIG), what=f"'{folder / CONFIG}' is damaged")
    adapter = AdapterFiles(folder / ADAPTER)
    adapter.check_run(folder)
    return FinishedRun(folder, config, record, report, adapter)


def copy_model(source: Path, target: Path) -> None:
    """Copy the files of a model or an adapter, without its card, and make them readable for everybody.

    Raises:
        UserError: if one of them is not a regular file in `source`: a link could publish any file of this machine.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in model_files(source):
        if not inside(source, name).is_file():
            raise UserError(f"'{source / name}' is not a regular file; remove it and export again")
        shutil.copyfile(source / name, target / name)


@contextmanager
def exporting(
    out: Path, kind: str, made_of: Mapping[str, Any], *, force: bool = False, run: Path | None = None
) -> Iterator[Path]:
    """Give a temporary folder and put it in `out`'s place when the block ends without error.

    Args:
        out: the folder to write.
        kind: `hub`, `dataset` or `lm-eval`; an earlier export of the same kind is replaced.
        made_of: what the export is made of, for its `export.json`.
        force: replace whatever is in `out`.
        run: the folder of the run, which is never replaced.

    Raises:
        UserError: before the block if `out` cannot be written or contains something else; after it if the disk is full.
    """
    place = out.resolve()
    if not place.parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{place.parent}'")
    if out.exists() and not out.is_dir():
        raise UserError(f"the output folder '{out}' is a file; {elsewhere()}")
    for needed, name in ((Path.cwd(), "the current folder"), (run, f"'{run}'")):
        if needed is not None and needed.resolve().is_relative_to(place):
            raise UserError(f"'{out}' would replace {name}; {elsewhere()}")
    if out.is_dir() and any(out.iterdir()) and not force and _kind(out) != kind:
        raise UserError(
            f"the output folder '{out}' contains something other than an export of this kind ({kind}); {elsewhere()}, "
            f"or replace it with {typed('--force', 'force=True')}"
        )
    with replacing_folder(out) as folder:
        yield folder
        write_text(folder / MANIFEST, json.dumps({"kind": kind, "nngpt_ext": __version__, **made_of}, indent=2) + "\n")


def _kind(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def check_repo(repo: str | None) -> None:
    """Check the name of a repository, if one is given, and that there is a token, before anything is written."""
    from huggingface_hub import get_token

    if repo is None:
        return
    if not _REPOSITORY.fullmatch(repo):
        give = typed("--push OWNER/NAME", "repo='OWNER/NAME'")
        raise UserError(f"'{repo}' is not the name of a repository; give {give}")
    if not get_token():
        option = typed("--push", "repo")
        raise UserError(f"no token for the hub: set HF_TOKEN, or type hf auth login, or leave out {option}")


def push(folder: Path, repo: str | None, kind: str, private: bool = False) -> str | None:
    """Upload a folder to a repository (`owner/name`), if one is given; returns the URL of the commit.

    A repository that does not exist is created. `kind` is `model` or `dataset`.

    Raises:
        UserError: if the hub cannot be reached or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    if repo is None:
        return None
    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(
            folder_path=folder, repo_id=repo, repo_type=kind, commit_message=f"nngpt-ext export: {folder.name}"
        )
    except Exception as error:  # the hub's client, its HTTP library and the system raise errors of many types
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise UserError(f"'{folder}' was written but not pushed to '{repo}': {reason}") from None
    return str(done.commit_url)
