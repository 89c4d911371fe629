"""Every figure in README.md and in docs/ is read from a committed result.

`FIGURES` has, for each page, the texts that hold figures, made from the results. Each stands in its page, and what is
left of the page without them has no figure except those of `FIXED`, which nobody measures. So to change a figure:
measure it, commit the result, and write what these tests print. Left out are pages that are generated, and
docs/LOG.md, whose entries are dated.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import pytest

from nngpt_ext.networks.catalogue import SHIPPED
from nngpt_ext.networks.source import LIMIT, MOST_TOKENS
from nngpt_ext.serve.connection import HEAD, UNREAD
from nngpt_ext.serve.guard import MOST_VALUES, MOST_VALUES_MANY, Guard
from tests.docs.blocks import ROOT

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"))
    if page.name not in ("LOG.md", "api.md", "cli.md", "configuration.md")
)
# Settings, thresholds, versions and names.
FIXED: Mapping[str, set[str]] = {
    "*": {"3.10", "0.85", "95 %"},
    "CONTRIBUTING.md": {"90 minutes"},
    "docs/base_models.md": {"1,024", "80 %", "5e-4", "0.13 B", "1.3 B", "6.9 B", "4 GB", "12 GB", "93 MB", "0.812"},
    "docs/concepts.md": {"0.9", "0.5"},
    "docs/embedded.md": {"1.000"},
    "docs/first_steps.md": {"2.2"},
    "docs/gpu.md": {
        "80 GB", "103 MB", "93 MB", "3.11", "3.12", "19,314",
        "1.3B", "2,048", "8,192", "1,500", "10,567", "44.7 GB", "14,326", "41.1 GB", "8,615", "10,064", "0.2 %",
        "0.35 %", "2.0",
        "1.85", "1.44", "1.5", "2.11", "13.0", "2.6", "2.28",
    },
    "docs/host.md": {
        "1.0.6", "2.1.2", "2,000", "0.55 %", "96 %", "77 %", "635 MB", "1.7", "5.15", "5.22", "5 minutes",
    },
    "docs/own_records.md": {"0.95"},
    "docs/predictions.md": {"0.5", "0.95"},
    "docs/prompts.md": {"80 %", "-6.5", "-0.5"},
    "docs/publishing.md": {"0.4.13", "1.0.0", "2.6"},
    "docs/shared_prefix.md": {"2,048", "0.1", "0.3", "1.3B"},
    "docs/splits.md": {"2,701", "26,077", "0.5", "10 %", "20 %", "2,000", "2.1.2"},
    "docs/structure.md": {"5.13", "0.5", "4 kB", "4 GB", "10 s", "20 s"},
}  # fmt: skip
FIGURE = re.compile(
    r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)+)(?:\s?(?:%|×|MB|GB|GiB|B\b|M\b))?"
    r"|(?<![\w.,-])\d+\s?(?:%|×|ms\b|s\b|h\b|MB|GB|kB|minutes?\b|hours?\b|seconds?\b)"
)


def read(name: str) -> Any:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


RESULTS = "benchmarks/results/"
DEMO = read(RESULTS + "demo/report.json")
SECONDS = read(RESULTS + "demo/seconds.json")
BUDGET = read(RESULTS + "demo/train_budget.json")
BASELINES = read(RESULTS + "baselines.json")
STUDY = read("docs/study/study.json")
CELLS = {cell["name"]: cell["figures"] for cell in STUDY["cells"]}


def cell(
    prompt: str, base: str = "embedded", split: str = "by_network", label: str = "normalized", more: str = ""
) -> Any:
    return CELLS[f"{prompt}.{base}.{split}.{label}.seed0{more}"]


def minutes(prompt: str, split: str = "by_network") -> str:
    return f"{STUDY['timings'][f'{prompt}.embedded.{split}.normalized.seed0'] / 60:.0f} on a GPU"


def between(ci95: list[float], sign: str = "") -> str:
    return f"({ci95[0]:{sign}.3f} to {ci95[1]:{sign}.3f})"


def accuracy(found: Any) -> str:
    return f"{found['accuracy']['value']:.3f} {between(found['accuracy']['ci95'])}"


def skill(found: Any) -> str:
    return f"{found['skill']['value']:+.3f} {between(found['skill']['ci95'], '+')}"


def prior(found: Any) -> str:
    return f"{found['baselines']['pair_prior']['accuracy']:.3f}"


def row(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def measured(found: Any) -> str:
    """Accuracy, prior and skill, as columns of a table."""
    return " | ".join((accuracy(found), prior(found), skill(found)))


def demo_time() -> str:
    first, last = (round(s / 60) for s in (min(SECONDS["idle"]), max(SECONDS["idle"])))
    longest = round(max(SECONDS["beside other work"]) / 60)
    return f"{first} to {last} minutes on two idle cores, and up to {longest} beside other work"


def parameters(base: str) -> int:
    return int(from_card(base, r"A Llama of ([\d,]+) parameters").replace(",", ""))


def built_in(base: str) -> str:
    return from_card(base, r"tokens in (\d+ minutes)")


def weights(base: str) -> str:
    folder = ROOT / "nngpt_ext" / "models" / base
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"


def readme() -> list[str]:
    by_network, by_cluster = (BASELINES["splits"][name] for name in ("by_network", "by_cluster"))
    trees = [by_network["baselines"][name] for name in ("code_gbm", "recipe_gbm", "bt_recipe_structure")]
    both, seconds = (read(f"{RESULTS}runs/recipe_structure/{name}.json") for name in ("report", "seconds"))
    first, last = (round(s / 60) for s in (min(SECONDS["idle"]), max(SECONDS["idle"])))
    best = measured(cell("recipe")).replace(" (", "** (", 1)
    code, recipe = ("the source", "the start of the source, and the recipes of both trainings")
    levels, early = ("near", "strict"), read(RESULTS + "evidence-near-random.json")
    model = read(RESULTS + "runs/evidence-near/report.json")
    own, strict = model["baselines"]["bt_all"], read(RESULTS + "runs/evidence-strict/report.json")
    runs = [read(f"{RESULTS}runs/families-{level}/report.json") for level in levels]
    trained = [read(f"{RESULTS}runs/smollm2-{level}/report.json") for level in levels]
    found = [BASELINES["splits"][level] for level in levels]

    repeated = [cell("recipe_structure", "embedded-2", f"by_family.{level}") for level in levels]

    def by_trees(name: str, *, beyond: bool) -> str:
        own = [one["baselines"][name] for one in found]
        texts = [(f"{one['accuracy']:.3f} {between(one['ci95'])}", better(one["beyond_best_prior"])) for one in own]
        return " | ".join(f"{one} | {other if beyond else ''}".rstrip() for one, other in texts)

    def better(one: Any) -> str:
        return f"{one['value']:+.3f} {between(one['ci95'], '+')}"

    return [
        *(
            f"{one['n_test_pairs']:,} pairs, {one['baselines']['kind_prior']['families']['families']} families"
            for one in found
        ),
        by_trees("kind_prior", beyond=False),
        by_trees("bt_recipe_structure", beyond=True),
        " | ".join(
            f"**{accuracy(one)} | {better(one['skill_beyond_best_prior'])}".replace(" (", "** (", 1) for one in runs
        ),
        " | ".join(f"{accuracy(one)} | {better(one['skill_beyond_best_prior'])}" for one in trained),
        " and ".join(better(one["families"]["mean"]["difference"]) for one in runs),
        f"the language model's {sum(runs[0]['timings'].values()) / 60:.0f} minutes of a CPU core",
        "in bf16: " + " and ".join(better(one["skill_beyond_best_prior"]) for one in repeated),
        " and ".join(
            better(read(f"{RESULTS}runs/families-strict-{seed}/report.json")["skill_beyond_best_prior"])
            for seed in (1, 2)
        ),
        "is right with {:.3f} by the higher accuracy so far, and with {:.3f} by boosted trees".format(
            *(early["baselines"][name]["accuracy"] for name in ("early_rule", "bt_all"))
        ),
        f"(`examples/evidence.yaml`) has {accuracy(model)}",
        "fitted on all trials: {:.3f}, {}".format(own["accuracy"], better(own["difference"])),
        f"`strict` {accuracy(strict)}, the trees\n{strict['baselines']['bt_all']['accuracy']:.3f}",
        f"the best prior has {max(early['baselines'][name]['accuracy'] for name in ('pair_prior', 'kind_prior')):.3f}",
        f"{BASELINES['networks']:,} networks",
        f"It takes {demo_time()}, after set-up",
        f"right for {BASELINES['pairs']['pair_prior']:.0%} of".replace("%", " %"),
        f"({parameters('embedded') / 1e6:.1f} M parameters; for structure\n`embedded-2`)",
        row("`make demo`", code, measured(DEMO), f"{first} to {last}"),
        row("study: `code_only`", code, measured(cell("code_only")), minutes("code_only")),
        row("study: `recipe`", recipe, f"**{best}", minutes("recipe")),
        f"**{measured(both)} | {sum(seconds.values()) / 60:.0f} |".replace(" (", "** (", 1),
        f"| {measured(cell('recipe', split='by_cluster'))} | {minutes('recipe', 'by_cluster')} |",
        row(
            "study: `normalized_accuracy`", "both accuracies: a check", measured(cell("normalized_accuracy")),
            minutes("normalized_accuracy"),
        ),
        *(
            f"| {one['accuracy']:.3f} {between(one['ci95'])} | {by_network['baselines']['pair_prior']['accuracy']:.3f}"
            f" | {one['difference']['value']:+.3f} {between(one['difference']['ci95'], '+')} | |"
            for one in trees
        ),
        f"{by_network['n_test_pairs']:,} test pairs of {by_network['n_test_networks']} networks",
        f"{by_cluster['n_test_pairs']:,} pairs of {by_cluster['n_test_networks']})",
    ]  # fmt: skip


def embedded() -> list[str]:
    near = DEMO["near_duplicates"]
    random = cell("recipe", more=".random_trials")
    trees = cell("recipe")["baselines"]["recipe_gbm"]["difference"]
    rows = [
        ("`normalized_accuracy`, embedded", cell("normalized_accuracy")),
        ("`code_only`, embedded", cell("code_only")),
        ("`code_only`, embedded-small", cell("code_only", "embedded-small")),
        ("`recipe`, embedded", cell("recipe")),
        ("`recipe`, embedded-small", cell("recipe", "embedded-small")),
        ("`recipe`, embedded, **by_cluster**", cell("recipe", split="by_cluster")),
    ]
    reading, asked = (
        read(RESULTS + "reading.json"),
        re.findall(r"\d\.\d{3}", from_card("embedded_2", r"(\| pairs \| 0.*)")),
    )
    lines = ("structure", "pace, structure and recipe", "the same and early accuracies")
    return [
        *(
            row(name, *(f"{one[shown]:.2f}" for one in reading["explained"].values()))
            for name, shown in zip(lines, reading["explained"]["embedded"], strict=True)
        ),
        f"{reading['fitted']} lines to fit it and {reading['tested']} to test it",
        f"correctly in {min(map(float, asked[4:])):.2f} to {max(map(float, asked[4:])):.2f} of fresh",
        f"{parameters('embedded'):,} | 128, 4 | {weights('embedded')} | {built_in('embedded')}",
        f"{parameters('embedded_small'):,} | 48, 4 | {weights('embedded_small')} | {built_in('embedded_small')}",
        f"{parameters('embedded_2'):,} | 128, 4 | {weights('embedded_2')} | {built_in('embedded_2')}",
        f"{tokens():,} tokens",
        "{1} of them, {0} without near-duplicates".format(*corpus()),
        *(
            row(name, measured(found), f"{found['baselines']['recipe_gbm']['accuracy']:.3f}")
            for name, found in rows
        ),
        f"{accuracy(DEMO)}, skill {skill(DEMO)}",
        f"{trees['value']:+.3f} {between(trees['ci95'], '+')}",
        *(
            f"{one['accuracy']:.3f} (prior {one['prior']:.3f}, n = {one['n']:,})"
            for one in (near["with"], near["without"])
        ),
        f"{accuracy(random)}; boosted trees {random['baselines']['recipe_gbm']['accuracy']:.3f}; the usual winner among"
        f" the best trials {random['baselines']['pair_prior']['accuracy']:.3f}",
    ]  # fmt: skip


def tokens() -> int:
    content = read("nngpt_ext/models/embedded/tokenizer.json")
    return len({one["content"] for one in content["added_tokens"]} | set(content["model"]["vocab"]))


def corpus() -> tuple[str, str]:
    """How many sources the embedded models have read, and of how many these are what is left."""
    return from_card("embedded", r"([\d,]+) PyTorch sources"), from_card("embedded", r"from the ([\d,]+) that")


def from_card(base: str, pattern: str) -> str:
    card = (ROOT / "nngpt_ext" / "models" / base / "README.md").read_text(encoding="utf-8")
    return match(pattern, card)[1]


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found


def splits() -> list[str]:
    text = (ROOT / RESULTS / "pairs.txt").read_text(encoding="utf-8")
    took = match(r"package tree +([\d.]+) s .*?(\d+) MB", text)
    times = match(r"takes (\d+) × the time and (\d+) × the memory", text)
    seeds = BASELINES["prior_by_seed"]
    half = DEMO["accuracy"]["ci95"]
    return [
        f"{BASELINES['test_pairs_with_near_duplicate']:.0%} of its pairs".replace("%", " %"),
        f"{float(took[1]):.1f} s and {took[2]} MB",
        f"{times[1]} times the time and\n{times[2]} times the memory",
        f"({BASELINES['prior_of_all_trials']:.3f} instead of\n{seeds['seeds'][0]:.3f}, seed 0)",
        *(
            row(
                f"`{name}`", f"{found['n_test_pairs']:,} / {found['n_test_networks']:,}",
                f"{found['baselines']['pair_prior']['accuracy']:.3f}",
                *(
                    f"{tree['accuracy']:.3f} {between(tree['difference']['ci95'], '+')}"
                    for tree in (found["baselines"]["code_gbm"], found["baselines"]["recipe_gbm"])
                ),
            )
            for name, found in BASELINES["splits"].items()
            if name in ("by_network", "by_cluster", "random_pairs")
        ),
        *families(),
        *held_out(),
        f"about {(half[1] - half[0]) / 2:.3f}",
        f"varies by {seeds['deviation']:.3f}",
        f"mean is {seeds['mean']:.3f}",
    ]  # fmt: skip


def held_out() -> list[str]:
    """Of docs/splits.md: what baselines and language models reach on datasets never seen."""
    found = read(RESULTS + "by_dataset-baselines.json")
    priors = [found["baselines"][name]["datasets"] for name in ("opponent_prior", "facts_prior")]
    names = [part["held_out"] for part in found["parts"]]

    def run(name: str) -> dict[str, float]:
        folds = (read(f"{RESULTS}runs/{name}/fold-{fold}/report.json") for fold in range(len(names)))
        return {dataset: fold["accuracy"]["value"] for dataset, fold in zip(names, folds, strict=True)}

    def beating(one: Mapping[str, float]) -> int:
        return sum(one[name] > max(prior[name] for prior in priors) for name in names)

    runs = [run(f"by_dataset-{prompt}") for prompt in ("metadata_only", "metadata", "code_only")]
    shown = [*priors, found["baselines"]["bt_recipe_structure"]["datasets"], *runs]
    medians = [f"{median(one.values()):.3f}" for one in shown]
    pretrained = run("smollm2-by_dataset-code_only")
    assert [*map(beating, runs), beating(pretrained)] == [0, 0, 2, 1]  # as the page says in words
    rows = [
        row(part["held_out"], f"{part['n_test_pairs']:,}", *(f"{one[part['held_out']]:.3f}" for one in shown))
        for part in found["parts"]
    ]
    return [
        *rows,
        row("median", "", *medians).replace("|  |", "| |"),
        f"has a median of {medians[-1]}",
        f"has\n{median(pretrained.values()):.3f} with `code_only`",
    ]


def families() -> list[str]:
    """Of docs/splits.md: what the baselines reach on families never seen, and by_network on other seeds."""
    found = BASELINES["splits"]
    near, strict = found["near"], found["strict"]
    largest = strict["baselines"]["pair_prior"]["families"]
    networks = [found[name]["baselines"] for name in ("by_network", "by_network, seed 1", "by_network, seed 2")]
    placebos = ("bt_recipe, recipes shuffled", "bt_structure, structures shuffled")
    shuffled = [
        read(f"{RESULTS}placebo-{level}.json")["accuracy"][name]["beyond_best_prior"]
        for level in ("near", "strict")
        for name in placebos
    ]

    def cells(name: str) -> str:
        texts = []
        for one in (near, strict):
            own = one["baselines"][name]
            texts.append((own["accuracy"], own["beyond_best_prior"]["ci95"]))
        rest = strict["baselines"][name]["families"]["without_largest"]
        texts.append((rest["accuracy"]["value"], rest["difference"]["ci95"]))
        return row(
            f"`{name}`",
            *(f"{value:.3f}" + ("" if name.endswith("_prior") else f" {between(ci95, '+')}") for value, ci95 in texts),
        )

    def seeds(name: str) -> str:
        return ", ".join(f"{one[name]['accuracy']:.3f}" for one in networks)

    cluster = found["by_cluster"]["baselines"]
    return [
        f"{near['n_test_pairs']:,} pairs of {near['n_test_networks']}\nnetworks in "
        f"{near['baselines']['pair_prior']['families']['families']} families",
        f"{strict['n_test_pairs']:,} pairs of {strict['n_test_networks']} networks in {largest['families']} families, "
        f"one of which has {largest['largest_share']:.0%} of the pairs".replace("%", " %"),
        *map(cells, near["baselines"]),
        f"`bt_recipe` {seeds('bt_recipe')} and `bt_recipe_structure` {seeds('bt_recipe_structure')}, where "
        f"`recipe_gbm` has {seeds('recipe_gbm')}.",
        f"below the prior of {cluster['pair_prior']['accuracy']:.3f}: {cluster['bt_recipe']['accuracy']:.3f} and "
        f"{cluster['bt_recipe_structure']['accuracy']:.3f}.",
        "near {} and {}, strict\n{} and {}".format(
            *(f"{one['value']:+.3f} {between(one['ci95'], '+')}" for one in shuffled)
        ),
    ]


def evidence() -> list[str]:
    kinds = [(level, trials) for trials in ("best", "random") for level in ("near", "strict")]
    found = [read(f"{RESULTS}evidence-{level}-{trials}.json") for level, trials in kinds]
    best, random = found[0], found[2]

    def cells(name: str) -> str:
        own = [one["baselines"][name] for one in found]
        prior = [one["beyond_best_prior"]["prior"] == name for one in own]
        return row(
            f"`{name}`",
            *(
                f"{one['accuracy']:.3f}" + ("" if is_prior else f" {between(one['beyond_best_prior']['ci95'], '+')}")
                for one, is_prior in zip(own, prior, strict=True)
            ),
        )

    return [
        *map(cells, ("pair_prior", "kind_prior", "early_rule", "bt_recipe_structure", "bt_evidence", "bt_all")),
        f"({best['evidence']['trials'] / best['evidence']['sides']:.1f} trials a dataset)",
        f"{random['n_test_pairs']:,} of the {best['n_test_pairs']:,} pairs (near)",
        *price(),
        *later(),
    ]


def price() -> list[str]:
    """What training for an epoch or two tells, and its time."""
    levels, took = read(RESULTS + "price.json"), read(RESULTS + "durations.json")
    percent = [100 * took["share_of_epoch_5"][epoch][1] for epoch in "12"]
    first, last = (took["seconds"][epoch][1] for epoch in "15")

    def cells(point: Any) -> str:
        prior = point["beyond"]["prior"] == point["baseline"]
        return f"{point['accuracy']['value']:.3f}" + ("" if prior else f" {between(point['beyond']['ci95'], '+')}")

    model, strict = (read(f"{RESULTS}runs/evidence-{level}/report.json") for level in ("near", "strict"))
    beyond, other = (
        {
            name: f"{one['difference']['value']:+.3f} {between(one['difference']['ci95'], '+')}"
            for name, one in found["baselines"].items()
        }
        for found in (model, strict)
    )
    return [
        f"{accuracy(model)}, {beyond['early_rule']} beyond the early rule",
        f"`strict`: {accuracy(strict).replace(' to ', ' to' + chr(10))}, {other['early_rule']} beyond the rule, "
        f"{other['bt_all']} from `bt_all` with {strict['baselines']['bt_all']['accuracy']:.3f}",
        f"has {model['baselines']['bt_all']['accuracy']:.3f}: the model minus it is {beyond['bt_all']}",
        *(
            row(
                one["knows"], f"{one['spent']:.0%}".replace("%", " %"), f"`{one['baseline']}`", cells(one), cells(other)
            )
            for one, other in zip(*levels.values(), strict=True)
        ),
        *(f"{one[0]['accuracy']['n']:,} pairs of {one[0]['families']} families" for one in levels.values()),
        f"{took['trials']:,} trials, {percent[0]:.1f} % and {percent[1]:.1f} % of the time of five epochs "
        f"(medians; one epoch takes {first:.0f} s, five {last:.0f} s)",
    ]


def later() -> list[str]:
    found = read(RESULTS + "evidence-later.json")

    def cells(one: Any, name: str) -> str:
        own = one["baselines"][name]
        return f"{own['accuracy']:.3f} {between(own['beyond_best_prior']['ci95'], '+')}"

    names = ("early_rule", "bt_recipe_structure", "bt_evidence", "bt_all")
    return [
        row(
            f"{one['epoch']}, {one['test_trials']}", f"{one['n_test_pairs']:,} / {one['n_test_networks']}",
            f"{max(one['baselines'][prior]['accuracy'] for prior in ('pair_prior', 'kind_prior')):.3f}",
            *(cells(one, name) for name in names),
        )
        for one in found.values()
    ]  # fmt: skip


def structure() -> list[str]:
    table = pq.read_table(SHIPPED, columns=["source"])
    measured = read(RESULTS + "structure-cpu.json")["one shape, 2 at a time"]
    sources = len(table["source"].unique())
    return [
        f"all {BASELINES['pairs']['networks']:,} networks in pairs",
        f"({sources:,} different sources, {table.num_rows:,} rows)",
        f"measure {measured['networks_per_second']:.1f} of LEMUR's",
    ]


def own_records() -> list[str]:
    found = read(RESULTS + "records.json")
    return [f"A million trials of a Parquet file become pairs in {found['seconds']} s and {found['peak_gb']} GB"]


def shared_prefix() -> list[str]:
    found, engines = read(RESULTS + "prefix-cpu.json"), read(RESULTS + "engines-cpu.json")
    both = (found, found["recipe"])

    def times(one: Any, work: str, other: str, digits: int = 0) -> str:
        rates = {name: way["examples_per_second"] for name, way in one[work].items()}
        return f"{round(rates['shared'] / max(rates[name] for name in rates if name.startswith(other)), digits):.0f}×"

    def small(value: float) -> str:
        return f"{value:.1e}".replace("e-0", "e-")

    def columns(texts: Callable[[Any], str]) -> str:
        return f"| {texts(both[0])} | {texts(both[1])} |"

    def by_questions(i: int) -> str:
        ways = [one["by_questions"][i] for one in both]
        texts = (f"{way['bound']:.1f}× | {way['shared']:.0f} | {way['masked']:.0f}" for way in ways)
        return row(str(ways[0]["questions"]), *texts)

    def winners(one: Any) -> str:
        different, all_of_them = one["winners"]["different"], one["winners"]["questions"]
        return f"{small(one['probability_max_difference'])}; {different} of {all_of_them}"

    last = [one["by_questions"][-1] for one in both]
    alone = [max(v["examples_per_second"] for k, v in one["training"].items() if "one a row" in k) for one in both]
    times_7b, times_1b = (
        f"{read(f'{RESULTS}gpu-{size}-nvidia-h100-80gb-hbm3.json')['examples_ratio']:.1f}" for size in ("7b", "1.3b")
    )
    return [
        f"{times_7b} (7B) and {times_1b} times (1.3B) as many",
        f"on {found['lengths']['networks']} real networks with all their pairs in both orders"
        f" ({found['lengths']['questions']:.0f} questions a network)",
        columns(lambda one: f"{one['training_ratio']:.1f}×"),
        columns(lambda one: f"{one['bound']:.1f}×"),
        columns(lambda one: f"{one['scoring_ratio']:.1f}×"),
        columns(lambda one: f"{one['scoring_bound']:.1f}×"),
        columns(lambda one: times(one, "training", "TRL, padding-free")),
        columns(lambda one: times(one, "scoring", "lm-evaluation-harness")),
        columns(lambda one: times(one, "scoring", "sampled generation", -1)),
        columns(lambda one: small(one["gradient_relative_error"])),
        columns(winners),
        f"fine-tuning is {engines['times_faster']:.1f} times faster",
        f"at most {small(engines['largest_difference'])}",
        *(by_questions(i) for i in range(len(found["by_questions"]))),
        f"reaches {alone[0]:.1f} (`code_only`) and {alone[1]:.1f} (`recipe`)",
        "the figures are {:.0f} and {:.0f} in parts, and {:.0f} and {:.0f}".format(
            *(one[f"{way}, whole networks"] for way in ("shared", "masked") for one in last)
        ),
    ]  # fmt: skip


def predictions() -> list[str]:
    names = ("collection-local", "collection-ray", "predict-cpu")
    local, ray, predict = (read(f"{RESULTS}{name}.json") for name in names)
    ours, usual, chance = BUDGET["regret_all"]["ways"]
    return [
        f"Scoring {local['networks']} real sources with the demo's adapter ({local['rows']:,} questions) takes"
        f" {local['seconds_in_one_go']:.0f} s on two idle cores, and {ray['seconds_in_one_go']:.0f} s",
        f"{predict['pairs_per_second']['rank']:.0f} pairs a second for {predict['networks']}\nreal networks, "
        f"{predict['against_one_question']:.0f} times",
        f"{predict['against_generation']:.0f} times as many as sampled texts of 150 tokens",
        f"loses {ours['regret']:.4f} ({ours['low']:.4f} to {ours['high']:.4f}) of normalised accuracy against the best "
        f"dataset, the pair prior {usual['regret']:.4f} and chance {chance['regret']:.4f}",
    ]


def budget() -> list[str]:
    def parts(name: str) -> tuple[Any, Any, Any, Any]:
        ways = {one["way"]: one for one in BUDGET[name]["ways"]}
        return ways["predictor"], ways["prior"], ways["chance"], BUDGET[name]["differences"][0]

    ours, usual, chance, paired = parts("regret_all")
    shared, few = parts("regret_shared"), parts("regret_budget")
    return [
        f"about all {BUDGET['regret_all']['networks']} test networks",
        row(
            *(f"{one['regret']:.4f} ({one['low']:.4f} to {one['high']:.4f})" for one in (ours, usual)),
            f"{chance['regret']:.4f}",
            f"{paired['difference']:+.4f} ({paired['low']:+.4f} to {paired['high']:+.4f}), p = {paired['p']:.2f}",
        ),
        f"the {BUDGET['regret_shared']['networks']} networks",
        f"costs {shared[1]['regret']:.4f} and the adapter's {shared[0]['regret']:.4f}",
        f"cost {few[0]['regret']:.4f}, and those of the prior {few[1]['regret']:.4f}",
        *epochs(),
    ]


def epochs() -> list[str]:
    found, of_model = read(RESULTS + "epoch_budget.json"), read(RESULTS + "epoch_budget-model.json")
    assert [of_model[key] for key in ("networks", "families")] == [found[key] for key in ("networks", "families")]

    def table(rows: list[Any]) -> Iterator[str]:
        for budget, ways in groupby(rows, key=lambda one: one["budget"]):
            early, before, both = ways
            yield row(
                str(budget),
                *(f"{one['regret']:.4f} ({one['low']:.4f} to {one['high']:.4f})" for one in (early, before, both)),
                *("{:+.4f} ({:+.4f} to {:+.4f})".format(*one["both_minus_it"]) for one in (early, before)),
            )

    return [
        f"{found['networks']} networks of {found['families']} families, {found['datasets']:.1f} datasets each",
        f"takes {found['whole']:.0f} epochs",
        *table(found["rows"]),
        *table(of_model["rows"]),
    ]


def host() -> list[str]:
    found = read(RESULTS + "host-cpu.json")
    pairs, prompts = found["pairs"], found["prompts"]

    def columns(one: Any) -> str:
        ours, theirs = one["ours"], one["host"]
        return (
            f"{ours['seconds']:.1f} s, {ours['peak_mb']:.0f} MB"
            f" | {theirs['seconds']:.0f} s, {theirs['peak_mb']:,.0f} MB"
            f" | {one['times_faster']:.0f}× faster, {one['times_less_memory']:.0f}× less memory"
        )

    repeated, opposite = prompts["duplicate_texts"], prompts["prompts_with_both_answers"]
    return [
        f"the same {pairs['same_answers']:,} answers",
        f"{pairs['ours']['rows']:,} pairs | {columns(pairs)}",
        f"{prompts['ours']['rows']:,} prompts | {columns(prompts)}",
        f"Of NNGPT's {prompts['host']['rows']:,} prompts, {repeated['host']} repeat the text of another and"
        f" {opposite['host']} occur",
        f"ours, {repeated['ours']} and {opposite['ours']}",
    ]


def wilson(right: int, n: int = 30) -> str:
    z, share = 1.959964, right / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{share:.2f} | {(middle - half) / (1 + z * z / n):.3f} to {(middle + half) / (1 + z * z / n):.3f}"


def study() -> list[str]:
    other = cell("recipe", label="percentile")

    def seen(prompt: str, more: str = "") -> list[Any]:
        """The skill beyond the best prior, near and strict."""
        names = [f"{prompt}.embedded-2.by_family.{level}.normalized.seed0{more}" for level in ("near", "strict")]
        return [CELLS[name]["skill_beyond_best_prior"] for name in names]

    def shown(found: Any) -> str:
        return f"{found['value']:+.3f} {between(found['ci95'], '+')}"

    later = [
        shown(read(f"{RESULTS}families-{level}-folds-2-4.json")[f"families-{level} minus"]["kind_prior"])
        for level in ("near", "strict")
    ]
    both, recipe, structure = ([shown(one) for one in seen(n)] for n in ("recipe_structure", "recipe", "structure"))
    early = [f"{one['value']:+.3f}" for one in seen("recipe_structure_evidence", ".epoch1")]
    cpu = [
        [read(f"{RESULTS}runs/{run}-{level}/report.json") for level in ("near", "strict")]
        for run in ("families", "evidence")
    ]
    large = "smollm2-135m"
    few = cell("code_only", large, more=".400networks")
    return [
        f"gain {both[0]} `near` and {both[1]} `strict`",
        f"`recipe` {recipe[0]} and {recipe[1]}, `structure` {structure[0]} and {structure[1]}",
        f"adds nothing `near` ({shown(cell('recipe_structure', large, 'by_family.near')['skill_beyond_best_prior'])})",
        "on a CPU has " + " and ".join(shown(one["skill_beyond_best_prior"]) for one in cpu[0]),
        "beyond the best prior: {} and {}; on a CPU {} and {} beyond".format(
            *early, *(shown(one["baselines"]["early_rule"]["difference"]) for one in cpu[1])
        ),
        f"folds 2 to 4 alone have {later[0]} near and {later[1]} strict",
        f"{skill(cell('recipe'))} with the normalized label, and {skill(other)} with",
        f"where the prior has {prior(other)}",
        f"`code_only` has {skill(cell('code_only'))} on all networks",
        f"below the prior ({skill(few)})",
        f"they add up to {sum(STUDY['timings'].values()) / 3600:.1f} hours",
        *(wilson(right) for right in (30, 21, 24)),
        f"the pair prior of our test pairs, {prior(cell('recipe'))}",
    ]


def gpu() -> list[str]:
    """What was measured on a card, and the estimates, which are derived in a comment."""
    derived = (ROOT / "examples" / "study_deepseek.yaml").read_text(encoding="utf-8")
    cells = [match(rf"{size} +\d+ GB +([\d.]+ h) +([\d.]+ h)", derived) for size in ("1.3B", "7B")]
    measured = ("1.3b-nvidia-h100-80gb-hbm3", "7b-nvidia-h100-80gb-hbm3", "7b-nvidia-h200")
    cards = [read(f"{RESULTS}gpu-{name}.json") for name in measured]

    def best(card: Any, engine: str, figure: str = "tokens_per_second") -> float:
        trainer = f"{engine}, the package's trainer"
        return float(next(one[figure] for one in card["results"] if one["engine"] == trainer))

    def per_second(engine: str, digits: int) -> str:
        return row(*(f"{best(card, engine, 'examples_per_second'):.{digits}f}" for card in cards))[2:]

    short = next(one for one in cards[1]["results"] if one["row_tokens"] == 2048)
    rates = [f"{best(card, 'shared'):,.0f}" for card in cards]
    small, large, _ = rates
    hours = [(24e6 + 10e6 / 3) / best(card, "shared") / 3600 for card in cards[:2]]  # scoring is a third of the work
    assert [f"{each:.1f} h" for each in hours] == [each[1] for each in cells]
    assert f"reached {large} (7B) and {small} tokens/s (1.3B)" in derived
    return [
        row(*rates)[2:],
        per_second("shared", 0),
        per_second("plain", 1),
        row(*(f"{card['examples_ratio']:.1f}×" for card in cards))[2:],
        row(*(f"{best(card, 'shared', 'peak_gb'):.1f} GB" for card in cards))[2:],
        row(*(f"{card['share_of_matrix_rate']:.0%}".replace("%", " %") for card in cards))[2:],
        row(*(f"{c['gradient_relative_error']:.3f}; {c['gradient_rounding']:.3f}" for c in cards))[2:],
        f"7B has {short['tokens_per_second']:,.0f} tokens/s (H100): the CPU takes "
        f"{short['tokens_per_row'] / short['tokens_per_second']:.1f} s",
        *(row(*(each[n] for each in cells))[2:-2] for n in (1, 2)),
        f"{1.35 * 2:.1f} GB | {6.9 * 2:.0f} GB",  # two bytes a parameter
    ]


def base_models() -> list[str]:
    pretrained = read(RESULTS + "pretraining.json")
    near, strict = (read(f"{RESULTS}runs/smollm2-{level}/report.json") for level in ("near", "strict"))
    beyond = [found["skill_beyond_best_prior"] for found in (near, strict)]
    code = read(RESULTS + "pretraining-code_only.json")["accuracy"]
    source = code["smollm2-code_only-near"]
    frozen = [read(f"{RESULTS}frozen_lm-{split}.json")["baselines"] for split in ("near", "strict", "by_network")]
    recipe, facts, once = (
        read(f"{RESULTS}runs/smollm2-{prompt}-by_network/report.json")
        for prompt in ("recipe_structure", "metadata", "normalized_accuracy")
    )

    one, random, made = (f"{found['value']:.3f} {between(found['ci95'])}" for found in pretrained["accuracy"].values())
    against = [
        f"{found['value']:+.3f} {between(found['ci95'], '+')}" for found in pretrained["smollm2-near minus"].values()
    ]
    bases = ("embedded-small", "embedded", "smollm2-135m")
    few = [accuracy(cell("code_only", base, more=".400networks")) for base in bases]
    families = [accuracy(cell("recipe_structure", base, "by_family.near")) for base in ("embedded-2", bases[2])]
    prompts = ("code_only", "recipe_structure")
    differences = [
        next(
            f"{one['difference']['value']:+.3f} {between(one['difference']['ci95'], '+')}"
            for one in STUDY["comparisons"]
            if one["first"].startswith(f"{prompt}.{base}.") and one["second"].startswith(f"{prompt}.{bases[2]}.")
        )
        for prompt, base in zip((prompts[0], *prompts), (*bases[:2], "embedded-2"), strict=True)
    ]
    cpu = read(RESULTS + "smollm2-cpu.json")
    shares = cpu["shares"]["smollm2-135m, NF4"]
    rates = [
        row(*(
            f"{cpu[what][f'{name}, threads: {n}']['tokens_per_second']:,.0f}"
            for what in ("training", "scoring") for n in (1, 2)
        ))[2:]
        for name in ("smollm2-135m, NF4", "smollm2-135m, unquantised", "embedded, NF4")
    ]  # fmt: skip
    search = read(RESULTS + "smollm2-search.json")["runs"]
    losses = [[one["validation_log_loss"] for one in search if one["prompt"] == prompt] for prompt in prompts]
    spread = [max(each) - min(each) for each in losses]
    return [
        f"0.3 M | {few[0]} |",
        f"1.4 M | {few[1]} | {families[0]} |",
        *(f"{parameters(base) / 1e6:.1f} M" for base in ("embedded", "embedded_small")),
        f"135 M | {few[2]} | {families[1]} |",
        f"| {prior(cell('recipe'))} | {prior(near)} |",
        "| kind prior | | {:.3f} | {:.3f} |".format(
            *(one["baselines"]["kind_prior"]["accuracy"] for one in (facts, near))
        ),
        f"`embedded-small` minus `smollm2-135m` is {differences[0]}, `embedded` minus it {differences[1]}",
        f"`embedded-2` minus `smollm2-135m` is {differences[2]}",
        f"trained on the same card it has {families[0][:5]}",
        *rates,
        "takes {:.0%} of a training step, attention {:.0%}, matrix products {:.0%}".format(
            *(shares[what] for what in ("dequantisation", "attention", "matrix products"))
        ).replace("%", " %"),
        f"differ by {spread[0]:.3f} for `code_only` (rate 5e-4 is best) and {spread[1]:.3f} for",
        row(one, "")[:-2], row(random, against[0])[:-2], row(made, against[1])[:-2],
        f"{pretrained['n_test_pairs']:,} test pairs of {pretrained['families']} families",
        f"The kind prior has {near['baselines']['kind_prior']['accuracy']:.3f}",
        "({}; `strict` {})".format(
            *(f"{found['value']:+.3f}, {found['ci95'][0]:+.3f} to {found['ci95'][1]:+.3f}" for found in beyond)
        ),
        f"it has {source['value']:.3f} {between(source['ci95'])}",
        "the pair prior has {}, the kind prior {} and boosted trees on the source {}".format(
            *(f"{code[name]['value']:.3f}" for name in ("pair_prior", "kind_prior", "code_gbm"))
        ),
        *(
            row(name, *(f"{one[key]['accuracy']:.3f}" for one in frozen))
            for name, key in (("kind prior", "kind_prior"), ("with a ridge regression", "frozen_lm_linear"))
        ),
        row("with boosted trees", *(f"{one['frozen_lm_trees']['accuracy']:.3f}" for one in frozen)),
        row("Bradley–Terry trees on the structure", *(f"{one['bt_structure']['accuracy']:.3f}" for one in frozen)),
        f"has {recipe['accuracy']['value']:.3f} with `recipe_structure`",
        f"{facts['accuracy']['value']:.3f} with `metadata`",
        f"{once['accuracy']['value']:.3f} with `normalized_accuracy`",
        f"{facts['n_test_pairs']:,} test pairs) the pair prior has "
        f"{facts['baselines']['pair_prior']['accuracy']:.3f}, the kind prior "
        f"{facts['baselines']['kind_prior']['accuracy']:.3f}",
    ]  # fmt: skip


def serving() -> list[str]:
    body = inspect.signature(Guard).parameters["timeout"].default
    speed, soak = read(RESULTS + "serve-cpu.json"), read(RESULTS + "serve-soak.json")
    memory = [used for _, used in soak["memory_mb"]]
    return [
        f"{speed['clients']} clients and questions never asked before: {speed['pairs_per_second']:.0f} pairs a second,"
        f" {speed['against_one_at_a_time']:.0f} times as many as one question at a time",
        f"21 pairs within {speed['p95_ms']:.0f} ms (95 of 100 times), and answers of the store come at "
        f"{speed['stored_per_second']:,.0f} a second",
        f"{soak['questions']:,} questions were answered, {soak['lost']} lost, and its memory stayed between "
        f"{min(memory)} and {max(memory)} MB",
        f"nesting and values ({MOST_VALUES:,}, and {MOST_VALUES_MANY:,} of `/v1/score`)",
        f"a source's characters ({LIMIT:,}) and words and signs ({MOST_TOKENS:,},",
        f"the time for a request's head ({HEAD:.0f} s) and body ({body:.0f} s)",
        f"and an answer that nobody reads ({UNREAD:.0f} s)",
    ]


FIGURES: Mapping[str, Callable[[], list[str]]] = {
    "README.md": readme,
    "docs/base_models.md": base_models,
    "docs/embedded.md": embedded,
    "docs/evidence.md": evidence,
    "docs/first_steps.md": lambda: [f"({demo_time()})"],
    "docs/gpu.md": gpu,
    "docs/host.md": host,
    "docs/own_records.md": own_records,
    "docs/predictions.md": predictions,
    "docs/serving.md": serving,
    "docs/shared_prefix.md": shared_prefix,
    "docs/splits.md": splits,
    "docs/structure.md": structure,
    "docs/study.md": study,
    "examples/train_budget/README.md": budget,
}


def prose(page: str) -> str:
    """A page without blocks of code, which may hold any number."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def folded(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_is_in_a_committed_result(page: str) -> None:
    text = folded(prose(page))
    texts = [folded(one) for one in FIGURES.get(page, list)()]
    assert [one for one in texts if one not in text] == []
    for one in texts:
        text = text.replace(one, "")
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+|arXiv \S+", "", text)
    left = {found.group().strip() for found in FIGURE.finditer(text)}
    assert left - FIXED["*"] - FIXED.get(page, set()) == set()


def test_no_fixed_figure_is_left_over() -> None:
    """Those that no page has any more are removed from the list."""
    for page, known in FIXED.items():
        texts = [folded(prose(one)) for one in ([page] if page != "*" else PAGES)]
        assert {one for one in known if not any(one in text for text in texts)} == set(), page
