"""The work that a settled series makes, done by processes of low priority, so that receiving keeps its speed.

One process settles: reads headers, packs them, indexes words. Others build volumes. What ends a process
(a decoder that crashes, no memory) ends that one piece of work, and the next has a new process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from pathlib import Path
from queue import LifoQueue
from threading import Lock, Thread
from typing import Any, NamedTuple, Protocol

from dicomlake.catalog import network, reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import DicomlakeError, StorageError, VolumeError
from dicomlake.records import Finding, SeriesKey
from dicomlake.settings import Mode
from dicomlake.storage.objectstore import Storage
from dicomlake.workers import Context, Worker, end_with_parent

_NICE = 10  # below whoever receives, above what is idle
_FAILED = "volume_failed"
_END_S = 5.0  # a worker may take this long to end by itself
_JOBS = 200  # pieces of work after which a process is replaced: what decoders leak ends with it

Gaps = tuple[tuple[int, int], ...]
"""Stretches of numbers that are missing between others: (first, last), in order."""


class Settled(NamedTuple):
    """What a series holds once it is visible. gaps: in its instance numbers."""

    instances: int
    gaps: Gaps = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the volumes of a series.

    built: how many can be opened. problems: why others cannot, free of identifying values.
    """

    built: int
    problems: tuple[str, ...] = ()


class Work(Protocol):
    """What is done with a series that has all its instances. Safe to use from many threads.

    Every method raises DicomlakeError for what went wrong.
    """

    def prepare(self) -> None:
        """There will be work soon; returns at once."""

    def settle(self, key: SeriesKey) -> Settled:
        """Make a series visible with all its instances."""

    def after(self) -> None:
        """Once for a number of series that settled: their words, and the clinical rows that are theirs."""

    def build(self, key: SeriesKey) -> Outcome:
        """Make the volumes of a series."""

    def close(self) -> None:
        """End what works."""


@dataclass(frozen=True, slots=True)
class Here(Work):
    """The work, done by the thread that asks for it. mode: that of `Settings.volumes`."""

    catalog: Catalog
    storage: Storage
    mode: Mode = "copy"

    def prepare(self) -> None:
        """See Work; there is nothing to start."""

    def settle(self, key: SeriesKey) -> Settled:
        """See Work."""
        from dicomlake.ingest.settle import settle

        settle(self.catalog, self.storage, key)
        found = settled(self.catalog, key)
        if not found.instances:
            raise StorageError("none of its originals can be read: `dicomlake verify` tells why")
        _close(self.catalog, key, "settle_failed")
        return found

    def after(self) -> None:
        """See Work."""
        from dicomlake.catalog.clinical_rows import rematch
        from dicomlake.catalog.text_index import index_missing
        from dicomlake.objects.documents import read_document

        index_missing(self.catalog, self.storage, read_document)
        rematch(self.catalog)

    def build(self, key: SeriesKey) -> Outcome:
        """See Work."""
        from dicomlake.ingest.settle import read_original
        from dicomlake.volumes.engine import Options, build_volumes

        options = Options(mode=self.mode, workers=1, show=False)
        volumes = build_volumes(
            self.catalog, self.storage, [key], partial(read_original, self.storage), options
        )
        with self.catalog.read() as view:
            found = reader.findings(view, key.series_uid)
        problems = tuple(one.message for one in found if one.kind == _FAILED)
        return Outcome(sum(volume.built for volume in volumes), problems)

    def close(self) -> None:
        """See Work; nothing is kept."""


def settled(catalog: Catalog, key: SeriesKey) -> Settled:
    """What the catalog holds of a visible series. Zero instances where it is not visible."""
    with catalog.read() as view:
        series_id = reader.series_id(view, key)
        if series_id is None:
            return Settled(0)
        (row,) = reader.series_rows(view, [series_id])
        return Settled(row["instances"], tuple(network.missing_numbers(view, key)))


def _close(catalog: Catalog, key: SeriesKey, kind: str) -> None:
    """Close a finding that no longer holds; nearly always there is none, and nothing is written."""
    with catalog.read() as view:
        if not any(one.kind == kind for one in reader.findings(view, key.series_uid)):
            return
    with catalog.change("findings") as (connection, v):
        writer.close_findings(connection, v, key.series_uid, (kind,))


# ---- in processes -----------------------------------------------------------------------------------------


class Elsewhere(Work):
    """The work, done by processes that begin with the first piece of it and end with `close`.

    builders: how many build at once; besides there is the one that settles.
    """

    def __init__(self, catalog: Catalog, storage: Storage, *, builders: int = 1, mode: Mode = "copy") -> None:
        self._catalog = catalog
        place = catalog.database.place
        self._settling = _Crew(1, place, storage, mode)
        self._building = _Crew(max(1, builders), place, storage, mode)

    def prepare(self) -> None:
        """See Work. To start Python takes seconds, and a series that came is quiet only after a while."""
        for crew, builds in ((self._settling, False), (self._building, True)):
            Thread(target=_warm_up, args=(crew, builds), daemon=True, name="warm-up").start()

    def settle(self, key: SeriesKey) -> Settled:
        """See Work."""
        found: Settled = self._settling.do("settle", key)
        return found

    def after(self) -> None:
        """See Work."""
        self._settling.do("after")

    def build(self, key: SeriesKey) -> Outcome:
        """See Work."""
        try:
            found: Outcome = self._building.do("build", key)
        except WorkerEnded as error:
            if not self._building.closed:
                with suppress(DicomlakeError):
                    _note(self._catalog, key, str(error))
            return Outcome(0, (str(error),))
        return found

    def close(self) -> None:
        """See Work. What is under way is given up; the catalog still says that it is to be done."""
        self._settling.close()
        self._building.close()

    @property
    def pids(self) -> list[int]:
        """The processes at work, for who wants to see that they are."""
        return [*self._settling.pids, *self._building.pids]


class WorkerEnded(VolumeError):
    """The process that worked on a series ended in the middle of it."""


def _note(catalog: Catalog, key: SeriesKey, message: str) -> None:
    """What the worker could not write any more; the next build that succeeds closes it."""
    with catalog.change("volumes") as (connection, v):
        writer.close_findings(connection, v, key.series_uid, (_FAILED,))
        writer.add_findings(connection, v, [Finding("error", _FAILED, key.series_uid, message)])


class _Crew:
    """Some processes, each doing one piece of work at a time; started when there is none that is free."""

    def __init__(self, count: int, place: Path | str, storage: Storage, mode: Mode) -> None:
        self._start = partial(_Hand, place, storage, mode)
        self._free: LifoQueue[_Hand | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._hands: set[_Hand] = set()
        self._lock = Lock()
        self.closed = False

    @property
    def pids(self) -> list[int]:
        with self._lock:
            return [hand.process.pid for hand in self._hands if hand.process.pid is not None]

    def do(self, what: str, *arguments: Any) -> Any:
        hand = self._free.get()
        try:
            if hand is None:
                hand = self._hire()
            return hand.do(what, *arguments)
        except WorkerEnded:
            self._dismiss(hand)
            hand = None
            raise
        finally:
            if hand is not None and hand.jobs >= _JOBS:
                self._dismiss(hand)
                hand = None
            self._free.put(hand)

    def _hire(self) -> _Hand:
        hand = self._start()
        with self._lock:
            self._hands.add(hand)
            closed = self.closed
        if closed:
            hand.end()
        return hand

    def _dismiss(self, hand: _Hand | None) -> None:
        if hand is not None:
            with self._lock:
                self._hands.discard(hand)
            hand.end()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            hands, self._hands = list(self._hands), set()
        for hand in hands:
            hand.end()


def _warm_up(crew: _Crew, builds: bool) -> None:
    with suppress(DicomlakeError):  # the work itself will tell
        crew.do("warm_up", builds)


class _Hand:
    """A process that does what it is told through a pipe."""

    def __init__(self, place: Path | str, storage: Storage, mode: Mode) -> None:
        context = Context()
        self._pipe, theirs = context.Pipe()
        self._working = Lock()
        self.jobs = 0
        self.process: Worker = context.Process(
            target=_serve, args=(theirs, place, storage, mode), name="dicomlake-builder", daemon=True
        )
        try:
            self.process.start()
        except OSError as error:
            self._pipe.close()
            raise VolumeError(f"no process could be started ({error.strerror}): it is tried again") from error
        finally:
            theirs.close()
        # at the end of the program, before it waits for the process, which does not heed SIGTERM
        self._at_exit = Finalize(self, self.process.kill, exitpriority=10)

    def do(self, what: str, *arguments: Any) -> Any:
        """What came of it. Raises WorkerEnded, or the DicomlakeError that the work ended with."""
        with self._working:
            self.jobs += 1
            try:
                self._pipe.send((what, arguments))
                ok, found = self._pipe.recv()
            except (EOFError, OSError) as error:
                self.process.join(_END_S)
                how = _how(self.process.exitcode)
                raise WorkerEnded(f"the process that did it ended ({how}): it is tried again") from error
        if ok:
            return found
        raise found

    def end(self) -> None:
        """Let it end: in peace where it waits for work, by force where it does some."""
        if self._working.acquire(blocking=False):
            with suppress(OSError):
                self._pipe.send(None)
            self.process.join(_END_S)
            self._working.release()
        self.process.kill()
        self.process.join(_END_S)
        with self._working:
            self._pipe.close()
        self._at_exit.cancel()


def _how(exitcode: int | None) -> str:
    if exitcode is None:
        return "it no longer answers"
    if exitcode < 0:
        with suppress(ValueError):
            return signal.Signals(-exitcode).name
    return f"exit status {exitcode}"


def _serve(pipe: Connection, place: Path | str, storage: Storage, mode: Mode) -> None:
    """The life of a worker."""
    from dicomlake.volumes.builder import told

    for name in (signal.SIGINT, signal.SIGTERM):  # they reach all processes of a service; the parent decides
        signal.signal(name, signal.SIG_IGN)
    end_with_parent()
    with suppress(OSError):
        os.nice(_NICE)
    work = _InWorker(Catalog.open(place), storage, mode)
    while True:
        try:
            asked = pipe.recv()
        except (EOFError, OSError):
            break
        if asked is None:
            break
        what, arguments = asked
        call: Callable[..., Any] = getattr(work, what)
        try:
            answer = (True, call(*arguments))
        except DicomlakeError as error:
            answer = (False, _plain(error))
        except Exception as error:
            answer = (False, VolumeError(told(error)))
        pipe.send(answer)
    work.catalog.database.engine.dispose()
    storage.close()


class _InWorker(Here):
    """The work, in a process that does nothing else."""

    def warm_up(self, builds: bool) -> None:
        """Load what the first piece of work would wait for."""
        import dicomlake.ingest.settle

        if builds:
            import dicomlake.volumes.engine  # noqa: F401  # loading is the purpose


def _plain(error: DicomlakeError) -> DicomlakeError:
    """An error that travels: of our own tree, with its message alone."""
    from dicomlake.errors import CatalogError, StorageError, StorageFull

    for kind in (StorageFull, StorageError, CatalogError):
        if isinstance(error, kind):
            return kind(str(error))
    return VolumeError(str(error))
