"""`nngpt-ext host import`: the answers that NNGPT generated and evaluated, as predictions and a report.

NNGPT writes them to `A<epoch>/synth_nn/B<number>/`. Its pickles are never opened.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError, elsewhere, typed
from nngpt_ext.host.parser import parse_answer
from nngpt_ext.io import cannot_write, check_folder, is_free, replacing, write_text
from nngpt_ext.run_folder import PREDICTIONS

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext.evaluation.report import Report, RunRecord

OUTPUT, VERDICT = "full_output.txt", "classification_eval.json"
BASE_MODEL = "host"
NOTE, OUTPUTS = "import.json", "outputs.parquet"
PRIOR = "pair_prior"  # a column of the predictions here: P(dataset_1) by the usual winner
_AGAIN = "run nngpt-ext host import again"
# The folders of epochs, relative to a folder that a user may give.
_EPOCHS = ("", "llm/epoch", "nngpt/llm/epoch", "out/nngpt/llm/epoch")


@dataclass(frozen=True)
class Outputs:
    """The evaluated answers of a folder, with the columns of predictions, NNGPT's own reading and the text."""

    folder: Path  # of the epochs
    table: pd.DataFrame
    epochs: list[int]
    missing: int  # answers that were never generated: gaps in the numbers, and folders without an output
    unreadable: int  # outputs that were not evaluated: only a pickle says what was asked


def read_outputs(folder: str | Path) -> Outputs:
    """Read the outputs of all epochs from the folder of `A0`, `A1`, …, or the `nngpt` folder above `llm/epoch`."""
    import pandas as pd

    check_folder(folder, "give the folder of NNGPT's epochs A0, A1, …, or the nngpt folder above llm/epoch")
    place = next((Path(folder, below) for below in _EPOCHS if _numbered(Path(folder, below), "A")), None)
    if place is None:
        raise UserError(
            f"'{folder}' contains no outputs of NNGPT: no A0/synth_nn/B0/{OUTPUT} in it or in llm/epoch; "
            f"host tune leaves them only with {typed('--measure', 'measure=True')}"
        )
    rows, missing, unreadable = [], 0, 0
    epochs = _numbered(place, "A")
    for epoch in epochs:
        synth = place / f"A{epoch}" / "synth_nn"
        for number in range(max(_numbered(synth, "B"), default=-1) + 1):
            one = synth / f"B{number}"
            if not (one / OUTPUT).is_file():
                missing += 1
            elif not (one / VERDICT).is_file():
                unreadable += 1
            else:
                rows.append(_read(one, epoch, number))
    if not rows:
        raise UserError(
            f"'{place}' contains {unreadable} outputs and no {VERDICT}: only pickles, which are not opened, say what "
            "was asked; let NNGPT's evaluate_epoch evaluate them first"
        )
    return Outputs(place, pd.DataFrame(rows), epochs, missing, unreadable)


def _numbered(folder: Path, letter: str) -> list[int]:
    found = (re.fullmatch(rf"{letter}(\d+)", place.name) for place in folder.glob(f"{letter}*") if place.is_dir())
    return sorted(int(match[1]) for match in found if match)


def _read(folder: Path, epoch: int, number: int) -> dict[str, Any]:
    """One answer with the columns of predictions, the two datasets in text order."""
    file = folder / VERDICT
    try:
        verdict = json.loads(file.read_text(encoding="utf-8"))
        one, two, better, host_predicted = (
            verdict[key] for key in ("dataset_1", "dataset_2", "ground_truth", "predicted")
        )
        first, second = sorted((one, two))
        if not first or first == second or better not in (one, two) or host_predicted not in (one, two, None):
            raise ValueError(f"datasets {one}, {two}, answer {better}, prediction {host_predicted}")
        text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
        predicted = parse_answer(text, (first, second))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"cannot read '{file}' ({type(error).__name__}: {error}); it is incomplete or contradicts itself: remove "
            "it to leave this answer out"
        ) from None
    return {
        "nn": f"A{epoch}/B{number}", "epoch": 0, "dataset_1": first, "dataset_2": second,
        # A text has no probability: it names a dataset or leaves the answer open.
        "probability_1": 0.5 if predicted is None else float(predicted == first), "flipped": False,
        "predicted": predicted or "", "better_dataset": better, "correct": predicted == better,
        "margin": float("nan"), "prompt": "host", "base_model": BASE_MODEL, "tuning_epoch": epoch, "split": "test",
        "host_predicted": host_predicted, "text": text[:2000],
    }  # fmt: skip


def import_outputs(
    folder: str | Path, *, out: str | Path, epoch: int = 5, source: str = "auto", lemur: str | None = None
) -> dict[str, Any]:
    """Turn a folder of NNGPT's outputs into `predictions.parquet`, `outputs.parquet` and a report.

    Args:
        folder: as for `read_outputs`.
        out: a new folder, or one that an import wrote.
        epoch: training epoch of the pairs from which the pair prior is computed.
        source, lemur: LEMUR, for the pair prior; see `open_source`.

    Returns:
        `report`, `out` and `counts` of outputs: read, missing, unreadable, and how the two parsers read them.
    """
    from nngpt_ext.data.load import read_records
    from nngpt_ext.data.pairs import build_pairs
    from nngpt_ext.data.selection import DataConfig
    from nngpt_ext.evaluation.baselines import pair_prior
    from nngpt_ext.run_folder import versions
    from nngpt_ext.settings import build_config

    found, out = read_outputs(folder), Path(out)
    records = read_records(build_config(DataConfig, {"source": source, "path": lemur, "epoch": epoch}, what="options"))
    if out.exists() and (not out.is_dir() or not (is_free(out, NOTE) or is_import(out))):
        raise UserError(f"'{out}' contains something else; {elsewhere()}")
    table, reported = found.table, int(found.table["tuning_epoch"].iloc[-1])
    theirs = table["host_predicted"].fillna("")
    counts = {
        "read": len(table),
        "missing": found.missing,
        "unreadable_without_pickle": found.unreadable,
        "unparsable": int((table["predicted"] == "").sum()),
        "unparsable_by_the_host": int((theirs == "").sum()),
        "read_differently": int((table["predicted"] != theirs).sum()),
        "accuracy_by_the_host": float((theirs == table["better_dataset"]).mean()),
        "accuracy": float(table["correct"].mean()),
    }
    note = {
        "from": str(found.folder.resolve()), "epochs": found.epochs, "reported_epoch": reported, "counts": counts,
        "prior_epoch": epoch, "versions": versions(),
    }  # fmt: skip
    last = table[table["tuning_epoch"] == reported].drop(columns=["host_predicted", "text"]).reset_index(drop=True)
    # NNGPT holds no network out, so the prior is that of all pairs.
    last[PRIOR] = pair_prior(build_pairs(records.trials.frame, epoch), last)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    write_text(out / NOTE, json.dumps(note, indent=2) + "\n")  # first: it allows the import to be repeated
    for file, rows in ((PREDICTIONS, last), (OUTPUTS, table)):
        with replacing(out / file) as temporary:
            rows.to_parquet(temporary, index=False)
    return {"out": str(out), "counts": counts, "report": rebuild_import(out)}


def is_import(folder: Path) -> bool:
    """Whether an import wrote this folder, or began to."""
    return (folder / NOTE).is_file()


def rebuild_import(folder: Path) -> Report:
    """Build an import's report again from its predictions.parquet, outputs.parquet and import.json."""
    from nngpt_ext.evaluation.report import build_report, write_report
    from nngpt_ext.run_folder import read_table

    for file in (PREDICTIONS, OUTPUTS):
        if not (folder / file).is_file():
            raise UserError(f"'{folder / file}' is missing: the import was interrupted; {_AGAIN}")
    last, table = read_table(folder / PREDICTIONS), read_table(folder / OUTPUTS)
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        known = {name: note[name] for name in ("from", "epochs", "reported_epoch", "counts", "prior_epoch", "versions")}
        prior = last[PRIOR].to_numpy()
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"'{folder / NOTE}' or '{PREDICTIONS}' is damaged ({error}); {_AGAIN}") from None
    report = build_report(_record(known, table, len(last)), last, {PRIOR: prior})
    write_report(report, folder)
    return report


def _record(note: dict[str, Any], table: pd.DataFrame, n: int) -> RunRecord:
    """What the report says besides its figures: `note` is import.json, `n` the number of answers reported on."""
    from nngpt_ext.evaluation.report import RunRecord

    counts = note["counts"]
    by_epoch = table.groupby("tuning_epoch")["correct"].mean()
    read = [int(epoch) for epoch in by_epoch.index]  # in order
    empty = ", ".join(str(epoch) for epoch in note["epochs"] if epoch not in read)
    notes = [
        f"This report is made from NNGPT's outputs in {note['from']}: {counts['read']} evaluated answers of "
        f"{len(read)} {'epoch' if len(read) == 1 else 'epochs'}. {counts['missing']} were never generated, "
        f"{counts['unreadable_without_pickle']} were not evaluated and are readable from a pickle only, and "
        f"{counts['unparsable']} name no dataset or leave it open (counted as wrong; NNGPT itself could not read "
        f"{counts['unparsable_by_the_host']}). NNGPT reads {counts['read_differently']} differently.",
        f"The figures are those of epoch {read[-1]}, the last with evaluated answers"
        f"{f' (epoch {empty} has none)' if empty else ''}; NNGPT has no validation set to choose an epoch by.",
        "NNGPT's outputs name no network: each answer counts as a separate network, so the intervals are too narrow "
        "if networks repeat, and near-duplicates are unknown.",
        "NNGPT measures on the rows it trains on, asks each pair in one order, and writes texts, not scores: there "
        "are no flips, log loss, Brier score, calibration error and AUC.",
        f"The pair prior is that of all of LEMUR's pairs at epoch {note['prior_epoch']}, in sample.",
    ]
    epochs = [
        {"epoch": epoch, "train_loss": None, "validation_accuracy": None, "test_accuracy": float(accuracy)}
        for epoch, accuracy in by_epoch.to_dict().items()
    ]
    return RunRecord(
        task="dataset_compare", prompt="host", base_model=BASE_MODEL, split="host", pairs={"test": n},
        near_duplicates=set(), near_duplicate_threshold=0.85, excluded={}, epochs=epochs,
        selected_epoch=note["reported_epoch"], timings={}, versions=note["versions"], config={"host": counts},
        notes=notes, answers_only=True,
    )  # fmt: skip
