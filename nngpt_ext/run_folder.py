"""The files of a run and of an adapter: their names and hashes, which run a folder belongs to, and its records.

run.json has the sha256 of the files of a finished run, nngpt_ext.json those of the files beside it in an adapter's
folder, and run.json and report.json have their own. Whoever reads a file of a finished run checks it.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from nngpt_ext.errors import UserError, elsewhere, resuming, typed
from nngpt_ext.io import cannot_write, digest, file_digest, is_free, write_text
from nngpt_ext.settings import dump_config, faults, filled, flat

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

# A run's folder.
CONFIG, INPUTS, BASELINES = "config.yaml", "inputs.json", "baselines.parquet"
CHECKPOINTS, HISTORY, ADAPTER = "checkpoints", "history.json", "adapter"
PREDICTIONS, STORE, RECORD = "predictions.parquet", "predictions.db", "run.json"
REPORT, REPORT_MARKDOWN, REPORT_PAGE = "report.json", "report.md", "report.html"
# A folder of answers that a finished run gave about other trials: the sha256 of its tables.
HASHES = "hashes.json"
# An adapter's folder: PEFT's two files, and ours beside them.
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASK, CALIBRATION, PRIOR, BASIS = "task.json", "calibration.json", "prior.json", "basis.json"
BASE_FILE, CARD = "nngpt_ext.json", "README.md"
BASE_FOLDER = "base"  # the base model, where it is published with the adapter
# The files of a model or an adapter that are fetched, published and hashed; others, such as *.bin, may run code.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
# The columns that identify a pair in a run's tables.
KEYS = ["nn", "epoch", "dataset_1", "dataset_2"]
# Where results go, who follows them, and how many folds run at a time changes no result.
_ELSEWHERE = {"output_dir", "store", "workers", "tuning.report_to"}
# None: as suits the device. Results differ by rounding and, with dropout, by what each row drops.
_ON_DEVICE = ("tuning.row_tokens", "tuning.gradient_checkpointing")
ROOM = 100 * 2**20  # bytes: adapters, checkpoints and predictions of a small run
_LIBRARIES = (
    "nngpt-ext", "torch", "transformers", "peft", "trl", "bitsandbytes", "tokenizers", "scikit-learn", "numpy",
    "nn-dataset",
)  # fmt: skip


def fold_name(fold: int) -> str:
    """The folder of a fold's run inside that of a run of all folds."""
    return f"fold-{fold}"


def is_finished(folder: Path, config: BaseModel, resume: bool) -> bool:
    """Whether a folder has the finished run of this configuration; if not, the run may use it. Nothing is written.

    Raises:
        UserError: if the folder belongs to something else or to another configuration, if its run is unfinished
            and `resume` is not set, and if there is no room on the disk.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        what = "is" if there == folder else f"cannot be made, because '{there}' is"
        raise UserError(f"the output folder '{folder}' {what} a file; {elsewhere()}")
    if (folder / CONFIG).is_file():
        found = filled(type(config), read_config(folder / CONFIG))
        check_config(folder, found, config.model_dump(mode="json"))
        if (folder / REPORT).is_file():
            return True
        if not resume:
            raise UserError(f"an unfinished run is in '{folder}'; {resuming()}, or {elsewhere()}")
    elif folder.is_dir() and not is_free(folder, CONFIG):
        raise UserError(f"the output folder '{folder}' has files but no run; {elsewhere()}")
    free = shutil.disk_usage(there).free
    if free < ROOM:
        raise UserError(
            f"no space left on the disk for '{folder}': {free / 2**20:.0f} MB free, {ROOM / 2**20:.0f} MB needed; "
            f"free some or {elsewhere()}"
        )
    return False


def claim(folder: Path, config: BaseModel, resume: bool) -> bool:
    """Make a folder and write the run's configuration to it, unless its run is finished.

    Returns:
        Whether the run is finished.

    Raises:
        UserError: as `is_finished`, and if the folder cannot be made.
    """
    if is_finished(folder, config, resume):
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    write_text(folder / CONFIG, dump_config(config))
    return False


def same_inputs(folder: Path, inputs: dict[str, str], later: dict[str, str] | None = None) -> None:
    """Check that a run continues with the data, prompt and base model that it started with.

    Args:
        folder: of the run.
        inputs: sha256 of each input, by name.
        later: inputs that older versions did not record; a run that such a version started records them now.

    Raises:
        UserError: if an input has changed or was not recorded, because checkpoints depend on it.
    """
    file, later, other = folder / INPUTS, later or {}, f"{elsewhere()}, or remove this folder"
    if not file.is_file():
        if (folder / REPORT).is_file():  # finished: nothing more is computed from them
            return
        if any(place.name != CONFIG and not place.name.startswith(".") for place in folder.iterdir()):
            raise UserError(f"'{file}' is missing, so the run's inputs cannot be checked; {other}")
        recorded = inputs | later
    else:
        try:
            recorded = dict(json.loads(file.read_text(encoding="utf-8")))
        except Exception as error:
            reason = _reason(error)
            raise UserError(f"cannot read '{file}', which records the run's inputs ({reason}); {other}") from None
        changed = [name for name in inputs if recorded.get(name) != inputs[name]]
        changed += [name for name in later if recorded.get(name, later[name]) != later[name]]
        if lost := [name for name in inputs if name not in recorded]:
            raise UserError(f"'{file}' does not say which {' and '.join(lost)} the run started with; {other}")
        if changed:
            raise UserError(
                f"the run in '{folder}' cannot continue, because its {' and '.join(changed)} changed since it started; "
                f"{other}"
            )
        new = sorted(later.keys() - recorded.keys())
        if not new:
            return
        log.warning("the run in '%s' was started by an older version, which recorded no %s", folder, ", ".join(new))
        recorded |= later
    write_text(file, json.dumps(recorded, indent=2) + "\n")


def read_config(file: Path) -> dict[str, Any]:
    """Read a run's config.yaml.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        return dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    except Exception as error:  # a parser of foreign text fails in many ways
        raise UserError(f"cannot read '{file}': {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What a library says of a file that it cannot read, in a line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def check_config(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that the configuration found in a folder is the wanted one; where results go may differ.

    Raises:
        UserError: if not; the line names the first keys that differ.
    """
    there, wanted = result_settings(found), result_settings(wanted)
    other = [
        key for key in {**there, **wanted}
        if there.get(key) != wanted.get(key)
        and not (key.endswith(_ON_DEVICE) and None in (there.get(key, ""), wanted.get(key, "")))
    ]  # fmt: skip
    if other:
        shown = ", ".join(f"{key} {there.get(key)} there, {wanted.get(key)} now" for key in other[:3])
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        raise UserError(f"the output folder '{folder}' belongs to another config ({shown}{more}); {elsewhere()}")


def result_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that results depend on, by their whole keys."""
    return {key: value for key, value in flat(config).items() if key not in _ELSEWHERE}


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that results depend on."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return found


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json, with the sha256 of the other files of the run; after this they stay as they are."""
    own = [CONFIG, INPUTS, BASELINES, PREDICTIONS, *(f"{ADAPTER}/{name}" for name in model_files(folder / ADAPTER))]
    own += [f"{fold_name(i)}/{RECORD}" for i in range(len(record.get("folds", ())))]
    files = {name: file_digest(folder / name) for name in own if (folder / name).is_file()}
    write_sealed(folder / RECORD, {**record, "files": files})


def read_record(folder: Path, needed: Iterable[str] = (), checked: Iterable[str] = ()) -> dict[str, Any]:
    """Read run.json, which must have the needed keys.

    Args:
        folder: of the run.
        needed: keys.
        checked: files and folders that must be as the run wrote them. A run of an older version recorded no hashes; it
            is not checked, and a line says so.

    Raises:
        UserError: if it does not exist (no run, or an unfinished one), or if it or a checked file is damaged.
    """
    file = folder / RECORD
    try:
        record = read_sealed(file)
    except (FileNotFoundError, NotADirectoryError):
        if (folder / REPORT).is_file():
            raise UserError(f"'{file}' is missing; {_advice(folder)}") from None
        raise no_run(folder) from None
    except Exception as error:
        raise UserError(f"cannot read '{file}': {_reason(error)}; {_advice(folder)}") from None
    missing = [name for name in needed if name not in record]
    if missing:
        raise UserError(f"'{file}' is damaged: it has no {', '.join(missing)}; run the task again")
    files = record.get("files")
    for name in checked:
        if isinstance(files, dict):
            names = [one for one in files if one.startswith(f"{name}/")] or [name]
            check_files(folder, files, names, _advice(folder, name))
        else:
            _warn_unchecked(folder)
    return record


@functools.cache  # one line a run
def _warn_unchecked(folder: Path) -> None:
    log.warning("the run in '%s' is of an older version, which recorded no hashes: its files are not checked", folder)


def _advice(folder: Path, name: str = RECORD) -> str:
    """What to do about a damaged file of a finished run."""
    if name == CONFIG:
        return "restore it, or run the task again in another folder"
    if not (folder / REPORT).is_file():
        return f"the run is not finished, {finishing(folder)}"
    return f"to make it again, remove '{folder / REPORT}' and {finishing(folder)}"


def finishing(folder: Path) -> str:
    """What to type to finish the run in a folder, from its own configuration."""
    out, config = str(folder), str(folder / CONFIG)
    return typed(
        f"type: nngpt-ext run dataset_compare --config {shlex.quote(config)} --out {shlex.quote(out)} --resume",
        f'call run_task("dataset_compare", {config!r}, output_dir={out!r}, resume=True)',
    )


def no_run(folder: Path) -> UserError:
    """The error for a folder without a finished run, by what is there."""
    if not folder.is_dir():
        return UserError(f"'{folder}' is a file, not a run's folder" if folder.exists() else f"no folder '{folder}'")
    if (folder / CONFIG).is_file():
        return UserError(f"'{folder}' has an unfinished run; to finish it, {finishing(folder)}")
    if (folder / SETTINGS).is_file():
        use = typed("compare, rank and score take it as --run", f"use Predictor.from_pretrained({str(folder)!r})")
        return UserError(f"'{folder}' has an adapter, not a run; {use}")
    runs = sorted(str(file.parent) for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{RECORD}"))
    return UserError(f"'{folder}' has no run{f'; give one of those in it, such as {runs[0]}' if runs else ''}")


def adapter_in(place: Path) -> Path:
    """The folder of the adapter that a user gives: that folder, or the one of its run."""
    return place if (place / SETTINGS).is_file() else place / ADAPTER


def no_adapter(folder: Path) -> UserError:
    """The error for a folder without an adapter, such as that of a run of all folds."""
    for run in (folder, folder.parent):
        if (fold := run / fold_name(0)).is_dir() and (run / CONFIG).is_file():
            use = typed(f"type: --run {shlex.quote(str(fold))}", f"give {str(fold)!r}")
            return UserError(f"'{run}' has one adapter for each fold; {use}")
    inner = f"; give '{folder / ADAPTER}'" if (folder / ADAPTER / SETTINGS).is_file() else ""
    return UserError(f"no adapter in '{folder}': it needs {SETTINGS} and {WEIGHTS}{inner}")


def model_files(folder: Path) -> list[str]:
    """The names of the files of a model or an adapter; its card is not one of them."""
    return sorted({file.name for kind in MODEL_FILES for file in folder.glob(kind)})


def record_adapter(folder: Path) -> None:
    """Write to an adapter's nngpt_ext.json the sha256 of the files beside it."""
    content = read_adapter_file(folder, BASE_FILE, dict[str, Any])
    files = {name: file_digest(folder / name) for name in model_files(folder) if name != BASE_FILE}
    write_text(folder / BASE_FILE, json.dumps({**content, "files": files}, indent=2) + "\n")


def check_adapter(folder: Path, recorded: Mapping[str, str]) -> None:
    """Check an adapter's files against the hashes in its nngpt_ext.json; an older adapter has none.

    Raises:
        UserError: if one is missing or was changed.
    """
    run = folder.parent
    advice = _advice(run, ADAPTER) if (run / REPORT).is_file() else "fetch or train the adapter again"
    check_files(folder, recorded, {*recorded, CALIBRATION} if recorded else (), advice)


def check_files(folder: Path, recorded: Mapping[str, str], names: Iterable[str], advice: str) -> None:
    """Check files in a folder against their recorded sha256; one without may not exist.

    Raises:
        UserError: for the first one that is missing, was changed or was added.
    """
    for name in sorted(names):
        file = folder / name
        if name not in recorded and not os.path.lexists(file):
            continue
        try:
            found = file_digest(file)
        except OSError:
            raise UserError(f"'{file}' is missing or cannot be read; {advice}") from None
        if found != recorded.get(name):
            raise UserError(f"'{file}' was changed or damaged after it was written; {advice}")


def write_sealed(file: Path, content: Mapping[str, Any], *, allow_nan: bool = True) -> None:
    """Write a record with its own sha256, and that of the run.json beside it, for `read_sealed`."""
    record, content = file.with_name(RECORD), dict(content)
    if file != record and record.is_file():
        content["run_sha256"] = file_digest(record)
    content["sha256"] = digest(content)
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=allow_nan) + "\n")


def read_sealed(file: Path) -> dict[str, Any]:
    """Read a record, without its hashes, which files of older versions do not have.

    Raises:
        ValueError: if it was changed or is of another run.json; other types for a file that is not JSON.
    """
    record, content = file.with_name(RECORD), dict(json.loads(file.read_text(encoding="utf-8")))
    if "sha256" in content and content.pop("sha256") != digest(content):
        raise ValueError("it was changed or damaged after it was written")
    if "run_sha256" in content and record.is_file() and content["run_sha256"] != file_digest(record):
        raise ValueError(f"it was made from another {RECORD}")
    content.pop("run_sha256", None)
    return content


T = TypeVar("T")


def read_adapter_file(folder: Path, name: str, kind: type[T]) -> T:
    """Read a JSON file in an adapter's folder as a value of a type that pydantic knows, such as a model.

    Raises:
        UserError: if it is missing or damaged.
    """
    file = folder / name
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"'{folder}' was not written by this version: it has no {name}; run the task again") from None
    except ValidationError as error:
        told = faults(error.errors(), [])
    except Exception as error:
        told = _reason(error)
    raise UserError(f"'{file}' is damaged ({told}); fetch or train the adapter again")


def read_table(file: Path) -> pd.DataFrame:
    """Read a Parquet file of a run.

    Raises:
        UserError: if it is missing or damaged.
    """
    import pandas as pd

    try:
        with file.open("rb") as stream:  # pandas reads an empty folder as an empty table
            return pd.read_parquet(stream)
    except FileNotFoundError:
        raise UserError(f"'{file}' is missing; {_advice(file.parent)}") from None
    except Exception as error:
        raise UserError(f"cannot read '{file}': {_reason(error)}") from None
