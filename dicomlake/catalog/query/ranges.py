"""Ranges of numbers as SQL over the columns low and high of a row."""

from __future__ import annotations

from typing import NamedTuple

from dicomlake.catalog.query.fragments import Sql, either, every
from dicomlake.catalog.query.spans import Span


class Range(NamedTuple):
    """From low to high; None leaves a side open, and an end may be left out."""

    low: float | None
    high: float | None
    low_open: bool = False
    high_open: bool = False


def ranged(operator: str, spans: tuple[Span | None, ...]) -> Range:
    """What an operator asks about spans: after "2024" is after its last day."""
    first, last = spans[0], spans[-1]
    match operator:
        case "ge":
            return Range(first and first.low, None)
        case "gt" if first:
            return Range(first.high, None, low_open=not first.open)
        case "le" if first:
            return Range(None, first.high, high_open=first.open)
        case "lt":
            return Range(None, first and first.low, high_open=True)
    return Range(first and first.low, last and last.high, False, bool(last and last.open))


def touches(asked: Range, low: str = "low", high: str = "high") -> Sql:
    """Whether the lowest or the highest number of a row lies in a range; both are values that occur."""
    above, below = ">" if asked.low_open else ">=", "<" if asked.high_open else "<="
    if asked.low is None and asked.high is None:
        return Sql(f"{low} IS NOT NULL")
    if asked.high is None:
        return Sql(f"{high} {above} ?", (asked.low,))
    if asked.low is None:
        return Sql(f"{low} {below} ?", (asked.high,))
    if asked.low == asked.high:
        ends = [Sql(f"{column} = ?", (asked.low,)) for column in dict.fromkeys((low, high))]
        return either(ends) if not (asked.low_open or asked.high_open) else Sql("false")
    both = (asked.low, asked.high)
    return either(
        Sql(f"({column} {above} ? AND {column} {below} ?)", both) for column in dict.fromkeys((low, high))
    )


def overlaps(asked: Range, low: str = "low", high: str = "high") -> Sql:
    """Whether numbers between the lowest and the highest of a row can lie in a range."""
    parts = [] if asked.low is None else [Sql(f"{high} >= ?", (asked.low,))]
    return every([*parts, *([] if asked.high is None else [Sql(f"{low} <= ?", (asked.high,))])])
