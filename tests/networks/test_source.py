"""Sources from outside: what is taken, and one line for what is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.networks.compact import compact_code
from nngpt_ext.networks.source import LIMIT, check_source, read_source
from tests import models_made
from tests.deadline import deadline

BAD = {
    "def (": "is not Python (line 1: invalid syntax)",
    "": "is empty; for the model's own prior use Predictor.prior(…)",
    " \n\t": "is empty",
    "x = 1\n" * 400_000: "has 2,400,000 characters; at most 1,000,000 are taken",
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
        check_source(code, "net.py")
    assert str(error.value).startswith(f"net.py {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("code", [None, b"x = 1", 3])
def test_what_is_not_text(code: object) -> None:
    with pytest.raises(UserError, match="the network's source must be text, not"):
        check_source(code)


def test_real_sources_are_taken_as_they_are() -> None:
    for source in models_made.sources().values():
        assert check_source(source) == source
    assert len(max(models_made.sources().values(), key=len)) < LIMIT


def test_strange_but_valid_sources() -> None:
    for code in ("'\\d'", "# answer: mnist\nx = 1", "<|end|> = 1".replace("<|end|>", "end"), "é = 1"):
        assert check_source(code) == code


def test_files_are_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfx = '\xc3\xa9'\n")
    assert read_source(tmp_path / "a.py") == "x = 'é'\n"
    (tmp_path / "b.py").write_bytes(b"x = '\xe9'")
    with pytest.raises(UserError, match=r"b\.py' is not UTF-8 \(byte 5\); save it as UTF-8"):
        read_source(tmp_path / "b.py")
    for place in (tmp_path, tmp_path / "none.py"):
        with pytest.raises(UserError, match="cannot read"):
            read_source(place)


def test_a_long_f_string_stops_nothing() -> None:
    """Up to Python 3.11 parsing one takes time that grows with the square of its length."""
    code = "x = f'" + "{a}" * 100_000 + "'"
    with deadline():
        if sys.version_info < (3, 12):
            with pytest.raises(
                UserError, match=r"is not Python \(an f-string of 300,00\d characters; at most 20,000 are read"
            ):
                check_source(code)
        assert compact_code(code) == code
