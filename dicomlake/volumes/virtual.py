"""Volumes that stay in their originals: registered with proof, nothing copied, frames decoded when asked for.

For originals that are cheap to read in place, and for lossy ones, such as ultrasound loops, whose decoded
voxels would take many times their bytes. The store then holds no image, only where each plane comes from,
and, where the bytes of an uncompressed frame are its stored values, at which byte it begins: of such a frame
just the rows asked for are read, after it was read once as a whole and had the hash that was kept. They are
read and not mapped, as a mapped file that gets shorter ends the process.
"""

from __future__ import annotations

import os
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dicomlake.dicom.pixels import frame_hash, native_layout
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage import arrays
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.beside import Beside
from dicomlake.volumes.build import create_root, described, published, voxel_digest, write_tables
from dicomlake.volumes.check import kept_hashes
from dicomlake.volumes.manifest import LEVEL, REFERENCE
from dicomlake.volumes.originals import (
    FileBytes,
    Originals,
    Source,
    cut,
    file_of,
    files,
    paths_beside,
    sources_in,
    sources_of,
    stored,
)
from dicomlake.volumes.plan import Plan

_CACHE_BYTES = 32 << 20
_BLOCK_BYTES = 16 << 20
_READERS = min(os.cpu_count() or 1, 4)
_AT_ONCE = 4096  # frames that wait for a reader


def build_reference(
    storage: Storage, plan: Plan, instances: Mapping[str, Instance], *, prove: bool = True
) -> Volume:
    """Register a planned volume without copying its voxels; return its record with key and hash.

    instances: by SOPInstanceUID, those of the series.
    prove: decode every frame once, so that one that cannot be decoded is refused now and not when it is
        opened, and keep the hashes for `verify`.
    Raises DicomlakeError as `build` does; nothing is left behind then.
    """
    volume = plan.volume
    sources = sources_of(plan.frames)
    kept = {name: value for name, value in volume.info.items() if name not in ("slab", "shard")}
    info = kept | {"stored": REFERENCE, "levels": 1}

    def write(folder: Path, volume: Volume) -> Volume:
        beside = Beside()
        originals = stored(storage, instances, note=beside.note)
        root = create_root(folder)
        with arrays.fast_pipeline():
            group = root.create_group(LEVEL.format(0))
        hashes, offsets = _registered(volume, sources, originals, prove)
        write_tables(group, volume, sources, hashes if prove else None)
        if (offsets >= 0).any():
            arrays.create_table(group, "frame_offset", offsets, ["plane"])
        uids = list(dict.fromkeys(source.sop_instance_uid for source in sources))
        places = [posixpath.relpath(instances[uid].key, str(volume.key)) for uid in uids]
        arrays.create_table(group, "object_uid", uids, ["object"])
        arrays.create_table(group, "original", places, ["object"])
        more = beside.write(folder, group, volume, sources, originals)
        if prove:
            more["voxels"] = voxel_digest(hashes)
        return described(root, folder, replace(volume, info=volume.info | more))

    return published(storage, replace(volume, info=info), plan.frames, instances, write)


def _registered(
    volume: Volume, sources: Sequence[Source], originals: Originals, prove: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each plane, shape (frames, 32), and the byte of its object at which it begins, (frames,).

    -1 where a plane must be decoded. Each frame is read once; without `prove` none is, and the hashes are 0.
    """
    plane, dtype = volume.shape[volume.dims.index("y") :], np.dtype(volume.dtype)
    hashes = np.zeros((len(sources), 32), np.uint8)
    offsets = np.full(len(sources), -1, np.int64)
    images: dict[tuple[str, int], list[int]] = {}
    for place, source in enumerate(sources):
        images.setdefault((source.sop_instance_uid, source.frame_index), []).append(place)

    def register(image: tuple[str, int]) -> None:
        reader = originals.reader(image[0])
        lies = native_layout(reader.header, proven=prove)
        if prove:
            values = originals.frame(*image)
            for place in images[image]:
                one = cut(values, sources[place], plane, dtype).astype(dtype, copy=False)
                hashes[place] = np.frombuffer(frame_hash(one), np.uint8)
        tiled = any(sources[place].tile is not None for place in images[image])
        if tiled or lies is None or lies.dtype != dtype:
            return
        if not prove or reader.holds_values_as_they_are(image[1]):
            offsets[images[image]] = lies.offset + image[1] * lies.frame_bytes

    wanted = list(images)
    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(wanted), _AT_ONCE):
            list(pool.map(register, wanted[first : first + _AT_ONCE]))
    return hashes, offsets


def block_shape(shape: Sequence[int], dims: Sequence[str], dtype: Any) -> tuple[int, ...]:
    """What is worth computing together: whole frames along the last dimension before y, 16 MB at most."""
    leading = dims.index("y")
    frames = max(1, _BLOCK_BYTES // (prod(shape[leading:]) * np.dtype(dtype).itemsize))
    return tuple(
        min(n, frames) if axis == leading - 1 else 1 if axis < leading else n for axis, n in enumerate(shape)
    )


class _Table(NamedTuple):
    """Where the planes of a volume lie, in C order over its leading dimensions."""

    sources: list[Source]
    offsets: np.ndarray  # bytes; -1 where a plane must be decoded
    hashes: np.ndarray | None  # (planes, 32), where they were kept
    proven: np.ndarray  # (planes,): the bytes of these need not be compared with their hash again
    paths: dict[str, Path]
    originals: Originals


def _table_in(store: Path) -> _Table:
    sources, paths = sources_in(store), paths_beside(store)
    offsets = np.full(len(sources), -1, np.int64)
    if (store / "scale0" / "frame_offset").is_dir():
        offsets = arrays.open_array(store, "scale0/frame_offset")[...]
    hashes = kept_hashes(store, len(sources))
    proven = np.full(len(sources), hashes is None)
    return _Table(sources, offsets, hashes, proven, paths, files(paths))


def _check(plane: np.ndarray, number: int, table: _Table) -> None:
    """Raises VolumeError when a plane is not the one that was registered."""
    if table.hashes is not None and frame_hash(plane) != table.hashes[number].tobytes():
        source = table.sources[number]
        raise VolumeError(
            f"frame {source.frame_index} of {source.sop_instance_uid} is not what the volume was made from:"
            " its original has changed since; bring it back from a copy, or ingest it again"
        )
    table.proven[number] = True


class OriginalFrames:
    """The voxels of a volume that stays in its originals, as an array with basic indexing.

    Making one reads nothing; slicing decodes the frames concerned, of which the last few are kept. Safe to
    use from many threads; picklable, for other processes that see the same files.
    Slicing raises VolumeError, which names the object, where a frame cannot be had from its original, or is
    not the one that the volume was made from; and where the store is gone.
    """

    def __init__(self, store: Path, shape: Sequence[int], dims: Sequence[str], dtype: Any) -> None:
        self.store, self.path = store, "scale0/image"
        self.shape, self.dims = tuple(shape), tuple(dims)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)
        self._leading = self.dims.index("y")
        self._lock = threading.Lock()
        self._opened: _Table | None = None
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return OriginalFrames, (self.store, self.shape, self.dims, self.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        given = arrays.full_key(key, self.shape)
        leading, plane = given[: self._leading], given[self._leading :]
        shape = self.shape[: self._leading]
        frames = np.asarray(np.arange(prod(shape)).reshape(shape)[leading])
        part = np.broadcast_to(np.int8(0), self.shape[self._leading :])[plane].shape
        found = np.empty((frames.size, *part), self.dtype)
        for slot, frame in enumerate(frames.ravel().tolist()):
            found[slot] = self._frame(frame, plane)
        return found.reshape((*frames.shape, *part))

    def _frame(self, number: int, key: tuple[Any, ...]) -> np.ndarray:
        """A part of one plane. Raises VolumeError."""
        table = self._table()
        try:
            return self._part(number, key, table)
        except VolumeError:
            raise
        except DicomlakeError as error:
            source = table.sources[number]
            raise VolumeError(
                f"frame {source.frame_index} of {source.sop_instance_uid} cannot be had from its original:"
                f" {error}"
            ) from error

    def _part(self, number: int, key: tuple[Any, ...], table: _Table) -> np.ndarray:
        offset = int(table.offsets[number])
        if offset < 0:
            return np.asarray(self._decoded(number, table)[key])
        height = self.shape[self._leading]
        if not table.proven[number]:
            plane = self._rows(number, table, 0, height)
            _check(plane, number, table)
            return np.asarray(plane[key])
        rows = np.arange(height)[key[0]]
        low, high = (int(rows.min()), int(rows.max()) + 1) if rows.size else (0, 0)
        return np.asarray(self._rows(number, table, low, high)[rows - low][(..., *key[1:])])

    def _rows(self, number: int, table: _Table, low: int, high: int) -> np.ndarray:
        """Rows of a plane whose bytes are its values."""
        width = self.shape[-1]
        uid, row_bytes = table.sources[number].sop_instance_uid, width * self.dtype.itemsize
        begin = int(table.offsets[number]) + low * row_bytes
        size = (high - low) * row_bytes
        data = FileBytes(file_of(table.paths, uid), uid).read(begin, begin + size)
        if len(data) != size:
            raise VolumeError(
                f"the original of {uid} is cut off: bring it back from a copy, or ingest it again"
            )
        return np.frombuffer(data, self.dtype).reshape(high - low, width)

    def _table(self) -> _Table:
        with self._lock:
            if self._opened is None:
                self._opened = _table_in(self.store)
            return self._opened

    def _decoded(self, number: int, table: _Table) -> np.ndarray:
        """One plane, decoded, or kept from a moment ago; not to be changed."""
        with self._lock:
            if number in self._recent:
                self._recent.move_to_end(number)
                return self._recent[number]
        image = table.sources[number]
        values = table.originals.frame(image.sop_instance_uid, image.frame_index)
        plane = cut(values, image, self.shape[self._leading :], self.dtype)
        _check(plane.astype(self.dtype, copy=False), number, table)
        self._keep(number, plane)
        return plane

    def _keep(self, number: int, plane: np.ndarray) -> None:
        most = max(1, _CACHE_BYTES // max(1, prod(self.shape[self._leading :]) * self.dtype.itemsize))
        with self._lock:
            self._recent[number] = plane
            while len(self._recent) > most:
                self._recent.popitem(last=False)

    def __repr__(self) -> str:
        return f"OriginalFrames({self.path!r}, shape={self.shape}, dtype={self.dtype})"
