"""Splits: pinned for seed 0, a network in one part only, a function of seed and names alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nngpt_ext.data.families import THRESHOLD, clusters, near, signatures, with_near_duplicate
from nngpt_ext.data.lineage import LEVELS, families, giants, origin
from nngpt_ext.data.pairs import datasets_of
from nngpt_ext.data.splits import (
    PARTS,
    SplitOptions,
    assign_split,
    datasets_in,
    even_folds,
    family_weights,
    shuffled,
    split_hash,
)
from nngpt_ext.errors import UserError
from tests.data.small import one_line


def counts(pairs: pd.DataFrame, parts: pd.Series) -> dict[str, tuple[int, int]]:
    """Pairs and networks of each part."""
    return {part: (int((parts == part).sum()), int(pairs.loc[parts == part, "nn"].nunique())) for part in PARTS}


def members(pairs: pd.DataFrame, parts: pd.Series) -> dict[str, set[str]]:
    return {part: set(pairs.loc[parts == part, "nn"]) for part in PARTS}


def disjoint(groups: dict[str, set[str]]) -> bool:
    return all(not a & b for a, b in combinations(groups.values(), 2))


@pytest.fixture(scope="module")
def by_network(lemur_pairs: pd.DataFrame) -> pd.Series:
    return assign_split(lemur_pairs, "by_network")


@pytest.fixture(scope="module")
def by_cluster(lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str]) -> pd.Series:
    return assign_split(lemur_pairs, "by_cluster", sources=lemur_sources)


def test_seed_0_is_pinned(lemur_pairs: pd.DataFrame, by_network: pd.Series) -> None:
    assert counts(lemur_pairs, by_network) == {"train": (13527, 1360), "validation": (1914, 194), "test": (3873, 388)}
    assert (
        split_hash(lemur_pairs.assign(split=by_network))
        == "a4daaff08633849f04141c8f86c4e84aaff058625ba9239dbc20fb6917051525"
    )
    assert by_network.name == "split"


def test_by_origin_and_random_pairs_are_pinned(lemur_pairs: pd.DataFrame) -> None:
    parts = assign_split(lemur_pairs, "by_origin", options=SplitOptions(hold_out="rag"))
    assert split_hash(lemur_pairs.assign(split=parts)).startswith("57fe052e80df9261")
    parts = assign_split(lemur_pairs, "random_pairs")
    assert split_hash(lemur_pairs.assign(split=parts)).startswith("09cb3b7150783685")


def test_another_seed_is_another_split(lemur_pairs: pd.DataFrame, by_network: pd.Series) -> None:
    other = assign_split(lemur_pairs, "by_network", seed=1)
    assert counts(lemur_pairs, other)["test"][1] == 388
    test, other_test = members(lemur_pairs, by_network)["test"], members(lemur_pairs, other)["test"]
    assert 0.1 < len(test & other_test) / 388 < 0.3  # as chance would have it


def test_only_names_and_seed_decide(lemur_pairs: pd.DataFrame, by_network: pd.Series) -> None:
    mixed = lemur_pairs.sample(frac=1, random_state=5)
    assert assign_split(mixed, "by_network").sort_index().equals(by_network)
    turned = lemur_pairs.assign(
        better_dataset=lemur_pairs["dataset_2"], accuracy_1=0.0, norm_acc_1=1.0, margin=0.5, recipe_1=None
    )
    assert assign_split(turned, "by_network").equals(by_network)


def test_strata_are_shared_out(lemur_pairs: pd.DataFrame, by_network: pd.Series) -> None:
    test = members(lemur_pairs, by_network)["test"]
    strata: dict[tuple[str, ...], list[bool]] = {}
    for name, datasets in datasets_of(lemur_pairs).items():
        strata.setdefault(datasets, []).append(name in test)
    large = [group for group in strata.values() if len(group) >= 50]
    assert len(large) >= 5
    for group in large:
        assert 0.15 <= np.mean(group) <= 0.25


def test_near_duplicates_across_by_network(
    lemur_pairs: pd.DataFrame, by_network: pd.Series, lemur_sources: dict[str, str]
) -> None:
    groups = members(lemur_pairs, by_network)
    close = with_near_duplicate(lemur_sources, sorted(groups["test"]), sorted(groups["train"]))
    share = lemur_pairs.loc[by_network == "test", "nn"].isin(close).mean()
    assert 0.90 < share < 0.96


def test_by_cluster_keeps_near_duplicates_together(
    lemur_pairs: pd.DataFrame, by_cluster: pd.Series, lemur_sources: dict[str, str]
) -> None:
    groups = members(lemur_pairs, by_cluster)
    assert disjoint(groups)
    values = {part: signatures(lemur_sources, sorted(names)) for part, names in groups.items()}
    for one, other in combinations(PARTS, 2):
        assert len(near(values[one], values[other])[0]) == 0
        similarity = max((values[other] == row).mean(axis=1).max() for row in values[one])
        assert similarity < THRESHOLD


def test_by_cluster_trains_on_the_large_clusters(
    lemur_pairs: pd.DataFrame, by_cluster: pd.Series, lemur_sources: dict[str, str]
) -> None:
    groups, names = members(lemur_pairs, by_cluster), sorted(lemur_sources)
    number = clusters(signatures(lemur_sources, names))
    large = {k for k, size in enumerate(np.bincount(number)) if size > 0.10 * len(names)}
    assert groups["train"] == {name for name, k in zip(names, number, strict=True) if k in large}
    dealt = len(groups["validation"]) + len(groups["test"])
    assert 330 <= dealt <= 350
    assert len(groups["validation"]) == pytest.approx(dealt / 3, abs=5)


def test_by_cluster_is_seeded(lemur_pairs: pd.DataFrame, by_cluster: pd.Series, lemur_sources: dict[str, str]) -> None:
    mixed = lemur_pairs.sample(frac=1, random_state=5)
    again = assign_split(mixed, "by_cluster", sources=dict(reversed(lemur_sources.items())))
    assert again.sort_index().equals(by_cluster)
    other = assign_split(lemur_pairs, "by_cluster", seed=1, sources=lemur_sources)
    assert members(lemur_pairs, other)["train"] == members(lemur_pairs, by_cluster)["train"]
    assert members(lemur_pairs, other)["test"] != members(lemur_pairs, by_cluster)["test"]


def test_by_cluster_needs_sources(lemur_pairs: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="needs the sources"):
        assign_split(lemur_pairs, "by_cluster")


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (None, "split by_origin needs data.hold_out; "),
        ("", "split by_origin needs"),
        ("rags", "no network of origin 'rags' (did you mean 'rag'?); "),
    ],
)
def test_by_origin_lists_the_origins(lemur_pairs: pd.DataFrame, given: str | None, start: str) -> None:
    with pytest.raises(UserError) as error:
        assign_split(lemur_pairs, "by_origin", options=SplitOptions(hold_out=given))
    message = one_line(error.value)
    assert message.startswith(start)
    assert "ga (1015), ast (413), alt (212), rag (173), FractalNet (37)" in message
    assert "and 8 of one network each" in message
    assert 'for example data={"hold_out": "ga"}' in message


def test_random_pairs_leak(lemur_pairs: pd.DataFrame) -> None:
    parts = assign_split(lemur_pairs, "random_pairs")
    shares = parts.value_counts(normalize=True)
    assert [round(shares[part], 3) for part in PARTS] == [0.7, 0.1, 0.2]
    groups = members(lemur_pairs, parts)
    assert len(groups["test"] & groups["train"]) / len(groups["test"]) > 0.8
    mixed = lemur_pairs.sample(frac=1, random_state=5)
    assert assign_split(mixed, "random_pairs").sort_index().equals(parts)


def test_random_pairs_keep_all_trials_of_a_pair_together(lemur_pairs: pd.DataFrame) -> None:
    twice = pd.concat([lemur_pairs, lemur_pairs])
    parts = assign_split(twice, "random_pairs")
    assert parts.iloc[: len(lemur_pairs)].equals(parts.iloc[len(lemur_pairs) :])


def test_an_unknown_split(lemur_pairs: pd.DataFrame) -> None:
    with pytest.raises(UserError) as error:
        assign_split(lemur_pairs, "by_networks")
    assert "did you mean 'by_network'?" in one_line(error.value)


def test_origin() -> None:
    assert [origin(name) for name in ("ga-12", "AlexNet", "ast-layer_type-x", "a_b")] == ["ga", "AlexNet", "ast", "a_b"]


DATASETS = ("cifar-10", "mnist", "places365", "svhn")
NETWORKS = st.dictionaries(
    st.from_regex(r"(ga|rag|Net|N_t)(-[0-9a-f]{1,3})?", fullmatch=True),
    st.sets(st.sampled_from(DATASETS), min_size=2),
    min_size=1,
    max_size=40,
)


def made(networks: dict[str, set[str]]) -> pd.DataFrame:
    rows = [(nn, a, b) for nn, datasets in networks.items() for a, b in combinations(sorted(datasets), 2)]
    return pd.DataFrame(rows, columns=["nn", "dataset_1", "dataset_2"])


@given(NETWORKS, st.integers(0, 5), st.randoms())
def test_any_by_network(networks: dict[str, set[str]], seed: int, random) -> None:
    pairs = made(networks)
    parts = assign_split(pairs, "by_network", seed=seed)
    assert set(parts) <= set(PARTS)
    groups = members(pairs, parts)
    assert disjoint(groups)
    n = len(networks)
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(groups[part]) - share * n) <= 1.3
    mixed = pairs.iloc[random.sample(range(len(pairs)), len(pairs))]
    assert assign_split(mixed, "by_network", seed=seed).sort_index().equals(parts)


@given(NETWORKS, st.integers(0, 5))
def test_any_by_origin(networks: dict[str, set[str]], seed: int) -> None:
    assume(any(origin(name) == "ga" for name in networks))
    pairs = made(networks)
    groups = members(pairs, assign_split(pairs, "by_origin", seed=seed, options=SplitOptions(hold_out="ga")))
    assert disjoint(groups)
    assert groups["test"] == {name for name in networks if origin(name) == "ga"}
    assert abs(len(groups["validation"]) - (len(networks) - len(groups["test"])) / 10) < 1


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(0, 5))
def test_any_by_cluster(families: list[int], seed: int) -> None:
    networks = {f"net-{i}": {"mnist", "svhn"} for i in range(len(families))}
    sources = {f"net-{i}": f"family {family} " * 3 for i, family in enumerate(families)}
    pairs = made(networks)
    groups = members(pairs, assign_split(pairs, "by_cluster", seed=seed, sources=sources))
    assert disjoint(groups)
    for family in set(families):
        own = {f"net-{i}" for i, other in enumerate(families) if other == family}
        (part,) = [part for part, names in groups.items() if names & own]
        assert (part == "train") == (len(own) > 0.10 * len(families))
    dealt, largest = len(groups["validation"]) + len(groups["test"]), max(np.bincount(families))
    assert abs(len(groups["validation"]) - dealt / 3) <= largest


BY_DATASET = [  # train, validation and test pairs
    (5819, 521, 1153), (5653, 487, 1276), (5860, 481, 1216), (5684, 510, 1198), (8115, 128, 1282), (8097, 613, 336),
    (5799, 459, 1285),
]  # fmt: skip


def test_by_dataset_holds_out_each_dataset(lemur_pairs: pd.DataFrame) -> None:
    names, usual = datasets_in(lemur_pairs), assign_split(lemur_pairs, "by_network")
    sizes = []
    for fold, name in enumerate(names):
        parts, following = assign_split(lemur_pairs, "by_dataset", options=SplitOptions(fold=fold)), names[fold - 6]
        sides = lemur_pairs[["dataset_1", "dataset_2"]]
        own, validates = (sides == name).any(axis=1), (sides == following).any(axis=1)
        expected = usual.where(own, None).where(usual == "test", None)
        expected = expected.mask((usual == "validation") & validates & ~own, "validation")
        expected = expected.mask((usual == "train") & ~validates & ~own, "train")
        assert parts.fillna("none").tolist() == expected.fillna("none").tolist()
        sizes.append(tuple(parts.value_counts()[["train", "validation", "test"]]))
    assert sizes == BY_DATASET


@pytest.mark.parametrize(("fold", "given"), [(None, ""), (7, "; there is no fold 7")])
def test_by_dataset_names_its_folds(lemur_pairs: pd.DataFrame, fold: int | None, given: str) -> None:
    with pytest.raises(UserError) as error:
        assign_split(lemur_pairs, "by_dataset", options=SplitOptions(fold=fold))
    assert one_line(error.value) == (
        "split by_dataset holds out one dataset at a time: fold 0 (celeba-gender), 1 (cifar-10), 2 (cifar-100), 3 "
        f'(imagenette), 4 (mnist), 5 (places365), 6 (svhn){given}; for example data={{"fold": 0}}'
    )


@given(st.lists(st.text(max_size=3), unique=True, max_size=20), st.integers(), st.integers())
def test_any_shuffle(names: list[str], seed: int, other: int) -> None:
    order = shuffled(names, seed)
    assert sorted(order) == sorted(names)
    assert shuffled(order, seed) == order
    some = [name for name in order if name < "m"]
    assert shuffled(some, seed) == some  # who else is there plays no part
    if len(names) > 12 and seed != other:
        assert shuffled(names, other) != order


FOLDS = 5


@pytest.fixture(scope="module", params=list(LEVELS))
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def by_family(lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str], level: str) -> list[pd.Series]:
    options = [SplitOptions(fold=i, family_level=level) for i in range(FOLDS)]
    return [assign_split(lemur_pairs, "by_family", sources=lemur_sources, options=one) for one in options]


PINNED = {
    "near": [
        ((18725, 1847), (318, 27), (271, 68)),
        ((18278, 1847), (312, 27), (724, 68)),
        ((18242, 1848), (328, 27), (744, 67)),
        ((18264, 1848), (331, 27), (719, 67)),
        ((18253, 1848), (372, 27), (689, 67)),
    ],
    "strict": [
        ((17731, 1769), (195, 17), (1388, 156)),
        ((18830, 1869), (367, 29), (117, 44)),
        ((18371, 1869), (371, 29), (572, 44)),
        ((18429, 1870), (349, 29), (536, 43)),
        ((18384, 1870), (403, 29), (527, 43)),
    ],
}


def test_by_family_is_pinned(lemur_pairs: pd.DataFrame, by_family: list[pd.Series], level: str) -> None:
    assert [tuple(counts(lemur_pairs, parts).values()) for parts in by_family] == PINNED[level]


def test_by_family_tests_every_small_network_once(
    lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str], by_family: list[pd.Series], level: str
) -> None:
    family = families(lemur_sources, level)
    large = giants(family)
    assert len(large) == {"near": 2, "strict": 1}[level]
    tested = [nn for parts in by_family for nn in sorted(members(lemur_pairs, parts)["test"])]
    assert sorted(tested) == sorted(nn for nn, own in family.items() if own not in large)
    for parts in by_family:
        groups = members(lemur_pairs, parts)
        assert disjoint(groups)
        of = {part: {family[nn] for nn in names} for part, names in groups.items()}
        assert disjoint(of)  # a family is in one part
        assert large.keys() <= of["train"]
        small = [nn for nn in (*groups["train"], *groups["validation"]) if family[nn] not in large]
        assert len(groups["validation"]) == pytest.approx(len(small) / 10, abs=0.5)


def test_a_family_holds_across_names_comments_and_order(
    lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str], by_family: list[pd.Series], level: str
) -> None:
    other = {nn: f"x{i}" for i, nn in enumerate(sorted(lemur_sources, reverse=True))}
    pairs = lemur_pairs.assign(nn=lemur_pairs["nn"].map(other)).sample(frac=1, random_state=5)
    sources = {other[nn]: f"# renamed\n{text}" for nn, text in lemur_sources.items()}
    options = SplitOptions(fold=1, family_level=level)
    again = assign_split(pairs, "by_family", sources=sources, options=options).sort_index()
    assert again.equals(by_family[1])


@pytest.fixture(scope="module")
def renamed(lemur_sources: dict[str, str]) -> dict[str, str]:
    """Every third network under another name, as LEMUR's merges rename them: of another origin, and of one together."""
    return {nn: f"merged-{i}" if i % 3 == 0 else nn for i, nn in enumerate(sorted(lemur_sources))}


def test_renaming_a_third_of_the_networks_leaves_families_and_folds(
    lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str], renamed: dict[str, str], by_family: list[pd.Series],
    level: str,
) -> None:  # fmt: skip
    pairs = lemur_pairs.assign(nn=lemur_pairs["nn"].map(renamed))
    sources = {renamed[nn]: text for nn, text in lemur_sources.items()}
    family = families(sources, level)
    assert {nn: family[renamed[nn]] for nn in lemur_sources} == families(lemur_sources, level)
    for fold, before in enumerate(by_family):
        options = SplitOptions(fold=fold, family_level=level)
        assert assign_split(pairs, "by_family", sources=sources, options=options).equals(before)


def test_renaming_changes_the_splits_that_are_keyed_by_names(
    lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str], renamed: dict[str, str], by_network: pd.Series,
    by_cluster: pd.Series,
) -> None:  # fmt: skip
    pairs = lemur_pairs.assign(nn=lemur_pairs["nn"].map(renamed))
    sources = {renamed[nn]: text for nn, text in lemur_sources.items()}
    for split, before in (("by_network", by_network), ("by_cluster", by_cluster)):
        assert not assign_split(pairs, split, sources=sources).equals(before)  # as docs/data.md says


def test_by_family_needs_a_fold(lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str]) -> None:
    with pytest.raises(UserError) as error:
        assign_split(lemur_pairs, "by_family", sources=lemur_sources)
    assert one_line(error.value) == ('split by_family tests one fold at a time, 0 to 4; for example data={"fold": 0}')


def test_fewer_families_than_folds() -> None:
    networks = {f"net{i}": {"mnist", "svhn"} for i in range(3)}
    with pytest.raises(UserError) as error:
        assign_split(
            made(networks), "by_family", sources={nn: f"x = {i}" * 9 for i, nn in enumerate(networks)},
            options=SplitOptions(fold=0),
        )  # fmt: skip
    assert one_line(error.value) == (
        "split by_family has 0 families outside the giant ones and needs at least one for each of 5 folds; lower "
        'data.folds, or use data={"family_level": "near"}'
    )


@settings(max_examples=8)  # each takes signatures of its sources
@given(st.lists(st.integers(0, 30), min_size=45, max_size=90), st.integers(0, 5), st.integers(2, 4))
def test_any_by_family(numbers: list[int], seed: int, folds: int) -> None:
    networks = {f"net{i}": {"mnist", "svhn"} for i in range(len(numbers))}
    sources = {f"net{i}": f"family_{number} = {number} " * 3 for i, number in enumerate(numbers)}
    pairs, family = made(networks), families(sources, "near")
    large = giants(family)
    assume(len(set(family.values()) - large.keys()) >= 2 * folds)
    tested: list[str] = []
    for fold in range(folds):
        options = SplitOptions(fold=fold, folds=folds)
        groups = members(pairs, assign_split(pairs, "by_family", seed=seed, sources=sources, options=options))
        assert disjoint({part: {family[nn] for nn in names} for part, names in groups.items()})
        assert groups["validation"]
        assert not {family[nn] for nn in groups["validation"] | groups["test"]} & large.keys()
        small = [nn for nn in groups["train"] | groups["validation"] if family[nn] not in large]
        sizes = [list(family.values()).count(own) for own in {family[nn] for nn in groups["validation"]}]
        assert max(sizes) <= len(small) / 5
        tested += groups["test"]
    assert sorted(tested) == sorted(nn for nn, own in family.items() if own not in large)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 8))
def test_any_weights(numbers: list[int], cap: int) -> None:
    family = {f"n{i}": str(number) for i, number in enumerate(numbers)}
    weights, large = family_weights(family, cap), giants(family)
    for own in set(family.values()):
        total = sum(weights[nn] for nn in family if family[nn] == own)
        size = list(family.values()).count(own)
        assert total == pytest.approx(min(size, cap) if own in large else size)


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(1, 9), min_size=1), st.integers(1, 6), st.integers(0, 3))
def test_any_even_folds(sizes: dict[str, int], folds: int, seed: int) -> None:
    members_of = {name: ["x"] * n for name, n in sizes.items()}
    found = even_folds(members_of, folds, seed)
    loads = [sum(sizes[name] for name in sizes if found[name] == i) for i in range(folds)]
    assert max(loads) - min(loads) <= max(sizes.values())


def test_by_dataset_needs_four_datasets(lemur_pairs: pd.DataFrame) -> None:
    three = ("mnist", "svhn", "cifar-10")
    few = lemur_pairs[lemur_pairs["dataset_1"].isin(three) & lemur_pairs["dataset_2"].isin(three)]
    with pytest.raises(UserError, match=r"needs four, and there are 3 \(cifar-10, mnist, svhn\); choose another split"):
        assign_split(few, "by_dataset", options=SplitOptions(fold=0))
