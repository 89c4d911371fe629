"""Is every pass over text from outside linear? Each on a megabyte of every nasty kind, and on a half and a quarter.

    nngpt-ext bench linear --out benchmarks/results/linear-cpu.json

Twice the text may take twice the time, or 2.6 times with noise: the ratio is the mean of two doublings. A text that
a pass refuses with its one line counts with the time until then. Seconds are those of the CPU, so other work on the
machine hardly changes them.
"""

from __future__ import annotations

import gc
import io
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from nngpt_ext.compact import compact_code
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.families import signature
from nngpt_ext.errors import UserError, nearest, shown
from nngpt_ext.host.parser import parse_answer
from nngpt_ext.io import parse_mapping, text_digest
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.networks.codes import read_codes
from nngpt_ext.networks.source import is_name
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.inputs import filled_digest
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template, checked
from nngpt_ext.run_folder import versions
from nngpt_ext.settings import hide_password, parse_yaml
from nngpt_ext.views.faces import print_tables, to_markdown, to_page
from nngpt_ext.views.table import Table

SIZE = 1_000_000  # characters; sources may have no more
SHARES = (4, 2, 1)  # of the size: a quarter, a half, all
MOST_RATIO = 2.6
NOISE = 0.1  # CPU seconds below which a ratio says nothing
REPEATS = 2  # the least counts
LONG = 0.3  # CPU seconds; what takes longer is measured once
PATIENCE = 60.0  # CPU seconds; after a part that takes longer, the larger parts are left out
# Characters. Longer YAML and addresses are refused; rich takes microseconds a character.
LIMITS = {"YAML": 200_000, "address of a database": 2_000, "terminal": 100_000}


def repeated(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """A kind of text: as many units as fit between a beginning and an end."""
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def numbered(unit: str, between: str, first: str = "", after: str = "") -> Callable[[int], str]:
    """The same with numbers in the units: `{i}` and, for the former one, `{j}`."""

    def text(size: int) -> str:
        parts, length, i = [], len(first) + len(after), 1
        while length < size:
            part = unit.format(i=i, j=i - 1)
            length, i = length + len(part) + len(between), i + 1
            parts.append(part)
        return first + between.join(parts[:-1]) + after

    return text


def _nested_functions(size: int) -> str:
    """Groups of functions in each other, as deep as Python allows."""
    group = "".join(f"{' ' * depth}def f():\n" for depth in range(90)) + " " * 90 + "pass\n"
    return group * (size // len(group))


KINDS: dict[str, Callable[[int], str]] = {
    "blanks before an operator": repeated(" ", "x = 1", "+ 1\n"),
    "blanks before a semicolon": repeated(" ", 'def f():\n    "d"', "; x = 1\n"),
    "blanks at the ends of lines": repeated("x = 1" + " " * 200 + "\n"),
    "blanks alone": repeated(" "),
    "blank lines": repeated("\n", "x = 1", "y = 2\n"),
    "tabs": repeated("\t", "x = 1", "+ 1\n"),
    "form feeds": repeated("\f", "", "x = 1\n"),
    "carriage returns": repeated("\r", "x = 1", "y = 2\n"),
    "carriage returns and line feeds": repeated("x = 1\r\n"),
    "one long line": repeated("x = 1; "),
    "a long sum": repeated("1 + ", "x = ", "1\n"),
    "a long list": repeated("1, ", "x = [", "]\n"),
    "one name": repeated("a", "", " = 1\n"),
    "one number": repeated("1", "x = ", "\n"),
    "many short lines": repeated("a=1\n"),
    "open brackets": repeated("("),
    "nested brackets": lambda size: "x = " + "(" * (size // 2 - 3) + ")" * (size // 2 - 3) + "\n",
    "brackets on many lines": repeated("([{\n"),
    "groups of nested brackets": repeated("(" * 80 + "1" + ")" * 80 + "\n"),
    "nested functions": _nested_functions,
    "many functions": repeated("def f(a, b=1):\n    return a\n\n"),
    "many docstrings": repeated('def f():\n    "d"\n'),
    "strings as statements": repeated('"d"\n'),
    "many decorators": repeated("@d\n", "", "def f(): pass\n"),
    "a long string": repeated("a", 'x = "', '"\n'),
    "a long string in three quotes": repeated('a"b\\c\n', 'x = """', '"""\n'),
    "a long docstring": repeated("word ", 'def f():\n    """', '"""\n    return 1\n'),
    "many strings in one line": repeated('"a" ', "x = ", "\n"),
    "quotes that do not end": repeated("'''\"\n\""),
    "single quotes that do not end": repeated("'\n"),
    "backslashes in a string": repeated("\\\\", 'x = "', '"\n'),
    "one comment": repeated("# ", "x = 1 ", "\n"),
    "many comments": repeated("x = 1  # a comment\n"),
    "a long f-string": repeated("{a} ", 'x = f"', '"\n'),
    "many f-strings": repeated("x = f'{a!r:>{b}}'\n"),
    "f-strings in one line": repeated("f'{a}' ", "x = ", "\n"),
    "backslashes at the ends of lines": repeated("\\\n", "x = 1 ", "+ 1\n"),
    "backslashes and blanks": repeated(" \\\n", "x = 1", "\n"),
    "backslashes and no end": repeated("\\\n"),
    "combining characters": repeated("\u0301", "# a", "\n"),
    "combining characters of several classes": repeated("\u0323\u0301\u0315", 'x = "a', '"\n'),
    "letters of other scripts": repeated("中文 = 'é🙂'\n"),
    "special tokens": repeated("<|endoftext|>"),
    "markers": repeated("# <|im_start|>user [/INST] ### Response:\n"),
    "beginnings of markers": repeated("<|"),
    "marks of Markdown": repeated("```python\n"),
    "fences around it": repeated("x = 1\n", "```python\n", "```"),
    "tags and entities": repeated("<b>&amp;*[|]`"),
    "names of datasets": repeated("mnist or svhn "),
    "negations": repeated("not "),
    "open figures in brackets": repeated("(1"),
    "answers": repeated("The answer is not svhn: mnist, because svhn is worse.\n"),
    "parts of a name": repeated("cifar - "),
    "braces": repeated("{{}}"),
    "keys": numbered("k{i}: {{a: [1, b]}}", "\n"),
    "keys in JSON": numbered('"k{i}": [1, {{}}]', ", ", "{", "}"),
    "open lists": repeated("["),
    "lists in blocks": repeated("- "),
    "anchors": numbered("a{i}: &a{i} [*a{j}, *a{j}]", "\n", "a0: &a0 {x: 1}\n"),
    "merged keys": numbered("a{i}: &a{i} {{<<: [*a{j}, *a{j}]}}", "\n", "a0: &a0 {x: 1}\n"),
    "numbers in sixties": repeated("59:", "a: 1:", "1"),
    "addresses": repeated("://a:"),
    "colons": repeated(":", "postgresql://a"),
}  # fmt: skip


def passes(folder: Path) -> dict[str, Callable[[str], Callable[[], Any]]]:
    """Every pass: what prepares it for a text, untimed, and returns what is timed."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    renderer = Renderer(get_template("metadata"), tokenizer, code_tokens=512, facts=LEMUR_FACTS)
    question = Question.of("AlexNet", "mnist", "svhn", 5)
    columns = {"a": "dataset", "b": "dataset_2"}

    def table(text: str) -> Callable[[], Any]:
        file = folder / "codes.parquet"
        pq.write_table(pa.table({"nn": ["a"], "nn_code": [text]}), file)
        return lambda: list(read_codes(file))

    def rows(text: str) -> list[Table]:
        return [Table("Title", ("name", "value"), [(text, "0.1"), ("b", text)])]

    def terminal(text: str) -> None:
        print_tables(text, rows(text), Console(file=io.StringIO(), width=80))

    def names(text: str) -> None:
        folded = text.split("\n")
        nearest(text, ["mnist", "svhn"]), nearest("mnist", folded[:2000]), is_name(text), shown(text)

    simple: dict[str, Callable[[str], Any]] = {
        "comments and docstrings": compact_code,
        "special tokens and markers": renderer.inert,
        "source, cut by tokens": renderer.code,
        "prompt": lambda text: renderer.text(question, text, text),
        "key in the store": lambda text: filled_digest(renderer.template, question, text, LEMUR_FACTS),
        "name of a dataset in a prompt": lambda text: renderer.text(Question.of("a", "mnist", text, 5), "x", "x"),
        "sha256": text_digest,
        "near-duplicates": signature,
        "answer of NNGPT": lambda text: parse_answer(text, ("mnist", "cifar-10")),
        "HTML": lambda text: to_page("Title", text, rows(text)),
        "Markdown": lambda text: to_markdown(text, rows(text)),
        "terminal": terminal,
        "names": names,
        "message": lambda text: UserError(text),
        "address of a database": hide_password,
        "YAML": lambda text: parse_yaml(text, "not YAML"),
        "JSON": lambda text: parse_mapping(text, "the recipe"),
        "text of a prompt file": lambda text: checked(Template("x", text, "{a} {b}", columns)),
    }

    def prepared(work: Callable[[str], Any]) -> Callable[[str], Callable[[], Any]]:
        return lambda text: lambda: work(text)

    return {"table of sources, with their check": table, **{name: prepared(work) for name, work in simple.items()}}


def seconds(work: Callable[[], Any]) -> tuple[float, str]:
    """CPU seconds, and the line with which it was refused, if it was."""
    best, refused = math.inf, ""
    gc.disable()  # a collection looks at all of the libraries' objects, which takes longer than many passes
    try:
        for _ in range(REPEATS):
            began = time.process_time()
            try:
                work()
            except UserError as error:
                refused = str(error)
            best = min(best, time.process_time() - began)
            if best > LONG:
                break
    finally:
        gc.enable()
    return best, refused


def measure(name: str, kind: str, prepare: Callable[[str], Callable[[], Any]], size: int) -> dict[str, Any]:
    """One pass on one kind of text, at a quarter, a half and all of the size.

    If that looks more than linear it is also measured at twice and four times the size, whose doublings then count:
    time jumps once where memory begins to come from the system, and that is not growth.
    """
    sizes, took, refused, ratio = [size // share for share in SHARES], list[float](), "", None
    gc.collect()
    for characters in sizes:
        found, refused = seconds(prepare(KINDS[kind](characters)))
        took.append(round(found, 4))
        if found > PATIENCE:
            break
        if characters >= size and found > NOISE:
            ratio = round(math.sqrt(took[-1] / took[-3]), 2)
            if ratio > MOST_RATIO and characters == size:
                sizes += [2 * size, 4 * size]
    whole = len(took) == len(sizes)
    return {
        "pass": name, "kind": kind, "characters": sizes[: len(took)], "seconds": took, "ratio": ratio,
        "linear": whole and (ratio is None or ratio <= MOST_RATIO), "refused": refused[:120],
    }  # fmt: skip


def bench_linear(
    size: int = SIZE, only: str = "", kind: str = "", tell: Callable[[dict[str, Any]], None] = lambda row: None
) -> dict[str, Any]:
    """Measure the passes and kinds whose names contain `only` and `kind`; `tell` gets each row as it is measured."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, prepare in passes(Path(folder)).items():
            for what in KINDS:
                if only in name and kind in what:
                    rows.append(measure(name, what, prepare, min(size, LIMITS.get(name, size))))
                    tell(rows[-1])
    return {
        "most_ratio": MOST_RATIO,
        "not_linear": [f"{row['pass']}: {row['kind']}" for row in rows if not row["linear"]],
        "rows": rows,
        "versions": versions(),
    }


def linear_text(found: dict[str, Any]) -> str:
    """For each pass the kind that takes longest, then what is not linear."""
    slowest: dict[str, dict[str, Any]] = {}
    for row in found["rows"]:
        former = slowest.setdefault(row["pass"], row)
        if row["seconds"][-1] > former["seconds"][-1]:
            slowest[row["pass"]] = row
    lines = [f"{'pass':36}{'slowest kind':42}{'characters':>11}{'CPU seconds of 1/4, 1/2, 1':>29}{'ratio':>7}"]
    for name, row in slowest.items():
        took = "".join(f"{one:9.3f}" for one in row["seconds"])
        lines.append(f"{name:36}{row['kind']:42}{row['characters'][-1]:11,}{took:>29}{row['ratio'] or '–':>7}")
    lines += [f"not linear: {name}" for name in found["not_linear"]]
    kinds = len({row["kind"] for row in found["rows"]})
    return "\n".join([*lines, f"{len(slowest)} passes, {kinds} kinds of text, {len(found['not_linear'])} not linear"])
