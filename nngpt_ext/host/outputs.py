"""The host's outputs as they lie in its folders: `A<epoch>/synth_nn/B<number>/`. No pickle is opened."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.host.answers import parse_answer

OUTPUT, VERDICT = "full_output.txt", "classification_eval.json"
# Where a folder of the host's may be pointed at.
_EPOCHS = (Path(), Path("llm") / "epoch", Path("nngpt") / "llm" / "epoch", Path("out") / "nngpt" / "llm" / "epoch")


class Output(NamedTuple):
    """One judged answer of the host."""

    epoch: int
    number: int
    dataset_1: str
    dataset_2: str
    better_dataset: str
    text: str  # the answer as it was generated
    host_predicted: str | None  # as the host read it
    predicted: str | None  # as we read it


class Outputs(NamedTuple):
    """What a folder holds."""

    folder: Path
    read: list[Output]
    epochs: list[int]
    missing: int  # gaps in the numbers, and folders without an output: nothing was generated
    unreadable: int  # outputs that were not judged: what they answer is in the pickle only


def read_outputs(folder: str | Path) -> Outputs:
    """Read all epochs' outputs.

    Args:
        folder: the one that holds `A0`, `A1`, …, or the `nngpt` folder above `llm/epoch`.

    Raises:
        UserError: when there are none, and for a judgement that was half written or is of another form.
    """
    folder = Path(folder)
    place = next((folder / p for p in _EPOCHS if _numbered(folder / p, "A")), None)
    if place is None:
        raise UserError(
            f"'{folder}' holds no outputs of the host: no A0/synth_nn/B0/{OUTPUT} in it or in llm/epoch; "
            "host tune leaves them with --measure only"
        )
    read, missing, unreadable = [], 0, 0
    epochs = _numbered(place, "A")
    for epoch in epochs:
        synth = place / f"A{epoch}" / "synth_nn"
        numbers = _numbered(synth, "B")
        missing += len(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        for number in numbers:
            one = synth / f"B{number}"
            if not (one / OUTPUT).is_file():
                missing += 1
            elif not (one / VERDICT).is_file():
                unreadable += 1
            else:
                read.append(_read(one, epoch, number))
    if not read:
        raise UserError(
            f"'{place}' holds {unreadable} outputs and no {VERDICT}: what they were asked stands in pickles, which are "
            "not opened; have the host's evaluate_epoch judge them first"
        )
    return Outputs(place, read, epochs, missing, unreadable)


def _numbered(folder: Path, letter: str) -> list[int]:
    if not folder.is_dir():
        return []
    found = (re.fullmatch(rf"{letter}(\d+)", place.name) for place in folder.iterdir() if place.is_dir())
    return sorted(int(match[1]) for match in found if match)


def _read(folder: Path, epoch: int, number: int) -> Output:
    file = folder / VERDICT
    try:
        verdict = json.loads(file.read_text(encoding="utf-8"))
        names = [verdict[key] for key in ("dataset_1", "dataset_2", "ground_truth")]
        host_predicted = verdict["predicted"]
        text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"cannot read '{file}' ({reason}); it was half written: remove it to leave it out") from None
    one, two, better = names
    if not all(isinstance(n, str) and n for n in names) or one == two or better not in (one, two):
        raise UserError(f"'{file}' names datasets {one}, {two} and the answer {better}, which is none of the two")
    if host_predicted not in (one, two, None):
        raise UserError(f"'{file}' has the prediction {host_predicted!r}, which is none of {one}, {two}")
    return Output(epoch, number, one, two, better, text, host_predicted, parse_answer(text, (one, two)))
