"""What a user of this host runs into, looked for in its code and its behaviour, never in its version number."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.host.layout import Host
from nngpt_ext.host.reading import calls, constant, function, keyword, parameters, prompt_entries, tree_of

Seen = Mapping[str, Any]  # what `nngpt_ext.host.probe.behaviour` found; empty where nothing was run


class Defect(NamedTuple):
    """One thing that matters to a user, and what this package does about it."""

    name: str
    what: str
    ours: str
    present: Callable[[Host, Seen], bool | None]  # None: could not be told


def find_defects(host: Host, seen: Seen) -> list[dict[str, Any]]:
    """Look for each known defect: name, present (None where it cannot be told), what it is, what we do about it."""
    found = []
    for defect in DEFECTS:
        try:
            present = defect.present(host, seen)
        except UserError:  # the place to look at is gone
            present = None
        found.append({"name": defect.name, "present": present, "what": defect.what, "ours": defect.ours})
    return found


def _default_dataset(host: Host, _: Seen) -> bool:
    gets = calls(function(host, "loader", "NNGenPrompt.get_raw_dataset"), "get")
    return any(
        len(call.args) == 2 and isinstance(call.args[0], ast.Constant) and call.args[0].value == "dataset"
        and not (isinstance(call.args[1], ast.Constant) and call.args[1].value is None)
        for call in gets
    )  # fmt: skip


def _default_prefixes(host: Host, _: Seen) -> bool:
    for node in ast.walk(function(host, "loader", "NNGenPrompt.get_raw_dataset")):
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and "nn_prefixes" in ast.dump(node.values[0]):
            return isinstance(node.values[-1], ast.Name)
    return False


def _system_differs(host: Host, _: Seen) -> bool | None:
    texts: dict[str, dict[str, Any]] = {}
    for part in ("train", "test"):
        for file in (host.conf / "prompt" / part).glob("NN_dataset_compare*.json"):
            texts.setdefault(file.name, {})[part] = [entry.get("system") for entry in prompt_entries(file)]
    both = [of for of in texts.values() if len(of) == 2]
    return any(of["train"] != of["test"] for of in both) if both else None


def _code_cut(host: Host, _: Seen) -> bool | None:
    files = list((host.conf / "prompt" / "train").glob("NN_dataset_compare*.json"))
    limits = [e.get("nn_code_max_chars") for f in files for e in prompt_entries(f)]
    return any(limits) if limits else None


def _formulas(host: Host, seen: Seen) -> bool | None:
    return "<<" not in seen["formulas"] if "formulas" in seen else None


def _order_decides(host: Host, seen: Seen) -> bool | None:
    return bool(seen["answers"]["order_decides"]) if "answers" in seen else None


def _undeclared(host: Host, seen: Seen) -> bool | None:
    return not seen["keeps_undeclared"] if "keeps_undeclared" in seen else None


def _agents_drop(host: Host, seen: Seen) -> bool | None:
    fields = seen.get("state_fields")
    if fields is None:
        return None
    default = constant(host, "main", parameters(host, "main", "main").get("use_agents"))
    return bool(default) and not {"data_dir", "epoch_root"} <= set(fields)


def _data_dir_dropped(host: Host, _: Seen) -> bool:
    return "data_dir" in parameters(host, "main", "main") and "data_dir" not in parameters(host, "tune", "tune")


def _cycles(host: Host, _: Seen) -> bool:
    return not any(keyword(call, "num_cycles") for call in calls(function(host, "main", "main"), "tune"))


def _weight_decay(host: Host, _: Seen) -> bool:
    for node in ast.walk(function(host, "main", "main")):
        if isinstance(node, ast.If) and node.orelse and "'evaluation_strategy'" in ast.dump(node.test):
            return not any("'weight_decay'" in ast.dump(otherwise) for otherwise in node.orelse)
    return False


def _own_options(host: Host, _: Seen) -> bool:
    tree = tree_of(host.file("main"))
    options = set()
    for call in calls(tree, "add_argument"):
        given = keyword(call, "dest")
        names = [a.value for a in call.args if isinstance(a, ast.Constant) and str(a.value).startswith("--")]
        if isinstance(given, ast.Constant) or names:
            name = given.value if isinstance(given, ast.Constant) else names[-1]
            options.add(str(name).lstrip("-").replace("-", "_"))
    popped = {a.value for call in calls(tree, "pop") for a in call.args[:1] if isinstance(a, ast.Constant)}
    return bool(options - popped - set(parameters(host, "main", "main")))


def _warmup(host: Host, seen: Seen) -> bool | None:
    return _refused(tree_of(host.file("main")), "warmup_ratio", seen.get("training_arguments"))


def _collator(host: Host, seen: Seen) -> bool | None:
    given = any(keyword(c, "completion_only_loss") for c in calls(tree_of(host.file("lora")), _COLLATOR))
    return given and "completion_only_loss" not in seen["collator"] if "collator" in seen else None


def _refused(tree: ast.Module, name: str, taken: list[str] | None) -> bool | None:
    if taken is None:
        return None
    return name not in taken and any(isinstance(n, ast.Constant) and n.value == name for n in ast.walk(tree))


def _no_mask(host: Host, _: Seen) -> bool:
    given = [keyword(c, "train_on_completions_only") for c in calls(function(host, "tune", "_finetune_epoch"), "train")]
    return not any(isinstance(g, ast.Constant) and g.value is True for g in given)


def _no_split(host: Host, _: Seen) -> bool:
    return not any("split" in p or "hold" in p for p in parameters(host, "tune", "tune"))


def _rmtree(host: Host, _: Seen) -> bool:
    return any(True for _ in calls(function(host, "tune", "tune"), "rmtree"))


def _pickle(host: Host, _: Seen) -> bool:
    return any(True for _ in calls(tree_of(host.file("evaluation")), "read_pickle"))


def _remote_code(host: Host, _: Seen) -> bool:
    given = (keyword(c, "trust_remote_code") for c in calls(tree_of(host.file("llm")), "from_pretrained"))
    return any(isinstance(g, ast.Constant) and g.value is True for g in given)


def _base_folder(host: Host, _: Seen) -> bool:
    trains = calls(function(host, "tune", "_finetune_epoch"), "train")
    return any("base_model_name" in ast.dump(argument) for call in trains for argument in call.args)


def _no_hook(host: Host, _: Seen) -> bool:
    return len(parameters(host, "controller", "run_agent_controller")) < 2


def _epoch_of_best(host: Host, _: Seen) -> bool:
    found = [c for r in ("loader", "tune") for c in calls(tree_of(host.file(r)), "enrich_dataframe")]
    return any(keyword(c, "epoch") is None for c in found)


def _single_trials(host: Host, _: Seen) -> bool:
    return constant(host, "main", parameters(host, "main", "main").get("only_best_accuracy")) is False


def _deepspeed(host: Host, _: Seen) -> bool:
    body = tree_of(host.file("tune")).body
    return any(isinstance(n, ast.Import) and any(a.name == "deepspeed" for a in n.names) for n in body)


def _conf_here(host: Host, _: Seen) -> bool:
    places = [n for n in ast.walk(tree_of(host.file("const"))) if isinstance(n, ast.Name)]
    return any(n.id == "ab_root_path" for n in places)


_COLLATOR = "DataCollatorForLanguageModeling"
_EXPORTED = "host tune trains on our exported pairs"
DEFECTS: tuple[Defect, ...] = (
    Defect("default_dataset", "prompts take rows of one dataset unless their JSON names another, so that two "
           "different datasets never meet: the shipped compare prompts give 0 rows",
           "our prompts say \"dataset\": null", _default_dataset),
    Defect("default_prefixes", "an empty nn_prefixes means a default choice of networks, not all",
           "our prompts say \"nn_prefixes\": [\"\"]", _default_prefixes),
    Defect("system_differs", "the shipped compare prompts have another system text in training than in measuring",
           "ours have the same", _system_differs),
    Defect("code_cut", "sources are cut to 2,000 characters, which truncates 96 % of them",
           "ours are not cut in the host's own loader; exported pairs are cut by tokens", _code_cut),
    Defect("single_trials", "pairs join single trials by default: labels agree with those of the best trials in 77 %",
           f"{_EXPORTED}, of best trials unless data.trials says otherwise", _single_trials),
    Defect("best_of_epoch_5", "rows of every epoch are normalised by the best of epoch 5",
           f"{_EXPORTED}, normalised at their own epoch", _epoch_of_best),
    Defect("no_split", "what is measured is drawn from the rows that were trained on",
           f"{_EXPORTED}: whole networks are held out", _no_split),
    Defect("no_completion_mask", "the loss is over the whole prompt; the answer is 0.55 % of the tokens",
           "nngpt_ext.host.tune_main trains on answers only", _no_mask),
    Defect("formulas_evaluated", "<<…>> in a prompt is evaluated as Python, a network's source included",
           f"{_EXPORTED}, which the host does not evaluate", _formulas),
    Defect("order_decides", "its reading of an answer depends on the order in which two names were offered",
           "host import reads the outputs with its own parser and states both", _order_decides),
    Defect("pickled_frames", "its evaluation opens pickles", "host import opens none", _pickle),
    Defect("trust_remote_code", "code that comes with a model is run without asking",
           "host tune wants a known preset, or --trust-remote-code", _remote_code),
    Defect("output_removed", "the folder of its epochs is removed at the start of a run",
           "host tune gives it a fresh one", _rmtree),
    Defect("base_folder_written", "an adapter goes to <epoch>/<base model's name>: into the base's own folder where "
           "that is an absolute path", "our LLM presets name a local base relatively", _base_folder),
    Defect("data_dir_dropped", "main takes data_dir and drops it", "host tune hands it on", _data_dir_dropped),
    Defect("cycles_dropped", "main hands no number of cycles on: it runs 100", "host tune hands it on", _cycles),
    Defect("weight_decay_dropped", "main drops weight_decay where no evaluation_strategy is given",
           "host tune says that tuning.weight_decay does not apply", _weight_decay),
    Defect("own_options_refused", "its command line has options that its main does not take, so it stops at once",
           "host tune calls main", _own_options),
    Defect("agents_drop_data_dir", "agent mode, the default, drops data_dir and epoch_root",
           "host tune sets use_agents=False", _agents_drop),
    Defect("undeclared_dropped", "the agents' state drops fields that it does not declare",
           "nngpt_ext.host.agents.make_state declares ours", _undeclared),
    Defect("no_graph_hook", "the agents' graph is built where nobody can add a node",
           "nngpt_ext.host.agents.add_to_graph adds ours to a graph that you build", _no_hook),
    Defect("warmup_ratio", "it gives transformers an argument that the installed one does not take",
           "host tune stops and says so", _warmup),
    Defect("completion_only_loss", "it gives trl's collator an argument that the installed one does not take",
           "host tune stops and says so", _collator),
    Defect("deepspeed", "its tuner imports deepspeed even where it is not used", "host tune stops and says so",
           _deepspeed),
    Defect("conf_of_current_folder", "prompts and presets are read from the current folder, not from the package",
           "host enable makes a folder to start it in", _conf_here),
)  # fmt: skip
