"""One source, whatever way it comes in: the same answer, or the same refusal, at every entrance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.cli import app
from nngpt_ext.host.node import make_dataset_compare_node
from nngpt_ext.io import text_digest

CODE = "import torch\n\n\nclass Net:\n    pass\n"


class Seen:
    """A scorer that keeps the sources that it is asked about."""

    def __init__(self) -> None:
        self.sources: set[str] = set()

    def log_odds(self, questions: Sequence[Any], sources: Mapping[str, str]) -> np.ndarray:
        self.sources |= {source for source in sources.values() if source}
        assert all(text_digest(source) == name for name, source in sources.items())
        return np.ones((len(questions), 2))


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def entrances(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> dict[str, Callable[[bytes], object]]:
    """For each way in: give it a source, as bytes."""
    adapter = run.output_dir / "adapter"
    predictor = Predictor(adapter, scorer=seen)
    monkeypatch.setattr("nngpt_ext.ask_commands._predictor", lambda *_, **__: predictor)

    def call(*arguments: object) -> None:
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        if done.exception is not None:
            raise done.exception

    def file(content: bytes) -> Path:
        (tmp_path / "codes").mkdir(exist_ok=True)
        (tmp_path / "codes" / "net.py").write_bytes(content)
        return tmp_path / "codes" / "net.py"

    def score(codes: Path) -> None:
        for left in tmp_path.glob("out.parquet*"):
            left.unlink()
        call("score", "--run", adapter, "--codes", codes, "--out", tmp_path / "out.parquet", "mnist", "svhn")

    def table(value: object) -> None:
        pd.DataFrame({"nn": ["net"], "nn_code": [value]}).to_parquet(tmp_path / "codes.parquet")
        score(tmp_path / "codes.parquet")

    def node(text: str) -> None:
        if error := make_dataset_compare_node(predictor)({"nn_code": text})["dataset_compare_error"]:
            raise UserError(error.removeprefix("UserError: "))

    return {
        "compare": lambda given: call("compare", "--run", adapter, "--code", file(given), "mnist", "svhn"),
        "rank": lambda given: call("rank", "--run", adapter, "--code", file(given)),
        "folder": lambda given: score(file(given).parent),
        "table of text": lambda given: table(given.decode()),
        "table of bytes": lambda given: table(given),
        "Python": lambda given: predictor.compare(given.decode(), "mnist", "svhn"),
        "Python, bytes": lambda given: predictor.rank(given),  # type: ignore[arg-type]
        "Python, a stream": lambda given: list(predictor.compare_many([(given.decode(), "mnist", "svhn")] * 2)),
        "node": lambda given: node(given.decode()),
    }


TAKEN = {
    "plain": CODE,
    "byte order mark": f"\ufeff{CODE}",
    "fences": f"```python\n{CODE}```",
    "both": f"\ufeff\n```\n{CODE}\n```\n",
}
REFUSED = {
    "": "is empty; give the network's Python code",
    "def (": "is not Python (line 1: invalid syntax)",
    f"Here it is:\n```\n{CODE}```": "it has Markdown fences: give only the lines between ```python and ```",
    f"```python\n{CODE}": "it has Markdown fences",
    "x\0y": "null bytes",
    "(" * 5_000: "is not Python (line 1: ",
    "-" * 10_000 + "1": "cannot be parsed: too deeply nested",
    "nets/alexnet.py": "is a path, 'nets/alexnet.py', not Python code; give the content of the file",
    "x = 1\n" * 200_000: "has 1,200,000 characters; at most 1,000,000 are taken",
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_every_entrance_takes_it(entrances: dict[str, Callable[[bytes], object]], seen: Seen, text: str) -> None:
    for name, give in entrances.items():
        seen.sources.clear()
        give(text.encode())
        assert [source.strip() for source in seen.sources] == [CODE.strip()], name


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_every_entrance_refuses_it(entrances: dict[str, Callable[[bytes], object]], seen: Seen, text: str) -> None:
    for give in entrances.values():
        with pytest.raises(UserError) as error:
            give(text.encode())
        assert REFUSED[text] in str(error.value)
        assert len(str(error.value)) < 600
    assert not seen.sources


def test_bytes_that_are_no_text(entrances: dict[str, Callable[[bytes], object]]) -> None:
    for name in ("compare", "rank", "folder", "table of bytes", "Python, bytes"):
        with pytest.raises(UserError, match=r"is not UTF-8 \(byte 5\); save it as UTF-8"):
            entrances[name](b"x = '\xe9'")


@pytest.mark.parametrize("name", ["a\nb", "\ud800", "\x1b[31m", 3])
def test_a_networks_name_is_one_line_of_text(run: RunResult, seen: Seen, name: Any) -> None:
    with pytest.raises(UserError, match="a network's name must be printable text on one line, not "):
        Predictor(run.output_dir / "adapter", scorer=seen).compare(CODE, "mnist", "svhn", nn=name)


def test_a_deep_recipe_on_the_command_line(run: RunResult, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    for option in ("--recipe", "--accuracies"):
        for text in ("[" * 3_000, json.dumps({"lr": {}})[:-1], "\ufeff{"):
            arguments = [
                "compare",
                "--run",
                run.output_dir,
                "--code",
                tmp_path / "net.py",
                "mnist",
                "svhn",
                option,
                text,
            ]
            done = CliRunner().invoke(app, [str(one) for one in arguments])
            assert isinstance(done.exception, UserError)
            assert "is not JSON (" in str(done.exception)
            assert len(str(done.exception)) < 300
