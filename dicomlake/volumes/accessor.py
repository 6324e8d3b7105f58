"""DICOM on an image array: `image.dicom.hu()`, `.affine`, `.at_lps(…)`, `.to_sitk()`, `.verify()`.

Everything follows the array's coordinates, so it holds after slicing, too.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from dicomlake.errors import DicomlakeError, GeometryError, VolumeError

if TYPE_CHECKING:
    import SimpleITK

_AXES = ("z", "y", "x")
_INT16 = np.iinfo(np.int16)


@xr.register_dataarray_accessor("dicom")
class DicomAccessor:
    """DICOM semantics of one image array."""

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image

    @property
    def affine(self) -> np.ndarray:
        """Voxel index (z, y, x) to patient position, LPS, mm; shape (4, 4).

        Follows PS3.3 C.7.6.2.1.1 and the coordinates left by slicing. Raises GeometryError when the
        array has no geometry or its slices are no longer evenly spaced.
        """
        whole = self._whole_affine()
        origin, spacing = self._attribute("origin_mm"), self._attribute("spacing_mm")
        found = np.eye(4)
        start = np.empty(3)
        for axis, name in enumerate(_AXES):
            positions = np.atleast_1d(self._image.coords[name].values).astype(float)
            index = (positions - origin[axis]) / spacing[axis]
            start[axis] = index[0]
            found[:3, axis] = whole[:3, axis] * _even_step(index, name)
        found[:3, 3] = whole[:3, :3] @ start + whole[:3, 3]
        return found

    def _whole_affine(self) -> np.ndarray:
        if "affine_lps" not in self._image.attrs or any(name not in self._image.coords for name in _AXES):
            raise GeometryError(
                "this array has no geometry: it was opened without one, or an operation dropped its "
                "coordinates or attributes; keep them with xr.set_options(keep_attrs=True)"
            )
        return np.asarray(self._image.attrs["affine_lps"], dtype=float)

    def _attribute(self, name: str) -> list[float]:
        value: list[float] = self._image.attrs[name]
        return value

    def rescaled(self) -> xr.DataArray:
        """The values in their units: stored x RescaleSlope + RescaleIntercept (PS3.3 C.11.1), lazily.

        int16 where that is exact, float32 otherwise; values that are rescaled already come back as they are.
        Raises DicomlakeError where a Modality LUT, which is not applied yet, stands in place of a line.
        """
        image = self._image
        if image.attrs.get("source") != "stored":
            return image
        if image.attrs.get("rescale_mixed"):
            raise DicomlakeError(
                "some slices lack RescaleSlope or RescaleIntercept: use the values as stored"
            )
        if image.attrs.get("modality_lut"):
            raise DicomlakeError(
                "the values need their Modality LUT, which is not applied: use them as stored"
            )
        slope, intercept = self._factor("rescale_slope", 1.0), self._factor("rescale_intercept", 0.0)
        if slope is None or intercept is None:
            return image
        if _fits_int16(image.dtype, image.attrs.get("bits_stored"), slope, intercept):
            values = image.astype(np.int16) + np.int16(intercept)
        else:
            values = image.astype(np.float32) * _float32(slope) + _float32(intercept)
        kept = {k: v for k, v in image.attrs.items() if not k.startswith(("rescale_", "padding_"))}
        kept["source"] = "rescaled"
        result = values.drop_vars(["rescale_slope", "rescale_intercept"], errors="ignore").rename(image.name)
        result.attrs = kept  # not merged: a slope left behind would be applied twice
        return result

    def _factor(self, name: str, default: float) -> Any:
        if name in self._image.coords:
            return self._image.coords[name]
        return self._image.attrs.get(name, default)

    def hu(self) -> xr.DataArray:
        """Hounsfield units, lazily. Raises DicomlakeError when the rescaled values are not in HU.

        Units come from RescaleType, or from a CT image that has none (PS3.3 C.11.1.1.2).
        """
        units = self._image.attrs.get("units")
        if units != "HU":
            modality = self._image.attrs.get("modality", "this")
            raise DicomlakeError(
                f"{modality} values are in {units or 'no units'}, not HU: use .dicom.rescaled()"
            )
        return self.rescaled()

    def at_lps(
        self, x: Any, y: Any, z: Any, *, method: Literal["nearest", "linear"] = "nearest"
    ) -> xr.DataArray:
        """The value at a patient position in mm, LPS: one point, or arrays of points (dimension `point`).

        Raises GeometryError when a point lies more than half a voxel outside.
        """
        points = np.stack(np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in (x, y, z))))
        index = self._index_of(points.reshape(3, -1))
        shape = np.array([self._image.sizes[name] for name in _AXES])[:, None]
        if ((index < -0.5) | (index > shape - 0.5)).any():
            raise GeometryError("a point lies outside the volume: compare with .dicom.affine and the shape")
        scalar = points.ndim == 1
        index = np.clip(index, 0, shape - 1)
        picked = self._picked(np.rint(index)) if method == "nearest" else self._trilinear(index, shape)
        return picked.isel(point=0) if scalar else picked

    def _picked(self, index: np.ndarray) -> xr.DataArray:
        """The voxels at whole indices, shape (3, n), along the dimension `point`."""
        whole = index.astype(int)
        return self._image.isel({n: xr.DataArray(whole[a], dims="point") for a, n in enumerate(_AXES)})

    def _trilinear(self, index: np.ndarray, shape: np.ndarray) -> xr.DataArray:
        """Weighted by the eight voxels around each point; float32."""
        low = np.minimum(np.floor(index), np.maximum(shape - 2, 0))
        part = index - low
        total: Any = 0
        for corner in itertools.product((0, 1), repeat=3):
            side = np.array(corner)[:, None]
            weight = np.prod(np.where(side, part, 1 - part), axis=0).astype(np.float32)
            voxels = self._picked(np.minimum(low + side, shape - 1)).astype(np.float32)
            total = total + voxels.drop_vars(voxels.coords) * xr.DataArray(weight, dims="point")
        found: xr.DataArray = total.assign_attrs(self._image.attrs).rename(self._image.name)
        return found

    def _index_of(self, points: np.ndarray) -> np.ndarray:
        """Fractional voxel index (z, y, x) of LPS points, both of shape (3, n)."""
        homogeneous = np.vstack([points, np.ones(points.shape[1])])
        found: np.ndarray = (np.linalg.inv(self.affine) @ homogeneous)[:3]
        return found

    def to_sitk(self) -> SimpleITK.Image:
        """A SimpleITK image with the same values and geometry; computes the array.

        Raises GeometryError for a sheared volume, which ITK's orthonormal direction cannot hold.
        """
        import SimpleITK as sitk

        affine = self.affine
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        direction = affine[:3, :3] / spacing
        if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
            raise GeometryError("the volume is sheared, which an ITK image cannot say: resample it first")
        extra = [d for d in self._image.dims if d not in (*_AXES, "rgb")]
        if extra:
            raise GeometryError(
                f"an ITK image has three axes: select one of {', '.join(map(str, extra))} first"
            )
        image = sitk.GetImageFromArray(
            self._image.transpose(*_AXES, ...).values, isVector="rgb" in self._image.dims
        )
        image.SetSpacing(spacing[::-1].tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetDirection(direction[:, ::-1].ravel().tolist())
        return image

    def verify(self) -> list[int]:
        """The slices of the stored volume whose bytes differ from what was decoded; an empty list is good.

        Reads the whole store, slab by slab. Raises VolumeError when the array does not come from a store.
        """
        from dicomlake.volumes.check import damaged_frames

        source = self._image.encoding.get("source")
        if source is None:
            raise VolumeError("this array does not come straight from a volume store: open the series again")
        return damaged_frames(Path(source))


def _even_step(index: np.ndarray, name: str) -> float:
    if index.size == 1:
        return 1.0
    steps = np.diff(index)
    if not np.allclose(steps, steps[0], atol=1e-3):
        raise GeometryError(f"the positions along {name} are not evenly spaced: there is no affine")
    return float(steps[0])


def _fits_int16(dtype: np.dtype[Any], bits_stored: int | None, slope: Any, intercept: Any) -> bool:
    """Whether slope 1 and an integral intercept keep every possible stored value within int16."""
    if not (isinstance(slope, int | float) and isinstance(intercept, int | float)) or dtype.kind not in "iu":
        return False
    if slope != 1 or intercept != int(intercept):
        return False
    bits = bits_stored or 8 * dtype.itemsize
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)
    return bool(_INT16.min <= min(low, low + intercept) and max(high, high + intercept) <= _INT16.max)


def _float32(value: Any) -> Any:
    return value.astype(np.float32) if isinstance(value, xr.DataArray) else np.float32(value)
