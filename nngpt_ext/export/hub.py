"""A run's adapter as a folder for the model hub: weights, how it is asked, calibration, card, and a small base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.export.finished import FinishedRun, copy_files, portable, read_run
from nngpt_ext.export.push import check_repo, push
from nngpt_ext.export.target import exporting
from nngpt_ext.io import write_text
from nngpt_ext.models.identity import base_hash, base_identity, differences, told
from nngpt_ext.models.presets import EMBEDDED, EMBEDDED_SMALL, preset
from nngpt_ext.run_folder import BASE_FILE, BASE_FOLDER, CARD, CONFIG, RECORD, REPORT, SETTINGS
from nngpt_ext.settings import dump_config
from nngpt_ext.tasks.model_card import model_card


class Exported(NamedTuple):
    """What was written, and where it was pushed."""

    folder: Path
    pushed: str | None = None


class _Base(NamedTuple):
    location: str  # by which the card and PEFT name it
    name: str  # by which our own files do
    folder: Path | None  # what is put beside the adapter


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
    """Write a run's adapter with its model card to a folder that `Predictor.from_pretrained` takes.

    Args:
        run: folder of a finished run.
        out: the folder to write.
        license: of the adapter; by default MIT with an embedded base, else `other`.
        base_id: the hub id of the base, where the run had it from a local folder.
        repo: push it there (`owner/name`); None for no push.
        private: whether a new repository is.
        force: replace what is in `out`, whatever it is.

    Raises:
        UserError: for a run that is not finished, a base that nobody else can find, a folder that holds something
            else, and a hub that cannot be reached.
    """
    found, out = read_run(Path(run)), Path(out)
    base = _base(found, base_id, repo)
    if repo is not None:
        check_repo(repo)
    with exporting(out, "hub", found.made_of(), force=force, apart=found.folder) as folder:
        _write(found, folder, base, license, repo or out.name)
    return Exported(out, None if repo is None else push(out, repo, "model", private=private))


def _base(found: FinishedRun, base_id: str | None, repo: str | None) -> _Base:
    named = found.adapter.base_model
    location = preset(named).location
    if location in (str(EMBEDDED), str(EMBEDDED_SMALL)):
        ships = Path(location)
        adapter = found.adapter
        other = differences((adapter.base_sha256, adapter.base_identity), (base_hash(ships), base_identity(ships)))
        if other:
            raise UserError(
                f"'{found.folder}' was trained on another '{named}' than this version ships: {told(other)}; "
                "run the task again"
            )
        # A hub repository can name no folder of its own as base_model, but it can name itself.
        return _Base(repo or BASE_FOLDER, named, Path(location))
    if Path(location).is_dir():
        if base_id is None:
            raise UserError(
                f"the base model '{named}' is a folder of this machine, where nobody else finds it; say what it is on "
                "the hub with --base-id OWNER/NAME"
            )
        return _Base(base_id, base_id, None)
    return _Base(base_id or location, base_id or named, None)


def _write(found: FinishedRun, folder: Path, base: _Base, license: str | None, name: str) -> None:
    copy_files(found.adapter.folder, folder)
    if base.folder is not None:
        copy_files(base.folder, folder / BASE_FOLDER)
        shutil.copyfile(base.folder / CARD, folder / BASE_FOLDER / CARD)
    _set(folder / SETTINGS, base_model_name_or_path=BASE_FOLDER if base.folder is not None else base.location)
    _set(folder / BASE_FILE, base_model=base.name)
    config = portable(found.config, base.name)
    write_text(folder / CONFIG, dump_config(config))
    shutil.copyfile(found.folder / RECORD, folder / RECORD)
    report = found.report.model_copy(update={"config": config.model_dump(mode="json"), "base_model": base.name})
    write_text(folder / REPORT, json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
    chosen = license or ("mit" if base.folder is not None else "other")
    more = _use(found, base, name) + _files(base)
    write_text(folder / CARD, model_card(report, config, base_model=base.location, license=chosen, more=more))


def _set(file: Path, **values: str) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    write_text(file, json.dumps(content | values, indent=2, ensure_ascii=False) + "\n")


def _use(found: FinishedRun, base: _Base, name: str) -> str:
    note = found.adapter.note
    one, two = note.datasets[:2]
    given = before = ""
    if note.template.shows("recipe"):
        before = (
            'recipe = {"lr": 0.01, "batch": 64, "momentum": 0.9, "transform": "norm_32"}  # or one for each dataset\n'
        )
        given = ", recipe=recipe"
    if note.template.shows("norm_acc"):
        given += f', accuracies={{"{one}": 0.9, "{two}": 0.8}}'
    place = f'f"{{folder}}/{BASE_FOLDER}"' if base.folder else f'"{base.location}"'
    on_hub = base.location == name  # the base is in a folder of the repository, which must be here to be loaded
    fetched = f'snapshot_download("{name}")' if on_hub else f'"{name}"'
    fetches = "from huggingface_hub import snapshot_download\n" if on_hub else ""
    bits = (
        "\nIt was trained on, and measured with, its base in 4 bits (NF4, double quantisation); "
        "`Predictor` loads it so.\n"
        if found.adapter.load_in_4bit
        else ""
    )
    return f"""
## Use

```python
from nngpt_ext import Predictor  # from a clone of nngpt_ext: pip install -e .

predictor = Predictor.from_pretrained("{name}")
code = open("network.py", encoding="utf-8").read()
{before}answer = predictor.compare(code, "{one}", "{two}"{given})
answer.winner, answer.probability, answer.abstain  # the probability is calibrated, and of the first dataset
```

It compares {", ".join(note.datasets)}; it abstains from answers about any other dataset.
Its prompt is in `task.json`, with how much of the source it shows
({note.code_tokens} tokens); an answer is the difference of log p(name and stop token) of the two names, averaged
over both orders.
{bits}
With PEFT alone (the prompt is then yours to write):

```python
{fetches}from peft import PeftModel
from transformers import AutoModelForCausalLM

folder = {fetched}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({place}), folder)
```
"""


def _files(base: _Base) -> str:
    beside = f"\n`{BASE_FOLDER}/` is the base model, with a card of its own.\n" if base.folder is not None else ""
    return f"""
## Files

`task.json` (prompt), `calibration.json` (temperature and threshold, fitted on validation), `nngpt_ext.json` (hashes of
its base), and of the run `config.yaml`, `run.json` (versions, seeds) and `report.json` (all figures).
{beside}"""
