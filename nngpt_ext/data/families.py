"""Near-duplicate networks: MinHash signatures of their sources, and clusters of similar ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from nngpt_ext.compact import compact_code
from nngpt_ext.data.cache import cache_folder, keep_arrays, kept_arrays
from nngpt_ext.io import text_digest

SHINGLE = 5  # tokens
PERMUTATIONS = 128
THRESHOLD = 0.85  # estimated Jaccard similarity from which two networks are near-duplicates
_BATCH = 4_096  # shingles: a source of a megabyte has 300,000, whose hashes would take 300 MB at once
_TOKEN = re.compile(r"\w+|[^\w\s]")


def shingles(source: str) -> set[str]:
    """The runs of `SHINGLE` tokens (words and single symbols) in a source; a shorter source is one run."""
    tokens = _TOKEN.findall(source)
    last = max(len(tokens) - SHINGLE, 0)
    return {" ".join(tokens[i : i + SHINGLE]) for i in range(last + 1)}


def signature(source: str) -> np.ndarray:
    """MinHash signature, shape (128,), uint64 (Broder 1997; hashes and permutations are datasketch's)."""
    from datasketch import MinHash  # takes half a second, and only splits and reports need it

    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    texts = [text.encode() for text in sorted(shingles(source))]
    for start in range(0, len(texts), _BATCH):
        sketch.update_batch(texts[start : start + _BATCH])
    return sketch.hashvalues


def signatures(sources: Mapping[str, str], names: Sequence[str], *, compact: bool = False) -> np.ndarray:
    """Signatures of the named networks, shape (len(names), 128), cached by the hash of the source.

    With `compact`, they are of the sources without comments and docstrings.
    """
    prepare, mark = (compact_code, "compact ") if compact else (str, "")
    keys = [mark + text_digest(sources[name]) for name in names]
    file = cache_folder() / "signatures.npz"
    known = kept_arrays(file, PERMUTATIONS)
    missing = {key: name for key, name in zip(keys, names, strict=True) if key not in known}
    if missing:
        known |= {key: signature(prepare(sources[name])) for key, name in missing.items()}
        keep_arrays(file, known)
    return np.stack([known[key] for key in keys]) if keys else np.empty((0, PERMUTATIONS), dtype="uint64")


def near(left: np.ndarray, right: np.ndarray, threshold: float = THRESHOLD) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (in left, in right) of all couples whose estimated Jaccard similarity reaches the threshold."""
    found = [np.flatnonzero((right == one).mean(axis=1) >= threshold) for one in left]
    rows = np.repeat(np.arange(len(left)), np.array([len(columns) for columns in found], dtype="int64"))
    return rows, np.concatenate([np.empty(0, dtype="int64"), *found])


def clusters(values: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """The number of each signature's connected component, shape (n,)."""
    return components(len(values), np.stack(near(values, values, threshold)))


def components(n: int, edges: np.ndarray) -> np.ndarray:
    """The number of each row's connected component, shape (n,), where edges join rows; shape (2, edges)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(edges.shape[1], dtype="int8"), tuple(edges)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def with_near_duplicate(
    sources: Mapping[str, str], names: Sequence[str], others: Sequence[str], threshold: float = THRESHOLD
) -> set[str]:
    """Those of `names` that have a near-duplicate among `others`."""
    rows, _ = near(signatures(sources, names), signatures(sources, others), threshold)
    return {names[i] for i in np.unique(rows)}
