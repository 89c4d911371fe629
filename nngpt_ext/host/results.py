"""`nngpt-ext host import`: the host's judged outputs as our predictions and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError
from nngpt_ext.files import cannot_write, is_free, replacing, write_text
from nngpt_ext.host.outputs import Outputs, read_outputs

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext.evaluation.schema import Report

BASE_MODEL = "host"
NOTE, PREDICTIONS, OUTPUTS = "import.json", "predictions.parquet", "outputs.parquet"
PRIOR = "pair_prior"  # a column of the predictions here: P(dataset_1) by the usual winner


def import_outputs(
    folder: str | Path, *, out: str | Path, epoch: int = 5, source: str = "auto", lemur: str | None = None
) -> dict[str, Any]:
    """Turn a folder of the host's into `predictions.parquet`, `outputs.parquet` and a report.

    Args:
        folder: of the host's epochs.
        out: a new folder, or one that an import wrote.
        epoch: training epoch of the pairs that the pair prior is made of.
        source, lemur: LEMUR, for the pair prior; see `open_source`.

    Returns:
        `report`, `out` and `counts`: outputs read, missing, unreadable, unparsable by each parser, and where the
        two parsers differ.

    Raises:
        UserError: as `read_outputs`, and where `out` holds something else.
    """
    from nngpt_ext.tasks.folder import versions

    found, out = read_outputs(folder), Path(out)
    if out.exists() and (not out.is_dir() or not (is_free(out, NOTE) or is_import(out))):
        raise UserError(f"'{out}' holds something else; give a new folder with --out")
    table, reported = _table(found), found.read[-1].epoch
    last = table[table["tuning_epoch"] == reported].reset_index(drop=True)
    note = {
        "from": str(found.folder.resolve()), "epochs": found.epochs, "reported_epoch": reported,
        "counts": _counts(found, table), "prior_epoch": epoch, "versions": versions(),
    }  # fmt: skip
    last[PRIOR] = _prior(last, epoch, source, lemur)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    write_text(out / NOTE, json.dumps(note, indent=2) + "\n")  # first: with it an import may be typed again
    columns = [c for c in last.columns if c not in ("host_predicted", "text")]
    for file, rows in ((PREDICTIONS, last[columns]), (OUTPUTS, table)):
        with replacing(out / file) as temporary:
            rows.to_parquet(temporary, index=False)
    return {"out": str(out), "counts": note["counts"], "report": rebuild_import(out)}


def is_import(folder: Path) -> bool:
    """Whether a folder is one that an import wrote, or began to."""
    return (folder / NOTE).is_file()


def rebuild_import(folder: Path) -> Report:
    """Build an import's report anew from its predictions.parquet, outputs.parquet and import.json.

    Raises:
        UserError: when one of them is missing or damaged.
    """
    from nngpt_ext.evaluation.report import write_report
    from nngpt_ext.tasks.reporting import read_table

    again = "type nngpt-ext host import again"
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        known = {name: note[name] for name in ("from", "epochs", "reported_epoch", "counts", "prior_epoch", "versions")}
    except KeyError as error:
        raise UserError(f"'{folder / NOTE}' has no {error}; {again}") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read '{folder / NOTE}': {error}; {again}") from None
    for file in (PREDICTIONS, OUTPUTS):
        if not (folder / file).is_file():
            raise UserError(f"'{folder / file}' is missing: the import was cut off; {again}")
    last, table = read_table(folder / PREDICTIONS), read_table(folder / OUTPUTS)
    if PRIOR not in last.columns:
        raise UserError(f"'{folder / PREDICTIONS}' has no {PRIOR}; {again}")
    report = _report(known, table, last)
    write_report(report, folder)
    return report


def _table(found: Outputs) -> pd.DataFrame:
    """All outputs with the columns of predictions, datasets in text order, and the host's own reading."""
    import pandas as pd

    rows = []
    for o in found.read:
        first, second = sorted((o.dataset_1, o.dataset_2))
        # The probability of a text is what it says: sure, or nothing.
        probability = 0.5 if o.predicted is None else float(o.predicted == first)
        rows.append({
            "nn": f"A{o.epoch}/B{o.number}", "epoch": 0, "dataset_1": first, "dataset_2": second,
            "probability_1": probability, "flipped": False, "predicted": o.predicted or "",
            "better_dataset": o.better_dataset, "correct": o.predicted == o.better_dataset, "margin": float("nan"),
            "prompt": "host", "base_model": BASE_MODEL, "tuning_epoch": o.epoch, "split": "test",
            "host_predicted": o.host_predicted, "text": o.text[:2000],
        })  # fmt: skip
    return pd.DataFrame(rows)


def _counts(found: Outputs, table: pd.DataFrame) -> dict[str, Any]:
    ours, theirs = [o.predicted for o in found.read], [o.host_predicted for o in found.read]
    return {
        "read": len(found.read),
        "missing": found.missing,
        "unreadable_without_pickle": found.unreadable,
        "unparsable": sum(p is None for p in ours),
        "unparsable_by_the_host": sum(p is None for p in theirs),
        "read_differently": sum(a != b for a, b in zip(ours, theirs, strict=True)),
        "accuracy_by_the_host": sum(o.host_predicted == o.better_dataset for o in found.read) / len(found.read),
        "accuracy": float(table["correct"].mean()),
    }


def _prior(rows: pd.DataFrame, epoch: int, source: str, lemur: str | None) -> Any:
    """P(dataset_1) by the usual winner among LEMUR's pairs, all of them: the host holds no network out."""
    from nngpt_ext.evaluation.baselines import pair_prior
    from nngpt_ext.lemur.kept import kept_pairs
    from nngpt_ext.lemur.locate import open_source

    pairs = kept_pairs(open_source(source, lemur), epoch, label="normalized", use="best", seed=0).frame()
    return pair_prior(pairs, rows)


def _report(note: dict[str, Any], table: pd.DataFrame, last: pd.DataFrame) -> Report:
    import pandas as pd

    from nngpt_ext.evaluation.report import build_report

    counts = note["counts"]
    by_epoch = table.groupby("tuning_epoch")["correct"].mean()
    read = [int(e) for e in by_epoch.index]  # in order
    notes = [
        f"Made of the host's outputs in {note['from']}: {counts['read']} judged answers of "
        f"{len(read)} {'epoch' if len(read) == 1 else 'epochs'}; "
        f"{counts['missing']} were never generated, {counts['unreadable_without_pickle']} not judged and so unreadable "
        f"without a pickle, {counts['unparsable']} name no dataset or leave it open (counted as wrong; the host itself "
        f"could not read {counts['unparsable_by_the_host']}); {counts['read_differently']} are read otherwise than the "
        "host read them.",
        f"The report is of epoch {read[-1]}, the last with judged answers{_unjudged(note['epochs'], read)}; the host "
        "has no validation to choose one by.",
        "The host's outputs name no network: each answer counts as one of its own, so the intervals are too narrow "
        "where networks repeat, and near-duplicates are unknown.",
        "The host measures on the rows it trains on, asks each pair in one order, and writes texts, not scores: there "
        "are no flips, log loss, Brier score, calibration error and AUC.",
        f"The pair prior is that of all of LEMUR's pairs at epoch {note['prior_epoch']}, in sample.",
    ]
    return build_report(
        task="dataset_compare", prompt="host", base_model=BASE_MODEL, split="host", predictions=last,
        pairs=pd.DataFrame({"split": ["test"] * len(last)}), baselines={PRIOR: last[PRIOR].to_numpy()},
        near_duplicates=set(), near_duplicate_threshold=0.85, excluded={},
        epochs=[
            {"epoch": e, "train_loss": None, "validation_accuracy": None, "test_accuracy": float(a)}
            for e, a in by_epoch.to_dict().items()
        ],
        selected_epoch=note["reported_epoch"], timings={}, versions=note["versions"], config={"host": counts},
        notes=notes, answers_only=True,
    )  # fmt: skip


def _unjudged(epochs: list[int], read: list[int]) -> str:
    """The epochs that are there and say nothing."""
    none = [str(e) for e in epochs if e not in read]
    return f" (epoch {', '.join(none)} has none)" if none else ""
