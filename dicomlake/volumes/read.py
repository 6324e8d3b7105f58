"""A volume as lazy xarray: everything from the catalog's record, nothing from the store until computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.errors import VolumeError
from dicomlake.records import Volume
from dicomlake.storage.arrays import LazyArray, level_shape, level_shard
from dicomlake.volumes.beside import PALETTE, plane_dims
from dicomlake.volumes.coordinates import coordinates, leading_dims, leading_shape, steps_mm
from dicomlake.volumes.manifest import LEVEL, REFERENCE
from dicomlake.volumes.virtual import OriginalFrames, block_shape

if TYPE_CHECKING:
    import xarray as xr


def open_volume(volume: Volume, store: Path, *, chunks: Any = "auto", level: int = 0) -> xr.Dataset:
    """The Dataset of a built volume: `image` (…, z or frame, y, x[, rgb]) with its coordinates.

    Beside it, where the objects have them: bool arrays `overlay_6000` … (…, z or frame, y, x), and `palette`
    (index, rgb), with which `colour.to_rgb` makes colours of the image. Halved copies come without.
    chunks: "auto" makes one Dask chunk of each shard, or of some frames of the originals; None opens without
        Dask (lazy indexing); else sizes by dimension, or what `dask.array.from_array` takes.
    level: 0 is the volume itself, 1, 2 … its halved copies for a quick look.
    Dimensions lie along the volume's own axes: x and y along rows and columns as stored, z along the
    normal of the slices, in mm; for an oblique series z is not the patient's z, which `affine_lps` gives.
    Without geometry they have no coordinates. `instance_uid`, and `frame_index` of objects with several
    frames, say for each plane where it comes from, and are read when looked at.
    Raises VolumeError when the level does not exist; what is computed from it raises VolumeError when the
    store, or a file of it, is missing or damaged, rather than give values that were never there.
    """
    import xarray as xr

    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    levels = int(volume.info.get("levels", 1))
    if not 0 <= level < levels:
        raise VolumeError(f"level {level} does not exist: this volume has levels 0 to {levels - 1}")
    array, block = _image(volume, store, level)
    image = _lazy(array, _by_axis(chunks, volume.dims), block, volume.store_sha256 or "")
    found = coordinates(volume, level) | _frame_coordinates(volume, store, level, chunks)
    variables: dict[str, Any] = {"image": (volume.dims, image, image_attributes(volume, level))}
    if not level:
        variables |= _overlays(volume, store, chunks, block) | _palette(volume, store, chunks)
    dataset = xr.Dataset(variables, found)
    dataset.attrs = _dataset_attributes(volume)
    dataset.image.encoding["source"] = dataset.encoding["source"] = str(store)
    return dataset


def _image(volume: Volume, store: Path, level: int) -> tuple[LazyArray | OriginalFrames, tuple[int, ...]]:
    """The voxels, and what of them is read together: a shard, or some frames of the originals."""
    shape, dims = volume.shape, volume.dims
    if volume.info.get("stored") == REFERENCE:
        return OriginalFrames(store, shape, dims, volume.dtype), block_shape(shape, dims, volume.dtype)
    shard = volume.info.get("shard")
    extent = level_shard(shape, dims, shard or (volume.info["slab"], *shape[1:]), level)
    files = extent if shard else None  # stores of before have no file where all voxels are 0
    path = f"{LEVEL.format(level)}/image"
    return LazyArray(store, path, level_shape(shape, dims, level), volume.dtype, files), extent


def _lazy(array: LazyArray | OriginalFrames, chunks: Any, block: tuple[int, ...], content: str) -> Any:
    if chunks is None:
        return _indexed(array)
    import dask.array as da

    if chunks == "auto":
        chunks = block
    meta = np.empty((0,) * array.ndim, dtype=array.dtype)
    return da.from_array(
        array, chunks=chunks, asarray=False, meta=meta, inline_array=True, name=_token(array, content)
    )


def _by_axis(chunks: Any, dims: Sequence[str]) -> Any:
    """Chunks for an array of these dimensions, from what was asked for the image, which may have more."""
    if isinstance(chunks, Mapping):
        return {dims.index(name): size for name, size in chunks.items() if name in dims}
    return tuple(chunks[: len(dims)]) if isinstance(chunks, tuple | list) else chunks


def _token(array: LazyArray | OriginalFrames, content: str) -> str:
    """A name that changes with the content: schedulers may keep what they computed under it."""
    from dask.base import tokenize

    return f"dicomlake-{tokenize(str(array.store), array.path, array.shape, str(array.dtype), content)}"


def _indexed(array: LazyArray | OriginalFrames) -> Any:
    """xarray's own lazy indexing around an array, without Dask."""
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Wrapped(BackendArray):
        def __init__(self) -> None:
            self.shape, self.dtype = array.shape, array.dtype

        def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
            return indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.BASIC, array.__getitem__
            )

    return indexing.LazilyIndexedArray(Wrapped())


def _frame_coordinates(volume: Volume, store: Path, level: int, chunks: Any) -> dict[str, Any]:
    """Which frame of which object each plane is; read when it is looked at."""
    if level:
        return {}
    dims, shape = leading_dims(volume), leading_shape(volume)
    names: dict[str, Any] = {"instance_uid": object}
    if volume.info.get("multiframe"):
        names["frame_index"] = np.int32
    found: dict[str, Any] = {}
    for name, dtype in names.items():
        files = shape if "shard" in volume.info or "stored" in volume.info else None
        table = LazyArray(store, f"{LEVEL.format(0)}/{name}", shape, dtype, files)
        lazy = _lazy(table, None if chunks is None else "auto", shape, volume.store_sha256 or "")
        found[name] = (dims, lazy)
    return found


def _overlays(volume: Volume, store: Path, chunks: Any, block: tuple[int, ...]) -> dict[str, Any]:
    """The overlays, cut as the image is; where they lie is what `image.dicom` needs of them."""
    count, found = plane_dims(volume), {}
    shape, dims = volume.shape[:count], volume.dims[:count]
    where = {k: v for k, v in image_attributes(volume).items() if k in _PLACE}
    for name, said in volume.info.get("overlays", {}).items():
        array = LazyArray(store, f"{LEVEL.format(0)}/{name}", shape, bool, said["shard"])
        lazy = _lazy(array, _by_axis(chunks, dims), block[:count], volume.store_sha256 or "")
        kind = {"OverlayType": said["OverlayType"]} if "OverlayType" in said else {}
        found[name] = (dims, lazy, kind | where)
    return found


def _palette(volume: Volume, store: Path, chunks: Any) -> dict[str, Any]:
    said = volume.info.get(PALETTE)
    if said is None:
        return {}
    shape = (said["entries"], 3)
    array = LazyArray(store, f"{LEVEL.format(0)}/{PALETTE}", shape, said["dtype"], shape)
    lazy = _lazy(array, None if chunks is None else "auto", shape, volume.store_sha256 or "")
    return {PALETTE: (("index", "rgb"), lazy, {"first": said["first"]})}


def image_attributes(volume: Volume, level: int = 0) -> dict[str, Any]:
    """What travels with the image: units, rescale, geometry, how the values are meant."""
    info = volume.info
    attributes: dict[str, Any] = {"source": "stored", "verdict": volume.verdict}
    attributes |= {key: info[key] for key in _CARRIED if info.get(key) is not None}
    for name in ("slope", "intercept"):
        value = info.get(f"rescale_{name}")
        if isinstance(value, int | float):
            attributes[f"rescale_{name}"] = value
    varying = [
        name for name in _FACTORS if isinstance(info.get(name), list) or name in info.get("coords", {})
    ]
    if varying:  # an operation that drops these coordinates must not make 1 and 0 of them
        attributes["rescale_varies"] = varying
    if volume.affine_lps is not None and volume.spacing_mm is not None:
        attributes["affine_lps"] = [list(row) for row in volume.affine_lps]
        attributes["spacing_mm"] = list(volume.spacing_mm)
        attributes["step_mm"] = list(steps_mm(volume) or ())
    if level:
        attributes["level"] = level
    return attributes


_FACTORS = ("rescale_slope", "rescale_intercept")
_PLACE = frozenset(
    {
        *("verdict", "affine_lps", "spacing_mm", "step_mm", "tilt_degrees", "slice_step", "origin_mm"),
        *("orientation", "pixel_spacing_mm", "frame_of_reference_uid"),
    }
)
_CARRIED = (
    "units",
    "modality",
    "photometric_interpretation",
    "bits_stored",
    "padding_value",
    "padding_limit",
    "window",
    "lossy",
    "modality_lut",
    "real_world",
    "rescale_mixed",
    "tilt_degrees",
    "slice_step",
    "origin_mm",
    "orientation",
    "pixel_spacing_mm",
    "frame_of_reference_uid",
    "pet",
)


def _dataset_attributes(volume: Volume) -> dict[str, Any]:
    found = {
        "SeriesInstanceUID": volume.series.series_uid,
        "StudyInstanceUID": volume.series.study_uid,
        "FrameOfReferenceUID": volume.info.get("frame_of_reference_uid"),
        "volume": volume.number,
        "verdict": volume.verdict,
    } | {name: volume.info.get(name) for name in _TOLD}
    return {name: value for name, value in found.items() if value is not None}


_TOLD = ("gaps", "duplicates", "split_by", "partial", "overlays_unread", "palette_differs")
