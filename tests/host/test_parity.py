"""Our rule and the host's `DatasetCompareBuilder` give the same answers."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

import pandas as pd
import psutil
import pytest

from benchmarks import host_workload
from benchmarks.host import bench_host
from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.families import THRESHOLD, signatures
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.host.installation import Host, find_host
from nngpt_ext.host.process import MARK, bare_root, result_of, run_in
from tests.host.conftest import installed

KEYS = ["nn", "dataset_1", "dataset_2"]
# What nn-gpt 1.0.6's own builder gave on the small LEMUR of tests/data/small.py, at epoch 5.
RECORDED = Path(__file__).with_name("host_pairs.csv")
# LEMUR's whole database; make test-all builds it.
WHOLE = Path(os.environ.get("NNGPT_EXT_LEMUR_DB", Path(sys.prefix) / "lemur" / "ab.nn.db"))
# nn-gpt 1.0.6 with nn-dataset 2.2.11; make test-all puts them there.
BESIDE = Path(sysconfig.get_path("purelib", vars={"base": str(Path(sys.prefix) / "host-2.2.11")}))
CLEAN = Path(os.environ.get("NNGPT_EXT_HOST_2_2_11", BESIDE))


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    both = ours.merge(theirs, on=KEYS, how="outer", suffixes=("", "_host"), indicator=True)
    assert (both["_merge"] == "both").all()
    assert (both["better_dataset"] == both["answer"]).all()
    for i in (1, 2):  # the host rounds to four decimals
        assert (both[f"norm_acc_{i}"].round(4) - both[f"norm_acc_{i}_host"]).abs().max() < 1e-9


def hosts_pairs(
    host: Host, database: Path, out: Path, flags: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> pd.DataFrame:
    arguments = [str(out), host.module("builder"), str(host.conf / "dataset_meta.json")]
    with bare_root(host, database) as root:
        done = run_in(root, host, [*flags, host_workload.__file__, "host-pairs", *arguments], environment=environment)
        result_of(done, "building pairs")
    return pd.read_parquet(out)


def test_on_a_slice(tree: Path) -> None:
    theirs = pd.read_csv(RECORDED)
    ours = build_pairs(read_trials(PackageSource(tree), 5).frame, 5)
    assert len(theirs) > 200
    same(ours, theirs)


def test_the_slice_is_what_the_host_says(host: Host, database: Path, tmp_path: Path) -> None:
    theirs = hosts_pairs(host, database, tmp_path / "pairs.parquet")
    pd.testing.assert_frame_equal(theirs, pd.read_csv(RECORDED), check_dtype=False)


@pytest.mark.slow
def test_on_everything() -> None:
    host = installed()
    if not WHOLE.is_file():
        pytest.skip(f"LEMUR's whole database is not in {WHOLE}: make test-all builds it")
    if psutil.virtual_memory().available < 12 * 2**30:
        pytest.skip("the host needs 10 GB of memory for this")
    file = WHOLE
    found = bench_host(file, folder=host.folder, prompts=0)["pairs"]
    assert found["host"]["rows"] == found["same_pairs"] == found["same_answers"] == 19_314
    assert found["norm_acc_max_difference"] < 1e-9
    assert found["times_less_memory"] > 15


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment that has nn-gpt 1.0.6 and nn-dataset 2.2.11, no other nn-dataset, and all else that is here."""
    if not (CLEAN / "ab" / "gpt").is_dir():
        pytest.skip(f"nn-gpt 1.0.6 with nn-dataset 2.2.11 is not in {CLEAN}: make test-all puts it there")
    site = tmp_path / "site"
    site.mkdir()
    here = (p for p in Path(sysconfig.get_path("purelib")).iterdir() if p.name != "ab" and p.name[:3] != "nn_")
    for place in (*CLEAN.iterdir(), *here):
        if not (site / place.name).exists():
            (site / place.name).symlink_to(place)
    return {"PYTHONPATH": os.pathsep.join([str(site), str(Path(__file__).parents[2])])}


@pytest.mark.slow
def test_beside_the_data_that_it_asks_for_alone(alone: dict[str, str], database: Path, tmp_path: Path) -> None:
    """nn-gpt 1.0.6 asks for nn-dataset 2.2.11, whose wheel has no records: both sides read a small ab.nn.db."""
    host = find_host(CLEAN)
    copy = tmp_path / "db" / "ab.nn.db"
    copy.parent.mkdir()
    shutil.copy(database, copy)  # 2.2.11 puts a lock beside it
    ours = build_pairs(read_trials(SqliteSource(copy), 5).frame, 5)
    same(ours, hosts_pairs(host, copy, tmp_path / "pairs.parquet", ("-S",), alone))
    columns = [*KEYS, "better_dataset"]
    script = f"""
import json, ab.nn, ab.nn.api
from importlib.metadata import distributions
from nngpt_ext.errors import UserError
from nngpt_ext.data.sources.api import ApiSource
from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.families import THRESHOLD, signatures
from nngpt_ext.data.pairs import build_pairs
pairs = build_pairs(read_trials(ApiSource(), 5).frame, 5)
there = [d.version for d in distributions() if d.metadata["Name"] == "nn-dataset"]
try:
    no_records = open_source("package")
except UserError as error:
    no_records = str(error)
print({MARK!r} + json.dumps([ab.nn.__file__, pairs[{columns!r}].to_numpy().tolist(), there, no_records]))
"""
    with bare_root(host, copy) as root:
        environment = {**alone, "NNGPT_EXT_CACHE": str(tmp_path / "cache")}
        done = run_in(root, host, ["-S", "-c", script], environment=environment)
    place, rows, there, no_records = result_of(done, "reading through ab.nn.api")
    assert Path(place).resolve().is_relative_to(CLEAN.resolve())
    assert rows == ours[columns].to_numpy().tolist()
    assert there == ["2.2.11"]
    assert "2.1.2" in no_records


@pytest.mark.slow
def test_lemurs_similarities_against_ours(alone: dict[str, str], database: Path, tmp_path: Path) -> None:
    """`nn_minhash` and `nn_similarity` as nn-dataset 2.2.11 fills them: shingles of 7 tokens, ours of 5."""
    copy = tmp_path / "db" / "ab.nn.db"
    copy.parent.mkdir()
    shutil.copy(database, copy)
    script = f"""
import sqlite3
from ab.nn.util.NNAnalysisSimilarity import to_minhash
from ab.nn.util.db.build_nn_similarity import jaccard_blobs, upsert_minhash_batch
connection = sqlite3.connect("db/ab.nn.db")
connection.execute("CREATE TABLE nn_minhash (nn TEXT PRIMARY KEY, num_perm INTEGER NOT NULL, "
                   "shingle_n INTEGER NOT NULL, hashvalues BLOB NOT NULL, created_at TEXT)")
rows = [{{"nn": nn, "hashvalues": to_minhash(code).hashvalues.tolist()}}
        for nn, code in connection.execute("SELECT name, code FROM nn")]
upsert_minhash_batch(connection, rows)
connection.create_function("jaccard_blobs", 2, jaccard_blobs)
connection.execute("CREATE TABLE nn_similarity AS SELECT a.nn AS nn_a, b.nn AS nn_b, "
                   "jaccard_blobs(a.hashvalues, b.hashvalues) AS jaccard "
                   "FROM nn_minhash a, nn_minhash b WHERE a.nn < b.nn")
connection.commit()
print({MARK!r} + "null")
"""
    with bare_root(find_host(CLEAN), copy) as root:
        result_of(run_in(root, find_host(CLEAN), ["-S", "-c", script], environment=alone), "filling the tables")
    with closing(sqlite3.connect(copy)) as connection:
        theirs = pd.read_sql("SELECT nn_a, nn_b, jaccard FROM nn_similarity", connection)
    names = sorted({*theirs["nn_a"], *theirs["nn_b"]})
    own = dict(zip(names, signatures(SqliteSource(copy).sources(names), names), strict=True))
    ours = [float((own[a] == own[b]).mean()) for a, b in zip(theirs["nn_a"], theirs["nn_b"], strict=True)]
    assert theirs["jaccard"].corr(pd.Series(ours)) > 0.95
    # Longer shingles are shared by fewer: LEMUR's near-duplicates are ours, not all of ours are LEMUR's.
    near = pd.Series(ours)[theirs["jaccard"] >= THRESHOLD]
    assert len(near) >= 3
    assert near.min() >= THRESHOLD - 0.05
    assert (theirs["jaccard"] - ours).max() < 0.1
