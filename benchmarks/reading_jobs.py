"""The jobs about reading parts of a volume: one slice that nobody has read lately, patches at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child, peers, volume_peers, voxels
from benchmarks.harness import Case, Job, Role, Target
from benchmarks.volume_jobs import SITK
from benchmarks.volume_peers import Corner
from benchmarks.workload import Workload, evict, files, warm

_COLUMN = 256
_SEED = 2024
_NIBABEL = "nibabel"
_INSIDE, _WHOLE = "after imports", "from the start of a process"


def _lake_with_volume(work: Workload, folder: Path) -> Path:
    import dicomlake

    with dicomlake.open(folder, create=True) as made:
        made.ingest(work.ct, link=True, progress=False)
    return folder


# ---- one slice


def sagittal(work: Workload, scratch: Path) -> Job:
    """One slice across all files of a series that nobody has read lately."""
    lake, nifti = _lake_with_volume(work, scratch / "sagittal-lake"), scratch / "sagittal-nifti"
    program = volume_peers.dcm2niix_program()
    if program:
        volume_peers.dcm2niix_gz(program, work.ct, nifti)
    expected = voxels.true_column_digest(work.ct, _COLUMN)
    missing = peers.absent(_NIBABEL) or ("" if program else "dcm2niix")
    return Job(
        name="sagittal",
        title=f"One sagittal slice of a CT of {work.sizes.ct} slices, cold page cache",
        work=1,
        of="slices",
        cases=(
            *_cold_pair("dicomlake", "dicomlake", lake, expected),
            *_cold_pair(SITK, "peer", work.ct, expected, peers.absent(SITK)),
            *_cold_pair(_NIBABEL, "peer", nifti, expected, missing),
        ),
        targets=(
            Target(f"dicomlake, {_INSIDE}", 1 / 20, f"{SITK}, {_INSIDE}"),
            Target(f"dicomlake, {_INSIDE}", 1 / 10, f"{_NIBABEL}, {_INSIDE}"),
            Target(f"dicomlake, {_WHOLE}", 1, f"{SITK}, {_WHOLE}"),
        ),
    )


def _cold_pair(name: str, role: Role, folder: Path, expected: str, missing: str = "") -> tuple[Case, Case]:
    """A reader of the files in a folder: timed when everything is imported, and timed as a process."""
    arguments = (folder, str(_COLUMN))

    @contextmanager
    def evicted(given: Path) -> Iterator[Path]:
        evict(files(folder))
        yield given

    def done(_context: object, result: Any) -> int:
        _shape, found = result
        return int(found == expected)

    return (
        Case(
            name=f"{name}, {_INSIDE}",
            role=role,
            run=lambda _: child.measured(f"slice-{name.lower()}", *arguments),
            done=done,
            absent=missing,
        ),
        Case(
            name=f"{name}, {_WHOLE}",
            role=role,
            run=lambda _: child.whole_process(f"whole-{name.lower()}", *arguments),
            done=done,
            around=evicted,
            absent=missing,
        ),
    )


# ---- patches


def patches(work: Workload, scratch: Path) -> Job:
    """Cubes at random places, as training reads them, from files that are in the page cache."""
    peers.loaded("pydicom.pixels", "zarrs", "dicomlake.volumes.read")
    sizes = work.sizes
    lake = _lake_with_volume(work, scratch / "patches-lake")
    warm([*files(work.ct), *files(lake)])
    paths = voxels.by_position(work.ct)
    held = _stored(paths)
    side = sizes.patch
    corners = _corners(held.shape, side, sizes.patches)
    expected = _digest([_cut(held, corner, side) for corner in corners])

    def cutting(cut: Callable[[Any, Corner], np.ndarray]) -> Callable[[Any], list[np.ndarray]]:
        return lambda source: [cut(source, corner) for corner in corners]

    def done(_context: object, found: Sequence[np.ndarray]) -> int:
        return len(found) if _digest(found) == expected else 0

    ours, theirs = "dicomlake, from the volume", "pydicom, slices stacked"
    return Job(
        name="patches",
        title=f"{sizes.patches} random patches of {side}³ voxels of a CT of {sizes.ct} slices",
        work=sizes.patches,
        of="patches",
        cases=(
            Case(
                name="copied from an array in memory",
                role="limit",
                run=cutting(lambda _, corner: _cut(held, corner, side).copy()),
                done=done,
            ),
            Case(
                name=ours,
                role="dicomlake",
                run=cutting(lambda image, corner: _of_image(image, corner, side)),
                done=done,
                around=_opened(lake, None),
            ),
            Case(
                name=f"{ours}, through Dask",
                role="dicomlake",
                run=cutting(lambda image, corner: _of_image(image, corner, side)),
                done=done,
                around=_opened(lake, "auto"),
            ),
            Case(
                name=theirs,
                role="peer",
                run=cutting(lambda _, corner: volume_peers.pydicom_patch(paths, corner, side)),
                done=done,
            ),
        ),
        targets=(Target(ours, 1 / 50, theirs),),
    )


def _opened(lake: Path, chunks: str | None) -> Callable[[Path], AbstractContextManager[Any]]:
    """A context: the image of the only series."""

    @contextmanager
    def image(_folder: Path) -> Iterator[Any]:
        import dicomlake

        with dicomlake.open(lake) as opened:
            yield opened.query(Modality="CT")[0].open(chunks=chunks).image

    return image


def _stored(paths: Sequence[Path]) -> np.ndarray:
    import pydicom

    return np.stack([pydicom.dcmread(path).pixel_array for path in paths])


def _corners(shape: Sequence[int], side: int, count: int) -> list[Corner]:
    chance = random.Random(_SEED)
    z, y, x = (n - side + 1 for n in shape)
    return [(chance.randrange(z), chance.randrange(y), chance.randrange(x)) for _ in range(count)]


def _cut(values: Any, corner: Corner, side: int) -> np.ndarray:
    z, y, x = (slice(first, first + side) for first in corner)
    found: np.ndarray = values[z, y, x]
    return found


def _of_image(image: Any, corner: Corner, side: int) -> np.ndarray:
    z, y, x = (slice(first, first + side) for first in corner)
    found: np.ndarray = image[z, y, x].values
    return found


def _digest(found: Sequence[np.ndarray]) -> str:
    return voxels.digest(np.stack(found))
