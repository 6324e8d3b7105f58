"""Proof that a volume store holds what was decoded: frames against their hashes, files against one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dicomlake.dicom.headers import read_header
from dicomlake.dicom.pixels import decode_frame, frame_hash
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import Instance
from dicomlake.storage.arrays import open_array
from dicomlake.storage.objectstore import Storage


def damaged_frames(store: Path) -> list[int]:
    """Slices whose values differ from the hash kept when they were decoded, or cannot be read at all."""
    image, hashes = open_array(store, "scale0/image"), open_array(store, "scale0/frame_hash")
    wanted = _read(hashes, 0, hashes.shape[0])
    if wanted is None:
        return list(range(image.shape[0]))
    damaged: list[int] = []
    depth = image.shards[0] if image.shards else image.chunks[0]
    for start in range(0, image.shape[0], depth):
        stop = min(start + depth, image.shape[0])
        slab = _read(image, start, stop)
        if slab is None:  # one bad chunk: find its slices one by one
            slab_damaged = [k for k in range(start, stop) if not _equals(_read(image, k, k + 1), wanted[k])]
        else:
            slab_damaged = [
                k for k in range(start, stop) if not _equals(slab[k - start : k - start + 1], wanted[k])
            ]
        damaged.extend(slab_damaged)
    return damaged


def differing_frames(store: Path, storage: Storage, instances: Mapping[str, Instance]) -> list[int]:
    """Slices whose originals, decoded again, do not have the hash that was kept."""
    uids, index = open_array(store, "scale0/instance_uid")[:], open_array(store, "scale0/frame_index")[:]
    hashes = open_array(store, "scale0/frame_hash")[:]
    dtype = open_array(store, "scale0/image").dtype
    return [
        k
        for k, (uid, frame) in enumerate(zip(uids, index, strict=True))
        if _decoded_hash(storage, instances.get(str(uid)), int(frame), dtype) != hashes[k].tobytes()
    ]


def _decoded_hash(
    storage: Storage, instance: Instance | None, frame: int, dtype: np.dtype[Any]
) -> bytes | None:
    if instance is None:
        return None
    try:
        data = storage.get(instance.key)
        return frame_hash(decode_frame(data, read_header(data), frame).astype(dtype))
    except DicomlakeError:
        return None


def _read(array: object, start: int, stop: int) -> np.ndarray | None:
    try:
        return np.asarray(array[start:stop])  # type: ignore[index]  # zarr.Array
    except Exception:  # a damaged chunk fails in as many ways as there are codecs
        return None


def _equals(frame: np.ndarray | None, wanted: np.ndarray) -> bool:
    return frame is not None and frame_hash(frame[0]) == wanted.tobytes()


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
