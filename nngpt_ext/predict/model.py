"""The part of a predictor that needs torch: base model, adapter, scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nngpt_ext.batches.encode import Encoder
from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.errors import UserError
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.models.base import check_base, load_base, quiet_transformers
from nngpt_ext.predict.note import WEIGHTS, AdapterFiles
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import EncodedPairs, encode_pairs, pair_log_odds


class AskedModel:
    """A base model with an adapter, loaded.

    Raises:
        UserError: for an unreachable or another base, and for a damaged adapter.
    """

    def __init__(self, files: AdapterFiles, base: str) -> None:
        self._note, self._folder = files.note, files.folder
        self._loaded = load_base(base, load_in_4bit=files.load_in_4bit)
        from peft import PeftModel  # only now: it brings bitsandbytes, whose warnings load_base keeps off the terminal

        check_base(files.folder, self._loaded)
        try:
            with quiet_transformers():
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

    @property
    def model(self) -> Any:
        """The base model with the adapter."""
        return self._model

    def encode(
        self, questions: Sequence[Question], sources: Mapping[str, str], facts: Mapping[str, DatasetFacts]
    ) -> EncodedPairs:
        """Questions as tokens, in both orders; arguments as of `log_odds`."""
        note = self._note
        renderer = Renderer(
            note.template,
            self._loaded.tokenizer,
            code_tokens=note.code_tokens,
            compact=note.compact_code,
            facts=facts,
        )
        return encode_pairs(Encoder(renderer, sources, self._loaded.context, note.row_tokens), questions)

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
        encoded = self.encode(questions, sources, facts)
        if self._engine is None:
            longest = max(encoded.groups, key=lambda group: len(group[0].prompt))
            self._engine = checked_engine(
                self._model, [scoring_example(one) for one in longest], encoded.pad, "shared",
                min(self._loaded.context, self._note.row_tokens),
            )  # fmt: skip
        odds = pair_log_odds(self._model, encoded, row_tokens=self._note.row_tokens, engine=self._engine)
        if not np.isfinite(odds).all():
            raise UserError(
                f"the adapter in '{self._folder}' gives scores that are no numbers; fetch or train it again"
            )
        return odds


def _all_there(model: Any, file: Path) -> None:
    """See that the file holds every weight of the adapter: PEFT leaves those that it lacks as they were drawn."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        missing = set(get_peft_model_state_dict(model, save_embedding_layers=False)) - set(weights.keys())
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {min(missing)}")
