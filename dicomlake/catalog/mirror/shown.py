"""The parts of a mirror as tables of one DuckDB database in memory, which reads its folder and nothing else.

Small parts are copied into memory once; the others are read where they lie. Statements run on cursors of
their own, so threads do not meet, and a refresh replaces what is shown in one transaction.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakSet

import numpy as np

from dicomlake.catalog.mirror.parts import Files, json_rows, literal
from dicomlake.catalog.mirror.state import Held, Part
from dicomlake.catalog.mirror.tables import OLDER, Table
from dicomlake.errors import CatalogError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ORDER = "order"
"""What is kept about the order of all series (`Shown.kept`)."""
_SPILL = "spill-"
_MEMORY_PARTS = 2  # of as many parts of the machine's memory, a query may use one
_SPILL_BYTES = 32 << 30  # and so much of the disk, in the mirror's folder
_T = TypeVar("_T")


class Shown:
    """The database. `close` it: what it spilled lies in the mirror's folder."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._spill = files.own / f"{_SPILL}{os.getpid()}-{secrets.token_hex(4)}"
        self._database = _database(files, None if files.own != files.home else self._spill)
        self._held: dict[str, Held] = {}
        self._kept: dict[str, dict[Hashable, object]] = {}
        self._cursors: WeakSet[DuckDBPyConnection] = WeakSet()
        self._stopped = False

    def cursor(self) -> DuckDBPyConnection:
        """A connection of one's own to the same tables."""
        if self._stopped:
            raise CatalogError("the lake is closed: open it again")
        cursor = self._database.cursor()
        self._cursors.add(cursor)
        return cursor

    def stop(self) -> None:
        """Interrupt what is running; nothing more begins."""
        self._stopped = True
        for cursor in list(self._cursors):
            cursor.interrupt()

    def close(self) -> None:
        """Release the memory and what was spilled."""
        self._database.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def held(self, name: str) -> Held | None:
        """What is shown of a table; None when it never was."""
        return self._held.get(name)

    def tail(self, table: Table) -> str:
        """A FROM item of the rows that are in memory, closed ones included."""
        return f"tail_{table.name}"

    def forget(self, *names: str) -> None:
        """Take the rows of tables from the files again when they are shown next."""
        for name in names:
            self._held.pop(name, None)

    def kept(self, about: str, name: Hashable, make: Callable[[], _T], *, only: bool = False) -> _T:
        """What was made before under these names, or is made now. only: forget all else about the same."""
        there = self._kept.setdefault(about, {})
        if name in there:
            return cast("_T", there[name])
        found = make()
        self._kept[about] = {name: found} if only else self._kept.get(about, {}) | {name: found}
        return found

    def keep_only(self, abouts: set[str]) -> None:
        """Forget what is about other things."""
        for about in self._kept.keys() - abouts:
            self._kept.pop(about, None)

    def show(self, table: Table, held: Held) -> None:
        """Show a table as held. Raises duckdb.Error when a part cannot be read."""
        before = self._held.get(table.name)
        if before == held:
            return
        cursor = self.cursor()
        cursor.begin()
        try:
            self._show_small(cursor, table, held, before)
            self._show_closed(cursor, table, held, before)
            if before is None or _frame(before) != _frame(held):
                self._show_view(cursor, table, held)
            cursor.commit()
        except BaseException:
            cursor.rollback()
            raise
        self._held[table.name] = held

    def _show_small(self, cursor: DuckDBPyConnection, table: Table, held: Held, before: Held | None) -> None:
        new = [part for part in held.parts if part.small]
        old = [part for part in before.parts if part.small] if before else []
        if before is None or not set(old) <= set(new):
            columns = ", ".join(f'"{name}" {kind}' for name, kind in table.columns.items())
            cursor.execute(f"CREATE OR REPLACE TABLE tail_{table.name} ({columns})")
            old = []
        paths = [self.files.path(part.name) for part in new if part not in old]
        if paths:
            cursor.execute(f"INSERT INTO tail_{table.name} FROM {json_rows(table, paths)}")

    def _show_closed(self, cursor: DuckDBPyConnection, table: Table, held: Held, before: Held | None) -> None:
        for kind in ("closed", "closed_series"):
            ids: tuple[int, ...] = getattr(held, kind)
            if before is None or ids != getattr(before, kind):
                name = f"{kind}_{table.name}"
                cursor.execute(f"CREATE OR REPLACE TABLE {name} (id BIGINT)")
                if ids:
                    given = f"given_{secrets.token_hex(4)}"
                    cursor.register(given, {"id": np.array(ids, dtype=np.int64)})
                    cursor.execute(f"INSERT INTO {name} FROM {given}")
                    cursor.unregister(given)

    def _show_view(self, cursor: DuckDBPyConnection, table: Table, held: Held) -> None:
        files = [self.files.path(part.name) for part in held.parts if not part.small]
        rows = f"FROM tail_{table.name}"
        if files:
            rows += f" UNION ALL SELECT {table.listed} FROM read_parquet({literal(files)})"
        tests = [
            f"NOT EXISTS (FROM {kind}_{table.name} c WHERE c.id = p.{key})"
            for kind, key in (("closed", table.key), ("closed_series", "series_id"))
            if getattr(held, kind)
        ]
        rows = f"(FROM ({rows}) p WHERE {' AND '.join(tests)})" if tests else f"({rows})"
        cursor.execute(f"CREATE OR REPLACE VIEW {table.name} AS {table.view.format(rows=rows)}")
        for older, name in OLDER.items():
            if name == table.name:
                cursor.execute(f"CREATE OR REPLACE VIEW {older} AS FROM {name}")

    def can_read(self, table: Table, parts: Iterable[Part]) -> bool:
        """Whether all rows of some parts can be read."""
        import duckdb

        try:
            for part in parts:
                source = self.files.source(table, [part])
                query = f"SELECT count(*), count(hash(COLUMNS(*))) FROM {source}"
                if self.cursor().execute(query).fetchall()[0][0] != part.rows:
                    return False
        except duckdb.Error:
            return False
        return True


def _frame(held: Held) -> tuple[object, ...]:
    """What the text of a view depends on."""
    files = tuple(part.name for part in held.parts if not part.small)
    return files, bool(held.closed), bool(held.closed_series)


def left_behind(path: Path) -> bool:
    """Whether a folder is what a process spilled that has ended since."""
    if not path.name.startswith(_SPILL):
        return False
    pid = path.name.removeprefix(_SPILL).partition("-")[0]
    return pid.isdigit() and not _lives(int(pid))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _database(files: Files, spill: Path | None) -> DuckDBPyConnection:
    """Settings that no statement can change: a bound on memory, no files but the mirror's, no extensions.

    spill: the folder for what does not fit into memory; None where nothing may be written.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEMORY_PARTS
    folders = sorted({files.home, files.own})
    for name, value in {
        "memory_limit": f"'{memory // 2**20}MiB'",
        "temp_directory": "''" if spill is None else literal(spill),
        "max_temp_directory_size": f"'{_SPILL_BYTES // 2**20}MiB'",
        "parquet_metadata_cache": "true",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "python_scan_all_frames": "false",
        "allowed_directories": literal(folders),
        "enable_external_access": "false",
        "lock_configuration": "true",
    }.items():
        connection.execute(f"SET {name} = {value}")
    return connection
