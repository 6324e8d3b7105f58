"""The volumes of many series: planned here, built in a pool, entered in the catalog as they come.

One process builds a series at a time: it holds the series' lock from planning to commit. A store gets
a key that none had before, so publishing it replaces nothing; the commit is the moment when it counts.
A crash before the commit leaves a store that no row lists: the next build of the series deletes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from dicomlake.catalog import reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import DicomlakeError, StorageFull, VolumeError
from dicomlake.progress import Progress, progress
from dicomlake.records import Finding, Instance, SeriesKey, Volume
from dicomlake.settings import Mode
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes import storing, versions
from dicomlake.volumes.builder import Built, build_elsewhere, build_here, pixel_hash, told
from dicomlake.volumes.plan import Plan, plan
from dicomlake.volumes.pools import Pool, pool

if TYPE_CHECKING:
    from distributed import Client

ReadOriginal = Callable[[Instance], Attributes]

_FINDINGS = ("volume_failed",)
_LARGE_BYTES = 64 << 20  # a volume of this size keeps the cores of a machine busy by itself


@dataclass(frozen=True, slots=True)
class Options:
    """How volumes are built.

    rebuild: also those whose store is still true.
    mode: whether voxels are copied or stay in originals that allow it (`storing.decided`).
    client: a Dask client whose workers build; None takes the active one, where there is one.
    workers: builds at once in this process; given, it keeps them here.
    show: a progress bar; None shows it where somebody looks.
    """

    rebuild: bool = False
    mode: Mode = "copy"
    client: Client | None = None
    workers: int | None = None
    show: bool | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {self.mode!r}")


def build_volumes(
    catalog: Catalog, storage: Storage, keys: Iterable[SeriesKey], read: ReadOriginal, options: Options
) -> list[Volume]:
    """Make the volumes of these series; what became of each volume, in the order of the series.

    read: the whole header of an instance, from its original.
    A volume that cannot be built is a finding `volume_failed` and does not stop the others. Only
    StorageFull is raised, when what is under way has come to its end: what was built before is entered.
    """
    wanted = list(dict.fromkeys(keys))
    if not wanted:
        return []
    with (
        pool(storage, client=options.client, workers=options.workers) as builders,
        progress("volumes", len(wanted), unit="series", show=options.show) as bar,
    ):
        run = _Run(catalog, storage, read, builders, bar, options)
        found = run.all(wanted)
    return [volume for key in wanted for volume in found.get(key, ())]


@dataclass(slots=True)
class _Job:
    """A series that is being built.

    lock: released when the job is closed. former: its volumes so far. used: keys of the stores that it has
    or had. volumes: in the order of the plans, None while one is being built. made: keys of new stores.
    under_way: how many volumes builders have. abandoned: nothing of it will be entered.
    """

    key: SeriesKey
    series_id: int
    lock: ExitStack
    former: list[Volume]
    used: set[str]
    volumes: list[Volume | None] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    under_way: int = 0
    abandoned: bool = False

    @property
    def complete(self) -> bool:
        return not self.under_way and (self.abandoned or None not in self.volumes)

    def failed(self, message: str) -> None:
        self.findings.append(Finding("error", "volume_failed", self.key.series_uid, message))


class _Task(NamedTuple):
    """A volume that a builder has been given. weight: of the pool's slots."""

    job: _Job
    place: int
    plan: Plan
    instances: dict[str, Instance]
    weight: int


class _Run:
    """One call of `build_volumes`."""

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        read: ReadOriginal,
        builders: Pool,
        bar: Progress,
        options: Options,
    ) -> None:
        self._catalog, self._storage, self._read = catalog, storage, read
        self._pool, self._bar, self._rebuild = builders, bar, options.rebuild
        self._mode = options.mode
        self._waiting: deque[SeriesKey] = deque()
        self._jobs: list[_Job] = []
        self._tasks: deque[_Task] = deque()
        self._under_way: dict[Future[Built], _Task] = {}
        self._found: dict[SeriesKey, list[Volume]] = {}
        self._full: StorageFull | None = None

    def all(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[Volume]]:
        self._waiting.extend(keys)
        try:
            while self._waiting or self._jobs:
                self._fill()
                self._gather()
                self._commit([job for job in self._jobs if job.complete])
        finally:
            self._let_go()
        if self._full is not None:
            raise self._full
        return self._found

    # ---- giving out -----------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give builders work while there are free slots, planning series as they are needed."""
        while True:
            while self._tasks and self._fits(self._tasks[0]):
                self._submit(self._tasks.popleft())
            if self._tasks or self._busy() >= self._pool.slots or not self._begin():
                return

    def _busy(self) -> int:
        return sum(task.weight for task in self._under_way.values())

    def _fits(self, task: _Task) -> bool:
        return not self._under_way or self._busy() + task.weight <= self._pool.slots

    def _submit(self, task: _Task) -> None:
        job = task.job
        if job.abandoned or self._is_other(job):
            job.abandoned = True
            return
        work = build_here if self._pool.here else build_elsewhere
        future = self._pool.executor.submit(work, self._storage, task.plan, task.instances)
        self._under_way[future] = task
        job.under_way += 1

    def _is_other(self, job: _Job) -> bool:
        """Whether the series has got new instances since it was planned: whoever settled them builds it."""
        with self._catalog.read() as view:
            return reader.series_id(view, job.key) != job.series_id

    def _begin(self) -> bool:
        """Plan the next series that nobody else is building; False when there is none now."""
        for _ in range(len(self._waiting)):
            if self._try(self._waiting.popleft()):
                return True
        # whoever holds locks must not wait for one: two such would wait for each other
        return bool(self._waiting) and not self._jobs and self._try(self._waiting.popleft(), wait=True)

    def _try(self, key: SeriesKey, *, wait: bool = False) -> bool:
        lock = ExitStack()
        if not lock.enter_context(self._catalog.database.building(layout.volumes_prefix(*key), wait=wait)):
            self._waiting.append(key)
            return False
        try:
            self._plan(key, lock)
        except BaseException:
            lock.close()
            raise
        return True

    def _plan(self, key: SeriesKey, lock: ExitStack) -> None:
        with self._catalog.read() as view:
            series_id = reader.series_id(view, key)
            former, listed = reader.volumes_of(view, key), reader.store_keys(view, key)
        if series_id is None:  # withdrawn meanwhile
            lock.close()
            return self._bar.advance(1)
        job = _Job(key, series_id, lock, former, listed | versions.stores_of(self._storage, key))
        self._jobs.append(job)
        try:
            plans, instances = self._planned(job)
        except Exception as error:  # one series that cannot be understood must not stop the others
            job.failed(f"its volumes were not planned: {told(error)}")
            job.volumes = list(former)
            return None
        job.volumes = [None] * len(plans)
        for place, one in enumerate(plans):
            self._decide(job, place, one, instances)
        return None

    def _planned(self, job: _Job) -> tuple[list[Plan], dict[str, Instance]]:
        with self._catalog.read() as view:
            headers = reader.headers_of(view, job.series_id)
            instances = {i.sop_instance_uid: i for i in reader.instances_of(view, job.key)}
        plans = plan(
            job.key,
            headers,
            original=lambda uid: self._read(instances[uid]),
            pixel_hash=pixel_hash(self._storage, instances),
        )
        return plans, instances

    def _decide(self, job: _Job, place: int, one: Plan, instances: Mapping[str, Instance]) -> None:
        """Keep the former store where it is still true; else have a new version built."""
        one = storing.decided(one, instances, self._mode)
        digest = versions.plan_digest(one, instances)
        former = next((v for v in job.former if v.number == one.volume.number), None)
        if former is not None and not self._rebuild and versions.still_true(former, digest, self._storage):
            job.volumes[place] = versions.kept(former, one.volume)
            return
        version = versions.next_version(one.volume.number, job.used)
        planned = replace(one, volume=replace(one.volume, version=version, plan_digest=digest))
        if not one.buildable:
            job.volumes[place] = planned.volume
            return
        uids = {frame.sop_instance_uid for frame in one.frames}
        held = {uid: instances[uid] for uid in uids if uid in instances}
        self._tasks.append(_Task(job, place, planned, held, self._weight(planned.volume)))

    def _weight(self, volume: Volume) -> int:
        size = int(np.prod(volume.shape, dtype=np.int64)) * np.dtype(volume.dtype or "u1").itemsize
        return self._pool.slots if self._pool.here and size > _LARGE_BYTES else 1

    # ---- taking in ------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Wait for a builder, and take what all of those that are done have made."""
        if not self._under_way or any(job.complete for job in self._jobs):
            done = {future for future in self._under_way if future.done()}
        else:
            done = wait(self._under_way, return_when=FIRST_COMPLETED).done
        for future in done:
            self._take(self._under_way.pop(future), future)

    def _take(self, task: _Task, future: Future[Built]) -> None:
        job, planned = task.job, task.plan.volume
        job.under_way -= 1
        try:
            built = future.result()
        except (Exception, CancelledError) as error:
            built = Built(None, VolumeError(told(error)))
        if isinstance(built.error, StorageFull):
            return self._stop(job, built.error)
        if built.volume is None:
            job.failed(f"volume {planned.number} was not built: {built.error}")
            job.volumes[task.place] = replace(planned, reason=str(built.error))
            return None
        volume = replace(built.volume, version=planned.version, plan_digest=planned.plan_digest)
        job.made.add(str(volume.key))
        job.volumes[task.place] = volume
        return None

    def _stop(self, job: _Job, error: StorageFull) -> None:
        """Begin nothing more, as the disk is full."""
        self._full = self._full or error
        job.abandoned = True
        self._waiting.clear()
        for task in self._tasks:
            task.job.abandoned = True
        self._tasks.clear()

    def _commit(self, ready: Sequence[_Job]) -> None:
        """Enter what is complete, in one change, and let others build these series."""
        told = [job for job in ready if not job.abandoned and (job.volumes or job.former or job.findings)]
        entered = self._enter(told) if told else []
        for job in ready:
            self._tidy(job, entered=any(job is one for one in entered))
            self._close(job)
            self._bar.advance(1)

    def _enter(self, jobs: Sequence[_Job]) -> list[_Job]:
        entered: list[_Job] = []
        with self._catalog.change("volumes") as (connection, v):
            for job in jobs:
                if reader.series_id(connection, job.key) != job.series_id:
                    continue  # new instances came meanwhile: whoever settled them builds again
                volumes = [volume for volume in job.volumes if volume is not None]
                writer.close_findings(connection, v, job.key.series_uid, _FINDINGS)
                writer.set_volumes(connection, v, job.key, volumes)
                writer.add_findings(connection, v, job.findings)
                self._found[job.key] = volumes
                entered.append(job)
        return entered

    def _tidy(self, job: _Job, *, entered: bool) -> None:
        """Delete stores that are good for nothing: those that no row lists, and replaced ones with damage."""
        with self._catalog.read() as view:
            listed = reader.store_keys(view, job.key)
        useless = (job.used | job.made) - listed
        if entered:
            now = {volume.key for volume in job.volumes if volume is not None}
            replaced = [volume for volume in job.former if volume.key is not None and volume.key not in now]
            useless |= {str(v.key) for v in replaced if not versions.is_whole(v, self._storage)}
        versions.delete_stores(self._storage, useless)

    def _close(self, job: _Job) -> None:
        job.lock.close()
        self._jobs = [other for other in self._jobs if other is not job]

    def _let_go(self) -> None:
        """After an error: wait for what is under way, and leave neither locks nor new stores behind."""
        for future in self._under_way:
            future.cancel()
        for future, task in self._under_way.items():
            if not future.cancelled():
                self._take(task, future)
        for job in list(self._jobs):
            with suppress(DicomlakeError):  # else the next build of the series does it
                self._tidy(job, entered=False)
            self._close(job)
