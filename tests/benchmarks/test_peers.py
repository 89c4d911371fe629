"""The ways that are measured do what their figures count."""

from __future__ import annotations

import pytest
from trl import SFTTrainer

from benchmarks import peers
from benchmarks.workload import Workload, make_workload
from nngpt_ext.models.base import load_base


@pytest.fixture(scope="module")
def workload() -> Workload:
    return make_workload(load_base("embedded"), "metadata_only", 2, 0, 2048)


@pytest.mark.parametrize(("batch", "packed"), [(4, False), (16, False), (1, True)])
def test_trl_did_what_is_counted(workload: Workload, batch: int, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [example for group in workload.training for example in group][: 40 if packed else 10]
    seen: list[int] = []
    step = SFTTrainer.training_step

    def counted(self: SFTTrainer, model: object, inputs: dict, *rest: object) -> object:
        # A packed row is a batch of one whose positions begin again at each example.
        seen.append(int((inputs["position_ids"] == 0).sum()) if packed else len(inputs["input_ids"]))
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(SFTTrainer, "training_step", counted)
    work = peers.train_trl(workload, examples, batch, packed=packed)
    if packed:
        assert sum(seen) == len(examples)
        assert 0 < work.examples < len(examples)
    else:
        assert work.examples == sum(seen) // 2  # of two steps the second
        assert set(seen) == {batch}


def test_shared_prefixes_give_the_loss_and_gradients_of_single_examples(workload: Workload) -> None:
    found = peers.gradient_error(workload)
    assert found["loss_difference"] < 1e-5
    assert found["gradient_relative_error"] < 1e-5


def test_scoring_counts_shared_tokens_once(workload: Workload) -> None:
    shared, plain = (peers.score(workload, workload.groups, engine=engine) for engine in ("shared", "plain"))
    assert shared.examples == plain.examples == len(workload.questions)
    assert shared.tokens < plain.tokens
    assert shared.log_odds == pytest.approx(plain.log_odds, abs=1e-4)
