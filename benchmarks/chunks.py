"""`python -m benchmarks.chunks [FOLDER | FILE.nii …]`: which chunks, shards and codec a volume should have.

Each layout is written shard by shard, as `dicomlake.volumes.build` does, then read whole, in slices of three
directions and in random patches; in turns with the others, from the page cache. The figures behind
docs/decisions/0003-chunks-and-shards.md and 0008-chunks-of-4d.md. FOLDER holds one CT or MR series; without
any, the sample CT. FILE.nii holds a time series, which is made longer (`lengthened`); its slices and patches
are of one time, and the course over all times of single voxels is read as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import spread
from benchmarks.volume_peers import simpleitk_volume
from benchmarks.workload import files
from dicomlake.storage import arrays

_PATCH = 64
_TIMES, _DEPTH = 200, 40
_PATCHES = 40
_SLICES = 7
_PIPELINES = {
    "zarrs": "zarrs.ZarrsCodecPipeline",
    "zarr-python": "zarr.core.codec_pipeline.BatchedCodecPipeline",
}
_COLUMNS = ("ratio", "write MB/s", "read MB/s", "axial ms", "coronal ms", "sagittal ms", "patches/s")
_COLUMNS_4D = (*_COLUMNS, "volume ms", "course ms")


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array is stored: inner chunk ([time,] z, y, x) in a shard of whole slices, codec, who encodes
    it, and whether each chunk has a checksum (crc32c)."""

    chunk: tuple[int, ...]
    codec: str = "zstd"
    level: int = 3
    shuffle: str = "bitshuffle"
    pipeline: str = "zarrs"
    checksum: bool = False

    def __str__(self) -> str:
        chunk = "x".join(map(str, self.chunk))
        checksum = ", crc32c" if self.checksum else ""
        return f"{chunk}, {self.codec} {self.level} {self.shuffle}{checksum}, {self.pipeline}"


_CHUNKS = ((32, 64, 64), (64, 64, 64), (16, 64, 64), (32, 128, 128), (32, 32, 32), (1, 512, 512))
LAYOUTS = (
    *(Layout(chunk) for chunk in _CHUNKS),
    *(Layout(chunk, pipeline="zarr-python") for chunk in _CHUNKS[:-1]),
    Layout(_CHUNKS[0], "zstd", 3, "shuffle"),
    Layout(_CHUNKS[0], "zstd", 1, "shuffle"),
    Layout(_CHUNKS[0], "zstd", 1, "bitshuffle"),
    Layout(_CHUNKS[0], "lz4", 5, "bitshuffle"),
    Layout(_CHUNKS[0], "lz4", 5, "shuffle"),
    Layout(_CHUNKS[0], "zstd", 1, "shuffle", checksum=True),
    Layout(_CHUNKS[0], "zstd", 1, "shuffle", "zarr-python"),
    Layout(_CHUNKS[0], "zstd", 1, "shuffle", "zarr-python", checksum=True),
)
_CHUNKS_4D = (
    (50, 8, 32, 32),
    (1, 32, 64, 64),
    (8, 16, 32, 32),
    (16, 8, 32, 32),
    (50, 8, 16, 16),
    (200, 8, 32, 32),
    (50, 1, 64, 64),
)
LAYOUTS_4D = (
    *(Layout(chunk, level=1, shuffle="shuffle") for chunk in _CHUNKS_4D),
    *(Layout(chunk, level=1, shuffle="shuffle", pipeline="zarr-python") for chunk in _CHUNKS_4D[:4]),
    Layout(_CHUNKS_4D[0], level=1, shuffle="shuffle", checksum=True),
    Layout(_CHUNKS_4D[0], level=1, shuffle="bitshuffle"),
    Layout(_CHUNKS_4D[0], level=3, shuffle="shuffle"),
)


def measure(values: np.ndarray, layout: Layout, folder: Path) -> dict[str, float]:
    """All figures of one layout; the array comes back unchanged or AssertionError is raised."""
    import zarr
    import zarrs  # noqa: F401  registers itself with zarr

    with zarr.config.set({"codec_pipeline.path": _PIPELINES[layout.pipeline]}):
        array, shard = _create(values, layout, folder)
        write_s = _seconds(lambda: _write(array, values, shard))
        array = zarr.open_array(folder, mode="r")
        back, read_s = _timed(lambda: array[:])
        assert np.array_equal(back, values), f"{layout} changed the values"
        slices = [_slices_ms(array, axis) for axis in range(values.ndim - 3, values.ndim)]
        patches = list(_patches(values.shape))
        patches_s = _seconds(lambda: [array[patch] for patch in patches])
        over_time = [_slices_ms(array, 0), _course_ms(array)] if values.ndim == 4 else []
    size = sum(path.stat().st_size for path in files(folder))
    mb = values.nbytes / 1e6
    found = (values.nbytes / size, mb / write_s, mb / read_s, *slices, len(patches) / patches_s, *over_time)
    return dict(zip(_columns(values.ndim), found, strict=True))


def _columns(ndim: int) -> tuple[str, ...]:
    return _COLUMNS_4D if ndim == 4 else _COLUMNS


def _create(values: np.ndarray, layout: Layout, folder: Path) -> tuple[Any, tuple[int, ...]]:
    import zarr

    dims = ("time", "z", "y", "x")[-values.ndim :]
    cut = arrays.sharded(values.shape, dims, values.dtype, layout.chunk)
    codec = zarr.codecs.BloscCodec(cname=layout.codec, clevel=layout.level, shuffle=layout.shuffle)  # type: ignore[arg-type]
    codecs = [codec, zarr.codecs.Crc32cCodec()] if layout.checksum else [codec]
    array = zarr.create_array(
        folder,
        shape=values.shape,
        dtype=values.dtype,
        chunks=cut.chunk,
        shards=cut.shard,
        compressors=codecs,
    )
    return array, cut.shard


def _write(array: Any, values: np.ndarray, shard: Sequence[int]) -> None:
    firsts = (range(0, n, extent) for n, extent in zip(values.shape, shard, strict=True))
    for start in itertools.product(*firsts):
        at = tuple(slice(first, first + extent) for first, extent in zip(start, shard, strict=True))
        array[at] = values[at]


def _slices_ms(array: Any, axis: int) -> float:
    """Milliseconds of a slice across an axis, the median of some that are spread over it; at one time,
    unless it is time that is sliced.

    Asked for as a slice of length 1: with an integer for y, zarrs hands over to zarr-python.
    """
    n = array.shape[axis]
    found = []
    for number in range(_SLICES):
        index = [slice(None)] * array.ndim
        if array.ndim == 4:
            index[0] = slice(number, number + 1)
        at = (2 * number + 1) * n // (2 * _SLICES)
        index[axis] = slice(at, at + 1)
        found.append(1000 * _seconds(partial(array.__getitem__, tuple(index))))
    return spread(found).median


def _course_ms(array: Any) -> float:
    """Milliseconds of all times of a few voxels side by side."""
    chance = random.Random(7)
    found = []
    for _ in range(_SLICES):
        place = (chance.randrange(max(1, n - 3)) for n in array.shape[1:])
        index = (slice(None), *(slice(first, first + 3) for first in place))
        found.append(1000 * _seconds(partial(array.__getitem__, index)))
    return spread(found).median


def _patches(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Cubes for training, anywhere; at one time."""
    chance = random.Random(7)
    sides = [1] * (len(shape) - 3) + [_PATCH] * 3
    for _ in range(_PATCHES):
        firsts = [chance.randrange(max(1, n - side + 1)) for n, side in zip(shape, sides, strict=True)]
        yield tuple(slice(first, first + side) for first, side in zip(firsts, sides, strict=True))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _seconds(work: Callable[[], Any]) -> float:
    return _timed(work)[1]


def compare(
    values: np.ndarray, layouts: Sequence[Layout], rounds: int, scratch: Path
) -> dict[Layout, list[dict[str, float]]]:
    """The figures of all layouts, round by round, in an order that is shuffled in each."""
    found: dict[Layout, list[dict[str, float]]] = {layout: [] for layout in layouts}
    for number in range(rounds):
        order = list(layouts)
        random.Random(number).shuffle(order)
        for layout in order:
            folder = scratch / f"{number}-{layouts.index(layout)}"
            found[layout].append(measure(values, layout, folder))
            shutil.rmtree(folder)
    return found


def table(found: dict[Layout, list[dict[str, float]]]) -> str:
    """Medians as Markdown."""
    columns = list(next(iter(found.values()))[0])
    lines = [f"| layout | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for layout, measured in found.items():
        cells = (f"{spread([one[name] for one in measured]).median:.3g}" for name in columns)
        lines.append(f"| {layout} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure each series named, print its table, keep all figures."""
    work = Path(__file__).parent / "work"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks", description=__doc__)
    parser.add_argument("series", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=work)
    given = parser.parse_args()
    scratch = given.work / "chunks"
    for folder in given.series or [given.work / "data" / "ct"]:
        values = _voxels(folder)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        found = compare(values, LAYOUTS if values.ndim == 3 else LAYOUTS_4D, given.rounds, scratch)
        shutil.rmtree(scratch)
        print(f"### {folder.name}: {values.shape} {values.dtype}\n\n{table(found)}\n", flush=True)
        kept = {str(layout): measured for layout, measured in found.items()}
        (given.work / f"chunks-{folder.name}.json").write_text(json.dumps(kept, indent=1))


def _voxels(folder: Path) -> np.ndarray:
    """The voxels of a series in HU or as stored, 16 bits wide where they fit, as a volume has them."""
    import SimpleITK

    if folder.suffix == ".nii":
        return lengthened(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder))))
    values = SimpleITK.GetArrayFromImage(simpleitk_volume(folder))
    narrow = values.astype(np.int16)
    return narrow if np.array_equal(narrow, values) else values


def lengthened(values: np.ndarray) -> np.ndarray:
    """A time series (time, z, y, x) of more times and slices, int16: the real ones in turn, each voxel with
    noise as large as its own over time, so that nothing repeats for a codec to find."""
    chance = np.random.default_rng(7)
    noise = values.std(axis=0)
    slices = [k % values.shape[1] for k in range(_DEPTH)]
    found = np.empty((_TIMES, _DEPTH, *values.shape[2:]), np.int16)
    for time_index in range(_TIMES):
        volume = values[time_index % values.shape[0]] + noise * chance.standard_normal(noise.shape)
        found[time_index] = np.rint(volume)[slices]
    return found


if __name__ == "__main__":
    main()
