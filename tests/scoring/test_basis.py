"""What an answer rests on, compared with what training saw: real pairs, real networks."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngpt_ext.compact import compact_code
from nngpt_ext.data.families import shingles
from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.errors import UserError
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Side
from nngpt_ext.prompts.structures import with_structures
from nngpt_ext.scoring.basis import Basis, Compared, Seen, read_seen, seen_in_training

ALEXNET = (Path(__file__).parents[2] / "examples" / "alexnet.py").read_text()
TEMPLATE = get_template("recipe_structure")
RECIPE = {"lr": 0.3, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}


@pytest.fixture(scope="module")
def data(lemur_source: PackageSource) -> PairData:
    """All real pairs, with the structures that the package ships."""
    loaded = load_pairs(DataConfig(source="package", path=str(lemur_source.location)))
    return with_structures(loaded, TEMPLATE, "never")


@pytest.fixture(scope="module")
def seen(data: PairData) -> Seen:
    return seen_in_training(TEMPLATE, data)


def basis(seen: Seen, data: PairData, source: str = ALEXNET, **changes: Any) -> Basis:
    structure = Structure(parameters=57_044_810, layers=8, last_map=2)
    given = {"recipe": RECIPE | changes, "structure": structure}
    return seen.basis(TEMPLATE, source, [Side("cifar-10", given), Side("svhn", given)], data.facts)


def test_in_words(seen: Seen, data: PairData) -> None:
    assert basis(seen, data, lr=3.0).lines() == [
        "Source: most like alt-nn1-16e210d5b07904dcb6e785a44dd8a3e8 among 1,360 training networks (similarity 0.27); "
        "kind none: unlike any network in training.",
        "Structure: parameters 57M, more than in 88 % of training; layers 8, as usual in training; last map 2, less "
        "than in 96 % of training.",
        "Recipe: lr 3, above all in training (1.02e-05 to 0.996); batch 64, more than in 64 % of training; momentum "
        "0.9, more than in 89 % of training; dropout not given; pace 0.469, more than in 99 % of training; resolution "
        "32, less than in 84 % of training.",
    ]


def test_the_nearest_network_and_its_kind(seen: Seen, data: PairData) -> None:
    trained = sorted(data.training["nn"].unique())
    tested = sorted(data.part("test")["nn"].unique())
    for nn in trained[::150]:
        found = basis(seen, data, data.sources[nn])
        assert found.similarity == 1.0
        assert found.kind == data.kinds[nn]
    kinds = [basis(seen, data, data.sources[nn]).kind for nn in tested[::40]]
    assert kinds == [data.kinds.get(nn) for nn in tested[::40]]
    assert sum(seen.kinds.values()) == seen.networks == len(trained) == 1360


def test_the_similarity_is_that_of_the_shingles(seen: Seen, data: PairData) -> None:
    for nn in sorted(data.part("test")["nn"].unique())[::40]:
        found = basis(seen, data, data.sources[nn])
        one, other = (shingles(compact_code(data.sources[name])) for name in (nn, found.nearest or ""))
        assert found.similarity == pytest.approx(len(one & other) / len(one | other), abs=0.15)


def test_a_kind_that_training_did_not_have(seen: Seen, data: PairData) -> None:
    without = seen.model_copy(update={"kinds": {"rag": 3}})
    found = basis(without, data, data.sources["AlexNet"])
    assert found.lines()[0].endswith("(similarity 1.00); kind giant, of which training had none.")
    assert basis(seen, data, data.sources["AlexNet"]).lines()[0].endswith("; kind giant, as 1,125 of them.")


def test_shares_are_those_of_the_training(seen: Seen, data: PairData) -> None:
    sides = {
        (row[0], row[1], tuple(sorted(row[2].items()))): row[2]["lr"]
        for i in (1, 2)
        for row in data.training[["nn", f"dataset_{i}", f"recipe_{i}"]].itertuples(index=False, name=None)
    }
    rates = np.array(list(sides.values()))
    for lr in (1e-4, 0.004, 0.01, 0.05):
        one = basis(seen, data, lr=lr).numbers["lr"]
        assert one is not None
        assert one.below == pytest.approx((rates < lr).mean(), abs=0.015)
        assert one.above == pytest.approx((rates > lr).mean(), abs=0.015)
        assert one.training == pytest.approx((rates.min(), rates.max()), rel=1e-5)


@pytest.fixture(scope="module")
def own(data: PairData) -> Seen:
    """Of real pairs whose recipes have further fields, one with numbers as text."""
    training = data.training.copy()
    for i in (1, 2):
        training[f"recipe_{i}"] = [
            recipe
            | {"warmup": n % 5, "decay": str(n % 3 / 100), "optimizer": ("adam", "sgd")[n % 2], "ema": n % 2 == 0}
            for n, recipe in enumerate(training[f"recipe_{i}"])
        ]
    return seen_in_training(TEMPLATE, dataclasses.replace(data, training=training))


def test_fields_of_ones_own(own: Seen, data: PairData) -> None:
    usual = basis(own, data, warmup="3", decay=0.01, optimizer="sgd", ema=True)
    assert usual.new == {}
    assert {name: str(one) for name, one in usual.fields.items()} == {
        "decay": "0.01, as usual in training",
        "warmup": "3, more than in 60 % of training",
    }
    strange = basis(own, data, warmup=50, optimizer="lion", ema="maybe", transform="norm_33")
    assert strange.fields["decay"] is None
    assert strange.new == {"ema": ["maybe"], "optimizer": ["lion"], "transform": ["norm_33"]}
    assert strange.lines()[-1].endswith(
        "; decay not given; warmup 50, above all in training (0 to 4); ema maybe, never in training; optimizer lion, "
        "never in training; transform norm_33, never in training."
    )


def test_a_number_where_training_has_texts(own: Seen, data: PairData) -> None:
    assert basis(own, data, optimizer=3).new == {"optimizer": ["3"]}


def test_an_older_adapter_knows_no_texts(own: Seen, data: PairData) -> None:
    older = own.model_copy(update={"fields": {}, "texts": None})
    assert basis(older, data, optimizer="lion", warmup=50).new == {}


@pytest.mark.parametrize(
    ("compared", "words"),
    [
        (Compared(0.3, 0.3, 1.0, 0.0, (1e-4, 0.1)), "0.3, above all in training (0.0001 to 0.1)"),
        (Compared(4, 8, 0.0, 1.0, (16, 512)), "4 to 8, below all in training (16 to 512)"),
        (Compared(8, 64, 0.0, 0.3, (16, 512)), "8 to 64, partly outside the training (16 to 512)"),
        (Compared(61e6, 61.4e6, 0.93, 0.05, (1e3, 9e8)), "61M, more than in 93 % of training"),
        (Compared(32, 64, 0.02, 0.8, (28, 512)), "32 to 64, less than in 80 % of training"),
        (Compared(32, 64, 0.3, 0.4, (28, 512)), "32 to 64, as usual in training"),
    ],
)
def test_each_place_has_its_words(compared: Compared, words: str) -> None:
    assert str(compared) == words


def test_only_what_the_prompt_shows_is_told(data: PairData) -> None:
    shown = {name: seen_in_training(get_template(name), data) for name in ("code_only", "structure", "metadata_only")}
    assert list(shown["structure"].numbers) == ["parameters", "layers", "last_map", "resolution"]
    recipe = seen_in_training(get_template("recipe"), data)
    assert list(recipe.numbers) == ["lr", "batch", "momentum", "dropout", "resolution"]
    assert shown["code_only"].numbers == shown["metadata_only"].numbers == {}
    found = shown["code_only"].basis(get_template("code_only"), ALEXNET, [Side("mnist"), Side("svhn")], data.facts)
    assert [line.split(":")[0] for line in found.lines()] == ["Source"]
    without = shown["metadata_only"].basis(get_template("metadata_only"), ALEXNET, [], data.facts)
    assert without == Basis(1360, None, None, None, 0, {}, {}, {})
    assert without.lines() == []


def test_the_file(seen: Seen, tmp_path: Path) -> None:
    assert read_seen(tmp_path) is None  # an older adapter
    seen.save(tmp_path)
    assert read_seen(tmp_path) == seen
    assert 300_000 < (tmp_path / "basis.json").stat().st_size < 1_000_000
    for damage in ({"signatures": ""}, {"numbers": {"lr": [1.0]}}, {"numbers": {"rate": [1.0] * 101}}):
        seen.model_copy(update=damage).save(tmp_path)
        with pytest.raises(UserError, match=r"basis.json' is damaged"):
            read_seen(tmp_path)


def test_of_many_networks_some_are_kept(data: PairData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngpt_ext.scoring.basis.MOST", 500)
    some = seen_in_training(TEMPLATE, data)
    assert (some.networks, len(some.known)) == (1360, 454)
    assert sum(some.kinds.values()) == 1360


def test_it_takes_milliseconds(seen: Seen, data: PairData) -> None:
    basis(seen, data)
    took = []
    for _ in range(10):
        start = time.process_time()
        basis(seen, data)
        took.append(time.process_time() - start)
    assert min(took) < 0.03
