"""Volumes that stay in their originals: registered with proof, nothing copied, frames decoded when asked for.

For originals that are cheap to read in place, and for lossy ones, such as ultrasound loops, whose decoded
voxels would take many times their bytes. The store then holds no image, only where each plane comes from,
and, where the bytes of an uncompressed frame are its stored values, at which byte it begins: of such a frame
just the rows asked for are read. They are read and not mapped, as a mapped file that gets shorter ends the
process.
"""

from __future__ import annotations

import posixpath
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dicomlake.dicom.pixels import frame_hash, native_layout
from dicomlake.errors import VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage import arrays
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.build import create_root, published, write_tables
from dicomlake.volumes.originals import (
    FileBytes,
    Originals,
    Source,
    cut,
    decode,
    file_of,
    files,
    paths_beside,
    sources_in,
    sources_of,
    stored,
)
from dicomlake.volumes.plan import Plan

REFERENCE = "reference"
_CACHE_BYTES = 32 << 20
_BLOCK_BYTES = 16 << 20


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

    def write(folder: Path, volume: Volume) -> None:
        root = create_root(folder, volume)
        group = root.create_group("scale0")
        hashes = _hashes(volume, sources, stored(storage, instances)) if prove else None
        write_tables(group, volume, sources, hashes)
        offsets = _offsets(volume, sources, stored(storage, instances), prove)
        if (offsets >= 0).any():
            arrays.create_table(group, "frame_offset", offsets, ["plane"])
        uids = list(dict.fromkeys(source.sop_instance_uid for source in sources))
        places = [posixpath.relpath(instances[uid].key, str(volume.key)) for uid in uids]
        arrays.create_table(group, "object_uid", uids, ["object"])
        arrays.create_table(group, "original", places, ["object"])
        arrays.consolidate(folder, ["scale0"])

    return published(storage, replace(volume, info=info), plan.frames, instances, write)


def _hashes(volume: Volume, sources: Sequence[Source], originals: Originals) -> np.ndarray:
    """Decode all frames, a few at a time; their hashes, shape (frames, 32)."""
    from concurrent.futures import ThreadPoolExecutor

    plane = volume.shape[volume.dims.index("y") :]
    dtype = np.dtype(volume.dtype)
    many = max(1, min(_BLOCK_BYTES // (prod(plane) * dtype.itemsize), len(sources)))
    values = np.empty((many, *plane), dtype)
    hashes = np.zeros((len(sources), 32), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(sources), many):

            def hashed(slot: int, first: int = first) -> None:
                hashes[first + slot] = np.frombuffer(frame_hash(values[slot]), np.uint8)

            part = list(enumerate(sources[first : first + many]))
            decode(originals, part, values, pool=pool, then=hashed)
    return hashes


def _offsets(volume: Volume, sources: Sequence[Source], originals: Originals, prove: bool) -> np.ndarray:
    """The byte of its object at which each plane begins, shape (frames,); -1 where it must be decoded."""
    found = np.full(len(sources), -1, np.int64)
    for number, source in enumerate(sources):
        reader = originals.reader(source.sop_instance_uid)
        lies = native_layout(reader.header, proven=prove)
        if source.tile is not None or lies is None or lies.dtype != np.dtype(volume.dtype):
            continue
        if not prove or reader.holds_values_as_they_are(source.frame_index):
            found[number] = lies.offset + source.frame_index * lies.frame_bytes
    return found


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
    paths: dict[str, Path]
    originals: Originals


def _table_in(store: Path) -> _Table:
    sources, paths = sources_in(store), paths_beside(store)
    offsets = np.full(len(sources), -1, np.int64)
    if (store / "scale0" / "frame_offset").is_dir():
        offsets = arrays.open_array(store, "scale0/frame_offset")[...]
    return _Table(sources, offsets, paths, files(paths))


class OriginalFrames:
    """The voxels of a volume that stays in its originals, as an array with basic indexing.

    Making one reads nothing; slicing decodes the frames concerned, of which the last few are kept. Safe to
    use from many threads; picklable, for other processes that see the same files.
    Slicing raises DicomlakeError where a frame cannot be decoded, VolumeError where the store is gone.
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
            found[slot] = self._part(frame, plane)
        return found.reshape((*frames.shape, *part))

    def _part(self, number: int, key: tuple[Any, ...]) -> np.ndarray:
        """A part of one plane."""
        table = self._table()
        offset = int(table.offsets[number])
        if offset < 0:
            return np.asarray(self._decoded(number, table)[key])
        height, width = self.shape[self._leading :]
        rows = np.arange(height)[key[0]]
        low, high = (int(rows.min()), int(rows.max()) + 1) if rows.size else (0, 0)
        row_bytes = width * self.dtype.itemsize
        uid = table.sources[number].sop_instance_uid
        data = FileBytes(file_of(table.paths, uid), uid).read(
            offset + low * row_bytes, offset + high * row_bytes
        )
        if len(data) != (high - low) * row_bytes:
            raise VolumeError(
                f"the original of {uid} is cut off: bring it back from a copy, or ingest it again"
            )
        values = np.frombuffer(data, self.dtype).reshape(high - low, width)
        return np.asarray(values[rows - low][(..., *key[1:])])

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
