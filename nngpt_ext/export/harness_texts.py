"""The files of a task folder that lm-evaluation-harness and people read."""

from __future__ import annotations

from nngpt_ext.evaluation.report import Report

ORDERS = ("both", "straight", "turned")

_TASK = """\
task: {name}
custom_dataset: !function questions.load
dataset_kwargs: {{order: {order}}}
test_split: test
output_type: multiple_choice
doc_to_text: text  # a column, taken as it is: what stands in a network's source is never filled in
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
num_fewshot: 0
{metrics}metadata: {{version: 1.0}}
"""
_ACC = "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
_PAIRS = (
    "process_results: !function questions.results\n"
    + _ACC
    + "  - {metric: acc_pairs, aggregation: !function questions.accuracy_of_pairs, higher_is_better: true}\n"
)


def group_of_files(task: str) -> dict[str, str]:
    """The YAML files by name: both orders with `acc_pairs`, and each order alone."""
    names = {order: task if order == "both" else f"{task}_{order}" for order in ORDERS}
    return {
        f"{name}.yaml": _TASK.format(name=name, order=order, metrics=_PAIRS if order == "both" else _ACC)
        for order, name in names.items()
    }


def readme(report: Report, command: str, task: str, pairs: int, networks: int, with_base: bool) -> str:
    """How to run the task, and what its figures mean."""
    low, high = report.accuracy.ci95
    of_all = f"{report.accuracy.value:.4f} (95 % interval over networks {low:.3f} to {high:.3f}"
    base = (
        "\n`base/` is the run's base model with its 4-bit weights (NF4) written out as the numbers they stand for:\n"
        "lm_eval has no way to load it in 4 bits as the run does. `adapter/` is the run's adapter.\n"
        if with_base
        else "\n`adapter/` is the run's adapter.\n"
    )
    return f"""# {task}

On which of two datasets does a network do better? {pairs:,} pairs of {networks:,} networks of the run's test part, each
asked in both orders of the two names, with the prompts of the run (`{report.prompt}`) as it rendered them for its base
model (`{report.base_model}`). In this folder, with `pip install lm-eval peft`:

```bash
{command}
```

- `acc` is per question. `acc_pairs` averages the log-odds of the two orders, as nngpt_ext answers: the run's accuracy
  on all its {report.n_test_pairs:,} test pairs is {of_all};
  pair prior {report.baselines["pair_prior"].accuracy:.4f}).
- lm_eval's standard error is over questions, as if those about one network had nothing to do with each other: it is too
  small.
- `{task}_straight` and `{task}_turned` ask one order only.
- An answer is a name and the stop token, summed over tokens. There is no `acc_norm`: divided by its length, the longer
  name would win.
- `add_bos_token=False`, no `--apply_chat_template`, no `--num_fewshot`: the prompt stands whole in `text`.
- `questions.parquet` has the run's own `log_odds` of each pair beside the questions.
{base}"""
