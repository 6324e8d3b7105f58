"""Adding and closing rows, many in one statement; what every table whose rows are closed by v_to shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Table, bindparam, insert, update
from sqlalchemy.exc import DBAPIError

from dicomlake.catalog.schema import row_digest

_Item = TypeVar("_Item")
_MANY = 500  # bound parameters in a statement


def add(connection: Connection, table: Table, v: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows that are in force from change v on. NUL is stripped from text: PostgreSQL refuses it."""
    stamped = [_stamped(row, v, None) for row in rows]
    if stamped:
        connection.execute(insert(table), stamped)


def add_closed(connection: Connection, table: Table, v: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows that say what change v did and are in force at no change: v_to is v."""
    stamped = [_stamped(row, v, v) for row in rows]
    if stamped:
        connection.execute(insert(table), stamped)


def close(connection: Connection, table: Table, v: int, rows: Iterable[RowMapping]) -> None:
    """Close rows, given whole as they were read."""
    closed = [dict(row) | {"v_to": v} for row in rows]
    if closed:
        statement = update(table).where(table.c.id == bindparam("row_id"))
        statement = statement.values(v_to=v, digest=bindparam("row_digest"))
        connection.execute(
            statement, [{"row_id": row["id"], "row_digest": row_digest(row)} for row in closed]
        )


def run(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """Run a statement, with a "?" for each value, on the driver's connection; returns its cursor.

    For what is done for every object that arrives: under the write lock, the tenth of a millisecond that
    SQLAlchemy spends on each statement counts. Raises DBAPIError, as SQLAlchemy does.
    """
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name != "sqlite":
        statement = statement.replace("?", "%s")
    try:
        return raw.execute(statement, values)
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(statement, None, error, hide_parameters=True) from error


def in_parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """The items in parts, each small enough for one IN condition."""
    for start in range(0, len(items), _MANY):
        yield items[start : start + _MANY]


def _stamped(row: Mapping[str, Any], v: int, v_to: int | None) -> dict[str, Any]:
    clean: dict[str, Any] = {
        name: value.replace("\0", "") if isinstance(value, str) else value for name, value in row.items()
    }
    clean |= {"v_from": v, "v_to": v_to}
    return clean | {"digest": row_digest(clean)}
