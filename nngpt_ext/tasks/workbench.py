"""The stages of a run that need torch: encode, tune, score."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import logit

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import Group, tokens_of
from nngpt_ext.config import ResolvedConfig
from nngpt_ext.data.load import PairData
from nngpt_ext.data.splits import pairs_hash
from nngpt_ext.evaluation.baselines import kind_prior, pair_prior
from nngpt_ext.evaluation.metrics import accuracy, log_loss
from nngpt_ext.io import digest, inside, replacing_folder, text_digest
from nngpt_ext.models.base import Base, adapted, check_base
from nngpt_ext.progress import Progress
from nngpt_ext.prompts.fields import GIVEN
from nngpt_ext.prompts.inputs import filled_digest, given_texts
from nngpt_ext.prompts.structures import with_structures
from nngpt_ext.prompts.template import Template
from nngpt_ext.registry import finetuners
from nngpt_ext.run_folder import ADAPTER, BASE_FILE, CHECKPOINTS
from nngpt_ext.scoring.basis import seen_in_training
from nngpt_ext.scoring.calibration import fit_calibration, with_calibration
from nngpt_ext.scoring.lines import Prior
from nngpt_ext.scoring.note import Note, known_answer, read_note
from nngpt_ext.scoring.predictions import group_by_network, predicted_pairs, questions_of
from nngpt_ext.scoring.scorer import Budget, Encoded, LocalScorer, of_networks
from nngpt_ext.tuning.history import OnEpoch, Validation, read_history, select_epoch
from nngpt_ext.tuning.plan import CappedNetworks
from nngpt_ext.tuning.qlora import write_base_note
from nngpt_ext.tuning.ranks import add_up, deal, own_number, size
from nngpt_ext.tuning.warm_start import check_start, start_record


class Workbench:
    """A base model, its encoder and the data of one run."""

    def __init__(self, config: ResolvedConfig, template: Template, base: Base, data: PairData) -> None:
        self.config = config = config.decided(base.device.type == "cuda", base.holds_activations)
        self.template = template
        self.base = base
        check_start(config, template, base)
        self.data = data = with_structures(data, template, config.networks.run_code)
        self.begun = start_record(config, data)
        tuning = config.tuning
        budget = Budget(config.data.code_tokens, config.data.compact_code, tuning.row_tokens, tuning.engine)
        self.prior = None if tuning.offset == "none" else prior_table(data, kinds=tuning.offset == "kind_prior")
        kinds = {data.sources[nn]: kind for nn, kind in data.kinds.items()}
        self.scorer = LocalScorer(base, template, budget, data.facts, prior=self.prior, kind_of=kinds.get)
        self.encoder = self.scorer.encoder(data.sources)
        better = (data.training["better_dataset"] == data.training["dataset_1"]).to_numpy()
        groups = self.scorer.training(questions_of(data.training), better, self.encoder)
        self.training = CappedNetworks(groups, self._giant_families(data))
        # All questions are tokenised before anything is trained: one that is too long is reported now.
        self._encoded: dict[str, Encoded] = {}
        for part in ("validation", "test"):
            self._encode(part)
        self.engine = self._checked_engine()

    def _checked_engine(self) -> str:
        """The engine that is exact in training, tried on the layers that will be trained."""
        from nngpt_ext.tuning.lora import recompute_activations, with_adapter

        group, tuning = self._longest_group(self.data.training), self.config.tuning
        if tuning.finetuner != "qlora":  # it may train anything
            return self.scorer.check_engine(group, training=True)
        # On the scorer's own model, in place. Until it is trained, an adapter without dropout changes no answer.
        with with_adapter(self.base, self.config.model.lora.model_copy(update={"dropout": 0.0})):
            if tuning.gradient_checkpointing:
                recompute_activations(self.base)
            return self.scorer.check_engine(group, training=True)

    def _encode(self, part: str) -> Encoded:
        """The pairs of a part (`train`, `validation`, `test`) as tokens, which are computed once."""
        if part not in self._encoded:
            questions = questions_of(self.data.part(part))
            self._encoded[part] = self.scorer.encode(questions, self.data.sources, self.encoder)
        return self._encoded[part]

    def _giant_families(self, data: PairData) -> list[str | None]:
        """The giant family of each training network, in the order of the training examples."""
        names = [data.training["nn"].iloc[rows[0]] for rows in group_by_network(data.training["nn"].tolist())]
        return [data.families[nn] if data.weights.get(nn, 1.0) < 1.0 else None for nn in names]

    def _longest_group(self, pairs: pd.DataFrame) -> Sequence[Example]:
        """The questions about the training network with the longest prompt, to be scored."""
        rows = group_by_network(pairs["nn"].tolist())
        longest = max(range(len(rows)), key=lambda i: len(self.training[i][0].parts[0].prompt))
        asked = questions_of(pairs.iloc[rows[longest]])
        return self.scorer.encode(asked, self.data.sources, self.encoder).groups[0]

    @cached_property
    def inputs(self) -> tuple[dict[str, str], dict[str, str]]:
        """The sha256 of what the run reads, by name; in the second mapping what older versions did not record."""
        data, base = self.data, self.base
        inputs = {
            "pairs": pairs_hash(data.pairs, data.training, given=tuple(GIVEN)),
            "sources": digest(data.sources),
            "prompt": self.template.hash,
            "base model": base.sha256,
        }
        later = {f"base model's {name.replace('_', ' ')}": sha256 for name, sha256 in base.identity.items()}
        later["dataset facts"] = digest({name: facts.values() for name, facts in data.facts.items()})
        if self.begun:
            inputs["first adapter"] = self.begun["init_from"]["sha256"]
        return inputs, later

    def prepared(self) -> dict[str, str]:
        """What must be the same in all processes of a run, by name: beginnings of hashes, and the engine."""
        inputs, later = self.inputs
        total = hashlib.sha256()
        groups: list[Group] = [*self.training]
        groups += (group for encoded in self._encoded.values() for group in encoded.groups)
        for part in (part for group in groups for one in group for part in one.parts):
            for tokens in (part.prompt, *part.answers):
                total.update(f"{len(tokens)} ".encode() + tokens.tobytes())
        hashes = {**inputs, **later, "questions as tokens": total.hexdigest()}
        return {**{name: sha256[:12] for name, sha256 in hashes.items()}, "engine": self.engine}

    def tune(self, folder: Path, on_epoch: OnEpoch | None = None) -> Path:
        """Train this run's adapter with the configured fine-tuner, which may continue from checkpoints there."""
        tuning = self.config.tuning.model_copy(update={"engine": self.engine})
        config, validation = self.config.model_copy(update={"tuning": tuning}), Validation(self._validate, on_epoch)
        made = Path(finetuners.get(tuning.finetuner)(self.base, self.training, validation, config, folder))
        adapter = inside(folder, ADAPTER)
        if made.resolve() != adapter.resolve():  # a plugin's fine-tuner may write it elsewhere
            with replacing_folder(adapter) as copy:
                shutil.copytree(made, copy, dirs_exist_ok=True)
        if not (adapter / BASE_FILE).is_file():
            write_base_note(adapter, self.base)
        check_base(adapter, self.base)
        return adapter

    def _validate(self, model: Any) -> dict[str, float]:
        predictions = self.predict(model, "validation", 0)
        first = predictions["better_dataset"] == predictions["dataset_1"]
        prior = pair_prior(self.data.part("train"), predictions, self.data.weights)
        return {
            "accuracy": float(predictions["correct"].mean()),
            "log_loss": log_loss(predictions["probability_1"], first),
            "prior_accuracy": accuracy(prior, first),
            "prior_log_loss": log_loss(prior, first),
        }

    def predict(self, model: Any, part: str, epoch: int) -> pd.DataFrame:
        """Predictions of a model for the pairs of a part (`train`, `validation`, `test`)."""
        pairs, encoded = self.data.part(part), self._encode(part)
        if size() > 1:
            rows = ([[g, *range(len(group))]] for g, group in enumerate(encoded.groups))
            amounts = [tokens_of(encoded.groups, row, share=self.engine != "plain") for row in rows]
            encoded = of_networks(encoded, deal(amounts, size())[own_number()])
        with Progress("scoring", sum(map(len, encoded.groups)), unit="questions") as progress:
            odds = self.scorer.score(encoded, model, progress.advance)
        if size() > 1:
            import torch

            every = torch.zeros((len(pairs), 2), dtype=torch.float64)
            every[: len(odds)] = torch.from_numpy(odds)
            add_up(every)
            odds = every.numpy()
        return predicted_pairs(odds, pairs, prompt=self.config.prompt, base_model=self.base.name, tuning_epoch=epoch)

    def score(self, folder: Path) -> tuple[pd.DataFrame, list[dict[str, Any]], int | None]:
        """Validation and test predictions at the selected epoch, the figures of all epochs, and the selected epoch.

        Test pairs are scored only now, after validation has chosen the epoch.
        """
        history = read_history(folder)
        if not history:  # the fine-tuner wrote none: its adapter is all there is
            with adapted(self.base, folder / ADAPTER) as model:
                predictions = [self.predict(model, part, 0) for part in ("validation", "test")]
            return pd.concat(predictions, ignore_index=True), [], None
        selected = select_epoch(history)["epoch"]
        epochs: list[dict[str, Any]] = []
        for entry in history:
            epoch, test_accuracy = entry["epoch"], None
            if epoch == selected or self.config.tuning.test_every_epoch:
                with adapted(self.base, folder / CHECKPOINTS / entry["checkpoint"]) as model:
                    tested = self.predict(model, "test", epoch)
                    if epoch == selected:
                        predictions = [self.predict(model, "validation", epoch), tested]
                test_accuracy = float(tested["correct"].mean())
            figures = {k: entry[k] for k in ("epoch", "train_loss", "validation_accuracy", "validation_log_loss")}
            epochs.append({**figures, "test_accuracy": test_accuracy})
        return pd.concat(predictions, ignore_index=True), epochs, int(selected)

    def describe(self, adapter: Path) -> None:
        """Write beside the adapter how its questions are made, and its answer to a control question."""
        config, data = self.config, self.data
        names = data.pairs.loc[data.pairs["split"] == "train", ["dataset_1", "dataset_2"]]
        note = Note(
            prompt=config.prompt if not config.prompt.endswith(".json") else self.template.name,
            system=self.template.system,
            text=self.template.prompt,
            columns=self.template.columns,
            line=self.template.line,
            offset=config.tuning.offset,
            code_tokens=config.data.code_tokens,
            compact_code=config.data.compact_code,
            epoch=config.data.epoch,
            row_tokens=config.tuning.row_tokens,
            datasets=sorted({str(name) for name in names.to_numpy().ravel()}),
            facts={name: facts.by_name() for name, facts in data.facts.items()},
            recipe=list(data.training["recipe_1"].iloc[0]),
            early_best=data.early_best if self.template.takes(GIVEN["evidence"]) else {},
            early_sides=config.data.evidence.sides,
        )
        if self.prior is not None:
            self.prior.save(adapter)
        seen_in_training(self.template, data, kinds=config.tuning.offset == "kind_prior").save(adapter)
        with adapted(self.base, adapter) as model:
            note.model_copy(update={"known_answer": known_answer(model, self.base, note)}).save(adapter)

    def with_questions(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Predictions with hashes of source and filled prompt, and the values given for each dataset."""
        keys = ["nn", "dataset_1", "dataset_2"]
        questions = questions_of(predictions[keys].merge(self.data.pairs, on=keys, how="left", validate="one_to_one"))
        sources = self.data.sources
        hashes = {nn: text_digest(sources[nn]) for nn in predictions["nn"].unique()}
        given = [given_texts(self.template, question, self.data.facts) for question in questions]
        return predictions.assign(
            source=predictions["nn"].map(hashes),
            cut=predictions["nn"].isin(self.encoder.cut_networks()),
            source_tokens=predictions["nn"].map(self.encoder.source_tokens()).astype("Int64"),
            prompt_sha256=[filled_digest(self.template, q, sources[q.nn], self.data.facts) for q in questions],
            given_1=[one for one, _ in given],
            given_2=[two for _, two in given],
        )


def prior_table(data: PairData, *, kinds: bool) -> Prior:
    """The log-odds of the training pairs' pair prior, and if asked of their kind prior, for each dataset pair."""
    train = data.part("train")
    names = ["dataset_1", "dataset_2"]
    pairs = train.drop_duplicates(names).sort_values(names)

    def table(probabilities: Any) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for one, two, value in zip(pairs[names[0]], pairs[names[1]], logit(probabilities).tolist(), strict=True):
            found.setdefault(one, {})[two] = value
        return found

    def of_kind(kind: str) -> Any:
        nn = f"any network of kind {kind}"  # which is no network's name
        return kind_prior(train, pairs.assign(nn=nn), {**data.kinds, nn: kind}, data.weights)

    known = sorted({data.kinds[nn] for nn in set(train["nn"]) & data.kinds.keys()}) if kinds else []
    common = table(pair_prior(train, pairs, data.weights))
    return Prior(log_odds=common, kinds={kind: table(of_kind(kind)) for kind in known})


def calibrated(predictions: pd.DataFrame, adapter: Path, target: float, *, unseen: bool = False) -> pd.DataFrame:
    """Fit the calibration on the validation pairs, write it beside the adapter, and add its columns.

    `unseen` says that these pairs, and those of the test, have a dataset that was held out from training. Without
    validation pairs, the predictions are returned unchanged.
    """
    validation = predictions[predictions["split"] == "validation"]
    if validation.empty:
        return predictions
    first_wins = (validation["better_dataset"] == validation["dataset_1"]).to_numpy()
    found = fit_calibration(validation["log_odds"].to_numpy(), first_wins, validation["nn"].to_numpy(), target)
    found = found.model_copy(update={"unseen": unseen})
    found.save(adapter)
    return with_calibration(predictions, found, read_note(adapter).datasets)
