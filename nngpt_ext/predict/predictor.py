"""`Predictor`: ask a trained adapter on which of two datasets a network does better."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.io import digest
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.predict.answerer import Answerer
from nngpt_ext.predict.answers import Comparison, Ranking, ranking_of
from nngpt_ext.predict.question import CheckedQuery, Query, QueryChecker, Recipe
from nngpt_ext.predict.store import NO_SOURCE, PredictionStore
from nngpt_ext.run_folder import ADAPTER, REPORT

WINDOW = 256  # about how many questions of a stream are answered together


class Predictor:
    """Answers questions with one adapter; the order of two datasets never changes an answer.

    Make one with `Predictor.from_run` or `Predictor.from_pretrained`. The base model is loaded with the first
    question that the store does not answer.

    Args:
        adapter: the adapter's folder, as a run writes it.
        base: where the base model is, if not beside the adapter or where the run found it.
        store: a prediction store, or its address: answers in it are not computed again, new ones go there.
        facts: facts of datasets that LEMUR does not have: `{name: (training images, image size, channels, classes)}`.

    Raises:
        UserError: for a folder without an adapter, a damaged file of it, facts that are none, a store that cannot
            be used, and a prompt that shows the network's name.
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
        self._check = QueryChecker(self._files, facts)
        opened = PredictionStore.open(store) if isinstance(store, str) else store
        self._answer = Answerer(self._files, base or self._files.base_place, opened, self._check.facts)

    @classmethod
    def from_run(cls, folder: str | Path, **options: Any) -> Predictor:
        """The predictor of a finished run; `options` as of `Predictor`.

        Raises:
            UserError: when the folder holds no finished run, or another adapter than the run left there.
        """
        if not (Path(folder) / REPORT).is_file():
            raise UserError(f"'{folder}' holds no finished run; give a run's folder, or finish it with --resume")
        predictor = cls(Path(folder) / ADAPTER, **options)
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
        from nngpt_ext.models.base import hub_folder

        return cls(hub_folder(str(adapter), "adapter", revision), **options)

    @property
    def model(self) -> str:
        """Which model answers: base model and the beginning of the adapter's hash."""
        return self._files.model

    @property
    def adapter(self) -> str:
        """The adapter's hash, as the store has it: of weights, their settings, and the base model they change."""
        return self._files.hash

    @property
    def fingerprint(self) -> str:
        """What decides its answers: hashes of adapter, prompt, calibration, facts and the datasets of the training."""
        facts = {name: astuple(values) for name, values in self._check.facts.items()}
        files = self._files
        return digest([files.hash, files.note.prompt_hash, files.calibration_hash, facts, sorted(self.datasets)])

    @property
    def datasets(self) -> list[str]:
        """The datasets that the adapter was trained on."""
        return list(self._files.note.datasets)

    def unseen(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Those of some datasets that the adapter was not trained on: every answer about them abstains."""
        return self._files.unseen(datasets)

    @property
    def threshold(self) -> float | None:
        """The confidence below which it abstains; None where it always does."""
        return self._files.threshold

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
            UserError: as `compare`, when the question's turn comes: those before it are answered.
        """
        window: list[CheckedQuery] = []
        for query in queries:
            try:
                asked = self._check(query)
            except UserError:
                yield from self._answer(window)
                raise
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
        networks: Iterable[tuple[str, str | None] | tuple[str, str | None, Any]],
        datasets: Iterable[str] | None = None,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        *,
        accuracies: Mapping[str, float] | None = None,
    ) -> Iterator[Ranking]:
        """Rank datasets for a stream of networks, several of them in one pass; other arguments as of `rank`.

        Args:
            networks: source, name or None, and, if it has one, its own recipe (None for `recipe`).
        """
        names = self.check_datasets(datasets)
        pairs = list(itertools.combinations(names, 2))
        queries = (
            Query(code, a, b, own[0] if own and own[0] is not None else recipe, accuracies, nn)
            for code, nn, *own in networks
            for a, b in pairs
        )
        answers = self.compare_many(queries)
        while comparisons := tuple(itertools.islice(answers, len(pairs))):
            yield ranking_of(names, comparisons)

    def check_given(
        self,
        datasets: Iterable[str],
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        accuracies: Mapping[str, float] | None = None,
    ) -> None:
        """See that a ranking of datasets, two or more, has what the prompt shows of them; no model is loaded.

        Raises:
            UserError: as `compare`.
        """
        names = self.check_datasets(datasets)
        for one, two in itertools.pairwise(names):
            self._check(Query("", one, two, recipe, accuracies), source_shown=False)

    def check_datasets(self, datasets: Iterable[str] | None) -> list[str]:
        """The datasets of a ranking, in text order; by default those the adapter was trained on.

        Raises:
            UserError: when there are fewer than two, or one has no name, or no facts where the prompt shows them.
        """
        if isinstance(datasets, str):
            raise UserError(f"datasets are a list of names, not the text '{datasets}'")
        given = list(self.datasets if datasets is None else datasets)
        self._check.check_datasets(given)
        names = list(dict.fromkeys(given))
        if len(names) < 2:
            raise UserError(f"a ranking needs two datasets or more, not {', '.join(names) or 'none'}")
        return sorted(names)

    def prior(
        self,
        dataset_1: str,
        dataset_2: str,
        *,
        recipe: Recipe | Mapping[str, Recipe] | None = None,
        accuracies: Mapping[str, float] | None = None,
    ) -> Comparison:
        """The model's answer with no source shown: what it thinks of the pair before it sees a network."""
        query = Query("", dataset_1, dataset_2, recipe, accuracies, NO_SOURCE)
        return self._answer([self._check(query, source_shown=False)])[0]
