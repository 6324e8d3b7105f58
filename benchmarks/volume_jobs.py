"""The jobs about making volumes: how long it takes, the memory it needs, the bytes it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child, peers, volume_peers, voxels
from benchmarks.harness import Case, Job, Measure, Target, returned
from benchmarks.workload import Workload, files, warm

SITK = "SimpleITK"
_DCM2NIIX = "dcm2niix"
_MB = 1e6

# ---- building


def volume(work: Workload, _scratch: Path) -> Job:
    """A CT series to a compressed volume on the disk."""
    return _building("volume", "", work, work.ct)


def volume_jpeg_ls(work: Workload, _scratch: Path) -> Job:
    """The same from JPEG-LS, and only decoded by pydicom."""
    job = _building("volume-jpeg-ls", " in JPEG-LS", work, work.jpeg_ls)
    decoded = Case(
        name="pydicom in processes, uncompressed .npy",
        role="peer",
        run=lambda folder: child.measured("stack-pydicom", work.jpeg_ls, folder / "stack.npy"),
        done=_whole(work, lambda folder, _: _stacked(folder / "stack.npy", work.jpeg_ls)),
    )
    return replace(job, cases=(*job.cases, decoded))


def volume_jpeg_2000(work: Workload, _scratch: Path) -> Job:
    """The same from JPEG 2000."""
    return _building("volume-jpeg-2000", " in JPEG 2000", work, work.jpeg_2000)


def _building(name: str, of: str, work: Workload, source: Path) -> Job:
    """All contenders make a durable volume, whose every voxel is then compared with the uncompressed CT."""
    peers.loaded(SITK, "zarrs", "dicomlake.lake", "dicomlake.volumes.build", "dicomlake.volumes.engine")
    warm(files(source))
    program = volume_peers.dcm2niix_program(jpeg_ls=source == work.jpeg_ls)
    count = work.sizes.ct
    ours, taken = "dicomlake, sharded Zarr", "dicomlake, ingest by link and sharded Zarr"
    sitk, dcm2niix = "SimpleITK, compressed NRRD", "dcm2niix -z y, .nii.gz"
    return Job(
        name=name,
        title=f"A volume from a CT of {count} slices{of}, durable",
        work=count,
        of="slices",
        cases=(
            Case(
                name="read, write as one file, fsync",
                role="limit",
                run=lambda folder: peers.one_file_and_sync(source, folder),
                done=lambda folder, _: count if _same_size(source, folder / "all") else 0,
            ),
            Case(
                name=ours,
                role="dicomlake",
                run=lambda lake: lake.build_volumes(progress=False),
                done=_whole(work, lambda lake, _: _voxels_in(lake)),
                around=lake_of(source),
            ),
            Case(
                name=taken,
                role="dicomlake",
                run=lambda folder: _ingest(source, folder),
                done=_whole(work, lambda folder, _: _voxels_of(folder)),
            ),
            Case(
                name=sitk,
                role="peer",
                run=lambda folder: volume_peers.simpleitk_nrrd(source, folder),
                done=_whole(work, lambda _, made: voxels.of_simpleitk(made)),
                absent=peers.absent(SITK),
            ),
            Case(
                name=dcm2niix,
                role="peer",
                run=lambda folder: volume_peers.dcm2niix_gz(program or Path(), source, folder),
                done=_whole(work, lambda _, made: voxels.of_nifti(made)),
                absent=_missing(program),
            ),
        ),
        targets=(Target(ours, 1 / 1.5, sitk), Target(ours, 1 / 1.5, dcm2niix)),
    )


def _whole(work: Workload, seen: Callable[[Any, Any], np.ndarray]) -> Callable[[Any, Any], int]:
    """Counts the slices when all voxels that were made are those of the uncompressed CT."""
    truth = voxels.true_digest(work.ct)
    return lambda context, made: work.sizes.ct if voxels.digest(seen(context, made)) == truth else 0


def _missing(program: Path | None) -> str:
    return "" if program else "dcm2niix that reads this (pip install dcm2niix)"


def _same_size(source: Path, copy: Path) -> bool:
    return copy.stat().st_size == sum(path.stat().st_size for path in files(source))


def lake_of(source: Path) -> Callable[[Path], AbstractContextManager[Any]]:
    """A context: a lake with the originals of a folder, without volumes."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Any]:
        import dicomlake

        with dicomlake.open(folder / "lake", create=True) as lake:
            lake.ingest(source, volumes=False, link=True, progress=False)
            yield lake

    return opened


def _ingest(source: Path, folder: Path) -> None:
    import dicomlake

    with dicomlake.open(folder / "lake", create=True) as lake:
        lake.ingest(source, link=True, progress=False)


def _voxels_in(lake: Any) -> np.ndarray:
    return voxels.of_dataset(lake.query(Modality="CT")[0].open(chunks=None))


def _voxels_of(folder: Path) -> np.ndarray:
    import dicomlake

    with dicomlake.open(folder / "lake") as lake:
        return _voxels_in(lake)


def _stacked(path: Path, source: Path) -> np.ndarray:
    import pydicom

    image = pydicom.dcmread(files(source)[0], stop_before_pixels=True)
    return voxels.rescaled(np.load(path), image.RescaleSlope, image.RescaleIntercept)


# ---- bytes


def disk(work: Workload, scratch: Path) -> Job:
    """The bytes of a series as originals and as volumes, everything that belongs to them included."""
    import dicomlake

    count, truth = work.sizes.ct, voxels.true_digest(work.ct)
    program = volume_peers.dcm2niix_program()
    root = scratch / "disk"
    root.mkdir()
    _ingest(work.ct, root)
    with dicomlake.open(root / "lake") as lake:
        store = lake.path / str(lake.volumes()[0].key)
    seen: dict[str, Callable[[], np.ndarray]] = {
        "Zarr": lambda: _voxels_of(root),
        ".nii.gz": lambda: voxels.of_nifti(root / "nifti" / "volume.nii.gz"),
        "NRRD": lambda: voxels.of_simpleitk(root / "nrrd" / "volume.nrrd"),
    }
    (root / "nrrd").mkdir()
    if not peers.absent(SITK):
        volume_peers.simpleitk_nrrd(work.ct, root / "nrrd")
    if program:
        volume_peers.dcm2niix_gz(program, work.ct, root / "nifti")
    originals = _bytes(work.ct)

    def measured(folder: Path) -> Callable[[Any], Measure]:
        size = _bytes(folder)
        return lambda _: Measure(size / _MB, 0.0, also={"% of the originals": 100 * size / originals})

    def holds(kind: str) -> Callable[[object, object], int]:
        return lambda *_: count if voxels.digest(seen[kind]()) == truth else 0

    def objects(folder: Path) -> Callable[[object, object], int]:
        return lambda *_: len(files(folder))

    return Job(
        name="disk",
        title=f"Bytes on the disk of a CT of {count} slices",
        work=count,
        of="slices",
        unit="MB",
        cases=(
            Case(name="originals", role="peer", run=measured(work.ct), done=objects(work.ct)),
            Case(
                name="originals in JPEG-LS",
                role="peer",
                run=measured(work.jpeg_ls),
                done=objects(work.jpeg_ls),
            ),
            Case(
                name="originals in JPEG 2000",
                role="peer",
                run=measured(work.jpeg_2000),
                done=objects(work.jpeg_2000),
            ),
            Case(
                name="dicomlake, Zarr without halved copies",
                role="dicomlake",
                run=measured(store / "scale0"),
                done=holds("Zarr"),
            ),
            Case(
                name="dicomlake, Zarr, all of it", role="dicomlake", run=measured(store), done=holds("Zarr")
            ),
            Case(
                name="dcm2niix -z y, .nii.gz",
                role="peer",
                run=measured(root / "nifti"),
                done=holds(".nii.gz"),
                absent=_missing(program),
            ),
            Case(
                name="SimpleITK, compressed NRRD",
                role="peer",
                run=measured(root / "nrrd"),
                done=holds("NRRD"),
                absent=peers.absent(SITK),
            ),
        ),
    )


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder)) if folder.is_dir() else 0


# ---- memory

_LIMIT_MB = 400


def memory(work: Workload, _scratch: Path) -> Job:
    """The memory that a long series needs."""
    count = work.sizes.long_ct
    built = "dicomlake builds the volume"

    @contextmanager
    def with_originals(folder: Path) -> Iterator[Path]:
        with lake_of(work.long_ct)(folder):
            pass
        yield folder

    building = Case(
        name=built,
        role="dicomlake",
        run=lambda folder: child.measured("memory-build", folder / "lake"),
        done=lambda folder, slices: slices if _planes_are_right(folder, work.ct) else 0,
        around=with_originals,
    )
    return Job(
        name="memory",
        title=f"Peak memory with a CT of {count:,} slices",
        work=count,
        of="slices",
        unit="MB",
        cases=(building, *_memory_cases(work, work.long_ct, "series")),
        targets=(Target(built, _LIMIT_MB), Target(_INGESTED, _LIMIT_MB)),
    )


def memory_enhanced(work: Workload, _scratch: Path) -> Job:
    """The memory that one large object needs."""
    count = work.sizes.frames
    size = _bytes(work.enhanced) / 1e9
    return Job(
        name="memory-enhanced",
        title=f"Peak memory with an enhanced CT of {count:,} frames, {size:.2f} GB in one object",
        work=count,
        of="frames",
        unit="MB",
        cases=_memory_cases(work, work.enhanced, "object"),
        targets=(Target(_INGESTED, _LIMIT_MB),),
    )


_INGESTED = "dicomlake takes it in, builds the volume"


def _memory_cases(work: Workload, source: Path, what: str) -> tuple[Case, ...]:
    program = volume_peers.dcm2niix_program()
    return (
        Case(
            name=_INGESTED,
            role="dicomlake",
            run=lambda folder: child.measured("memory-ingest", folder / "lake", source),
            done=lambda folder, slices: slices if _planes_are_right(folder, work.ct) else 0,
        ),
        Case(
            name=f"SimpleITK reads the {what}",
            role="peer",
            run=lambda _: child.measured("memory-simpleitk", source),
            done=returned,
            absent=peers.absent(SITK),
        ),
        Case(
            name="dcm2niix -z n, uncompressed .nii",
            role="peer",
            run=lambda folder: child.measured("memory-dcm2niix", program or Path(), source, folder),
            done=returned,
            absent=_missing(program),
        ),
    )


def _planes_are_right(folder: Path, ct: Path) -> bool:
    """Whether some planes of the only volume are those that the long series repeat over and over."""
    import dicomlake

    paths = files(ct)
    with dicomlake.open(folder / "lake") as lake:
        dataset = lake.query(Modality="CT")[0].open(chunks=None)
        return all(_plane_is_right(dataset, k, paths) for k in (0, len(paths), dataset.sizes["z"] - 1))


def _plane_is_right(dataset: Any, k: int, paths: Sequence[Path]) -> bool:
    plane = voxels.of_dataset(dataset.isel(z=k))
    return bool(np.array_equal(plane, voxels.of_image(paths[k % len(paths)])))
