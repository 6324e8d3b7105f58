"""Chunked arrays in Zarr v3: their grid, their codec, and how they are opened without reading them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_SLAB = 64
_SLAB_BYTES = 72 << 20
_THINNEST_SLAB = 8
_PIPELINE_LOCK = threading.Lock()
_CHUNK = (32, 64, 64)  # balanced over axial, coronal, sagittal and patches; see docs/decisions/0003


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


def slab_depth(slice_bytes: int) -> int:
    """Slices that a writer holds at once, which is the depth of a shard: whole shards are written, so
    writers need no locks. 64, halved for large slices."""
    depth = _SLAB
    while depth > _THINNEST_SLAB and depth * slice_bytes > _SLAB_BYTES:
        depth //= 2
    return depth


def chunk_shape(shape: Sequence[int], slab: int) -> tuple[int, ...]:
    """The inner chunk of an array (z, y, x[, rgb])."""
    wanted = (min(_CHUNK[0], slab), *_CHUNK[1:], *shape[3:])
    return tuple(min(c, n) for c, n in zip(wanted, shape, strict=True))


def shard_shape(shape: Sequence[int], slab: int) -> tuple[int, ...]:
    """The shard: a slab of whole slices, in whole chunks."""
    chunk = chunk_shape(shape, slab)
    wanted = (min(slab, shape[0]), *shape[1:])
    return tuple(-(-n // c) * c for n, c in zip(wanted, chunk, strict=True))


def create_array(
    group: Any, name: str, shape: Sequence[int], dtype: Any, dims: Sequence[str], slab: int
) -> Any:
    """A sharded, compressed image array in a Zarr group; axis order (z, y, x[, rgb])."""
    from zarr.codecs import BloscCodec

    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=chunk_shape(shape, slab),
        shards=shard_shape(shape, slab),
        compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")],
        dimension_names=list(dims),
        fill_value=0,
    )


def create_table(
    group: Any, name: str, values: Any, dims: Sequence[str], attributes: dict[str, Any] | None = None
) -> None:
    """A small array in one chunk, such as a coordinate."""
    values = np.asarray(values)
    text = values.dtype.kind in "UO"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        chunks=values.shape or (1,),
        dimension_names=list(dims),
        attributes=attributes or {},
    )
    array[...] = values.astype(object) if text else values


def consolidate(store: Path, groups: Sequence[str]) -> None:
    """Copy the metadata below each group, and the root, into one file, so that xarray opens them at once."""
    import warnings

    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        for group in (*groups, ""):
            zarr.consolidate_metadata(store, path=group or None)


class LazyArray:
    """An array in a Zarr store that is opened when it is first sliced; picklable, for other processes.

    Shape and dtype come from the catalog, so making one reads nothing.
    """

    def __init__(self, store: Path, path: str, shape: Sequence[int], dtype: Any) -> None:
        self.store, self.path = store, path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        self._lock = threading.Lock()
        self._array: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self.store, self.path, self.shape, self.dtype)

    def __getitem__(self, key: Any) -> Any:
        given = key if isinstance(key, tuple) else (key,)
        # A whole number among slices makes zarrs leave the work to zarr-python, at four times the cost.
        sliced = tuple(slice(k, k + 1) if isinstance(k, int | np.integer) and k >= 0 else k for k in given)
        found = np.asarray(self._opened()[sliced], dtype=self.dtype)
        return found[tuple(0 if s is not k else slice(None) for s, k in zip(sliced, given, strict=True))]

    def _opened(self) -> Any:
        with self._lock:
            if self._array is None:
                self._array = open_array(self.store, self.path)
            return self._array

    def __repr__(self) -> str:
        return f"LazyArray({self.path!r}, shape={self.shape}, dtype={self.dtype})"


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
