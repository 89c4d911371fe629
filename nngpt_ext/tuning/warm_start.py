"""`tuning.init_from`: training begins with an adapter's weights, on other records with the same base and prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nngpt_ext.config import ResolvedConfig
from nngpt_ext.data.load import PairData
from nngpt_ext.errors import UserError
from nngpt_ext.io import file_digest
from nngpt_ext.models.base import Base, check_base
from nngpt_ext.models.identity import read_base_note
from nngpt_ext.prompts.template import Template
from nngpt_ext.run_folder import SETTINGS, WEIGHTS, adapter_in, check_adapter, no_adapter, read_adapter_file
from nngpt_ext.scoring.basis import read_seen
from nngpt_ext.scoring.note import read_note


def start_of(init_from: str | None) -> Path | None:
    """The folder of the adapter that training begins with, or None.

    Raises:
        UserError: if there is none.
    """
    if init_from is None:
        return None
    folder = adapter_in(Path(init_from))
    if not (folder / SETTINGS).is_file():
        raise no_adapter(Path(init_from))
    return folder


def check_start(config: ResolvedConfig, template: Template, base: Base) -> None:
    """Check that the adapter in `tuning.init_from`, if any, is of this base, prompt, head, rank and alpha, and whole.

    Raises:
        UserError: if it is not.
    """
    folder = start_of(config.tuning.init_from)
    if folder is None:
        return
    check_base(folder, base)
    check_adapter(folder, read_base_note(folder).files)
    note, settings = read_note(folder), read_adapter_file(folder, SETTINGS, dict[str, Any])
    theirs, lora = note.template, config.model.lora
    asked = [(one.system, one.prompt, one.columns, one.line) for one in (theirs, template)]
    faults = [
        f"{what} {other} (here {own})"
        for what, other, own in (
            ("prompt", note.prompt, template.name),
            ("model.lora.r", settings.get("r"), lora.r),
            ("model.lora.alpha", settings.get("lora_alpha"), lora.alpha),
        )
        if other != own
    ]
    if faults or asked[0] != asked[1]:
        what = ", ".join(faults) or f"another text of prompt {template.name}"
        raise UserError(f"tuning.init_from: the adapter in '{folder}' has {what}; use the same")


def start_record(config: ResolvedConfig, data: PairData) -> dict[str, Any]:
    """What a run's record says about its beginning, empty without one: datasets seen, and test networks among them."""
    folder = start_of(config.tuning.init_from)
    if folder is None:
        return {}
    seen, tested = read_seen(folder), sorted(set(data.part("test")["nn"]))
    known = None if seen is None or not seen.known else sum(seen.holds(data.sources[nn]) for nn in tested)
    begun = {
        "path": str(folder), "sha256": file_digest(folder / WEIGHTS), "datasets": read_note(folder).datasets,
        "networks": None if seen is None else seen.networks, "test_networks": known,
    }  # fmt: skip
    return {"init_from": begun}


def start_note(record: dict[str, Any]) -> str:
    """Sentences for a reader about what `start_record` says."""
    known, datasets = record["test_networks"], ", ".join(record["datasets"])
    leak = (
        "it is not recorded whether test networks were among them"
        if known is None
        else "no test network was among them"
        if known == 0
        else f"{known:,} of the test networks were among them, so the figures are not of unseen networks"
    )
    return (
        f"Training began with the adapter in '{record['path']}', trained on {record['networks'] or 'unknown'} networks "
        f"and {datasets}; {leak}."
    )
