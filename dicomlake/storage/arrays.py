"""Chunked arrays in Zarr v3: their grid, their codec, and how they are opened without reading them.

Zarr reads a file that is not there as fill value. A volume must not turn into zeros that way: every shard
is written, an empty one, too, and whoever reads asks for the files of what was read.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

_SLAB = 64
_SHARD_BYTES = 72 << 20
_LARGEST_LEVEL = 256  # voxels along the longest axis of the last level
_MANY = 8  # values along a further dimension of which a chunk holds as many: courses over it are read
_PIPELINE_LOCK = threading.Lock()
_PYTHON_PIPELINE = "zarr.core.codec_pipeline.BatchedCodecPipeline"
# (stack, y, x): balanced over the three directions and patches; see docs/decisions/0003 and 0008
_CHUNK = (32, 64, 64)
_CHUNK_OF_COLOUR = (8, 256, 256)
_CHUNK_OF_MANY = (16, 32, 32)
_STACKS = ("z", "frame")


@cache
def _pipeline() -> dict[str, str]:
    """The codec pipeline: zarrs where it is installed, else zarr-python's own; the bytes are the same."""
    from importlib.util import find_spec

    return {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"} if find_spec("zarrs") else {}


@contextmanager
def fast_pipeline() -> Iterator[None]:
    """Arrays that are created or opened inside use the fastest codec pipeline at hand, for good.

    zarr's configuration is global: one thread at a time may change it.
    """
    import zarr

    chosen = _pipeline()
    if chosen:
        import zarrs  # noqa: F401  registers itself with zarr
    with _PIPELINE_LOCK, zarr.config.set(chosen):
        yield


def pipeline_name() -> str:
    """Which codec pipeline is in force, for `doctor`."""
    return "zarrs" if _pipeline() else "zarr-python"


# ---- the grid ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array is cut; both in voxels along its axes.

    chunk: what is compressed, and decompressed, as one.
    shard: the file, in whole chunks: whole slices. It is what a writer holds at once, so whole shards are
        written and writers need no locks; it may reach beyond the array.
    """

    chunk: tuple[int, ...]
    shard: tuple[int, ...]


def layout_of(shape: Sequence[int], dims: Sequence[str], dtype: Any) -> Layout:
    """The layout of an image array of any dimensions: (*extra, "z" or "frame", "y", "x"[, "rgb"]).

    Chunks are (32, 64, 64); where there is a further dimension of at least 8 values, the longest has up to
    8 of them in a chunk of (16, 32, 32); (8, 256, 256) in colour. A shard has up to 64 slices of a stack, or
    as many frames as fit where there are further dimensions, and 72 MB at most, unless one slice is larger.
    """
    return sharded(shape, dims, dtype, _chunk_of(shape, dims))


def sharded(shape: Sequence[int], dims: Sequence[str], dtype: Any, chunk: Sequence[int]) -> Layout:
    """The shards for a chunk shape, which is made thinner where slices are so large that it must be."""
    itemsize, first = np.dtype(dtype).itemsize, dims.index("y")
    chunk = [min(c, n) for c, n in zip(chunk, shape, strict=True)]
    order = _growing_axes(shape, dims)
    whole = [-(-n // c) * c for n, c in zip(shape[first:], chunk[first:], strict=True)]
    for axis in order:  # the stack before the others
        while chunk[axis] > 1 and prod(chunk[:first]) * prod(whole) * itemsize > _SHARD_BYTES:
            chunk[axis] = 1 << (chunk[axis] - 1).bit_length() - 1  # a power of two: levels halve it
    shard = [*chunk[:first], *whole]
    for axis in order:
        limit = _SLAB if first == 1 else shape[axis]
        while shard[axis] < min(limit, shape[axis]):
            grown = min(2 * shard[axis], -(-shape[axis] // chunk[axis]) * chunk[axis])
            if prod(shard) // shard[axis] * grown * itemsize > _SHARD_BYTES:
                break
            shard[axis] = grown
    return Layout(tuple(chunk), tuple(shard))


def _chunk_of(shape: Sequence[int], dims: Sequence[str]) -> tuple[int, ...]:
    first = dims.index("y")
    stack = _stack_axis(dims)
    further = [axis for axis in range(first) if axis != stack]
    longest = max(further, key=lambda axis: shape[axis], default=None)
    many = longest is not None and shape[longest] >= _MANY
    colour = "rgb" in dims
    deep, *plane = _CHUNK_OF_COLOUR if colour else _CHUNK_OF_MANY if many else _CHUNK
    chunk = [1] * first + plane + ([shape[-1]] if colour else [])
    if stack is not None:
        chunk[stack] = deep
    if longest is not None and many and not colour:
        chunk[longest] = -(-shape[longest] // -(-shape[longest] // _MANY))  # even parts
    return tuple(chunk)


def _growing_axes(shape: Sequence[int], dims: Sequence[str]) -> list[int]:
    """The axes before the slices, in the order in which a shard grows along them."""
    stack = _stack_axis(dims)
    further = [axis for axis in range(dims.index("y")) if axis != stack]
    further.sort(key=lambda axis: (-shape[axis], -axis))
    return further if stack is None else [stack, *further]


def _stack_axis(dims: Sequence[str]) -> int | None:
    """The axis along which slices lie behind each other, if any; the only one there is before y."""
    before = dims.index("y") - 1
    return before if before == 0 or (before > 0 and dims[before] in _STACKS) else None


def spatial_axes(dims: Sequence[str]) -> tuple[int, ...]:
    """The axes that levels halve: those of z, y and x that the array has."""
    return tuple(axis for axis, name in enumerate(dims) if name in ("z", "y", "x"))


def level_shape(shape: Sequence[int], dims: Sequence[str], level: int) -> tuple[int, ...]:
    """The shape of a halved copy: z, y and x halved `level` times, rounded up."""
    spatial = spatial_axes(dims)
    return tuple(-(-n // 2**level) if axis in spatial else n for axis, n in enumerate(shape))


def level_shard(
    shape: Sequence[int], dims: Sequence[str], shard: Sequence[int], level: int
) -> tuple[int, ...]:
    """The part of a halved copy that one shard of the array itself becomes, within its shape."""
    halved = level_shape(shape, dims, level)
    along_z = [name == "z" for name in dims]
    return tuple(
        m if s >= n else s >> level if z else s
        for n, m, s, z in zip(shape, halved, shard, along_z, strict=True)
    )


def level_layout(shape: Sequence[int], dims: Sequence[str], layout: Layout, level: int) -> Layout:
    """The layout of a halved copy: each shard of the array becomes exactly one of it."""
    extent = level_shard(shape, dims, layout.shard, level)
    chunk = tuple(min(c, n) for c, n in zip(layout.chunk, extent, strict=True))
    return Layout(chunk, tuple(-(-n // c) * c for n, c in zip(extent, chunk, strict=True)))


def level_count(shape: Sequence[int], dims: Sequence[str], dtype: Any) -> int:
    """How many levels are useful: halved until the longest of z, y, x is small enough for a quick look,
    or a shard is down to one slice."""
    longest = max(shape[axis] for axis in spatial_axes(dims))
    levels, possible = 1, most_levels(shape, dims, layout_of(shape, dims, dtype))
    while longest > _LARGEST_LEVEL and levels < possible:
        longest = -(-longest // 2)
        levels += 1
    return levels


def most_levels(shape: Sequence[int], dims: Sequence[str], layout: Layout) -> int:
    """How many levels the shards allow: the slices of one must halve evenly where there are several."""
    if "z" not in dims:
        return 1
    depth, slices = layout.shard[dims.index("z")], shape[dims.index("z")]
    return _SLAB.bit_length() if depth >= slices else depth.bit_length()


def create_array(
    group: Any, name: str, shape: Sequence[int], dtype: Any, dims: Sequence[str], layout: Layout
) -> Any:
    """A sharded, compressed image array in a Zarr group; each chunk has a checksum, as a damaged one may
    decompress without complaint."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=layout.chunk,
        shards=layout.shard,
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
        dimension_names=list(dims),
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def write_block(store: Path, array: Any, start: Sequence[int], values: np.ndarray) -> None:
    """Write whole shards of an array that lies in a folder, from the index `start` on; also where all
    values are the fill value, for which zarrs writes no file."""
    stop = tuple(a + n for a, n in zip(start, values.shape, strict=True))
    key = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    array[key] = values
    if missing_shards(store, array.path, array.shape, array.shards or array.chunks, key):
        _with_python(store, array.path)[key] = values


def _with_python(store: Path, path: str) -> Any:
    import zarr

    config = {"codec_pipeline.path": _PYTHON_PIPELINE, "array.write_empty_chunks": True}
    with _PIPELINE_LOCK, zarr.config.set(config):
        return zarr.open_array(store, path=path, mode="r+")


def create_table(
    group: Any, name: str, values: Any, dims: Sequence[str], attributes: dict[str, Any] | None = None
) -> None:
    """A small array in one chunk, such as a coordinate."""
    import zarr

    values = np.asarray(values)
    text = values.dtype.kind in "UO"
    # zarr-python writes all-zero chunks, too; without the lock another thread's zarrs could be in force
    with _PIPELINE_LOCK, zarr.config.set({"codec_pipeline.path": _PYTHON_PIPELINE}):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="string" if text else values.dtype,
            chunks=values.shape or (1,),
            dimension_names=list(dims),
            attributes=attributes or {},
            config={"write_empty_chunks": True},
        )
    array[...] = values.astype(object) if text else values


def consolidate(store: Path, groups: Sequence[str]) -> None:
    """Copy the metadata below each group, and the root, into one file, so that xarray opens them at once.

    As zarr-python does it, but for its warning, which threads cannot silence without disturbing each other.
    """
    for group in (*groups, ""):
        own = store / group / "zarr.json"
        metadata = json.loads(own.read_text(encoding="utf-8"))
        below = {str(path.parent.relative_to(own.parent)): path for path in own.parent.rglob("zarr.json")}
        found = {
            name: json.loads(below[name].read_text(encoding="utf-8")) for name in sorted(below) if name != "."
        }
        for node in found.values():
            node.pop("consolidated_metadata", None)
        metadata["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": found}
        own.write_text(json.dumps(metadata, separators=(",", ":")), encoding="utf-8")


# ---- reading -----------------------------------------------------------------------------------------


class LazyArray:
    """An array in a Zarr store that is opened when it is first sliced; picklable, for other processes.

    Shape and dtype come from the catalog, so making one reads nothing. With `shards`, the extent of its
    files along each axis, a file that is missing raises VolumeError instead of reading as fill value.
    """

    def __init__(
        self, store: Path, path: str, shape: Sequence[int], dtype: Any, shards: Sequence[int] | None = None
    ) -> None:
        self.store, self.path = store, path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        self.shards = None if shards is None else tuple(shards)
        self._lock = threading.Lock()
        self._array: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self.store, self.path, self.shape, self.dtype, self.shards)

    def __getitem__(self, key: Any) -> Any:
        given = full_key(key, self.shape)
        # A whole number among slices makes zarrs leave the work to zarr-python, at four times the cost.
        sliced = tuple(k if isinstance(k, slice) else slice(k, k + 1) for k in given)
        found = np.asarray(self._read(sliced), dtype=self.dtype)
        return found[tuple(0 if s is not k else slice(None) for s, k in zip(sliced, given, strict=True))]

    def _read(self, key: tuple[Any, ...]) -> Any:
        from dicomlake.errors import VolumeError

        array = self._opened()
        try:
            found = array[key]
        except (IndexError, MemoryError):
            raise
        except Exception as error:  # a damaged chunk fails in as many ways as there are codecs
            raise VolumeError(
                f"a part of {self.path!r} cannot be read from the volume store: `dicomlake rebuild "
                "--volumes` makes it again"
            ) from error
        if self.shards is not None and (
            missing := missing_shards(self.store, self.path, self.shape, self.shards, key)
        ):
            raise VolumeError(
                f"{len(missing)} files of {self.path!r} are missing from the volume store, the first is "
                f"{missing[0]}: `dicomlake rebuild --volumes` makes it again"
            )
        return found

    def _opened(self) -> Any:
        with self._lock:
            if self._array is None:
                self._array = open_array(self.store, self.path)
            return self._array

    def __repr__(self) -> str:
        return f"LazyArray({self.path!r}, shape={self.shape}, dtype={self.dtype})"


def full_key(key: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """A basic index with one entry for each axis: slices, and whole numbers from 0.

    Raises IndexError when a number lies outside, or there are more entries than axes.
    """
    given = key if isinstance(key, tuple) else (key,)
    if Ellipsis in given:
        at = given.index(Ellipsis)
        given = given[:at] + (slice(None),) * (len(shape) - len(given) + 1) + given[at + 1 :]
    if len(given) > len(shape):
        raise IndexError(f"{len(given)} indices for an array of {len(shape)} dimensions")
    given += (slice(None),) * (len(shape) - len(given))
    return tuple(k if isinstance(k, slice) else range(n)[k] for k, n in zip(given, shape, strict=True))


def missing_shards(
    store: Path, path: str, shape: Sequence[int], shards: Sequence[int], key: Sequence[slice]
) -> list[str]:
    """The files that hold a part of an array and are not there, by their place below the array.

    key: a slice for each axis.
    """
    touched = []
    for n, extent, part in zip(shape, shards, key, strict=True):
        indices = range(n)[part]
        if len(indices) == 0:
            return []
        low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
        touched.append(range(low // extent, high // extent + 1))
    folder = store / path
    names = ("/".join(map(str, ("c", *index))) for index in itertools.product(*touched))
    return [name for name in names if not (folder / name).is_file()]


def open_array(store: Path, path: str) -> Any:
    """A Zarr array for reading. Raises VolumeError when it is missing or cannot be read."""
    import zarr

    from dicomlake.errors import VolumeError

    try:
        with fast_pipeline():
            return zarr.open_array(store, path=path, mode="r")
    except Exception as error:
        raise VolumeError(
            f"the volume store has no readable array {path!r}: `dicomlake rebuild` makes it again"
        ) from error
