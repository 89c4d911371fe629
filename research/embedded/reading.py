"""How well frozen base models read lines of numbers, by invented rules that they have not learnt.

python -m research.embedded.reading --out benchmarks/results/reading.json
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.models.base import load_base
from nngpt_ext.prompts.builtin import get_template
from research.embedded.lessons import PARTS
from research.embedded.questions import invented_recipe
from research.embedded.rules import Line, Lines, Rules

BASES = ("embedded", "embedded-2")
SHOWN = ("structure", "recipe_structure", "recipe_structure_evidence")
FITTED, TESTED = 650, 250  # lines


def explained(base: Any, shown: str, seed: int = 1020) -> float:
    """The share of the variance of 128 rules that ridge regression on a line's last state explains on fresh lines.

    Args:
        base: a base model; it is not trained.
        shown: what a line shows, a name in `PARTS`.
        seed: of the rules.
    """
    lines, names = Lines(random.Random(7)), sorted(LEMUR_FACTS)
    drawn = [
        lines.draw(names[i % len(names)], PARTS[shown], invented_recipe(lines.rng)) for i in range(FITTED + TESTED)
    ]
    states, wanted = last_states(base, drawn), Rules(names, drawn, seed)(drawn)
    said = Ridge(alpha=3.0).fit(states[:FITTED], wanted[:FITTED]).predict(states[FITTED:])
    left = ((said - wanted[FITTED:]) ** 2).mean(0) / wanted[FITTED:].var(0)
    return 1.0 - float(left.mean())


def last_states(base: Any, lines: list[Line]) -> np.ndarray:
    """The last hidden state of each line behind the line prompt with a short source, shape (lines, width)."""
    import torch

    form = get_template("recipe_structure").lines
    assert form is not None
    head = f"{form.system}\n\n{form.prompt}\n".replace("{nn_code}", "import torch").replace("{epoch}", "5")
    states = []
    with torch.no_grad():
        for one in lines:
            ids = base.tokenizer(f"{head}{one.name}: {one.text}\n", return_tensors="pt")["input_ids"]
            states.append(base.model.model(input_ids=ids).last_hidden_state[0, -1].float().numpy())
    return np.array(states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="write the figures to this file")
    given = parser.parse_args()
    found = {name: {shown: explained(load_base(name), shown) for shown in SHOWN} for name in BASES}
    given.out.write_text(json.dumps({"fitted": FITTED, "tested": TESTED, "explained": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
