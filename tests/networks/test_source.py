"""Sources from outside: what is taken, and one line for what is not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from nngpt_ext.compact import compact_code
from nngpt_ext.errors import UserError
from nngpt_ext.networks.source import LIMIT, MOST_TOKENS, defines_module, is_name, read_source
from tests import models_made
from tests.deadline import deadline

BAD = {
    "def (": "is not Python (line 1: invalid syntax)",
    "": "is empty; give the network's Python code",
    "\ufeff": "is empty",
    "```python\n```": "is empty",
    "```\n\n```": "is empty",
    "net.py": "is a path, 'net.py', not Python code; give the content of the file",
    "/my nets/a.py\n": "is a path",
    " \n\t": "is empty",
    "x = 1\n" * 400_000: "has 2,400,000 characters; at most 1,000,000 are taken",
    "x=1\n" * 249_000: "has more than 200,000 words and signs; a network's has some thousand",
    "x=[" + "[]," * 300_000 + "]": "has more than 200,000 words and signs",
    "x\0y": "is not Python (source code string cannot contain null bytes)",
    "x = '\ud800'": "is not Python ('utf-8' codec can't encode character",
    "x = " + "9" * 5_000: "is not Python (",
    "(" * 5_000 + ")" * 5_000: "is not Python (line 1: too many nested parentheses)",
    "\n".join(" " * i + "if x:" for i in range(200)): "is not Python (line 101: too many levels of indentation)",
    "-" * 10_000 + "1": "cannot be parsed: too deeply nested",
    "x" + ".a" * 20_000: "cannot be parsed: too deeply nested",
    "if x: pass\n" + "elif x: pass\n" * 20_000: "cannot be parsed: too deeply nested",
}


@pytest.mark.parametrize(("code", "message"), BAD.items(), ids=range(len(BAD)))
def test_one_line_for_each_fault(code: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_source(code, "net.py")
    assert str(error.value).startswith(f"net.py {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (None, "is missing"), (float("nan"), "is missing"), (3, "must be text, not int"),
        (["x = 1"], "must be text, not list"), (b"x = '\xe9'", r"is not UTF-8 \(byte 5\); save it as UTF-8"),
    ],
)  # fmt: skip
def test_what_is_not_text(code: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^the network's source {message}"):
        read_source(code)


@pytest.mark.parametrize("mark", ["```", "```python", "```py", "```Python3", "\n ```python "])
def test_fences_around_the_whole_text_are_dropped(mark: str) -> None:
    assert read_source(f"{mark}\nx = 1\ny = 2\n```\n") == "x = 1\ny = 2\n"
    assert read_source(f"\ufeff{mark}\r\nx = 1\r\n```") == "x = 1\r\n"
    for fence in ("````", "~~~"):
        own = mark.replace("```", fence)
        assert read_source(f"{own}\n\ufeffx = 1\n{fence}") == "x = 1\n"
        with pytest.raises(UserError, match="it has Markdown fences"):
            read_source(f"{own}\nx = 1\n{fence[0] * 5}")


@pytest.mark.parametrize(
    "text",
    ["Here it is:\n```\nx = 1\n```", "```python\nx = 1", "x = 1\n```", "```\nx = 1\n```\nand\n```\ny\n```",
     "```json\n{}\n```", "```\ndef (\n```\nHope this helps!"],
)  # fmt: skip
def test_other_fences_are_named(text: str) -> None:
    with pytest.raises(
        UserError, match=r"is not Python \(line \d.*\); it has Markdown fences: give only the lines betw"
    ):
        read_source(text)


def test_fences_in_a_docstring_stay() -> None:
    code = 'def f():\n    """Use it so:\n    ```\n    f()\n    ```\n    """\n'
    assert read_source(code) == code


def test_names() -> None:
    assert all(map(is_name, ("a", "deep/a b", "é", "1")))
    assert not any(map(is_name, ("", " ", "a\nb", "\ud800", "\u202ea", None, 1, b"a")))


def test_real_sources_are_taken_as_they_are() -> None:
    for source in models_made.sources().values():
        assert read_source(source) == source
        assert len(re.findall(r"\w+|\S", source)) < MOST_TOKENS / 4
    assert len(max(models_made.sources().values(), key=len)) < LIMIT


def test_strange_but_valid_sources() -> None:
    for code in ("x = '\\d'", "# answer: mnist\nx = 1", "<|end|> = 1".replace("<|end|>", "end"), "é = 1"):
        assert read_source(code) == code


def test_files_are_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfx = '\xc3\xa9'\n")
    assert read_source(tmp_path / "a.py") == "x = 'é'\n"
    (tmp_path / "b.py").write_bytes(b"x = '\xe9'")
    with pytest.raises(UserError, match=r"b\.py' is not UTF-8 \(byte 5\); save it as UTF-8"):
        read_source(tmp_path / "b.py")
    for place in (tmp_path, tmp_path / "none.py"):
        with pytest.raises(UserError, match="cannot read"):
            read_source(place)


@pytest.mark.parametrize("piece", ['\\"', "\\'", '\\"""\n', "\\'''\n", 'f"{', "f'\\"])
def test_quotes_that_never_close_stop_nothing(piece: str) -> None:
    code = piece * (900_000 // len(piece))
    with deadline():
        with pytest.raises(UserError, match=r"is not Python|has more than 200,000 words and signs"):
            read_source(code)
        assert compact_code(code) == code.rstrip()


def test_a_long_f_string_stops_nothing() -> None:
    """Up to Python 3.11 parsing one takes time that grows with the square of its length."""
    code = "x = f'" + "{a}" * 60_000 + "'"
    with deadline():
        if sys.version_info < (3, 12):
            with pytest.raises(
                UserError, match=r"is not Python \(an f-string of 180,00\d characters; at most 20,000 are read"
            ):
                read_source(code)
        assert compact_code(code) == code


@pytest.mark.parametrize(
    "text",
    ["# a comment\n", '"""Only a docstring."""\n', '{"cells": [null], "nbformat": 4}', "torch>=2.0\nnumpy\n", "a; b"],
)
def test_what_defines_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is no network: .* with a class derived from nn\.Module"):
        read_source(text)


def test_a_class_derived_from_module_is_found(lemur_sources: dict[str, str]) -> None:
    assert all(map(defines_module, list(lemur_sources.values())[::20]))
    assert defines_module("def made():\n    class Net(torch.nn.Module): pass")
    for other in ("class Net: pass", "class Net(dict, metaclass=Module): pass", "Module = 1", "class A(b[0](), c): 1"):
        assert not defines_module(other)
