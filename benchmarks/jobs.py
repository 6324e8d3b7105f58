"""The jobs: what is measured, against whom, and what is aimed at. Those about volumes are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    catalog_jobs,
    child,
    commit_jobs,
    explorer,
    facet_jobs,
    find_jobs,
    peers,
    reading_jobs,
    receiver_jobs,
    viewer,
    volume_jobs,
)
from benchmarks.harness import Case, Job, Measure, Role, Target, returned
from benchmarks.workload import Workload, files, read_headers, warm

_COPY = "cp -r + fsync of each"
_ORTHANC = "Orthanc, 4 POST clients"


# ---- headers


def header(work: Workload, _scratch: Path) -> Job:
    """Reading the headers of a CT series, and cataloguing every element of them."""
    peers.loaded("pydicom", "gdcm", "dicomlake.dicom.headers", "dicomlake.catalog.attributes")
    paths = files(work.ct)
    warm(paths)
    _catalogued(paths[:1])  # loads the dictionaries
    ours, everything, theirs = "dicomlake, all elements", "dicomlake, all catalogued", "pydicom, no pixels"
    return Job(
        name="header",
        title=f"Headers of a CT of {len(paths)} files (in the page cache)",
        work=len(paths),
        of="files",
        cases=(
            Case(name="read 16 KiB of each", role="limit", run=lambda _: _heads(paths), done=returned),
            Case(name=ours, role="dicomlake", run=lambda _: len(read_headers(paths)), done=returned),
            Case(name=everything, role="dicomlake", run=lambda _: _catalogued(paths), done=returned),
            Case(name=theirs, role="peer", run=lambda _: peers.pydicom_headers(paths), done=returned),
            Case(
                name="gdcm.Scanner, 7 elements",
                role="peer",
                run=lambda _: peers.gdcm_scan(paths),
                done=returned,
                absent=peers.absent("gdcm"),
            ),
        ),
        targets=(Target(ours, 1 / 8, theirs), Target(everything, 1, theirs)),
    )


def _heads(paths: Sequence[Path]) -> int:
    total = 0
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            total += bool(stream.read(1 << 14))
    return total


def _catalogued(paths: Sequence[Path]) -> int:
    """Headers, the block of the series and the rows of every element; counts the instances in the block."""
    from dicomlake.catalog import attributes, blocks

    together = blocks.collect(read_headers(paths))
    packed, rows = blocks.pack(together), attributes.rows(together)
    if not packed or not any(row.path == "SOPInstanceUID" for row in rows):
        return 0
    return len(together)


# ---- ingest


def ingest_ct(work: Workload, _scratch: Path) -> Job:
    """A CT series of few large files."""
    return _ingest("ingest-ct", f"Ingest of a CT of {work.sizes.ct} files, durable and queryable", work.ct)


def ingest_mr(work: Workload, _scratch: Path) -> Job:
    """Many small files in several series."""
    sizes = work.sizes
    title = f"Ingest of {sizes.mr_series} x {sizes.mr_images} MR files, durable and queryable"
    return _ingest("ingest-mr", title, work.mr)


def _ingest(name: str, title: str, source: Path) -> Job:
    peers.loaded("dicomlake.lake", "dicomlake.ingest.pipeline", "dicomlake.catalog.query", "duckdb")
    paths = files(source)
    warm(paths)
    inside, command = "dicomlake, in process", "dicomlake, command line"
    program = peers.orthanc_program()
    return Job(
        name=name,
        title=title,
        work=len(paths),
        of="files",
        cases=(
            Case(
                name=_COPY,
                role="limit",
                run=lambda folder: peers.copy_and_sync(source, folder),
                done=lambda folder, _: len(files(folder / "copy")),
            ),
            Case(
                name=inside, role="dicomlake", run=lambda folder: _ingest_inside(source, folder), done=_stored
            ),
            Case(
                name=command,
                role="dicomlake",
                run=lambda folder: _ingest_command(source, folder),
                done=_stored,
            ),
            Case(
                name=_ORTHANC,
                role="peer",
                run=lambda server: server.post(paths),
                done=lambda server, _: int(server.instances()),
                around=peers.orthanc(program or Path()),
                absent="" if program else "Orthanc",
            ),
        ),
        targets=(
            Target(inside, 2.5, _COPY),
            Target(inside, 1, _ORTHANC),
            Target(command, 1, _ORTHANC),
        ),
    )


def _ingest_inside(source: Path, folder: Path) -> int:
    """A new lake, an ingest and a first query, which brings the mirror up to date."""
    import dicomlake

    with dicomlake.open(folder / "lake", create=True) as lake:
        lake.ingest(source, volumes=False, progress=False)
        return len(lake.query("Modality=*"))


def _ingest_command(source: Path, folder: Path) -> int:
    """The same by two commands, start-up included."""
    lake = folder / "lake"
    child.python("-m", "dicomlake", "ingest", source, "--no-volumes", "--lake", lake)
    return child.python("-m", "dicomlake", "query", "Modality=*", "--lake", lake).count("\n") - 1


def _stored(folder: Path, series: int) -> int:
    """Originals on the disk; none when the catalog has another count, or the query missed a series."""
    import dicomlake

    with dicomlake.open(folder / "lake") as lake:
        counts = lake.counts()
    originals = sum(1 for path in files(folder / "lake" / "studies") if path.suffix == ".dcm")
    return originals if counts["instances"] == originals and counts["series"] == series else 0


# ---- start


def start(work: Workload, scratch: Path) -> Job:
    """What it takes to begin."""
    import dicomlake

    lake = scratch / "empty-lake"
    dicomlake.open(lake, create=True).close()
    times = work.sizes.starts
    statements: dict[str, tuple[str, Role]] = {
        "import dicomlake": ("import dicomlake", "dicomlake"),
        "import dicomlake, open a lake": (
            "import dicomlake; dicomlake.open(sys.argv[1]).close()",
            "dicomlake",
        ),
        "import pydicom": ("import pydicom", "peer"),
    }
    for statement, _role in statements.values():  # leave byte code behind
        child.import_s(statement, [str(lake)], times=1)

    def timed(statement: str) -> Callable[[object], Measure]:
        return lambda _: child.import_s(statement, [str(lake)], times=times)

    def all_timed(_context: object, processes: int) -> int:
        return int(processes == times)

    return Job(
        name="start",
        title=f"Import in a fresh process, the median of {times}",
        work=1,
        of="imports",
        cases=tuple(
            Case(name=name, role=role, run=timed(statement), done=all_timed)
            for name, (statement, role) in statements.items()
        ),
        targets=(Target("import dicomlake", 0.3, "import pydicom"),),
    )


def listing(work: Workload, scratch: Path) -> Job:
    """The command that people type most."""
    import dicomlake

    lake = scratch / "tiny-lake"
    with dicomlake.open(lake, create=True) as made:
        made.ingest(work.tiny, volumes=False, progress=False)
    child.python("-m", "dicomlake", "ls", "--lake", lake)

    def series(_context: object, printed: str) -> int:
        return printed.count("\n") - 1  # without the line of headings

    return Job(
        name="ls",
        title=f"`dicomlake ls` of {work.sizes.tiny:,} series",
        work=work.sizes.tiny,
        of="series",
        unit="CPU s",
        cases=(
            Case(
                name="python -c pass",
                role="limit",
                run=lambda _: child.process_cpu_s("-c", "pass"),
                done=lambda *_: work.sizes.tiny,
            ),
            Case(
                name="dicomlake ls",
                role="dicomlake",
                run=lambda _: child.process_cpu_s("-m", "dicomlake", "ls", "--lake", lake),
                done=series,
            ),
        ),
        targets=(Target("dicomlake ls", 1),),
    )


JOBS: dict[str, Callable[[Workload, Path], Job]] = {
    "header": header,
    "ingest-ct": ingest_ct,
    "ingest-mr": ingest_mr,
    "volume": volume_jobs.volume,
    "volume-jpeg-ls": volume_jobs.volume_jpeg_ls,
    "volume-jpeg-2000": volume_jobs.volume_jpeg_2000,
    "disk": volume_jobs.disk,
    "memory": volume_jobs.memory,
    "memory-enhanced": volume_jobs.memory_enhanced,
    "sagittal": reading_jobs.sagittal,
    "patches": reading_jobs.patches,
    "start": start,
    "ls": listing,
    "facets": facet_jobs.facets,
    "explore": explorer.release,
    "brush": explorer.brush,
    **viewer.JOBS,
    **receiver_jobs.JOBS,
    "any-tag": facet_jobs.any_tag,
    "refresh": catalog_jobs.refresh,
    "by-uid": catalog_jobs.by_uid,
    "first-answer": catalog_jobs.first_answer,
    "commits": commit_jobs.commits,
    "orthanc-find": find_jobs.orthanc_find,
}
