"""Numbers as text, in tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NO_NUMBER = "–"
NO_MODULE = "The source defines no class derived from nn.Module"


def number(value: float | None, sign: bool = False) -> str:
    """Three decimals; a dash for None."""
    return NO_NUMBER if value is None else f"{value:+.3f}" if sign else f"{value:.3f}"


def interval(ci95: tuple[float, float] | None, sign: bool = False) -> str:
    """For example `0.799 to 0.839`; a dash for None, and for one of width 0: draws without spread are no certainty."""
    return NO_NUMBER if ci95 is None or ci95[0] == ci95[1] else f"{number(ci95[0], sign)} to {number(ci95[1], sign)}"


def with_interval(value: float, ci95: tuple[float, float] | None, sign: bool = False, name: str = "") -> str:
    """For example `0.820 (0.799 to 0.839)`; `name` stands before the interval."""
    spread = interval(ci95, sign)
    return f"{number(value, sign)} ({'no interval' if spread == NO_NUMBER else name + spread})"


def excluded(trials: Mapping[str, int]) -> str:
    """For example `3 trials were excluded: accuracy outside [0, 1] 3.`, by their number for each reason; else empty."""
    total, why = sum(trials.values()), ", ".join(f"{reason} {n:,}" for reason, n in trials.items())
    return f"{count(total, 'trial')} {'was' if total == 1 else 'were'} excluded: {why}." if trials else ""


def beginning(tokens: int, of: int | None = None) -> str:
    """The sentence about a source of which only the beginning was read; `of` are all its tokens, if that is known."""
    first = count(tokens, "token") if of is None else f"{tokens:,} of {count(of, 'token')}"
    return f"Only the first {first} of the source were read."


def source_limits(read: int | None, of: int | None, is_module: bool) -> list[str]:
    """What is doubtful about a source: how many of its tokens were read (None: all), and whether it is a module."""
    cut = [] if read is None else [beginning(read, of)]
    return cut if is_module else [*cut, f"{NO_MODULE}, so it may be no network."]


def not_trained_on(unseen: Sequence[str]) -> str:
    """The reason for abstaining about these datasets."""
    names = ", ".join(f"'{name}'" for name in unseen)
    return f"never trained on {names}; this adapter was not tested on unseen datasets"


def count(number: int, noun: str) -> str:
    """For example `1 pair`, `1,530 pairs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def share(value: float | None) -> str:
    """For example `82.0 %`; a dash for None."""
    return NO_NUMBER if value is None else f"{100 * value:.1f} %"


def whole(value: int | None) -> str:
    """For example `1,530`; a dash for None."""
    return NO_NUMBER if value is None else f"{value:,}"


def p_value(p: float) -> str:
    """For example `p = 0.0012`, `p = 0.34`."""
    return f"p = {p:.4f}" if p < 0.01 else f"p = {p:.2f}"
