"""`host import` on folders of the host's form: counts, refusals, and the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from nngpt_ext.cli import app
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.description import tables
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.host.outputs import import_outputs, read_outputs
from nngpt_ext.scoring.predictions import COLUMNS
from nngpt_ext.views.wording import NO_NUMBER
from tests.data.conftest import tree

__all__ = ["tree"]


def add(folder: Path, epoch: int, number: int, text: str | None, judged: dict[str, Any] | str | None = None) -> Path:
    """One output as the host leaves it: its text, and its `evaluate_epoch`'s judgement."""
    one = folder / f"A{epoch}" / "synth_nn" / f"B{number}"
    one.mkdir(parents=True)
    if text is not None:
        (one / "full_output.txt").write_text(text)
    if judged is not None:
        (one / "classification_eval.json").write_text(judged if isinstance(judged, str) else json.dumps(judged))
    return one


def judged(one: str, two: str, truth: str, predicted: str | None) -> dict[str, Any]:
    return {"model_id": "B", "predicted": predicted, "ground_truth": truth, "correct": predicted == truth,
            "dataset_1": one, "dataset_2": two, "raw_output": ""}  # fmt: skip


@pytest.fixture
def epochs(tmp_path: Path) -> Path:
    """Two epochs: the second has a right, a wrong, a differently read and an open answer, and what is not read."""
    folder = tmp_path / "nngpt" / "llm" / "epoch"
    add(folder, 0, 0, "svhn", judged("mnist", "svhn", "svhn", "svhn"))
    add(folder, 1, 0, "svhn", judged("svhn", "mnist", "svhn", "svhn"))
    add(folder, 1, 1, "mnist", judged("mnist", "svhn", "svhn", "mnist"))
    add(folder, 1, 2, "not mnist but svhn", judged("mnist", "svhn", "svhn", "mnist"))
    add(folder, 1, 3, "mnist or svhn", judged("mnist", "svhn", "mnist", "mnist"))
    add(folder, 1, 5, None)  # and B4 is not there at all
    unread = add(folder, 1, 6, "cifar-10")
    (unread / "dataframe.df").write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # a pickle that runs something
    return tmp_path / "nngpt"


def test_what_is_read_and_what_is_not(epochs: Path) -> None:
    found = read_outputs(epochs)
    assert found.table.equals(read_outputs(epochs / "llm" / "epoch").table)
    assert (len(found.table), found.epochs, found.missing, found.unreadable) == (5, [0, 1], 2, 1)
    assert found.table["host_predicted"].tolist()[3:] == ["mnist", "mnist"]
    assert found.table["predicted"].tolist()[3:] == ["svhn", ""]


def test_the_import(epochs: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    found = import_outputs(epochs, out=out, source="package", lemur=str(tree))
    assert found["counts"] == {
        "read": 5, "missing": 2, "unreadable_without_pickle": 1, "unparsable": 1, "unparsable_by_the_host": 0,
        "read_differently": 2, "accuracy_by_the_host": 3 / 5, "accuracy": 3 / 5,
    }  # fmt: skip
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert set(COLUMNS) - {"log_odds"} <= set(predictions.columns)
    assert predictions["tuning_epoch"].unique().tolist() == [1]
    assert (predictions["dataset_1"] < predictions["dataset_2"]).all()
    assert predictions["correct"].tolist() == [True, False, True, False]
    assert predictions["probability_1"].tolist() == [0.0, 1.0, 0.0, 0.5]
    assert len(pd.read_parquet(out / "outputs.parquet")) == 5
    report = found["report"]
    assert (report.accuracy.value, report.accuracy.n) == (0.5, 4)
    assert [e["test_accuracy"] if isinstance(e, dict) else e.test_accuracy for e in report.epochs] == [1.0, 0.5]
    assert report.peak_test_accuracy == 1.0
    assert (report.n_test_networks, report.n_train_pairs, report.near_duplicates.share_of_test_networks) == (None,) * 3
    assert {report.log_loss, report.brier, report.ece, report.flip_rate, report.within_pair_auc} == {None}
    said = " ".join(report.notes)
    for part in ("2 were never generated", "1 were not evaluated", "1 name no dataset", "trains on", "in sample"):
        assert part in said
    for name in ("report.json", "report.md", "report.html"):
        assert (out / name).is_file()
    assert read_report(out) == report
    page = (out / "report.md").read_text()
    assert "Of 4 answers of epoch 1 that host gave and judged itself, 50.0 % are correct; " in page
    assert "says nothing about networks that training never saw" in page
    for untrue in (
        "were answered correctly",
        "skill was shown",
        "0.0 % of the test networks",
        "4 networks",
        "by validation",
    ):
        assert untrue not in page
    rows = {row[0]: row[1] for table in tables(report) for row in table.rows if len(row) > 1}
    for name in ("log loss", "Brier score", "ECE", "flip rate", "within-pair AUC", "training pairs", "test networks"):
        assert rows[name] == NO_NUMBER
    again = import_outputs(epochs, out=out, source="package", lemur=str(tree))
    assert again["counts"] == found["counts"]


def test_report_builds_it_anew(epochs: Path, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    found = import_outputs(epochs, out=out, source="package", lemur=str(tree))
    before = {name: (out / name).read_bytes() for name in ("report.json", "report.md", "report.html")}
    for name in before:
        (out / name).unlink()
    shutil.rmtree(epochs)  # neither the host's outputs nor LEMUR are needed
    done = CliRunner().invoke(app, ["report", str(out), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout) == found["report"].model_dump(mode="json")
    assert {name: (out / name).read_bytes() for name in before} == before
    assert "50.0 %" in CliRunner().invoke(app, ["report", str(out)], catch_exceptions=False).stdout


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("import.json", "{", "import.json' or .*damaged .*; run nngpt-ext host import again"),
        ("import.json", "{}", "import.json' or .*damaged .'from'.; run nngpt-ext host import again"),
        ("predictions.parquet", None, "predictions.parquet' is missing: the import was interrupted; run"),
        ("outputs.parquet", "x", "cannot read '.*outputs.parquet'"),
    ],
)
def test_an_import_that_is_damaged(
    epochs: Path, tree: Path, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    out = tmp_path / "imported"
    import_outputs(epochs, out=out, source="package", lemur=str(tree))
    (out / name).unlink()
    if text is not None:
        (out / name).write_text(text)
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(app, ["report", str(out)], catch_exceptions=False)
    import_outputs(epochs, out=out, source="package", lemur=str(tree))  # and typing it again mends it
    assert read_report(out).accuracy.n == 4


def test_one_that_was_cut_off_may_be_typed_again(
    epochs: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "imported"
    with monkeypatch.context() as patch:
        patch.setattr("nngpt_ext.host.outputs.replacing", lambda file: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_outputs(epochs, out=out, source="package", lemur=str(tree))
    assert [p.name for p in out.iterdir()] == ["import.json"]
    assert import_outputs(epochs, out=out, source="package", lemur=str(tree))["report"].accuracy.n == 4


def test_the_last_epoch_is_not_judged(epochs: Path, tree: Path, tmp_path: Path) -> None:
    add(epochs / "llm" / "epoch", 2, 0, "svhn")
    found = import_outputs(epochs, out=tmp_path / "imported", source="package", lemur=str(tree))
    assert found["report"].selected_epoch == 1
    said = " ".join(found["report"].notes)
    assert "5 evaluated answers of 2 epochs" in said
    assert "of epoch 1, the last with evaluated answers (epoch 2 has none)" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"predicted": "mni', "it is incomplete or contradicts itself: remove it to leave"),
        ("[]", "it is incomplete"),
        ('{"dataset_1": "mnist", "dataset_2": "svhn", "predicted": null}', "KeyError: 'ground_truth'"),
        (json.dumps(judged("mnist", "svhn", "cifar-10", "mnist")), "answer cifar-10, "),
        (json.dumps(judged("mnist", "svhn", "svhn", "cifar-10")), "prediction cifar-10"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_a_judgement_that_cannot_be_true(epochs: Path, tmp_path: Path, text: str, reason: str) -> None:
    add(epochs / "llm" / "epoch", 1, 7, "svhn", text)
    with pytest.raises(UserError, match=rf"B7/classification_eval\.json.*{reason}"):
        import_outputs(epochs, out=tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no outputs of NNGPT.*measure=True"):
        read_outputs(tmp_path)
    add(tmp_path, 0, 0, "svhn")
    with pytest.raises(
        UserError, match=r"contains 1 outputs and no classification_eval\.json.*only pickles, which are not opened"
    ):
        read_outputs(tmp_path)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    cure = "give the folder of NNGPT's epochs A0, A1, …, or the nngpt folder above llm/epoch"
    command = ["host", "import", str(tmp_path / "nope"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert str(caught.value) == f"'{tmp_path / 'nope'}' does not exist; {cure}"
    (tmp_path / "nope").touch()
    with pytest.raises(UserError) as caught:
        read_outputs(tmp_path / "nope")
    assert str(caught.value) == f"'{tmp_path / 'nope'}' is a file, not a folder; {cure}"


def test_a_folder_of_something_else_stays(epochs: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="contains something else"):
        import_outputs(epochs, out=out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]


def test_the_command(epochs: Path, tree: Path) -> None:
    arguments = ["host", "import", str(epochs), "--source", "package", "--lemur", str(tree), "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert Path(found["out"]).name == "nngpt-report"
    assert found["report"]["accuracy"]["n"] == 4


@pytest.mark.parametrize(
    ("option", "value", "told"), [("--source", "foo", "'foo'"), ("--epoch", "0", "greater than or equal to 1")]
)
def test_a_wrong_option_is_refused(epochs: Path, tmp_path: Path, option: str, value: str, told: str) -> None:
    command = ["host", "import", str(epochs), "--out", str(tmp_path / "new"), option, value]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, (UserError, SystemExit))
    assert told in str(found.exception) + found.output
    assert not (tmp_path / "new").exists()
