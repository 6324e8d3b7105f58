"""Tables of DuckDB with the columns of the catalog's, filled with rows that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from sqlalchemy import Float, Integer

_BOOKKEEPING = ("id", "v_from", "v_to", "digest")


def fill(
    session: duckdb.DuckDBPyConnection, name: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """A table of these columns, in place of a former one."""
    lists = ", ".join(f'unnest(?::{kind}[]) AS "{column}"' for column, kind in types.items())
    values = [[_bare(row.get(column)) for row in rows] for column in types]
    session.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {lists}", values)


def _bare(value: Any) -> Any:
    return value.replace("\0", "") if isinstance(value, str) else value


def types_of(table: Any) -> dict[str, str]:
    """Columns of a table of the catalog as DuckDB has them."""
    found = {}
    for column in table.c:
        if column.name not in _BOOKKEEPING:
            kind = "DOUBLE" if isinstance(column.type, Float) else "VARCHAR"
            found[column.name] = "BIGINT" if isinstance(column.type, Integer) else kind
    return found
