"""`nngpt-ext host tune`: the host's own tuner on our pairs, networks held out whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.host.changes import new_folder
from nngpt_ext.host.conf import enable, prompt_file
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.presets import base_of, chat_template, find_preset, read_preset, row_limit
from nngpt_ext.host.prompts import TEMPLATE_FILE, llm_preset, prompt_json
from nngpt_ext.host.reading import check_parameters
from nngpt_ext.host.root import CONF, DATABASE, check_database, run_in, write_empty_database
from nngpt_ext.io import write_text
from nngpt_ext.models.presets import preset
from nngpt_ext.prompts.template import Template
from nngpt_ext.settings import build_config, find_project, parse_settings, read_project

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData
    from nngpt_ext.prompts.render import Renderer

log = logging.getLogger(__name__)

# Keys that the host has nothing for, or that are about what is not exported.
NOT_APPLIED = (
    "data.pairs_per_network", "data.test_networks", "model.revision", "model.trust_remote_code", "tuning.finetuner",
    "tuning.networks_per_epoch", "tuning.row_tokens", "tuning.gradient_checkpointing", "tuning.engine", "tuning.seed",
    "tuning.test_every_epoch", "calibration.target", "store",
)  # fmt: skip


class Obstacles(UserError):
    """Why the host's tuner cannot run here: `lines`, one each."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = list(lines)


def tune_host(
    llm: str,
    prompt: str | None = None,
    *,
    out: str | Path,
    folder: str | Path | None = None,
    project: str | Path = "nngpt",
    config: str | Path | None = None,
    settings: Sequence[str] = (),
    measure: bool = False,
    database: str | Path | None = None,
    trust_remote_code: bool = False,
    export_only: bool = False,
) -> dict[str, Any]:
    """Export our training pairs and call the host's `main` on them.

    Everything that may be wrong is looked for first; then `out` is written under a temporary name and renamed.

    Args:
        llm: an LLM preset: a file's path, or its name in `project` or among the host's own.
        prompt: a registered prompt; by default the configuration's. One that the host's loader does not fill, such
            as `recipe`, can only be exported.
        out: a new folder, which gets `data/train.jsonl`, `root/` (where the host starts) and `nngpt/` (its output).
        folder: where NNGPT is, if not where Python finds it.
        project: the folder that `host enable` wrote to.
        config: YAML with `data` and `tuning`; by default the nearest nngpt.yaml, if there is one.
        settings: `key=value` texts, as of `run --set`.
        measure: have the host generate and judge answers before each epoch; it reads them from all rows, those it
            trains on included, and needs `database` and 10 GB of memory.
        database: LEMUR's database ab.nn.db, for `measure`.
        trust_remote_code: accept that the host runs code that comes with a model.
        export_only: stop when everything is written.

    Returns:
        `out`, `rows` by part, `longest_row` (tokens), `started`, and what was, or would be, called: `command` and
        `arguments`, None for a prompt that can only be exported; `not_filled` says why.

    Raises:
        Obstacles: when this environment cannot run it; nothing is written then.
        UserError: for a folder in use, rows that the host would cut or leave out, and for faults in the preset, the
            prompt or the host; nothing is written then.
    """
    from nngpt_ext.tasks.pipeline import find_template, resolve

    host, out = find_host(folder), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' is not empty, and the host removes what it finds there; give another with --out")
    file = find_preset(llm, host, Path(project))
    content = read_preset(file)
    base = base_of(content["base_model_name"], file, trust_remote_code)
    where = Path(config) if config is not None else find_project()
    given: Mapping[str, Any] = read_project(where, "dataset_compare") if where is not None else {}
    said = {"model": {"base": base}, **({"prompt": prompt} if prompt is not None else {})}
    asked = build_config(TaskConfig, given, parse_settings(list(settings)), said)
    if measure:
        check_database(Path(database) if database is not None else DATABASE)
    template = find_template(asked.prompt)
    not_filled = _not_filled(template, export_only)
    resolved = resolve(asked, out)
    call = None if not_filled else _arguments(host, resolved)
    _tell_idle(host, asked, measure)
    if not export_only:
        from nngpt_ext.host.status import obstacles, probed

        lines = obstacles(host, probed(host))
        if lines:
            raise Obstacles(lines)
    corpus = _corpus(host, resolved, template, file, content)
    found = _write(host, out.resolve(), resolved, corpus, file, content, call, Path(database or DATABASE), measure)
    if not export_only:
        root, outputs = out.resolve() / "root", out.resolve() / "nngpt"
        done = run_in(root, host, found["command"], environment={"AB_GPT_NNGPT_DIR": str(outputs)}, capture=False)
        if done.returncode:
            raise UserError(f"the host's main ended with exit code {done.returncode}; its messages are above")
    return {**found, "not_filled": not_filled, "started": not export_only}


def _not_filled(template: Template, export_only: bool) -> str | None:
    """Why the host's own loader cannot use a prompt; an error unless our rows are only exported."""
    try:
        prompt_json(template)
    except UserError as error:
        if not export_only:
            raise UserError(f"{error}; or add --export-only for the rows alone") from None
        return str(error)
    return None


def _tell_idle(host: Host, asked: TaskConfig, measure: bool) -> None:
    """Say which keys were set and do not apply."""
    from nngpt_ext.host.defects import find_defects

    idle = []
    for key in NOT_APPLIED:
        *outer, name = key.split(".")
        stage = getattr(asked, outer[0]) if outer else asked
        if name in stage.model_fields_set:
            idle.append(key)
    dropped = any(d["present"] for d in find_defects(host, {}) if d["name"] == "weight_decay_dropped")
    if dropped and asked.tuning.weight_decay:
        idle.append("tuning.weight_decay")
    if idle:
        log.warning("the host's tuner has nothing for %s: it does not apply", ", ".join(idle))
    if measure and asked.data.model_fields_set:
        keys = ", ".join(f"data.{name}" for name in sorted(asked.data.model_fields_set))
        log.warning("the host measures on rows of its own: %s applies to training only", keys)


class _Corpus(NamedTuple):
    """What is exported, and how the host's tokenizer shows it."""

    data: PairData
    renderer: Renderer
    chat_template: str | None
    longest: int  # tokens


def _corpus(host: Host, asked: TaskConfig, template: Template, file: Path, content: dict[str, Any]) -> _Corpus:
    """Read the pairs and see that the host takes every row of them."""
    from transformers import AutoTokenizer

    from nngpt_ext.host.export import check_lengths
    from nngpt_ext.models.base import base_folder
    from nngpt_ext.models.tokens import check_text
    from nngpt_ext.prompts.render import Renderer
    from nngpt_ext.tasks.pipeline import read_data

    base = base_folder(asked.model.base)
    ours, theirs = (AutoTokenizer.from_pretrained(base, trust_remote_code=False) for _ in range(2))
    check_text(ours, asked.model.base)
    shown = chat_template(content, file, host, theirs)
    if shown is not None:
        theirs.chat_template = shown
    assert asked.data.code_tokens is not None  # resolved
    renderer = Renderer(template, ours, code_tokens=asked.data.code_tokens, compact=asked.data.compact_code)
    data = read_data(asked)
    return _Corpus(data, renderer, shown, check_lengths(data, renderer, theirs, row_limit(content, base)))


def _write(
    host: Host, out: Path, asked: TaskConfig, corpus: _Corpus, file: Path, content: dict[str, Any],
    call: dict[str, Any] | None, database: Path, measure: bool,
) -> dict[str, Any]:  # fmt: skip
    """Write `out`, whole or not at all; what is in it names paths in it."""
    from nngpt_ext.host.export import export_pairs

    name, base = corpus.renderer.template.name, asked.model.base
    with new_folder(out) as place:
        (place / "data").mkdir()
        rows = export_pairs(corpus.data, corpus.renderer, place / "data")
        found = {"out": str(out), "rows": rows, "longest_row": corpus.longest, "command": None, "arguments": None}
        if call is None:
            return found
        enable("dataset_compare", [asked.prompt], base=base, folder=place / "root")
        conf = Path("root") / CONF
        if Path(preset(base).location).is_dir():  # named relatively: the host writes adapters below this name
            content = {**content, "base_model_name": json.loads(llm_preset(base).text)["base_model_name"]}
        if corpus.chat_template is not None:
            template_file = Path(content.get("chat_template_path") or TEMPLATE_FILE).name
            content = {**content, "chat_template_path": template_file}
            (place / conf / "chat_template").mkdir(exist_ok=True)
            write_text(place / conf / "chat_template" / template_file, corpus.chat_template)
        write_text(place / conf / "llm" / file.name, json.dumps(content, indent=2) + "\n")
        (place / "root" / DATABASE).parent.mkdir(exist_ok=True)
        if measure:
            (place / "root" / DATABASE).symlink_to(database.resolve())
        else:  # the rows are ours: no need to build LEMUR's, which takes minutes
            write_empty_database(place / "root" / DATABASE)
        prompts = {part: str(out / conf / "prompt" / part / prompt_file(name)) for part in ("train", "test")}
        arguments = {
            **call, "llm_conf": str(out / conf / "llm" / file.name), "llm_tune_conf": prompts["train"],
            "nn_gen_conf": prompts["test"], "nn_gen_conf_id": name, "data_dir": str(out / "data"),
            "max_prompts": rows["train"], "learning_rate": asked.tuning.learning_rate,
            "skip_epoches": -1 if measure else asked.tuning.epochs,
        }  # fmt: skip
        note = {
            **{role: host.module(role) for role in ("main", "tune", "prompt")},
            "arguments": arguments, "cycles": asked.tuning.epochs, "data_dir": str(out / "data"),
        }  # fmt: skip
        write_text(place / "call.json", json.dumps(note, indent=2) + "\n")
    command = ["-m", "nngpt_ext.host.launch", str(out / "call.json")]
    return {**found, "command": command, "arguments": arguments}


def _arguments(host: Host, asked: TaskConfig) -> dict[str, Any]:
    """What main gets besides paths, of a resolved configuration; a main that does not take all of it has changed.

    Raises:
        UserError: naming what it does not take.
    """
    lora = asked.model.lora
    call: dict[str, Any] = {
        "num_train_epochs": 1, "classification_mode": True, "use_agents": False, "only_best_accuracy": True,
        "max_new_tokens": 64, "r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": asked.tuning.examples_per_step,
        "weight_decay": asked.tuning.weight_decay, "load_in_4bit": asked.model.load_in_4bit,
        "warmup_ratio": asked.tuning.warmup, "max_grad_norm": asked.tuning.max_grad_norm,
    }  # fmt: skip
    paths = ("llm_conf", "llm_tune_conf", "nn_gen_conf", "nn_gen_conf_id", "data_dir", "max_prompts", "learning_rate",
             "skip_epoches")  # fmt: skip
    check_parameters(host, "main", "main", (*call, *paths))
    check_parameters(host, "tune", "tune", ("num_cycles",))
    return call
