"""Which dataset a free text names: for the host's outputs, which are sampled text and not scores."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# Where a model's own words begin, if the text still holds its prompt; the host splits at the first of each.
_MARKERS = ("### Response:", "<|im_start|>assistant", "<|assistant|>", "[/INST]")
# Right before a name these say that it is not the one.
_AGAINST = re.compile(
    r"(?:\bnot|n't|\bcannot|\brather than|\binstead of|\bunlike|\bexcept|\bneither|\bnor|\bthan|\bover|\bbeats?"
    r"|\boutperforms?|\bexceeds?|\bsurpass(?:es)?|>)(?:\s+(?:on|for|the|in|with|be|really|actually))*\s*$",
    re.IGNORECASE,
)
# Anywhere in a clause, before its names or behind, these say so of all of them.
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


def own_words(text: str) -> str:
    """A model's answer without its prompt and without what it thought aloud."""
    for marker in _MARKERS:
        text = text.rsplit(marker, 1)[-1]
    return text.rsplit("</think>", 1)[-1].strip()


def parse_answer(text: str, options: tuple[str, str]) -> str | None:
    """The dataset that a text answers, or None where it answers none or leaves it open.

    The order of the options changes nothing. A name counts where it stands alone: `cifar-10` is not in
    `cifar-100` nor in `cifar-10-c`; `CIFAR 10`, `cifar_10` and `cifar10` are it. A name does not count

    - right after a negation or comparison (`not`, `rather than`, `outperforms`, `better … than`, …);
    - in a clause that denies or says worse, before it or behind (`is not the answer`, `worse on`, `lower`, …), which
      never makes the other name the answer;
    - in a list of both (`mnist or svhn`): that is the question again.

    Where both names remain, one that follows `answer`, begins the text with a reason behind it, or stands alone in
    the first or the last line, decides.
    """
    text = re.sub(r"[*`\"]", " ", own_words(text).replace("’", "'"))
    # Figures in brackets end no clause; a bracket that is never closed is read once.
    text = re.sub(r"\([^)A-Za-z]*\)?", lambda m: " " * len(m[0]) if m[0][-1] == ")" else m[0], text)
    # One blank or line break is enough: the patterns below would try every way to divide a long run among them.
    text = re.sub(r"\s+", lambda m: "\n" if "\n" in m[0] else " ", text)
    mentions = sorted(_Mention(*m.span(), n) for n in options for m in _found(text, n))
    kept = _unlisted(text, _affirmed(text, mentions))
    names = {mention.name for mention in kept}
    if len(names) == 1:
        return names.pop()
    left = set(kept)
    stated = {m.name for m, since in _since(mentions) if m in left and _STATED.search(text, since, m.start)}
    if len(stated) == 1:
        return stated.pop()
    begun = {m.name for m in kept if not text[: m.start].strip("' (") and _REASON.match(text[m.end :])}
    if len(begun) == 1:
        return begun.pop()
    lines = [line for line in text.splitlines() if line.strip()]
    alone = {name for name in names for line in (lines[:1] + lines[-1:]) if _is_name(line, name)}
    return alone.pop() if len(alone) == 1 else None


def _affirmed(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """The mentions that nothing speaks against."""
    against = {m: found for m, since in _since(mentions) if (found := _AGAINST.search(text, since, m.start))}
    for one, two in pairwise(mentions):
        listed = _LISTED.fullmatch(text, one.end, two.start)
        if one in against and listed and listed[1]:  # `not mnist or svhn`
            against[two] = against[one]
    # What speaks against one name alone does not speak against its clause.
    rest, done = "", 0
    for start, end in sorted({found.span() for found in against.values()}):
        rest, done = f"{rest}{text[done:start]}{' ' * (end - start)}", end
    rest += text[done:]
    begins, ends = _clauses(text, mentions)
    denied: dict[tuple[int, int], bool] = {}
    kept = []
    for m in mentions:
        clause = _around(begins, ends, m.start, m.end, len(text))
        if clause not in denied:
            denied[clause] = _CLAUSE_AGAINST.search(rest, *clause) is not None
        if m not in against and not denied[clause]:
            kept.append(m)
    return kept


def _since(mentions: list[_Mention]) -> Iterator[tuple[_Mention, int]]:
    """Each mention with the end of the one before it: what stands right before a name is no longer."""
    return zip(mentions, [0, *(m.end for m in mentions)], strict=False)


def _clauses(text: str, mentions: list[_Mention]) -> tuple[list[int], list[int]]:
    """Where clauses begin and where they end, each sorted. `and` parts two clauses with a name each."""
    found = [m.span() for m in _CLAUSE_ENDS.finditer(text)]
    begins, ends = sorted(end for _, end in found), sorted(start for start, _ in found)
    starts = [m.start for m in mentions]
    for start, end in (m.span() for m in _AND.finditer(text)):
        before, behind = _around(begins, ends, start, end, len(text))
        i = bisect_left(starts, start)
        if i and starts[i - 1] >= before and i < len(starts) and starts[i] < behind:
            insort(begins, end)
            insort(ends, start)
    return begins, ends


def _around(begins: list[int], ends: list[int], start: int, end: int, length: int) -> tuple[int, int]:
    """The clause in which something stands."""
    i, k = bisect_right(begins, start), bisect_left(ends, end)
    return begins[i - 1] if i else 0, ends[k] if k < len(ends) else length


def _unlisted(text: str, mentions: list[_Mention]) -> list[_Mention]:
    """The mentions without those that list both names."""
    listed = set[_Mention]()
    for one, two in pairwise(mentions):
        # `mnist or svhn, svhn`: what is in a list already begins no other.
        if one.name != two.name and one not in listed and _LISTED.fullmatch(text, one.end, two.start):
            listed |= {one, two}
    return [m for m in mentions if m not in listed]


def _pattern(name: str) -> str:
    parts = re.findall(r"[a-z]+|\d+", name.lower())
    return r"[\s_\-]*".join(re.escape(part) for part in parts)


def _found(text: str, name: str) -> list[re.Match[str]]:
    return list(re.finditer(rf"(?<![a-z0-9])(?<![a-z0-9][\-_]){_pattern(name)}(?![a-z0-9]|[\-_][a-z0-9])", text, re.I))


def _is_name(line: str, name: str) -> bool:
    return re.fullmatch(rf"\W*{_pattern(name)}\W*", line.strip(), re.IGNORECASE) is not None
