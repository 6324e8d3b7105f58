"""The files of a mirror: written from rows, merged, and read as tables of DuckDB."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dicomlake.catalog.mirror.state import SMALL, Held, Part
from dicomlake.catalog.mirror.tables import Row, Table
from dicomlake.catalog.query.fragments import clean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PARQUET = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440"
_LINE = 1 << 16  # DuckDB takes twice as much memory for each file that it reads
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Files:
    """The parts of a mirror in one folder, or in two: what one that cannot be written lacks is in `own`."""

    def __init__(self, home: Path, own: Path) -> None:
        self.home, self.own = home, own

    def path(self, name: str) -> Path:
        """Where a part is."""
        own = self.own / name
        return own if self.own == self.home or own.exists() else self.home / name

    def write(self, connection: DuckDBPyConnection, table: Table, rows: Sequence[Row]) -> Part | None:
        """A new part of some rows; None of none.

        They hold what identifies patients, so their file lies in the lake and not in a folder for temporary
        ones.
        """
        if not rows:
            return None
        name = _new_name(table, "jsonl")
        path = self.own / name
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{_ENCODE(_written(row))}\n" for row in rows)
        keys = [row[table.key] for row in rows]
        part = Part(name, len(rows), path.stat().st_size, min(keys), max(keys), len(set(keys)))
        if len(rows) <= SMALL:
            return part
        try:
            return self._parquet(connection, table, json_rows(table, [path]))
        finally:
            path.unlink()

    def merge(
        self, connection: DuckDBPyConnection, table: Table, held: Held, parts: Sequence[Part]
    ) -> Part | None:
        """One part of some, without the closed rows; None when no row is left."""
        return self._parquet(connection, table, _in_force(table, held, self.source(table, parts)))

    def retire(self, parts: Iterable[Part]) -> None:
        """From now on nobody begins to read these: the time until they are swept counts from here."""
        for part in parts:
            with suppress(OSError):  # of a folder that cannot be written, or gone already
                os.utime(self.own / part.name)

    def _parquet(self, connection: DuckDBPyConnection, table: Table, source: str) -> Part | None:
        name = _new_name(table, "parquet")
        path = self.own / name
        connection.execute(f"COPY (FROM {source} ORDER BY {table.order}) TO {literal(path)} ({_PARQUET})")
        rows, low, high, keys = connection.execute(
            f"SELECT count(*), min({table.key}), max({table.key}), approx_count_distinct({table.key}) "
            f"FROM read_parquet({literal(path)})"
        ).fetchall()[0]
        if not rows:
            path.unlink()
            return None
        return Part(name, rows, path.stat().st_size, low, high, keys)

    def source(self, table: Table, parts: Iterable[Part]) -> str:
        """A FROM item of all rows of some parts."""
        paths = {small: [self.path(p.name) for p in parts if p.small == small] for small in (True, False)}
        sources = [json_rows(table, paths[True])] if paths[True] else []
        sources += [f"read_parquet({literal(paths[False])})"] if paths[False] else []
        return "(" + " UNION ALL ".join(f"SELECT {table.listed} FROM {one}" for one in sources) + ")"


def _in_force(table: Table, held: Held, source: str) -> str:
    """A FROM item without the closed rows."""
    tests = [f"{table.key} NOT IN {_numbers(held.closed)}"] if held.closed else []
    tests += [f"series_id NOT IN {_numbers(held.closed_series)}"] if held.closed_series else []
    return f"(FROM {source} WHERE {' AND '.join(tests)})" if tests else source


def _numbers(ids: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, ids)) + ")"


def _new_name(table: Table, kind: str) -> str:
    """Never one that somebody reads."""
    return f"{table.name}-{secrets.token_hex(8)}.{kind}"


def _written(row: Row) -> Row:
    return {name: clean(value) if isinstance(value, str) else value for name, value in row.items()}


def json_rows(table: Table, paths: Sequence[Path]) -> str:
    """A FROM item of the rows of JSON lines."""
    longest = max(_LINE, *(path.stat().st_size for path in paths))  # as long as a line can be
    options = f"format = 'newline_delimited', columns = {table.columns!r}, maximum_object_size = {longest}"
    return f"read_json({literal(paths)}, {options})"


def literal(value: Path | Sequence[Path]) -> str:
    """Paths in SQL; a folder's name may hold a quote."""
    if isinstance(value, Path):
        return "'" + str(value).replace("'", "''") + "'"
    return f"[{', '.join(map(literal, value))}]"
