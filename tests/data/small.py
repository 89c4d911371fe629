"""A small LEMUR: a folder tree copied from the installed one, and the database that LEMUR makes of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.sources.package import installed_folder
from nngpt_ext.data.trials import collect
from nngpt_ext.errors import UserError

EPOCHS = (1, 2, 5)
# One of each kind: hand-written, generated, genetic, with all seven datasets and with fewer.
NETWORKS = (
    "AirNet", "AirNet-626c3eb9-5c0a-43be-bcba-745592729769", "AirNext", "AlexNet",
    "AlexNet-355f849c-18de-4d93-b571-b7dd5db94569", "BagNet", "BayesianNet-1", "ComplexNet", "ConvNeXt", "DPN107",
    "DPN131", "DPN68", "DarkNet", "DenseNet", "Diffuser", "EfficientNet", "FractalNet", "GoogLeNet", "ICNet",
    "MobileNetV3", "ResNet", "VGG", "ga-321", "ga-381", "ga-435", "ga-803",
    "rag-0941355086027897acb251dc222fd9f2", "rag-16c9b33a414431a37c177171bf38c57d",
)  # fmt: skip
# LEMUR ships no records of a name with '_' for this task; these are copies, one named like a whole folder.
RENAMED = {"Alex_Net": "AlexNet", "a_b__c_acc_1": "DenseNet", "img-classification_mnist_acc_x": "VGG"}
# LEMUR's names of tables and columns, ab/nn/util/Const.py.
_CODE_TABLES = ("nn", "transform", "metric")
_INDEXED = ("task", "dataset", *_CODE_TABLES, "prm")


def made(*rows: tuple[str, str, float], epoch: int = 5) -> pd.DataFrame:
    """Trials from (nn, dataset, accuracy); the learning rate numbers them."""
    records = [(nn, dataset, epoch, accuracy, i, 8, None, None, "t") for i, (nn, dataset, accuracy) in enumerate(rows)]
    return collect(records, {nn for nn, _, _ in rows}, LEMUR_FACTS).frame


def write_tree(folder: Path) -> Path:
    """Copy about 30 networks with their records, sources and transforms to `<folder>/ab/nn`."""
    installed = installed_folder()
    assert installed is not None, "nn-dataset==2.1.2 is not installed"
    tree = folder / "ab" / "nn"
    for part in ("transform", "metric"):
        shutil.copytree(installed / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "nn").mkdir()
    (tree / "nn" / "__init__.py").touch()
    for name in (*NETWORKS, *RENAMED):
        original = RENAMED.get(name, name)
        shutil.copy(installed / "nn" / f"{original}.py", tree / "nn" / f"{name}.py")
        for records in (installed / "stat" / "train").glob(f"img-classification_*_acc_{original}"):
            target = tree / "stat" / "train" / (records.name.removesuffix(original) + name)
            target.mkdir(parents=True)
            for epoch in EPOCHS:
                if (records / f"{epoch}.json").is_file():
                    shutil.copy(records / f"{epoch}.json", target)
    # What is not image classification by accuracy must stay out.
    for other in ("img-captioning_coco_bleu_AlexNet", "img-classification_mnist_loss_AlexNet"):
        shutil.copytree(tree / "stat/train/img-classification_mnist_acc_AlexNet", tree / "stat" / "train" / other)
    (tree / "stat/train/img-classification_mnist_acc_AlexNet/notes.txt").write_text("no records")
    return tree


def record_file(tree: Path, nn: str, dataset: str, epoch: int) -> Path:
    return tree / "stat" / "train" / f"img-classification_{dataset}_acc_{nn}" / f"{epoch}.json"


def add_trials(tree: Path, nn: str, dataset: str, epoch: int, accuracies: list[Any], **recipe: Any) -> None:
    """Add trials with these accuracies (`...`: none is stated) to one file of the tree."""
    file = record_file(tree, nn, dataset, epoch)
    file.parent.mkdir(parents=True, exist_ok=True)
    trials = json.loads(file.read_text()) if file.exists() else []
    for accuracy in accuracies:
        trial = {"lr": 0.01, "batch": 8, "transform": "norm_32", "duration": 1, "uid": uuid.uuid4().hex, **recipe}
        trials.append(trial if accuracy is ... else {**trial, "accuracy": accuracy})
    file.write_text(json.dumps(trials))  # writes NaN and Infinity, as Python's json does


def write_database(tree: Path, file: Path) -> Path:
    """The database of a tree: tables and indexes as ab/nn/util/db/Init.py makes them, rows as Write.py does.

    LEMUR's own code is not imported: that would build its 635 MB database.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        cursor = connection.cursor()
        for name in _CODE_TABLES:
            cursor.execute(f"CREATE TABLE {name} (name TEXT PRIMARY KEY, code TEXT NOT NULL, id TEXT NOT NULL)")
        cursor.execute("CREATE TABLE prm (uid TEXT NOT NULL, name TEXT NOT NULL, value OBJECT NOT NULL)")
        cursor.execute("CREATE INDEX idx_prm_uid ON prm(uid, name, value)")
        keys = [f"FOREIGN KEY ({n}) REFERENCES {n} (name) ON DELETE CASCADE" for n in _CODE_TABLES]
        keys.append("FOREIGN KEY (prm) REFERENCES prm (uid) ON DELETE CASCADE")
        cursor.execute(
            "CREATE TABLE stat (id TEXT PRIMARY KEY, accuracy REAL, epoch INTEGER, duration INTEGER, "
            f"{', '.join(_INDEXED)}, {', '.join(keys)})"
        )
        cursor.execute("CREATE INDEX idx_accuracy_desc ON stat (accuracy DESC)")
        for name in _INDEXED:
            cursor.execute(f"CREATE INDEX idx_{name} ON stat ({name})")
        for folder in (tree / "stat" / "train").iterdir():
            task, dataset, metric, nn = folder.name.split("_", 3)
            for records in folder.glob("*.json"):
                for trial in json.loads(records.read_text()):
                    for table, name in zip(_CODE_TABLES, (nn, trial["transform"], metric), strict=True):
                        _add_code(cursor, table, tree / table / f"{name}.py")
                    _add_trial(cursor, (task, dataset, metric, nn, int(records.stem)), trial)
        connection.commit()
    return file


def _add_code(cursor: sqlite3.Cursor, table: str, file: Path) -> None:
    # LEMUR stops where there is no source; a database that lost one is what we want to meet here.
    if file.is_file() and not cursor.execute(f"SELECT 1 FROM {table} WHERE name = ?", (file.stem,)).fetchone():
        cursor.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (file.stem, file.read_text(), uuid.uuid4().hex))


def _add_trial(cursor: sqlite3.Cursor, config: tuple[Any, ...], trial: dict[str, Any]) -> None:
    transform, uid = trial["transform"], trial.pop("uid")
    outcome = [trial.pop(name, None) for name in ("duration", "accuracy")]
    for name, value in trial.items():  # once more at each epoch: nothing makes (uid, name) unique
        cursor.execute("INSERT OR IGNORE INTO prm (uid, name, value) VALUES (?, ?, ?)", (uid, name, value))
    cursor.execute(
        "INSERT INTO stat (id, transform, prm, task, dataset, metric, nn, epoch, duration, accuracy) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (uuid.uuid4().hex, transform, uid, *config, *outcome),
    )


def api_data(file: Path, task: str, metric: str, epoch: int | None) -> pd.DataFrame:
    """What `ab.nn.api.data(only_best_accuracy=False, …)` gives: the query of Read.py and the join of Query.py."""
    wanted = {"task": task, "metric": metric} | ({} if epoch is None else {"epoch": epoch})
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        recipes: dict[str, dict[str, Any]] = {}
        for uid, name, value in connection.execute("SELECT uid, name, value FROM prm"):
            recipes.setdefault(uid, {})[name] = value
        rows = connection.execute(
            "SELECT s.id, s.task, s.dataset, s.metric, m.code AS metric_code, m.id AS metric_id, s.nn, "
            "n.code AS nn_code, n.id AS nn_id, s.epoch, s.accuracy, s.duration, s.prm AS prm_id, "
            "t.code AS transform_code, t.id AS transform_id, s.transform FROM stat s "
            "LEFT JOIN nn n ON s.nn = n.name LEFT JOIN metric m ON s.metric = m.name "
            "LEFT JOIN transform t ON s.transform = t.name "
            f"WHERE {' AND '.join(f's.{name} = ?' for name in wanted)} "
            "ORDER BY s.task, s.dataset, s.metric, s.nn, s.epoch",
            tuple(wanted.values()),
        ).fetchall()
    found = [{**dict(row), "prm": recipes.get(row["prm_id"], {})} for row in rows]
    for row in found:
        row.pop("transform")
    return pd.DataFrame.from_records(found)


def one_line(error: UserError) -> str:
    """The message, which must be one line that says something."""
    message = str(error)
    assert "\n" not in message
    assert len(message) > 20
    return message
