"""`task.json` in an adapter's folder: how its questions are asked, and its control question.

Weights that were loaded wrongly, or damaged later, still answer every question. An adapter is therefore stored with
one fixed question and its answer, the control question, and is used only if it gives that answer again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from nngpt_ext.data.evidence import SIDES, epochs_of
from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts, Fact, facts_of
from nngpt_ext.data.trials import RECIPE as FIELDS
from nngpt_ext.declaration import choice
from nngpt_ext.io import digest, write_text
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.template import Template, checked
from nngpt_ext.run_folder import TASK, read_adapter_file
from nngpt_ext.scoring.scorer import Budget, LocalScorer
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base

SOURCE = """\
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_shape[1], 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(8, out_shape[0])

    def forward(self, x):
        return self.classifier(self.layers(x))
"""
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
ACCURACIES = (0.75, 0.5)
# Absolute tolerance, and tolerance relative to the known log-odds. On one kind of device, fp32 sums differ by 1e-5 with
# the number of threads or the CPU. A bf16 log-probability of a large model may differ by 0.3 from the fp32 one, and
# log-odds are the difference of two. Other devices also round some weights to 4 bits differently.
SAME, OTHER = (1e-3, 1e-3), (0.6, 0.1)


class KnownAnswer(Stage):
    """The control question, stored whole so that it is the same in every version of the package, and its answer."""

    source: str
    datasets: tuple[str, str]
    facts: dict[str, tuple[int, int, int, int] | dict[str, Fact]] = Field(
        description="of the two datasets when the adapter was written"
    )
    recipe: dict[str, Any]
    accuracies: tuple[float, float]
    structure: dict[str, int] = Field({"parameters": 314, "layers": 2, "last_map": 30}, description="of `SOURCE`")
    log_odds: tuple[float, float] = Field(description="of the first dataset, in each order of the names")
    device: str = Field(description="kind of device that computed them")
    dtype: str = Field(description="data type that they were computed in")

    def ask(self, model: Any, base: Base, note: Note) -> np.ndarray:
        """The log-odds that the model computes now, shape (2,)."""
        facts = {name: facts_of(name, values) for name, values in self.facts.items()}
        # The plain engine does not depend on the model, the device or earlier questions.
        scorer = LocalScorer(base, note.template, replace(note.budget, engine="plain"), facts, model)
        question = Question.of(
            "network", *self.datasets, note.epoch, norm_acc=self.accuracies, recipe=(self.recipe,) * 2,
            structure=(Structure(**self.structure),) * 2,
            evidence=[dict.fromkeys(note.early_epochs, accuracy) for accuracy in self.accuracies],
        )  # fmt: skip
        return np.asarray(scorer.log_odds([question], {"network": self.source})[0])

    def is_answered_by(self, log_odds: np.ndarray, base: Base) -> bool:
        """Whether log-odds computed on this base model equal the known ones up to rounding."""
        same = (self.device, self.dtype) == _place(base) and self.dtype == "float32"
        absolute, relative = SAME if same else OTHER
        return bool(np.allclose(log_odds, self.log_odds, rtol=relative, atol=absolute))


def known_answer(model: Any, base: Base, note: Note) -> KnownAnswer:
    """The control question about an adapter's first two datasets, with the answer of `model`, the base with it."""
    one, two = sorted(note.datasets)[:2]
    known = note.known_facts()
    device, dtype = _place(base)
    control = KnownAnswer(
        source=SOURCE, datasets=(one, two), facts={name: known[name].by_name() for name in (one, two) if name in known},
        recipe={name: RECIPE.get(name) for name in note.recipe}, accuracies=ACCURACIES,
        log_odds=(0.0, 0.0), device=device, dtype=dtype,
    )  # fmt: skip
    return control.model_copy(update={"log_odds": tuple(control.ask(model, base, note).tolist())})


def _place(base: Base) -> tuple[str, str]:
    """The kind of device of a base model, and the data type that it computes in."""
    return base.device.type, str(base.model.dtype).removeprefix("torch.")


class Note(Stage):
    """`task.json` in an adapter's folder: how its questions are asked."""

    prompt: str
    system: str
    text: str
    columns: dict[str, str]
    line: str | None = Field(None, description="a dataset's line; None if answers are names (tuning.head)")
    offset: Literal["none", "pair_prior", "kind_prior"] = "none"
    code_tokens: int = Field(ge=0)
    compact_code: bool
    epoch: int = Field(ge=1, description="epoch of the trials that it was trained on")
    row_tokens: int = Field(ge=64)
    datasets: list[str] = Field(description="the datasets that it was trained on")
    facts: dict[str, dict[str, Fact]] = Field({}, description="of the datasets in its records; empty in older adapters")
    recipe: list[str] = Field(
        list(FIELDS), description="fields of the recipes in its records; LEMUR's in older adapters"
    )
    early_best: dict[str, dict[int, float]] = Field(
        {}, description="by dataset and epoch, what early accuracies are divided by; empty for a prompt without them"
    )
    early_sides: Annotated[str, AfterValidator(SIDES.check)] = choice("both", "of early accuracies in training", SIDES)
    known_answer: KnownAnswer | None = Field(None, description="None in older adapters, which are not checked")

    @model_validator(mode="after")
    def _check_template(self) -> Note:
        checked(self.template)
        return self

    @property
    def template(self) -> Template:
        """The prompt."""
        return Template(self.prompt, self.system, self.text, self.columns, self.line)

    @property
    def prompt_hash(self) -> str:
        """Hash of everything but the question that a prompt depends on: template, budget and epoch."""
        text = [self.system, self.text, self.columns, self.code_tokens, self.compact_code, self.epoch]
        # An older adapter, which has none of these, keeps its hash.
        more = (self.line, self.early_best, self.recipe if self.recipe != list(FIELDS) else None)
        return digest([*text, *(part for part in more if part)])

    @property
    def early_epochs(self) -> list[int]:
        """The epochs whose accuracies its questions show."""
        return epochs_of(self.early_best)

    @property
    def budget(self) -> Budget:
        """How much of a source is shown, and how questions are computed."""
        return Budget(self.code_tokens, self.compact_code, self.row_tokens)

    def known_facts(self) -> dict[str, DatasetFacts]:
        """Facts about the datasets in its records; LEMUR's for an older adapter, which stores none."""
        return {name: facts_of(name, values) for name, values in self.facts.items()} or dict(LEMUR_FACTS)

    def save(self, folder: Path) -> None:
        """Write it to an adapter's folder."""
        write_text(folder / TASK, self.model_dump_json(indent=2) + "\n")


def read_note(folder: Path) -> Note:
    """Read `task.json` in an adapter's folder.

    Raises:
        UserError: if it is missing or damaged.
    """
    return read_adapter_file(folder, TASK, Note)
