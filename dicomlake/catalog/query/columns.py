"""Values of any element or fact for given series: numbers as numbers, dates as dates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import Sql, sql
from dicomlake.catalog.query.held import held
from dicomlake.catalog.query.matching import HeadersOf, Ids, Session, columns_of
from dicomlake.catalog.query.paths import ElementPath
from dicomlake.catalog.query.sources import resolve
from dicomlake.dicom import values
from dicomlake.errors import QueryError

Cells = npt.NDArray[np.object_]
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
    wanted, places = np.unique(np.asarray(ids, dtype=np.int64), return_inverse=True)
    return {name: _column(session, wanted, name, headers_of)[places].tolist() for name in names}


def _column(session: Session, ids: Ids, name: str, headers_of: HeadersOf) -> Cells:
    source = resolve(name)
    if isinstance(source, Fact):
        return _of_fact(session, ids, source, name)
    return _of_element(session, ids, source, headers_of)


def _cell(found: Iterable[Any]) -> Any:
    different = sorted(set(found), key=lambda value: (str(type(value)), value))
    return None if not different else different[0] if len(different) == 1 else tuple(different)


def _of_fact(session: Session, ids: Ids, source: Fact, name: str) -> Cells:
    if source.kind == "search":
        raise QueryError(f"{name} can be searched, but is no column")
    text, number = source.text or "NULL::VARCHAR", source.number or "NULL"
    rows = sql(
        f"SELECT series_id, coalesce({text}, '') AS text, {text} IS NULL AS textless, "
        f"coalesce(({number})::DOUBLE, 0) AS number, {number} IS NOT NULL AS numeric "
        "FROM {} WHERE series_id IN (SELECT unnest(?::BIGINT[]))",
        source.relation,
    )
    statement = Sql(rows.text, (*rows.parameters, ids.tolist()))
    found = columns_of(session, statement, ("series_id", "text", "textless", "number", "numeric"))
    told = found["text"].astype(object)
    numeric = found["numeric"].astype(bool)
    told[numeric] = [_plain(number) for number in found["number"][numeric].tolist()]
    given = numeric | ~found["textless"].astype(bool)
    return _gathered(ids, found["series_id"][given], told[given])


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else float(number)


def _of_element(session: Session, ids: Ids, source: ElementPath, headers_of: HeadersOf) -> Cells:
    statement = Sql(
        "SELECT series_id, vr, coalesce(text, '') AS text, text IS NULL AS summed FROM attributes "
        "WHERE path = ? AND text IS DISTINCT FROM '' AND series_id IN (SELECT unnest(?::BIGINT[]))",
        (source.name, ids.tolist()),
    )
    found = columns_of(session, statement, ("series_id", "vr", "text", "summed"))
    series = found["series_id"].astype(np.int64)
    doubtful = series if source.indexed else series[found["summed"].astype(bool)]
    told = ~np.isin(series, doubtful)
    cells = _gathered(ids, *_read(source, series[told], found["vr"][told], found["text"][told]))
    for series_id in set(doubtful.tolist()):
        in_headers = held(headers_of(series_id), source)
        texts = ((one.vr, text) for one in in_headers for text in one.texts if text)
        cells[np.searchsorted(ids, series_id)] = _cell(v for vr, t in texts for v in _values(source, vr, t))
    return cells


def _read(
    source: ElementPath, series: Ids, vrs: npt.NDArray[Any], texts: npt.NDArray[Any]
) -> tuple[Ids, Cells]:
    """Values with their series; each text is read once, however many series have it."""
    known: dict[tuple[str, str], list[Any]] = {}
    pairs = list(zip(vrs.tolist(), texts.tolist(), strict=True))
    for vr, text in set(pairs):
        known[vr, text] = _values(source, vr, text)
    each = [known[pair] for pair in pairs]
    read = np.empty(sum(map(len, each)), dtype=object)
    read[:] = [value for some in each for value in some]
    return np.repeat(series, np.array([len(some) for some in each], dtype=np.int64)), read


def _gathered(ids: Ids, series: Ids, read: Cells) -> Cells:
    """The cell of each series. ids: ascending."""
    cells = np.full(len(ids), None, dtype=object)
    if not len(series):
        return cells
    places = np.searchsorted(ids, series)
    several = np.bincount(places, minlength=len(ids))[places] > 1
    cells[places[~several]] = read[~several]
    together: dict[int, list[Any]] = {}
    for place, value in zip(places[several].tolist(), read[several].tolist(), strict=True):
        together.setdefault(place, []).append(value)
    for place, some in together.items():
        cells[place] = _cell(some)
    return cells


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
