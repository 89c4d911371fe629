"""Outputs of a language model that are tricky to read, with the dataset that each of them names."""

from __future__ import annotations

from typing import NamedTuple


class Tricky(NamedTuple):
    """An output, the two datasets that were offered, what it answers, and what is tricky about it."""

    output: str
    options: tuple[str, str]
    answer: str | None
    why: str


_C = ("cifar-10", "cifar-100")
_M = ("mnist", "svhn")
_G = ("celeba-gender", "places365")
TRICKY: tuple[Tricky, ...] = (
    Tricky("mnist", _M, "mnist", "the plain name"),
    Tricky("  SVHN.\n", _M, "svhn", "capitals and a full stop"),
    Tricky("cifar-100", _C, "cifar-100", "one name begins with the other"),
    Tricky("cifar-10", _C, "cifar-10", "the shorter name"),
    Tricky("`cifar-10`", _C, "cifar-10", "quoted"),
    Tricky("**CIFAR-100**", _C, "cifar-100", "bold"),
    Tricky("CIFAR 100", _C, "cifar-100", "a space in the name"),
    Tricky("cifar_10", _C, "cifar-10", "an underscore in the name"),
    Tricky("CIFAR100", _C, "cifar-100", "no hyphen in the name"),
    Tricky("Celeba Gender", _G, "celeba-gender", "a space for the hyphen"),
    Tricky("Places 365", _G, "places365", "a space in the name"),
    Tricky("The answer is svhn.", _M, "svhn", "a sentence"),
    Tricky("svhn, because mnist saturates", _M, "svhn", "a reason that names the other"),
    Tricky("svhn\n\nmnist is close to its ceiling.", _M, "svhn", "the name alone, then a reason that names both"),
    Tricky("mnist is easy, so its best is 0.99.\nAnswer: svhn", _M, "svhn", "the reason before the answer"),
    Tricky("It does better on svhn than on mnist", _M, "svhn", "a comparison"),
    Tricky("It does worse on svhn than on mnist", _M, None, "a comparison the other way round: left open"),
    Tricky("not mnist but svhn", _M, "svhn", "a negation first"),
    Tricky("svhn rather than mnist", _M, "svhn", "a negation behind"),
    Tricky("cifar-100 instead of cifar-10", _C, "cifar-100", "a negation of the shorter name"),
    Tricky("mnist (not svhn)", _M, "mnist", "a negation in brackets"),
    Tricky("I would not pick mnist, but svhn", _M, "svhn", "a negation of the clause before"),
    Tricky("The answer is not svhn: mnist", _M, "mnist", "a negation after the word answer"),
    Tricky("Not mnist.", _M, None, "nothing but a negation"),
    Tricky("mnist is not the answer", _M, None, "a negation behind the name"),
    Tricky("It does not do well on mnist.", _M, None, "a negation far before the name"),
    Tricky("The answer cannot be mnist.", _M, None, "cannot"),
    Tricky("It performs worse on svhn.", _M, None, "worse, and the other is not named: left open"),
    Tricky("svhn is the worse one", _M, None, "worse behind the name: left open"),
    Tricky("Lower on mnist.", _M, None, "lower before the name: left open"),
    Tricky("svhn has lower accuracy", _M, None, "lower behind the name: left open"),
    Tricky("It's lower for svhn than for mnist.", _M, None, "lower than the other: left open"),
    Tricky("lower on mnist and higher on svhn", _M, "svhn", "lower and higher in one sentence"),
    Tricky("higher on mnist (0.99) than on svhn (0.85)", _M, "mnist", "a comparison with figures"),
    Tricky("svhn outperforms mnist", _M, "svhn", "a verb that compares"),
    Tricky("neither mnist nor svhn", _M, None, "both negated"),
    Tricky("mnist or svhn", _M, None, "the question again"),
    Tricky("mnist, svhn", _M, None, "both"),
    Tricky("The answer is svhn or mnist", _M, None, "the question again after the word answer"),
    Tricky("Answer: mnist or svhn? svhn", _M, "svhn", "the question again, then the answer"),
    Tricky("Between mnist and svhn, mnist.", _M, "mnist", "both, then the answer"),
    Tricky("fashion-mnist", _M, None, "another dataset whose name holds one"),
    Tricky("cifar-10-c", _C, None, "another dataset whose name begins with one"),
    Tricky("", _M, None, "nothing"),
    Tricky("I cannot tell.", _M, None, "no name"),
    Tricky("imagenette", _M, None, "a name that was not offered"),
    Tricky("<think>mnist? It saturates.</think>svhn", _M, "svhn", "thought aloud first"),
    Tricky("### Response: mnist\n### Response: svhn", _M, "svhn", "two answers' markers: the last counts"),
)
