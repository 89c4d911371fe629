"""Options of commands that say which pairs are meant, and from which records."""

from __future__ import annotations

from typing import Annotated

import typer

from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.lineage import LEVELS
from nngpt_ext.data.sources.discovery import KINDS
from nngpt_ext.data.splits import SPLITS
from nngpt_ext.data.trials import USES

Epoch = Annotated[int, typer.Option(min=1, max=10**6, help="Training epoch at which accuracies are compared.")]
Label = Annotated[str, typer.Option(help=LABELS.help("What is compared"))]
LemurPath = Annotated[str | None, typer.Option(help="Folder ab/nn, database ab.nn.db, or table of trials.")]
Source = Annotated[str, typer.Option(help=KINDS.help("Where records are read from"))]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the split and of seeded trials.")]
TrialsOf = Annotated[str, typer.Option(help=USES.help("Trials that training pairs are made of"))]
Split = Annotated[str, typer.Option(help=SPLITS.help("Who trains and who tests"))]
HoldOut = Annotated[str | None, typer.Option(help="The origin that by_origin tests on.")]
Fold = Annotated[int | None, typer.Option(min=0, help="The fold that by_family or by_dataset tests on, from 0.")]
Folds = Annotated[int, typer.Option(min=2, max=100, help="How many folds by_family has.")]
Evidence = Annotated[list[int] | None, typer.Option(help="With accuracies at this earlier epoch; may be repeated.")]
FamilyLevel = Annotated[str, typer.Option(help=LEVELS.help("What makes a family in by_family"))]
