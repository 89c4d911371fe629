"""The part of a predictor that needs torch: base model, adapter, scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import LOADING, check_base, load_base, quiet_transformers
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.run_folder import WEIGHTS
from nngpt_ext.scoring.scorer import LocalScorer


class AdaptedModel:
    """A base model with an adapter, loaded, and the scorer on it.

    Args:
        files: of the adapter.
        base: where the base model is.
        facts: facts about all datasets that are asked about.

    Raises:
        UserError: for an unreachable or another base, for a damaged adapter, and for one that answers the question
            that was kept with it otherwise than when it was written.
    """

    def __init__(self, files: AdapterFiles, base: str, facts: Mapping[str, DatasetFacts]) -> None:
        self.base = load_base(base, load_in_4bit=files.load_in_4bit)
        with LOADING:
            from peft import PeftModel  # only now: it brings bitsandbytes, whose warnings load_base silences

        check_base(files.folder, self.base)
        try:
            with LOADING, quiet_transformers():
                warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, in `_all_there`
                self.model: Any = PeftModel.from_pretrained(self.base.model, str(files.folder))  # type: ignore[arg-type]
            _all_there(self.model, files.folder / WEIGHTS)
        except Exception as error:  # safetensors, peft and torch raise of all kinds
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the adapter in '{files.folder}' is damaged ({type(error).__name__}: {reason}); "
                "fetch or train it again"
            ) from None
        self.model.eval()
        self._check_control_question(files)
        self.scorer = LocalScorer(self.base, files.note.template, files.note.budget, facts, self.model)

    def _check_control_question(self, files: AdapterFiles) -> None:
        known = files.note.known_answer
        if known is None:
            return
        found = known.ask(self.model, self.base, files.note)
        if not known.is_answered_by(found, self.base):
            now, then = (", ".join(f"{value:.6g}" for value in values) for values in (found, known.log_odds))
            raise UserError(
                f"the adapter in '{files.folder}' answers its control question with log-odds {now}; when it was "
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
