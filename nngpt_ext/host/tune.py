"""`nngpt-ext host tune`: the host's own tuner on our pairs, networks held out whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nngpt_ext.config import TaskConfig, build_config, find_project, parse_settings, read_project
from nngpt_ext.errors import UserError, nearest
from nngpt_ext.files import cannot_write, write_text
from nngpt_ext.host.conf import enable, prompt_file
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.prompts import prompt_json
from nngpt_ext.host.reading import check_parameters
from nngpt_ext.host.root import CONF, DATABASE, check_database, run_in
from nngpt_ext.models.presets import PRESETS

log = logging.getLogger(__name__)

# Keys of tuning that the host has nothing for.
NOT_APPLIED = ("finetuner", "networks_per_epoch", "row_tokens", "gradient_checkpointing", "engine", "seed",
               "test_every_epoch")  # fmt: skip
EPOCHS = Path("nngpt") / "llm" / "epoch"  # what the host removes when it starts, below AB_GPT_NNGPT_DIR


class Obstacles(UserError):
    """Why the host's tuner cannot run here: `lines`, one each."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = list(lines)


def tune_host(
    llm: str,
    prompt: str = "code_only",
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

    Args:
        llm: an LLM preset: a file's path, or its name in `project` or among the host's own.
        prompt: a registered prompt.
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
        `out`, `rows` by part, and `command`: what was, or would be, called.

    Raises:
        Obstacles: when this environment cannot run it; nothing is written then.
        UserError: for a folder in use, and for faults in the preset, the prompt or the host.
    """
    from nngpt_ext.tasks.pipeline import find_template, resolve

    host, out = find_host(folder), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{out}' is not empty, and the host removes what it finds there; give another with --out")
    preset_file = find_preset(llm, host, Path(project))
    content = read_preset(preset_file)
    base = _base(content["base_model_name"], preset_file, trust_remote_code)
    where = Path(config) if config is not None else find_project()
    given: Mapping[str, Any] = read_project(where, "dataset_compare") if where is not None else {}
    asked = build_config(
        TaskConfig, given, parse_settings(list(settings)), {"prompt": prompt, "model": {"base": base}}
    )  # fmt: skip
    if measure:
        check_database(Path(database) if database is not None else DATABASE)
    prompt_json(find_template(asked.prompt))  # before anything is written
    call = _arguments(host, resolve(asked, out))
    idle = [f"tuning.{name}" for name in NOT_APPLIED if name in asked.tuning.model_fields_set]
    if idle:
        log.warning("the host's tuner has nothing for %s: it does not apply", ", ".join(idle))
    if not export_only:
        from nngpt_ext.host.status import obstacles, probed

        lines = obstacles(host, probed(host))
        if lines:
            raise Obstacles(lines)
    return _export_and_call(host, out.resolve(), asked, preset_file, content, call, measure, database, export_only)


def _export_and_call(
    host: Host, out: Path, asked: TaskConfig, preset_file: Path, content: dict[str, Any], call: dict[str, Any],
    measure: bool, database: str | Path | None, export_only: bool,
) -> dict[str, Any]:  # fmt: skip
    from transformers import AutoTokenizer

    from nngpt_ext.host.export import export_pairs
    from nngpt_ext.models.load import base_folder
    from nngpt_ext.prompts.render import Renderer
    from nngpt_ext.tasks.pipeline import find_template, read_data, resolve

    resolved = resolve(asked, out)
    tuning, data_config = resolved.tuning, resolved.data
    template = find_template(asked.prompt)
    tokenizer = AutoTokenizer.from_pretrained(base_folder(asked.model.base), trust_remote_code=False)
    assert data_config.code_tokens is not None  # resolved
    renderer = Renderer(template, tokenizer, code_tokens=data_config.code_tokens, compact=data_config.compact_code)
    data, root = read_data(resolved), out / "root"
    try:
        (out / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    enable("dataset_compare", [template.name], base=asked.model.base, folder=root)
    rows = export_pairs(data, renderer, out / "data")
    if Path(asked.model.base).is_dir() or asked.model.base == "embedded":
        ours = json.loads(next((root / CONF / "llm").glob("nngpt_ext_*.json")).read_text(encoding="utf-8"))
        content = {**ours, **{k: v for k, v in content.items() if k != "base_model_name"}}
    llm = root / CONF / "llm" / preset_file.name
    write_text(llm, json.dumps(content, indent=2) + "\n")
    if measure:
        (root / DATABASE).parent.mkdir(exist_ok=True)
        (root / DATABASE).symlink_to(Path(database or DATABASE).resolve())
    prompts = {part: root / CONF / "prompt" / part / prompt_file(template.name) for part in ("train", "test")}
    arguments = {
        **call, "llm_conf": str(llm), "llm_tune_conf": str(prompts["train"]), "nn_gen_conf": str(prompts["test"]),
        "nn_gen_conf_id": template.name, "data_dir": str(out / "data"), "max_prompts": rows["train"],
        "learning_rate": tuning.learning_rate, "skip_epoches": -1 if measure else tuning.epochs,
    }  # fmt: skip
    note = {
        **{role: host.module(role) for role in ("main", "tune", "prompt")},
        "arguments": arguments, "cycles": tuning.epochs, "data_dir": str(out / "data"),
    }  # fmt: skip
    write_text(out / "call.json", json.dumps(note, indent=2) + "\n")
    command = ["-m", "nngpt_ext.host.launch", str(out / "call.json")]
    found = {"out": str(out), "rows": rows, "command": command, "arguments": arguments, "started": not export_only}
    if export_only:
        return found
    if (out / EPOCHS).exists():  # made since we looked
        raise UserError(f"'{out / EPOCHS}' exists, and the host would remove it; give another with --out")
    done = run_in(root, host, command, environment={"AB_GPT_NNGPT_DIR": str(out / "nngpt")}, capture=False)
    if done.returncode:
        raise UserError(f"the host's main ended with exit code {done.returncode}; its messages are above")
    return found


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


def find_preset(name: str, host: Host | None, project: Path) -> Path:
    """The file of an LLM preset: a path, or a name in the project's folder or among the host's own.

    Raises:
        UserError: when there is none.
    """
    if Path(name).is_file():
        return Path(name)
    places = [project / CONF / "llm", *([host.conf / "llm"] if host is not None else [])]
    for place in places:
        if (place / name).is_file():
            return place / name
    known = sorted({file.name for place in places for file in place.glob("*.json")})
    raise UserError(f"no LLM preset '{name}'{nearest(name, known)}; known: {', '.join(known) or 'none'}")


def read_preset(file: Path) -> dict[str, Any]:
    """Read an LLM preset.

    Raises:
        UserError: when it is not JSON, or names no base model.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the LLM preset '{file}': {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("base_model_name"), str):
        raise UserError(f"the LLM preset '{file}' has no base_model_name")
    return content


def _base(name: str, file: Path, trust_remote_code: bool) -> str:
    """Our name of a base model, or its hub id or folder."""
    known = {preset.location: ours for ours, preset in PRESETS.items()}
    place = Path(name) if Path(name).is_absolute() else file.parents[min(4, len(file.parents) - 1)] / name
    if place.is_dir():
        # An auto_map may name code of a hub: `org/repo--module.Class`.
        if (list(place.glob("*.py")) or _mapped_code(place)) and not trust_remote_code:
            raise UserError(
                f"'{place}' holds or names code, which the host would run; add --trust-remote-code if you trust it"
            )
        return known.get(str(place.resolve()), str(place.resolve()))
    if name not in known and not trust_remote_code:
        raise UserError(
            f"the host runs code that comes with '{name}' without asking; add --trust-remote-code if you trust it "
            f"(not needed for {', '.join(sorted(k for k in known if '/' in k and not Path(k).is_dir()))})"
        )
    return known.get(name, name)


def _mapped_code(folder: Path) -> bool:
    """Whether a configuration of a model or tokenizer there has an `auto_map`; one that cannot be read may."""
    for file in folder.glob("*config.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        if isinstance(content, dict) and content.get("auto_map"):
            return True
    return False
