"""SQL on the mirror: the documented tables, each brought up to date when a statement names it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt

from dicomlake.catalog.mirror.state import Held
from dicomlake.catalog.mirror.tables import ALWAYS, TABLES, named_in

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dicomlake.catalog.mirror import Mirror
    from dicomlake.catalog.mirror.shown import Shown
    from dicomlake.catalog.mirror.state import State


Ids = npt.NDArray[np.int64]
_DAMAGE = re.compile("parquet|magic bytes|zstd|thrift|tprotocol|corrupt", re.IGNORECASE)


class Session:
    """The tables of a lake as DuckDB shows them.

    `series` and `attributes` are as of the newest change when the session was asked for; other tables, and
    these with them, as of when a statement first names them.
    change: the newest change that is shown. catalog: the identity of the catalog whose ids these are.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._ready: set[str] = set()
        self._visible: set[str] = set()
        self._bring(set(ALWAYS), set())

    def _bring(self, names: set[str], visible: set[str]) -> None:
        self._ready |= names
        self._visible |= visible
        self._state, self.change = self._mirror.bring(self._ready, self._visible)
        self.catalog = self._state.catalog

    @property
    def mirror(self) -> Mirror:
        """Where the tables come from."""
        return self._mirror

    @property
    def state(self) -> State:
        """The parts of the tables."""
        return self._state

    def shown(self, name: str) -> tuple[Shown, Held]:
        """Where a table is shown, and as what."""
        self._show({name})
        shown = self._mirror.shown
        return shown, shown.held(name) or Held()

    def _show(self, names: set[str]) -> None:
        if not names <= self._ready:
            self._bring(names, names)
        elif not names <= self._visible:
            self._visible |= names
            if self._mirror.show(self._state, self._visible) is not None:
                self._bring(names, names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing: the tables stay for whoever asks next."""

    def cursor(self, sql: str = "") -> DuckDBPyConnection:
        """A connection of DuckDB's on which the tables that a statement names are up to date."""
        self._show(named_in(sql))
        return self._mirror.shown.cursor()

    def execute(
        self, sql: str, parameters: Sequence[Any] = (), *, ids: Mapping[str, Ids] | None = None
    ) -> Rows:
        """The rows of one SELECT, in a program's own words; for those of users there is `catalog.sql`.

        ids: tables of one column, `id`, that the statement may name; a list of many as a parameter is slow.
        """
        import duckdb

        try:
            return self._run(sql, parameters, ids or {})
        except duckdb.Error as error:
            if not self.mended(error):
                raise
        self._bring(set(), set())
        return self._run(sql, parameters, ids or {})

    def _run(self, sql: str, parameters: Sequence[Any], ids: Mapping[str, Ids]) -> Rows:
        cursor = self.cursor(sql)
        for name, some in ids.items():
            cursor.register(name, {"id": some})
        return Rows(cursor.execute(sql, list(parameters)))

    def mended(self, error: Exception) -> bool:
        """Whether an error came of a damaged part: it is dropped, and made again when it is asked for."""
        import duckdb

        files = isinstance(error, duckdb.IOException | duckdb.SerializationException)
        return (files or _DAMAGE.search(str(error)) is not None) and self._mirror.mend()

    def __repr__(self) -> str:
        return f"<Session of {', '.join(TABLES)} at change {self.change}>"


class Rows(Sequence[tuple[Any, ...]]):
    """The rows of an answer, fetched once they are asked for."""

    def __init__(self, result: DuckDBPyConnection) -> None:
        self._result = result
        self._rows: list[tuple[Any, ...]] | None = None

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return [column[0] for column in self._result.description or ()]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        if self._rows is None:
            self._rows = self._result.fetchall()
        return self._rows

    def fetchnumpy(self) -> dict[str, Any]:
        """Column -> array, masked where it has NULL; before any row was fetched."""
        found: dict[str, Any] = self._result.fetchnumpy()
        return found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def __len__(self) -> int:
        return len(self.fetchall())

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[Any, ...]]: ...

    def __getitem__(self, index: int | slice) -> tuple[Any, ...] | list[tuple[Any, ...]]:
        return self.fetchall()[index]
