"""What an array says of itself: its axes in their order, where it lies in the patient, its pace."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import GeometryError, VolumeError
from dicomlake.widgets.images.planes import Plane, acquired_plane, frames_of, planes_of

if TYPE_CHECKING:
    import xarray as xr

_KEPT = ("rescale_slope", "rescale_intercept")
_MOST_VALUES = 64  # of a further axis that travel
_NEVER_8_BITS = frozenset({"CT", "MR", "PT"})
_WITHOUT_TEXT = _NEVER_8_BITS | {"NM", "RTDOSE"}
_IMAGE = "1.2.840.10008.5.1.4.1.1"
_ACQUIRED = frozenset(f"{_IMAGE}.{n}" for n in ("2", "2.1", "4", "4.1", "128", "130", "20", "481.2"))
"""CT, Enhanced CT, MR, Enhanced MR, PET, Enhanced PET, NM, RT Dose: pixels of these are measured."""


def ordered(image: xr.DataArray) -> xr.DataArray:
    """(…, z or frame, y, x[, rgb]) with all three axes, without the coordinates that pixels do not need."""
    from dicomlake.volumes.placing import whole_space

    solid = whole_space(image)
    if "y" not in solid.dims or "x" not in solid.dims:
        raise VolumeError(
            f"an image has the axes y and x, this array has {', '.join(map(str, image.dims)) or 'none'}"
        )
    colours = [d for d in solid.dims if d == "rgb"]
    leading = [d for d in solid.dims if d not in ("y", "x", "rgb")]
    stack = next((d for d in ("z", "frame") if d in leading), leading[-1] if leading else None)
    if stack is None:
        solid, stack = solid.expand_dims("frame"), "frame"
    extras = [d for d in leading if d != stack]
    turned = solid.transpose(*extras, stack, "y", "x", *colours)
    return turned.drop_vars([name for name in turned.coords if name not in _KEPT])


def placed(
    image: xr.DataArray, shape: tuple[int, int, int]
) -> tuple[np.ndarray | None, dict[str, Plane], bool]:
    """The affine, the planes, and whether distances in them are known in mm."""
    from dicomlake.volumes import placing

    spacing = image.attrs.get("pixel_spacing_mm")
    scale = 2.0 ** int(image.attrs.get("level", 0))
    mm = (float(spacing[0]) * scale, float(spacing[1]) * scale) if spacing is not None else None
    try:
        affine = placing.affine(image)
        if abs(np.linalg.det(affine[:3, :3])) > 0:
            return affine, planes_of(shape, affine), True
    except GeometryError:
        pass
    if "orientation" in image.attrs and mm is not None and "z" in image.dims:
        try:
            grid = placing.grid(image.drop_vars(["instance_uid", "frame_index"], errors="ignore"))
        except GeometryError:
            pass
        else:
            row, column = grid.affine[:3, 2], grid.affine[:3, 1]
            sizes = float(np.linalg.norm(column)), float(np.linalg.norm(row))
            orientation = [*row / sizes[1], *column / sizes[0]]
            return None, acquired_plane(shape, orientation, sizes), True
    return None, frames_of(shape, mm or (1.0, 1.0)), mm is not None


def content_of(image: xr.DataArray) -> str | None:
    """A name that only arrays of the same content have, as Dask gives it; None without."""
    name = getattr(image.variable._data, "name", None)
    return name if isinstance(name, str) else None


def digest(uid: Any) -> str:
    """Of a UID, to tell whether two are the same; "" without one."""
    return hashlib.blake2b(str(uid).encode(), digest_size=8).hexdigest() if uid else ""


def axis(image: xr.DataArray, name: str, size: int) -> dict[str, Any]:
    """A further axis, with its values where they are numbers."""
    found: dict[str, Any] = {"name": name, "size": size, "units": ""}
    if name in image.coords and image.coords[name].dims == (name,):
        values = np.asarray(image.coords[name].values)
        found["units"] = str(image.coords[name].attrs.get("units", ""))
        if values.dtype.kind in "iuf" and size <= _MOST_VALUES and np.isfinite(values).all():
            found["values"] = [float(v) for v in values]
    return found


def cine(image: xr.DataArray) -> dict[str, float] | None:
    """Frames a second, from `frame_time` in ms."""
    if "frame_time" not in image.coords:
        return None
    times = np.asarray(image.coords["frame_time"].values, dtype=float).ravel()
    times = times[np.isfinite(times)]
    return None if not times.size else _rate(times, str(image.coords["frame_time"].attrs.get("units", "")))


def _rate(times: np.ndarray, units: str) -> dict[str, float] | None:
    steps = np.diff(times)
    each = float(np.median(steps)) if times.size > 1 and (steps > 0).all() else float(np.median(times))
    each = each / 1000 if units == "ms" else each
    return {"rate": float(np.clip(1 / each, 0.5, 60))} if each > 0 else None


def may_show_text(image: xr.DataArray, objects: Sequence[Attributes], *, placed: bool, units: str) -> bool:
    """Whether the pixels may show text, perhaps a name: all may but those that are known to be measured.

    objects: the headers of all objects of the image; without any, nobody knows.
    placed: whether the image lies in a patient. units: of the values that are shown.
    """
    if not objects or any(
        header.text("BurnedInAnnotation") == "YES" or header.text("SOPClassUID") not in _ACQUIRED
        for header in objects
    ):
        return True
    modality = image.attrs.get("modality")
    screen = modality in _NEVER_8_BITS and image.dtype.itemsize == 1  # captured, or derived
    screen = screen or (modality == "CT" and units != "HU")
    return screen or "rgb" in image.dims or modality not in _WITHOUT_TEXT or not placed
