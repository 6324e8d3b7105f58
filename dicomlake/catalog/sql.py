"""SQL for users: one SELECT at a time, on the mirror, without a way out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicomlake.errors import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation


def select(connection: DuckDBPyConnection, query: str) -> DuckDBPyRelation:
    """The relation of one SELECT. Raises QueryError for anything else, and for what DuckDB cannot run."""
    import duckdb

    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise QueryError("only a single SELECT can be asked: the mirror is read-only")
        relation = connection.sql(query)
    except duckdb.Error as error:
        raise QueryError(f"the SQL cannot be run: {error}") from error
    return relation
