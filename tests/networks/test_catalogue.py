"""Structures from the package, from the cache, and measured."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.errors import UserError
from nngpt_ext.networks import catalogue
from nngpt_ext.networks.catalogue import SHIPPED, Catalogue, Found, measure_all, shipped, structure_of, structures
from nngpt_ext.networks.sandbox import Sandbox, Stopped, Unmeasured, stopped_by
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
    trained, native = set(), set()
    for row in rows.itertuples():
        facts = LEMUR_FACTS[row.dataset]
        trained.add((keys[row.nn], input_shape(row.dataset, facts, row.transform)))
        native.add((keys[row.nn], input_shape(row.dataset, facts)))
    assert len(keys) == 1942
    assert (trained | native) - set(table) == set()
    # A batch goes through at the shape of nearly every training, but small native images are too small for many.
    assert share(table[key] for key in trained) > 0.995
    assert 0.85 < share(table[key] for key in native) < 0.95


def share(found: Iterable[Found]) -> float:
    """The share that a batch went through."""
    passed = [isinstance(one, Structure) and one.forward == 1 for one in found]
    return sum(passed) / len(passed)


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
    content = json.loads((own_cache / f"{source_key(source)}.json").read_bytes())
    assert [tuple(shape) for shape, _ in content["structures"]] == [astuple(shape) for shape in SHAPES]
    monkeypatch.setattr(catalogue, "measure_all", None)
    assert structures([(source, shape) for shape in SHAPES]) == measured
    monkeypatch.setattr(catalogue, "VERSION", "0")
    with pytest.raises(TypeError):  # measured again
        structures([(source, SHAPES[0])])


def test_a_network_that_reads_its_docstring_is_measured_as_it_is(own_cache):
    code = """class Net(torch.nn.Module):
    '''WIDTH'''
    def __init__(self, *given):
        super().__init__()
        self.layer = torch.nn.Linear(3072, int(self.__doc__))
    def forward(self, x):
        return self.layer(x.flatten(1))
"""
    sources = {width: f"import torch\n{code.replace('WIDTH', str(width))}" for width in (10, 20)}
    for width, source in sources.items():
        assert structure_of(source, SHAPES[0]).parameters == 3073 * width
    found = structures([(source, SHAPES[0]) for source in sources.values()])
    assert [one.parameters for one in found.values()] == [30_730, 61_460]


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


def network(width: int, before: str = "pass") -> str:
    """A linear network with `width` outputs in its first layer."""
    return f"""
import time
import torch.nn as nn

class Net(nn.Module):
    def __init__(self, in_shape, out_shape, prm, device):
        super().__init__()
        {before}
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, {width}), nn.Linear({width}, out_shape[0]))

    def forward(self, x):
        return self.layers(x)
"""


def widths(catalogue: Catalogue, width: int) -> int:
    """The width of `network(width)` as the catalogue finds it."""
    found = catalogue.of(network(width), SHAPES[:1])[SHAPES[0]]
    assert isinstance(found, Structure)
    assert found.layer_width is not None
    return found.layer_width


def process(catalogue: Catalogue) -> int:
    sandbox = catalogue._sandbox
    assert sandbox is not None
    assert sandbox._process is not None
    return sandbox._process.pid


def test_one_sandbox_for_all_networks_which_ends_with_the_catalogue():
    catalogue = Catalogue()
    assert widths(catalogue, 20) == 20
    pid = process(catalogue)
    failed = catalogue.of("raise ValueError('no')", SHAPES)
    assert failed == dict.fromkeys(SHAPES, Unmeasured("ValueError: no"))
    assert widths(catalogue, 21) == 21
    assert process(catalogue) == pid
    del catalogue
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_sandbox_starts_for_what_is_known(lemur_sources):
    widths(Catalogue(), 22)
    catalogue = Catalogue()
    assert widths(catalogue, 22) == 22
    assert [one.parameters for one in catalogue.of(lemur_sources["AlexNet"], SHAPES).values()] == [57044810, 57413540]
    assert catalogue._sandbox is None


def test_after_ctrl_c_no_network_gets_the_answer_about_another():
    catalogue = Catalogue()
    assert widths(catalogue, 23) == 23

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, pressed)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(KeyboardInterrupt):
            catalogue.of(network(24, "time.sleep(3)"), SHAPES[:1])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert widths(catalogue, 25) == 25


def test_threads_share_a_sandbox():
    catalogue, found = Catalogue(), {}
    numbers = range(30, 36)
    threads = [threading.Thread(target=lambda n=n: found.update({n: widths(catalogue, n)})) for n in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n for n in numbers}


def test_a_process_that_fails_leaves_no_sandbox(tmp_path):
    (tmp_path / "net.py").write_text(network(26))
    code = (
        "import sys; from pathlib import Path; from nngpt_ext.networks.catalogue import Catalogue; "
        "from nngpt_ext.networks.structure import Shape; kept = Catalogue(); "
        f"kept.of(Path({str(tmp_path / 'net.py')!r}).read_text(), [Shape(3, 32, 32, 10)]); "
        "print(kept._sandbox._process.pid); raise OSError"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_measurement_nobody_waits_for_is_stopped():
    """Also one that waits for another's end."""
    endless = "import torch.nn as nn\n\nclass Net(nn.Module):\n    def __init__(self, *_):\n        while True: pass\n"
    own, shape, stop, ended = Catalogue(), Shape(3, 32, 32, 10), threading.Event(), []

    def measure(source: str) -> None:
        with stopped_by(stop):
            try:
                own.of(source, [shape])
            except Stopped:
                ended.append(time.monotonic())

    with Sandbox() as warm:  # what it takes to start is not measured
        own._sandbox = warm
        threads = [threading.Thread(target=measure, args=(f"{endless}# {i}\n",)) for i in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        began = time.monotonic()
        stop.set()
        for thread in threads:
            thread.join()
        assert len(ended) == 2
        assert max(ended) - began < 5  # and neither the 10 s of CPU of one, nor of both
        assert warm._process is None
