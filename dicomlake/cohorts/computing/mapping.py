"""A function of each series of a cohort: in threads, in processes or on a Dask cluster; failures are rows."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from dicomlake.cohorts.arrays.images import Opener, Options, SeriesList, opener
from dicomlake.cohorts.computing import derived
from dicomlake.cohorts.computing.fingerprint import Fingerprint, fingerprint
from dicomlake.cohorts.computing.result import NOT_COMPUTED, Outcome, Result, plain
from dicomlake.progress import Progress, progress
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.pools import Pool, pool

if TYPE_CHECKING:
    from distributed import Client

    from dicomlake.series import Series

Of = Literal["image", "series"]
Errors = Literal["keep", "raise"]
_AHEAD = 2  # times the slots of a pool that are given out: no worker waits, and little is held


def map_cohort(
    func: Callable[..., Any],
    series: SeriesList,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    of: Of = "image",
    volume: int | None = None,
    units: str | None = None,
    sel: Mapping[str, Any] | None = None,
    isel: Mapping[str, int] | None = None,
    chunks: Any = None,
    workers: int | None = None,
    processes: bool = False,
    client: Client | None = None,
    progress: bool | None = None,
    errors: Errors = "keep",
    name: str | None = None,
    storage: Storage | None = None,
    change: int | None = None,
    who: str | None = None,
) -> Result:
    """`func(image, *args, **kwargs)` of every series; the order of the result is that of the series.

    func: gets the image, lazily, as a DataArray, and returns a number, text, a dict of these, a DataFrame, a
        DataArray or a Dataset.
    of: "series" passes the Series instead of its image, in threads only.
    volume, units, sel, isel: which image, as in `open_cohort`. chunks: None passes an image that is read
        where it is looked at; "auto" a Dask-backed one.
    workers: at once. processes: in processes of this machine, for functions that hold the interpreter.
    client: a Dask client whose workers compute; without one the active client of this process serves, if its
        workers see the lake and workers= is not given.
    progress: None shows a bar where somebody looks.
    errors: "keep" makes a row of each failure and goes on, "raise" stops at the first.
    name: keep the result in the lake as `derived/<name>/<number>/`, with the code, arguments, inputs and
        versions (`derived.py`). What the same code made of the same volumes before is not computed again.
    storage, change, who: of the lake, its newest change, and the user; needed with `name`.
    An interrupt (Ctrl-C) ends it early: the result has what was done, and is kept under its name.
    """
    _check(of, errors, name, storage, elsewhere=processes or client is not None)
    options = Options(volume, units, dict(sel or {}), dict(isel or {}), chunks)
    job = _Job(func, tuple(args), dict(kwargs or {}), of, options, errors)
    where = _Where(storage, client, workers, processes)
    if name is None or storage is None:
        result, error = _mapped(job, series, {}, where, progress)
    else:
        keeping = derived.keeping(storage, name, job.fingerprint(), change=change, who=who)
        inputs = [_inputs(one) for one in series]
        done = keeping.found([one.key for one in series], inputs)
        result, error = _mapped(job, series, done, where, progress)
        result = keeping.kept(result, inputs, reused=len(done), told=job.told())
    if error is not None:
        raise error
    return result


def _check(of: str, errors: str, name: str | None, storage: Storage | None, *, elsewhere: bool) -> None:
    if of not in get_args(Of) or errors not in get_args(Errors):
        raise ValueError("of is 'image' or 'series', errors is 'keep' or 'raise'")
    if of == "series" and elsewhere:
        raise ValueError("of='series' runs in threads of this process: a Series holds its open lake")
    if name is not None and storage is None:
        raise ValueError("name= needs storage=, the storage of the lake")


@dataclass(frozen=True, slots=True)
class _Where:
    """What computes: see `map_cohort`."""

    storage: Storage | None
    client: Client | None
    workers: int | None
    processes: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done to each series."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    of: Of
    options: Options
    errors: Errors

    def fingerprint(self) -> Fingerprint:
        """What a result is that of; of a Series nobody can tell what a function read."""
        found = fingerprint(self.func, (self.args, self.kwargs, repr(self.options)))
        return replace(found, sha256=None) if self.of == "series" else found

    def told(self) -> dict[str, str]:
        """What is kept with a result, beside the code."""
        return {"arguments": repr((self.args, self.kwargs)), "options": repr(self.options), "of": self.of}

    def submit(self, builders: Pool, series: Series) -> Future[Any]:
        """Give one series to a worker."""
        run = functools.partial(_applied, self.func, self.args, self.kwargs)
        if self.of == "series":
            return builders.executor.submit(run, series)
        image = opener(series, self.options)
        if builders.here and not isinstance(builders.executor, ProcessPoolExecutor):
            return builders.executor.submit(_of_image, run, image)
        import cloudpickle  # type: ignore[import-untyped]  # it has no stubs

        return builders.executor.submit(_of_sent, cloudpickle.dumps((run, image)))


def _applied(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> Any:
    return plain(func(given, *args, **kwargs))


def _of_image(run: Callable[[Any], Any], image: Opener) -> Any:
    return run(image.image())


def _of_sent(sent: bytes) -> Any:
    """In another process; functions of a notebook or a script are known by their code only."""
    import cloudpickle

    run, image = cloudpickle.loads(sent)
    return _of_image(run, image)


@contextmanager
def _pool(of: Of, where: _Where) -> Iterator[Pool]:
    count = where.workers or min(os.cpu_count() or 1, 4)
    if where.processes:
        context = multiprocessing.get_context("spawn")  # forks of a process with threads may hang
        with ProcessPoolExecutor(count, mp_context=context) as processes:
            yield Pool(processes, count)
    elif of == "image" and where.storage is not None:
        with pool(where.storage, client=where.client, workers=where.workers) as found:
            yield found
    elif where.client is not None:
        there: Any = where.client
        executor = there.get_executor(pure=False)
        try:
            yield Pool(executor, 2 * max(1, sum(there.nthreads().values())), here=False)
        finally:
            executor.shutdown(wait=False)
    else:
        with ThreadPoolExecutor(count, thread_name_prefix="map") as threads:
            yield Pool(threads, count)


def _mapped(
    job: _Job, series: SeriesList, done: Mapping[int, Outcome], where: _Where, show: bool | None
) -> tuple[Result, BaseException | None]:
    """Outcomes of all series, those that are done already taken as they are; and the error to raise."""
    todo = [position for position in range(len(series)) if position not in done]
    with _pool(job.of, where) as builders:
        found, interrupted, error = _run(job, series, todo, builders, show)
    every = {**done, **found}
    outcomes = [every.get(position) or _not_begun(one) for position, one in enumerate(series)]
    return Result(outcomes, interrupted), error


Ended = tuple[dict[int, Outcome], bool, BaseException | None]


def _run(job: _Job, series: SeriesList, todo: Sequence[int], builders: Pool, show: bool | None) -> Ended:
    """Outcomes by position, whether it was interrupted, and the error that must be raised."""
    found: dict[int, Outcome] = {}
    waiting = iter(todo)
    under_way: dict[Future[Any], int] = {}
    with progress("Mapping", len(todo), unit="series", show=show) as bar:
        try:
            while _fill(job, series, waiting, under_way, builders, found, bar) or under_way:
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    position = under_way.pop(future)
                    found[position] = _taken(series[position], future, job.errors)
                    bar.advance(1)
        except KeyboardInterrupt:
            _let_go(series, under_way, found)
            return found, True, None
        except BaseException as error:
            _let_go(series, under_way, found)
            return found, True, error
    return found, False, None


def _fill(
    job: _Job,
    series: SeriesList,
    waiting: Iterator[int],
    under_way: dict[Future[Any], int],
    builders: Pool,
    found: dict[int, Outcome],
    bar: Progress,
) -> bool:
    """Give out what there is room for; whether anything is under way."""
    while len(under_way) < _AHEAD * builders.slots:
        position = next(waiting, None)
        if position is None:
            break
        one = series[position]
        try:
            under_way[job.submit(builders, one)] = position
        except (
            Exception
        ) as error:  # a series that cannot be opened is a row, like one that cannot be computed
            if job.errors == "raise":
                raise
            found[position] = _failed(one, error)
            bar.advance(1)
    return bool(under_way)


def _taken(series: Series, future: Future[Any], errors: Errors) -> Outcome:
    try:
        return Outcome(series.key, future.result())
    except Exception as error:
        if errors == "raise":
            raise
        return _failed(series, error)


def _failed(series: Series, error: BaseException) -> Outcome:
    return Outcome(series.key, error=type(error).__name__, message=str(error))


def _not_begun(series: Series) -> Outcome:
    return Outcome(series.key, error=NOT_COMPUTED, message="it was interrupted before this series was done")


def _let_go(series: SeriesList, under_way: dict[Future[Any], int], found: dict[int, Outcome]) -> None:
    """Cancel what has not begun, and keep what is done."""
    for future in under_way:
        future.cancel()
    for future, position in under_way.items():
        if not future.cancelled():  # it runs, and its pool waits for it anyway
            with suppress(Exception, CancelledError):
                found[position] = Outcome(series[position].key, future.result())


def _inputs(series: Series) -> tuple[tuple[int, str | None], ...]:
    return tuple((volume.number, volume.store_sha256) for volume in series.volumes)
