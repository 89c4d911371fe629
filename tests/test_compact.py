"""Compacted source is the same program, less comments, docstrings and blank lines."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nngpt_ext.compact import compact_code
from tests.deadline import deadline

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def tree(source: str, *, bare: bool) -> str:
    """The syntax tree without places; `bare`: without docstrings too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = ast.parse(source)
    for node in ast.walk(parsed) if bare else ():
        if isinstance(node, DOCUMENTED):
            while node.body and is_string(node.body[0]):
                del node.body[0]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return ast.dump(parsed)


def assert_same_program(source: str) -> str:
    """Check all that is promised of source that parses, and give what it becomes."""
    compacted = compact_code(source)
    assert tree(compacted, bare=False) == tree(source, bare=True)  # so no docstring is left either
    assert compact_code(compacted) == compacted
    assert compiles(compacted) == compiles(source)
    return compacted


def compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "<source>", "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True


CASES = {
    "nothing": ("", ""),
    "only comments": ("# a\n\n  # b\n", ""),
    "only a docstring": ('"""A network."""\n', ""),
    "comments": ("# -*- coding: latin-1 -*-\nx = 1  # one\n\n\n# two\ny = 2\n", "x = 1\ny = 2"),
    "no comment": ("x = '#'  # '\ny = \"\"\"# a\n\n# b \n\"\"\"  # c", "x = '#'\ny = \"\"\"# a\n\n# b \n\"\"\""),
    "escapes": ("x = 'a\\'#'  # b\ny = r'\\'  '#'#\\\nz = ''  # '", None),
    "quotes in strings": ('x = """ "" \\""" # " """  # "\ny = \'"\'  # \'', 'x = """ "" \\""" # " """\ny = \'"\''),
    "docstrings": (
        '"""Doc.\n\nMore."""\nimport x\n\nclass A:\n    """Doc."""\n\n'
        "    def f(self):\n        r'doc'\n        return 1\n",
        "import x\nclass A:\n    def f(self):\n        return 1",
    ),
    "docstring alone": (
        'class A:\n    """Doc."""\n\ndef f():\n    """Doc"""  # c\n',
        "class A:\n    pass\ndef f():\n    pass",
    ),
    "docstring in a line": ('def f(): "doc"\nclass A: "doc"; x = 1\n', "def f(): pass\nclass A: x = 1"),
    "semicolon": ('"doc"; x = 1\ndef f():\n    "doc" ;  return 1;  # c\n', "x = 1\ndef f():\n    return 1;"),
    "semicolon at the end": ('"doc";\ndef f():\n    "doc";\ndef g():\n    "doc";  # c\n    x', None),
    "semicolon and backslash": ('def f():\n    "doc" \\\n ; \\\n  x = 1\n', "def f():\n    x = 1"),
    "two docstrings": ('"a"\n# c\n"b"; "c"; x = 1\nclass A:\n    "a"\n    "b"\n', "x = 1\nclass A:\n    pass"),
    "joined docstring": ('def f():\n    "a" \\\n    "b" "c"\n    x\n', "def f():\n    x"),
    "docstring in parentheses": ('def f():\n    (  # c\n     ("a"  # d\n      "b"))\n    x\n', "def f():\n    x"),
    "opened in the header": ('class A: ("a"\n  u"b")\n', "class A: pass"),
    "after a backslash": ('def f(): \\\n  "doc"\nclass A:\n    \\\n"doc"\n    x = 1\n', None),
    "no docstring": ('if x:\n    "a"\nelse: "b"\ndef f():\n    f"a"\n    b"a"\n    x = {1: "c"}\n', None),
    "docstring in a branch": ("try:\n    def f():\n        'doc'\nfinally:\n    class A:\n        'doc'\n", None),
    "in except, match": (
        "try: pass\nexcept E:\n    def f(): 'doc'\nelse:\n    def f(): 'doc'\n"
        "match x:\n    case 1:\n        def f(): 'doc'\n",
        None,
    ),
    "string after it": ('def f():\n    """d\n\n    """; x = """a  \n\n b"""\n', 'def f():\n    x = """a  \n\n b"""'),
    "string before it": ('def f(a="""\n\n """): """d\n\n"""; x = 1\n', 'def f(a="""\n\n """): x = 1'),
    "blank lines in a string": ('x = """a\n\n   \nb"""\n\n\ny', 'x = """a\n\n   \nb"""\ny'),
    "blank after a backslash in a string": ("x = 'a\\\n\\\n  \\\nb'\n\n\ny", "x = 'a\\\n\\\n  \\\nb'\ny"),
    "backslash": ("x = 1 + \\\n    2\n\ny \\\n= 3", "x = 1 + \\\n    2\ny \\\n= 3"),
    "backslash before a blank line": ("x = y \\\n\n-z \\\n\n", "x = y\n-z"),
    "backslash before a comment": ("x = y \\\n  \\\n # c\n-z", "x = y\n-z"),
    "backslash in a comment": ("x = y  # c \\\n\n# \\\n-z\n", "x = y\n-z"),
    "backslash in brackets": ("x = (y, \\\n# c\n -z, \\\n\n)", "x = (y,\n -z,\n)"),
    "brackets": ("f(  # a\n    [1,  # b\n\n     # c\n     2],\n)  # d", "f(\n    [1,\n     2],\n)"),
    "decorators": ("@a  # c\n\n@b(\n  1)\n# d\ndef f():\n    'doc'\n", "@a\n@b(\n  1)\ndef f():\n    pass"),
    "nested": ("def f():\n    'a'\n    def g(): 'b'\n    async def h():\n        'c'\n        await x\n", None),
    "tabs": ("class A:\n\t'doc'\n\n\tdef f(self):\n\t\t'doc'\t# c\n\t\tif x:\n\t\t\ty\t\n", None),
    "form feeds": ("x = 1\n\f\n\fdef f():  \f# c\n    'doc'\f\n    y\f\n", "x = 1\n\fdef f():\n    y"),
    "line ends": ("x = 1\r\n\r\n# c\r\ny = '''a\r\n\r\nb'''\r\nz = 2\rw\r", "x = 1\ny = '''a\n\nb'''\nz = 2\nw"),
    "not ASCII": ("é = 'ü'; x = '日本'  # ö\nclass Ä: 'dök'; y = '日'  # 本", "é = 'ü'; x = '日本'\nclass Ä: y = '日'"),
    "separators": ("x = 'a\u2028b\x0bc'  # d\x0c\u2029e\ndef f():\n    'a\u2028b\x1c'\n    y", None),
    "future": ("# c\n'doc'\n\nfrom __future__ import annotations\nx: y\n", "from __future__ import annotations\nx: y"),
    "f-strings": ("x = f'#{a!r:>{b}}#'  # c\ny = f'''{\na}\n\n# b  \n'''  # d\nz = rf'\\{a}' f\"{'#'}\"  # e", None),
    "stray return": ("return 1  # c", "return 1"),
    "invalid escape": ("x = '\\d'  # c\ny = 1 is 1", "x = '\\d'\ny = 1 is 1"),
    "type comments": ("x = []  # type: ignore\ndef f(a):  # type: (int) -> int\n    return a", None),
}  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), CASES.values(), ids=CASES)
def test_what_a_source_becomes(source: str, expected: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compacted = compact_code(source)
    assert expected is None or compacted == expected
    assert assert_same_program(source) == compacted
    for line_end in ("\r\n", "\r"):
        assert compact_code(source.replace("\r\n", "\n").replace("\n", line_end)) == compacted


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12 an f-string cannot hold its own quotes")
@pytest.mark.parametrize(
    "source",
    [
        "x = f'{a['#']}'  # c\ny = 1",
        'x = f"""{\n  a  # kept\n\n  }\n\n {f"{f"{"#"}"}"}"""  # c\ny = 1',
        "x = f'{{#}}{\na = # kept\n}'  # c\n\n\ny = 1",
        "x = f'é{a:{'ü'}}日'; y = 1  # c",
    ],
)
def test_f_strings_stay_whole(source: str) -> None:
    compacted = assert_same_program(source)
    assert "# c" not in compacted
    assert ("# kept" in compacted) == ("# kept" in source)


def test_a_byte_order_mark_is_no_part_of_the_source() -> None:
    assert compact_code("\ufeffx = 1  # c") == "x = 1"


UNPARSABLE = {
    "Python 2": ("print 'a'  # c  \n\n\nprint '''\n\n  a'''  \n", "print 'a'  # c\nprint '''\n\n  a'''"),
    "indented": ("    x = = 1\n    # c\n", "    x = = 1\n    # c"),
    "comment with a backslash": ("print x # \\\n\n\ny\n", "print x # \\\n\ny"),
    "open bracket": ("\nx = (1,\n\n  # c  \n\n", "\nx = (1,\n\n  # c"),
    "open string": ('\nx = """a\n\n  # b\n\n', '\nx = """a\n\n  # b'),
    "open quote": ("\nx = 'a\n\n\ny = b\n\n", "\nx = 'a\n\n\ny = b"),
    "prose": ("Here's the code:  \n\n```python\nx\n```\n", "Here's the code:  \n\n```python\nx\n```"),
    "backslash at the end": ("x = 1 +\\\n", "x = 1 +\\\n"),
    "null": ("x = 1\n\n\n# \0\n", "x = 1\n\n\n# \0"),
    "half a surrogate pair": ("\nx = '\ud800'\n", None),
}


@pytest.mark.parametrize(("source", "expected"), UNPARSABLE.values(), ids=UNPARSABLE)
def test_source_that_is_not_python_keeps_its_words(source: str, expected: str | None) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        ast.parse(source)
    compacted = compact_code(source)
    # Where the words are cut differs between releases of Python for half of a surrogate pair.
    assert compacted == expected if expected is not None else compacted.strip() == source.strip()
    assert compact_code(compacted) == compacted


@pytest.mark.parametrize(
    "expression", ["(" * 5000 + ")" * 5000, "-" * 20_000 + "1", "x" + ".a" * 20_000, "1" + "+1" * 20_000]
)
def test_source_too_deep_for_the_parser(expression: str) -> None:
    compacted = compact_code(f"x = {expression}  # c\n\n")
    assert compacted.startswith(f"x = {expression}")
    assert compact_code(compacted) == compacted


# Pieces that are repeated, and what they stand between. What took minutes is long, the others are shorter.
RUNS = {
    **dict.fromkeys([" ", "\t", "\f", "\\\n", " \\\n"], 300_000),
    **dict.fromkeys(
        ["\n", "\r", ";", '"', "'", "#", "(", "~", "0", ",", ".", "@", "$", "\0", '"a" ', "f'{a}' "], 60_000
    ),
}


@pytest.mark.parametrize(("piece", "length"), RUNS.items(), ids=map(repr, RUNS))
def test_no_run_stops_the_world(piece: str, length: int) -> None:
    run = piece * (length // len(piece))
    with deadline():
        for source in (f"x = 1{run}+ 1\n", f"x = (1 {run} + 1, f'{{a}}')\n", f"x = '''{run}'''\n#{run}\n{run}"):
            compacted = compact_code(source)
            assert len(compacted) <= len(source)
            assert compact_code(compacted) == compacted


def test_functions_and_strings_that_are_alike_stop_nothing() -> None:
    with deadline():
        assert compact_code("def f(): 'doc'\n" * 20_000) == "def f(): pass\n" * 19_999 + "def f(): pass"
        assert compact_code("x = [" + "'a'," * 75_000 + "]  # c") == "x = [" + "'a'," * 75_000 + "]"


# Pieces of source: a body is a docstring or two and statements, with comments and blank lines between them.
DOCSTRINGS = st.sampled_from(
    ['"""Doc."""', "'d'; 'e'", "r'''a\n\n  # b\n'''", '("a"  # c\n\n "é")', "'d' \\\n  'e'", "''"]
)
STATEMENTS = st.sampled_from(
    [
        "x = '#'", "x = [  # c\n\n 1,  # d\n]", "x = '''a \n\n# b\n  '''", "y = a \\\n\n", "-a", "(a)", "'text'",
        "pass;", "y = a + \\\n b", "a; 'b'; c", 'f"{a}#"', "f'''\n\n{a}  \n'''", "é = 'ü'", "lambda: 'a'", "{'a': 'b'}",
        "x = 'a\\\n  \\\n'", "async def g(): 'doc'", "x: 'int' = \"\"\"\n\"\"\"", "class B: 'doc'; x = 1",
    ]
)  # fmt: skip
SILENCE = st.lists(st.sampled_from(["", "  ", "\t", "# c", "      # 'c", '# """', "\f", "# \\"]), max_size=2)
TAILS = st.sampled_from(["", "  ", "  # c", "# \\", "\t# 'é'"])
HEADERS = st.sampled_from(
    [
        "def f(a='''\n\n'''):",
        "class A(B):",
        "async def f():  # c",
        "@d  # c\n\ndef f(\n  # c\n):",
        "if a:",
        "for a in b:",
    ]
)


def indented(text: str) -> str:
    """Indent the first line only: the others continue it."""
    return "    " + text


@st.composite
def blocks(draw: st.DrawFn, depth: int = 2) -> list[str]:
    """Logical lines of a body with at least one statement or docstring, not indented."""
    lines: list[str] = []
    if draw(st.booleans()):
        lines += [*draw(SILENCE), draw(DOCSTRINGS) + draw(st.sampled_from(["", ";", "; x = '''\n\n'''"])) + draw(TAILS)]
    for _ in range(draw(st.integers(0 if lines else 1, 3))):
        lines += draw(SILENCE)
        if depth and draw(st.booleans()):
            lines += [draw(HEADERS), *(indented(line) for line in draw(blocks(depth=depth - 1)))]
        else:
            statement = draw(STATEMENTS)
            lines.append(statement if statement.endswith("\n") else statement + draw(TAILS))
    return lines + draw(SILENCE)


@given(blocks(), st.sampled_from(["\n", "\r\n"]))
@example(["y = a \\\n\n", "-a"], "\n")
@example(["def f(a='''\n\n'''):", "    r'''a\n\n  # b\n'''; x = '''\n\n'''"], "\n")
def test_any_source_stays_the_same_program(lines: list[str], line_end: str) -> None:
    source = "\n".join(lines)
    try:
        ast.parse(source)
    except SyntaxError:  # a header broken over lines, indented as one
        compacted = compact_code(source)
        assert compact_code(compacted) == compacted
    else:
        assert_same_program(source.replace("\n", line_end))


@given(st.text(st.sampled_from(list("x'\"#\\\n ():;=f{}\t\r\f0é")), max_size=25))
def test_any_text_stays_the_same_program(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError:
        compacted = compact_code(text)
        assert compact_code(compacted) == compacted
    else:
        assert_same_program(text)


PARTS = ["x", "= 1", "-y", "'d'", '"""d"""', ";", "# c", "(", ")", "f'{x}'", "class A:", "pass"]
BLANKS = [" ", "\t", "\f", "\\\n", " \\\n", "\n", "\r"]


@given(st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(BLANKS), st.integers(0, 300)), max_size=6))
@example([("x", " ", 1), ("= 1", "\\\n", 300), ("-y", "\n", 300), ("'d'", "\f", 300)])
def test_runs_between_any_parts_leave_the_same_program(parts: list[tuple[str, str, int]]) -> None:
    source = "".join(part + blank * n for part, blank, n in parts)
    try:
        ast.parse(source)
    except SyntaxError:
        compacted = compact_code(source)
        assert compact_code(compacted) == compacted
    else:
        assert_same_program(source)


def test_lemur_sources_stay_the_same_programs() -> None:
    try:
        folder = Path(str(importlib.metadata.distribution("nn-dataset").locate_file("ab/nn/nn")))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("LEMUR is not installed")
    sources = [path.read_bytes().decode() for path in sorted(folder.glob("*.py"))[::100]]
    assert len(sources) > 100
    compacted = [assert_same_program(source) for source in sources]
    assert sum(map(len, compacted)) < 0.9 * sum(map(len, sources))
