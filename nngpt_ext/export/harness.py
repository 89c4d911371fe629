"""A run's test questions as a task of lm-evaluation-harness, with the model that answers them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nngpt_ext.data.splits import SPLITS, shuffled, split_hash
from nngpt_ext.errors import UserError
from nngpt_ext.export.publication import FinishedRun, check_target, copy_model, exporting, read_run
from nngpt_ext.io import write_text
from nngpt_ext.models.base import Base, check_base, compute_dtype, load_base, quiet_transformers
from nngpt_ext.run_folder import ADAPTER, BASE_FOLDER, CARD, PREDICTIONS, read_table
from nngpt_ext.scoring.predictions import group_by_network, questions_of
from nngpt_ext.scoring.scorer import LocalScorer
from nngpt_ext.tasks.pipeline import read_data
from nngpt_ext.views.faces import filled

if TYPE_CHECKING:
    from nngpt_ext.batches.encode import Encoder

QUESTIONS, FUNCTIONS = "questions.parquet", "questions.py"
ORDERS = ("straight", "turned")  # of the two names
BATCH = 16  # requests of one forward pass of lm_eval


@dataclass(frozen=True)
class ExportedTask:
    """A task folder.

    Attributes:
        task: the name of the task with both orders; `<task>_straight` and `<task>_turned` have one.
        model_args: for `lm_eval --model hf`.
        device: for `--device`; without it, lm_eval wants CUDA.
    """

    folder: Path
    task: str
    pairs: int
    networks: int
    model_args: dict[str, Any]
    device: str

    def command(self, here: bool = False) -> str:
        """What to type; with `here`, inside the folder."""
        given = {name: str(value) for name, value in self.model_args.items()}
        if here:
            given = {name: value.removeprefix(f"{self.folder}/") for name, value in given.items()}
        arguments = ",".join(f"{name}={value}" for name, value in given.items())
        what = f"--include_path {'.' if here else self.folder} --tasks {self.task}"
        return f"lm_eval {what} --model hf --model_args {arguments} --device {self.device} --batch_size {BATCH}"


def export_harness(
    run: str | Path, out: str | Path, *, networks: int | None = None, with_base: bool = True, force: bool = False
) -> ExportedTask:
    """Write the questions about a run's test pairs, in both orders, to a folder that `lm_eval --include_path` takes.

    Its prompts are the run's own, rendered for its base model: chat template, cut sources and stop token.

    Args:
        run: folder of a finished run.
        out: the folder to write.
        networks: how many test networks to ask about, drawn by the split's seed; None for all.
        with_base: if the run computes in 4 bits, also write its base with these weights written out, because
            lm_eval cannot load it in 4 bits.
        force: replace what is in `out`, whatever it is.

    Raises:
        UserError: for a run that is not finished or has links out of its folder, LEMUR records that are not those of
            the run, an `out` that holds something else, and a tokenizer that reads a question differently when its
            answer follows in the same text, as lm_eval has it.
    """
    found, out = read_run(Path(run)), Path(out)
    check_target(out, "lm-eval", force=force, run=found.folder)
    pairs, sources = tested_pairs(found, networks)
    base, encoder = _encoder(found, sources)
    here, dtype = found.adapter.base.load_in_4bit and with_base, compute_dtype(base.device.type)
    arguments = {
        "pretrained": str(out / BASE_FOLDER) if here else str(base.folder),
        "peft": str(out / ADAPTER),
        "dtype": str(dtype).removeprefix("torch."),
        "add_bos_token": False,
        "max_length": base.context,
    }
    task = "nngpt_dataset_compare_" + re.sub(r"[^a-z0-9]+", "_", found.adapter.note.prompt.lower()).strip("_")
    done = ExportedTask(out, task, len(pairs), int(pairs["nn"].nunique()), arguments, base.device.type)
    with exporting(out, "lm-eval", found.made_of()) as folder:
        questions = pd.DataFrame(_questions(pairs, encoder))
        questions.to_parquet(folder / QUESTIONS, index=False, compression="zstd")
        copy_model(found.adapter.folder, folder / ADAPTER)
        for order, name in {"both": task, **{order: f"{task}_{order}" for order in ORDERS}}.items():
            text = filled("export/harness_task.yaml.jinja", name=name, order=order)
            write_text(folder / f"{name}.yaml", text)
        shutil.copyfile(Path(__file__).with_name(FUNCTIONS), folder / FUNCTIONS)
        readme = filled(
            "export/harness_readme.md.jinja",
            task=task, pairs=done.pairs, networks=done.networks, report=found.report, with_base=here,
            split=SPLITS[found.config.data.split], command=done.command(here=True),
        )  # fmt: skip
        write_text(folder / CARD, readme)
        if here:  # the 4-bit weights become the numbers that they stand for
            model: Any = base.model
            with quiet_transformers():
                model.dequantize(dtype=dtype).save_pretrained(folder / BASE_FOLDER)
                base.tokenizer.save_pretrained(folder / BASE_FOLDER)
    return done


def tested_pairs(found: FinishedRun, networks: int | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The run's test pairs with its `log_odds` of them, and the sources of their networks."""
    data = read_data(found.config)
    if split_hash(data.pairs) != found.record["split_hash"] or data.fingerprint != found.record["data"]["fingerprint"]:
        raise UserError(
            f"the LEMUR records here are not those that '{found.folder}' was made from "
            f"(source {data.source} here, {found.record['data']['source']} there); install nn-dataset==2.1.2"
        )
    test = data.part("test")
    if networks is not None:
        kept = shuffled(sorted(test["nn"].unique()), found.config.data.seed)[:networks]
        test = test[test["nn"].isin(set(kept))].reset_index(drop=True)
    keys = ["nn", "dataset_1", "dataset_2"]
    said = read_table(found.folder / PREDICTIONS)
    said = said.loc[said["split"] == "test", [*keys, "log_odds"]]
    return test.merge(said, on=keys, how="left", validate="one_to_one"), data.sources


def _encoder(found: FinishedRun, sources: dict[str, str]) -> tuple[Base, Encoder]:
    note, model = found.adapter.note, found.config.model
    base = load_base(
        found.adapter.base_place, load_in_4bit=found.adapter.base.load_in_4bit, revision=model.revision,
        trust_remote_code=model.trust_remote_code,
    )  # fmt: skip
    check_base(found.adapter.folder, base)
    return base, LocalScorer(base, note.template, note.budget, note.known_facts()).encoder(sources)


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


def _check(encoder: Encoder, question: Any, text: str, choices: list[str]) -> None:
    """Check that prompt and answer in one text, as lm_eval tokenises them, are the tokens that we score.

    lm_eval counts white space at the end of the prompt as a part of the answer. If the tokens are the same, that adds
    the same to both answers and changes nothing.
    """
    (encoded,) = encoder.encode([question])
    read = [
        encoder.tokenizer(text + choice, add_special_tokens=False, verbose=False)["input_ids"] for choice in choices
    ]
    ours = [[*encoded.prompt.tolist(), *option.tolist()] for option in encoded.options]
    before = encoder.tokenizer(text.rstrip(), add_special_tokens=False, verbose=False)["input_ids"]
    if read != ours or len(before) > len(encoded.prompt):
        raise UserError(
            f"the base's tokenizer joins the end of a question about '{question.nn}' with its answer when both are one "
            "text, as lm_eval reads them; this run cannot be exported to lm_eval"
        )
