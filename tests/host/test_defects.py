"""Each defect is seen where it is, and not where a host has mended it: from the code, and from what functions do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.host.defects import DEFECTS, find_defects
from nngpt_ext.host.layout import LAYOUTS, SHARED, find_host
from tests.host.test_layout import made

LOADER = "class NNGenPrompt:\n def get_raw_dataset(self, key):\n  return "
EPOCH = "def _finetune_epoch():\n lora.train(data, words, out{}, train_on_completions_only={})"
GRAPH = "def run_agent_controller(state{}): ..."
# name: the module's role, its text with the defect, and without.
CODE: dict[str, tuple[str, str, str]] = {
    "default_dataset": ("loader", LOADER + "key.get('dataset', 'cifar-10')", LOADER + "key.get('dataset', None)"),
    "default_prefixes": ("loader", LOADER + "key.get('nn_prefixes') or FEW", LOADER + "key.get('nn_prefixes') or []"),
    "single_trials": ("main", "def main(only_best_accuracy=False): ...", "def main(only_best_accuracy=True): ..."),
    "best_of_epoch_5": ("loader", "enrich_dataframe(data)", "enrich_dataframe(data, epoch=data.epoch)"),
    "no_split": ("tune", "def tune(test_nn): ...", "def tune(test_nn, hold_out): ..."),
    "no_completion_mask": ("tune", EPOCH.format("", "use_backbone"), EPOCH.format("", "True")),
    "pickled_frames": ("evaluation", "pd.read_pickle(file)", "pd.read_parquet(file)"),
    "trust_remote_code": ("llm", "A.from_pretrained(m, trust_remote_code=True)", "A.from_pretrained(m)"),
    "output_removed": ("tune", "def tune(): shutil.rmtree(out)", "def tune(): out.mkdir()"),
    "base_folder_written": ("tune", EPOCH.format(" / base_model_name", "x"), EPOCH.format(" / 'adapter'", "x")),
    "cycles_dropped": ("main", "def main(cycles): tune(n)", "def main(cycles): tune(n, num_cycles=cycles)"),
    "weight_decay_dropped": (
        "main",
        "def main():\n if evaluation['evaluation_strategy']: ...\n else: given = {}",
        "def main():\n if evaluation['evaluation_strategy']: ...\n else: given['weight_decay'] = 0.1",
    ),
    "own_options_refused": (
        "main",
        "def main(a): ...\nparser.add_argument('-b', '--num_cycles')",
        "def main(a, num_cycles): ...\nparser.add_argument('-b', '--num_cycles')",
    ),
    "no_graph_hook": ("controller", GRAPH.format(""), GRAPH.format(", nodes=()")),
    "deepspeed": ("tune", "import deepspeed", "try:\n import deepspeed\nexcept ImportError: ..."),
    "conf_of_current_folder": ("const", "gpt_dir = ab_root_path / 'gpt'", "gpt_dir = Path(__file__).parents[1]"),
}
# name: what trying the functions out gave with the defect, and without; and the code it is looked for in.
BEHAVIOUR: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "formulas_evaluated": ({"formulas": "x = 1 42 2"}, {"formulas": "x = 1 <<6*7>> 2"}, {}),
    "order_decides": ({"answers": {"order_decides": ["a or b"]}}, {"answers": {"order_decides": []}}, {}),
    "undeclared_dropped": ({"keeps_undeclared": False}, {"keeps_undeclared": True}, {}),
    "agents_drop_data_dir": (
        {"state_fields": ["model"]},
        {"state_fields": ["data_dir", "epoch_root"]},
        {"main": "def main(use_agents=True): ..."},
    ),
    "warmup_ratio": (
        {"training_arguments": ["warmup_steps"]},
        {"training_arguments": ["warmup_ratio"]},
        {"main": "def main(): T(**{'warmup_ratio': 0.1})"},
    ),
    "completion_only_loss": (
        {"collator": ["pad_token_id"]},
        {"collator": ["completion_only_loss"]},
        {"lora": "DataCollatorForLanguageModeling(completion_only_loss=True)"},
    ),
}
DROPPED = "data_dir_dropped"  # in two modules
CONF = ("system_differs", "code_cut")  # in its JSON


def present(folder: Path, name: str, code: dict[str, str], seen: dict[str, Any] | None = None) -> bool | None:
    files = {(SHARED | LAYOUTS["flat"])[role].replace(".", "__"): text for role, text in code.items()}
    # Modules that a detector also looks into.
    for role in ("tune", "loader"):
        files.setdefault(SHARED[role].replace(".", "__"), "")
    made(folder, "TuneNNGen", **files)
    return {d["name"]: d["present"] for d in find_defects(find_host(folder), seen or {})}[name]


@pytest.mark.parametrize("name", CODE)
def test_in_the_code(tmp_path: Path, name: str) -> None:
    role, defect, mended = CODE[name]
    assert present(tmp_path / "a", name, {role: defect}) is True
    assert present(tmp_path / "b", name, {role: mended}) is False


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_in_what_its_functions_do(tmp_path: Path, name: str) -> None:
    defect, mended, code = BEHAVIOUR[name]
    assert present(tmp_path / "a", name, code, defect) is True
    assert present(tmp_path / "b", name, code, mended) is False
    assert present(tmp_path / "c", name, code, {}) is None  # not tried out


def test_data_dir(tmp_path: Path) -> None:
    main = {"main": "def main(data_dir): ..."}
    assert present(tmp_path / "a", DROPPED, {**main, "tune": "def tune(n): ..."}) is True
    assert present(tmp_path / "b", DROPPED, {**main, "tune": "def tune(n, data_dir): ..."}) is False


@pytest.mark.parametrize(("train", "test", "differs", "cut"), [("a", "b", True, None), ("a", "a", False, 2000)])
def test_in_its_conf(tmp_path: Path, train: str, test: str, differs: bool, cut: int | None) -> None:
    package = made(tmp_path, "TuneNNGen")
    for part, system in (("train", train), ("test", test)):
        file = package / "conf" / "prompt" / part / "NN_dataset_compare_x.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"x": {"system": [system], "nn_code_max_chars": cut}}))
    found = {d["name"]: d["present"] for d in find_defects(find_host(tmp_path), {})}
    assert [found[name] for name in CONF] == [differs, cut is not None]


def test_a_place_that_is_gone_is_not_taken_for_mended(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", TuneNNGen="")
    found = {d["name"]: d["present"] for d in find_defects(find_host(tmp_path), {})}
    assert set(found.values()) == {None}


def test_each_is_held_in_both_directions() -> None:
    assert {*CODE, *BEHAVIOUR, *CONF, DROPPED} == {defect.name for defect in DEFECTS}
