"""Commits of whole series by several processes while others read: how many a second, how long a read.

A commit is what makes a series visible: its row, study and patient, 300 instance rows and the packed
headers. The headers are those of a CT series; every commit has a series of its own.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from dicomlake.catalog import blocks, instances, reader, schema, writer
from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.walk import Encoding, Raw
from dicomlake.records import Instance, SeriesKey
from dicomlake.storage import layout

INSTANCES = 300
_ROOT = "1.2.826.0.1.3680043.10.1338"
_START_S = 120


def measure(
    folder: Path, writers: int, seconds: float, *, readers: int = 1, url: str | None = None
) -> dict[str, Any]:
    """Let processes commit and others read one series after another; what they did.

    folder: for the catalog, unless `url` is that of a PostgreSQL database.
    Returns series_per_s, commit_ms and read_ms (median), read_p99_ms, commits, reads. The rate is that of
    all writers together, over the time of the one that took longest.
    """
    place: Path | str = url or folder / "catalog.sqlite"
    catalog = Catalog.open(place)
    commit(catalog, made(0, 0))  # so that readers find a series
    catalog.close()
    context = mp.get_context("spawn")
    begin, done = context.Barrier(writers + readers + 1), context.Event()
    results: Any = context.Queue()
    processes = [
        context.Process(target=_write, args=(place, n + 1, seconds, begin, results)) for n in range(writers)
    ] + [context.Process(target=_read, args=(place, n, begin, done, results)) for n in range(readers)]
    for process in processes:
        process.start()
    begin.wait(_START_S)
    written = [results.get(timeout=seconds + _START_S) for _ in range(writers)]
    done.set()
    reads = [ms for _ in range(readers) for ms in results.get(timeout=_START_S)]
    for process in processes:
        process.join(_START_S)
    commits = [ms for times, _lasted in written for ms in times]
    lasted = [seconds for _times, seconds in written]
    return {
        "series_per_s": round(len(commits) / max(lasted), 1),
        "commit_ms": round(statistics.median(commits), 2),
        "read_ms": round(statistics.median(reads), 2) if reads else None,
        "read_p99_ms": round(sorted(reads)[int(len(reads) * 0.99)], 2) if reads else None,
        "commits": len(commits),
        "reads": len(reads),
    }


@dataclass(frozen=True, slots=True)
class Made:
    """A series before its commit."""

    key: SeriesKey
    headers: SeriesHeaders
    instances: list[Instance]


def commit(catalog: Catalog, one: Made) -> int:
    """Register the instances of a series and settle it, in one change; the change's number."""
    drafts = instances.drafted(one.instances)
    ready = writer.settling(one.key, one.headers, sum(i.size for i in one.instances))
    with catalog.change("ingest") as (connection, v):
        instances.add(connection, v, drafts)
        writer.make_visible(connection, v, ready)
    return v


def made(process: int, number: int, slices: int = INSTANCES) -> Made:
    """A series of a study of its own; every patient has three."""
    study = f"{_ROOT}.{process}.{number}"
    key = SeriesKey(study, f"{study}.1")
    uids = [f"{study}.1.{i}" for i in range(1, slices + 1)]
    headers = [(uid, _header(key, uid, i, process, number)) for i, uid in enumerate(uids)]
    random_ = random.Random(f"{process} {number}")
    objects = [
        Instance(
            uid,
            "1.2.840.10008.5.1.4.1.1.2",
            key,
            "1.2.840.10008.1.2.1",
            layout.original_key(*key, uid),
            526_336,
            f"{random_.getrandbits(256):064x}",
            f"{random_.getrandbits(256):064x}",
        )
        for uid in uids
    ]
    return Made(key, blocks.collect(headers), objects)


def _header(key: SeriesKey, uid: str, i: int, process: int, number: int) -> Attributes:
    elements = _CONSTANT | {
        0x00080018: ("UI", uid.encode()),
        0x0020000D: ("UI", key.study_uid.encode()),
        0x0020000E: ("UI", key.series_uid.encode()),
        0x00100020: ("LO", f"P{process}-{number // 3}".encode()),
        0x00200013: ("IS", str(i + 1).encode()),
        0x00201041: ("DS", f"{-300 + 1.25 * i:g}".encode()),
        0x00200032: ("DS", f"-180\\-180\\{-300 + 1.25 * i:g}".encode()),
        0x00080032: ("TM", f"1015{i % 60:02d}.{i:06d}".encode()),
        0x00181151: ("IS", str(200 + i % 97).encode()),
    }
    return Attributes(elements, _EXPLICIT, (), False)


_EXPLICIT = Encoding(implicit=False, big_endian=False)
_CONSTANT: dict[int, Raw] = {
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2"),
    0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
    0x00080020: ("DA", b"20240131"),
    0x00080060: ("CS", b"CT"),
    0x00080070: ("LO", b"Maker"),
    0x0008103E: ("LO", b"Thorax 1.25 B30f"),
    0x00100010: ("PN", b"Sample^Name"),
    0x00100040: ("CS", b"F"),
    0x00101010: ("AS", b"061Y"),
    0x00180050: ("DS", b"1.25"),
    0x00180060: ("DS", b"120"),
    0x00200011: ("IS", b"2"),
    0x00280010: ("US", b"\x00\x02"),
    0x00280011: ("US", b"\x00\x02"),
    0x00280030: ("DS", b"0.703125\\0.703125"),
    **{0x00191001 + n: ("LO", f"private value {n}".encode()) for n in range(100)},
}


def _write(place: Path | str, process: int, seconds: float, begin: Barrier, results: Any) -> None:
    catalog = Catalog.open(place)
    series = [made(process, number) for number in range(40)]  # made before, as ingest has them by then
    begin.wait(_START_S)
    times: list[float] = []
    begun = time.perf_counter()
    for one in _endless(series):
        started = time.perf_counter()
        commit(catalog, one)
        finished = time.perf_counter()
        times.append(1000 * (finished - started))
        if finished > begun + seconds:
            break
    results.put((times, time.perf_counter() - begun))
    catalog.close()


def _endless(series: list[Made]) -> Iterator[Made]:
    """The same series again and again under new UIDs, which cost next to nothing to make."""
    for turn in range(1_000_000):
        for one in series:
            key = SeriesKey(f"{one.key.study_uid}.{turn}", f"{one.key.series_uid}.{turn}")
            headers = replace(one.headers, instances=tuple(f"{uid}.{turn}" for uid in one.headers.instances))
            yield Made(key, headers, [_again(instance, key, turn) for instance in one.instances])


def _again(one: Instance, key: SeriesKey, turn: int) -> Instance:
    return Instance(
        f"{one.sop_instance_uid}.{turn}",
        one.sop_class_uid,
        key,
        one.transfer_syntax,
        f"{one.key[:-4]}.{turn}.dcm",
        one.size,
        one.sha256,
        one.dataset_sha256,
    )


def _read(place: Path | str, number: int, begin: Barrier, done: Event, results: Any) -> None:
    """One series after another, by its UID: its row, headers and instances."""
    catalog = Catalog.open(place)
    begin.wait(_START_S)
    times: list[float] = []
    chosen = random.Random(number)
    while not done.is_set():
        with catalog.read() as view:
            newest = max(schema.head(view), 1)
        started = time.perf_counter()
        with catalog.read() as view:
            id_ = chosen.randint(1, newest)
            rows = reader.series_rows(view, [id_])
            for row in rows:
                reader.series_ids_with(view, row["SeriesInstanceUID"])
                len(reader.headers_of(view, id_))
        times.append(1000 * (time.perf_counter() - started))
        time.sleep(0.002)
    results.put(times)
    catalog.close()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        print(json.dumps(measure(Path(name), 4, 5.0)))
