"""A run's test questions as a task of lm-evaluation-harness, and its answers compared with our own."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nngpt_ext.batches.encode import Encoder
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.sources.discovery import INSTALL
from nngpt_ext.data.splits import SPLITS, shuffled, split_hash
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.metrics import first_wins
from nngpt_ext.export.publication import FinishedRun, copy_model, exporting, read_run
from nngpt_ext.extras import install_extra
from nngpt_ext.io import write_text
from nngpt_ext.models.base import check_base, compute_dtype, load_base, quiet_transformers
from nngpt_ext.predict.adapter import load_scorer
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.structures import with_structures
from nngpt_ext.run_folder import ADAPTER, BASE_FOLDER, CARD, PREDICTIONS, read_table
from nngpt_ext.scoring.predictions import group_by_network, questions_of
from nngpt_ext.scoring.scorer import LocalScorer
from nngpt_ext.views.faces import filled

QUESTIONS, FUNCTIONS = "questions.parquet", "questions.py"
ORDERS = ("straight", "turned")  # of the two names
BATCH = 16  # requests of one forward pass of lm_eval


@dataclass(frozen=True)
class ExportedTask:
    """A task folder."""

    folder: Path
    task: str  # the name of the task with both orders; `<task>_straight` and `<task>_turned` have one
    pairs: int
    networks: int
    model_args: dict[str, Any]  # for `lm_eval --model hf`
    device: str  # for `--device`; by default lm_eval needs CUDA

    def command(self, here: bool = False) -> str:
        """The command that runs it; with `here`, inside the folder."""
        arguments = ",".join(f"{name}={value}" for name, value in self.model_args.items())
        if here:
            arguments = arguments.replace(f"={self.folder}/", "=")
        what = f"--include_path {'.' if here else self.folder} --tasks {self.task}"
        return f"lm_eval {what} --model hf --model_args {arguments} --device {self.device} --batch_size {BATCH}"


def export_harness(
    run: str | Path, out: str | Path, *, networks: int | None = None, with_base: bool = True, force: bool = False
) -> ExportedTask:
    """Write the questions about a run's test pairs, in both orders, to a folder that `lm_eval --include_path` takes.

    Its prompts are the run's own, rendered for its base model: chat template, cut sources and stop token.

    Args:
        run, out: the folders that are read and written.
        networks: how many test networks to ask about, drawn by the split's seed; None for all.
        with_base: if the run computes in 4 bits, also write its base with these weights written out, because
            lm_eval cannot load it in 4 bits.
        force: replace what is in `out`, whatever it is.

    Raises:
        UserError: for a run that is not finished or has links out of its folder, LEMUR records that are not those of
            the run, an `out` that contains something else, and a tokenizer that reads a question differently when its
            answer follows in the same text, as in lm_eval.
    """
    found, out = read_run(Path(run)), Path(out)
    adapter, model = found.adapter, found.config.model
    if adapter.note.line is not None:
        raise UserError(
            f"the run in '{found.folder}' scores each dataset's line (tuning.head lines), and lm_eval compares "
            "answers; export a run with tuning.head=answer"
        )
    with exporting(out, "lm-eval", found.made_of(), force=force, run=found.folder) as folder:
        pairs, sources = tested_pairs(found, networks)
        base = load_base(
            adapter.base_place, load_in_4bit=adapter.base.load_in_4bit, revision=model.revision,
            trust_remote_code=model.trust_remote_code,
        )  # fmt: skip
        check_base(adapter.folder, base)
        scorer = LocalScorer(base, adapter.note.template, adapter.note.budget, adapter.note.known_facts())
        questions = pd.DataFrame(_questions(pairs, scorer.encoder(sources)))
        questions.to_parquet(folder / QUESTIONS, index=False, compression="zstd")
        copy_model(adapter.folder, folder / ADAPTER)
        shutil.copyfile(Path(__file__).with_name(FUNCTIONS), folder / FUNCTIONS)

        written, dtype = adapter.base.load_in_4bit and with_base, compute_dtype(base.device.type)
        arguments = {
            "pretrained": str(out / BASE_FOLDER) if written else str(base.folder),
            "peft": str(out / ADAPTER),
            "dtype": str(dtype).removeprefix("torch."),
            "add_bos_token": False,
            "max_length": base.context,
        }
        task = "nngpt_dataset_compare_" + re.sub(r"[^a-z0-9]+", "_", adapter.note.prompt.lower()).strip("_")
        done = ExportedTask(out, task, len(pairs), int(pairs["nn"].nunique()), arguments, base.device.type)
        for order, name in {"both": task, **{order: f"{task}_{order}" for order in ORDERS}}.items():
            write_text(folder / f"{name}.yaml", filled("export/harness_task.yaml.jinja", name=name, order=order))
        readme = filled(
            "export/harness_readme.md.jinja",
            task=task, pairs=done.pairs, networks=done.networks, report=found.report, with_base=written,
            split=SPLITS[found.config.data.split], command=done.command(here=True),
        )  # fmt: skip
        write_text(folder / CARD, readme)
        if written:  # the 4-bit weights become the numbers that they stand for
            network: Any = base.model
            with quiet_transformers():
                network.dequantize(dtype=dtype).save_pretrained(folder / BASE_FOLDER)
                base.tokenizer.save_pretrained(folder / BASE_FOLDER)
    return done


def tested_pairs(found: FinishedRun, networks: int | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The run's test pairs, with its own `log_odds` of them, and all sources; `networks` of them if given."""
    template = found.adapter.note.template
    data = with_structures(load_pairs(found.config.data, required=template.required), template)
    if split_hash(data.pairs) != found.record["split_hash"] or data.fingerprint != found.record["data"]["fingerprint"]:
        raise UserError(
            f"the LEMUR records here are not those that '{found.folder}' was made from (source {data.source} here, "
            f"{found.record['data']['source']} there); type: {INSTALL}"
        )
    test = data.part("test")
    if networks is not None:
        kept = shuffled(sorted(test["nn"].unique()), found.config.data.seed)[:networks]
        test = test[test["nn"].isin(set(kept))].reset_index(drop=True)
    keys = ["nn", "dataset_1", "dataset_2"]
    said = read_table(found.folder / PREDICTIONS)
    said = said.loc[said["split"] == "test", [*keys, "log_odds"]]
    return test.merge(said, on=keys, how="left", validate="one_to_one"), data.sources


def _questions(pairs: pd.DataFrame, encoder: Encoder) -> Iterator[dict[str, Any]]:
    """Two questions a pair: its datasets in text order, then turned."""
    asked, odds = questions_of(pairs), pairs["log_odds"].tolist()
    better, stop = pairs["better_dataset"].tolist(), encoder.tokenizer.eos_token
    for rows in group_by_network(pairs["nn"].tolist()):
        nn = asked[rows[0]].nn
        shows_code = encoder.renderer.template.needs("nn_code")
        code = encoder.renderer.code(encoder.sources[nn]).text if shows_code else None
        for i in rows:
            for turned, question in enumerate((asked[i], asked[i].turned())):
                names = (question.dataset_1, question.dataset_2)
                text = encoder.renderer.text(question, code, encoder.sources[nn])
                choices = [encoder.renderer.inert(name) + stop for name in names]
                _check(encoder, question, text, choices)
                yield {
                    "pair": int(i), "nn": nn, "dataset_1": asked[i].dataset_1, "dataset_2": asked[i].dataset_2,
                    "turned": bool(turned), "text": text, "choices": choices, "label": names.index(better[i]),
                    "better_dataset": better[i], "log_odds": odds[i],
                }  # fmt: skip


def _check(encoder: Encoder, question: Question, text: str, choices: list[str]) -> None:
    """Check that prompt and answer in one text, as lm_eval tokenises them, are the tokens that we score.

    lm_eval counts white space at the end of the prompt as a part of the answer. If the tokens are the same, that adds
    the same to both answers and changes nothing.
    """

    def tokens(text: str) -> list[int]:
        return list(encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    (encoded,) = encoder.encode([question])
    ours = [[*encoded.prompt.tolist(), *option.tolist()] for option in encoded.answers]
    if [tokens(text + choice) for choice in choices] != ours or len(tokens(text.rstrip())) > len(encoded.prompt):
        raise UserError(
            f"the base's tokenizer joins the end of a question about '{question.nn}' with its answer when both are one "
            "text, as lm_eval reads them; this run cannot be exported to lm_eval"
        )


def check_installed() -> None:
    """Check that lm-evaluation-harness is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"lm-evaluation-harness is not installed; type: {install_extra('lm-eval')}")


def check_harness(run: str | Path, exported: ExportedTask) -> dict[str, Any]:
    """Run lm_eval on an exported task and score the same questions ourselves.

    Args:
        run: the run that the task was made from.
        exported: the task.

    Returns:
        `questions`, how many there are; `accuracy` (ours) and `lm_eval`, accuracies by order of the names, and with
        both averaged (`pairs`); `different_answers`, how many; `largest_difference` of the log-odds; `seconds` (ours)
        and `lm_eval_seconds`, both with loading the model.
    """
    began = time.monotonic()
    found = read_run(Path(run))
    pairs, sources = tested_pairs(found, exported.networks)
    right = first_wins(pairs)
    scorer = load_scorer(found.adapter, found.adapter.base_place, found.adapter.note.known_facts())
    odds = scorer.log_odds(questions_of(pairs), sources)
    changed = time.monotonic()
    figures, theirs = _lm_eval(exported)
    ended = time.monotonic()

    def by_order(odds: np.ndarray) -> dict[str, float]:
        return {order: float(((odds[:, i] >= 0) == right).mean()) for i, order in enumerate(ORDERS)}

    return {
        "questions": odds.size,
        "accuracy": by_order(odds) | {"pairs": float(((odds.mean(axis=1) >= 0) == right).mean())},
        "lm_eval": by_order(theirs) | {"pairs": float(figures["acc_pairs,none"])},
        "different_answers": int(((odds >= 0) != (theirs >= 0)).sum()),
        "largest_difference": float(np.abs(odds - theirs).max()),
        "seconds": round(changed - began, 1),
        "lm_eval_seconds": round(ended - changed, 1),
    }


def _lm_eval(exported: ExportedTask) -> tuple[dict[str, Any], np.ndarray]:
    """lm_eval's own figures, and its log-odds of dataset_1 in both orders, shape (pairs, 2)."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
        done: Any = simple_evaluate(
            model="hf", model_args=dict(exported.model_args), device=exported.device, batch_size=BATCH,
            tasks=[exported.task], bootstrap_iters=0,
            task_manager=TaskManager(include_path=str(exported.folder), include_defaults=False),
        )  # fmt: skip
    odds = np.full((exported.pairs, 2), np.nan)
    for sample in done["samples"][exported.task]:
        pair, value, _ = sample["acc_pairs"]
        odds[pair, int(sample["doc"]["turned"])] = value
    if np.isnan(odds).any():
        raise RuntimeError("lm_eval did not answer all questions")
    return done["results"][exported.task], odds


def check_text(found: dict[str, Any]) -> str:
    """What `check_harness` found, for a terminal."""
    names = {"straight": "names in text order", "turned": "turned", "pairs": "both orders averaged"}
    lines = [
        f"{found['questions']:,} questions, {found['different_answers']} answered differently by lm_eval; "
        f"log-odds differ by {found['largest_difference']:.1e} at most; "
        f"lm_eval {found['lm_eval_seconds']:.0f} s, nngpt-ext {found['seconds']:.0f} s"
    ]
    for order, name in names.items():
        lines.append(f"  {name}: lm_eval {found['lm_eval'][order]:.4f}, nngpt-ext {found['accuracy'][order]:.4f}")
    return "\n".join(lines)
