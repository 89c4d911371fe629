"""`nngpt-ext host tune`: NNGPT's own tuner on our training pairs, with whole networks held out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import ResolvedConfig, TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.host import conversion
from nngpt_ext.host.arguments import main_arguments
from nngpt_ext.host.conversion import prompt_file, to_json
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import DATABASE, check_database, link_database, obstacles, run_in
from nngpt_ext.io import cannot_write, replacing_folder, write_text
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template
from nngpt_ext.settings import build_config, find_project, parse_settings, read_project

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

log = logging.getLogger(__name__)

# Keys that NNGPT has no counterpart for, or that concern what is not exported.
NOT_APPLIED = (
    "data.pairs_per_network", "data.test_networks", "model.revision", "model.trust_remote_code", "tuning.finetuner",
    "tuning.networks_per_epoch", "tuning.row_tokens", "tuning.gradient_checkpointing", "tuning.engine", "tuning.seed",
    "tuning.test_every_epoch", "calibration.target", "store",
)  # fmt: skip
_AT_ONCE = 512  # rows tokenised together


@dataclass(frozen=True)
class HostTuning:
    """What `tune_host` is asked to do.

    Attributes:
        llm: an LLM preset: a file's path, or its name in `project` or among NNGPT's own.
        prompt: a registered prompt; by default the configuration's. One that NNGPT's loader does not fill, such as
            `recipe`, can only be exported.
        out: a new folder, which gets `data/train.jsonl`, `root/` (where NNGPT is started) and `nngpt/` (its output).
        host: where NNGPT is, if not where Python finds it.
        project: the folder that `host enable` wrote to.
        config: YAML file with `data` and `tuning`; by default the nearest nngpt.yaml, if there is one.
        settings: `key=value` texts, as for `run --set`.
        measure: let NNGPT generate and evaluate answers before each epoch. It takes them from all rows, including those
            it trains on, and needs `database` and 10 GB of memory.
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
        `out`, `rows` by part, `longest_row` (tokens), `started`, and what was or would be called: `command` and
        `arguments`, None for a prompt that can only be exported; `not_filled` says why.

    Raises:
        UserError: if NNGPT's tuner cannot run here, for a folder in use, for rows that NNGPT would cut or drop, and for
            mistakes in the preset, the prompt or the configuration; nothing is written then.
    """
    from nngpt_ext.tasks.pipeline import find_template

    host, out = find_host(asked.host), asked.out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"'{asked.out}' is not empty, and NNGPT removes what it finds there; choose another with --out")
    file = conversion.find_conf(asked.llm, "llm", [asked.project / CONF, host.conf])
    base = conversion.base_of(file)
    if not asked.trust_remote_code:
        _check_code(base, known=base != conversion.read_llm_preset(file)["base_model_name"])
    where = asked.config if asked.config is not None else find_project()
    given: Mapping[str, Any] = read_project(where, "dataset_compare") if where is not None else {}
    chosen = {"model": {"base": base}, **({"prompt": asked.prompt} if asked.prompt is not None else {})}
    config = build_config(TaskConfig, given, parse_settings(list(asked.settings)), chosen)
    database = asked.database or DATABASE
    if asked.measure:
        check_database(database)
    template = find_template(config.prompt)
    not_filled = None
    try:
        conversion.prompt_json(template)
    except UserError as error:
        if not asked.export_only:
            raise UserError(f"{error}; or add --export-only for the rows alone") from None
        not_filled = str(error)
    resolved = config.resolved(asked.out)
    call = None if not_filled else main_arguments(host, resolved)
    _warn(host, config, asked.measure)
    if not asked.export_only and (lines := obstacles(host)):
        raise UserError(f"NNGPT's tuner cannot run here: {'; '.join(lines)}")
    corpus = _corpus(host, resolved, template, file)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from None
    with replacing_folder(out) as folder:
        (folder / "data").mkdir()
        rows = conversion.export_pairs(corpus.data, corpus.renderer, folder / "data")
        if call is not None:
            _write_root(folder / "root", corpus, resolved, database if asked.measure else None)
            conf, prompt = out / "root" / CONF, prompt_file(template.name)
            call |= {
                "llm_conf": str(conf / "llm" / file.name), "llm_tune_conf": str(conf / "prompt" / "train" / prompt),
                "nn_gen_conf": str(conf / "prompt" / "test" / prompt), "nn_gen_conf_id": template.name,
                "data_dir": str(out / "data"), "max_prompts": rows["train"],
                "skip_epoches": -1 if asked.measure else resolved.tuning.epochs,
            }  # fmt: skip
            modules = {role: host.module(role) for role in ("main", "tune", "prompt")}
            more = {"arguments": call, "cycles": resolved.tuning.epochs, "data_dir": call["data_dir"]}
            write_text(folder / "call.json", to_json(modules | more))
    command = None if call is None else ["-m", "nngpt_ext.host.process", "tune", str(out / "call.json")]
    if command is not None and not asked.export_only:
        done = run_in(out / "root", host, command, environment={"AB_GPT_NNGPT_DIR": str(out / "nngpt")}, capture=False)
        if done.returncode:
            raise UserError(f"NNGPT's main ended with exit code {done.returncode}; see its messages above")
    return {
        "out": str(out), "rows": rows, "longest_row": corpus.longest, "command": command, "arguments": call,
        "not_filled": not_filled, "started": not asked.export_only,
    }  # fmt: skip


def _check_code(base: str, known: bool) -> None:
    """Refuse a base model that comes with code, which NNGPT would run; those that we know by location do not."""
    if known and base in PRESETS:
        return
    folder = Path(base)
    if not folder.is_dir():
        raise UserError(
            f"NNGPT runs code that comes with '{base}' without asking; add --trust-remote-code if you trust it"
        )
    if list(folder.glob("*.py")) or any(_names_code(file) for file in folder.glob("*config.json")):
        raise UserError(
            f"'{base}' contains or names code, which NNGPT would run; add --trust-remote-code if you trust it"
        )


def _names_code(config: Path) -> bool:
    """Whether an `auto_map` names code, which may be on a hub; assumed of a file that cannot be read."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(content, dict) and bool(content.get("auto_map"))


def _warn(host: Host, config: TaskConfig, measure: bool) -> None:
    """Warn of keys that were set and have no effect."""
    idle = []
    for key in NOT_APPLIED:
        stage, _, name = key.rpartition(".")
        if name in (getattr(config, stage) if stage else config).model_fields_set:
            idle.append(key)
    if host.layout == "flat" and config.tuning.weight_decay:  # 1.0.6 drops it
        idle.append("tuning.weight_decay")
    if idle:
        log.warning("NNGPT's tuner has no counterpart for %s, which therefore has no effect", ", ".join(idle))
    if measure and config.data.model_fields_set:
        keys = ", ".join(f"data.{name}" for name in sorted(config.data.model_fields_set))
        log.warning("NNGPT measures on rows of its own: %s applies to training only", keys)


@dataclass(frozen=True)
class _Corpus:
    """What is exported, and how NNGPT shows it to the model."""

    file: Path  # the LLM preset
    preset: dict[str, Any]  # its content
    chat_template: str | None  # None: the tokenizer's own
    data: PairData
    renderer: Renderer
    longest: int  # tokens


def _corpus(host: Host, config: ResolvedConfig, template: Template, file: Path) -> _Corpus:
    """Read the pairs and check that NNGPT accepts every row of them."""
    from transformers import AutoTokenizer

    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.models.base import LOADING, base_folder
    from nngpt_ext.models.tokens import check_text

    folder, preset = base_folder(config.model.base), conversion.read_llm_preset(file)
    with LOADING:
        ours, theirs = (AutoTokenizer.from_pretrained(folder, trust_remote_code=False) for _ in range(2))
    check_text(ours, config.model.base)
    shown = conversion.chat_template(preset, file, host, theirs)
    if shown is not None:
        theirs.chat_template = shown
    data = load_pairs(config.data)
    renderer = Renderer(
        template, ours, code_tokens=config.data.code_tokens, compact=config.data.compact_code, facts=data.facts
    )
    longest = check_lengths(data, renderer, theirs, conversion.row_limit(preset, folder))
    return _Corpus(file, preset, shown, data, renderer, longest)


def check_lengths(data: PairData, renderer: Renderer, tokenizer: Any, limit: int) -> int:
    """The tokens of the longest row that would be exported, tokenised as NNGPT's loader does.

    Rows must stay below `limit`; the error says at which `data.code_tokens` they would.
    """
    import jinja2

    tokenizer.add_eos_token = True  # as NNGPT does
    longest, fitting = 0, renderer.code_tokens
    for part in conversion.CORPUS:
        pairs = conversion.corpus_pairs(data, part)
        rows = zip(pairs["nn"].repeat(2), conversion.chat_rows(pairs, renderer, data.sources), strict=True)
        while some := list(islice(rows, _AT_ONCE)):
            try:
                texts = [str(tokenizer.apply_chat_template(row["messages"], tokenize=False)) for _, row in some]
            except (jinja2.TemplateError, ValueError) as error:
                raise UserError(
                    "the base's chat template does not accept a system text, a question and an answer, which NNGPT "
                    f"gives it ({error}); name another in the LLM preset: chat_template_path"
                ) from None
            for (nn, _), tokens in zip(some, tokenizer(texts, verbose=False)["input_ids"], strict=True):
                longest = max(longest, len(tokens))
                if len(tokens) >= limit:
                    code = renderer.code(data.sources[nn]).text
                    shown = len(renderer.tokenizer(code, add_special_tokens=False, verbose=False)["input_ids"])
                    fitting = min(fitting, shown - (len(tokens) - limit + 1))
    if longest < limit:
        return longest
    fitting = fitting // 50 * 50 if fitting >= 100 else fitting - 2  # a cut within a word may give one token more
    now = renderer.code_tokens
    if fitting < 0 or not renderer.template.needs("nn_code"):
        cure = f"even data.code_tokens=0 ({now} now) leaves it too long; use a prompt that shows less"
    else:
        cure = f"lower data.code_tokens ({now} now): --set data.code_tokens={fitting}"
    raise UserError(
        f"the longest row has {longest:,} tokens with its answer, and NNGPT accepts rows below {limit:,}; {cure}"
    )


def _write_root(root: Path, corpus: _Corpus, config: TaskConfig, database: Path | None) -> None:
    """Write the folder that NNGPT is started in: its conf, and the database that it measures on or an empty one."""
    enable("dataset_compare", [config.prompt], base=config.model.base, folder=root)
    content, ours = dict(corpus.preset), conversion.llm_preset(config.model.base)
    if ours.link is not None:  # named relatively: NNGPT writes adapters below this name
        content["base_model_name"] = ours.content["base_model_name"]
    if corpus.chat_template is not None:
        content["chat_template_path"] = Path(content.get("chat_template_path") or conversion.CHAT_TEMPLATE_FILE).name
        place = root / CONF / "chat_template"
        place.mkdir(exist_ok=True)
        write_text(place / content["chat_template_path"], corpus.chat_template)
    write_text(root / CONF / "llm" / corpus.file.name, to_json(content))
    link_database(root, database)
