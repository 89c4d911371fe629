"""Configuration: where values come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from nngpt_ext import PredictionStore, run_task
from nngpt_ext.config import ResolvedConfig, TaskConfig
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.registry import tasks
from nngpt_ext.settings import (
    build_config,
    defaults,
    dump_config,
    find_project,
    hide_password,
    known_keys,
    parse_settings,
    read_project,
)
from nngpt_ext.study.grid import Block
from nngpt_ext.tasks.dataset_compare import DatasetCompare
from tests.deadline import deadline

TASK = "dataset_compare"
# But for studies, which tests/study/test_grid.py reads.
EXAMPLES = [
    p
    for p in sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
    if not p.stem.startswith(("study", "price"))
]


def line(call, *arguments, **keywords) -> str:
    """The message of the UserError that a call raises; it is one line."""
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def faults(*layers) -> str:
    return line(build_config, TaskConfig, *layers)


@pytest.fixture
def file(tmp_path):
    def write(content: str, name: str = "task.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


# Where values come from


def test_later_layers_win_key_by_key(file):
    path = file("tuning: {epochs: 1, warmup: 0.1, learning_rate: 0.5}\nprompt: recipe")
    config = build_config(
        TaskConfig, read_project(path, TASK), parse_settings(["tuning.epochs=2"]), {"tuning": {"warmup": 0.2}}
    )
    assert (config.tuning.epochs, config.tuning.warmup, config.tuning.learning_rate) == (2, 0.2, 0.5)
    assert (config.prompt, config.model.base) == ("recipe", "deepseek-coder-7b")


def test_run_task_reads_the_file_then_settings_then_keywords(file, monkeypatch):
    seen = []
    monkeypatch.setattr(DatasetCompare, "run", lambda self, config, folder, resume: seen.append((config, folder)))
    path = file("tuning: {epochs: 1, warmup: 0.1, learning_rate: 0.5}\noutput_dir: from/file")
    run_task(TASK, path, settings=["tuning.epochs=2", "tuning.warmup=0.2"], tuning={"warmup": 0.3})
    run_task(TASK, path, output_dir="given", settings=["output_dir=set"])
    (config, folder), (_, other) = seen
    assert (config.tuning.learning_rate, config.tuning.epochs, config.tuning.warmup) == (0.5, 2, 0.3)
    assert (folder, other) == (Path("from/file"), Path("given"))


def test_layers_are_left_as_they_were():
    first, second = {"data": {"epoch": 3}}, {"data": {"seed": 1}}
    build_config(TaskConfig, first, second)
    assert (first, second) == ({"data": {"epoch": 3}}, {"data": {"seed": 1}})


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "0.0001", "1E-4"])
def test_small_numbers_are_numbers_however_they_are_written(number, file):
    # YAML 1.1, which PyYAML reads, takes 1e-4 for a text.
    expected = pytest.approx(1e-4)
    assert build_config(TaskConfig, parse_settings([f"tuning.learning_rate={number}"])).tuning.learning_rate == expected
    read = read_project(file(f"tuning: {{learning_rate: {number}}}"), TASK)
    assert build_config(TaskConfig, read).tuning.learning_rate == expected


def test_flat_file_and_project_file_are_the_same_configuration(file):
    flat = file("prompt: recipe\ndata: {epoch: 3}", "flat.yaml")
    project = file("tasks:\n  dataset_compare:\n    prompt: recipe\n    data: {epoch: 3}", "nngpt.yaml")
    assert read_project(flat, TASK) == read_project(project, TASK) == {"prompt": "recipe", "data": {"epoch": 3}}


def test_an_enabled_task_without_keys_has_the_defaults(file):
    assert build_config(TaskConfig, read_project(file("tasks: {dataset_compare: }"), TASK)) == TaskConfig()


def test_a_byte_order_mark_is_no_part_of_a_file(file):
    assert read_project(file("\ufefftasks: {dataset_compare: {prompt: recipe}}"), TASK) == {"prompt": "recipe"}


@pytest.mark.parametrize("value", ["2024-01-01", "2024-02-30", "2024-01-01 10:00:00"])
def test_dates_are_text(value, file):
    assert parse_settings([f"output_dir={value}"]) == read_project(file(f"output_dir: {value}"), TASK)
    assert build_config(TaskConfig, parse_settings([f"output_dir={value}"])).output_dir == value


def test_project_file_is_found_upwards_and_the_nearest_wins(tmp_path, monkeypatch):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) is None
    (tmp_path / "nngpt.yaml").touch()
    assert find_project(below) == tmp_path / "nngpt.yaml"
    (tmp_path / "a" / "nngpt.yaml").touch()
    monkeypatch.chdir(below)
    assert find_project() == tmp_path / "a" / "nngpt.yaml"


def test_dump_and_load_is_a_round_trip():
    config = build_config(
        TaskConfig,
        {
            "tuning": {"learning_rate": 1e-5, "epochs": 3, "gradient_checkpointing": False},
            "data": {"split": "by_origin", "hold_out": "ga", "trials": "all", "path": "/ä ö: #1"},
            "model": {"lora": {"dropout": 0.1}, "base": "no"},
            "store": None,
        },
    )
    assert build_config(TaskConfig, yaml.safe_load(dump_config(config))) == config
    assert known_keys(TaskConfig) == list(_flat(yaml.safe_load(dump_config(config))))


def _flat(nested, prefix=""):
    for key, value in nested.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for task in content.get("tasks", {TASK: None}):
        build_config(tasks.get(task).Config, read_project(path, task))


# What is said about wrong ones


def test_an_offset_needs_lines():
    told = "configuration: tuning: offset pair_prior needs head lines (head is answer): set tuning.head=lines"
    assert faults({"tuning": {"offset": "pair_prior"}}) == told
    lines = build_config(TaskConfig, {"tuning": {"offset": "pair_prior", "head": "lines"}}).tuning
    assert (lines.orders, TaskConfig().tuning.orders) == (1, 2)


def test_defaults_are_those_of_an_empty_configuration():
    assert defaults(TaskConfig) == TaskConfig().model_dump()
    assert "epochs" not in defaults(ResolvedConfig)["tuning"]  # which a preset decides


def test_all_faults_are_told_in_one_line():
    settings = ["data.epoc=3", "data.label=x", "tuning.warmup=3", "model.lora.r=a", "tuning.epochs=2.5", "epochs=3"]
    message = faults({"data": {"seed": -1}}, parse_settings(settings))
    assert message.startswith("configuration: ")
    assert sorted(message.removeprefix("configuration: ").split("; ")) == [
        "data.label: unknown label 'x'",
        "data.seed: must be greater than or equal to 0 (given: -1)",
        "known: normalized, percentile",
        "model.lora.r: must be a whole number (given: 'a')",
        "tuning.epochs: must be a whole number (given: 2.5)",
        "tuning.warmup: must be less than or equal to 1 (given: 3)",
        "unknown key 'data.epoc' (did you mean 'data.epoch'?)",
        "unknown key 'epochs' (did you mean 'tuning.epochs'?)",
    ]


@pytest.mark.parametrize("key", known_keys(TaskConfig))
def test_a_slip_of_the_pen_is_answered_with_the_key(key):
    alike = {key, f"{key}s", key.removesuffix("s")} & set(known_keys(TaskConfig))  # data.fold and data.folds
    for typed in {f"{key[:-1]}x", f"{key}s"} - alike:
        told = faults(parse_settings([f"{typed}=1"]))
        assert any(f"unknown key '{typed}' (did you mean '{one}'?)" in told for one in alike)


@pytest.mark.parametrize("group", ["data", "model", "tuning", "calibration", "model.lora"])
def test_a_slip_of_the_pen_in_a_group_is_answered_with_the_group(group):
    typed = group[:-1] + group[-1] * 2
    assert f"unknown key '{typed}' (did you mean '{group}'?)" in faults(parse_settings([f"{typed}.seed=1"]))


def test_numbers_that_libraries_do_not_take():
    told = faults({"data": {"seed": 2**32, "epoch": 10**24}, "tuning": {"seed": 5_000_000_000}})
    assert told.count("less than 4294967296") == 2
    assert "data.epoch: must be less than or equal to 1000000" in told


def test_a_key_like_no_other_lists_the_known_ones():
    assert faults({"qqq": 1}) == f"configuration: unknown key 'qqq'; known: {', '.join(known_keys(TaskConfig))}"


@pytest.mark.parametrize("value", [None, 3, "r: 8", [1]])
def test_a_value_where_keys_belong(value):
    told = faults({"model": {"lora": value}})
    assert told.startswith("configuration: model.lora: must be a mapping with keys such as model.lora.r (given: ")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_numbers_that_are_none(value):
    assert "tuning.learning_rate: " in faults(parse_settings([f"tuning.learning_rate={value}"]))


def test_keys_that_are_no_texts_and_values_without_end():
    assert faults({1: 2, "data": {True: 3}}) == (
        "configuration: data.1: keys should be strings (given: True); 1: keys should be strings (given: 1)"
    )
    assert len(faults({"prompt": ["a" * 1000] * 1000})) < 300


def test_hold_out_without_its_split():
    told = faults({"data": {"hold_out": "ga"}, "tuning": {"epochs": 0}})
    assert "data: hold_out goes with split by_origin, not by_network" in told
    assert "tuning.epochs: " in told  # all at once


def test_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        DataConfig().epoch = 3


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("tuning.epochs", "'tuning.epochs' is not key=value; for example settings=[\"tuning.epochs=3\"]"),
        ("=3", "'=3' is not key=value"),
        ("prompt={", "the value of 'prompt={' cannot be read (while parsing a flow node: expected the node content"),
        ("prompt={", "); quote it, for example settings=['prompt=\"recipe\"']"),
        ("prompt=a: b: c", "cannot be read"),
    ],
)
def test_settings_that_are_none(setting, reason):
    assert reason in line(parse_settings, [setting])


def test_settings_of_the_same_keys():
    assert parse_settings(["a.b=1", "a.b=2"]) == {"a": {"b": 2}}
    assert parse_settings(["a.b=1", "a={c: 2}"]) == parse_settings(["a={c: 2}", "a.b=1"]) == {"a": {"b": 1, "c": 2}}
    assert parse_settings(["a=1", "a.b=2"]) == {"a": {"b": 2}}
    assert parse_settings(["a.b=x=y"]) == {"a": {"b": "x=y"}}


def test_task_that_is_not_enabled(file):
    path = file("tasks: {other: {}, third: {}}")
    assert line(read_project, path, TASK) == (
        f"task 'dataset_compare' is not enabled in '{path}' (enabled: other, third); add it under 'tasks:'"
    )
    assert "(enabled: none)" in line(read_project, file("tasks:"), TASK)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: [1", "is not YAML (while parsing a flow sequence: expected ',' or ']', but got '<stream end>', line 1)"),
        ("- 1\n- 2", "has no keys; write for example tasks: {dataset_compare: {}}"),
        ("", "has no keys; write for example"),
        ("# nothing but a remark", "has no keys"),
        ("tasks: {1: }", "is not enabled in"),
        ("tasks: {dataset_compare: }\n1: 2\na: 3", "unknown key '1'; known: tasks"),
        ("words", "has no keys"),
        ("tasks: {dataset_compare: 3}", "tasks.dataset_compare must be a mapping of keys, not 3"),
        ("tasks: {dataset_compare: }\ntaks: {}", "unknown key 'taks' (did you mean 'tasks'?); known: tasks"),
        ("prompt: recipe\nseed: 1\nprompt: code_only", "is not YAML (the key 'prompt' stands there 2 times)"),
        ("tasks: {dataset_compare: {data: {epoch: 1, epoch: 1}}}", "(the key 'epoch' stands there 2 times)"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML (could not determine a constructor"),
    ],
)
def test_files_that_are_no_configuration(content, reason, file):
    assert reason in line(read_project, file(content), TASK)


FOREIGN = [
    "!!int x", "!!float x", "!!timestamp x", "!!bool x", "!!binary x", "!!omap x", "!!set [a]", "!!x y", "[" * 3000,
    "{" * 3000, "- " * 3000, "{? {a: b} : c}", "<<: [1]", "*a", "'", "\0", "\x1b", "\ud800", "%", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_whatever_stands_in_yaml_is_a_value_or_one_line(text, tmp_path):
    """Its constructors raise whatever Python's types raise, and its parser is recursive."""
    for name, task in (("nngpt.yaml", TASK), ("study.yaml", "study")):
        (tmp_path / name).write_bytes(f"prompt: {text}\n".encode("utf-8", "surrogatepass"))
        assert len(line(read_project, tmp_path / name, task)) < 500
    told = line(parse_settings, [f"prompt={text}"])
    assert told.startswith("the value of 'prompt=")
    assert len(told) < 500


LEVELS = [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40)]
MERGES = [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(["a0: &a0 {x: 1}", *LEVELS]), "aliases (*) stand for more than 100,000 values"),
        ("\n".join(["a0: &a0 {x: 1}", *MERGES]), "aliases (*) stand for more than 100,000 values"),
        ("data: &a [*a]", "a value contains itself"),
        ("data: &a {epoch: *a}", "a value contains itself"),
        ("data: {epoch: 1" + ":59" * 60_000 + "}", "a number of 180,001 characters; at most 1,000 are read"),
        ("data: {epoch: 1.5" + "0" * 180_000 + "}", "a number of 180,003 characters; at most 1,000 are read"),
        ("data: " + "x" * 200_000, "200,006 characters; at most 200,000 are read"),
    ],
    ids=[
        "aliases",
        "merged keys",
        "a list in itself",
        "a mapping in itself",
        "sixties",
        "a long number",
        "a long text",
    ],
)
def test_yaml_that_stands_for_much_more_than_its_text(text, reason, file):
    place = file(text)
    with deadline():
        assert line(read_project, place, TASK) == f"'{place}' is not YAML ({reason})"


def test_aliases_and_merged_keys_are_read(file):
    text = "tasks:\n  a: {data: &common {epoch: 2, seed: 1}}\n  b: {data: {<<: *common, seed: 3}}"
    assert read_project(file(text), "a") == {"data": {"epoch": 2, "seed": 1}}
    assert read_project(file(text), "b") == {"data": {"epoch": 2, "seed": 3}}


def test_keys_without_end():
    assert "is not key=value" in line(parse_settings, [f"{'a.' * 5000}b=1"] * 2)
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert faults(deep, deep) == "configuration: too deeply nested"
    assert len(faults({"x" * 5000: 1, "data": {"y" * 5000: 1}})) < 1700
    circle = {}
    circle["a"] = circle
    assert "unknown key 'a'" in faults({"a": circle})


@pytest.mark.parametrize("name", ["a" * 5000, f"a/{'é' * 200}/b", "a\0b", "\ud800"])
@pytest.mark.parametrize("key", ["output_dir", "model.base"])
def test_names_that_no_file_can_have(key, name):
    nested = {"output_dir": name} if key == "output_dir" else {"model": {"base": name}}
    told = faults(nested)
    assert told.startswith(f"configuration: {key}: ")
    assert len(told) < 300
    faults(parse_settings([f"{key}={yaml.safe_dump(name)}"]))


def test_a_base_with_the_name_of_no_file():
    study = {"prompts": ["recipe"], "bases": ["a" * 5000]}
    assert line(build_config, Block, study, what="cells") == "cells: File name too long"


def test_files_that_cannot_be_read(tmp_path):
    for name in ("a" * 5000, "a\0b", "\ud800"):
        assert line(read_project, name, TASK).startswith("cannot read the configuration '")
    missing = tmp_path / "none.yaml"
    assert line(read_project, missing, TASK) == f"cannot read the configuration '{missing}': No such file or directory"
    assert "Is a directory" in line(read_project, tmp_path, TASK)
    (tmp_path / "latin.yaml").write_bytes("prompt: é".encode("latin-1"))
    assert "latin.yaml' is not UTF-8 (byte 8); save it as UTF-8" in line(read_project, tmp_path / "latin.yaml", TASK)


def test_no_configuration_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = line(run_task, TASK)
    assert message.startswith(
        "no configuration for 'dataset_compare': give a file (config=FILE) or what differs from the defaults "
        '(model={"base": "embedded"}), or enable the task in '
    )
    assert message.endswith("nngpt.yaml in this folder or above: tasks: {dataset_compare: {}}")
    assert list(tmp_path.iterdir()) == []


# Any nesting

words = st.text(st.characters(categories=["L", "N"], include_characters="_- "), min_size=1).map(str.strip).filter(bool)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves | st.lists(leaves, max_size=3), lambda inner: st.dictionaries(words, inner, min_size=1, max_size=3)
)


@given(st.dictionaries(words, trees, min_size=1, max_size=4))
def test_any_nesting_comes_back(nested):
    def settings(tree, prefix=""):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from settings(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}={yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)}"

    assert parse_settings(list(settings(nested))) == nested


SECRET = "hunter2"
URLS = [
    f"postgresql+psycopg://me:{SECRET}@host/x", f"postgresql://me:a@{SECRET}@host/x", f"postgresql://me:?{SECRET}@h/x",
    f"postgresql://host/x?password={SECRET}", f"postgresql://me@host:1/x?sslmode=a&sslpassword={SECRET}@b",
    f"postgresql://me:{SECRET}", f"postgresql://me:{SECRET}/x", f"me:{SECRET}@host/x", f"postgresql:me:{SECRET}@host",
    f"postgresql:/me:{SECRET}@host", f"sqlite:///p.db?password={SECRET}", f"postgresql://me:a\n{SECRET}@host/x",
    f"postgresql://me:{SECRET}@host:port/x", f"postgresql://me:/{SECRET}@host/x",
    f"//me:{SECRET}@h/x", f"host=h password={SECRET} dbname=x", f"postgresql://host/x;PASSWORD = {SECRET}",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_no_password_is_shown_or_written(url, file, tmp_path):
    assert SECRET not in hide_password(url)
    config = build_config(TaskConfig, {"store": url})
    assert config.store == url
    assert SECRET not in dump_config(config)
    assert SECRET not in faults({"store": [url]}) + faults({"store": {url: 1}}) + line(
        parse_settings, [f"store {url}".replace("=", " ")]
    )
    for call in (PredictionStore.open, PredictionStore.check):
        assert SECRET not in line(call, url)
    shown = url.replace("\n", " ")
    assert SECRET not in line(parse_settings, [f"store={shown}: : x"])
    assert SECRET not in line(read_project, file(f"store: {shown}: : x"), TASK)


@pytest.mark.parametrize("piece", ["://a:", "://", "://a:5", "@:", "?password="])
def test_of_a_long_url_only_its_beginning_is_shown(piece):
    with deadline():
        assert hide_password("postgresql" + f"://me:{SECRET}@" + piece * 200_000) == "postgresql://***"


@pytest.mark.parametrize("url", ["sqlite:///a:b@c.db", "sqlite:///C:/a.db", "postgresql://me@host:5432/x", "p.db", ""])
def test_what_is_no_password_is_shown(url):
    assert hide_password(url) == url


def test_a_stores_password_is_not_written() -> None:
    config = build_config(TaskConfig, {"store": "postgresql+psycopg://me:s3@:cret@host/db"})
    assert config.store == "postgresql+psycopg://me:s3@:cret@host/db"
    assert yaml.safe_load(dump_config(config))["store"] == "postgresql+psycopg://me:***@host/db"
    assert (
        build_config(TaskConfig, {"store": "sqlite:///a:b@c.db"}).model_dump(mode="json")["store"]
        == "sqlite:///a:b@c.db"
    )


class _Item(BaseModel):
    size: int


class _Lists(BaseModel):
    items: list[_Item] = []
    named: dict[str, _Item] = {}


@pytest.mark.parametrize("given", [{"items": [3]}, {"named": {"a": 3}}])
def test_an_item_of_a_plugins_list_must_be_a_mapping(given):
    assert "must be a mapping" in line(build_config, _Lists, given)


@pytest.mark.parametrize(("typed", "key"), [("alpha", "model.lora.alpha"), ("epoch", "data.epoch")])
def test_the_last_part_of_a_key_is_enough_for_a_hint(typed, key):
    assert f"unknown key '{typed}' (did you mean '{key}'?)" in faults({typed: 1})
