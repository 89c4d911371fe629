"""A base with random weights differs from its original in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from nngpt_ext.models.base import base_folder, load_base
from nngpt_ext.models.identity import base_hash, base_identity
from research.random_weights import write_random
from tests import models_made


def test_only_the_weights_differ(tmp_path: Path) -> None:
    original = models_made.folder("llama")
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        write_random(str(original), tmp_path / name, seed)
    one, again, other = (base_hash(base_folder(str(tmp_path / name))) for name in ("one", "again", "other"))
    assert one == again != other
    assert one != base_hash(original)
    found, before = base_identity(tmp_path / "one"), base_identity(original)
    assert {kind for kind in found if found[kind] != before[kind]} == {"configuration"}  # of the deviation
    random, real = load_base(str(tmp_path / "one"), load_in_4bit=False), models_made.base("llama")
    shapes, theirs = ({n: p.shape for n, p in base.model.named_parameters()} for base in (random, real))
    assert shapes == theirs
    assert random.model.model.embed_tokens.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
