"""Reports and cards from what a run's folder holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from nngpt_ext import RunResult, TaskConfig, UserError
from nngpt_ext.run_folder import read_config, read_record, write_record
from nngpt_ext.tasks.reporting import model_card, rebuild_report
from tests.export.conftest import tree
from tests.predict.conftest import older
from tests.tasks.conftest import TASK, line, resume, truncate


def test_report_and_card_are_rebuilt_from_the_predictions(run: Path) -> None:
    files = [run / name for name in ("report.json", "report.md", "report.html", "adapter/README.md")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    rebuild_report(run)
    assert [file.read_bytes() for file in files] == before


def test_baselines_of_other_pairs_are_refused(run: Path) -> None:
    baselines = pd.read_parquet(older(run) / "baselines.parquet")
    baselines.iloc[1:].to_parquet(run / "baselines.parquet", index=False)
    with pytest.raises(UserError, match=r"baselines\.parquet' has other pairs"):
        rebuild_report(run)


def test_a_damaged_report_is_built_again(run: Path) -> None:
    text = (run / "report.json").read_text()
    truncate(run / "report.json")
    assert line(resume, run).endswith(f"to build it again, type: nngpt-ext report {run}")
    rebuild_report(run)
    assert (run / "report.json").read_text() == text


@pytest.mark.parametrize(
    "name", ["config.yaml", "run.json", "baselines.parquet", "predictions.parquet", "adapter/calibration.json"]
)
def test_a_report_is_built_from_the_files_of_the_run_only(run: Path, name: str) -> None:
    before = tree(run)
    for content in (b"", before[name][::2], before[name].replace(b"0", b"7"), before[name][:-2] + b" ", None):
        (run / name).unlink()
        if content is not None:
            (run / name).write_bytes(content)
        assert f"'{run / name}'" in line(rebuild_report, run)
        (run / name).write_bytes(before[name])
    (run / name).unlink()
    (run / name).mkdir()
    assert f"'{run / name}'" in line(rebuild_report, run)
    (run / name).rmdir()
    (run / name).write_bytes(before[name])
    assert tree(run) == before


@pytest.mark.parametrize("keys", [{"base_model": "other"}, {"n_test_pairs": 1}, {"sha256": None}, {"run_sha256": "0"}])
def test_an_edited_report_is_not_shown(run: Path, result: RunResult, keys: dict[str, object]) -> None:
    file = run / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))
    assert line(resume, run).startswith(f"'{file}' is not a report of this package (it was changed or damaged")
    rebuild_report(run)
    assert resume(run).report == result.report


def test_a_report_of_another_run_is_not_shown(run: Path) -> None:
    record = read_record(run)
    write_record(run, record | {"threads": 99})
    assert "(it was made from another run.json)" in line(resume, run)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | {"training_pairs": [88]}))),
        ("config.yaml", lambda file: file.write_text("{}")),
        ("predictions.parquet", lambda file: pd.read_parquet(file).astype(str).to_parquet(file)),
        ("predictions.parquet", lambda file: pd.read_parquet(file).iloc[:, :1].to_parquet(file)),
        ("predictions.parquet", lambda file: pd.read_parquet(file).iloc[:0].to_parquet(file)),
        ("baselines.parquet", lambda file: pd.read_parquet(file).iloc[:, :1].to_parquet(file)),
    ],
)
def test_a_damaged_run_of_an_older_version_is_one_line(run: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(older(run) / name)
    assert str(run) in line(rebuild_report, run) or name == "predictions.parquet"


def test_a_report_never_follows_a_link(run: Path, mine: Path) -> None:
    shutil.rmtree(run / "adapter")
    (run / "adapter").symlink_to(mine)
    before, own = tree(mine), (run / "report.md").read_bytes()
    assert line(rebuild_report, run) == (
        f"'{run / 'adapter'}' leads to '{mine}', outside '{run}'; remove the link, or give another folder"
    )
    assert tree(mine) == before
    assert (run / "report.md").read_bytes() == own


def test_what_training_drew_is_said(result, tmp_path):
    assert not any(note.startswith("Training drew ") for note in result.report.notes)
    found = resume(tmp_path / "run", data={**TASK["data"], "pairs_per_network": 2})
    (note,) = (note for note in found.report.notes if note.startswith("Training drew "))
    assert note.startswith(f"Training drew 6 pairs over all epochs from the {found.report.n_train_pairs:,} training")


def test_what_was_not_used_is_said_with_its_count(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    shown = rebuild_report(run)
    parts = ("train", "validation", "test")
    used = [f"{part} ({record['networks'][part]:,} of {record['available_networks'][part]:,})" for part in parts]
    assert f"Not all networks of the split were used; the configuration limits {', '.join(used)}." in shown.notes
    unpaired = f"{record['unpaired_networks']:,} networks with trials on one dataset only at epoch 5 are in no pair."
    assert unpaired in shown.notes
    assert record["cut_networks"] <= record["read_networks"] == sum(record["networks"].values())
    cut = f"{record['cut_networks']:,} of {record['read_networks']:,} networks' sources were cut to "
    assert any(note.startswith(cut) for note in shown.notes) == bool(record["cut_networks"])
    for file in ("report.md", "report.html", "adapter/README.md"):
        assert unpaired in (run / file).read_text()


def test_records_that_are_not_lemurs_are_named(run: Path) -> None:
    """Their place and fingerprint; a card, which is published, has the fingerprint only."""
    older(run)
    record = json.loads((run / "run.json").read_text())
    assert "nn-dataset" in record["versions"]
    assert "path" not in record["data"]
    assert "LEMUR (nn-dataset)" in (run / "adapter" / "README.md").read_text()
    record["data"]["path"] = "/home/me/mine.db"
    (run / "run.json").write_text(json.dumps(record))
    shown = rebuild_report(run)
    first = record["data"]["fingerprint"][:12]
    assert shown.records == record["data"]
    assert f"The records are those in '/home/me/mine.db' (fingerprint {first})." in shown.notes
    for file in ("report.md", "report.html"):
        assert "/home/me/mine.db" in (run / file).read_text()
    card = (run / "adapter" / "README.md").read_text()
    assert "/home/me" not in card
    assert f"records with fingerprint {first}" in card
    assert "LEMUR (nn-dataset)" not in card


def test_all_trials_train_and_best_trials_test(result):
    assert result.report.n_train_pairs > 3 * 21
    assert any("all trials" in note for note in result.report.notes)


def test_metadata_and_text_hold_the_reports_figures(result: RunResult) -> None:
    config = TaskConfig.model_validate(read_config(result.output_dir / "config.yaml"))
    text = model_card(result.report, config, license="mit", more="\nMore.\n")
    card, report = ModelCard(text), result.report
    assert (card.data.library_name, card.data.license, card.data.base_model) == ("peft", "mit", "embedded")
    measured = {(one.metric_type, one.metric_name): one for one in card.data.eval_results}
    skill = next(one for (kind, _), one in measured.items() if kind == "skill")
    assert skill.metric_value == round(report.skill.value, 4)
    assert skill.metric_args["p"] == round(report.skill.p, 4)
    assert f"Test accuracy {report.accuracy.value:.3f}" in card.text
    assert "rank 32, alpha 32, dropout 0.0, learning rate 0.001" in " ".join(card.text.split())
    assert text.endswith("\nMore.\n")
    assert model_card(result.report, config) == (result.output_dir / "adapter" / "README.md").read_text()
