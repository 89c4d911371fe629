"""The local scorer: the plain engine's log-odds, shared by threads, and no answer from damaged weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngpt_ext.config import ResolvedLora
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import Base, load_base
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.scoring.scorer import Budget, LocalScorer
from nngpt_ext.tuning.lora import with_adapter
from tests import models_made
from tests.batches.asked import questions

ASKED = [*questions("AlexNet", 4)[::2], *questions("VGG", 2)[::2]]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def base() -> Base:
    return models_made.base("llama", load_in_4bit=True)


def scorer(base: Base, engine: str = "shared", row_tokens: int = 1024) -> LocalScorer:
    return LocalScorer(base, get_template("recipe"), Budget(60, True, row_tokens, engine), LEMUR_FACTS)


def odds(made: LocalScorer, asked: list[Question]) -> np.ndarray:
    return made.log_odds(asked, models_made.sources())


def test_it_equals_the_plain_engine_one_question_at_a_time(base: Base) -> None:
    plain = scorer(base, "plain")
    expected = np.concatenate([odds(plain, [question]) for question in ASKED])
    for row_tokens in (300, 1024):
        found = odds(scorer(base, row_tokens=row_tokens), ASKED)
        assert found.shape == (len(ASKED), 2)
        assert np.abs(found - expected).max() <= TOLERANCE
    assert np.abs(expected).min() > TOLERANCE


def test_a_turned_question_turns_its_odds(base: Base) -> None:
    turned = odds(scorer(base), [question.turned() for question in ASKED])
    assert np.abs(turned + odds(scorer(base), ASKED)[:, ::-1]).max() <= TOLERANCE


def test_encoded_questions_are_scored_again_with_another_model(base: Base) -> None:
    made, other, told = scorer(base), models_made.base("llama", load_in_4bit=True, seed=8), []
    encoded = made.encode(ASKED, models_made.sources())
    assert np.array_equal(made.score(encoded, advance=told.append), odds(made, ASKED))
    assert sum(told) == 2 * len(ASKED)
    assert scorer(other).check_engine([]) == "plain"
    assert np.abs(made.score(encoded) - scorer(other, "plain").score(encoded)).max() > TOLERANCE


def test_the_engine_is_tried_with_the_rows_of_the_run(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    made, lengths = scorer(base, row_tokens=1000), list[int]()
    group = made.encode(ASKED, models_made.sources()).groups[0]
    forward = base.model.model.forward

    def measured(*given: Any, **named: Any) -> Any:
        lengths.append(named["input_ids"].numel())
        return forward(*given, **named)

    monkeypatch.setattr(base.model.model, "forward", measured)
    assert made.check_engine(group) == "shared"
    assert 800 < max(lengths) <= 1000


def test_threads_share_it(base: Base) -> None:
    made = scorer(base)
    alone = [odds(made, [question]) for question in ASKED]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: odds(made, [ASKED[i % len(ASKED)]]), range(4 * len(ASKED))))
    assert all(np.array_equal(one, alone[i % len(ASKED)]) for i, one in enumerate(found))


def test_a_model_that_sees_answers_may_score_lines_only(tmp_path: Path) -> None:
    bert = load_base(str(models_made.architecture("Bert", tmp_path)), load_in_4bit=False)
    with pytest.raises(UserError, match="BertLMHeadModel is no causal language model"):
        odds(scorer(bert, "plain"), ASKED[:1])
    template = get_template("recipe").lines
    assert template is not None
    lines = LocalScorer(bert, template, Budget(60, True, 1024), LEMUR_FACTS)
    encoded = lines.encode(ASKED, models_made.sources())
    with with_adapter(bert, ResolvedLora(r=4, alpha=4, dropout=0.0), "lines"):
        assert not lines.score(encoded).any()


def test_nothing_to_score(base: Base) -> None:
    assert odds(scorer(base), []).shape == (0, 2)


def test_scores_that_are_not_finite_are_refused(base: Base) -> None:
    made = scorer(base)
    before = odds(made, ASKED)
    refused = pytest.raises(UserError, match="not finite numbers: its weights are damaged")
    with models_made.damaged(base), refused:
        odds(made, ASKED)
    assert np.array_equal(odds(made, ASKED), before)
