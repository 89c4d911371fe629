"""The table of families: what joins networks, and how families are numbered."""

from __future__ import annotations

import pandas as pd

from nngpt_ext.compact import compact_code
from nngpt_ext.io import text_digest
from research.lineage import architectures, lineage_table

NET = "class Net:\n    def forward(self, x):\n        return [{}]\n"
BODY = {
    "channels": 3,
    "parameters": 110,
    "classifier_parameters": 10,
    "convolutions": 2,
    "linear": 1,
    "normalisations": 0,
}


def source(word: str) -> str:
    return NET.format(", ".join(f"{word}{i}" for i in range(30)))


def test_what_joins_networks() -> None:
    sources = {"AirNet-1": source("a"), "AirNet-2": source("b"), "rag-1": source("c"), "rag-2": source("d")}
    sources |= {"ga-1": f"# {source('e')!r}\n{source('e')}", "ga-2": source("e")}
    keys = {nn: text_digest(compact_code(text)) for nn, text in sources.items()}
    rows = [{**BODY, "source": keys["rag-1"]}, {**BODY, "source": keys["AirNet-1"], "classifier_parameters": 10}]
    rows += [{**BODY, "source": keys["rag-2"], "parameters": 111}, {**BODY, "source": keys["ga-1"], "parameters": None}]
    table = lineage_table(sources, architectures(pd.DataFrame(rows))).to_pandas()
    number = {level: dict(zip(table["key"], table[level], strict=True)) for level in ("near", "strict")}
    near, strict = ({nn: number[level][key] for nn, key in keys.items()} for level in ("near", "strict"))
    assert near["ga-1"] == near["ga-2"]  # the same but for a comment
    assert len(set(near.values())) == 5
    assert strict["AirNet-1"] == strict["AirNet-2"] == strict["rag-1"]  # by their name, and by their architecture
    assert len(set(strict.values())) == 3
    assert len(table) == len(set(table["text"])) == 6
    assert table["key"].is_monotonic_increasing
    assert set(table["origin"]) == {"AirNet", "rag", "ga"}


def test_an_architecture_is_what_is_outside_the_classifier() -> None:
    rows = [{**BODY, "source": "a"}, {**BODY, "source": "b", "parameters": 120, "classifier_parameters": 20}]
    rows += [{**BODY, "source": "c", "channels": 1}, {**BODY, "source": "d", "parameters": 0}]
    found = architectures(pd.DataFrame(rows))
    assert found["a"] == found["b"] != found["c"]
    assert "d" not in found
