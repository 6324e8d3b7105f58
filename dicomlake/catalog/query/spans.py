"""Numbers, ages, dates and times as one asked for them, as a stretch of the numbers that rows hold.

"2024" is all days of 2024 and "10:30" all moments of that minute, so equal, before and after have a meaning
for each. Units are those of `dicom.values.typed`: years, days since 1970-01-01, seconds.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from datetime import date, datetime, time
from typing import Any, NamedTuple

from dicomlake.dicom import values
from dicomlake.errors import QueryError

_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86_400.0
_DATE = r"(\d{4})(?:[-.]?(\d\d)(?:[-.]?(\d\d))?)?"
_TIME = r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,6})?)?)?"
_OFFSET = r"(?:(Z)|([+-])(\d\d):?(\d\d))?"
_DA = re.compile(rf"{_DATE}(?:T.*)?", re.ASCII)
_TM = re.compile(rf"(?:.*T)?{_TIME}{_OFFSET}", re.ASCII)
_DT = re.compile(rf"{_DATE}(?:[T ]?{_TIME})?{_OFFSET}", re.ASCII)
_AGE = re.compile(r"(\d{1,3})([DWMY])", re.ASCII)


class Span(NamedTuple):
    """From low up to high; up to, but without, high where it is open."""

    low: float
    high: float
    open: bool = False


def span(vr: str, asked: str | float) -> Span | None:
    """What one asked for, in an element of this VR; None when it is no such value."""
    if isinstance(asked, float | int):
        if vr in values.TEMPORAL_VRS:
            return span(vr, str(asked))  # 2024, 20240315
        return _point(asked)
    if vr == "DA":
        return _days(asked)
    if vr == "TM":
        return _seconds(asked)
    if vr == "DT":
        return _moments(asked)
    if vr == "AS" and (age := _AGE.fullmatch(asked.strip())):
        years = values.number("AS", f"{int(age[1]):03}{age[2]}")
        return None if years is None else _point(years)
    number = values.number("DS", asked)
    return None if number is None else _point(number)


def _point(number: float) -> Span:
    try:
        value = float(number)
    except OverflowError:  # a whole number beyond what a DS or FD can hold
        value = math.inf if number > 0 else -math.inf
    return Span(value, value)


def _days(text: str) -> Span | None:
    found = _DA.fullmatch(text.strip())
    whole = _dates(found[1], found[2], found[3]) if found else None
    return whole and Span(float(whole[0]), float(whole[1]))


def _dates(year: str, month: str | None, day: str | None) -> tuple[int, int] | None:
    """The first and the last day, since 1970-01-01, of a year, a month or a day."""
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        last = first.replace(month=int(month or 12))
        last = last.replace(day=int(day or monthrange(last.year, last.month)[1]))
    except ValueError:
        return None
    return first.toordinal() - _EPOCH, last.toordinal() - _EPOCH


def _seconds(text: str) -> Span | None:
    found = _TM.fullmatch(text.strip())
    return _times(*found.groups()[:4]) if found else None


def _times(hour: str, minute: str | None, second: str | None, fraction: str | None) -> Span | None:
    h, m, s = int(hour), int(minute or 0), int(second or 0)
    if h > 23 or m > 59 or s > 60:  # 60: a leap second
        return None
    start = float(h * 3600 + m * 60 + s)
    if fraction:
        return _point(start + float(fraction))
    return Span(start, start + (3600 if minute is None else 60 if second is None else 1), open=True)


def _moments(text: str) -> Span | None:
    found = _DT.fullmatch(text.strip())
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, _zulu, sign, ahead, ahead_minutes = found.groups()
    days = _dates(year, month, day)
    if days is None:
        return None
    east = (int(ahead) * 3600 + int(ahead_minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    if hour is None:
        return Span(days[0] * _DAY - east, (days[1] + 1) * _DAY - east, open=True)
    within = _times(hour, minute, second, fraction)
    start = days[0] * _DAY - east
    return within and Span(start + within.low, start + within.high, within.open)


def plain(name: str, value: Any) -> str | int | float | bool:
    """A Python value as an expression keeps it: dates and times as ISO 8601. Raises QueryError for others."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and not hasattr(value, "item"):
        if value != value:
            raise QueryError(f"{name}: NaN equals nothing; ask for what is absent with {name}__missing=True")
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a NumPy scalar
        return plain(name, value.item())
    if hasattr(value, "to_pydatetime"):
        return plain(name, value.to_pydatetime())
    raise QueryError(
        f"{name}: a value of type {type(value).__name__} cannot be compared; give text, a number or a date"
    )
