"""`nngpt-ext host tune`: NNGPT's own tuner on our training pairs, with whole networks held out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, elsewhere, typed
from nngpt_ext.host import conversion
from nngpt_ext.host.arguments import main_arguments
from nngpt_ext.host.conversion import prompt_file, to_json
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import DATABASE, check_database, link_database, obstacles, run_in, start_script
from nngpt_ext.io import cannot_write, replacing_folder, write_text
from nngpt_ext.models.base import LOADING, base_folder
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.models.tokens import check_text
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.settings import build_config, find_project, parse_settings, read_project

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

log = logging.getLogger(__name__)

# Keys that NNGPT has no counterpart for, or that concern data that is not exported.
NOT_APPLIED = (
    "data.pairs_per_network", "data.test_networks", "model.revision", "model.trust_remote_code", "tuning.finetuner",
    "tuning.networks_per_epoch", "tuning.row_tokens", "tuning.gradient_checkpointing", "tuning.engine", "tuning.seed",
    "tuning.test_every_epoch", "calibration.target", "store",
)  # fmt: skip


@dataclass(frozen=True)
class HostTuning:
    """The options of `tune_host`.

    Attributes:
        llm: an LLM preset: a file's path, or its name in `project` or among NNGPT's own.
        prompt: a registered one; by default the configuration's. What NNGPT's loader does not fill is only exported.
        out: a new folder for `data/train.jsonl`, `root/` (where NNGPT is started), `start.py` (which starts
            it, also with another environment's Python) and `nngpt/` (its output).
        host: where NNGPT is, if not where Python finds it.
        project: the folder that `host enable` wrote to.
        config: YAML file with `data` and `tuning`; by default the nearest nngpt.yaml, if there is one.
        settings: `key=value` texts, as for `run --set`.
        measure: let NNGPT answer before each epoch, on rows that it trains on; needs `database` and 10 GB of memory.
        database: LEMUR's database ab.nn.db, for `measure`.
        trust_remote_code: accept that NNGPT runs code that comes with a model.
        export_only: stop when everything is written.
    """

    llm: str
    prompt: str | None = None
    out: Path = Path("runs/host")
    host: Path | None = None
    project: Path = Path("nngpt")
    config: Path | None = None
    settings: Sequence[str] = ()
    measure: bool = False
    database: Path | None = None
    trust_remote_code: bool = False
    export_only: bool = False


def tune_host(asked: HostTuning) -> dict[str, Any]:
    """Export our training pairs and call NNGPT's `main` on them.

    Everything is checked first; then `out` is written under a temporary name and renamed.

    Returns:
        `out`, `rows` by part, `longest_row` (tokens), `started`, and the call: `command` and `arguments`, None for a
        prompt that can only be exported; `not_filled` says why.

    Raises:
        UserError: if NNGPT's tuner cannot run here, for a folder in use, for rows that NNGPT would cut or drop, and for
            mistakes in the preset, the prompt or the configuration; nothing is written then.
    """
    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.prompts.structures import with_structures
    from nngpt_ext.tasks.pipeline import check_evidence, find_template

    host, out = find_host(asked.host), asked.out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{asked.out}' is not empty, and NNGPT removes what it finds there; {elsewhere()}")
    file = conversion.find_conf(asked.llm, "llm", [asked.project / CONF, host.conf])
    preset, base = conversion.read_llm_preset(file), conversion.base_of(file)
    if not asked.trust_remote_code and (base not in PRESETS or base == preset["base_model_name"]):
        _check_code(base)
    where = asked.config if asked.config is not None else find_project()
    given: Mapping[str, Any] = read_project(where, "dataset_compare") if where is not None else {}
    chosen = {"model": {"base": base}, **({"prompt": asked.prompt} if asked.prompt is not None else {})}
    if "base" in (own := parse_settings(list(asked.settings))).get("model", {}):
        raise UserError(f"model.base comes from the LLM preset '{file}' (base_model_name): {base}; give another preset")
    config = build_config(TaskConfig, given, own, chosen)
    if config.tuning.head == "lines":
        raise UserError(
            "NNGPT's tuner trains on answers and has no scoring head for tuning.head=lines; set tuning.head=answer"
        )
    database = asked.database or DATABASE
    if asked.measure:
        check_database(database)
    template = find_template(config.prompt)
    check_evidence(template, config.data)
    not_filled = None
    try:
        conversion.prompt_json(template)
    except UserError as error:
        if not asked.export_only:
            alone = typed("add --export-only", "set export_only=True")
            raise UserError(f"{error}; or {alone} for the rows alone") from None
        not_filled = str(error)
    resolved = config.resolved(asked.out)
    call = None if not_filled else main_arguments(host, resolved)
    modules = {} if call is None else {role: host.module(role) for role in ("main", "tune", "prompt")}
    _warn(host, config, asked.measure)
    if not asked.export_only and (lines := obstacles(host)):
        raise UserError(f"NNGPT's tuner cannot run here: {'; '.join(lines)}")

    folder = base_folder(base, advice=f"a local folder may stand in '{file}' as base_model_name")
    ours, theirs = _tokenizer(folder), _tokenizer(folder)
    check_text(ours, base)
    chat_template = conversion.chat_template(preset, file, host, theirs)
    if chat_template is not None:
        theirs.chat_template = chat_template
    data = with_structures(load_pairs(resolved.data, required=template.required), template, resolved.networks.run_code)
    renderer = Renderer(
        template, ours, code_tokens=resolved.data.code_tokens, compact=resolved.data.compact_code, facts=data.facts
    )
    longest = check_lengths(data, renderer, theirs, conversion.row_limit(preset, folder))

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    with replacing_folder(out) as temporary:
        (temporary / "data").mkdir()
        rows = conversion.export_pairs(data, renderer, temporary / "data")
        if call is not None:
            enable("dataset_compare", [config.prompt], base=base, folder=temporary / "root")
            _write_preset(temporary / "root" / CONF, file.name, preset, base, chat_template)
            link_database(temporary / "root", database if asked.measure else None)
            conf, prompt = out / "root" / CONF, prompt_file(template.name)
            call |= {
                "llm_conf": str(conf / "llm" / file.name), "llm_tune_conf": str(conf / "prompt" / "train" / prompt),
                "nn_gen_conf": str(conf / "prompt" / "test" / prompt), "nn_gen_conf_id": template.name,
                "data_dir": str(out / "data"), "max_prompts": rows["train"],
                "skip_epoches": -1 if asked.measure else resolved.tuning.epochs,
            }  # fmt: skip
            more = {"arguments": call, "cycles": resolved.tuning.epochs, "data_dir": call["data_dir"]}
            write_text(temporary / "call.json", to_json(modules | more))
            write_text(temporary / "start.py", start_script())
    command = None if call is None else [str(out / "start.py")]
    if command is not None and not asked.export_only:
        done = run_in(out / "root", host, command, capture=False)
        if done.returncode:
            raise UserError(f"NNGPT's main ended with exit code {done.returncode}; see its messages above")
    return {
        "out": str(out), "rows": rows, "longest_row": longest, "command": command, "arguments": call,
        "not_filled": not_filled, "started": not asked.export_only,
    }  # fmt: skip


def _check_code(base: str) -> None:
    """Refuse a base model that contains or names code, or that is on a hub and may do so: NNGPT would run it."""
    folder = Path(base)
    if not folder.is_dir() or any(folder.glob("*.py")) or any(map(_names_code, folder.glob("*config.json"))):
        raise UserError(
            f"NNGPT would run code that comes with '{base}' without asking; if you trust it, "
            f"{typed('add --trust-remote-code', 'set trust_remote_code=True')}"
        )


def _names_code(config: Path) -> bool:
    """Whether an `auto_map` names code, which may be on a hub; assumed of a file that cannot be read."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(content, dict) and bool(content.get("auto_map"))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with LOADING:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _write_preset(conf: Path, name: str, preset: dict[str, Any], base: str, chat_template: str | None) -> None:
    """Write the user's LLM preset for the root, with a local base named through its link, and its chat template."""
    content = preset | {"base_model_name": conversion.llm_preset(base)["base_model_name"]}
    if chat_template is not None:
        content["chat_template_path"] = Path(preset.get("chat_template_path") or conversion.CHAT_TEMPLATE_FILE).name
        (conf / "chat_template").mkdir(exist_ok=True)
        write_text(conf / "chat_template" / content["chat_template_path"], chat_template)
    write_text(conf / "llm" / name, to_json(content))


def _warn(host: Host, config: TaskConfig, measure: bool) -> None:
    """Warn of keys that were set and have no effect."""
    idle = []
    for key in NOT_APPLIED:
        group, _, name = key.rpartition(".")
        if name in (getattr(config, group) if group else config).model_fields_set:
            idle.append(key)
    if host.modules.get("main") == "TuneNNGen" and config.tuning.weight_decay:  # 1.0.6 drops it
        idle.append("tuning.weight_decay")
    if idle:
        log.warning("NNGPT's tuner has no counterpart for %s, which therefore has no effect", ", ".join(idle))
    if measure and config.data.model_fields_set:
        keys = ", ".join(f"data.{name}" for name in sorted(config.data.model_fields_set))
        log.warning("NNGPT measures on its own rows: %s applies to training only", keys)


def check_lengths(data: PairData, renderer: Renderer, tokenizer: Any, limit: int) -> int:
    """The tokens of the longest row that would be exported, tokenised as NNGPT's loader does.

    Rows must stay below `limit`; the error gives the `data.code_tokens` at which they would.
    """
    import jinja2

    tokenizer.add_eos_token = True  # as NNGPT does
    longest, fitting = 0, renderer.code_tokens
    groups = [own for part in conversion.CORPUS for own in conversion.corpus_pairs(data, part).groupby("nn")]
    for nn, pairs in groups:
        rows = list(conversion.chat_rows(pairs, renderer, data.sources))  # whose errors are not the template's
        try:
            texts = [str(tokenizer.apply_chat_template(row["messages"], tokenize=False)) for row in rows]
        except (jinja2.TemplateError, ValueError) as error:
            raise UserError(
                "the base's chat template does not accept a system text, a question and an answer, which NNGPT "
                f"passes to it ({error}); name another in the LLM preset: chat_template_path"
            ) from None
        tokens = max(len(row) for row in tokenizer(texts, verbose=False)["input_ids"])
        longest = max(longest, tokens)
        if tokens >= limit:
            code = renderer.code(data.sources[str(nn)]).text
            shown = len(renderer.tokenizer(code, add_special_tokens=False, verbose=False)["input_ids"])
            fitting = min(fitting, shown - (tokens - limit + 1))
    if longest < limit:
        return longest
    fitting = fitting // 50 * 50 if fitting >= 100 else fitting - 2  # a cut within a word may give one token more
    now = renderer.code_tokens
    if fitting < 0 or not renderer.template.needs("nn_code"):
        cure = f"even data.code_tokens=0 ({now} now) leaves it too long; use a prompt that shows less"
    else:
        value = f"data.code_tokens={fitting}"
        cure = f"lower data.code_tokens ({now} now): {typed(f'--set {value}', f'settings=[{value!r}]')}"
    raise UserError(
        f"the longest row has {longest:,} tokens with its answer, and NNGPT accepts rows below {limit:,}; {cure}"
    )
