"""Where volumes are built: threads of this process, processes, or the workers of a Dask cluster.

All are executors of `concurrent.futures`. A worker builds and returns the record; it never meets the
catalog, which has one writer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicomlake.errors import StorageError
from dicomlake.storage import layout
from dicomlake.storage.objectstore import Storage

if TYPE_CHECKING:
    from distributed import Client

_RETRIES = 2  # of a task that fails on a cluster; workers that vanish are replaced by Dask itself


@dataclass(frozen=True, slots=True)
class Pool:
    """What builds.

    slots: builds that may be under way at once. here: it shares the memory of this machine.
    """

    executor: Executor
    slots: int
    here: bool = True


@contextmanager
def pool(storage: Storage, *, client: Client | None = None, workers: int | None = None) -> Iterator[Pool]:
    """The workers of `client`, or of the active Dask client where they see this lake; else threads.

    workers: builds at once in this process; with it the active client is not looked for.
    Raises StorageError when the workers of a client that was passed do not see the lake.
    """
    chosen: Any = client if client is not None or workers is not None else active_client()
    if chosen is not None and _sees(chosen, storage, required=client is not None):
        executor = chosen.get_executor(pure=False, retries=_RETRIES)
        try:
            yield Pool(executor, 2 * max(1, sum(chosen.nthreads().values())), here=False)
        finally:
            executor.shutdown(wait=False)
        return
    count = workers or min(os.cpu_count() or 1, 4)
    with ThreadPoolExecutor(count, thread_name_prefix="volumes") as threads:
        yield Pool(threads, count)


def active_client() -> Client | None:
    """The Dask client of this process; None without one, and within a task, which must not wait for tasks."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        distributed.get_worker()
        return None
    except ValueError:
        pass
    try:
        found: Client = distributed.get_client()
        return found
    except ValueError:
        return None


def _sees(client: Client, storage: Storage, *, required: bool) -> bool:
    """Whether all workers read this lake, and not another one under the same path."""
    wanted = storage.get(layout.LAKE_TOML)
    try:
        answers = client.run(_settings_seen, storage)
    except Exception as error:  # a broken client fails in many ways
        if required:
            raise StorageError(
                f"the workers of the Dask client cannot be asked ({type(error).__name__}): start a new one"
            ) from error
        return False
    seen = [answer == wanted for answer in answers.values()]
    if required and not all(seen):
        raise StorageError(
            f"{seen.count(False)} of {len(seen)} Dask workers do not see the lake: put it on a shared file "
            "system under the same path, or build without the client"
        )
    return all(seen) and bool(seen or required)


def _settings_seen(storage: Storage) -> bytes | None:
    try:
        return storage.get(layout.LAKE_TOML)
    except StorageError:
        return None
