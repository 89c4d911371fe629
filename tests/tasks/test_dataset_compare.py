"""The task as it is registered."""

from pathlib import Path

from nngpt_ext import TaskConfig
from nngpt_ext.registry import tasks


def test_it_is_registered_and_runs_the_pipeline(monkeypatch):
    task = tasks.get("dataset_compare")
    assert (task.name, task.Config) == ("dataset_compare", TaskConfig)
    monkeypatch.setattr("nngpt_ext.tasks.pipeline.run_pipeline", lambda *given, **named: (given, named))
    config = TaskConfig()
    assert task().run(config, "runs/a", resume=True, on_epoch=print) == (
        (config, Path("runs/a"), True), {"on_epoch": print}
    )  # fmt: skip
