"""Which dataset a text names: NNGPT's outputs are sampled texts, not scores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# Where a model's own words begin, if the text still contains its prompt; NNGPT splits at the first of each.
_MARKERS = ("### Response:", "<|im_start|>assistant", "<|assistant|>", "[/INST]")
# Right before a name, these say that it is not the answer.
_AGAINST = re.compile(
    r"(?:\bnot|n't|\bcannot|\brather than|\binstead of|\bunlike|\bexcept|\bneither|\bnor|\bthan|\bover|\bbeats?"
    r"|\boutperforms?|\bexceeds?|\bsurpass(?:es)?|>)(?:\s+(?:on|for|the|in|with|be|really|actually))*\s*$",
    re.IGNORECASE,
)
# Anywhere in a clause, these say so of all names in it.
_CLAUSE_AGAINST = re.compile(
    r"n't\b|\b(?:not|cannot|never|worse|worst|lower(?!\s+(?:error|loss))|lowest|poor(?:ly|er)?|less (?:accurate|well)"
    r"|hard(?:er|est)|more difficult|weak(?:er|est)|struggles?|fails?|underperforms?|unlikely)\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(
    r"[;:!?\n(),–—]|\s-\s|\.(?!\d)"
    r"|\b(?:but|while|whereas|because|since|as|although|though|so|therefore|hence|however|yet)\b",
    re.IGNORECASE,
)
_AND = re.compile(r"\band\b", re.IGNORECASE)
_LISTED = re.compile(r"[ \t]*(?:,|/|\||&)?[ \t]*(or|nor|and|vs\.?|versus)?[ \t]*(?:on|for|the)?[ \t]*", re.IGNORECASE)
_REASON = re.compile(r"\W*(?:because|since|as|due)\b", re.IGNORECASE)
_STATED = re.compile(r"\b(?:answer|prediction|choice)\b(?:\s+is)?\s*[:=]?\s*$", re.IGNORECASE)


class _Mention(NamedTuple):
    start: int
    end: int
    name: str


_START = _Mention(0, 0, "")


def own_words(text: str) -> str:
    """A model's answer without its prompt and without the text of its thinking."""
    for marker in _MARKERS:
        text = text.rsplit(marker, 1)[-1]
    return text.rsplit("</think>", 1)[-1].strip()


def parse_answer(text: str, options: tuple[str, str]) -> str | None:
    """The dataset that a text answers; None if it names none or leaves the answer open.

    The order of the options changes nothing. A name counts where it stands alone: `cifar-10` is not in
    `cifar-100` nor in `cifar-10-c`; `CIFAR 10`, `cifar_10` and `cifar10` are it. A name does not count

    - right after a negation or comparison (`not`, `rather than`, `outperforms`, `better … than`, …);
    - in a clause that denies it or says something worse of it (`is not the answer`, `worse on`, `lower`, …), which
      never makes the other name the answer;
    - in a list of both (`mnist or svhn`): that is the question again.

    If both names remain, the answer is the one that follows `answer`, begins the text and is followed by a reason, or
    stands alone in the first or the last line.
    """
    text = re.sub(r"[*`\"]", " ", own_words(text).replace("’", "'"))
    # Figures in brackets end no clause; a bracket that is never closed is read once.
    text = re.sub(r"\([^)A-Za-z]*\)?", lambda m: " " * len(m[0]) if m[0][-1] == ")" else m[0], text)
    # One blank or line break is enough: the patterns would try every way to divide a long run among them.
    text = re.sub(r"\s+", lambda m: "\n" if "\n" in m[0] else " ", text)
    mentions = sorted(
        _Mention(*m.span(), name)
        for name in options
        for m in re.finditer(rf"(?<![a-z0-9])(?<![a-z0-9][\-_]){_pattern(name)}(?![a-z0-9]|[\-_][a-z0-9])", text, re.I)
    )
    kept = _unlisted(text, _affirmed(text, mentions))
    names, left = {m.name for m in kept}, set(kept)
    pairs = pairwise([_START, *mentions])
    stated = {m.name for before, m in pairs if m in left and _STATED.search(text, before.end, m.start)}
    begun = {m.name for m in kept[:1] if not text[: m.start].strip("' (") and _REASON.match(text, m.end)}
    lines = [line for line in text.splitlines() if line.strip()]
    ends = {*lines[:1], *lines[-1:]}
    alone = {n for n in names for line in ends if re.fullmatch(rf"\W*{_pattern(n)}\W*", line, re.IGNORECASE)}
    return next((found.pop() for found in (names, stated, begun, alone) if len(found) == 1), None)


def _pattern(name: str) -> str:
    return r"[\s_\-]*".join(re.findall(r"[a-z]+|\d+", name.lower()))


def _affirmed(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """The mentions that nothing speaks against."""
    against: dict[_Mention, re.Match[str]] = {}
    for one, two in pairwise([_START, *mentions]):
        listed = _LISTED.fullmatch(text, one.end, two.start)
        if one in against and listed and listed[1]:  # `not mnist or svhn`
            against[two] = against[one]
        elif found := _AGAINST.search(text, one.end, two.start):
            against[two] = found
    # What speaks against one name alone does not speak against its clause.
    letters = list(text)
    for found in against.values():
        letters[found.start() : found.end()] = " " * (found.end() - found.start())
    rest = "".join(letters)
    clauses = [names for begin, end, names in _clauses(text, mentions) if not _CLAUSE_AGAINST.search(rest, begin, end)]
    return [m for names in clauses for m in names if m not in against]


def _clauses(text: str, mentions: list[_Mention]) -> Iterator[tuple[int, int, list[_Mention]]]:
    """Where each clause that has names begins and ends, and its names; `and` separates clauses with a name each."""
    begin, names = 0, list[_Mention]()
    for one, two in pairwise([_START, *mentions, _Mention(len(text), len(text), "")]):
        ends = list(_CLAUSE_ENDS.finditer(text, one.end, two.start))
        if one.name and two.name and not ends:
            ends = list(_AND.finditer(text, one.end, two.start))[:1]
        if ends:
            yield begin, ends[0].start(), names
            begin, names = ends[-1].end(), []
        names.append(two)
    yield begin, len(text), names[:-1]


def _unlisted(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """The mentions without those that list both names."""
    listed = set[_Mention]()
    for one, two in pairwise(mentions):
        # `mnist or svhn, svhn`: the end of a list does not begin another.
        if one.name != two.name and one not in listed and _LISTED.fullmatch(text, one.end, two.start):
            listed |= {one, two}
    return [m for m in mentions if m not in listed]
