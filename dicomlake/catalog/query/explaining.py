"""Why a query found what it found: each condition by itself, what is left after it, and what emptied it."""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicomlake.catalog.query.expressions import And, Condition, Expression, Not
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import Sql, sql
from dicomlake.catalog.query.matching import Asked, HeadersOf, Ids, Search, Session, answer, rows_of
from dicomlake.catalog.query.sources import resolve
from dicomlake.catalog.query.spans import span

_NEAR = 3
_COMPARED = 2000  # different values of an element that are compared


@dataclass(frozen=True, slots=True)
class Near:
    """A value that occurs, and in how many of the series that were left."""

    value: str
    series: int


@dataclass(frozen=True, slots=True)
class Step:
    """One condition. alone: series of the lake that meet it; left: of those that the former ones left."""

    condition: Expression
    alone: int
    left: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each condition of a query did, in their order.

    total: series of the lake. emptied: the step that left none. near: values that come close to what it
    asked for, among the series that were left; only of elements whose values say nothing about a patient.
    """

    total: int
    steps: tuple[Step, ...]
    near: tuple[Near, ...] = ()

    @property
    def emptied(self) -> Step | None:
        """The condition that left no series, if one did."""
        return next((step for step in self.steps if step.left == 0), None) if self.total else None

    def as_dict(self) -> dict[str, Any]:
        """The same in JSON types."""
        steps = [
            {"condition": str(step.condition), "alone": step.alone, "left": step.left} for step in self.steps
        ]
        return {"total": self.total, "steps": steps, "near": {one.value: one.series for one in self.near}}

    def __str__(self) -> str:
        rows = [("condition", "alone", "left"), ("every series", f"{self.total:,}", f"{self.total:,}")]
        rows += [(str(step.condition), f"{step.alone:,}", f"{step.left:,}") for step in self.steps]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        return "\n".join([*lines, *self._remarks()])

    __repr__ = __str__

    def _remarks(self) -> list[str]:
        if self.emptied is None:
            return []
        remarks = [f"{self.emptied.condition} left none."]
        if self.near:
            values = ", ".join(f"{one.value} ({one.series:,})" for one in self.near)
            remarks.append(f"Near values among the series before it: {values}.")
        return remarks

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(str(step.condition))}</td>"
            f"<td>{step.alone:,}</td><td>{step.left:,}</td></tr>"
            for step in self.steps
        )
        remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in self._remarks())
        head = "<tr><th>condition</th><th>alone</th><th>left</th></tr>"
        every = f"<tr><td>every series</td><td>{self.total:,}</td><td>{self.total:,}</td></tr>"
        return f"<div><table>{head}{every}{rows}</table>{remarks}</div>"


def explain(
    session: Session, expression: Expression, headers_of: HeadersOf, search: Search | None = None
) -> Explanation:
    """What each term of an expression left. The terms are those of its And, or the expression itself."""
    asked = Asked(session, headers_of, search)
    terms = expression.terms if isinstance(expression, And) else (expression,)
    left = everything = answer(asked, And(()))
    steps: list[Step] = []
    near: tuple[Near, ...] = ()
    for term in terms:
        alone = answer(asked, term)
        before, left = left, np.intersect1d(left, alone, assume_unique=True)
        steps.append(Step(term, len(alone), len(left)))
        if len(before) and not len(left):
            near = tuple(_near(asked, term, before))
    return Explanation(len(everything), tuple(steps), near)


def _near(asked: Asked, term: Expression, among: Ids) -> list[Near]:
    """Values of the element of a term in these series, the most alike first."""
    condition = term.term if isinstance(term, Not) else term
    comparable = isinstance(condition, Condition) and condition.harmless
    if not isinstance(condition, Condition) or not comparable or condition.operator in ("search", "shape"):
        return []
    source = resolve(condition.path)
    values = [value for value in condition.values if isinstance(value, str | int | float)]
    if isinstance(source, Fact):
        column = source.text or source.number
        rows = sql(f"SELECT series_id, {column}::VARCHAR AS value FROM {{}}", source.relation)
    else:
        rows = Sql(
            "SELECT series_id, text AS value FROM attributes WHERE path = ? AND text <> ''", (source.name,)
        )
    counts = sql(
        "SELECT value, count(DISTINCT series_id) AS series FROM ({}) "
        "WHERE series_id IN (SELECT unnest(?::BIGINT[])) AND value IS NOT NULL "
        f"GROUP BY value ORDER BY series DESC, value LIMIT {_COMPARED}",
        rows,
    )
    found = rows_of(asked.session, Sql(counts.text, (*counts.parameters, among.tolist())))
    vr = "DS" if isinstance(source, Fact) else source.vr
    return _nearest([Near(str(value), int(series)) for value, series in found], values, vr)


def _nearest(found: Sequence[Near], asked: Sequence[str | float], vr: str) -> list[Near]:
    numbers = [s.low for value in asked if (s := span(vr, value)) is not None]
    measured = [(one, s.low) for one in found if (s := span(vr, one.value)) is not None]
    if numbers and measured:
        measured.sort(key=lambda pair: min(abs(pair[1] - number) for number in numbers))
        return [one for one, _number in measured[:_NEAR]]
    words = [str(value) for value in asked]
    close = [
        word for value in words for word in difflib.get_close_matches(value, [one.value for one in found])
    ]
    ranked = sorted(found, key=lambda one: close.index(one.value) if one.value in close else len(close))
    return ranked[:_NEAR]
