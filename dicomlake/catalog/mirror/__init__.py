"""The columnar mirror: the catalog once more as sorted files, for scans; rebuildable, never the truth.

`session()` gives the tables as DuckDB shows them. A refresh adds one part with the rows that are new and
notes those that are closed; it never reads again what is mirrored. All processes of a machine share the
files: one refreshes under a lock, the others find it done. What one leaves unfinished is part of no state.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.mirror.parts import Files
from dicomlake.catalog.mirror.shown import Shown, left_behind
from dicomlake.catalog.mirror.state import STATE, Held, Part, State, found_in, load, newer, to_json, to_merge
from dicomlake.catalog.mirror.tables import ALWAYS, TABLES, closed_series, newest, next_stop, with_needs
from dicomlake.errors import CatalogError, StorageFull

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dicomlake.catalog.session import Session

_READERS_S = 3600
_SWEEP_S = 600  # as often at most
_AT_ONCE = 200_000  # rows that a refresh may merge, however little it wrote
_MERGED_FOR_ONE = 8  # rows that it may merge for each that it wrote
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Mirror:
    """The mirror of one catalog in one folder. Safe to use from many threads and many processes at once."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        writable = os.access(folder.parent, os.W_OK)
        self._catalog = catalog
        self._temporary = None if writable else tempfile.TemporaryDirectory(prefix="dicomlake-mirror-")
        self._files = Files(folder, Path(self._temporary.name) if self._temporary else folder)
        self._guard = threading.RLock()
        self._seen: tuple[object, State] | None = None
        self._shown: Shown | None = None
        self._newest = self._shown_of = ""  # identities of the catalog today, and of the one that is shown
        self._swept = 0.0
        self._merging: threading.Thread | None = None

    def close(self) -> None:
        """End what goes on in the background, and remove what a read-only lake had to keep elsewhere."""
        with self._guard:
            merging, self._merging = self._merging, None
            shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()
        if merging is not None:
            merging.join()
        if shown is not None:
            shown.close()
        if self._temporary:
            self._temporary.cleanup()

    def forked(self) -> object:
        """Begin anew in a forked process; returns what is the parent's, which must not be freed."""
        parents = (self._shown, self._guard, self._merging, self._temporary)
        self._guard = threading.RLock()
        self._seen = self._shown = self._merging = self._temporary = None
        self._shown_of = ""
        return parents

    def session(self) -> Session:
        """The documented tables in DuckDB, brought up to the newest change.

        Raises StorageFull or CatalogError when the mirror cannot be written.
        """
        from dicomlake.catalog.session import Session

        return Session(self)

    # ---- for sessions -------------------------------------------------------------------------------

    def bring(self, names: Collection[str], visible: Collection[str]) -> tuple[State, int]:
        """Bring files of tables up to the newest change, and show some: the state, and that change."""
        with self._guard:
            state, change = self._refresh(names)
            if self.show(state, visible) is not None:
                state, change = self._refresh(names)
                error = self.show(state, visible)
                if error is not None:
                    kind = type(error).__name__  # its text may hold values
                    message = f"the mirror cannot be made ({kind}): free space, or run verify"
                    raise CatalogError(message) from error
            return state, change

    def show(self, state: State, names: Collection[str]) -> Exception | None:
        """Show tables as they are in a state, or newer; the error of a damaged part, which is dropped.

        Raises CatalogError when the catalog was rebuilt since: ids of the state mean nothing any more.
        """
        with self._guard:
            if state.catalog != self._newest:
                raise CatalogError("the catalog was rebuilt: ask for a new session")
            if state.catalog != self._shown_of:
                self.shown.forget(*TABLES)
                self._shown_of = state.catalog
            try:
                for name in with_needs(names):
                    held, before = state.held(name), self.shown.held(name)
                    if before is None or before.change <= held.change:
                        self.shown.show(TABLES[name], held)
            except _duckdb_error() as error:
                self._mend()
                return error
        return None

    @property
    def shown(self) -> Shown:
        """Where the tables are shown."""
        with self._guard:
            if self._shown is None:
                self._shown = Shown(self._files)
            return self._shown

    def mend(self) -> bool:
        """Drop the tables with damaged parts, to be made again; False when all parts can be read."""
        with self._guard:
            return self._mend()

    @contextmanager
    def still(self) -> Iterator[None]:
        """While this lasts, no thread of this process refreshes what is shown."""
        with self._guard:
            yield

    @property
    def files(self) -> Files:
        """Where the parts are."""
        return self._files

    @contextmanager
    def lock(self, name: str = "lock", how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Alone among all processes. Raises BlockingIOError where `how` says not to wait."""
        try:
            self._files.own.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._files.own / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, how)
                yield
            finally:
                os.close(lock)
        except BlockingIOError:
            raise
        except OSError as error:
            kind = StorageFull if error.errno in _FULL else CatalogError
            message = f"the mirror cannot be written ({error.strerror}): free space or check permissions"
            raise kind(message) from error

    # ---- what is held -------------------------------------------------------------------------------

    def _refresh(self, names: Collection[str]) -> tuple[State, int]:
        with self._catalog.read() as view:
            found = newest(view)
        change = int(found["change"] or 0)
        state = self._state(found["catalog"])
        if all(state.held(name).change == change for name in names):
            return state, change
        with self.lock(), self._catalog.read() as view:  # another process may have done it meanwhile
            found = newest(view)
            change = int(found["change"] or 0)
            return self._caught_up(view, self._state(found["catalog"]), names, change), change

    def _state(self, catalog: str) -> State:
        folders = {self._files.home, self._files.own}
        signature = (catalog, *(_signature(folder / STATE) for folder in sorted(folders)))
        if self._seen is None or self._seen[0] != signature:
            state, self._newest = State(catalog), catalog
            for found in map(load, folders):
                state = newer(state, found) if found.catalog == catalog else state
            self._seen = signature, state
        return self._seen[1]

    def _caught_up(self, view: Connection, state: State, names: Collection[str], head: int) -> State:
        for name in sorted(names, key=list(TABLES).index):
            held = state.held(name)
            while held.change != head:
                since = held.change if held.change < head else 0  # a catalog of before: from nothing
                stop = next_stop(view, since, head)
                held = self._appended(view, name, held if since else Held(), (since, stop))
                state = state.having(name, held)
                if stop != head:
                    self._save(state)
        return self._saved(state)

    def _appended(self, view: Connection, name: str, held: Held, stretch: tuple[int, int]) -> Held:
        table, written = TABLES[name], 0
        parts, closed = list(held.parts), set(held.closed)
        closed |= set(found_in(parts, table.closed(view, stretch)))
        series = set(held.closed_series)
        if table.with_series and parts:
            series |= set(closed_series(view, stretch))
        for rows in table.rows(view, stretch):
            if part := self._files.write(self.shown.cursor(), table, rows):
                parts.append(part)
                written += part.rows
        held = Held(stretch[1], tuple(parts), tuple(sorted(closed)), tuple(sorted(series)))
        limit = max(_AT_ONCE, _MERGED_FOR_ONE * written)
        while (merged := to_merge(held)) and sum(part.rows for part in merged) <= limit:
            held = self._merged(name, held, merged)
        return held

    def _merged(self, name: str, held: Held, parts: tuple[Part, ...]) -> Held:
        new = self._files.merge(self.shown.cursor(), TABLES[name], held, parts)
        self._files.retire(parts)
        return held.without(parts, new, held)

    def _saved(self, state: State) -> State:
        self._save(state)
        self._sweep(state)
        if any(to_merge(held) for held in state.tables.values()):
            self._merge_later()
        return state

    def _save(self, state: State) -> None:
        temporary = self._files.own / f"{STATE}.tmp"
        temporary.write_text(to_json(state), encoding="utf-8")
        temporary.replace(self._files.own / STATE)

    def _sweep(self, state: State) -> None:
        """Remove parts that no state names, once no reader can still be at work on them."""
        now = time.time()
        if now - self._swept < _SWEEP_S:
            return
        self._swept, wanted = now, state.names()
        for path in self._files.own.iterdir():
            if left_behind(path) and now - path.stat().st_mtime > _READERS_S:
                shutil.rmtree(path, ignore_errors=True)
            part, of_part, _ = path.name.partition("~")
            kept = part in wanted or not (of_part or path.suffix in _SWEPT)
            if not kept and now - path.stat().st_mtime > _READERS_S:
                path.unlink(missing_ok=True)

    def _mend(self) -> bool:
        with self.lock(), self._catalog.read() as view:
            state = self._state(newest(view)["catalog"])
            shown = self.shown
            damaged = [n for n, held in state.tables.items() if not shown.can_read(TABLES[n], held.parts)]
            for name in damaged:
                state = state.having(name, Held())
            shown.forget(*damaged)
            self._save(state)
        return bool(damaged)

    # ---- merging in the background ------------------------------------------------------------------

    def _merge_later(self) -> None:
        if self._merging is None or not self._merging.is_alive():
            self._merging = threading.Thread(target=self._merge_all, name="dicomlake-mirror", daemon=True)
            self._merging.start()

    def _merge_all(self) -> None:
        """Merge what is large, and keep nobody from refreshing; what fails, the next refresh tries again."""
        failures = (_duckdb_error(), OSError, CatalogError, StorageFull)
        with suppress(*failures), self.lock("merging", fcntl.LOCK_EX | fcntl.LOCK_NB):
            while self._merge_one():
                pass

    def _merge_one(self) -> bool:
        with self._catalog.read() as view:
            catalog = newest(view)["catalog"]
        with self._guard:
            state, shown = self._state(catalog), self._shown
        for name, held in state.tables.items():
            parts = to_merge(held)
            if parts and shown is not None:
                new = self._files.merge(shown.cursor(), TABLES[name], held, parts)
                return self._replace(catalog, name, parts, new, held)
        return False

    def _replace(
        self, catalog: str, name: str, parts: tuple[Part, ...], new: Part | None, applied: Held
    ) -> bool:
        with self._guard, self.lock():
            state = self._state(catalog)
            held = state.held(name)
            if not set(parts) <= set(held.parts):
                return False  # made anew meanwhile
            self._save(state.having(name, held.without(parts, new, applied)))
            self._files.retire(parts)
        return True


_SWEPT = (".parquet", ".jsonl", ".npy")
__all__ = ["ALWAYS", "Mirror"]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error
