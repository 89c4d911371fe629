"""Structures from the package, from the cache, and measured."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.networks import catalogue
from nngpt_ext.networks.catalogue import SHIPPED, measure_all, shipped, structure_of, structures
from nngpt_ext.networks.sandbox import Sandbox, Unmeasured
from nngpt_ext.networks.structure import Shape, Structure, input_shape, source_key

EXAMPLE = Path(__file__).parents[2] / "examples" / "alexnet.py"
SHAPES = [Shape(3, 32, 32, 10), Shape(3, 64, 64, 100)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path))
    return tmp_path / "structure"


def test_the_table_has_every_network_of_the_pairs(lemur_sources, lemur_trials):
    """At the native shape of each dataset and at the one of each best trial of epoch 5."""
    assert SHIPPED.stat().st_size < 3_000_000
    keys = {nn: source_key(source) for nn, source in lemur_sources.items()}
    table = shipped(keys.values())
    trials = lemur_trials.frame
    rows = trials[trials["nn"].isin(keys)].drop_duplicates(["nn", "dataset"])
    wanted = {
        (keys[row.nn], input_shape(row.dataset, LEMUR_FACTS[row.dataset], transform))
        for row in rows.itertuples()
        for transform in (None, row.transform)
    }
    assert len(keys) == 1942
    assert wanted - set(table) == set()
    found = [one for key in wanted if isinstance(one := table[key], Structure)]
    assert len(found) / len(wanted) > 0.98
    assert sum(one.forward == 1 for one in found) / len(found) > 0.95


def test_the_table_says_what_the_sandbox_measures(lemur_sources):
    """Twelve networks of all kinds; slower ones are left to research.structure."""
    names = [*sorted(lemur_sources)[::180], "AlexNet"]
    shape = Shape(3, 32, 32, 10)
    table = shipped(source_key(lemur_sources[name]) for name in names)
    with Sandbox() as sandbox:
        for name in names:
            known = table.get((source_key(lemur_sources[name]), shape))
            if known is not None and "torchvision" not in lemur_sources[name]:
                assert sandbox.measure(lemur_sources[name], [shape]) == [known], name


def test_nothing_runs_for_lemurs_own(lemur_sources, monkeypatch):
    monkeypatch.setattr(catalogue, "measure_all", None)
    found = structures([(lemur_sources["AlexNet"], shape) for shape in SHAPES])
    assert [one.parameters for one in found.values()] == [57_044_810, 57_413_540]


def test_what_was_measured_is_kept(own_cache, monkeypatch):
    source = EXAMPLE.read_text()
    measured = structures([(source, shape) for shape in SHAPES])
    key = source_key(source)
    assert measured[key, SHAPES[0]].parameters == 7_506_762
    content = json.loads((own_cache / f"{key}.json").read_bytes())
    assert [tuple(shape) for shape, _ in content["structures"]] == [astuple(shape) for shape in SHAPES]
    monkeypatch.setattr(catalogue, "measure_all", None)
    assert structures([(f"# a comment\n{source}", shape) for shape in SHAPES]) == measured
    monkeypatch.setattr(catalogue, "VERSION", "0")
    with pytest.raises(TypeError):  # measured again
        structures([(source, SHAPES[0])])


def test_a_damaged_file_is_measured_again(own_cache, caplog):
    source = EXAMPLE.read_text()
    own_cache.mkdir()
    (own_cache / f"{source_key(source)}.json").write_text(
        '{"version": "1", "structures": [[[3, 32, 32, 10], {"x": 1}]]}'
    )
    assert structure_of(source, SHAPES[0]).parameters == 7_506_762
    assert "is damaged (the structure has no number 'x'" in caplog.text


def test_never_runs_nothing():
    assert structures([(EXAMPLE.read_text(), SHAPES[0])], run_code="never") == {}


def test_unsafe_measures_the_same(lemur_sources):
    source = lemur_sources["AlexNet"]
    jobs = [("one", source, SHAPES), ("two", "raise OSError('no')", SHAPES[:1])]
    found = dict(measure_all(jobs, run_code="unsafe"))
    table = shipped([source_key(source)])
    assert found["one"] == {shape: table[source_key(source), shape] for shape in SHAPES}
    assert found["two"] == {SHAPES[0]: Unmeasured("OSError: no")}


def test_a_failure_is_one_line():
    with pytest.raises(UserError) as caught:
        structure_of("raise ValueError('a\\nb')", SHAPES[0], "'net.py'")
    assert str(caught.value) == "'net.py' has no structure at 3x32x32, 10 classes: ValueError: a b"
