"""What lm-evaluation-harness calls: accuracies per question and per pair."""

from __future__ import annotations

from nngpt_ext.export import questions


def test_accuracies_by_hand() -> None:
    doc = {"pair": 3, "turned": False, "label": 0, "dataset_1": "mnist", "dataset_2": "svhn", "better_dataset": "mnist"}
    back = {**doc, "turned": True, "label": 1}
    # Right by 2 in one order, wrong by 1 in the other: right on the whole.
    found = [
        questions.results(doc, [(-1.0, False), (-3.0, False)]),
        questions.results(back, [(-1.0, False), (-2.0, False)]),
    ]
    assert [one["acc"] for one in found] == [1.0, 0.0]
    assert [one["acc_pairs"] for one in found] == [(3, 2.0, True), (3, -1.0, True)]
    wrong = questions.results({**doc, "pair": 4, "label": 1, "better_dataset": "svhn"}, [(-1.0, False), (-3.0, False)])
    assert questions.accuracy_of_pairs([one["acc_pairs"] for one in found]) == 1.0
    assert questions.accuracy_of_pairs([one["acc_pairs"] for one in (*found, wrong)]) == 0.5
    tie = questions.results({**doc, "pair": 5}, [(-1.0, False), (-1.0, False)])
    assert (tie["acc"], questions.accuracy_of_pairs([tie["acc_pairs"]])) == (1.0, 1.0)
