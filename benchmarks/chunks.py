"""`python -m benchmarks.chunks [FOLDER…]`: which chunks, shards and codec a volume should have.

Each layout is written slab by slab, as `dicomlake.volumes.build` does, then read whole, in slices of three
directions and in random patches; in turns with the others, from the page cache. The figures behind
docs/decisions/0003-chunks-and-shards.md. FOLDER holds one CT or MR series; without any, the sample CT.
"""

from __future__ import annotations

import argparse
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
from benchmarks.peers import simpleitk_volume
from benchmarks.workload import files

_SLAB = 64
_PATCH = 64
_PATCHES = 40
_SLICES = 7
_PIPELINES = {
    "zarrs": "zarrs.ZarrsCodecPipeline",
    "zarr-python": "zarr.core.codec_pipeline.BatchedCodecPipeline",
}
_COLUMNS = ("ratio", "write MB/s", "read MB/s", "axial ms", "coronal ms", "sagittal ms", "patches/s")


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array is stored: inner chunk (z, y, x) in a shard of a slab, codec, and who encodes it."""

    chunk: tuple[int, int, int]
    codec: str = "zstd"
    level: int = 3
    shuffle: str = "bitshuffle"
    pipeline: str = "zarrs"

    def __str__(self) -> str:
        chunk = "x".join(map(str, self.chunk))
        return f"{chunk}, {self.codec} {self.level} {self.shuffle}, {self.pipeline}"


_CHUNKS = ((32, 64, 64), (64, 64, 64), (16, 64, 64), (32, 128, 128), (32, 32, 32), (1, 512, 512))
LAYOUTS = (
    *(Layout(chunk) for chunk in _CHUNKS),
    *(Layout(chunk, pipeline="zarr-python") for chunk in _CHUNKS[:-1]),
    Layout(_CHUNKS[0], "zstd", 3, "shuffle"),
    Layout(_CHUNKS[0], "zstd", 1, "shuffle"),
    Layout(_CHUNKS[0], "zstd", 1, "bitshuffle"),
    Layout(_CHUNKS[0], "lz4", 5, "bitshuffle"),
    Layout(_CHUNKS[0], "lz4", 5, "shuffle"),
)


def measure(values: np.ndarray, layout: Layout, folder: Path) -> dict[str, float]:
    """All figures of one layout; the array comes back unchanged or AssertionError is raised."""
    import zarr
    import zarrs  # noqa: F401  registers itself with zarr

    with zarr.config.set({"codec_pipeline.path": _PIPELINES[layout.pipeline]}):
        array = _create(values, layout, folder)
        write_s = _seconds(lambda: _write(array, values))
        array = zarr.open_array(folder, mode="r")
        back, read_s = _timed(lambda: array[:])
        assert np.array_equal(back, values), f"{layout} changed the values"
        slices = [_slice_ms(array, axis) for axis in range(3)]
        patches = list(_patches(values.shape))
        patches_s = _seconds(lambda: [array[patch] for patch in patches])
    size = sum(path.stat().st_size for path in files(folder))
    mb = values.nbytes / 1e6
    found = (values.nbytes / size, mb / write_s, mb / read_s, *slices, len(patches) / patches_s)
    return dict(zip(_COLUMNS, found, strict=True))


def _create(values: np.ndarray, layout: Layout, folder: Path) -> Any:
    import zarr

    chunk = tuple(min(c, n) for c, n in zip(layout.chunk, values.shape, strict=True))
    shard = tuple(-(-n // c) * c for n, c in zip((_SLAB, *values.shape[1:]), chunk, strict=True))
    codec = zarr.codecs.BloscCodec(cname=layout.codec, clevel=layout.level, shuffle=layout.shuffle)  # type: ignore[arg-type]
    return zarr.create_array(
        folder, shape=values.shape, dtype=values.dtype, chunks=chunk, shards=shard, compressors=[codec]
    )


def _write(array: Any, values: np.ndarray) -> None:
    for first in range(0, values.shape[0], _SLAB):
        array[first : first + _SLAB] = values[first : first + _SLAB]


def _slice_ms(array: Any, axis: int) -> float:
    """Milliseconds of a slice across an axis, the median of some that are spread over it.

    Asked for as a slice of length 1: with an integer for y, zarrs hands over to zarr-python.
    """
    n = array.shape[axis]
    found = []
    for number in range(_SLICES):
        index = [slice(None)] * 3
        at = (2 * number + 1) * n // (2 * _SLICES)
        index[axis] = slice(at, at + 1)
        found.append(1000 * _seconds(partial(array.__getitem__, tuple(index))))
    return spread(found).median


def _patches(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Cubes for training, anywhere."""
    chance = random.Random(7)
    for _ in range(_PATCHES):
        firsts = (chance.randrange(max(1, n - _PATCH + 1)) for n in shape)
        yield tuple(slice(first, first + _PATCH) for first in firsts)


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
    lines = [f"| layout | {' | '.join(_COLUMNS)} |", "|---|" + "--:|" * len(_COLUMNS)]
    for layout, measured in found.items():
        cells = (f"{spread([one[name] for one in measured]).median:.3g}" for name in _COLUMNS)
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
        found = compare(values, LAYOUTS, given.rounds, scratch)
        shutil.rmtree(scratch)
        print(f"### {folder.name}: {values.shape} {values.dtype}\n\n{table(found)}\n", flush=True)
        kept = {str(layout): measured for layout, measured in found.items()}
        (given.work / f"chunks-{folder.name}.json").write_text(json.dumps(kept, indent=1))


def _voxels(folder: Path) -> np.ndarray:
    """The voxels of a series in HU or as stored, 16 bits wide where they fit, as a volume has them."""
    import SimpleITK

    values = SimpleITK.GetArrayFromImage(simpleitk_volume(folder))
    narrow = values.astype(np.int16)
    return narrow if np.array_equal(narrow, values) else values


if __name__ == "__main__":
    main()
