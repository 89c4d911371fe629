"""`Predictor`: ask a trained adapter on which of two datasets a network does better."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.lemur.facts import FACTS
from nngpt_ext.lemur.unpaired import source_hash
from nngpt_ext.predict.answers import Comparison, Query, Ranking, Recipe
from nngpt_ext.predict.asked import Asked, check_given, facts_of, name_of, recipe_of
from nngpt_ext.predict.calibration import logistic
from nngpt_ext.predict.keys import digest, question_hash, shown
from nngpt_ext.predict.note import AdapterFiles
from nngpt_ext.predict.ranking import ranking_of
from nngpt_ext.predict.sources import check_source
from nngpt_ext.predict.store import PredictionStore
from nngpt_ext.prompts.render import Question

if TYPE_CHECKING:
    from nngpt_ext.predict.model import AskedModel

log = logging.getLogger(__name__)

WINDOW = 256  # about how many questions of a stream are answered together


class Predictor:
    """Answers questions with one adapter; the order of two datasets never changes an answer.

    Make one with `Predictor.from_run` or `Predictor.from_pretrained`. The base model is loaded with the first
    question that the store does not answer.

    Args:
        adapter: the adapter's folder, as a run writes it.
        base: where the base model is, if not where the run found it.
        store: a prediction store, or its address: answers in it are not computed again, new ones go there.
        facts: facts of datasets that LEMUR does not have: `{name: (training images, image size, channels, classes)}`.
    """

    def __init__(
        self,
        adapter: str | Path,
        *,
        base: str | None = None,
        store: PredictionStore | str | None = None,
        facts: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._files = AdapterFiles(Path(adapter))
        self._base = base or self._files.base_model
        self._store = PredictionStore.open(store) if isinstance(store, str) else store
        self._facts = dict(FACTS)
        self._loaded: AskedModel | None = None
        self._template = self._files.note.template
        self._said = False
        for name, given in (facts or {}).items():
            self._facts[name] = facts_of(name, given)

    @classmethod
    def from_run(cls, folder: str | Path, **options: Any) -> Predictor:
        """The predictor of a finished run; `options` as of `Predictor`.

        Raises:
            UserError: when the folder holds no finished run, or another adapter than the run left there.
        """
        if not (Path(folder) / "report.json").is_file():
            raise UserError(f"'{folder}' holds no finished run; give a run's folder, or finish it with --resume")
        predictor = cls(Path(folder) / "adapter", **options)
        predictor._files.check_run(Path(folder))
        return predictor

    @classmethod
    def from_pretrained(cls, adapter: str | Path, *, revision: str | None = None, **options: Any) -> Predictor:
        """The predictor of an adapter: a folder, or a hub id (`owner/name`); other `options` as of `Predictor`.

        Raises:
            UserError: for an adapter that cannot be found or read.
        """
        if Path(adapter).is_dir():
            return cls(adapter, **options)
        from nngpt_ext.models.load import hub_folder

        return cls(hub_folder(str(adapter), "adapter", revision), **options)

    @property
    def model(self) -> str:
        """Which model answers: base model and the beginning of the adapter's hash."""
        return f"{self._files.base_model}+{self._files.hash[:12]}"

    @property
    def adapter(self) -> str:
        """The adapter's hash, as the store has it: of weights, their settings, and the base model they change."""
        return self._files.hash

    @property
    def fingerprint(self) -> str:
        """What decides its answers: hashes of adapter, prompt, calibration and facts."""
        facts = {name: list(values) for name, values in self._facts.items()}
        return digest([self._files.hash, self._files.note.prompt_hash, self._files.calibration_hash, facts])

    @property
    def datasets(self) -> list[str]:
        """The datasets that the adapter was trained on."""
        return list(self._files.note.datasets)

    @property
    def prompt(self) -> str:
        """The name of the prompt that is asked."""
        return self._files.note.prompt

    def compare(
        self,
        nn_code: str,
        dataset_1: str,
        dataset_2: str,
        *,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        accuracies: Mapping[str, float] | None = None,
        nn: str | None = None,
    ) -> Comparison:
        """On which of two datasets the network does better.

        `compare(code, a, b)` and `compare(code, b, a)` are complements. Arguments as of `Query`.

        Raises:
            UserError: for a source that is no Python, an unknown dataset, twice the same one, and for what the
                prompt needs and was not given.
        """
        return next(self.compare_many([Query(nn_code, dataset_1, dataset_2, recipe, accuracies, nn)]))

    def compare_many(self, queries: Iterable[Query | Sequence[Any]]) -> Iterator[Comparison]:
        """Answer a stream of questions, in its order; those about one network share its source.

        Args:
            queries: `Query` or tuples of its fields. Questions about a network should follow each other.

        Raises:
            UserError: as `compare`, when the question's turn comes.
        """
        window: list[Asked] = []
        for query in queries:
            asked = self._asked(query)
            # A network's questions stay together, that its source is computed once.
            if len(window) >= WINDOW and asked.source != window[-1].source:
                yield from self._answer(window)
                window = []
            window.append(asked)
        yield from self._answer(window)

    def rank(
        self,
        nn_code: str,
        datasets: Iterable[str] | None = None,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        *,
        accuracies: Mapping[str, float] | None = None,
        nn: str | None = None,
    ) -> Ranking:
        """Rank datasets by how well the network does on them: all pairs are asked behind one copy of the source.

        Args:
            nn_code: the network's source.
            datasets: two or more; by default those the adapter was trained on.
            recipe, accuracies, nn: as of `Query`.

        Raises:
            UserError: as `compare`.
        """
        return next(self.rank_many([(nn_code, nn)], datasets, recipe, accuracies=accuracies))

    def rank_many(
        self,
        networks: Iterable[tuple[str, str | None]],
        datasets: Iterable[str] | None = None,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        *,
        accuracies: Mapping[str, float] | None = None,
    ) -> Iterator[Ranking]:
        """Rank datasets for a stream of networks (source, name or None), several of them in one pass."""
        names = sorted(set(self.datasets if datasets is None else datasets))
        if len(names) < 2:
            raise UserError(f"a ranking needs two datasets or more, not {', '.join(names) or 'none'}")
        pairs = list(itertools.combinations(names, 2))
        queries = (Query(code, a, b, recipe, accuracies, nn) for code, nn in networks for a, b in pairs)
        answers = self.compare_many(queries)
        while comparisons := tuple(itertools.islice(answers, len(pairs))):
            yield ranking_of(names, comparisons)

    def prior(
        self,
        dataset_1: str,
        dataset_2: str,
        *,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        accuracies: Mapping[str, float] | None = None,
    ) -> Comparison:
        """The model's answer with no source shown: what it thinks of the pair before it sees a network."""
        query = Query("", dataset_1, dataset_2, recipe, accuracies, "no source")
        return self._answer([self._asked(query, source_shown=False)])[0]

    def _asked(self, given: Query | Sequence[Any], source_shown: bool = True) -> Asked:
        query = given if isinstance(given, Query) else Query(*given)
        known = sorted(set(self._files.note.datasets) | set(self._facts))
        for dataset in (query.dataset_1, query.dataset_2):
            if dataset not in known:
                raise UserError(
                    f"{unknown('dataset', str(dataset), known)}; give another's facts: "
                    f"facts={{'{dataset}': (training images, image size, channels, classes)}}"
                )
        if query.dataset_1 == query.dataset_2:
            raise UserError(f"'{query.dataset_1}' is compared with itself; name two datasets")
        if source_shown:
            check_source(query.nn_code, f"the source of '{query.nn}'" if query.nn else "the network's source")
        one, two = sorted((query.dataset_1, query.dataset_2))
        source = source_hash(query.nn_code)
        recipe_1, recipe_2 = (recipe_of(query.recipe, name) for name in (one, two))
        accuracy_1, accuracy_2 = ((query.accuracies or {}).get(name) for name in (one, two))
        check_given(self._template, (one, recipe_1, accuracy_1), (two, recipe_2, accuracy_2))
        epoch = self._files.note.epoch
        question = Question(source, one, two, epoch, accuracy_1, accuracy_2, recipe_1, recipe_2)
        given_1, given_2 = shown(self._template, question, self._facts)
        key = question_hash(
            source, (one, two), (given_1, given_2), self._files.note.prompt_hash, self._files.hash,
            self._files.calibration_hash,
        )  # fmt: skip
        return Asked(query, question, source, (given_1, given_2), key)

    def _answer(self, asked: list[Asked]) -> list[Comparison]:
        found = self._store.find(one.key for one in asked) if self._store is not None else {}
        new = list({one.key: one for one in asked if one.key not in found}.values())
        if new:
            rows = self._compute(new)
            found.update({str(row["question"]): row for row in rows})
            if self._store is not None:
                self._store.add(pd.DataFrame(rows))
        return [self._comparison(one, found[one.key]) for one in asked]

    def _compute(self, asked: list[Asked]) -> list[dict[str, Any]]:
        if self._loaded is None:
            from nngpt_ext.predict.model import AskedModel

            self._loaded = AskedModel(self._files, self._base)
        sources = {one.source: one.query.nn_code for one in asked}
        odds = self._loaded.log_odds([one.question for one in asked], sources, self._facts)
        note, rows = self._files.note, []
        for one, (straight, turned) in zip(asked, odds, strict=True):
            mean = float((straight + turned) / 2)
            calibrated = self._probability(mean)
            rows.append(
                {
                    "question": one.key, "nn": name_of(one), "source": one.source, "epoch": note.epoch,
                    "dataset_1": one.question.dataset_1, "dataset_2": one.question.dataset_2,
                    "given_1": one.given[0], "given_2": one.given[1], "log_odds": mean,
                    "probability_1": float(logistic(mean)),
                    "calibrated_1": calibrated if self._files.calibration else None,
                    "flipped": bool((straight >= 0) != (turned >= 0)), "abstain": self._abstains(calibrated),
                    "predicted": one.question.dataset_1 if mean >= 0 else one.question.dataset_2,
                    "prompt": note.prompt, "prompt_hash": note.prompt_hash, "adapter": self._files.hash,
                    "calibration": self._files.calibration_hash, "base_model": self._files.base_model,
                }
            )  # fmt: skip
        return rows

    def _probability(self, log_odds: float) -> float:
        calibration = self._files.calibration
        return float(calibration.probability(log_odds) if calibration else logistic(log_odds))

    def _abstains(self, probability: float) -> bool:
        calibration = self._files.calibration
        if (calibration is None or calibration.threshold is None) and not self._said:
            self._said = True
            why = "has no calibration" if calibration is None else f"never reached {calibration.target} on validation"
            log.warning("the adapter %s: every answer abstains", why)
        return calibration is None or bool(calibration.abstains(probability))

    def _comparison(self, one: Asked, row: Mapping[str, Any]) -> Comparison:
        same = one.query.dataset_1 == row["dataset_1"]
        odds = float(row["log_odds"])
        probability = self._probability(odds)
        return Comparison(
            dataset_1=one.query.dataset_1,
            dataset_2=one.query.dataset_2,
            winner=str(row["predicted"]),
            probability=probability if same else 1.0 - probability,
            log_odds=odds if same else -odds,
            flipped=bool(row["flipped"]),
            abstain=bool(row["abstain"]),
            model=self.model,
            nn=name_of(one),
        )
