"""Keyword arguments to expressions: `Modality="CT"`, `SliceThickness=(None, 1.5)`, `KVP__ge=100`.

Suffixes follow a name after two underscores, in any order: `KVP__all__ge`. As no keyword of PS3.6 has two
underscores, they stand for the dot of a path as well: `label__quality__ge=3`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from dicomlake.catalog.query.expressions import Condition, Expression, Not, Operand, Operator
from dicomlake.catalog.query.facts import Fact
from dicomlake.catalog.query.fragments import clean
from dicomlake.catalog.query.predicates import check
from dicomlake.catalog.query.sources import is_fact, resolve
from dicomlake.catalog.query.spans import plain
from dicomlake.catalog.query.spelling import near
from dicomlake.errors import QueryError

_FLAGS = ("all", "any", "exact", "count")
_RANGES = ("ge", "gt", "le", "lt")
_TEXT_TESTS = ("like", "regex", "contains", "startswith", "endswith")
SUFFIXES = (*_FLAGS, *_RANGES, *_TEXT_TESTS, "ne", "in", "missing", "empty")
_SUFFIX = re.compile(r"(.+)__([A-Za-z]+)", re.DOTALL)
_UNDERSCORES = re.compile(r"__(?![^\[]*\])")


class Name(NamedTuple):
    """A name without its suffixes."""

    path: str
    suffixes: frozenset[str]

    @property
    def operator(self) -> str | None:
        """The one suffix that says how to compare."""
        return next((one for one in self.suffixes if one not in _FLAGS), None)


def conditions(wanted: Mapping[str, Any]) -> tuple[Expression, ...]:
    """The expressions that keyword arguments describe, one each; see `keyword`."""
    return tuple(keyword(name, value) for name, value in wanted.items())


def keyword(name: str, value: Any) -> Expression:
    """What one keyword argument describes.

    A scalar is exact, or a pattern when it is text with * or ?; a list or set is any of its members; a pair
    (lo, hi) is a closed range. Raises QueryError naming what cannot be understood.
    """
    return built(name, read_name(name), value)


def read_name(name: str) -> Name:
    """Path and suffixes. Raises QueryError for a path or a suffix that does not exist."""
    rest, suffixes = name.strip(), set[str]()
    while (found := _SUFFIX.fullmatch(rest)) and found[2] in SUFFIXES:
        rest = found[1]
        suffixes.add(found[2])
    path = ".".join(_UNDERSCORES.split(rest))
    try:
        resolve(path)
    except QueryError as error:
        _refuse_suffix(rest, error)
        raise
    if len(suffixes - set(_FLAGS)) > 1:
        raise QueryError(f"{name!r}: one comparison at a time; {' and '.join(sorted(suffixes))} are several")
    return Name(path if is_fact(path) else str(resolve(path)), frozenset(suffixes))


def _refuse_suffix(rest: str, cause: QueryError) -> None:
    """Raise QueryError when the last word was meant as a suffix."""
    found = _SUFFIX.fullmatch(rest)
    if not found or not found[2].islower() or is_fact(found[1]):
        return
    close = near(found[2], SUFFIXES, 2) or [one for one in ("ge", "le") if one in found[2]]
    meant = f"; did you mean __{' or __'.join(close)}?" if close else "."
    raise QueryError(
        f"{rest!r}: {found[2]!r} is no comparison{meant} There are {', '.join(sorted(SUFFIXES))}."
    ) from cause


def built(told: str, name: Name, value: Any) -> Expression:
    """The expression for a value as given. told: the name as it was written, for errors."""
    if "count" in name.suffixes:
        return _checked(told, name, "count", _counts(told, name, value))
    operator = name.operator
    if operator in ("missing", "empty"):
        if not isinstance(value, bool):
            raise QueryError(f"{told}: say True or False")
        return _checked(told, name, operator, (value,))
    if isinstance(value, str) and not value.strip() and not (name.suffixes - {"ne", "any"}):
        empty = _checked(told, name, "empty", (True,))  # as PS3.4 writes it: there, without a value
        return Not(empty) if operator == "ne" else empty
    if name.path == "text":
        return _checked(told, name, "search", (_text(told, value),))
    if operator in _RANGES:
        return _checked(told, name, operator, (_scalar(told, value),))
    if isinstance(value, tuple):
        return _of_tuple(told, name, value)
    several = isinstance(value, list | set | frozenset)
    members = tuple(
        _scalar(told, member)
        for member in (
            sorted(value, key=repr) if isinstance(value, set | frozenset) else value if several else [value]
        )
    )
    if operator in _TEXT_TESTS:
        return _checked(told, name, operator, tuple(_text(told, member) for member in members))
    found = _checked(told, name, "is", members)
    return Not(found) if operator == "ne" else found


def _of_tuple(told: str, name: Name, value: tuple[Any, ...]) -> Expression:
    if name.path == "shape" and name.operator is None:
        return _checked(told, name, "shape", tuple(_length(told, one) for one in value))
    if name.operator is not None:
        raise QueryError(f"{told}: a pair (low, high) is a range by itself; for several values give a list")
    return _checked(told, name, "between", _pair(told, value))


def _pair(told: str, value: tuple[Any, ...]) -> tuple[Operand, Operand]:
    if len(value) != 2:
        raise QueryError(f"{told}: a range is a pair (low, high); for several values give a list")
    low, high = (None if bound is None else _scalar(told, bound) for bound in value)
    if low is not None and high is not None and isinstance(low, str) != isinstance(high, str):
        raise QueryError(f"{told}: both ends of a range must be numbers, or both text")
    return low, high


def _length(told: str, value: Any) -> Operand:
    if isinstance(value, tuple):
        return _pair(told, value)
    return None if value is None else _scalar(told, value)


def _counts(told: str, name: Name, value: Any) -> tuple[Operand, Operand]:
    """The fewest and the most values asked for."""
    if isinstance(value, tuple) and name.operator is None:
        low, high = _pair(told, value)
    else:
        number = _scalar(told, value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise QueryError(f"{told}: a number of values is a whole number, or a pair (fewest, most)")
        bounds = {"ge": (number, None), "gt": (number + 1, None), "le": (0, number), "lt": (0, number - 1)}
        low, high = bounds.get(name.operator or "", (number, number))
    if not all(bound is None or isinstance(bound, int) for bound in (low, high)):
        raise QueryError(f"{told}: a number of values is a whole number")
    return low, high


def _scalar(told: str, value: Any) -> str | int | float | bool:
    found = plain(told, value)
    if not isinstance(found, str):
        return found
    if not found.strip():
        raise QueryError(
            f"{told}: an empty text is no value; __empty=True finds elements without a value, "
            "__missing=True series without any"
        )
    return clean(found)


def _text(told: str, value: Any) -> str:
    found = _scalar(told, value)
    return found if isinstance(found, str) else str(found)


def _checked(told: str, name: Name, operator: str, values: tuple[Operand, ...]) -> Condition:
    every, exact = "all" in name.suffixes, "exact" in name.suffixes
    if every and operator in ("missing", "empty", "search"):
        raise QueryError(f"{told}: __all does not go with {operator}")
    source = resolve(name.path)
    if isinstance(source, Fact) and operator in ("empty", "count"):
        raise QueryError(f"{told}: __{operator} is for elements")
    if (
        not isinstance(source, Fact)
        and any(isinstance(v, bool) for v in values)
        and operator not in ("missing", "empty")
    ):
        raise QueryError(f"{told}: a value of type bool cannot be compared; give text, a number or a date")
    condition = Condition(name.path, cast(Operator, operator), values, every, exact)
    check(condition)
    return condition
