"""Frames to a Zarr store, slab by slab: memory is bounded by the slab, whatever the series is.

A slab is decoded by several threads while the one before it is compressed and written. Each worker
writes whole shards. The store is built aside, made durable and moved into place in one step.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.pixels import decode_frame, decoder_name, frame_hash
from dicomlake.errors import DicomlakeError, StorageError, StorageFull, VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage import arrays, layout
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.check import store_sha256
from dicomlake.volumes.manifest import group_attributes
from dicomlake.volumes.plan import Plan
from dicomlake.volumes.read import axis_coordinates, level_shape

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def build(storage: Storage, plan: Plan, instances: Mapping[str, Instance]) -> Volume:
    """Make the store of a planned volume; return its record with key and hash.

    instances: by SOPInstanceUID, those of the series.
    Raises DicomlakeError when a frame cannot be decoded as planned; nothing is left behind then.
    """
    volume = plan.volume
    key = layout.volume_key(*volume.series, volume.number)
    tree = storage.stage_tree(key)
    folder = storage.local_path(tree)
    if folder is None:
        raise VolumeError("volumes can only be built on a local disk yet: keep the lake in a folder")
    try:
        decoders = {decoder_name(instances[f.sop_instance_uid].transfer_syntax) for f in plan.frames}
        volume = replace(volume, key=key, info=volume.info | {"decoder": ", ".join(sorted(decoders))})
        _write(folder, volume, plan.frames, storage, instances)
        volume = replace(volume, store_sha256=store_sha256(folder))
        storage.publish_tree(tree, key)
    except (OSError, RuntimeError) as error:  # zarrs reports the operating system's errors as RuntimeError
        raise _unwritten(error) from error
    finally:
        with suppress(DicomlakeError):
            storage.delete_tree(tree)
    return volume


def _unwritten(error: Exception) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    full = any(f"os error {n}" in str(error) for n in _FULL)
    if number in _FULL or full:
        return StorageFull("no space for the volume: free some and run `dicomlake rebuild --volumes`")
    cause = getattr(error, "strerror", None) or type(error).__name__
    return StorageError(f"the volume could not be written ({cause}): run `dicomlake rebuild --volumes`")


def _write(
    folder: Path, volume: Volume, frames: Sequence[Frame], storage: Storage, instances: Mapping[str, Instance]
) -> None:
    import zarr

    with arrays.fast_pipeline():
        root = zarr.open_group(folder, mode="w", attributes=group_attributes(volume))
        images = _create_levels(root, volume)
    hashes = _write_slabs(images, volume, frames, storage, instances)
    _write_tables(root["scale0"], volume, frames, hashes)
    for level in range(1, len(images)):
        _write_axes(root[f"scale{level}"], volume, level)
    arrays.consolidate(folder, [f"scale{level}" for level in range(len(images))])


def _create_levels(root: Any, volume: Volume) -> list[Any]:
    slab = int(volume.info["slab"])
    return [
        arrays.create_array(
            root.create_group(f"scale{level}"),
            "image",
            level_shape(volume.shape, level),
            volume.dtype,
            volume.dims,
            slab >> level,
        )
        for level in range(int(volume.info["levels"]))
    ]


def _write_slabs(
    images: Sequence[Any],
    volume: Volume,
    frames: Sequence[Frame],
    storage: Storage,
    instances: Mapping[str, Instance],
) -> np.ndarray:
    """Write all slabs, decoding the next one meanwhile; return the frame hashes, shape (z, 32)."""
    hashes = np.zeros((len(frames), 32), np.uint8)
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as decoders:
        writing: Future[None] | None = None
        for start, slab in _slabs(decoders, volume, frames, storage, instances, hashes):
            if writing is not None:
                writing.result()
            writing = writer.submit(_write_levels, images, start, slab)
        if writing is not None:
            writing.result()
    return hashes


def _slabs(
    decoders: ThreadPoolExecutor,
    volume: Volume,
    frames: Sequence[Frame],
    storage: Storage,
    instances: Mapping[str, Instance],
    hashes: np.ndarray,
) -> Iterator[tuple[int, np.ndarray]]:
    depth = min(int(volume.info["slab"]), len(frames))
    buffers = [
        np.empty((depth, *volume.shape[1:]), volume.dtype) for _ in range(min(2, -(-len(frames) // depth)))
    ]
    for number, start in enumerate(range(0, len(frames), depth)):
        part = frames[start : start + depth]
        slab = buffers[number % 2][: len(part)]  # the other one is being written meanwhile

        def decode(k: int, start: int = start, slab: np.ndarray = slab) -> None:
            values = _decode(storage, frames[start + k], instances, slab.shape[1:], slab.dtype)
            slab[k] = values
            hashes[start + k] = np.frombuffer(frame_hash(slab[k]), np.uint8)

        list(decoders.map(decode, range(len(part))))
        yield start, slab


def _decode(
    storage: Storage,
    frame: Frame,
    instances: Mapping[str, Instance],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> np.ndarray:
    data = storage.get(instances[frame.sop_instance_uid].key)
    values = decode_frame(data, read_header(data), frame.frame_index)
    if values.shape != shape or not np.can_cast(values.dtype, dtype, "safe"):
        found = f"{values.shape} {values.dtype}"
        raise VolumeError(
            f"frame {frame.frame_index} of {frame.sop_instance_uid} decodes to {found}, its header promises "
            f"{shape} {dtype}: the original is kept, look at it with `dicomlake show`"
        )
    return values


def _write_levels(images: Sequence[Any], start: int, slab: np.ndarray) -> None:
    for level, image in enumerate(images):
        if level:
            slab = halved(slab)
        first = start >> level
        image[first : first + slab.shape[0]] = slab


def halved(slab: np.ndarray) -> np.ndarray:
    """The mean of 2 x 2 x 2 voxels, rounded to the dtype; an odd last plane is averaged with itself."""
    odd = [(0, n % 2) for n in slab.shape[:3]] + [(0, 0)] * (slab.ndim - 3)
    even = np.pad(slab, odd, "edge") if any(n % 2 for n in slab.shape[:3]) else slab
    found = np.empty(
        (even.shape[0] // 2, even.shape[1] // 2, even.shape[2] // 2, *even.shape[3:]), slab.dtype
    )
    for k in range(found.shape[0]):  # plane by plane: the wide sums stay in the cache
        found[k] = _mean_plane(even[2 * k], even[2 * k + 1])
    return found


def _mean_plane(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    kind, size = lower.dtype.kind, lower.dtype.itemsize
    wide = np.float64 if kind == "f" else np.int64 if size > 2 else np.int32
    total: Any = lower.astype(wide)
    total += upper
    total = total[0::2] + total[1::2]
    total = total[:, 0::2] + total[:, 1::2]
    if kind == "b":
        return np.asarray(total >= 4)
    mean = total / 8 if kind == "f" else (total + 4) >> 3
    return np.asarray(mean, dtype=lower.dtype)


def _write_tables(group: Any, volume: Volume, frames: Sequence[Frame], hashes: np.ndarray) -> None:
    arrays.create_table(group, "frame_hash", hashes, ["z", "byte"])
    arrays.create_table(group, "instance_uid", [f.sop_instance_uid for f in frames], ["z"])
    arrays.create_table(group, "frame_index", np.array([f.frame_index for f in frames], np.int32), ["z"])
    for name in ("rescale_slope", "rescale_intercept"):
        value = volume.info.get(name)
        if isinstance(value, list):
            arrays.create_table(group, name, np.array(value), ["z"])
    _write_axes(group, volume, 0)


def _write_axes(group: Any, volume: Volume, level: int) -> None:
    for axis, (_dim, values, attributes) in axis_coordinates(volume, level).items():
        arrays.create_table(group, axis, values, [axis], attributes)
