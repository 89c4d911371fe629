"""A run's adapter as a folder for the model hub: weights, prompt, calibration, card, and an embedded base."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.sources.joined import JOINED
from nngpt_ext.errors import UserError, typed
from nngpt_ext.evaluation.report import Report
from nngpt_ext.export.publication import Exported, FinishedRun, check_repo, copy_model, exporting, push, read_run
from nngpt_ext.io import write_text
from nngpt_ext.models.base import is_hub_id, local_base
from nngpt_ext.models.identity import base_hash, base_identity, differences, told
from nngpt_ext.models.presets import SHIPPED, preset
from nngpt_ext.prompts.fields import FIELDS
from nngpt_ext.run_folder import (
    BASE_FILE,
    BASE_FOLDER,
    CARD,
    CONFIG,
    RECORD,
    REPORT,
    SETTINGS,
    record_adapter,
    write_sealed,
)
from nngpt_ext.settings import build_config, dump_config
from nngpt_ext.tasks.reporting import model_card
from nngpt_ext.views.faces import filled


@dataclass(frozen=True)
class _Base:
    """The base model as others find it."""

    name: str  # in our own files
    location: str  # in the card
    folder: Path | None = None  # what is published beside the adapter; None if the base is on the hub
    package: str | None = None  # what ships the base's weights, if these are not those on the hub


def export_hub(
    run: str | Path,
    out: str | Path,
    *,
    license: str | None = None,
    base_id: str | None = None,
    repo: str | None = None,
    private: bool = False,
    force: bool = False,
) -> Exported:
    """Write the adapter of a finished run with its model card to a folder that `Predictor.from_pretrained` takes.

    Args:
        run, out: the folders that are read and written.
        license: of the adapter; by default that of its base where it is known (MIT for an embedded one), else `other`.
        base_id: the hub id of the base, if the run loaded it from a local folder.
        repo: the repository to push it to (`owner/name`); None to push nothing.
        private: whether a new repository is private.
        force: replace what is in `out`, whatever it is.

    Raises:
        UserError: for a run that is not finished or has links out of its folder, a base that nobody else can find,
            an `out` that contains something else, and a hub that cannot be reached.
    """
    found, out = read_run(Path(run)), Path(out)
    base = _base(found, base_id, repo)
    check_repo(repo)
    config, record, report = _without_places(found, base.name)
    with exporting(out, "hub", found.made_of(), force=force, run=found.folder) as folder:
        copy_model(found.adapter.folder, folder)
        if base.folder is not None:
            copy_model(base.folder, folder / BASE_FOLDER)
            shutil.copyfile(base.folder / CARD, folder / BASE_FOLDER / CARD)
        _set(folder / SETTINGS, "base_model_name_or_path", BASE_FOLDER if base.folder else base.location)
        _set(folder / BASE_FILE, "base_model", base.name)
        record_adapter(folder)
        write_text(folder / CONFIG, dump_config(config))
        write_sealed(folder / RECORD, record)
        write_sealed(folder / REPORT, report.model_dump(mode="json"))
        license = license or ("mit" if base.folder else preset(found.adapter.base.base_model).license)
        use = _use(found, base, repo or out.name)
        write_text(folder / CARD, model_card(report, config, base_model=base.location, license=license, more=use))
    return Exported(out, push(out, repo, "model", private))


def _without_places(found: FinishedRun, base: str) -> tuple[TaskConfig, dict[str, Any], Report]:
    """A run's configuration, record and report without folders of this machine: of a place, its last part is named."""
    content = found.config.model_dump(mode="json") | {"output_dir": "run", "store": None}
    record = {name: value for name, value in copy.deepcopy(found.record).items() if name != "files"}
    data, own = content["data"], record["data"].get("path")
    for one in (data, *data["sources"]):
        for key in ("path", "facts", "code"):
            one[key] = one[key] and _last(one[key])
    renamed = {}
    if own is None:  # the records of nn-dataset, wherever that was
        data["path"] = None
    else:
        places = [one["path"] or "lemur" for one in data["sources"]]
        renamed[own] = record["data"]["path"] = JOINED.join(places) or _last(own)
    content["model"]["base"] = base
    if "name" in record.get("base_model", {}):
        record["base_model"]["name"] = base
    if content["prompt"].endswith(".json"):
        content["prompt"] = _last(content["prompt"])
    if content["tuning"]["init_from"] is not None:
        content["tuning"]["init_from"] = _last(content["tuning"]["init_from"])
    if "init_from" in record:
        begun = record["init_from"]
        renamed[begun["path"]] = begun["path"] = content["tuning"]["init_from"]
    notes = found.report.notes
    for place, name in renamed.items():
        notes = [note.replace(f"'{place}'", f"'{name}'") for note in notes]
    report = found.report.model_copy(
        update={
            "config": content, "base_model": base, "prompt": content["prompt"], "notes": notes,
            "records": found.report.records | ({} if own is None else {"path": renamed[own]}),
        }
    )  # fmt: skip
    return build_config(TaskConfig, content), record, report


def _last(place: str) -> str:
    return Path(place).absolute().name  # not of what a link leads to


def _base(found: FinishedRun, base_id: str | None, repo: str | None) -> _Base:
    note = found.adapter.base
    name, chosen = note.base_model, preset(note.base_model)
    location = chosen.location
    if Path(location) in SHIPPED:
        ships = Path(location)
        other = differences((note.base_sha256, note.base_identity), (base_hash(ships), base_identity(ships)))
        if other:
            raise UserError(
                f"'{found.folder}' was trained on another '{name}' than this version ships: {told(other)}; "
                "run the task again"
            )
        # A hub repository cannot name one of its own folders as base_model, but it can name itself.
        return _Base(name, repo or BASE_FOLDER, ships)
    if base_id is None and (Path(location).exists() or not is_hub_id(location)):
        raise UserError(
            f"the base model '{name}' is on this machine only, where nobody else can find it; give its name on the "
            f"hub: {typed('--base-id OWNER/NAME', 'base_id=OWNER/NAME')}"
        )
    local = local_base(name) if chosen.package and base_id is None else None
    package = chosen.package if local is not None and base_hash(local) == note.base_sha256 else None
    return _Base(base_id or name, base_id or location, package=package)


def _set(file: Path, key: str, value: str) -> None:
    """Change one value in a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    write_text(file, json.dumps(content | {key: value}, indent=2, ensure_ascii=False) + "\n")


def _use(found: FinishedRun, base: _Base, name: str) -> str:
    """The part of the card about loading the adapter and about its files."""
    note = found.adapter.note
    one, two = note.datasets[:2]
    shown = [field for field in FIELDS.values() if note.template.shows(field.name)]
    return filled(
        "export/adapter_use.md.jinja",
        name=name, datasets=note.datasets, one=one, two=two, code_tokens=note.code_tokens,
        shown=[field.description for field in shown],
        arguments=sorted({field.given.example.format(dataset=one, other=two) for field in shown if field.given}),
        lines=note.line is not None, prior=note.offset.replace("_", " "), kinds=found.adapter.kinds is not None,
        load_in_4bit=found.adapter.base.load_in_4bit, base=base.location,
        base_folder=BASE_FOLDER if base.folder else None, package=base.package,
    )  # fmt: skip
