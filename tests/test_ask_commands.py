"""`compare`, `rank` and `score` from the shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from nngpt_ext import PredictionStore, Predictor, RunResult, UserError
from nngpt_ext.cli import app
from tests.predict.conftest import older
from tests.serve.conftest import Running, asking, deployment, one_thread, run, server

__all__ = ["asking", "deployment", "one_thread", "run", "server"]

ALEXNET = Path(__file__).parents[1] / "examples" / "alexnet.py"


def asked(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


def test_compare_and_its_complement(run: RunResult) -> None:
    base = ("compare", "--run", run.output_dir, "--code", ALEXNET, "--json")
    one, other = (json.loads(asked(*base, *names)) for names in (("mnist", "svhn"), ("svhn", "mnist")))
    assert abs(one["probability"] + other["probability"] - 1) < 1e-9
    assert one["winner"] == other["winner"]
    assert one["nn"] == "alexnet"
    assert set(one["prior"]) == {"probability", "log_odds", "abstain"}
    found = Predictor.from_run(run.output_dir).compare(ALEXNET.read_text(), "mnist", "svhn")
    assert found.log_odds == pytest.approx(one["log_odds"], abs=1e-5)


def test_compare_in_words_from_an_adapters_folder(run: RunResult) -> None:
    said = asked("compare", "--run", run.output_dir / "adapter", "--code", ALEXNET, "mnist", "svhn")
    assert re.search(r"^P\(mnist\) = 0\.\d{3}; without the source code 0\.\d{3}$", said, re.MULTILINE)


def test_what_is_said_of_the_threshold(run: RunResult, tmp_path: Path) -> None:
    adapter = older(shutil.copytree(run.output_dir / "adapter", tmp_path / "adapter"))
    calibration = json.loads((adapter / "calibration.json").read_text())
    for threshold, words in (
        (None, " % confident; this adapter has no threshold, so all its answers abstain)"),
        (0.5, " % confident; this adapter answers from 50.0 %)"),
        (1.0, " % confident; this adapter abstains below 100.0 %)"),
    ):
        (adapter / "calibration.json").write_text(json.dumps(calibration | {"threshold": threshold}))
        assert words in asked("compare", "--run", adapter, "--code", ALEXNET, "mnist", "svhn")


def test_accuracies_for_a_prompt_that_shows_them(asking: Callable[[str], Path]) -> None:
    base = ("compare", "--run", asking("normalized_accuracy"), "--code", ALEXNET, "--json", "mnist", "svhn")
    low, high = (
        json.loads(asked(*base, "--accuracies", json.dumps({"mnist": value, "svhn": 0.5}))) for value in (0.1, 0.9)
    )
    assert low["log_odds"] != high["log_odds"]
    assert low["prior"] != high["prior"]


def test_rank(run: RunResult) -> None:
    found = json.loads(asked("rank", "--run", run.output_dir, "--code", ALEXNET, "--json"))
    assert len(found["comparisons"]) == len(found["datasets"]) * (len(found["datasets"]) - 1) // 2
    said = asked("rank", "--run", run.output_dir, "--code", ALEXNET, *found["datasets"])
    assert ("The ranking is consistent." in said) == (found["intransitive"] == 0)
    assert "The ranking is" not in asked("rank", "--run", run.output_dir, "--code", ALEXNET, "mnist", "svhn")
    header = re.search(r"^dataset +┃ (.*)$", said, re.MULTILINE)
    assert header is not None
    columns = [name.strip() for name in header[1].split("┃")]
    assert columns == ["P(best of all)", "P(better than next)", "strength", "abstains"]
    for i, name in enumerate(found["datasets"], 1):
        row = re.search(
            rf"^{i}\. {name} +│ ([\d.]+) +│ ([\d.]+|–) +│ ([-+][\d.]+) +│ (\d) of \d *$", said, re.MULTILINE
        )
        assert row is not None
        assert float(row[1]) == pytest.approx(found["probabilities"][name], abs=6e-4)
        assert (row[2] == "–") == (i == len(found["datasets"]))
        assert row[2] == "–" or float(row[2]) == pytest.approx(found["over_next"][name], abs=6e-4)
        assert int(row[4]) == sum(
            c["abstain"] for c in found["comparisons"] if name in (c["dataset_1"], c["dataset_2"])
        )
    abstaining = sum(c["abstain"] for c in found["comparisons"])
    assert f"abstains in {abstaining} of {len(found['comparisons'])} comparisons" in said
    assert (found["abstain"], found["reason"] is None) == (found["reason"] is not None, not found["abstain"])
    assert ("but the model abstains: " in said) == found["abstain"]
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["probability"] == found["probabilities"][found["datasets"][0]]


def test_structures_from_the_shell(asking: Callable[[str], Path], tmp_path: Path) -> None:
    file, adapter = tmp_path / "alexnet.json", asking("structure")
    shapes = ("--shape", "1x28x28", "--shape", "3x32x32", "--classes", 10)
    file.write_text(asked("structure", ALEXNET, *shapes, "--json"))
    base = ("--run", adapter, "--code", ALEXNET, "mnist", "svhn", "--json", "--structure")
    measured, given = (json.loads(asked("compare", *base, one)) for one in ("measure", file))
    assert measured == given
    assert measured["basis"]["networks"] == 8
    assert measured["prior"]["log_odds"] != measured["log_odds"]
    ranking = json.loads(asked("rank", *base, file))
    assert ranking["comparisons"][0]["log_odds"] == measured["log_odds"]
    assert ranking["basis"] == measured["basis"]


def test_what_the_answer_rests_on_is_said(run: RunResult) -> None:
    for command in ("compare", "rank"):
        said = asked(command, "--run", run.output_dir, "--code", ALEXNET, "mnist", "svhn").splitlines()
        assert said[-2] == "What the answer rests on"
        assert re.fullmatch(
            r"Source: most like \S+ among 8 training networks \(similarity 0\.\d\d\); kind none: unlike any network in "
            r"training\.",
            said[-1],
        )


@pytest.mark.parametrize("names", [("mnist", "svhn"), ("pets", "mnist")])
def test_a_server_says_what_the_run_says(run: RunResult, server: Running, names: tuple[str, ...]) -> None:
    """The same words and the same JSON, with what the answer rests on, and the prior."""
    for command in ("compare", "rank"):
        words = ("--code", ALEXNET, *names)
        there, here = (
            (asked(command, *place, *words), json.loads(asked(command, *place, *words, "--json")))
            for place in (("--server", server.url), ("--run", run.output_dir))
        )
        assert there[0] == here[0]
        assert "What the answer rests on" in there[0]
        assert there[1].keys() == here[1].keys()
        for name, value in here[1].items():
            assert there[1][name] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value)
        if command == "compare":
            assert there[1]["prior"].keys() == {"probability", "log_odds", "abstain"}


def test_a_server_warns_as_the_run_does(run: RunResult, server: Running) -> None:
    said = []
    for place in (("--server", server.url), ("--run", str(run.output_dir))):
        words = ["compare", *place, "--code", str(ALEXNET), "--recipe", '{"lr": 0.01}', "minst", "svhn"]
        command = [sys.executable, "-c", "from nngpt_ext.cli import main; main()", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(set(done.stderr.splitlines()))
    assert said[0] == said[1]
    assert said[0] == {
        "prompt 'code_only' does not show what was given and is not used: recipe",
        "the adapter was not trained on 'minst' (did you mean 'mnist'?): answers about it abstain",
        "the adapter never reached 0.95 on validation: every answer abstains",
    }


def test_a_run_or_a_server(run: RunResult, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["rank", "--run", str(run.output_dir), "--code", str(ALEXNET), "mnist", "svhn"]
    both = CliRunner().invoke(app, [*words, "--server", server.url])
    assert isinstance(both.exception, UserError)
    assert str(both.exception) == ("--run and --server are both given; give one of them: the run here, or the server's")
    monkeypatch.setenv("NNGPT_EXT_SERVER", "http://127.0.0.1:1")  # which nobody asks
    assert "What the answer rests on" in asked(*words)
    monkeypatch.setenv("NNGPT_EXT_SERVER", server.url)
    assert "What the answer rests on" in asked("rank", "--code", ALEXNET, "mnist", "svhn")


def test_a_source_that_was_cut_is_said(run: RunResult, tmp_path: Path) -> None:
    """Also if the answer comes from the store, or from the run's own rows in it."""
    sentence = re.compile(r"Only the first 64 of \d{3} tokens of the source were read\.")
    store = ("--store", f"sqlite:///{tmp_path}/p.db")
    (tmp_path / "small.py").write_text("class Net: pass")
    no_module = "The source defines no class derived from nn.Module, so it may be no network."
    for _ in range(2):
        for code, cut in ((ALEXNET, 64), (tmp_path / "small.py", None)):
            words = ("--run", run.output_dir, "--code", code, *store)
            assert json.loads(asked("compare", *words, "--json", "mnist", "svhn"))["cut_to"] == cut
            assert json.loads(asked("rank", *words, "--json", "mnist", "svhn"))["cut_to"] == cut
            for command in ("compare", "rank"):
                said = asked(command, *words, "mnist", "svhn")
                assert (sentence.search(said) is not None, no_module in said) == (cut is not None, cut is None)
    predicted = pd.read_parquet(run.output_dir / "predictions.parquet")
    cut = set(json.loads((run.output_dir / "run.json").read_text())["cut"])
    assert cut
    assert set(predicted.loc[predicted["cut"], "nn"]) == cut & set(predicted["nn"])
    with PredictionStore.open(f"sqlite:///{run.output_dir}/predictions.db") as rows:
        assert set(rows.query().query("cut == True")["nn"]) == cut & set(predicted["nn"])


def test_what_score_left_out_is_said_at_its_end(run: RunResult, tmp_path: Path) -> None:
    folder, out = tmp_path / "nets", tmp_path / "o.parquet"
    for name in ("alexnet.py", "copy.py", ".venv/lib/x.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ALEXNET, folder / name)
    (folder / "setup.py").write_text("x = 1")
    (folder / "bad.py").write_text("def (")
    words = ("score", "--run", run.output_dir, "--codes", folder, "--out", out)
    lines = [
        f"3 predictions about 3 networks in {out}",
        "{n} of 3 predictions abstain.",
        "Only the first 64 tokens of the source were read in 2 networks of 3.",
        f"1 network could not be scored: see {out}.refused.json.",
        "1 file was skipped: '.venv/' 1; to score such a folder, give it itself.",
        "1 source occurred under several names, such as alexnet, copy.",
        "The source defines no class derived from nn.Module, so it may be no network, in 1 network: setup.",
    ]
    said = asked(*words, "mnist", "svhn")
    frame = pd.read_parquet(out)
    assert said.splitlines() == [line.replace("{n}", str(frame["abstain"].sum())) for line in lines]
    assert frame.set_index("nn")["cut_to"].dropna().to_dict() == {"alexnet": 64, "copy": 64}
    again = json.loads(asked(*words, "--json", "mnist", "svhn"))  # of a collection that is complete
    assert again["remarks"] == said.splitlines()[1:]
    assert again["skipped"] == {"'.venv/'": 1}
    assert (again["same"], again["classless"], again["cut"]) == ([["alexnet", "copy"]], ["setup"], 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--run", "{run}", "--code", "{tmp}/none.py", "mnist", "svhn"], "cannot read '"),
        (["compare", "--run", "{run}", "--code", "{tmp}/bad.py", "mnist", "svhn"], "bad.py' is not Python (line 1"),
        (["compare", "--run", "{run}", "--code", "{alexnet}", "mnist", "mnist"], "'mnist' is compared with itself"),
        (["compare", "--run", "{run}", "--code", "{alexnet}", "mnist", "x", "--facts", "x=1,2"], "facts of 'x' are"),
        (["rank", "--run", "{tmp}", "--code", "{alexnet}"], "no run"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--recipe", "lr=1"], "the recipe is not JSON"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "mnist"], "two datasets or more"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--accuracies", "3"], "the value of --accuracies must be a"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--facts", "1,2,3,4"], "facts are of a dataset with a name"),
        (["score", "--run", "{run}", "--codes", "{tmp}", "--out", "{tmp}/o", "--engine", "rya"], "engine 'rya'"),
        (["score", "--run", "{run}", "--codes", "{tmp}/none", "--out", "{tmp}/o"], "there is no '"),
        (["score", "--run", "{run}", "--codes", "{run}", "--out", "{tmp}/o", "mnist", " "], "a dataset's name must be"),
        (["score", "--run", "{run}", "--codes", "{run}", "--out", "{tmp}/o", "mnist"], "two datasets or more"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(
    run: RunResult, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.py").write_text("def (")
    filled = [text.format(run=run.output_dir, tmp=tmp_path, alexnet=ALEXNET) for text in arguments]
    done = subprocess.run(
        [sys.executable, "-c", "from nngpt_ext.cli import main; main()", *filled], capture_output=True, text=True
    )
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["bad.py"]


def test_compare_loads_only_what_it_needs(run: RunResult) -> None:
    """Imports take nearly all of its 4 s of CPU."""
    code = (
        "import sys\nfrom nngpt_ext.cli import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'pandas', 'scipy.special', 'scipy.optimize', 'sklearn', 'trl'} & sys.modules.keys()))"
    )
    words = ["-q", "compare", "--run", run.output_dir, "--code", ALEXNET, "mnist", "svhn", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    answer, _, loaded = done.stdout.strip().rpartition("\n")
    assert json.loads(answer)["winner"] in ("mnist", "svhn")
    assert loaded == "[]"
