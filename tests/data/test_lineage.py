"""Families and kinds: what ships for LEMUR, how other networks join, and names and comments that change nothing."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest

from nngpt_ext.compact import compact_code
from nngpt_ext.data.families import clusters, signatures
from nngpt_ext.data.lineage import (
    ALIKE,
    KINDS,
    LEVELS,
    families,
    giants,
    is_known,
    kinds,
    known_lineage,
    origin,
    source_keys,
)
from nngpt_ext.io import text_digest


def test_keys_are_those_of_the_compacted_sources(lemur_sources: dict[str, str]) -> None:
    keys = source_keys(lemur_sources)
    assert all(is_known(key) for key in keys.values())
    for nn in sorted(lemur_sources)[::50]:
        assert keys[nn] == text_digest(compact_code(lemur_sources[nn]))
    some = dict(list(lemur_sources.items())[:5])
    assert source_keys({nn: f"{text}\n# a comment\n" for nn, text in some.items()}) == source_keys(some)


def test_known_families_are_those_of_the_sources(lemur_sources: dict[str, str]) -> None:
    """The table's near families are the components that anyone can compute; strict ones join them further."""
    names = sorted(lemur_sources)
    numbers = clusters(signatures(lemur_sources, names, compact=True))
    found = families(lemur_sources, "near")
    assert (
        len(set(found.values()))
        == len(set(numbers))
        == len({(found[nn], n) for nn, n in zip(names, numbers, strict=True)})
    )
    strict = families(lemur_sources, "strict")
    assert len({(found[nn], strict[nn]) for nn in names}) == len(set(found.values()))  # a near family is in one


def test_sizes_are_pinned(lemur_sources: dict[str, str]) -> None:
    near, strict = (Counter(families(lemur_sources, level).values()) for level in LEVELS)
    assert sorted(near.values(), reverse=True)[:4] == [1118, 487, 35, 9]
    assert len(near) == 205
    assert sorted(strict.values(), reverse=True)[:4] == [1612, 156, 37, 23]
    assert len(strict) == 60
    assert len(giants(families(lemur_sources, "near"))) == 2


def test_strict_joins_origins_and_architectures(lemur_sources: dict[str, str]) -> None:
    strict = families(lemur_sources, "strict")
    by_origin: dict[str, set[str]] = {}
    for nn, own in strict.items():
        by_origin.setdefault(origin(nn), set()).add(own)
    named = {name: own for name, own in by_origin.items() if name not in ("rag", "alt", "ga", "ast")}
    assert len(named) > 20
    assert all(len(own) == 1 for own in named.values())


def test_kinds_of_lemur_are_pinned(lemur_sources: dict[str, str]) -> None:
    found = kinds(lemur_sources, set(lemur_sources))
    assert Counter(found.values()) == {"giant": 1605, "rag": 173, "named": 86, "alt": 41, "FractalNet": 37}
    assert set(found.values()) == set(KINDS)


NET = """
class Net(nn.Module):
    def __init__(self, in_shape, out_shape, prm, device):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(in_shape[1], {width}, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear({width}, out_shape[0])
"""


@pytest.mark.parametrize("level", LEVELS)
def test_others_join_the_networks_they_are_similar_to(lemur_sources: dict[str, str], level: str) -> None:
    some = {nn: lemur_sources[nn] for nn in sorted(lemur_sources)[::40]}
    model = sorted(some)[0]
    others = {"mine": some[model] + "\nextra = 1\n", "alone": NET.format(width=64), "twin": NET.format(width=64)}
    found = families({**some, **others}, level)
    assert found["mine"] == found[model]
    assert found["alone"] == found["twin"] != found[model]
    assert {nn: found[nn] for nn in some} == families(some, level) | {
        nn: found[nn] for nn in some if found[nn] == found[model]
    }


def test_kinds_of_others(lemur_sources: dict[str, str]) -> None:
    some = {nn: lemur_sources[nn] for nn in sorted(lemur_sources)[::40]}
    known = kinds(some, set(some))
    model = next(nn for nn, kind in known.items() if kind == "rag")
    others = {
        "mine": some[model] + "\nextra = 1\n",  # similar to a rag network
        "alone": NET.format(width=64),  # to none
        "alt-0123": NET.format(width=65),  # a name of LEMUR's
        "AirNet-9": NET.format(width=66),
        "ga-x": NET.format(width=67),
    }
    found = kinds({**some, **others}, set(some))
    assert {nn: found.get(nn) for nn in others} == {
        "mine": "rag", "alone": None, "alt-0123": "alt", "AirNet-9": "named", "ga-x": "giant"
    }  # fmt: skip
    assert "mine" not in kinds({**some, **others}, set())  # only training networks lend their kind
    assert kinds({"alone": others["alone"]}, {"alone"}) == {}


def test_the_table_is_whole() -> None:
    table = pd.DataFrame(known_lineage())
    assert table["text"].is_unique
    assert set(table["kind"]) == set(KINDS)
    for level in LEVELS:
        assert (table.groupby("key")[level].nunique() == 1).all()
    assert (table.groupby("near")["strict"].nunique() == 1).all()
    assert LEVELS["near"].threshold > ALIKE
