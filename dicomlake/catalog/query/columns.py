"""Values of any element or fact for given series: numbers as numbers, dates as dates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import Sql, sql
from dicomlake.catalog.query.held import held
from dicomlake.catalog.query.matching import HeadersOf, Session, rows_of
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.sources import resolve
from dicomlake.dicom import values
from dicomlake.errors import QueryError

_EPOCH = date(1970, 1, 1)
_WHOLE = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})


def columns(
    session: Session, ids: Sequence[int], names: Iterable[str], headers_of: HeadersOf
) -> dict[str, list[Any]]:
    """For each name, an element or a fact, a list with an entry for each of these series, in their order.

    An entry is a value, a tuple of the different values where there are several (in ascending order; in the
    order of the element for `name[i]`), None without one. Numbers are int or float, ages years, DA dates;
    other text stays as it is written. headers_of: reads the headers of a series, for elements with so many
    values that the mirror only sums them up, and for indices. Raises QueryError for an unknown name.
    """
    wanted = [int(i) for i in ids]
    return {name: _column(session, wanted, name, headers_of) for name in names}


def _column(session: Session, ids: Sequence[int], name: str, headers_of: HeadersOf) -> list[Any]:
    source = resolve(name)
    if isinstance(source, Fact):
        found = _of_fact(session, ids, source, name)
    else:
        found = _of_element(session, ids, source, headers_of)
    return [_cell(found.get(i, ())) for i in ids]


def _cell(found: Iterable[Any]) -> Any:
    different = sorted(set(found), key=lambda value: (str(type(value)), value))
    return None if not different else different[0] if len(different) == 1 else tuple(different)


def _of_fact(session: Session, ids: Sequence[int], source: Fact, name: str) -> dict[int, list[Any]]:
    if source.kind == "search":
        raise QueryError(f"{name} can be searched, but is no column")
    text, number = source.text or "NULL", source.number or "NULL"
    rows = sql(
        f"SELECT series_id, {text}, {number} FROM {{}} WHERE series_id IN (SELECT unnest(?::BIGINT[]))",
        source.relation,
    )
    found: dict[int, list[Any]] = {}
    for series_id, written, value in rows_of(session, Sql(rows.text, (*rows.parameters, list(ids)))):
        chosen = written if value is None else _plain(value)
        if chosen is not None:
            found.setdefault(int(series_id), []).append(chosen)
    return found


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else float(number)


def _of_element(
    session: Session, ids: Sequence[int], source: ElementPath, headers_of: HeadersOf
) -> dict[int, list[Any]]:
    rows = Sql(
        "SELECT series_id, vr, text FROM attributes WHERE path = ? AND text IS DISTINCT FROM '' "
        "AND series_id IN (SELECT unnest(?::BIGINT[]))",
        (source.name, list(ids)),
    )
    found: dict[int, list[Any]] = {}
    by_headers: set[int] = set()
    for series_id, vr, text in rows_of(session, rows):
        if text is None or source.indexed:
            by_headers.add(int(series_id))
        else:
            found.setdefault(int(series_id), []).extend(_values(source, vr, text))
    for series_id in by_headers:
        in_headers = held(headers_of(series_id), source)
        found[series_id] = [
            v for one in in_headers for t in one.texts if t for v in _values(source, one.vr, t)
        ]
    return found


def _values(source: ElementPath, vr: str, text: str) -> list[Any]:
    """A value as Python has it; of a name's component, one for each component group that has it."""
    if source.component is not None:
        groups = (group.split("^") for group in text.split("="))
        parts = (group[source.component].strip() for group in groups if len(group) > source.component)
        return [part for part in parts if part]
    return [_READERS.get(vr, _as_written)(vr, text)]


def _as_written(_vr: str, text: str) -> Any:
    return text


def _number(vr: str, text: str) -> Any:
    number = values.number(vr, text)
    if number is None:
        return text
    return int(text) if vr in _WHOLE and text.lstrip("+-").isdecimal() else number


def _date(vr: str, text: str) -> Any:
    days = values.typed(vr, text)
    return text if days is None else _EPOCH + timedelta(days)


_READERS: dict[str, Callable[[str, str], Any]] = dict.fromkeys(values.NUMBER_VRS, _number) | {"DA": _date}
