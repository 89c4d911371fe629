"""Which dataset a free text names: for the host's outputs, which are sampled text and not scores."""

from __future__ import annotations

import re
from typing import NamedTuple

# Where a model's own words begin, if the text still holds its prompt; the host splits at the first of each.
_MARKERS = ("### Response:", "<|im_start|>assistant", "<|assistant|>", "[/INST]")
_NEGATIONS = re.compile(
    r"(?:\bnot|n't|\brather than|\binstead of|\bunlike|\bexcept|\bneither|\bnor"
    r"|\b(?:better|higher|more)\b[^.\n]*\bthan)(?:\s+(?:on|for|the))*\s*$",
    re.IGNORECASE,
)
_REASON = re.compile(r"\W*(?:because|since|as|due)\b", re.IGNORECASE)
_STATED = re.compile(r"\b(?:answer|prediction|choice)\b(?:\s+is)?\s*[:=]?\s*$", re.IGNORECASE)


class Tricky(NamedTuple):
    """An output, the two datasets that were offered, what it answers, and what is tricky about it."""

    output: str
    options: tuple[str, str]
    answer: str | None
    why: str


def own_words(text: str) -> str:
    """A model's answer without its prompt and without what it thought aloud."""
    for marker in _MARKERS:
        text = text.rsplit(marker, 1)[-1]
    return text.rsplit("</think>", 1)[-1].strip()


def parse_answer(text: str, options: tuple[str, str]) -> str | None:
    """The dataset that a text answers, or None where it answers none or leaves it open.

    The order of the options changes nothing. A name counts where it stands alone: `cifar-10` is not in
    `cifar-100` nor in `cifar-10-c`; `CIFAR 10`, `cifar_10` and `cifar10` are it. A name after a negation
    (`not`, `rather than`, `instead of`, `better … than`, …) does not count. Where both names remain, one that
    follows `answer`, begins the text with a reason behind it, or stands alone in the first or the last line, decides.
    """
    text = own_words(text)
    named = [(match, name) for name in options for match in _mentions(text, name)]
    kept = [(m, name) for m, name in named if not _NEGATIONS.search(text[: m.start()])]
    found = {name for _, name in kept}
    if len(found) == 1:
        return found.pop()
    stated = {name for m, name in kept if _STATED.search(text[: m.start()].rstrip("*`'\"( "))}
    if len(stated) == 1:
        return stated.pop()
    begun = {name for m, name in kept if not text[: m.start()].strip("*`'\"( ") and _REASON.match(text[m.end() :])}
    if len(begun) == 1:
        return begun.pop()
    lines = [line for line in text.splitlines() if line.strip()]
    alone = {name for name in options for line in (lines[:1] + lines[-1:]) if _is_name(line, name)}
    return alone.pop() if len(alone) == 1 else None


def _pattern(name: str) -> str:
    parts = re.findall(r"[a-z]+|\d+", name.lower())
    return r"[\s_\-]*".join(re.escape(part) for part in parts)


def _mentions(text: str, name: str) -> list[re.Match[str]]:
    return list(re.finditer(rf"(?<![a-z0-9])(?<![a-z0-9][\-_]){_pattern(name)}(?![a-z0-9]|[\-_][a-z0-9])", text, re.I))


def _is_name(line: str, name: str) -> bool:
    return re.fullmatch(rf"\W*{_pattern(name)}\W*", line.strip(), re.IGNORECASE) is not None


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
    Tricky("Not mnist.", _M, None, "nothing but a negation"),
    Tricky("neither mnist nor svhn", _M, None, "both negated"),
    Tricky("mnist or svhn", _M, None, "the question again"),
    Tricky("mnist, svhn", _M, None, "both"),
    Tricky("fashion-mnist", _M, None, "another dataset whose name holds one"),
    Tricky("cifar-10-c", _C, None, "another dataset whose name begins with one"),
    Tricky("", _M, None, "nothing"),
    Tricky("I cannot tell.", _M, None, "no name"),
    Tricky("imagenette", _M, None, "a name that was not offered"),
    Tricky("<think>mnist? It saturates.</think>svhn", _M, "svhn", "thought aloud first"),
    Tricky("### Response: mnist\n### Response: svhn", _M, "svhn", "two answers' markers: the last counts"),
)
