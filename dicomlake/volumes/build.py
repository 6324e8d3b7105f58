"""Frames to a Zarr store, shard by shard: memory is bounded by the shard, whatever the series is.

A shard is decoded by several threads while the one before it is compressed and written. Whole shards are
written. The store is built aside, made durable and moved into place in one step.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dicomlake.dicom.frames import Frame
from dicomlake.dicom.pixels import decoder_name, frame_hash
from dicomlake.errors import DicomlakeError, StorageError, StorageFull, VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage import arrays, layout
from dicomlake.storage.objectstore import Storage
from dicomlake.volumes.beside import Beside
from dicomlake.volumes.check import store_sha256
from dicomlake.volumes.coordinates import coordinates, leading_dims, leading_shape
from dicomlake.volumes.manifest import COPY, LEVEL, group_attributes
from dicomlake.volumes.originals import Originals, Source, decode, sources_of, stored
from dicomlake.volumes.plan import Plan

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DECODERS = min(os.cpu_count() or 1, 4)


def build(storage: Storage, plan: Plan, instances: Mapping[str, Instance]) -> Volume:
    """Make the store of a planned volume, of any dimensions; return its record with key and hash.

    instances: by SOPInstanceUID, those of the series.
    Raises DicomlakeError when a frame cannot be decoded as planned; nothing is left behind then.
    """
    volume = plan.volume
    cut = arrays.layout_of(volume.shape, volume.dims, volume.dtype)
    levels = min(int(volume.info.get("levels", 1)), arrays.most_levels(volume.shape, volume.dims, cut))
    info = volume.info | {"stored": COPY, "shard": list(cut.shard), "levels": levels}

    def write(folder: Path, volume: Volume) -> Volume:
        beside = Beside()
        originals = stored(storage, instances, note=beside.note)
        return _write(folder, volume, cut, plan.frames, originals, beside)

    return published(storage, replace(volume, info=info), plan.frames, instances, write)


def published(
    storage: Storage,
    volume: Volume,
    frames: Sequence[Frame],
    instances: Mapping[str, Instance],
    write: Callable[[Path, Volume], Volume],
) -> Volume:
    """The record of a volume, with key and hash, after its folder was filled and put in place.

    write: fills the folder and returns the record with what came to light meanwhile.
    """
    key = layout.volume_key(*volume.series, volume.number, volume.version)
    tree = storage.stage_tree(key)
    folder = storage.local_path(tree)
    if folder is None:
        raise VolumeError("volumes can only be built on a local disk yet: keep the lake in a folder")
    try:
        facts = {"decoder": _decoders(frames, instances)}
        if any(frame.frame_index for frame in frames):
            facts["multiframe"] = True
        volume = replace(volume, key=key, info=volume.info | facts)
        volume = write(folder, volume)
        volume = replace(volume, store_sha256=store_sha256(folder))
        storage.publish_tree(tree, key)
    except (OSError, RuntimeError) as error:  # zarrs reports the operating system's errors as RuntimeError
        raise _unwritten(error) from error
    finally:
        with suppress(DicomlakeError):
            storage.delete_tree(tree)
    return volume


def _decoders(frames: Sequence[Frame], instances: Mapping[str, Instance]) -> Any:
    uids = {frame.sop_instance_uid for frame in frames}
    names = {decoder_name(instances[uid].transfer_syntax) for uid in uids if uid in instances}
    return ", ".join(sorted(names))


def _unwritten(error: Exception) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    full = any(f"os error {n}" in str(error) for n in _FULL)
    if number in _FULL or full:
        return StorageFull("no space for the volume: free some and run `dicomlake rebuild --volumes`")
    cause = getattr(error, "strerror", None) or type(error).__name__
    return StorageError(f"the volume could not be written ({cause}): run `dicomlake rebuild --volumes`")


def _write(
    folder: Path,
    volume: Volume,
    cut: arrays.Layout,
    frames: Sequence[Frame],
    originals: Originals,
    beside: Beside,
) -> Volume:
    root = create_root(folder)
    images = _create_levels(root, volume, cut)
    sources = sources_of(frames)
    hashes = _write_shards(folder, images, volume, sources, originals)
    write_tables(root["scale0"], volume, sources, hashes)
    for level in range(1, len(images)):
        _write_coordinates(root[LEVEL.format(level)], volume, level)
    more = beside.write(folder, root["scale0"], volume, sources, originals)
    more["voxels"] = voxel_digest(hashes)
    return described(root, folder, replace(volume, info=volume.info | more))


def create_root(folder: Path) -> Any:
    """The root group of a new store."""
    import zarr

    with arrays.fast_pipeline():
        return zarr.open_group(folder, mode="w")


def described(root: Any, folder: Path, volume: Volume) -> Volume:
    """Write the record of a volume into its store, which is complete then; returns the record."""
    root.update_attributes(group_attributes(volume))
    arrays.consolidate(folder, [LEVEL.format(level) for level in range(int(volume.info["levels"]))])
    return volume


def _create_levels(root: Any, volume: Volume, cut: arrays.Layout) -> list[Any]:
    shape, dims = volume.shape, volume.dims
    with arrays.fast_pipeline():
        return [
            arrays.create_array(
                root.create_group(LEVEL.format(level)),
                "image",
                arrays.level_shape(shape, dims, level),
                volume.dtype,
                dims,
                arrays.level_layout(shape, dims, cut, level),
            )
            for level in range(int(volume.info["levels"]))
        ]


# ---- shards ------------------------------------------------------------------------------------------


def _write_shards(
    folder: Path, images: Sequence[Any], volume: Volume, sources: Sequence[Source], originals: Originals
) -> np.ndarray:
    """Write all shards, decoding the next one meanwhile; return the frame hashes, shape (frames, 32)."""
    hashes = np.zeros((len(sources), 32), np.uint8)
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(_DECODERS) as decoders:
        writing: Future[None] | None = None
        for start, values in _shards(decoders, volume, sources, originals, hashes):
            if writing is not None:
                writing.result()
            writing = writer.submit(_write_levels, folder, images, volume.dims, start, values)
        if writing is not None:
            writing.result()
    return hashes


def _shards(
    decoders: ThreadPoolExecutor,
    volume: Volume,
    sources: Sequence[Source],
    originals: Originals,
    hashes: np.ndarray,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each shard in turn, decoded: the index of its first voxel, and its values."""
    leading = leading_shape(volume)
    plane = volume.shape[len(leading) :]
    extent = [min(s, n) for s, n in zip(volume.info["shard"], leading, strict=False)]
    places = np.arange(len(sources)).reshape(leading)
    starts = list(itertools.product(*(range(0, n, s) for n, s in zip(leading, extent, strict=True))))
    buffers = [np.empty((int(np.prod(extent)), *plane), volume.dtype) for _ in range(min(2, len(starts)))]
    for number, start in enumerate(starts):
        block = places[tuple(slice(a, a + s) for a, s in zip(start, extent, strict=True))]
        frames = block.ravel()
        values = buffers[number % 2][: frames.size]  # the other one is being written meanwhile

        def hashed(slot: int, frames: np.ndarray = frames, values: np.ndarray = values) -> None:
            hashes[frames[slot]] = np.frombuffer(frame_hash(values[slot]), np.uint8)

        wanted = [(slot, sources[frame]) for slot, frame in enumerate(frames.tolist())]
        decode(originals, wanted, values, pool=decoders, then=hashed)
        yield (*start, *(0 for _ in plane)), values.reshape(*block.shape, *plane)


def _write_levels(
    folder: Path, images: Sequence[Any], dims: Sequence[str], start: tuple[int, ...], values: np.ndarray
) -> None:
    for level, image in enumerate(images):
        if level:
            values = halved(values, dims)
        first = [at >> level if name == "z" else at for at, name in zip(start, dims, strict=True)]
        arrays.write_block(folder, image, first, values)


def halved(values: np.ndarray, dims: Sequence[str]) -> np.ndarray:
    """The mean of 2 x 2 x 2 voxels along z, y, x, rounded to the dtype; an odd last plane is averaged
    with itself."""
    z = list(dims).index("z")
    odd = [(0, n % 2 if axis in (z, z + 1, z + 2) else 0) for axis, n in enumerate(values.shape)]
    even = np.pad(values, odd, "edge") if any(after for _, after in odd) else values
    stacks = even.reshape(-1, *even.shape[z:])
    count, slices, rows, columns, *colours = stacks.shape
    found = np.empty((count, slices // 2, rows // 2, columns // 2, *colours), values.dtype)
    for number, stack in enumerate(stacks):
        for k in range(slices // 2):  # plane by plane: the wide sums stay in the cache
            found[number, k] = _mean_plane(stack[2 * k], stack[2 * k + 1])
    return found.reshape(*values.shape[:z], *found.shape[1:])


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


def voxel_digest(hashes: np.ndarray) -> str:
    """BLAKE2b-128 over the hashes of all decoded frames: equal where every voxel is, however it is stored."""
    return hashlib.blake2b(hashes.tobytes(), digest_size=16).hexdigest()


# ---- tables ------------------------------------------------------------------------------------------


def write_tables(group: Any, volume: Volume, sources: Sequence[Source], hashes: np.ndarray | None) -> None:
    """What is known of each frame, over the dimensions before y, and the coordinates.

    hashes: of the decoded frames, shape (frames, 32); None where they were not decoded.
    """
    dims, shape = leading_dims(volume), leading_shape(volume)
    uids = np.array([source.sop_instance_uid for source in sources], dtype=object)
    index = np.array([source.frame_index for source in sources], np.int32)
    arrays.create_table(group, "instance_uid", uids.reshape(shape), dims)
    arrays.create_table(group, "frame_index", index.reshape(shape), dims)
    if hashes is not None:
        arrays.create_table(group, "frame_hash", hashes.reshape(*shape, 32), (*dims, "byte"))
    if any(source.tile for source in sources):
        tiles = np.array([source.tile or (0, 0, 0, 0) for source in sources], np.int32)
        arrays.create_table(group, "frame_tile", tiles.reshape(*shape, 4), (*dims, "tile_edge"))
    _write_coordinates(group, volume, 0)


def _write_coordinates(group: Any, volume: Volume, level: int) -> None:
    for name, (dims, values, attributes) in coordinates(volume, level).items():
        arrays.create_table(group, name, values, dims, attributes)
