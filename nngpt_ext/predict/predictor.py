"""`Predictor`: predicts with a trained adapter on which of two datasets a network does better."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nngpt_ext.data.facts import GivenFacts
from nngpt_ext.errors import UserError, shown
from nngpt_ext.io import digest
from nngpt_ext.models.base import LOADING, hub_folder
from nngpt_ext.networks.structure import Structure
from nngpt_ext.predict.adapter import AdapterFiles, load_scorer
from nngpt_ext.predict.answers import Comparison, Ranking, ranking_of
from nngpt_ext.predict.question import NO_SOURCE, CheckedQuery, Query, QueryChecker
from nngpt_ext.prompts.inputs import ARGUMENTS, Evidence, Recipe
from nngpt_ext.prompts.structures import MEASURE, GivenStructure
from nngpt_ext.run_folder import ADAPTER, REPORT, no_run
from nngpt_ext.scoring.basis import Basis
from nngpt_ext.scoring.logistic import logistic
from nngpt_ext.scoring.predictions import plausible
from nngpt_ext.scoring.scorer import Scorer

if TYPE_CHECKING:
    from nngpt_ext.predict.store import PredictionStore

log = logging.getLogger(__name__)

WINDOW = 256  # about how many questions of a stream are answered together
Row = dict[str, Any]  # by the store's columns


class Predictor:
    """Answers questions with one adapter; the order of the two datasets never changes an answer.

    Create one with `Predictor.from_run` or `Predictor.from_pretrained`. The base model is loaded with the first
    question that the store cannot answer. Threads may share a predictor.

    Args:
        adapter: the adapter's folder, as a run writes it.
        base: where the base model is, if it is neither in the adapter's folder nor where the run found it.
        store: a prediction store, or its URL: answers in it are not computed again, new ones are added.
        facts: facts of datasets that LEMUR does not have: `{name: (training images, image size, channels, classes)}`.
        scorer: computes the log-odds; by default a `LocalScorer` on the base model with the adapter. With another one,
            for example a remote one, no model is loaded here and the control question is not asked.

    Attributes:
        check: checks a question (`Query`) and gives it its key in the store; no model is loaded.

    Raises:
        UserError: for a folder without an adapter, a damaged file in it, invalid facts, an unusable store, and a prompt
            that shows the network's name.
    """

    def __init__(
        self,
        adapter: str | Path,
        *,
        base: str | None = None,
        store: PredictionStore | str | None = None,
        facts: GivenFacts | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        self._files = AdapterFiles(Path(adapter))
        self.check = QueryChecker(self._files, facts)
        self._base = base or self._files.base_place
        if isinstance(store, str):  # imported only now: most questions do not need SQLAlchemy
            store = cast("PredictionStore", import_module("nngpt_ext.predict.store").PredictionStore.open(store))
        self._store, self._scorer, self._warned = store, scorer, False

    @classmethod
    def from_run(
        cls,
        folder: str | Path,
        *,
        base: str | None = None,
        store: PredictionStore | str | None = None,
        facts: GivenFacts | None = None,
    ) -> Predictor:
        """Create the predictor of a finished run; `base`, `store` and `facts` are those of `Predictor`.

        Raises:
            UserError: for a folder without a finished run, or with another adapter than the run wrote.
        """
        if not (Path(folder) / REPORT).is_file():
            raise no_run(Path(folder))
        predictor = cls(Path(folder) / ADAPTER, base=base, store=store, facts=facts)
        predictor._files.check_run(Path(folder))
        return predictor

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path,
        *,
        revision: str | None = None,
        base: str | None = None,
        store: PredictionStore | str | None = None,
        facts: GivenFacts | None = None,
    ) -> Predictor:
        """Create the predictor of an adapter: a folder, or a hub id (`owner/name`) and optionally a revision.

        `base`, `store` and `facts` are those of `Predictor`.

        Raises:
            UserError: for an adapter that cannot be found or read.
        """
        folder = adapter if Path(adapter).is_dir() else hub_folder(str(adapter), "adapter", revision)
        return cls(folder, base=base, store=store, facts=facts)

    @property
    def model(self) -> str:
        """Which model answers: base model and the first digits of the adapter's hash."""
        return self._files.model

    @property
    def adapter_hash(self) -> str:
        """The adapter's hash, as in the store: of its weights, how they are applied, and the base model."""
        return self._files.hash

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides its answers: adapter, prompt, calibration, facts and training datasets."""
        facts = {name: facts.values() for name, facts in self.check.facts.items()}
        files = self._files
        return digest([files.hash, files.note.prompt_hash, files.calibration_hash, facts, sorted(self.datasets)])

    @property
    def datasets(self) -> list[str]:
        """The datasets that the adapter was trained on."""
        return list(self._files.note.datasets)

    def unseen(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """The given datasets about which every answer abstains: not trained on, and not tested on such datasets."""
        return self._files.unseen(datasets)

    @property
    def calibrated(self) -> bool:
        """Whether the adapter has a calibration."""
        return self._files.calibration is not None

    @property
    def threshold(self) -> float | None:
        """The confidence below which it abstains; None if it always does."""
        calibration = self._files.calibration
        return None if calibration is None else calibration.threshold

    @property
    def prompt(self) -> str:
        """The name of the prompt."""
        return self._files.note.prompt

    @property
    def needs(self) -> list[str]:
        """What a question must give beside source and datasets: `recipe`, `accuracies`, `structure`, `evidence`."""
        return [name for name, one in ARGUMENTS.items() if self._files.note.template.takes(one)]

    def load(self) -> Scorer:
        """Load the model now, instead of with the first question; errors as `nngpt_ext.predict.adapter.load_scorer`."""
        with LOADING:  # one thread imports the libraries and loads the adapter; the others wait for it
            self._scorer = self._scorer or load_scorer(self._files, self._base, self.check.facts)
            return self._scorer

    def compare(
        self, nn_code: str, dataset_1: str, dataset_2: str, *, recipe: Recipe | None = None,
        accuracies: Mapping[str, float] | None = None, nn: str | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None,
    ) -> Comparison:  # fmt: skip
        """On which of two datasets the network does better.

        The probabilities of `compare(code, a, b)` and `compare(code, b, a)` add up to 1. Arguments as in `Query`.

        Raises:
            UserError: for a source that is not Python, an unknown dataset, the same dataset twice, missing values that
                the prompt needs, and a structure that cannot be measured.
        """
        return next(self.compare_many([(nn_code, dataset_1, dataset_2, recipe, accuracies, nn, structure, evidence)]))

    def compare_many(self, queries: Iterable[Query | Sequence[Any]]) -> Iterator[Comparison]:
        """Answer a stream of questions in order; those about one network share the computation of its source.

        Args:
            queries: `Query` objects or tuples of its fields. Group queries by network.

        Raises:
            UserError: as `compare`, after the questions before the invalid one are answered.
        """
        window: list[CheckedQuery] = []
        for query in queries:
            try:
                question = self.check(query)
            except UserError:
                yield from self.answer(window)
                raise
            # A network's questions stay together, so that its source is computed once.
            if len(window) >= WINDOW and question.source != window[-1].source:
                yield from self.answer(window)
                window = []
            window.append(question)
        yield from self.answer(window)

    def rank(
        self, nn_code: str, datasets: Iterable[str] | None = None, recipe: Recipe | None = None, *,
        accuracies: Mapping[str, float] | None = None, nn: str | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None,
    ) -> Ranking:  # fmt: skip
        """Rank datasets by how well the network does on them, by comparing all pairs.

        Args:
            nn_code: the network's source.
            datasets: two or more; by default those the adapter was trained on.
            recipe, accuracies, nn, structure, evidence: as in `Query`.

        Raises:
            UserError: as `compare`.
        """
        given: dict[str, Any] = {"accuracies": accuracies, "structure": structure, "evidence": evidence}
        return next(self.rank_many([(nn_code, nn)], datasets, recipe, **given))

    def rank_many(
        self, networks: Iterable[tuple[str, str | None] | tuple[str, str | None, Any]],
        datasets: Iterable[str] | None = None, recipe: Recipe | None = None, *,
        accuracies: Mapping[str, float] | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None,
    ) -> Iterator[Ranking]:  # fmt: skip
        """Rank datasets for a stream of networks, several of them in one pass; other arguments as in `rank`.

        Args:
            networks: source, name or None, and optionally the network's own recipe (None for `recipe`).
        """
        names = self.check_datasets(datasets)
        pairs = list(itertools.combinations(names, 2))
        queries = (
            Query(code, a, b, own[0] if own and own[0] is not None else recipe, accuracies, nn, structure, evidence)
            for code, nn, *own in networks
            for a, b in pairs
        )
        answers = self.compare_many(queries)
        while comparisons := tuple(itertools.islice(answers, len(pairs))):
            yield ranking_of(names, comparisons)

    def prior(
        self, dataset_1: str, dataset_2: str, *, recipe: Recipe | None = None,
        accuracies: Mapping[str, float] | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None,
    ) -> Comparison:  # fmt: skip
        """The answer to the same question without source code: what the model expects of any network.

        A structure is given, for example as `structures` returns it: without a source, none can be measured.
        """
        query = Query("", dataset_1, dataset_2, recipe, accuracies, NO_SOURCE, structure, evidence)
        return self.answer([self.check(query, source_shown=False)])[0]

    def structures(
        self, nn_code: str, datasets: Iterable[str] | None = None, recipe: Recipe | None = None, *,
        structure: GivenStructure | None = MEASURE, nn: str | None = None,
    ) -> dict[str, Structure]:  # fmt: skip
        """The network's structure on each dataset, as questions show it; empty if the prompt shows none.

        Arguments as in `rank`; by default, it is measured. Networks are measured in one sandbox, which starts with the
        first one that neither the package nor the cache knows.

        Raises:
            UserError: as `rank`; an `nngpt_ext.networks.catalogue.Unmeasurable` if this network has none.
        """
        names = self.check_datasets(datasets)
        return self.check.structures(Query(nn_code, "", "", recipe, nn=nn, structure=structure), names)

    def basis(
        self, nn_code: str, datasets: Iterable[str] | None = None, recipe: Recipe | None = None, *,
        accuracies: Mapping[str, float] | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None, nn: str | None = None,
    ) -> Basis | None:  # fmt: skip
        """What an answer about these datasets rests on, and how far it is from what training saw.

        Arguments as in `rank`. Only what the prompt shows is in it; None for an adapter of an older version.

        Raises:
            UserError: as `rank`.
        """
        if self._files.seen is None:
            return None
        query = Query(nn_code, "", "", recipe, accuracies, nn, structure, evidence)
        return self._files.seen.basis(*self.check.compared(query, self.check_datasets(datasets)))

    def check_given(
        self, datasets: Iterable[str], recipe: Recipe | None = None, structure: GivenStructure | None = None,
        evidence: Evidence | None = None,
    ) -> None:  # fmt: skip
        """Check that a ranking of datasets has what the prompt shows of them; no model is loaded, and no code runs.

        Raises:
            UserError: as `compare`.
        """
        for one, two in itertools.pairwise(self.check_datasets(datasets)):
            self.check(Query("", one, two, recipe, structure=structure, evidence=evidence), source_shown=False)

    def check_datasets(self, datasets: Iterable[str] | None) -> list[str]:
        """The datasets of a ranking in text order; by default those the adapter was trained on.

        Raises:
            UserError: for fewer than two datasets, an invalid name, and facts that the prompt shows and are unknown.
        """
        if datasets is not None and (isinstance(datasets, str) or not isinstance(datasets, Iterable)):
            raise UserError(f"datasets are a list of names, not {shown(datasets)}")
        given = self.datasets if datasets is None else datasets
        names = sorted(self.check.check_datasets(given))
        if len(names) < 2:
            raise UserError(f"a ranking needs two datasets or more, not {', '.join(names) or 'none'}")
        return names

    def stored(self, queries: Sequence[CheckedQuery]) -> list[Comparison | None]:
        """The answers that the store has under the networks' names; None for the others."""
        found = self._store.find(one.key for one in queries) if self._store is not None else []
        rows = {(row["question"], row["nn"]): row for row in found if not self._contradicts(row)}
        return [self._comparison(one, rows[key]) if (key := (one.key, one.name)) in rows else None for one in queries]

    def answer(self, queries: Sequence[CheckedQuery], recent: dict[str, Row] | None = None) -> list[Comparison]:
        """Answers in the order of the questions, from the store or computed and added to it.

        Args:
            queries: as `check` returns them.
            recent: earlier answers by `CheckedQuery.key`, which are not computed again; new ones are added.
        """
        if not queries:
            return []
        if (why := self._files.why_it_abstains) is not None and not self._warned:
            self._warned = True
            log.warning("%s", why)
        stored = self._store.find(one.key for one in queries) if self._store is not None else []
        # An older version may have stored an `abstain` that contradicts the adapter's files.
        corrected = [{**row, "abstain": not row["abstain"]} for row in stored if self._contradicts(row)]
        rows = (recent or {}) | {str(row["question"]): row for row in [*stored, *corrected]}
        new = self._compute(list({one.key: one for one in reversed(queries) if one.key not in rows}.values())[::-1])
        rows |= {str(row["question"]): row for row in new}
        if recent is not None:
            recent |= rows
        if self._store is not None:
            self._store.add_rows([*corrected, *new, *_named(queries, rows, [*stored, *new])])
        return [self._comparison(one, rows[one.key]) for one in queries]

    def _compute(self, queries: Sequence[CheckedQuery]) -> list[Row]:
        if not queries:
            return []
        scorer, sources = self.load(), {one.source: one.query.nn_code for one in queries}
        odds = np.asarray(scorer.log_odds([one.question for one in queries], sources))
        if odds.shape != (len(queries), 2) or not plausible(odds).all():  # whatever scorer it was
            raise UserError("the scorer's log-odds are not finite and plausible numbers, two for each question")
        files, note = self._files, self._files.note
        counted = getattr(scorer, "source_tokens", None)  # another scorer may not know
        tokens = {source: None if counted is None else counted(code) for source, code in sources.items()}
        rows: list[Row] = []
        for one, (straight, turned) in zip(queries, odds, strict=True):
            names = one.question.dataset_1, one.question.dataset_2
            mean = float((straight + turned) / 2)
            rows.append(
                {
                    "question": one.key, "nn": one.name, "source": one.source, "epoch": note.epoch,
                    "dataset_1": names[0], "dataset_2": names[1], "given_1": one.given[0], "given_2": one.given[1],
                    "log_odds": mean, "probability_1": float(logistic(mean)),
                    "calibrated_1": files.probability(mean) if self.calibrated else None,
                    "flipped": bool((straight >= 0) != (turned >= 0)), "abstain": files.abstains(mean, names),
                    "cut": None if counted is None else (tokens[one.source] or 0) > note.code_tokens,
                    "source_tokens": tokens[one.source], "predicted": names[0] if mean >= 0 else names[1],
                    "prompt": note.prompt, "prompt_hash": note.prompt_hash, "adapter": files.hash,
                    "calibration": files.calibration_hash, "base_model": files.base.base_model,
                }
            )  # fmt: skip
        return rows

    def _contradicts(self, row: Row) -> bool:
        return bool(row["abstain"] != self._files.abstains(row["log_odds"], (row["dataset_1"], row["dataset_2"])))

    def _comparison(self, one: CheckedQuery, row: Row) -> Comparison:
        odds, same = float(row["log_odds"]), one.query.dataset_1 == row["dataset_1"]
        probability = self._files.probability(odds)
        return Comparison(
            dataset_1=one.query.dataset_1, dataset_2=one.query.dataset_2, winner=str(row["predicted"]),
            probability=probability if same else 1.0 - probability, log_odds=odds if same else -odds,
            flipped=bool(row["flipped"]), abstain=bool(row["abstain"]), model=self._files.model, nn=one.name,
            unseen=self._files.unseen((one.query.dataset_1, one.query.dataset_2)),
            cut_to=self._files.note.code_tokens if row["cut"] else None,
            source_tokens=row["source_tokens"] if row["cut"] else None, is_module=one.is_module,
        )  # fmt: skip


def _named(queries: Sequence[CheckedQuery], rows: Mapping[str, Row], stored: Sequence[Row]) -> list[Row]:
    """Copies of rows under new names of their networks, without what only a run knows about its own network."""
    known = {(row["question"], row["nn"]) for row in stored}
    new = dict.fromkeys((one.key, one.query.nn) for one in queries if one.query.nn)
    return [{**rows[key], "nn": nn, "better_dataset": None, "split": None} for key, nn in new if (key, nn) not in known]
