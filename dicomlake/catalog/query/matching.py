"""An expression to the series that meet it: one statement, and the header blocks of what it leaves in doubt.

A series meets a condition when any value of the element does, in any instance and item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.query.expressions import And, Condition, Expression, Not, Or, conditions_in
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import TRUE, Parameter, Sql, sql
from dicomlake.catalog.query.held import Held, held, relation
from dicomlake.catalog.query.leaves import Leaf, held_leaf, leaf
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.planning import plan, says_no
from dicomlake.catalog.query.sources import resolve
from dicomlake.errors import CatalogError, QueryError

Ids = npt.NDArray[np.int64]
HeadersOf = Callable[[int], SeriesHeaders]
_AT_ONCE = 500  # series whose headers are in memory together


class Session(Protocol):
    """DuckDB with the documented tables."""

    def execute(self, sql: str, parameters: Sequence[Parameter] = ()) -> Any:
        """Run one SELECT."""


Search = Callable[[str], Iterable[tuple[str, str]]]
"""Full text to (StudyInstanceUID, SeriesInstanceUID) of what holds it: a text of one series, such as its
description, with its UID; one of the whole study, such as a report, with an empty one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression with all that is needed to answer it.

    session: the tables. headers_of: reads the full headers of a series. search: full text, where there is.
    """

    session: Session
    headers_of: HeadersOf
    search: Search | None = None
    _leaves: dict[Condition, Leaf] = field(default_factory=dict)

    def leaf(self, condition: Condition) -> Leaf:
        """The condition over the tables; each is made once."""
        if condition not in self._leaves:
            self._leaves[condition] = (
                self._search(condition) if condition.operator == "search" else leaf(condition)
            )
        return self._leaves[condition]

    def leaves(self, expression: Expression) -> dict[Condition, Leaf]:
        """Of all conditions of an expression."""
        return {condition: self.leaf(condition) for condition in conditions_in(expression)}

    def _search(self, condition: Condition) -> Leaf:
        if self.search is None:
            raise QueryError("text=…: there is no full text to search here")
        pairs = sorted({f"{study} {series}" for study, series in self.search(str(condition.values[0]))})
        uids = "StudyInstanceUID || ' ' || SeriesInstanceUID"
        own = f"{uids} IN (SELECT unnest(?::VARCHAR[]))"
        of_study = "StudyInstanceUID || ' ' IN (SELECT unnest(?::VARCHAR[]))"
        found = Sql(f"({own} OR {of_study})", (pairs, pairs))
        return Leaf(Sql("series"), TRUE, found, found)


def matching(
    session: Session,
    expression: Expression | Sequence[Expression],
    headers_of: HeadersOf,
    search: Search | None = None,
) -> Ids:
    """Ids of the series that meet an expression (or all of several), ascending.

    headers_of: reads the full headers of a series, for those that the rows leave in doubt.
    search: answers `text=…`. Raises QueryError for what cannot be answered.
    """
    whole = expression if isinstance(expression, Condition | And | Or | Not) else And(tuple(expression))
    return answer(Asked(session, headers_of, search), whole)


def answer(asked: Asked, expression: Expression) -> Ids:
    """Ids of the series that meet an expression, ascending."""
    ids, sure = candidates(asked, expression)
    if sure.all():
        return ids
    met = _met(asked, expression, ids[~sure])
    return np.asarray(np.sort(np.concatenate([ids[sure], met])), dtype=np.int64)


def candidates(asked: Asked, expression: Expression) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Ids of all that may meet an expression, ascending, and whether they do for sure."""
    statement = plan(expression, asked.leaves(expression))
    found = columns_of(asked.session, statement, ("series_id", "sure"))
    return np.asarray(found["series_id"], dtype=np.int64), np.asarray(found["sure"], dtype=bool)


def columns_of(session: Session, statement: Sql, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The columns of an answer as arrays. Raises QueryError for what DuckDB cannot run."""
    with refused():
        result = session.execute(statement.text, statement.parameters)
        if hasattr(result, "fetchnumpy"):
            found = result.fetchnumpy()
            return {name: np.ma.getdata(found[name]) for name in names}
    rows = list(result)
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def rows_of(session: Session, statement: Sql) -> list[tuple[Any, ...]]:
    """The rows of an answer."""
    with refused():
        result = session.execute(statement.text, statement.parameters)
        return list(result.fetchall() if hasattr(result, "fetchall") else result)


@contextmanager
def refused() -> Iterator[None]:
    """What DuckDB says about a query without what was asked for."""
    import duckdb

    try:
        yield
    except duckdb.InvalidInputException:
        raise QueryError(
            "a regular expression of the query is none of RE2's: look-around is not known"
        ) from None
    except duckdb.Error as error:
        kind = type(error).__name__  # its text may hold values
        raise CatalogError(
            f"the query cannot be answered ({kind}): remove mirror/, it is made again"
        ) from None


def _met(asked: Asked, expression: Expression, ids: Ids) -> Ids:
    """Those of these series that meet an expression by their headers."""
    found = []
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        headers = {int(i): asked.headers_of(int(i)) for i in some}
        yes = {
            condition: _holders(asked, condition, some, headers) for condition in conditions_in(expression)
        }
        found.append(some[truth(expression, yes, len(some))])
    return np.concatenate(found)


def _holders(
    asked: Asked, condition: Condition, ids: Ids, headers: Mapping[int, SeriesHeaders]
) -> npt.NDArray[np.bool_]:
    """Which of these series have what a condition looks for."""
    source = resolve(condition.path)
    if isinstance(source, Fact):
        known = sql(
            "SELECT series_id, sure FROM ({}) WHERE series_id IN (SELECT unnest({}))",
            asked.leaf(condition).select(),
            Sql("?::BIGINT[]", (ids.tolist(),)),
        )
        found = columns_of(asked.session, known, ("series_id", "sure"))["series_id"]
    else:
        held_values = [(i, one) for i, header in headers.items() for one in held(header, source)]
        found = of_held(asked.session, condition, held_values)
    return np.isin(ids, found)


def of_held(session: Session, condition: Condition, found: Sequence[tuple[int, Held]]) -> npt.NDArray[Any]:
    """Of which ids the values meet a condition."""
    if not found:
        return np.zeros(0, dtype=np.int64)
    statement = held_leaf(condition, relation(found)).ids(sure=True)
    return columns_of(session, statement, ("series_id",))["series_id"]


def truth(
    expression: Expression, yes: Mapping[Condition, npt.NDArray[np.bool_]], count: int
) -> npt.NDArray[np.bool_]:
    """Which of `count` series meet an expression, from which ones have what each condition looks for."""
    match expression:
        case And(terms):
            each = [truth(term, yes, count) for term in terms]
            return np.logical_and.reduce(each) if each else np.ones(count, dtype=bool)
        case Or(terms):
            each = [truth(term, yes, count) for term in terms]
            return np.logical_or.reduce(each) if each else np.zeros(count, dtype=bool)
        case Not(term):
            return ~truth(term, yes, count)
        case condition:
            return ~yes[condition] if says_no(condition) else yes[condition]


def instances_where(
    session: Session,
    series_id: int,
    expression: Expression,
    headers_of: HeadersOf,
    search: Search | None = None,
) -> list[str]:
    """SOPInstanceUIDs of the instances of a series that meet an expression themselves, in their order.

    A single instance must meet all conditions. Facts are those of the series.
    """
    asked, headers = Asked(session, headers_of, search), headers_of(series_id)
    yes = {c: _instances_with(asked, c, series_id, headers) for c in conditions_in(expression)}
    met = truth(expression, yes, len(headers))
    return [uid for uid, chosen in zip(headers.instances, met.tolist(), strict=True) if chosen]


def _instances_with(
    asked: Asked, condition: Condition, series_id: int, headers: SeriesHeaders
) -> npt.NDArray[np.bool_]:
    source = resolve(condition.path)
    if isinstance(source, ElementPath):
        found = of_held(asked.session, condition, [(one.instance, one) for one in held(headers, source)])
        return np.isin(np.arange(len(headers)), found)
    one = np.array([series_id], dtype=np.int64)
    return np.repeat(_holders(asked, condition, one, {}), len(headers))
