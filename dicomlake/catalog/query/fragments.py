"""Pieces of SQL with their parameters, put together without ever mixing text of a user into SQL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

Parameter = str | float | int | bool | list[Any] | None


class Sql(NamedTuple):
    """SQL in which `?` stands for each parameter, and for nothing else."""

    text: str
    parameters: tuple[Parameter, ...] = ()

    def __str__(self) -> str:
        """The same with the parameters written out as literals."""
        literals = iter(self.parameters)
        parts = self.text.split("?")
        return parts[0] + "".join(literal(next(literals)) + part for part in parts[1:])


TRUE, FALSE = Sql("true"), Sql("false")


def either(parts: Iterable[Sql]) -> Sql:
    """Any of these; false when there is none."""
    return _joined(" OR ", parts, FALSE)


def every(parts: Iterable[Sql]) -> Sql:
    """All of these; true when there is none."""
    return _joined(" AND ", parts, TRUE)


def _joined(word: str, parts: Iterable[Sql], none: Sql) -> Sql:
    found = list(parts)
    if len(found) < 2:
        return found[0] if found else none
    return Sql(
        f"({word.join(part.text for part in found)})", tuple(p for part in found for p in part.parameters)
    )


def sql(template: str, *parts: Sql) -> Sql:
    """A template with `{}` for each part."""
    return Sql(template.format(*(p.text for p in parts)), tuple(v for p in parts for v in p.parameters))


def literal(value: Parameter) -> str:
    """A value as DuckDB reads it in SQL; in a text only the quote has a meaning, and it is doubled."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, int):
        return str(value)
    return repr(value) if math.isfinite(value) else f"'{value}'::DOUBLE"


def clean(text: str) -> str:
    """Text as the database can hold it: without NUL, which the mirror leaves out, and half characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
