"""Sources to a lake: batches side by side, then every series that got new instances settles."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import DicomlakeError
from dicomlake.ingest import sources
from dicomlake.ingest.report import Entry, Report
from dicomlake.ingest.settle import settle, settle_leftovers
from dicomlake.ingest.take import Taken, take
from dicomlake.progress import progress
from dicomlake.records import SeriesKey
from dicomlake.storage.objectstore import Storage
from dicomlake.workers import Context, end_with_parent

_BATCH_ITEMS = 64
_BATCH_BYTES = 32 << 20
_HEADERS_HELD = 20_000  # instances whose headers wait in memory for their series to settle
_MANY = 5_000  # objects from which processes are worth their start


@dataclass(frozen=True, slots=True)
class Options:
    """How an ingest is done.

    link: hard-link files instead of copying them; the source must then never change.
    workers: processes; None chooses by the number of objects, 1 stays in this process (with threads).
    show: a progress bar; None shows it where somebody looks.
    limits: on what archives may expand to.
    """

    link: bool = False
    workers: int | None = None
    show: bool | None = None
    limits: sources.Limits = field(default_factory=sources.Limits)


def ingest(catalog: Catalog, storage: Storage, given: Iterable[sources.Source], options: Options) -> Report:
    """Take everything in; return what became of each object.

    Raises StorageFull when the lake has no space left: what was acknowledged is safe, settled where that
    is still possible, and the same call later goes on where this one stopped.
    """
    started = time.perf_counter()
    run = _Run(catalog, storage)
    try:
        with catalog.database.shared():
            _take_in(run, catalog, storage, list(given), options)
            run.finish()
    except BaseException:  # KeyboardInterrupt as well
        with suppress(DicomlakeError):
            settle_leftovers(catalog, storage)
        raise
    settle_leftovers(catalog, storage)
    return Report.of(run.entries, run.series, time.perf_counter() - started)


def _take_in(
    run: _Run, catalog: Catalog, storage: Storage, given: list[sources.Source], options: Options
) -> None:
    total = sources.count(*given)
    with ExitStack() as stack:
        start, ahead = _start(stack, catalog, storage, options, total)
        bar = stack.enter_context(progress("ingest", total, unit="objects", show=options.show))
        batches = _batches(sources.discover(*given, limits=options.limits))
        for taken in _in_order(start, ahead, batches):
            run.add(taken)
            bar.advance(len(taken.entries), taken.bytes)


class _Run:
    """What has been taken so far; settles series when they are complete or too many wait."""

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self._catalog, self._storage = catalog, storage
        self.entries: list[Entry] = []
        self.series: dict[SeriesKey, None] = {}
        self._waiting: dict[SeriesKey, dict[str, Attributes]] = {}
        self._held = 0

    def add(self, taken: Taken) -> None:
        self.entries.extend(taken.entries)
        for key, headers in taken.headers.items():
            self.series[key] = None
            self._waiting.setdefault(key, {}).update(headers)
            self._held += len(headers)
        while self._held > _HEADERS_HELD:
            self._settle(next(iter(self._waiting)))

    def finish(self) -> None:
        while self._waiting:
            self._settle(next(iter(self._waiting)))

    def _settle(self, key: SeriesKey) -> None:
        headers = self._waiting.pop(key)
        self._held -= len(headers)
        settle(self._catalog, self._storage, key, headers)


_Work = Callable[[list[sources.Item]], Taken]


def _start(
    stack: ExitStack, catalog: Catalog, storage: Storage, options: Options, total: int | None
) -> tuple[Callable[[list[sources.Item]], Future[Taken]], int]:
    """What starts the work on a batch, and how many batches may be under way.

    Threads for most ingests, as reading, hashing and fsync leave the interpreter free; processes for
    many objects, where parsing and bookkeeping count.
    """
    cores = os.cpu_count() or 1
    place = catalog.database.place
    workers = options.workers or (min(cores, 8) if (total or 0) >= _MANY else 1)
    threads = ThreadPoolExecutor(max(2, min(cores, 4)), thread_name_prefix="ingest")
    stack.enter_context(threads)
    if workers == 1:
        return (lambda items: threads.submit(take, catalog, storage, items, link=options.link)), 4
    processes = stack.enter_context(
        ProcessPoolExecutor(workers, mp_context=Context(), initializer=end_with_parent)
    )

    def start(items: list[sources.Item]) -> Future[Taken]:
        if all(isinstance(item, sources.Skipped) or _travels(item.content) for item in items):
            return processes.submit(_take_elsewhere, place, storage, items, options.link)
        return threads.submit(take, catalog, storage, items, link=options.link)

    return start, 2 * workers


def _travels(content: sources.Content | None) -> bool:
    """Whether another process can read it; a temporary file belongs to the process that made it."""
    return not isinstance(content, sources.SpooledContent)


def _take_elsewhere(place: Path | str, storage: Storage, items: list[sources.Item], link: bool) -> Taken:
    return take(_catalog_of_process(place), storage, items, link=link)


@lru_cache(maxsize=1)
def _catalog_of_process(place: Path | str) -> Catalog:
    return Catalog.open(place)


def _batches(items: Iterable[sources.Item]) -> Iterator[list[sources.Item]]:
    batch: list[sources.Item] = []
    size = 0
    for item in items:
        batch.append(item)
        if not isinstance(item, sources.Skipped) and item.content is not None:
            size += item.content.size
        if len(batch) >= _BATCH_ITEMS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(
    start: Callable[[list[sources.Item]], Future[Taken]], ahead: int, batches: Iterable[list[sources.Item]]
) -> Iterator[Taken]:
    """The outcomes in the order of the batches, while the next ones are under way."""
    under_way: deque[Future[Taken]] = deque()
    try:
        for batch in batches:
            under_way.append(start(batch))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
