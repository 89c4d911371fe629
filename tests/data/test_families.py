"""Near-duplicates: estimated against exact similarity, and signatures kept by source text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.data import families as module
from nngpt_ext.data.families import (
    PERMUTATIONS,
    clusters,
    near,
    shingles,
    signature,
    signatures,
    with_near_duplicate,
)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "signatures.npz"


def text(words: range) -> str:
    return " ".join(f"word{i}" for i in words)


def test_shingles() -> None:
    assert shingles("x = f(y)") == {"x = f ( y", "= f ( y )"}
    assert shingles("a b") == {"a b"}
    assert shingles("") == {""}
    assert shingles("a\n  b  c d\te") == {"a b c d e"}  # how it is set out plays no part


@given(st.integers(0, 60))
def test_a_signature_estimates_the_similarity(shift: int) -> None:
    left, right = text(range(300)), text(range(shift, 300 + shift))
    exact = len(shingles(left) & shingles(right)) / len(shingles(left) | shingles(right))
    estimate = (signature(left) == signature(right)).mean()
    assert estimate == pytest.approx(exact, abs=4 * (0.25 / PERMUTATIONS) ** 0.5)
    assert shift or estimate == 1


def test_signatures_do_not_depend_on_the_process() -> None:
    # Cached ones would be of no use otherwise.
    assert signature(text(range(10)))[:3].tolist() == [97513696, 522583910, 106355316]
    assert signature("").shape == (PERMUTATIONS,)


def test_clusters_are_joined_by_chains() -> None:
    # 0 - 1 - 2 overlap two by two, 3 is alone, 4 is 3 again.
    sources = {"0": text(range(1000)), "1": text(range(50, 1050)), "2": text(range(100, 1100)), "3": "x", "4": "x"}
    values = np.stack([signature(source) for source in sources.values()])
    assert (values[0] == values[2]).mean() < 0.87
    found = clusters(values, threshold=0.87)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] != found[0]
    rows, columns = near(values, values[3:], threshold=0.87)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(3, 0), (3, 1), (4, 0), (4, 1)]
    assert [len(part) for part in near(values[:0], values)] == [0, 0]
    assert clusters(values[:0]).tolist() == []


def test_with_near_duplicate(own_cache: Path) -> None:
    sources = {"a": text(range(200)), "b": text(range(1, 200)), "c": text(range(500, 600)), "d": ""}
    assert with_near_duplicate(sources, ["a", "c", "d"], ["b"]) == {"a"}
    assert with_near_duplicate(sources, ["a"], []) == set()
    assert with_near_duplicate(sources, [], ["a"]) == set()


def test_signatures_are_kept_by_source_text(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(source: str) -> np.ndarray:
        asked.append(source)
        return signature(source)

    monkeypatch.setattr(module, "signature", counted)
    sources = {"a": text(range(50)), "copy of a": text(range(50)), "b": text(range(60))}
    first = signatures(sources, ["a", "copy of a", "b"])
    assert sorted(asked) == sorted({sources["a"], sources["b"]})  # a text once
    np.testing.assert_array_equal(first[0], first[1])
    again = signatures(sources, ["b", "a"])
    np.testing.assert_array_equal(again, first[[2, 0]])
    assert len(asked) == 2
    signatures({**sources, "a": "another text"}, ["a", "b"])
    assert asked[2:] == ["another text"]
    assert signatures(sources, ["a", "b"]).dtype == first.dtype
    assert len(asked) == 3  # the earlier one was kept
    assert signatures({}, []).shape == (0, PERMUTATIONS)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip file", None])
def test_a_damaged_file_is_built_again(own_cache: Path, content: bytes | None, caplog) -> None:
    sources = {"a": text(range(50)), "b": text(range(60))}
    first = signatures(sources, ["a", "b"])
    if content is None:
        content = own_cache.read_bytes()[:-100]
    own_cache.write_bytes(content)
    np.testing.assert_array_equal(signatures(sources, ["a", "b"]), first)
    assert f"the cache file {own_cache} is damaged" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(signatures(sources, ["a", "b"]), first)
    assert caplog.messages == []


def test_a_file_of_another_shape_is_built_again(own_cache: Path) -> None:
    sources = {"a": text(range(50))}
    first = signatures(sources, ["a"])
    key = np.load(own_cache)["keys"]
    np.savez(own_cache, keys=key, values=first[:, :7])
    np.testing.assert_array_equal(signatures(sources, ["a"]), first)
    with own_cache.open("wb") as out:
        np.save(out, first)  # one table instead of two
    np.testing.assert_array_equal(signatures(sources, ["a"]), first)


def test_a_folder_that_cannot_be_written_only_warns(own_cache: Path, caplog) -> None:
    own_cache.parent.write_text("a file where the folder should be")
    sources = {"a": text(range(50))}
    assert signatures(sources, ["a"]).shape == (1, PERMUTATIONS)
    assert "the results are not cached" in caplog.text
    own_cache.parent.unlink()
    own_cache.mkdir(parents=True)
    caplog.clear()
    assert signatures(sources, ["a"]).shape == (1, PERMUTATIONS)
    assert "the results are not cached" in caplog.text


def test_real_clusters(lemur_sources: dict[str, str]) -> None:
    names = sorted(lemur_sources)
    sizes = sorted(np.bincount(clusters(signatures(lemur_sources, names))), reverse=True)
    assert len(sizes) == pytest.approx(230, abs=10)
    assert sizes[0] == pytest.approx(1_120, abs=15)
    assert sizes[1] == pytest.approx(476, abs=15)
    assert sizes[2] < 60
