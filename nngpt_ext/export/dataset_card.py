"""The card of the exported dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nngpt_ext.data.families import PERMUTATIONS, SHINGLE, THRESHOLD
from nngpt_ext.data.splits import SPLITS


class Part(NamedTuple):
    """One part of the pairs, and what the pair prior of the training pairs reaches in it, by both labels."""

    name: str
    pairs: int
    networks: int
    prior: float
    prior_percentile: float


class Figures(NamedTuple):
    """What the card says of a dataset."""

    made_of: dict[str, Any]
    parts: Sequence[Part]
    network_parts: Sequence[str]
    networks: int
    groups: int
    largest_group: int
    test_with_near_duplicate: int
    excluded: dict[str, int]
    source: str


def dataset_card(found: Figures, licensed: bool, name: str) -> str:
    """The card as Markdown, with the metadata by which `datasets` finds the files.

    Args:
        found: its figures.
        licensed: whether LEMUR's licence stands beside it.
        name: of the folder or repository, for the example.
    """
    from huggingface_hub import DatasetCardData

    made = found.made_of
    data = DatasetCardData(
        license=["mit", "bsd-3-clause"],
        language=["code", "en"],
        pretty_name="LEMUR dataset comparison",
        task_categories=["text-classification"],
        size_categories=[_size(sum(part.pairs for part in found.parts))],
        tags=["nngpt_ext", "dataset_compare", "lemur", "automl", "neural-architectures"],
        configs=[
            _config("pairs", [part.name for part in found.parts], default=True),
            _config("networks", found.network_parts),
        ],
    )
    split = f"`{made['split']}`" + (f" (`{made['hold_out']}`)" if made["hold_out"] else "")
    held = [f"--hold-out {made['hold_out']}"] if made["hold_out"] else []
    command = " ".join(
        [f"nngpt-ext export dataset --epoch {made['epoch']} --split {made['split']}", *held,
         f"--seed {made['seed']} --trials {made['trials']} --out FOLDER"]
    )  # fmt: skip
    rows = [
        f"| {p.name} | {p.pairs:,} | {p.networks:,} | {p.prior:.4f} | {p.prior_percentile:.4f} |" for p in found.parts
    ]
    table = "\n".join(rows)
    test = next(part for part in found.parts if part.name == "test")
    part = "test" if "test" in found.network_parts else found.network_parts[0]
    return f"""---
{data.to_yaml()}
---
# LEMUR dataset comparison

On which of two image-classification datasets does a neural network reach the higher normalised accuracy? Each row of
`pairs` is a network of LEMUR (nn-dataset) and two datasets, at training epoch {made["epoch"]}, with the answer;
`networks` holds the PyTorch source of each network once.

```python
from datasets import load_dataset

pairs = load_dataset("{name}", split="test")  # the configuration `pairs` is the default
networks = load_dataset("{name}", "networks", split="{part}")
code = dict(zip(networks["nn"], networks["nn_code"]))
code[pairs[0]["nn"]], pairs[0]["dataset_1"], pairs[0]["dataset_2"], pairs[0]["better_dataset"]
```

A network is in about ten pairs, so sources stand in a table of their own: in each row they would be ten times as much
to load and to keep in memory.

## Parts

Split {split}, seed {made["seed"]}: {SPLITS[made["split"]].description}.

The *pair prior* answers the usual winner of a dataset pair among the training networks and never sees the network: any
accuracy belongs beside it.

| part | pairs | networks | pair prior | pair prior, percentile label |
|---|---|---|---|---|
{table}

{_near(found, test)}

## `pairs`

| column | what |
|---|---|
| `nn` | the network's name |
| `epoch` | after how many epochs the accuracies were measured |
| `dataset_1`, `dataset_2` | the two datasets, in text order |
| `accuracy_1`, `accuracy_2` | accuracy on each, 0 to 1 |
| `norm_acc_1`, `norm_acc_2` | that, divided by the best accuracy of any network on that dataset at that epoch |
| `better_dataset`, `margin` | **the label**: the higher normalised accuracy (at a tie `dataset_1`), by how much |
| `better_dataset_percentile`, `margin_percentile` | another label: the higher rank among the dataset's networks |
| `recipe_1`, `recipe_2` | trained how: `lr`, `batch`, `momentum`, `dropout`, `transform`; null if unknown |
| `near_duplicate_group` | the network's group of near-duplicates |

## `networks`

| column | what |
|---|---|
| `nn`, `nn_code` | name and PyTorch source |
| `origin` | the name before the first `-` |
| `datasets` | those on which it was trained for so long |
| `near_duplicate_group` | networks of one number are joined by near-duplicates |
| `near_duplicate_in_training` | of test networks: whether a training network is one; null for the others |

## How it was made

`{command}`

from the `{found.source}` records of LEMUR (sha256 of the trials: `{made["fingerprint"][:16]}…`). Of the trials of a
network and dataset {_trials(made["trials"])}. {_left_out(found.excluded)}

The accuracies come from different recipes per network and dataset, so the label includes luck with the recipe.

## Licence

LEMUR is MIT{" (its `LICENSE` is beside this card)" if licensed else ""}; it says that networks which it adopted from
other projects stay under MIT or BSD 3-Clause licences of their own. If you use it, cite LEMUR (arXiv 2504.10552).
"""


def _config(name: str, parts: Sequence[str], **more: Any) -> dict[str, Any]:
    files = [{"split": part, "path": f"{name}/{part}.parquet"} for part in parts]
    return {"config_name": name, **more, "data_files": files}


def _size(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M"


def _near(found: Figures, test: Part) -> str:
    share = found.test_with_near_duplicate / test.networks
    return (
        f"Near-duplicates: MinHash of {SHINGLE}-token shingles, {PERMUTATIONS} permutations, estimated Jaccard "
        f"similarity of at least {THRESHOLD}. {found.networks:,} networks form {found.groups:,} groups, the largest of "
        f"{found.largest_group:,}; {100 * share:.1f} % of the test networks have a near-duplicate in training."
    )


def _trials(use: str) -> str:
    if use == "best":
        return "the most accurate one counts"
    if use == "random":
        return "one that the seed draws counts"
    return "all count in training (each at least once), the most accurate one elsewhere"


def _left_out(excluded: dict[str, int]) -> str:
    if not excluded:
        return "No trial was left out."
    return f"Trials left out: {', '.join(f'{n:,} × {why}' for why, n in excluded.items())}."
