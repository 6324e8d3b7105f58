"""Proof that a volume holds what was decoded: frames against their hashes, files against one hash.

Frames are named by their place in C order over the dimensions before y: in a stack (z, y, x) the slice.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dicomlake.dicom.pixels import frame_hash
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import Instance
from dicomlake.storage.arrays import missing_shards, open_array
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.manifest import REFERENCE, volume_of_store
from dicomlake.volumes.originals import Originals, Source, cut, files, paths_beside, sources_in, stored


def damaged_frames(store: Path) -> list[int]:
    """Frames whose values differ from the hash kept when they were decoded, or cannot be read at all.

    A volume that stays in its originals is decoded again; frames whose hash was not kept must decode.
    """
    volume = volume_of_store(store)
    if volume.info.get("stored") == REFERENCE:
        return _differing(store, files(paths_beside(store)))
    image = open_array(store, "scale0/image")
    leading = volume.dims.index("y")
    wanted = _read(open_array(store, "scale0/frame_hash"), (slice(None),) * (leading + 1))
    places = np.arange(int(np.prod(image.shape[:leading]))).reshape(image.shape[:leading])
    if wanted is None:
        return places.ravel().tolist()
    wanted = wanted.reshape(places.size, -1)
    damaged: list[int] = []
    shards = image.shards or image.chunks
    extent = shards[:leading]
    for start in itertools.product(
        *(range(0, n, s) for n, s in zip(image.shape[:leading], extent, strict=True))
    ):
        key = tuple(slice(a, a + s) for a, s in zip(start, extent, strict=True))
        whole = (*key, *(slice(None),) * (len(image.shape) - leading))
        if "shard" in volume.info and missing_shards(store, "scale0/image", image.shape, shards, whole):
            damaged += places[key].ravel().tolist()
        else:
            damaged += _damaged_of(image, key, whole, places[key], wanted)
    return sorted(damaged)


def _damaged_of(
    image: Any, key: tuple[slice, ...], whole: tuple[slice, ...], places: np.ndarray, wanted: np.ndarray
) -> list[int]:
    """The damaged frames of one shard; key: its place along the dimensions before y."""
    values = _read(image, whole)
    found: list[int] = []
    for at in np.ndindex(places.shape):
        if values is None:  # one bad chunk: find its frames one by one
            corner = zip(key, at, strict=True)
            one = tuple(slice(k.start + i, k.start + i + 1) for k, i in corner)
            alone = _read(image, (*one, *whole[len(key) :]))
            frame = None if alone is None else alone.reshape(alone.shape[len(key) :])
        else:
            frame = values[at]
        if frame is None or frame_hash(frame) != wanted[places[at]].tobytes():
            found.append(int(places[at]))
    return found


def differing_frames(store: Path, storage: Storage, instances: Mapping[str, Instance]) -> list[int]:
    """Frames whose originals, decoded again, do not have the hash that was kept."""
    return _differing(store, stored(storage, instances))


def _differing(store: Path, originals: Originals) -> list[int]:
    volume = volume_of_store(store)
    shape, dtype = volume.shape[volume.dims.index("y") :], np.dtype(volume.dtype)
    sources = sources_in(store)
    hashes = kept_hashes(store, len(sources))
    images: dict[tuple[str, int], list[int]] = {}
    for place, source in enumerate(sources):
        images.setdefault((source.sop_instance_uid, source.frame_index), []).append(place)

    def wrong(image: tuple[str, int]) -> list[int]:
        try:
            values = originals.frame(*image)
        except DicomlakeError:
            return images[image]
        found = [_hash_of(values, sources[place], shape, dtype) for place in images[image]]
        return [
            place
            for place, one in zip(images[image], found, strict=True)
            if one is None or (hashes is not None and one != hashes[place].tobytes())
        ]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        return sorted(itertools.chain.from_iterable(pool.map(wrong, images)))


def kept_hashes(store: Path, count: int) -> np.ndarray | None:
    """The hash of each frame, in C order, shape (count, 32); None where they were not kept."""
    if not (store / "scale0" / "frame_hash").is_dir():
        return None
    return np.reshape(open_array(store, "scale0/frame_hash")[...], (count, -1))


def _hash_of(
    values: np.ndarray, source: Source, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> bytes | None:
    try:
        return frame_hash(cut(values, source, shape, dtype).astype(dtype))
    except DicomlakeError:
        return None


def _read(array: Any, key: Sequence[slice]) -> np.ndarray | None:
    try:
        return np.asarray(array[tuple(key)])
    except Exception:  # a damaged chunk fails in as many ways as there are codecs
        return None


def store_sha256(store: Path) -> str:
    """SHA-256 over the names and bytes of all files of a store, in the order of their names."""
    whole = hashlib.sha256()
    files = sorted(path for path in store.rglob("*") if path.is_file())
    if not files:
        raise VolumeError("the volume store is missing: `dicomlake rebuild` makes it again")
    for path in files:
        whole.update(str(path.relative_to(store)).encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
