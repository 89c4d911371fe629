"""Embeddings of the source by a language model that is not trained, with a linear and a boosted head.

An embedding is the mean of the last hidden states over a source's tokens, as COLE has it. It is computed once for each
source and base model, unquantised, and cached. The heads are those of Bradley–Terry models: a ridge regression with
weights of its own for each dataset, and trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from nngpt_ext.compact import compact_code
from nngpt_ext.data.cache import cache_folder, keep_arrays, kept_arrays
from nngpt_ext.evaluation.baselines.bradley_terry import bradley_terry
from nngpt_ext.evaluation.baselines.features import Side, datasets_of
from nngpt_ext.evaluation.baselines.trees import COMPONENTS, DECIMALS
from nngpt_ext.io import digest, text_digest
from nngpt_ext.models.heads import body
from nngpt_ext.progress import Progress
from nngpt_ext.prompts.render import first_token

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData
    from nngpt_ext.models.base import Base

TOKENS = 1024  # of a compacted source at most
_KEEP_EVERY = 50  # sources, after which the cache file is written


def frozen_lm(data: PairData, base: Base) -> dict[str, np.ndarray]:
    """P(dataset_1) for the test pairs by the keys `frozen_lm_linear` and `frozen_lm_trees`, shape (test pairs,) each.

    The principal components of the embeddings are those of the training networks.
    """
    from sklearn.decomposition import PCA

    names = sorted({*data.training["nn"], *data.part("test")["nn"]})
    found = embeddings(base, [data.sources[nn] for nn in names])
    table = np.array([found[data.sources[nn]] for nn in names], dtype="float64")
    trained = table[np.isin(names, data.training["nn"].unique())]
    with threadpool_limits(limits=1):  # as code_gbm: the same digits on all machines
        reduce = PCA(min(COMPONENTS, *trained.shape), whiten=True, svd_solver="full").fit(trained)
        reduced = dict(zip(names, np.round(reduce.transform(table), DECIMALS), strict=True))

    def trees(data: PairData, sides: Sequence[Side]) -> np.ndarray:
        return np.column_stack([datasets_of(data, sides), [reduced[one.nn] for one in sides]])

    def linear(data: PairData, sides: Sequence[Side]) -> np.ndarray:
        flags, own = datasets_of(data, sides)[:, 1:], np.array([reduced[one.nn] for one in sides])
        return np.column_stack([flags, *(flags * column[:, None] for column in own.T)])

    return {"frozen_lm_linear": bradley_terry(data, None, linear), "frozen_lm_trees": bradley_terry(data, trees)}


def embeddings(base: Base, sources: Iterable[str]) -> Mapping[str, np.ndarray]:
    """The embedding of each source by the source, shape (hidden size,), float32; from the cache if it is there."""
    keys = {source: text_digest(source) for source in sources}
    # With another tokenizer, type of numbers or device the same weights give others.
    model = digest([base.sha256, dict(base.identity), str(base.model.dtype), base.device.type])
    file = cache_folder() / "embeddings" / f"{model[:16]}-{TOKENS}.npz"
    kept = kept_arrays(file)
    missing = [source for source, key in keys.items() if key not in kept]
    with Progress("embedding", len(missing), unit="networks") as progress:
        for number, source in enumerate(missing, 1):
            kept[keys[source]] = _embedding(base, source)
            progress.advance(1)
            if number % _KEEP_EVERY == 0 or number == len(missing):
                keep_arrays(file, kept)
    return {source: kept[key] for source, key in keys.items()}


def _embedding(base: Base, source: str) -> np.ndarray:
    import torch

    text = first_token(base.tokenizer) + compact_code(source)
    ids = base.tokenizer(
        text, add_special_tokens=False, truncation=True, max_length=min(TOKENS, base.context), return_tensors="pt"
    )["input_ids"].to(base.device)
    with torch.inference_mode():
        states = body(base.model)(ids, use_cache=False).last_hidden_state
    return np.asarray(states[0].float().mean(dim=0).cpu().numpy())
