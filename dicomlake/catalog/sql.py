"""SQL for users: one SELECT at a time, on the documented tables, without a way out of them.

Two walls stand one behind the other. The statement is read as a tree before it runs, and may name the
documented tables, what it defines itself, and functions that compute. And the database beneath has no files
but the mirror's, no extensions, and settings that are locked.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dicomlake.catalog.mirror.tables import OLDER, TABLES
from dicomlake.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from dicomlake.catalog.session import Session

_SHOWN_ROWS = 20
_NEAR = 3  # names that are suggested
_NEXT_LINE = "\n" * 1000  # tells lines of an EXPLAIN from those of the statement
_LONGEST = 1 << 20  # characters of a statement
_DEEPEST = 200  # levels of its tree
_TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"}
)
_FUNCTIONS_REFUSED = re.compile(
    r"(pg_(?!typeof$|size_pretty$)|has_|duckdb_|pragma_|enable_|disable_|verify_|force_|inet_|read_|parquet_|sniff_|"
    r"test_|txid_|copy_|import_|getenv|getvariable|current_(?!date$|timestamp$|time$|localtime)|error$|assert_true$|"
    r"sleep|write_|nextval$|currval$|setval$|setseed$|query|json_execute|json_serialize_plan|which_|in_search_path$|"
    r"user|session_user$|version$|platform$|(col|obj|shobj)_description$|glob$|(show|database|table|metadata|storage)"
    r"(_|s?$)|stats$|functions$|collations$|extension_|get_block_size$|vector_type$|map_to_pg_oid$)"
)


class Answer:
    """The answer to a SELECT, computed when it is asked for: `df()`, `polars()`, `arrow()`, `rows()`.

    Each raises QueryError, without a value of the data, when the statement fails on the data.
    """

    def __init__(self, session: Session, connection: DuckDBPyConnection, relation: DuckDBPyRelation) -> None:
        self._session = session
        self._connection = connection
        self._relation: Any = relation

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self._relation.columns)

    @property
    def relation(self) -> DuckDBPyRelation:
        """The relation of DuckDB, for further work on it; its errors are DuckDB's own."""
        relation: DuckDBPyRelation = self._relation
        return relation

    def df(self) -> pd.DataFrame:
        """A pandas DataFrame."""
        found: pd.DataFrame = self._fetched(self._relation.df)
        return found

    def polars(self) -> Any:
        """A polars DataFrame. Raises QueryError where polars is not installed."""
        polars = _module("polars")
        if not _has("pyarrow"):
            names, rows = self.columns, self.rows()
            return polars.DataFrame({n: [r[i] for r in rows] for i, n in enumerate(names)}, strict=False)
        return self._fetched(self._relation.pl)

    def arrow(self) -> Any:
        """An Arrow table. Raises QueryError where pyarrow is not installed."""
        _module("pyarrow")
        return self._fetched(self._relation.to_arrow_table)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples."""
        found: list[tuple[Any, ...]] = self._fetched(self._relation.fetchall)
        return found

    fetchall = rows

    def fetchnumpy(self) -> dict[str, Any]:
        """Column -> array."""
        found: dict[str, Any] = self._fetched(self._relation.fetchnumpy)
        return found

    def interrupt(self) -> None:
        """End the query; who waits for it gets QueryError. May be called from another thread."""
        self._connection.interrupt()

    def _fetched(self, fetch: Callable[[], Any]) -> Any:
        with _wrapped(self._session):
            return fetch()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def __repr__(self) -> str:
        return f"<Answer with columns {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        rows = self._fetched(self._relation.limit(_SHOWN_ROWS + 1).fetchall)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        lines = [
            "<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>" for row in rows[:_SHOWN_ROWS]
        ]
        more = "<p>There are more rows: .df() has all.</p>" if len(rows) > _SHOWN_ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def select(session: Session, query: str) -> Answer:
    """The answer to one SELECT on the documented tables.

    Raises QueryError for anything else, and for what DuckDB cannot run. Its text says what is wrong and
    where, and quotes neither the statement nor the data.
    """
    with _wrapped(session):
        require_harmless(session.cursor(), query)
        connection = session.cursor(query)
        connection.begin()  # what is fetched later is as of now
        return Answer(session, connection, _planned(connection, query))


def _planned(connection: DuckDBPyConnection, query: str) -> DuckDBPyRelation:
    import duckdb

    try:
        return connection.sql(query)
    except duckdb.BinderException:  # it does not say where; EXPLAIN, which plans and does no more, does
        connection.execute(f"EXPLAIN{_NEXT_LINE}{query}")
        raise


def require_harmless(connection: DuckDBPyConnection, query: str) -> None:
    """Raise QueryError for all but one SELECT that reads the documented tables and computes."""
    import duckdb

    if len(query) > _LONGEST:
        raise QueryError(f"the SQL is longer than {_LONGEST:,} characters: ask in parts")
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError("only a single SELECT can be asked: the mirror is read-only")
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0]
    tree = json.loads(text)
    if tree.get("error"):
        raise QueryError("only a SELECT can be asked; write PIVOT as count(*) FILTER (WHERE …)")
    _require(tree["statements"], frozenset(), 0)


def _require(node: Any, defined: frozenset[str], depth: int) -> None:
    if depth > _DEEPEST:
        raise QueryError("the SQL is nested too deeply: ask in parts")
    if isinstance(node, list):
        for one in node:
            _require(one, defined, depth + 1)
    elif isinstance(node, dict):
        defined = _with_ctes(node, defined, depth)
        if node.get("type") == "RECURSIVE_CTE_NODE":
            defined |= {str(node.get("cte_name", "")).lower()}
        _require_known(node, defined)
        for name, one in node.items():
            if name != "cte_map" and isinstance(one, dict | list):
                _require(one, defined, depth + 1)


def _with_ctes(node: dict[str, Any], defined: frozenset[str], depth: int) -> frozenset[str]:
    """What is defined behind a WITH; each part sees those before it, and not itself."""
    ctes = node.get("cte_map")
    for one in ctes.get("map", ()) if isinstance(ctes, dict) else ():
        name = str(one["key"])
        if not _PLAIN_NAME.fullmatch(name) or _HIDDEN.match(name.lower()):
            raise QueryError("WITH names what cannot be a name here: take a word of letters and digits")
        _require(one["value"], defined, depth + 1)
        defined |= {name.lower()}
    return defined


def _require_known(node: dict[str, Any], defined: frozenset[str]) -> None:
    """Raise QueryError when a node reads what is no documented table, or calls what does not only compute."""
    kind = node.get("type")
    if kind == "BASE_TABLE":
        place = (str(node.get("catalog_name")).lower(), str(node.get("schema_name")).lower())
        name = str(node.get("table_name")).lower()
        documented = (name in TABLES or name in OLDER) and place in _PLACES
        if not documented and not (name in defined and place == ("", "")):
            raise QueryError(f"there is no such table; there are {', '.join(TABLES)}")
    elif kind == "SHOW_REF":
        if node.get("query") is None:
            raise QueryError(
                f"SHOW is not answered; the tables are {', '.join(TABLES)}: DESCRIBE one of them"
            )
    elif kind == "TABLE_FUNCTION":
        name = str((node.get("function") or {}).get("function_name")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(
                "functions that read files or settings cannot be asked: the tables are all there is"
            )
    elif (
        (not isinstance(kind, str) or kind not in _TABLES_KNOWN)
        and "ref_type" not in node
        and "column_name_alias" in node
    ):
        raise QueryError("this kind of FROM cannot be asked")
    if "function_name" in node and _FUNCTIONS_REFUSED.match(str(node["function_name"]).lower()):
        raise QueryError("a function of the SQL is refused: those that compute can be asked, and no others")


_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_HIDDEN = re.compile(r"tail_|closed_|given_|values_|duckdb_|pragma_|sqlite_|pg_|information_schema")
_PLACES = (("", ""), ("", "main"), ("memory", "main"))
_TABLES_KNOWN = frozenset({"SUBQUERY", "EXPRESSION_LIST", "EMPTY", "JOIN", "PIVOT"})


@contextmanager
def _wrapped(session: Session) -> Iterator[None]:
    """DuckDB's errors as QueryError; their texts hold values of the data and of the statement."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if session.mended(error):
            raise QueryError("a part of the mirror was damaged and is made again: ask once more") from None
        raise QueryError(_told(error)) from None


def _told(error: Exception) -> str:
    kind = type(error).__name__
    what = _KINDS.get(kind, f"the SQL cannot be run ({kind.removesuffix('Exception').lower()} error)")
    text = str(error)
    candidates = _CANDIDATES.search(text)
    known = {*TABLES, *(column for table in TABLES.values() for column in table.columns)}
    near = [n for n in re.findall(r'"(\w+)"', candidates[1]) if n in known] if candidates else []
    return (
        what + _place(text) + (f": did you mean {' or '.join(dict.fromkeys(near[:_NEAR]))}?" if near else "")
    )


_CANDIDATES = re.compile(r"(?:Candidate bindings: |Did you mean )(.*)")
_KINDS = {
    "ParserException": "the SQL cannot be read",
    "BinderException": "a name or the types of an expression in the SQL are wrong",
    "CatalogException": "the SQL names a table or a function that does not exist",
    "ConversionException": "a value cannot be converted; TRY_CAST gives NULL for such values",
    "OutOfRangeException": "a number is out of range; TRY_CAST gives NULL for such values",
    "InvalidInputException": "a function cannot work with a value",
    "OutOfMemoryException": "the answer needs more memory than there is: ask for less",
    "InterruptException": "the query was interrupted",
    "PermissionException": "files cannot be read by SQL: the tables are all there is",
}


def _place(text: str) -> str:
    """Where DuckDB points to in the statement, counted from 1; nothing where it does not say."""
    found = re.search(r"^LINE (\d+): (\.\.\.)?.*\n( *)\^", text, re.MULTILINE)
    if not found:
        return ""
    column = len(found[3]) - len(f"LINE {found[1]}: ") + 1
    line = int(found[1]) - (len(_NEXT_LINE) if int(found[1]) > len(_NEXT_LINE) else 0)
    return f" (line {line})" if found[2] else f" (line {line}, column {column})"


def _cell(value: Any) -> str:
    return "" if value is None else html.escape(str(value))


def _has(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise QueryError(f"{name} is not installed: `pip install {name}`, or take .df() or .rows()") from None
