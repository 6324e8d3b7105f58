"""C-STORE into dicomlake and others: one sender, four, twenty, one with Nagle's algorithm, many objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import peers, receivers
from benchmarks.harness import Case, Job, Measure, Role, Target
from benchmarks.receivers import Around, Receiver
from benchmarks.workload import Workload, files, warm

_OURS = "dicomlake listen, durable"
_TWO = "dicomlake listen, durable, 2 processes"
_STORESCP = "storescp +B, not durable"
_ORTHANC = "Orthanc"
_PYNETDICOM = "pynetdicom's storescp, not durable"
_NOT_YET = ("--quiet", "600", "--no-volumes")  # series settle after what is timed
_NAGLE = 60  # objects of a sender that waits for each delayed acknowledgement


@dataclass(frozen=True, slots=True)
class _Run:
    """A receiver, and the folders of the senders."""

    receiver: Receiver
    folders: Sequence[Path]

    def cpu_seconds(self) -> float:
        return self.receiver.cpu_seconds()


def _case(
    name: str,
    role: Role,
    receiver: Around,
    run: Callable[[_Run], Measure],
    folders: Callable[[Path], list[Path]],
    absent: str = "",
) -> Case:
    @contextmanager
    def around(folder: Path) -> Iterator[_Run]:
        dealt = folders(folder / "sent")
        with receiver(folder) as started:
            yield _Run(started, dealt)

    def done(context: _Run, _result: Any) -> int:
        return context.receiver.count()

    return Case(name=name, role=role, run=run, done=done, around=around, absent=absent)


def _fast(context: _Run) -> Measure:
    seconds, slowest = receivers.fast(context.receiver.port, context.folders)
    return Measure(seconds, also={"slowest answer, ms": slowest * 1e3})


def _cases(
    run: Callable[[_Run], Measure], folders: Callable[[Path], list[Path]], *, nodelay: bool = True
) -> list[Case]:
    dcmtk, orthanc = receivers.missing("storescp"), "" if peers.orthanc_program() else "Orthanc"
    listed: list[tuple[str, Role, Around, str]] = [
        (_OURS, "dicomlake", receivers.dicomlake(*_NOT_YET), ""),
        (_TWO, "dicomlake", receivers.dicomlake(*_NOT_YET, "--processes", "2"), ""),
        (
            "storescp --ignore, nothing written",
            "limit",
            receivers.storescp("--ignore", nodelay=nodelay),
            dcmtk,
        ),
        (_STORESCP, "peer", receivers.storescp("+B", nodelay=nodelay), dcmtk),
        (_ORTHANC, "peer", receivers.orthanc(nodelay=nodelay), orthanc),
        (_PYNETDICOM, "peer", receivers.pynetdicom(), ""),
    ]
    made = [_case(name, role, around, run, folders, absent) for name, role, around, absent in listed]
    return [_without_count(one) if one.role == "limit" else one for one in made]


def _without_count(case: Case) -> Case:
    """A case that keeps nothing: what it was sent counts."""
    return replace(case, done=lambda context, _result: sum(len(files(one)) for one in context.folders))


def receive_ct(work: Workload, _scratch: Path) -> Job:
    """A CT from one sender."""
    paths = files(work.ct)
    warm(paths)
    cases = _cases(_fast, lambda folder: receivers.split(paths, folder, 1))
    return Job(
        name="receive-ct",
        title=f"C-STORE of {len(paths)} CT images by one sender",
        work=len(paths),
        of="objects",
        cases=tuple(cases),
        targets=(Target(_OURS, 1 / 0.6, _STORESCP), Target(_OURS, 0.5, _ORTHANC)),
    )


def receive_mr(work: Workload, _scratch: Path) -> Job:
    """Small images from four senders at once."""
    paths = files(work.mr)
    warm(paths)
    cases = _cases(_fast, lambda folder: receivers.split(paths, folder, 4))
    return Job(
        name="receive-mr",
        title=f"C-STORE of {len(paths)} MR images by 4 senders at once",
        work=len(paths),
        of="objects",
        cases=tuple(cases),
        targets=(Target(_OURS, 1 / 0.7, _STORESCP), Target(_OURS, 0.5, _ORTHANC)),
    )


def receive_many(work: Workload, _scratch: Path) -> Job:
    """The same images from 4 senders and from 20: more of them must not cost."""
    paths = files(work.mr)
    warm(paths)

    def case(senders: int, options: Sequence[str] = ()) -> Case:
        around = receivers.dicomlake(*_NOT_YET, *options)
        name = f"{senders} senders" + ", 2 processes" * bool(options)
        return _case(name, "dicomlake", around, _fast, lambda folder: receivers.split(paths, folder, senders))

    return Job(
        name="receive-many",
        title=f"C-STORE of {len(paths)} MR images by 4 and by 20 senders at once",
        work=len(paths),
        of="objects",
        cases=(case(4), case(20), case(20, ("--processes", "2"))),
        targets=(Target("20 senders", 1 / 0.8, "4 senders"),),
    )


def receive_nagle(work: Workload, _scratch: Path) -> Job:
    """dcmsend as Debian installs it."""
    paths = files(work.ct)[:_NAGLE]
    warm(paths)

    def run(context: _Run) -> Measure:
        return Measure(receivers.dcmsend(context.receiver.port, context.folders[0], nodelay=False))

    cases = _cases(run, lambda folder: receivers.split(paths, folder, 1), nodelay=False)
    missing = receivers.missing("dcmsend")
    return Job(
        name="receive-nagle",
        title=f"C-STORE of {len(paths)} CT images by dcmsend as installed, with Nagle's algorithm",
        work=len(paths),
        of="objects",
        cases=tuple(cases) if not missing else (),
        targets=(Target(_OURS, 0.1, _ORTHANC),),
    )


def receive_soak(work: Workload, scratch: Path) -> Job:
    """Many small objects: memory of the receiver at the end, of that after the first part."""
    number = work.sizes.soak
    part = max(number // 10, 1)

    def run(context: _Run) -> Measure:
        first = 0
        for folder in context.folders:
            receivers.fast(context.receiver.port, [folder])
            first = first or context.receiver.memory()
        return Measure(context.receiver.memory() / first, also={"MB after the first tenth": first / 1e6})

    folders: dict[str, list[Path]] = {}

    def dealt(_folder: Path) -> list[Path]:
        if "made" not in folders:
            folders["made"] = _made(scratch / "soak", number, part)
        return folders["made"]

    return Job(
        name="receive-soak",
        title=f"Memory of the receiver over {number:,} objects, of that after a tenth",
        work=number,
        of="objects",
        cases=(_case(_OURS, "dicomlake", receivers.dicomlake(*_NOT_YET), run, dealt),),
        targets=(Target(_OURS, 1.25),),
        unit="ratio",
    )


def _made(folder: Path, number: int, part: int) -> list[Path]:
    """Small objects in folders of `part`, a series a thousand: one object under other UIDs of its length."""
    from tests.objects import ROOT, dicom

    series, instance = f"{ROOT}.9.1000000", f"{ROOT}.9.1000000.1000000"
    template = dicom(1, series=series, SOPInstanceUID=instance)
    found = []
    for start in range(0, number, part):
        target = folder / f"{start:06d}"
        target.mkdir(parents=True)
        for n in range(start, min(start + part, number)):
            other = f"{ROOT}.9.{1_000_000 + n // 1000}"
            renamed = template.replace(instance.encode(), f"{other}.{1_000_000 + n}".encode())
            (target / f"{n:06d}.dcm").write_bytes(renamed.replace(series.encode(), other.encode()))
        found.append(target)
    os.sync()
    return found


JOBS: dict[str, Callable[[Workload, Path], Job]] = {
    "receive-ct": receive_ct,
    "receive-mr": receive_mr,
    "receive-many": receive_many,
    "receive-nagle": receive_nagle,
    "receive-soak": receive_soak,
}
