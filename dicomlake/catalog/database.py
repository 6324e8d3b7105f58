"""What a database of a catalog can do: views, one change at a time, and locks across processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from dicomlake.errors import CatalogError, DicomlakeError

_READ_ONLY = "the lake is opened read-only: open it from a folder that can be written"


class Database(ABC):
    """The engine of one catalog with its locks.

    place: what opens it in another process: the path of a SQLite file, or a URL. path: of the file, None
    where there is none. read_only: never writes, not even a journal; for lakes on read-only media.
    """

    engine: Engine
    place: Path | str
    path: Path | None
    read_only: bool

    def forked(self) -> object:
        """Begin anew in a forked process; returns the connections, which are the parent's."""
        parents = self.engine.pool
        self.engine.dispose(close=False)
        return parents

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of the catalog."""
        try:
            with self._view() as connection:
                yield connection
        except DBAPIError as error:
            raise self._translated(error) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, alone: committed and durable on a clean exit, undone on an error.

        Raises CatalogError when the database is opened read-only.
        """
        self._require_writable()
        try:
            with self._change() as connection:
                yield connection
        except DBAPIError as error:
            raise self._translated(error) from error

    def _require_writable(self) -> None:
        if self.read_only:
            raise CatalogError(_READ_ONLY)

    @abstractmethod
    def _view(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _change(self) -> AbstractContextManager[Connection]: ...

    @abstractmethod
    def _translated(self, error: DBAPIError) -> DicomlakeError:
        """The database's own words, without statement and parameters: those may identify a patient."""

    @abstractmethod
    def shared(self) -> AbstractContextManager[object]:
        """While objects are taken in: others may do so too, but nobody is `alone`."""

    @abstractmethod
    def alone(self, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Whether no process takes objects in; none begins to before this ends. wait: until it is so."""

    @abstractmethod
    def building(self, series: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Whether this is the one builder of a series' volumes, across threads and processes.

        wait: until it is so.
        """

    @abstractmethod
    def fresh(self) -> Self:
        """An empty database beside this one, to be filled and then given to `replace_with`."""

    @abstractmethod
    def replace_with(self, fresh: Self) -> None:
        """Put a database that `fresh` gave, closed, in the place of this one; all users of it follow.

        Raises CatalogError when somebody reads this one for long.
        """

    @abstractmethod
    def reconnect(self) -> None:
        """Forget what connections hold in memory of the catalog's pages."""

    @abstractmethod
    def close(self) -> None:
        """Leave a complete database behind and drop the connections."""
