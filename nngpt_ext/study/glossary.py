"""What the words on the page mean, for whoever meets them first here."""

from __future__ import annotations

from nngpt_ext.study.schema import Study

_ALWAYS = (
    ("pair", "a network and two datasets that it was trained on; the answer is the dataset on which it did better"),
    (
        "did better",
        "normalized label: the network's accuracy divided by the best that any network has on that dataset; percentile "
        "label: its rank among the networks on that dataset. Accuracies are those after the training epoch that the "
        "study's file names, of the best trial (training) of each network and dataset; tested on random trials: of one "
        "drawn at random",
    ),
    ("pair prior", "the usual winner of the two datasets among the training networks: it never looks at the network"),
    ("skill", "accuracy minus the pair prior's accuracy on the same pairs"),
    (
        "95 % interval, p",
        "from drawing whole networks anew 2,000 times, and from flipping the sign of whole networks' differences "
        "10,000 times (so p is never below 0.0001): pairs of one network are right or wrong together, and count for "
        "less than their number",
    ),
    (
        "verdict",
        "whether skill is told from none, many cells being looked at; the conclusions end with the rule",
    ),
    ("cell", "a combination that was tried: a prompt, a base model, a split, a label and a seed; each is one run"),
)
_PROMPTS = {
    "code_only": "shows the source code",
    "metadata": "shows the source code and each dataset's size, image shape and number of classes",
    "metadata_only": "shows these facts of the datasets alone: it can learn no more than the pair prior",
    "normalized_accuracy": "shows both accuracies: the answer can be read off them",
    "recipe": "shows the beginning of the source and the settings of the two trainings",
}
_SPLITS = {
    "by_network": "the networks tested are not in training, but most have a near-duplicate there",
    "by_cluster": "no network tested has a near-duplicate in training; no sample of all networks, for the large "
    "families are all in training",
    "by_origin": "all networks of one origin are tested, the others are in training",
    "random_pairs": "leaky: the networks tested are in training with other pairs; beside published figures only",
}
_BASES = {
    "embedded": "ships with the package: 1.4 million parameters, trained from scratch, no code model",
    "embedded-small": "the same with 0.3 million",
}


def glossary(study: Study) -> list[tuple[str, str]]:
    """Terms with what they mean; of prompts, splits and bases those that the study has."""
    found = list(_ALWAYS)
    for axis, known in (("split", _SPLITS), ("prompt", _PROMPTS), ("base", _BASES)):
        names = dict.fromkeys(getattr(cell, axis) for cell in study.cells)
        found += [(name, known[name]) for name in names if name in known]
    return found
