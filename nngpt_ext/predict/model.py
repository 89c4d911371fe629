"""The part of a predictor that needs torch: base model, adapter, scores."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nngpt_ext.batches.encode import Encoder
from nngpt_ext.batches.guard import checked_engine
from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.errors import UserError
from nngpt_ext.lemur.facts import DatasetFacts
from nngpt_ext.models.load import LOADING, check_base, load_base, quiet_transformers
from nngpt_ext.predict.note import WEIGHTS, AdapterFiles
from nngpt_ext.prompts.render import Question
from nngpt_ext.scoring.predictions import EncodedPairs, encode_pairs, pair_log_odds


class AskedModel:
    """A base model with an adapter, loaded. One thread at a time computes with it; the others wait.

    Raises:
        UserError: for an unreachable or another base, for a damaged adapter, and for one that answers the question
            that was kept with it otherwise than when it was written.
    """

    def __init__(self, files: AdapterFiles, base: str) -> None:
        self._note, self._folder = files.note, files.folder
        self._loaded = load_base(base, load_in_4bit=files.load_in_4bit)
        with LOADING:
            from peft import PeftModel  # only now: it brings bitsandbytes, whose warnings load_base silences

        check_base(files.folder, self._loaded)
        try:
            with LOADING, quiet_transformers():
                warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, in `_all_there`
                self._model: Any = PeftModel.from_pretrained(self._loaded.model, str(files.folder))  # type: ignore[arg-type]
            _all_there(self._model, files.folder / WEIGHTS)
        except Exception as error:  # safetensors, peft and torch raise of all kinds
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the adapter in '{files.folder}' is damaged ({type(error).__name__}: {reason}); "
                "fetch or train it again"
            ) from None
        self._model.eval()
        self._engine: str | None = None
        self._computing = threading.RLock()  # neither the model's engine nor a fast tokenizer is for two at once
        self._check_known_answer()

    @property
    def model(self) -> Any:
        """The base model with the adapter."""
        return self._model

    def encode(
        self, questions: Sequence[Question], sources: Mapping[str, str], facts: Mapping[str, DatasetFacts]
    ) -> EncodedPairs:
        """Questions as tokens, in both orders; arguments as of `log_odds`."""
        with self._computing:
            renderer = self._note.renderer(self._loaded.tokenizer, facts)
            return encode_pairs(Encoder(renderer, sources, self._loaded.context, self._note.row_tokens), questions)

    def log_odds(
        self, questions: Sequence[Question], sources: Mapping[str, str], facts: Mapping[str, DatasetFacts]
    ) -> np.ndarray:
        """Log-odds of dataset_1 in each order of the names, shape (questions, 2).

        Args:
            questions: `nn` of each is a key of `sources`; those about a network are computed together.
            sources: the sources.
            facts: of all datasets that are asked about.

        Raises:
            UserError: when a score is no finite number, for then the weights are damaged.
        """
        with self._computing:
            encoded = self.encode(questions, sources, facts)
            if self._engine is None:
                longest = max(encoded.groups, key=lambda group: len(group[0].prompt))
                self._engine = checked_engine(
                    self._model, [scoring_example(one) for one in longest], encoded.pad, "shared",
                    min(self._loaded.context, self._note.row_tokens),
                )  # fmt: skip
            odds = pair_log_odds(self._model, encoded, row_tokens=self._note.row_tokens, engine=self._engine)
        return self._finite(odds)

    def _finite(self, odds: np.ndarray) -> np.ndarray:
        if not np.isfinite(odds).all():
            raise UserError(
                f"the adapter in '{self._folder}' gives scores that are no numbers; fetch or train it again"
            )
        return odds

    def _check_known_answer(self) -> None:
        known = self._note.known_answer
        if known is None:
            return
        found = self._finite(known.asked_again(self._model, self._loaded, self._note))
        if not known.is_answered_by(found, self._loaded):
            now, then = (", ".join(f"{value:.6g}" for value in values) for values in (found, known.log_odds))
            raise UserError(
                f"the adapter in '{self._folder}' answers its control question with log-odds {now}; when it was "
                f"written ({known.device}, {known.dtype}) they were {then}: its files or the loaded model are damaged; "
                "start Python again, and if that does not help, fetch or train the adapter again"
            )


def _all_there(model: Any, file: Path) -> None:
    """See that the file holds every weight of the adapter: PEFT leaves those that it lacks as they were drawn."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        missing = set(get_peft_model_state_dict(model, save_embedding_layers=False)) - set(weights.keys())
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {min(missing)}")
