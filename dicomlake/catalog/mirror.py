"""The columnar mirror: the catalog once more as Parquet, for scans; rebuildable, never the truth.

`series` is wide, one row a series; `attribute` is long, one row for each element path and value, sorted
by path, so that a query on any element reads only its own stretch. A refresh appends one part with the
series that changed and notes the rows they replace; many small parts are merged now and then.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from dicomlake.catalog import attributes, reader, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError, StorageFull

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = 1
_SERIES_A_PART = 1000  # bounds the memory of a refresh
_MERGE_PARTS = 8
_READERS_S = 3600
_STATE = "state.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class State:
    """What the mirror holds.

    change: the newest change in it. parts: names of its parts. closed: ids of series rows in the parts
    that were replaced since. catalog: the identity of the catalog that these ids are of.
    """

    change: int = 0
    parts: tuple[str, ...] = ()
    closed: tuple[int, ...] = ()
    catalog: str = ""
    format: int = FORMAT


class Mirror:
    """The mirror of one catalog in one folder."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self._catalog = catalog
        self._writable = os.access(folder.parent, os.W_OK)
        self._temporary = None if self._writable else tempfile.TemporaryDirectory(prefix="dicomlake-mirror-")
        self._folder = Path(self._temporary.name) if self._temporary else folder

    def close(self) -> None:
        """Remove what a read-only lake had to keep elsewhere."""
        if self._temporary:
            self._temporary.cleanup()

    def connect(self) -> DuckDBPyConnection:
        """A DuckDB connection with the current views `series`, `attribute`, `volume`, `study`, `patient`.

        It reads the mirror's files and nothing else, and its settings are locked.
        """
        import duckdb

        with suppress(duckdb.Error):  # a part is missing or damaged
            return self._connected(self.refresh())
        try:
            return self._connected(self.refresh(anew=True))
        except duckdb.Error as error:
            kind = type(error).__name__  # its text may hold values
            raise CatalogError(f"the mirror cannot be made ({kind}): free space, or run verify") from error

    def _connected(self, state: State) -> DuckDBPyConnection:
        import duckdb

        connection = duckdb.connect(":memory:")
        files = {kind: [self._part(kind, part) for part in state.parts] for kind in _KINDS}
        for kind in _KINDS:
            connection.execute(f"CREATE VIEW {kind} AS {_select(files[kind], state)}")
        self._add_volumes(connection)
        connection.execute(_DERIVED)
        allowed = [path for paths in files.values() for path in paths]
        connection.execute(f"SET allowed_paths = {_literal(allowed)}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection

    def _add_volumes(self, connection: DuckDBPyConnection) -> None:
        columns = [schema.volume.c[name] for name in _VOLUME_TYPES]
        with self._catalog.read() as view:
            query = schema.current(schema.volume).with_only_columns(*columns)
            rows = [dict(row) for row in view.execute(query).mappings()]
        with self._rows_file(rows) as path:
            connection.execute(f"CREATE TABLE volume AS SELECT * FROM {_read_rows(path, _VOLUME_TYPES)}")

    def refresh(self, *, anew: bool = False) -> State:
        """Bring the mirror up to the newest change; return what it holds. anew: from nothing.

        Raises StorageFull or CatalogError when it cannot be written.
        """
        with self._catalog.read() as view:
            newest = (schema.identity(view), schema.head(view), FORMAT)
        state = self._state()
        if state.parts and (state.catalog, state.change, state.format) == newest and not anew:
            return state
        with self._lock():
            state = State() if anew else self._state()  # another process may have done it meanwhile
            state = self._append(state)
            if len(state.parts) > _MERGE_PARTS:
                state = self._merge(state)
            self._save(state)
            self._sweep(state)
        return state

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            kind = StorageFull if error.errno in _FULL else CatalogError
            message = f"the mirror cannot be written ({error.strerror}): free space or check permissions"
            raise kind(message) from error

    def _state(self) -> State:
        try:
            found = json.loads((self._folder / _STATE).read_text())
            return State(**found | {name: tuple(found[name]) for name in ("parts", "closed")})
        except (OSError, ValueError, KeyError, TypeError):
            return State()

    def _save(self, state: State) -> None:
        temporary = self._folder / f"{_STATE}.tmp"
        temporary.write_text(json.dumps(asdict(state)))
        temporary.replace(self._folder / _STATE)

    def _part(self, kind: str, part: str) -> Path:
        return self._folder / f"{kind}-{part}.parquet"

    def _append(self, state: State) -> State:
        with self._catalog.read() as view:
            head, catalog = schema.head(view), schema.identity(view)
            if (state.catalog, state.format) != (catalog, FORMAT) or state.change > head:
                state = State()
            table = schema.series
            changed = select(table.c.id).where(table.c.v_from > state.change, table.c.v_to.is_(None))
            ids = [int(i) for (i,) in view.execute(changed.order_by(table.c.id))]
            replaced = select(table.c.id).where(table.c.v_to > state.change, table.c.v_from <= state.change)
            closed = [int(i) for (i,) in view.execute(replaced)]
            parts = list(state.parts)
            for start in range(0, len(ids) or not parts, _SERIES_A_PART):  # an empty lake has one empty part
                name = f"{head}-{start}-{secrets.token_hex(4)}"  # never one that somebody reads
                self._write_part(view, name, ids[start : start + _SERIES_A_PART])
                parts.append(name)
        return State(head, tuple(parts), (*state.closed, *closed), catalog)

    def _write_part(self, view: Connection, name: str, ids: Sequence[int]) -> None:
        series = (
            {"series_id": row["id"], **{n: row[n] for n in _SERIES_TYPES if n != "series_id"}}
            for row in reader.series_rows(view, ids)
        )
        self._write_parquet("series", name, series, "series_id")
        long = (
            {"series_id": series_id, **row._asdict()}
            for series_id in ids
            for row in attributes.rows(reader.headers_of(view, series_id))
        )
        self._write_parquet("attribute", name, long, "path, series_id")

    def _write_parquet(self, kind: str, name: str, rows: Iterable[dict[str, Any]], order: str) -> None:
        import duckdb

        with duckdb.connect(":memory:") as connection, self._rows_file(rows) as path:
            source = _read_rows(path, _TYPES[kind])
            connection.execute(_copy(f"SELECT * FROM {source} ORDER BY {order}", self._part(kind, name)))

    def _merge(self, state: State) -> State:
        """One part of all, without the closed rows."""
        import duckdb

        name = f"{state.change}-all-{secrets.token_hex(4)}"
        with duckdb.connect(":memory:") as connection:
            for kind, order in (("series", "series_id"), ("attribute", "path, series_id")):
                files = [self._part(kind, part) for part in state.parts]
                query = f"{_select(files, state)} ORDER BY {order}"
                connection.execute(_copy(query, self._part(kind, name)))
                for path in files:
                    os.utime(path)  # from now on nobody begins to read it: `_sweep` counts from here
        return replace(state, parts=(name,), closed=())

    def _sweep(self, state: State) -> None:
        """Remove parts that no state names, once no reader can still be at work on them."""
        wanted = {self._part(kind, part).name for kind in _KINDS for part in state.parts}
        for path in (*self._folder.glob("*.parquet"), *self._folder.glob("*.jsonl")):
            if path.name not in wanted and time.time() - path.stat().st_mtime > _READERS_S:
                path.unlink(missing_ok=True)

    @contextmanager
    def _rows_file(self, rows: Iterable[dict[str, Any]]) -> Iterator[Path]:
        """Rows as JSON lines in a temporary file: the way into DuckDB that needs no data frame library.

        It holds what identifies patients, so it lies in the lake and not in a folder for temporary files.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8", dir=self._folder) as file:
            for row in rows:
                file.write(json.dumps(_without_nul(row), separators=(",", ":")) + "\n")
            file.flush()
            yield Path(file.name)


_KINDS = ("series", "attribute")
_DERIVED = """
CREATE VIEW study AS
    SELECT StudyInstanceUID, any_value(PatientID) AS PatientID, list(DISTINCT Modality) AS Modalities,
           count(*) AS series, sum(instances)::BIGINT AS instances
    FROM series GROUP BY StudyInstanceUID;
CREATE VIEW patient AS
    SELECT PatientID, count(DISTINCT StudyInstanceUID) AS studies, count(*) AS series,
           sum(instances)::BIGINT AS instances
    FROM series GROUP BY PatientID;
"""


def _series_types() -> dict[str, str]:
    numbers = dict.fromkeys(schema.NUMBER_FACETS, "DOUBLE")
    numbers |= dict.fromkeys((*schema.WHOLE_FACETS, "instances", "bytes"), "BIGINT")
    return {"series_id": "BIGINT", **{name: numbers.get(name, "VARCHAR") for name in schema.SERIES_COLUMNS}}


_SERIES_TYPES = _series_types()
_TYPES = {
    "series": _SERIES_TYPES,
    "attribute": {
        "series_id": "BIGINT",
        "path": "VARCHAR",
        "creator": "VARCHAR",
        "vr": "VARCHAR",
        "text": "VARCHAR",
        "low": "DOUBLE",
        "high": "DOUBLE",
        "instances": "BIGINT",
    },
}


def _volume_types() -> dict[str, str]:
    sql = {"INTEGER": "BIGINT", "FLOAT": "DOUBLE"}
    return {name: sql.get(str(schema.volume.c[name].type), "VARCHAR") for name in schema.VOLUME_COLUMNS}


_VOLUME_TYPES = _volume_types()


def _without_nul(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in row.items()}


def _read_rows(path: Path, types: dict[str, str]) -> str:
    options = f"format = 'newline_delimited', columns = {types!r}, maximum_object_size = 67108864"
    return f"read_json({_literal(path)}, {options})"


def _select(files: Sequence[Path], state: State) -> str:
    """The rows of these parts that are in force."""
    closed = ", ".join(str(i) for i in (*state.closed, -1))
    return f"SELECT * FROM read_parquet({_literal(files)}) WHERE series_id NOT IN ({closed})"


def _copy(query: str, target: Path) -> str:
    return f"COPY ({query}) TO {_literal(target)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 100000)"


def _literal(value: Path | Sequence[Path]) -> str:
    """Paths in SQL; a folder's name may hold a quote."""
    if isinstance(value, Path):
        return "'" + str(value).replace("'", "''") + "'"
    return f"[{', '.join(map(_literal, value))}]"
