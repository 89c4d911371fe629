"""A split, a label, a baseline and a prompt field, declared before anything reads the declarations.

`python -m tests.made_up '[["pairs", "--help"], …]'` runs commands with them and prints what each wrote, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from nngpt_ext.data.labels import LABELS, Label
from nngpt_ext.data.splits import SPLITS, Split, SplitRequest


def _fifth(request: SplitRequest) -> dict[str, str]:
    number = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 for name in request.names}
    return {name: {0: "test", 1: "validation"}.get(n, "train") for name, n in number.items()}


SPLITS["every_fifth"] = Split("every_fifth", "every fifth network tests", _fifth, "Fifths are arbitrary.")
LABELS["raw"] = Label("raw", "the plain accuracy", lambda chosen, *_: chosen["accuracy"].to_numpy())

from nngpt_ext.evaluation.baselines import BASELINES, Baseline  # noqa: E402
from nngpt_ext.prompts.fields import COLUMNS, FIELDS, PromptField  # noqa: E402

BASELINES["first_name"] = Baseline("first_name", "always the first name", lambda data: np.ones(len(data.part("test"))))
FIELDS["characters"] = PromptField(
    "characters", "the number of characters of the source", ("characters",), lambda shown, _: len(shown.source or "")
)
COLUMNS["characters"] = (FIELDS["characters"], 0)

if __name__ == "__main__":
    from typer.testing import CliRunner

    from nngpt_ext.cli import app

    commands = json.loads(sys.argv[1])
    print(json.dumps([CliRunner().invoke(app, command, catch_exceptions=False).stdout for command in commands]))
