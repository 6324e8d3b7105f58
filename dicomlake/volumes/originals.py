"""The planes of a volume, decoded from the originals they come from.

An image that holds several planes as tiles is decoded once for all that are asked for together.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dicomlake.dicom.frames import Frame, Tile
from dicomlake.dicom.headers import Header
from dicomlake.dicom.pixels import FrameReader
from dicomlake.dicom.walk import Readable
from dicomlake.errors import StorageError, VolumeError
from dicomlake.records import Instance
from dicomlake.storage.arrays import open_array
from dicomlake.storage.objectstore import Storage

_OPEN_OBJECTS = 8
_READ_AT_ONCE = 4 << 20  # bytes of an object, up to which one read is cheaper than several


class Source(NamedTuple):
    """Where a plane of a volume comes from; tile: the part of the decoded frame, None for all of it."""

    sop_instance_uid: str
    frame_index: int
    tile: Tile | None = None


class Originals:
    """Decoded frames of originals; safe to use from many threads. The last few objects stay open."""

    def __init__(
        self,
        source: Callable[[str], bytes | Readable],
        *,
        note: Callable[[str, Header], None] | None = None,
        keep: int = _OPEN_OBJECTS,
    ) -> None:
        """Objects by SOPInstanceUID.

        source: the bytes of an object, or something to read them from by range. note: is called with the
        header of each object when it is opened, perhaps more than once and by any thread.
        """
        self.source = source
        self._note, self._keep = note, keep
        self._lock = threading.Lock()
        self._objects: OrderedDict[str, _Once] = OrderedDict()

    def reader(self, uid: str) -> FrameReader:
        """What reads the frames of an object. Raises DicomlakeError when it cannot be read."""
        with self._lock:
            found = self._objects.setdefault(uid, _Once())
            self._objects.move_to_end(uid)
            while len(self._objects) > self._keep:
                self._objects.popitem(last=False)
        return found.get(lambda: self._open(uid))

    def _open(self, uid: str) -> FrameReader:
        reader = FrameReader(self.source(uid))
        if self._note is not None:
            self._note(uid, reader.header)
        return reader

    def frame(self, uid: str, index: int) -> np.ndarray:
        """The stored values of a frame. Raises DicomlakeError when they cannot be had."""
        try:
            return self.reader(uid).frame(index)
        except IndexError as error:
            raise VolumeError(
                f"{uid} has no frame {index}: it is not the object that the volume was made from; "
                "`dicomlake rebuild --volumes` makes it again"
            ) from error


class _Once:
    """An object that the first thread opens and the others wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: FrameReader | None = None

    def get(self, opened: Callable[[], FrameReader]) -> FrameReader:
        with self._lock:
            if self._found is None:
                self._found = opened()
            return self._found


class _Stored:
    """An object of a lake, read by range."""

    def __init__(self, storage: Storage, key: str, size: int) -> None:
        self._storage, self._key, self.size = storage, key, size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        return self._storage.get(self._key, start, stop)


class FileBytes:
    """A file, read by range; it is open only meanwhile."""

    def __init__(self, path: Path, uid: str) -> None:
        self._path, self._uid = path, uid
        with self._reading():
            self.size = path.stat().st_size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        with self._reading(), self._path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(max(0, (self.size if stop is None else min(stop, self.size)) - start))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the original of {self._uid} cannot be read ({error.strerror}): bring it back from a copy, "
                "or ingest it again"
            ) from error


def _at_once(source: Readable) -> bytes | Readable:
    """Small objects are read at once, large ones frame by frame."""
    return source.read() if source.size <= _READ_AT_ONCE else source


def stored(
    storage: Storage,
    instances: Mapping[str, Instance],
    *,
    note: Callable[[str, Header], None] | None = None,
) -> Originals:
    """The originals of a lake, by SOPInstanceUID; note: as of `Originals`."""

    def source(uid: str) -> bytes | Readable:
        instance = instances.get(uid)
        if instance is None:
            raise VolumeError(f"the catalog does not list {uid}: ingest it again, or rebuild the volumes")
        return _at_once(_Stored(storage, instance.key, instance.size))

    return Originals(source, note=note)


def files(paths: Mapping[str, Path]) -> Originals:
    """Originals that lie in the file system, by SOPInstanceUID."""
    return Originals(lambda uid: _at_once(FileBytes(file_of(paths, uid), uid)))


def file_of(paths: Mapping[str, Path], uid: str) -> Path:
    """Where an original lies."""
    if uid not in paths:
        raise VolumeError(f"the volume store does not say where {uid} lies: rebuild the volumes")
    return paths[uid]


def paths_beside(store: Path) -> dict[str, Path]:
    """The originals that a volume store refers to, by their place relative to it."""
    uids = open_array(store, "scale0/object_uid")[...]
    places = open_array(store, "scale0/original")[...]
    return {str(u): Path(os.path.normpath(store / str(p))) for u, p in zip(uids, places, strict=True)}


# ---- planes ------------------------------------------------------------------------------------------


def sources_of(frames: Iterable[Frame]) -> list[Source]:
    """Where the planes of a planned volume come from, in its order."""
    return [Source(frame.sop_instance_uid, frame.frame_index, frame.tile) for frame in frames]


def sources_in(store: Path) -> list[Source]:
    """Where the planes come from, as a volume store keeps it; in C order over the leading dimensions."""
    uids = np.ravel(open_array(store, "scale0/instance_uid")[...])
    index = np.ravel(open_array(store, "scale0/frame_index")[...])
    tiles = _tiles(store, len(uids))
    return [Source(str(uid), int(number), tile) for uid, number, tile in zip(uids, index, tiles, strict=True)]


def _tiles(store: Path, count: int) -> Sequence[Tile | None]:
    if not (store / "scale0" / "frame_tile").is_dir():
        return [None] * count
    rows = np.reshape(open_array(store, "scale0/frame_tile")[...], (count, 4)).tolist()
    return [Tile(*row) if row[2] else None for row in rows]


def decode(
    originals: Originals,
    wanted: Sequence[tuple[int, Source]],
    out: np.ndarray,
    *,
    pool: ThreadPoolExecutor | None = None,
    then: Callable[[int], None] | None = None,
) -> None:
    """Decode planes into their slots of `out`, shape (slots, rows, columns[, rgb]).

    then: is called with each slot that was filled, in any order and by any thread.
    Raises DicomlakeError when a frame cannot be decoded, or is not what the header of its object promised.
    """

    def one(image: tuple[str, int]) -> None:
        values = originals.frame(*image)
        for slot, source in images[image]:
            out[slot] = cut(values, source, out.shape[1:], out.dtype)
            if then is not None:
                then(slot)

    images: dict[tuple[str, int], list[tuple[int, Source]]] = {}
    for slot, source in wanted:
        images.setdefault((source.sop_instance_uid, source.frame_index), []).append((slot, source))
    for _ in (map if pool is None else pool.map)(one, images):
        pass


def cut(values: np.ndarray, source: Source, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """The plane in a decoded frame. Raises VolumeError when it has another shape or dtype than promised."""
    if source.tile is not None:
        row, column, rows, columns = source.tile
        values = values[row : row + rows, column : column + columns]
    if values.shape != shape or not np.can_cast(values.dtype, dtype, "safe"):
        raise VolumeError(
            f"frame {source.frame_index} of {source.sop_instance_uid} decodes to {values.shape} "
            f"{values.dtype}, its header promises {shape} {dtype}: the original is kept, look at it with "
            "`dicomlake show`"
        )
    return values
