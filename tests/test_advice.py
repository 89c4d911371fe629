"""What a message says to type is typed, in the state in which the message appears, and works."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from nngpt_ext import TaskConfig, UserError, run_task
from nngpt_ext.cli import main
from nngpt_ext.doctor import OTHERS
from nngpt_ext.errors import for_shell, setting, typed
from nngpt_ext.extras import install_library
from nngpt_ext.models.presets import EMBEDDED_SMALL
from nngpt_ext.predict.database import predictions, readable_faults
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.settings import build_config, parse_settings
from nngpt_ext.study.grid import read_grid
from nngpt_ext.views.wording import not_trained_on
from tests.predict.conftest import older

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nngpt_ext"
ALEXNET = ROOT / "examples" / "alexnet.py"
RECIPE = '{"lr": 0.01, "batch": 64}'
SMALL = [  # a run of seconds
    "data.train_networks=4", "data.validation_networks=4", "data.test_networks=4", "tuning.epochs=1",
    "tuning.test_every_epoch=false",
]  # fmt: skip
FEW = [word for one in SMALL for word in ("--set", one)]
RUN = ("run", "dataset_compare")
TINY = ["run", "dataset_compare", *FEW, "--set", "prompt=recipe", "--set", "model.base=embedded-small"]


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The error."""
        last = self.err.splitlines()[-1]
        assert self.code == 2, self
        assert last.startswith("error: ")
        return last.removeprefix("error: ")


Call = Callable[..., Done]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def called(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["nngpt-ext", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(int(stopped.value.code or 0), *capsys.readouterr())

    return called


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the prompt `recipe`."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    settings = [*SMALL, "prompt=recipe", "model.base=embedded-small"]
    run_task("dataset_compare", settings=settings, output_dir=folder)
    return folder


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run in the current folder."""
    return Path(shutil.copytree(finished, tmp_path / "made"))


@pytest.fixture
def asking(finished: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the run's adapter that asks another prompt."""

    def copied(prompt: str) -> Path:
        folder = Path(shutil.copytree(finished / "adapter", tmp_path / prompt))
        older(folder)  # without the hashes of its files
        template, file = get_template(prompt), folder / "task.json"
        change = {"prompt": prompt, "system": template.system, "text": template.prompt, "columns": template.columns}
        file.write_text(json.dumps(json.loads(file.read_text()) | change | {"known_answer": None}))
        return folder

    return copied


def command_in(line: str) -> list[str]:
    """The `nngpt-ext` command that a message tells to type."""
    found = re.search(r"nngpt-ext (.*?)(;|, or |$)", line)
    assert found, line
    return shlex.split(found[1])


# In an empty folder


def test_doctors_cure_for_a_missing_hub_runs_in_an_empty_folder(call: Call, tmp_path: Path) -> None:
    words = shlex.split(str(OTHERS["hub"][1]))
    assert words[0] == "nngpt-ext"
    done = call(*words[1:], *FEW)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == (
        "no configuration file: every key that is not set has its default "
        "(model.base embedded, prompt code_only, data.split by_network)"
    )
    config = yaml.safe_load((tmp_path / "runs" / "dataset_compare" / "config.yaml").read_text())
    assert (config["model"]["base"], config["prompt"]) == ("embedded", "code_only")


def test_doctors_cure_for_a_full_disk(call: Call, tmp_path: Path) -> None:
    words = shlex.split(str(OTHERS["disk"][1]).replace("/a/folder/with/room", str(tmp_path / "room")))
    assert call(*words[1:], *FEW).code == 0
    assert (tmp_path / "room" / "report.json").is_file()


def test_no_configuration(call: Call, tmp_path: Path) -> None:
    """The three ways that the message gives; a bad epoch shows that the configuration was accepted."""
    line = call("run", "dataset_compare").line
    assert line == (
        "no configuration for 'dataset_compare': give a file (--config FILE) or what differs from the defaults (--set "
        "model.base=embedded), or enable the task in nngpt.yaml in this folder or above: tasks: {dataset_compare: {}}"
    )
    bad = ["--set", "data.epoch=999"]
    options = re.search(r"defaults \((.*?)\)", line)
    assert options
    assert "no pairs at epoch 999" in call("run", "dataset_compare", *shlex.split(options[1]), *bad).line
    (tmp_path / "nngpt.yaml").write_text(line.partition("above: ")[2])
    # A default is the 7B model, whose own message goes on.
    line = call("run", "dataset_compare", *bad).line
    assert line.startswith("cannot get base model 'deepseek-ai/deepseek-coder-7b-instruct-v1.5': ")
    assert line.endswith(
        "give a local folder: --set model.base=FOLDER, or use the model in the package: --set model.base=embedded"
    )
    for value in (EMBEDDED_SMALL, "embedded"):
        assert "no pairs at epoch 999" in call("run", "dataset_compare", "--set", f"model.base={value}", *bad).line
    (tmp_path / "file.yaml").write_text("model: {base: embedded}")
    assert "no pairs at epoch 999" in call("run", "dataset_compare", "--config", "file.yaml", *bad).line


def test_no_configuration_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        run_task("dataset_compare")
    assert "--" not in str(error.value)
    found = re.search(r"defaults \((.*?)\), or", str(error.value))
    assert found
    given = eval(f"dict({found[1]})")
    with pytest.raises(UserError, match="no pairs at epoch 999"):
        run_task("dataset_compare", **given, data={"epoch": 999})


# A bitsandbytes that is installed and broken

BROKEN = {
    "library": "raise OSError('libcudart.so.13: cannot open shared object file')",
    "part": "from bitsandbytes import functional",
}
WITHOUT = """
from nngpt_ext.models.base import load_base
from nngpt_ext.errors import UserError
load_base("embedded-small", load_in_4bit=False)
import accelerate, peft, trl, transformers, transformers.trainer
for _ in range(2):
    try:
        load_base("embedded-small")
    except UserError as error:
        print(error)
"""


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Done]:
    """Calls Python where bitsandbytes is installed, and its import fails."""
    (tmp_path / "path" / "bitsandbytes").mkdir(parents=True)
    (tmp_path / "path" / "bitsandbytes" / "__init__.py").write_text(BROKEN[request.param])
    path = os.pathsep.join([str(tmp_path / "path"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def called(*words: str) -> Done:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return called


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_a_broken_bitsandbytes_is_hidden_from_other_libraries(broken: Callable[..., Done]) -> None:
    done = broken("-c", WITHOUT)
    assert done.code == 0, done.err
    first, second = done.out.splitlines()  # the cause is remembered
    assert first == second
    assert first.startswith("bitsandbytes cannot be imported (")
    assert "halted" not in first
    assert first.endswith(install_library("bitsandbytes", again=True))  # no advice to change a setting


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["library"], indirect=True)
def test_a_broken_bitsandbytes(broken: Callable[..., Done], finished: Path) -> None:
    """Unquantised, everything works: training, answers, and the checks of the other libraries."""
    module, ask = ("-m", "nngpt_ext"), ("--code", str(ALEXNET), "mnist", "svhn", "--recipe", RECIPE)
    line = broken(*module, *TINY, "--out", "run").line
    assert line.startswith("bitsandbytes cannot be imported (OSError: libcudart.so.13: ")
    assert install_library("bitsandbytes", again=True) + "; or" in line
    advice = shlex.split(line.partition("load the base model unquantised: ")[2])
    done = broken(*module, *TINY, "--out", "run", *advice)
    assert done.code == 0, done.err
    done = broken(*module, "compare", "--run", "run", *ask)
    assert done.code == 0, done.err
    # An adapter that was trained in 4 bits cannot do without.
    line = broken(*module, "compare", "--run", str(finished), *ask).line
    assert line.endswith("pip install --force-reinstall --no-deps 'bitsandbytes>=0.50'")
    checks = {one["name"]: one for one in json.loads(broken(*module, "doctor", "--json").out)["checks"]}
    assert checks["4 bits"]["state"] == "broken"
    assert checks["4 bits"]["cure"].endswith("or load base models unquantised: --set model.load_in_4bit=false")
    assert checks["libraries"]["state"] == "ok", checks["libraries"]


# Runs, adapters and studies in one another's place


def test_an_unfinished_run(call: Call, made: Path) -> None:
    (made / "report.json").unlink()
    (made / "run.json").unlink()
    for words in (("report", "made"), ("compare", "--run", "made", "--code", ALEXNET, "mnist", "svhn")):
        line = call(*words).line
        assert line.startswith("'made' has an unfinished run; to finish it, type: nngpt-ext run dataset_compare ")
    assert call(*command_in(line)).code == 0
    assert call("report", "made").code == 0


def test_an_unfinished_run_in_python(made: Path) -> None:
    (made / "report.json").unlink()
    (made / "run.json").unlink()
    with pytest.raises(UserError) as error:
        Predictor.from_run(made)
    code = re.search(r"call (run_task\(.*\))$", str(error.value))
    assert code
    assert "--" not in code[1]
    eval(code[1], {"run_task": run_task})
    assert Predictor.from_run(made)


@pytest.mark.parametrize("name", ["baselines.parquet", "run.json"])
def test_a_lost_file_of_a_finished_run(call: Call, made: Path, name: str) -> None:
    (made / name).unlink()
    line = call("report", "made").line
    assert "to make it again, remove 'made/report.json' and type: nngpt-ext run" in line
    (made / "report.json").unlink()
    assert call(*command_in(line)).code == 0
    assert call("report", "made").code == 0


def test_an_adapter_given_as_a_run_and_a_run_as_an_adapter(call: Call, made: Path) -> None:
    ask = ["--code", ALEXNET, "mnist", "svhn", "--recipe", RECIPE]
    for words in (("report", "made/adapter"), ("export", "hub", "--run", "made/adapter", "--out", "hub")):
        assert call(*words).line == (
            "'made/adapter' has an adapter, not a run; compare, rank and score take it as --run"
        )
    assert call("compare", "--run", "made/adapter", *ask).code == 0
    with pytest.raises(UserError, match=r"it needs adapter_config.json and .*; give 'made/adapter'$"):
        Predictor.from_pretrained("made")
    assert Predictor.from_pretrained("made/adapter")
    with pytest.raises(UserError, match=r"has an adapter, not a run; use Predictor.from_pretrained\('made/adapter'\)$"):
        Predictor.from_run("made/adapter")


def test_other_places_than_a_run(call: Call, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "study" / "cells" / "one")
    for place, line in (
        (".", "'.' has no run; give one of those in it, such as made"),
        ("study", "'study' has no run; give one of those in it, such as study/cells/one"),
        ("made/report.json", "'made/report.json' is a file, not a run's folder"),
        ("nowhere", "no folder 'nowhere'"),
    ):
        assert call("report", place).line == line
        assert call("compare", "--run", place, "--code", ALEXNET, "mnist", "svhn").line == line
    assert call("report", "study/cells/one").code == 0
    with pytest.raises(UserError, match="no adapter at 'nowhere': there is no such folder, and a hub id has the form"):
        Predictor.from_pretrained("nowhere")


def test_a_study_given_as_a_configuration_and_the_other_way(call: Call, tmp_path: Path) -> None:
    study = ROOT / "examples" / "study_quick.yaml"
    line = call("run", "dataset_compare", "--config", study).line
    assert call(*command_in(line), "--out", "study", "--draw").line.startswith("there is no study in 'study' to draw")
    (tmp_path / "tasks.yaml").write_text("tasks: {dataset_compare: {}}")
    (tmp_path / "empty.yaml").write_text("")
    for name in ("tasks.yaml", "empty.yaml"):
        line = call("study", "--config", name).line
        (tmp_path / "written.yaml").write_text(line.partition("write for example ")[2])
        assert len(read_grid(tmp_path / "written.yaml").cells) == 1


def test_a_folder_below_a_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, what in (("file", "is a file"), ("file/run", f"cannot be made, because '{tmp_path / 'file'}' is a file")):
        line = call("run", "dataset_compare", "--set", "model.base=embedded", "--out", out).line
        assert line == f"the output folder '{out}' {what}; give another --out"


def test_what_is_already_there(call: Call, made: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "mine").write_text("mine")
    export = ["export", "hub", "--run", "made", "--out", "hub"]
    assert call(*export).line.endswith("; give another --out, or replace it with --force")
    assert call(*export, "--force").code == 0
    assert call(*export[:-1], "other").code == 0


# What a prompt or a model needs


def test_a_recipe_that_is_missing(call: Call, made: Path) -> None:
    ask = ["compare", "--run", "made", "--code", ALEXNET, "mnist", "svhn"]
    line = call(*ask).line
    assert call(*ask, *shlex.split(line.partition(": ")[2])).code == 0
    predictor, code = Predictor.from_run(made), ALEXNET.read_text()
    with pytest.raises(UserError) as error:
        predictor.compare(code, "mnist", "svhn")
    predictor.compare(code, "mnist", "svhn", **eval(f"dict({str(error.value).partition(': ')[2]})"))


def test_accuracies_that_are_missing(call: Call, asking: Callable[[str], Path]) -> None:
    ask = ["compare", "--run", asking("normalized_accuracy"), "--code", ALEXNET, "mnist", "svhn"]
    line = call(*ask).line
    assert line.endswith(" (of compare and rank)")  # score has no such option
    assert call(*ask, *shlex.split(line.partition(": ")[2].partition(" (")[0])).code == 0


def test_facts_that_are_missing(call: Call, asking: Callable[[str], Path]) -> None:
    adapter = asking("metadata_only")
    ask = ["compare", "--run", adapter, "--code", ALEXNET, "my flowers", "svhn"]
    accuracies = ["--accuracies", '{"my flowers": 0.5, "svhn": 0.5}']
    line = call(*ask, *accuracies).line
    assert line.endswith("; for a new one give its facts: --facts 'my flowers=IMAGES,SIZE,CHANNELS,CLASSES'")
    facts = line.partition("facts: ")[2].replace("IMAGES,SIZE,CHANNELS,CLASSES", "1020,224,3,102")
    assert call(*ask, *accuracies, *shlex.split(facts)).code == 0
    with pytest.raises(UserError) as error:
        Predictor.from_pretrained(adapter).compare("x = 1", "my flowers", "svhn")
    python = str(error.value).partition("facts: ")[2]
    assert python == "facts={'my flowers': (training images, image size, channels, classes)}"
    given = eval(f"dict({python.replace('training images, image size, channels, classes', '1020, 224, 3, 102')})")
    Predictor.from_pretrained(adapter, **given)


def test_a_base_model_that_is_elsewhere(call: Call, made: Path) -> None:
    ask = ["compare", "--run", "made", "--code", ALEXNET, "mnist", "svhn", "--recipe", RECIPE]
    line = call(*ask, "--base", "models/gone").line
    assert line.startswith("cannot get base model 'models/gone': there is no such folder here, and the hub failed (")
    assert line.endswith("; download it and give its folder: --base FOLDER")
    assert call(*ask, "--base", EMBEDDED_SMALL).code == 0


def test_a_file_in_place_of_json(call: Call, made: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(RECIPE)
    ask = ["compare", "--run", "made", "--code", ALEXNET, "mnist", "svhn", "--recipe"]
    line = call(*ask, "recipe.json").line
    assert line == f"the recipe is a file's name, 'recipe.json'; give what is in it, for example {RECIPE}"
    assert call(*ask, (tmp_path / "recipe.json").read_text()).code == 0


def test_a_collection_that_is_no_parquet_file(call: Call, made: Path, tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    shutil.copy(ALEXNET, tmp_path / "codes")
    (tmp_path / "codes.csv").write_text("nn,nn_code\na,x = 1\n")
    score = ["score", "--run", "made", "--recipe", RECIPE, "--out", "o.parquet", "mnist", "svhn", "--codes"]
    for place in ("codes.csv", "codes/alexnet.py"):
        assert call(*score, place).line == (
            f"'{place}' is not a Parquet file: give a folder of *.py files or a Parquet file with the columns nn and "
            "nn_code"
        )
    assert call(*score, "codes").code == 0


# LEMUR


def test_an_origin_that_is_missing(call: Call) -> None:
    for hold_out in ([], ["--hold-out", "GA"]):
        line = call("pairs", "--split", "by_origin", *hold_out).line
        advice = re.search(r"for example (--hold-out \w+), in a run (--set data\.hold_out=\w+)$", line)
        assert advice
        assert ("(did you mean 'ga'?)" in line) == bool(hold_out)
        assert call("pairs", "--split", "by_origin", *shlex.split(advice[1])).code == 0
    given = shlex.split(advice[2])[1:]
    assert build_config(TaskConfig, parse_settings(["data.split=by_origin", *given])).data.hold_out == "ga"


def test_a_database_that_was_cut_off(call: Call, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "half.db")) as there:
        there.execute("CREATE TABLE nn (name, code)")
        there.execute("CREATE TABLE prm (uid, name, value)")
        there.execute("CREATE TABLE stat (task, metric, nn, dataset, epoch, accuracy, prm, transform)")
    line = call("pairs", "--lemur", "half.db").line
    assert line.endswith("or leave out its path and read the installed package: --source package, in a run --set "
                         "data.source=package")  # fmt: skip
    assert command_in(line) == ["host", "database", "--out", "half.db"]
    assert call(*command_in(line), "--help").code == 0
    assert call("pairs", "--source", "package").code == 0


# Near names


@pytest.mark.parametrize(
    ("words", "wrong", "right"),
    [
        (("run", "NAME"), "dataset-compare", "dataset_compare"),
        ((*RUN, "--set", "model.base=NAME"), "Embedded", "embedded"),
        ((*RUN, "--set", "model.base=NAME"), "embeded", "embedded"),
        ((*RUN, "--set", "model.base=NAME"), "deepseek_coder_7b", "deepseek-coder-7b"),
        ((*RUN, "--set", "model.base=embedded", "--set", "prompt=NAME"), "Code-Only", "code_only"),
        ((*RUN, "--set", "model.base=embedded", "--set", "NAME=1"), "tuning.epoch", "tuning.epochs"),
        ((*RUN, "--set", "model.base=embedded", "--set", "NAME=1"), "data.Epoch", "data.epoch"),
        ((*RUN, "--set", "model.base=embedded", "--set", "NAME=1"), "seeds", "tuning.seed"),
        ((*RUN, "--set", "tuning.engine=NAME"), "Shared", "shared"),
        (("pairs", "--split", "NAME"), "by-cluster", "by_cluster"),
        (("pairs", "--split", "NAME"), "cluster", "by_cluster"),
        (("pairs", "--label", "NAME"), "normalised", "normalized"),
        (("pairs", "--trials", "NAME"), "Random", "random"),
        (("pairs", "--source", "NAME"), "pakage", "package"),
        (("NAME",), "doktor", "doctor"),
        (("compare", "--run", "RUN", "--code", "CODE", "svhn", "NAME", "--recipe", RECIPE), "MNIST", "mnist"),
        (("compare", "--run", "RUN", "--code", "CODE", "svhn", "NAME", "--recipe", RECIPE), "CIFAR10", "cifar-10"),
        (("rank", "--run", "RUN", "--code", "CODE", "svhn", "NAME", "--recipe", RECIPE), "cifar_100", "cifar-100"),
        (("score", "--run", "RUN", "--codes", "CODES", "--out", "o", "svhn", "NAME"), "Places 365", "places365"),
        (("score", "--run", "RUN", "--codes", "CODES", "--out", "o", "--engine", "NAME"), "Local", "local"),
        (("compare", "--run", "RUN", "--code", "CODE", "svhn", "mnist", "--recipe", '{"NAME": 1}'), "LR", "lr"),
        (("compare", "--run", "RUN", "--code", "CODE", "svhn", "mnist", "--recipe", RECIPE, "--base", "NAME"),
         "embedded small", "embedded-small"),
    ],
)  # fmt: skip
def test_near_names(call: Call, finished: Path, words: tuple[str, ...], wrong: str, right: str) -> None:
    places = {"RUN": str(finished), "CODE": str(ALEXNET), "CODES": str(ALEXNET.parent)}

    def asked(name: str) -> Done:
        return call(*(places.get(word, word.replace("NAME", name)) for word in words))

    assert f"id you mean '{right}'?" in asked(wrong).line
    if right not in ("doctor", "package", "deepseek-coder-7b") and words[0] in ("compare", "rank", "pairs"):
        assert asked(right).code == 0  # as it was advised


NEW = {  # new datasets, and what they may be instead
    "fashion-mnist": "", "Fashion-MNIST": "", "FashionMNIST": "", "kmnist": "", "EMNIST": "", "ImageNet": "",
    "CelebA": "", "cifar-1000": "", "cifar": "", "flowers": "", "minst": "mnist", "SHVN": "svhn",
    "imagenete": "imagenette", "celeba_genders": "celeba-gender", "cifar-10-c": "", "mnist_m": "", "my-mnist": "",
}  # fmt: skip


def test_a_new_dataset_abstains_and_only_a_misspelt_one_is_corrected(call: Call, finished: Path) -> None:
    done = call("rank", "--run", finished, "--code", ALEXNET, "svhn", *NEW, "--recipe", RECIPE)
    assert done.code == 0, done.err
    for name, meant in NEW.items():
        hint = f" (did you mean '{meant}'?)" if meant else ""
        assert f"the adapter was not trained on '{name}'{hint}: answers about it abstain" in done.err.splitlines()
    said = f"About alexnet the model abstains: {not_trained_on(sorted(NEW))}."
    assert " ".join(done.out.split()).startswith(said)


def test_a_name_like_a_known_one_with_facts_is_another_dataset(call: Call, finished: Path) -> None:
    ask = ["compare", "--run", finished, "--code", ALEXNET, "svhn", "MNIST", "--recipe", RECIPE]
    assert "(did you mean 'mnist'?)" in call(*ask).line
    done = call(*ask, "--facts", "MNIST=60000,28,1,10")
    assert f"(abstains: {not_trained_on(['MNIST'])})" in done.out


# The store


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlite:///folder", "unable to open database file; it is a folder: give another place, for example sqlite:///"),
        ("sqlite:///text.db", "file is not a database; give another place, for example sqlite:///predictions.db"),
        ("postgresql+psycopg://me@127.0.0.1:1/x", "; check the host, the port, the database, the user"),
        ("sqlite:///nngpt.yaml/p.db", "cannot create a file in "),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_used(call: Call, made: Path, tmp_path: Path, url: str, line: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("text " * 999)
    (tmp_path / "nngpt.yaml").write_text("")
    ask = ["compare", "--run", "made", "--code", ALEXNET, "mnist", "svhn", "--recipe", RECIPE, "--store"]
    assert line in call(*ask, url).line
    assert call(*ask, "sqlite:///predictions.db").code == 0


def test_a_store_that_is_locked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    with closing(sqlite3.connect(tmp_path / "p.db")) as there, closing(sqlite3.connect(tmp_path / "p.db")) as other:
        there.execute(f"CREATE TABLE {predictions.name} (x)")
        there.commit()
        there.execute("BEGIN EXCLUSIVE")
        other.execute("PRAGMA busy_timeout = 1")
        told = "database is locked; another program is writing to it: run the command again"
        with pytest.raises(UserError, match=told), readable_faults(url):
            other.execute("BEGIN IMMEDIATE")


# Two readers


def test_the_shell_and_python_are_told_in_their_own_words() -> None:
    for key, value, shell, python in (
        ("model.load_in_4bit", "False", "--set model.load_in_4bit=false", 'model={"load_in_4bit": False}'),
        ("data.hold_out", "ga", "--set data.hold_out=ga", 'data={"hold_out": "ga"}'),
        ("prompt", "recipe", "--set prompt=recipe", 'prompt="recipe"'),
    ):
        assert setting(key, value) == python
        with for_shell():
            assert setting(key, value) == shell
        assert typed("a", "b") == "b"


def strings(tree: ast.AST, inside: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """All strings but docstrings, with the names of the functions that they are arguments of; {} is a value in one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield inside, node.value
        if isinstance(node, ast.JoinedStr):
            yield inside, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            values = [part for part in node.values if not isinstance(part, ast.Constant)]
            yield from strings(ast.Module([ast.Expr(part) for part in values], []), inside)
            continue
        yield from strings(node, (*inside, ast.unparse(node.func)) if isinstance(node, ast.Call) else inside)


STRINGS = [
    (str(file.relative_to(PACKAGE)), {*inside}, text)
    for file in sorted(PACKAGE.rglob("*.py"))
    for inside, text in strings(ast.parse(file.read_text()))
]
# The command line itself, and commands of other programs.
OF_THE_SHELL = (
    "cli.py", "terminal.py", "bench.py", "doctor.py", "shell.py", "extras.py", "bundle.py", "_commands.py",
    "serve/app.py", "serve/deployment.py", "serve/described.py", "serve/guard.py", "serve/server.py",
    "serve/tools.py",  # of a server, which a command starts
)  # fmt: skip


def test_options_are_named_to_the_shell_only() -> None:
    """A string with an option is an argument of `typed`, the `option` of what a user gives, or in a whole command."""
    assert len(STRINGS) > 2_000
    elsewhere = [
        (module, text)
        for module, inside, text in STRINGS
        if re.search(r"(^|[^\w-])--[a-z]", text)
        and not module.endswith(OF_THE_SHELL)
        and not inside & {"typed", "pip", "Given"}
        and not re.search(r"nngpt-ext \w|^--shape|nn-dataset==|--include_path|--model hf|torchrun --nproc", text)
    ]
    assert elsewhere == []


def test_messages_name_only_what_the_wheel_has() -> None:
    """No files of the repository, no extra of this package, which is on no index, and no pip of another Python."""
    wrong = r"\b(examples|docs|research|scripts|tests)/\w|nngpt-ext\[|pip3? (un)?install"
    assert [(module, text) for module, _, text in STRINGS if re.search(wrong, text)] == []
