"""Planned volumes of any dimensions, made by hand: every voxel tells its frame, row and column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from dicomlake.dicom.frames import Frame, Tile, first_frame
from dicomlake.dicom.headers import read_header
from dicomlake.records import Instance, SeriesKey, Volume
from dicomlake.storage import layout
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes.plan import Plan
from tests import objects

KEY = SeriesKey(f"{objects.ROOT}.7", f"{objects.ROOT}.7.1")
SPACING, ORIGIN = (2.5, 0.5, 0.75), (-100.0, 20.0, 30.0)


def voxels(shape: Sequence[int], dtype: Any = np.uint16) -> np.ndarray:
    """Distinct neighbours along every axis; no two frames alike."""
    index = np.indices(shape)
    weights = (7919, 911, 131, 29, 7, 3)[-len(shape) :]
    total = sum(w * i for w, i in zip(weights, index, strict=True))
    return np.asarray(total % np.iinfo(dtype).max + 1, dtype)


def put(storage: LocalStorage, number: int, pixels: np.ndarray, **others: Any) -> tuple[Instance, Frame]:
    """Store one object with these pixels, (rows, columns[, rgb]) or frames of them; its first frame."""
    ds = _dataset(number, pixels, others.pop("frames", 1))
    for keyword, value in others.items():
        setattr(ds, keyword, value)
    data = objects.as_bytes(ds)
    return keep(storage, data)


def keep(storage: LocalStorage, data: bytes) -> tuple[Instance, Frame]:
    """Store an object as it is."""
    header = read_header(data)
    frame = first_frame(header.dataset)
    uid = frame.sop_instance_uid
    key = layout.original_key(*KEY, uid)
    path = storage.local_path(key)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)  # durability is tested elsewhere, and takes its time
    digest = hashlib.sha256(data).hexdigest()
    instance = Instance(uid, frame.sop_class_uid, KEY, header.transfer_syntax, key, len(data), digest, digest)
    return instance, frame


def _dataset(number: int, pixels: np.ndarray, frames: int) -> Dataset:
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    ds = objects.dataset(1, series=KEY.series_uid)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{KEY.series_uid}.{number}"
    ds.InstanceNumber = number
    ds.Rows, ds.Columns = shape[:2]
    if len(shape) == 3:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return ds


def planned(
    frames: Sequence[Frame], shape: Sequence[int], dims: Sequence[str], dtype: Any = np.uint16, **info: Any
) -> Plan:
    """The plan of a volume; with geometry when it has z."""
    space = "z" in dims
    affine = np.diag((*SPACING, 1.0))[[2, 1, 0, 3]]
    affine[:3, 3] = ORIGIN[::-1]
    volume = Volume(
        KEY,
        0,
        "regular" if space else "none",
        tuple(dims),
        tuple(shape),
        np.dtype(dtype).str.lstrip("<|"),
        tuple(map(tuple, affine.tolist())) if space else None,
        SPACING if space else None,
        info={"modality": "MR", "levels": 1} | ({"origin_mm": list(ORIGIN)} if space else {}) | info,
    )
    return Plan(volume, tuple(frames), True)


def single_frames(
    storage: LocalStorage, values: np.ndarray, dims: Sequence[str], **info: Any
) -> tuple[Plan, dict[str, Instance]]:
    """A volume of objects of one frame each, whose pixels are `values`."""
    leading = list(dims).index("y")
    planes = values.reshape(-1, *values.shape[leading:])
    kept = [put(storage, number + 1, plane) for number, plane in enumerate(planes)]
    plan = planned([frame for _, frame in kept], values.shape, dims, values.dtype, **info)
    return plan, {instance.sop_instance_uid: instance for instance, _ in kept}


def one_object(
    storage: LocalStorage, values: np.ndarray, dims: Sequence[str], **info: Any
) -> tuple[Plan, dict[str, Instance]]:
    """The same as one object of many frames."""
    leading = list(dims).index("y")
    planes = values.reshape(-1, *values.shape[leading:])
    instance, first = put(storage, 1, planes, frames=len(planes))
    frames = [replace(first, frame_index=number) for number in range(len(planes))]
    return planned(frames, values.shape, dims, values.dtype, **info), {instance.sop_instance_uid: instance}


def mosaics(
    storage: LocalStorage, values: np.ndarray, across: int, **info: Any
) -> tuple[Plan, dict[str, Instance]]:
    """(time, z, y, x): each time is one image that holds its slices as tiles, row by row."""
    _times, slices, rows, columns = values.shape
    frames, instances = [], {}
    for number, volume in enumerate(values):
        image = np.zeros((-(-slices // across) * rows, across * columns), values.dtype)
        tiles = [Tile(k // across * rows, k % across * columns, rows, columns) for k in range(slices)]
        for tile, plane in zip(tiles, volume, strict=True):
            image[tile.row : tile.row + rows, tile.column : tile.column + columns] = plane
        instance, first = put(storage, number + 1, image)
        pixel = replace(first.pixel, rows=rows, columns=columns)
        frames += [replace(first, tile=tile, pixel=pixel) for tile in tiles]
        instances[instance.sop_instance_uid] = instance
    return planned(frames, values.shape, ("time", "z", "y", "x"), values.dtype, **info), instances


def built(
    root: Path, make: Callable[..., tuple[Plan, Mapping[str, Instance]]], *args: Any, **info: Any
) -> Any:
    """Build it in a fresh lake folder: the record and the path of the store."""
    from dicomlake.volumes.build import build

    storage = LocalStorage(root)
    plan, instances = make(storage, *args, **info)
    volume = build(storage, plan, instances)
    storage.close()
    return volume, root / str(volume.key)


def compressed(pixels: np.ndarray, number: int, syntax: str) -> bytes:
    """One object in a compressed syntax, encoded by pydicom."""
    ds = _dataset(number, pixels, 1)
    ds.compress(pydicom.uid.UID(syntax), pixels)
    return objects.as_bytes(ds)


def write_large(path: Path, frames: int, size: int) -> None:
    """One uncompressed object of many frames, written without holding it; frame k is k + row."""
    ds = _dataset(1, np.zeros((2, size, size), np.uint16), 2)
    ds.NumberOfFrames = frames
    ds.PixelData = b""
    head = objects.as_bytes(ds)
    with path.open("wb") as file:  # the pixel data element ends the object: its length is the last word
        file.write(head[:-4] + (frames * size * size * 2).to_bytes(4, "little"))
        for number in range(frames):
            file.write(np.tile((number + np.arange(size, dtype=np.uint16))[:, None], size).tobytes())


def keep_file(storage: LocalStorage, path: Path) -> tuple[Instance, Frame]:
    """Store a file without reading its pixels."""
    with path.open("rb") as file:
        header = read_header(file.read(1 << 14) + bytes(64))
    frame = first_frame(header.dataset)
    key = layout.original_key(*KEY, frame.sop_instance_uid)
    storage.publish([storage.stage(key, path, link=True)])
    size = path.stat().st_size
    instance = Instance(
        frame.sop_instance_uid, frame.sop_class_uid, KEY, header.transfer_syntax, key, size, "", ""
    )
    return instance, frame


def frames_of(first: Frame, count: int) -> list[Frame]:
    """The frames of one object."""
    return [replace(first, frame_index=number) for number in range(count)]
