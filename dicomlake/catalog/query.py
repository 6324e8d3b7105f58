"""Conditions on elements to series: `Modality="CT"`, `SliceThickness=(None, 1.5)`, `EchoTime=[10, 20]`.

A series matches a condition when any of its instances holds a value that does, in any item and at any
position of a multi-valued element. Scans run on the mirror; where an element has more values in a series
than the mirror lists, the series' own headers decide.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dicomlake.catalog.attributes import flatten
from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.dicom import standard, values
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Scalar = str | int | float
_ISO_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_HARMLESS_VRS = frozenset({"CS", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"})
_PRIVATE = re.compile(r'([0-9A-Fa-f]{4}),xx([0-9A-Fa-f]{2})\["(.+)"\]')
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")
_COMPARISON = re.compile(r"\s*(?P<path>[^<>=!~]+?)\s*(?P<sign><=|>=|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)


class Test(Protocol):
    """What a value must be."""

    def sql(self) -> tuple[str, list[Any]]:
        """The same as an SQL expression over `text` and `low`, with its parameters."""

    def holds(self, text: str, number: float | None) -> bool:
        """Whether one value passes."""

    def may_hold(self) -> tuple[str, list[Any]]:
        """An SQL expression over `low` and `high` of a summary row that no passing series fails."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to one of these; numbers compare as numbers."""

    texts: tuple[str, ...]
    numbers: tuple[float, ...]

    def sql(self) -> tuple[str, list[Any]]:
        return "(list_contains(?, text) OR list_contains(?, low))", [list(self.texts), list(self.numbers)]

    def holds(self, text: str, number: float | None) -> bool:
        return text in self.texts or (number is not None and number in self.numbers)

    def may_hold(self) -> tuple[str, list[Any]]:
        return "true", []


@dataclass(frozen=True, slots=True)
class Between:
    """Within a range; None leaves a side open, on both sides it asks for any value.

    Text ranges compare text, which suits dates and times.
    """

    low: Scalar | None
    high: Scalar | None
    low_open: bool = False
    high_open: bool = False

    @property
    def _numeric(self) -> bool:
        return isinstance(self.low, int | float) or isinstance(self.high, int | float)

    def sql(self) -> tuple[str, list[Any]]:
        column = "low" if self._numeric else "text"
        parts, parameters = [f"{column} IS NOT NULL", "text <> ''"], list[Any]()
        for bound, sign in (
            (self.low, ">" if self.low_open else ">="),
            (self.high, "<" if self.high_open else "<="),
        ):
            if bound is not None:
                parts.append(f"{column} {sign} ?")
                parameters.append(bound)
        return "(" + " AND ".join(parts) + ")", parameters

    def holds(self, text: str, number: float | None) -> bool:
        value: Any = number if self._numeric else text
        if value is None or text == "":
            return False
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        below = self.high is None or (value < self.high if self.high_open else value <= self.high)
        return bool(above and below)

    def may_hold(self) -> tuple[str, list[Any]]:
        if not self._numeric:
            return "true", []
        parts, parameters = ["true"], list[Any]()
        if self.low is not None:
            parts.append("high >= ?")
            parameters.append(self.low)
        if self.high is not None:
            parts.append("low <= ?")
            parameters.append(self.high)
        return " AND ".join(parts), parameters


@dataclass(frozen=True, slots=True)
class Like:
    """Matches wildcards: * for any text, ? for one character (PS3.4 C.2.2.2.4)."""

    pattern: str

    @property
    def _regex(self) -> str:
        return "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in self.pattern)

    def sql(self) -> tuple[str, list[Any]]:
        return "(text <> '' AND regexp_full_match(text, ?, 's'))", [self._regex]

    def holds(self, text: str, number: float | None) -> bool:  # noqa: ARG002  the Protocol's
        return text != "" and re.fullmatch(self._regex, text, re.DOTALL) is not None

    def may_hold(self) -> tuple[str, list[Any]]:
        return "true", []


@dataclass(frozen=True, slots=True)
class Condition:
    """An element and what a value of it must be.

    words: as it was asked. As text, a condition shows no value that may identify a patient.
    """

    path: str
    creator: str | None
    test: Test
    words: str

    def __str__(self) -> str:
        tag = standard.tag_of(self.path.rsplit(".", 1)[-1])
        harmless = tag is not None and tag >> 16 != 0x0010 and standard.vr_of(tag) in _HARMLESS_VRS
        return self.words if harmless else f"{self.path} …"


def conditions(wanted: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions that keyword arguments describe.

    A scalar is exact, or a pattern when it is text with * or ?; a list or set is any of its members;
    a pair (lo, hi) is a closed range. Raises QueryError naming what cannot be understood.
    """
    return tuple(_condition(name, value) for name, value in wanted.items())


def parse(text: str) -> Condition:
    """A condition as written on a command line: `Modality=CT`, `SliceThickness<1.5`, `EchoTime=10,20`."""
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise QueryError(f"{text!r} is no condition: write Keyword=value, Keyword<value or Keyword>=value")
    path, creator = _path(found["path"])
    sign, value = found["sign"], _as_stored(path, found["value"])
    if sign == "=":
        members = value.split(",")
        test: Test = Like(value) if _has_wildcard(value) and len(members) == 1 else _one_of_written(members)
    elif sign[0] == ">":
        test = Between(_written_bound(path, value), None, low_open=sign == ">")
    else:
        test = Between(None, _written_bound(path, value), high_open=sign == "<")
    return Condition(path, creator, test, text)


def _one_of_written(members: Sequence[str]) -> OneOf:
    """Written values are text, and numbers as well where they can be: 007 finds a PatientID and a number."""
    return OneOf(tuple(members), tuple(n for m in members if (n := values.number("DS", m)) is not None))


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _condition(name: str, value: Any) -> Condition:
    path, creator = _path(name)
    return Condition(path, creator, _test(path, value), f"{name}={value!r}")


def _test(path: str, value: Any) -> Test:
    if isinstance(value, tuple):
        if len(value) != 2:
            raise QueryError(f"{path}: a range is a pair (low, high); for several values give a list")
        low, high = (None if bound is None else _bound(path, _plain(path, bound)) for bound in value)
        if low is not None and high is not None and isinstance(low, str) != isinstance(high, str):
            raise QueryError(f"{path}: both ends of a range must be numbers, or both text")
        return Between(low, high)
    if isinstance(value, list | set | frozenset):
        return _one_of([_plain(path, member) for member in value], _vr(path))
    plain = _plain(path, value)
    if isinstance(plain, str) and _has_wildcard(plain):
        return Like(plain)
    return _one_of([plain], _vr(path))


def _bound(path: str, bound: Scalar) -> Scalar:
    """An end of a range as a number for elements that hold numbers, as text for those that do not."""
    vr = _vr(path)
    if vr == "UN":  # private: what is given is what is meant
        return bound
    if vr in (values.TEXT_VRS - values.NUMERIC_TEXT_VRS - {"AS"}) | {"AT"}:
        return str(bound)
    number = values.number("DS", str(bound))
    if number is not None:
        return number
    raise QueryError(f"{path} holds numbers: a range of it needs numbers")


def _written_bound(path: str, value: str) -> Scalar:
    """An end of a range that comes as text: of an unknown element, a number where it can be one."""
    number = values.number("DS", value) if _vr(path) == "UN" else None
    return _bound(path, value) if number is None else number


def _vr(path: str) -> str:
    """The VR that PS3.6 gives the element at the end of a path; UN where it gives none."""
    tag = standard.tag_of(path.rsplit(".", 1)[-1])
    return "UN" if tag is None else standard.vr_of(tag)


def _plain(name: str, value: Any) -> Scalar:
    import datetime

    if isinstance(value, datetime.date):  # a datetime, too, means its day in an element of VR DA
        return value.strftime("%Y%m%d")
    if isinstance(value, str):
        return _as_stored(name, value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        if hasattr(value, "item"):  # a NumPy scalar
            return _plain(name, value.item())
        raise QueryError(
            f"{name}: a value of type {type(value).__name__} cannot be compared; give text or a number"
        )
    return value


def _as_stored(path: str, text: str) -> str:
    """A date as DICOM writes it: 2024-03-15 is 20240315 in an element of VR DA."""
    return _ISO_DATE.sub(r"\1\2\3", text) if _vr(path) == "DA" else text


def _one_of(members: Sequence[Scalar], vr: str) -> OneOf:
    """Text counts as a number, too, where the element holds numbers: "1.5" finds 1.50."""
    texts = tuple(str(m) for m in members if isinstance(m, str | int))
    numbers = [float(m) for m in members if not isinstance(m, str)]
    if vr in values.NUMBER_VRS:
        written = (values.number("DS", m) for m in members if isinstance(m, str))
        numbers += [number for number in written if number is not None]
    return OneOf(texts, tuple(numbers))


def _path(name: str) -> tuple[str, str | None]:
    """The path of an element as the catalog writes it, and its private creator."""
    name = name.strip()
    private = _PRIVATE.fullmatch(name)
    if private:
        return f'{private[1].lower()},xx{private[2].upper()}["{private[3]}"]', private[3]
    parts = [_part(part, name) for part in re.split(r"\.(?![^\[]*\])", name)]
    return ".".join(parts), None


def _part(part: str, name: str) -> str:
    if _PRIVATE.fullmatch(part):
        return _path(part)[0]
    tag = _TAG.fullmatch(part)
    if tag:
        entry = standard.lookup(int(tag[1] + tag[2], 16))
        return entry[1] if entry and entry[1] else f"{tag[1]},{tag[2]}".upper()
    if part not in standard.keywords():
        close = difflib.get_close_matches(part, sorted(standard.keywords()), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise QueryError(f"{name!r} is not a keyword of PS3.6{hint} Write a tag as '0018,0081'.")
    return part


_ALL = """
SELECT series_id FROM series
ORDER BY PatientID, coalesce(StudyDate, ''), StudyInstanceUID, coalesce(SeriesNumber, 0), SeriesInstanceUID
"""


def matching(
    connection: DuckDBPyConnection,
    wanted: Sequence[Condition],
    headers_of: Callable[[int], SeriesHeaders],
) -> list[int]:
    """Ids of the series that meet all conditions, by patient, study and SeriesNumber.

    headers_of: reads the full headers of a series, for those the mirror cannot decide.
    """
    ordered = [int(i) for (i,) in connection.execute(_ALL).fetchall()]
    ids = set(ordered)
    for condition in wanted:
        ids &= _matching_one(connection, condition, ids, headers_of)
    return [i for i in ordered if i in ids]


def _matching_one(
    connection: DuckDBPyConnection,
    condition: Condition,
    among: set[int],
    headers_of: Callable[[int], SeriesHeaders],
) -> set[int]:
    sql, parameters = condition.test.sql()
    listed = connection.execute(
        f"SELECT DISTINCT series_id FROM attribute WHERE path = ? AND text IS NOT NULL AND {sql}",
        [condition.path, *parameters],
    ).fetchall()
    found = {int(i) for (i,) in listed} & among
    sql, parameters = condition.test.may_hold()
    summed = connection.execute(
        f"SELECT DISTINCT series_id FROM attribute WHERE path = ? AND text IS NULL AND {sql}",
        [condition.path, *parameters],
    ).fetchall()
    undecided = ({int(i) for (i,) in summed} & among) - found
    return found | {i for i in undecided if _holds(condition, headers_of(i))}


def _holds(condition: Condition, headers: SeriesHeaders) -> bool:
    for _uid, attributes in headers:
        for key, text in flatten(attributes):
            if key.path == condition.path and condition.test.holds(text, values.number(key.vr, text)):
                return True
    return False
