"""DICOM on an image array: `image.dicom.hu()`, `.affine`, `.at_lps(…)`, `.to_sitk()`, `.to_nifti(…)` …

Everything follows the array's coordinates, so it holds after slicing, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from dicomlake.dicom import geometry
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.suv import Kind, suv
from dicomlake.errors import GeometryError, QuantityError, VolumeError
from dicomlake.volumes import placing, resample, rescale

if TYPE_CHECKING:
    import SimpleITK

_DIFFUSION_UNITS = {
    "mm2/s": 1e6,
    "um2/s": 1.0,
    "10-6.mm2/s": 1.0,
    "1e-6 mm2/s": 1.0,
    "10-3.mm2/s": 1e3,
}  # UCUM


@xr.register_dataarray_accessor("dicom")
class DicomAccessor:
    """DICOM semantics of one image array."""

    def __init__(self, image: xr.DataArray) -> None:
        self._image = image

    # ---- where ----

    @property
    def affine(self) -> np.ndarray:
        """Voxel index (z, y, x) to patient position, LPS, mm; shape (4, 4).

        Follows PS3.3 C.7.6.2.1.1 and the coordinates left by slicing. Raises GeometryError when the
        array has no geometry or its slices are not evenly spaced.
        """
        return placing.affine(self._image)

    @property
    def affine_ras(self) -> np.ndarray:
        """The same affine with patient axes right, anterior, superior, as NIfTI has them; index (z, y, x)."""
        return geometry.to_ras(self.affine)

    @property
    def grid(self) -> Grid:
        """The grid of the array, for masks, doses and segmentations; irregular planes have `positions`."""
        return placing.grid(self._image)

    def at_lps(
        self, x: Any, y: Any, z: Any, *, method: Literal["nearest", "linear"] = "nearest"
    ) -> xr.DataArray:
        """The value at a patient position in mm, LPS: one point, or arrays of points (dimension `point`).

        Raises GeometryError when a point lies more than half a voxel outside, or is no number.
        """
        return placing.at_points(self._image, x, y, z, method)

    def resampled(self, step_mm: float | None = None) -> xr.DataArray:
        """On an even grid of upright slices, float32, lazily; NaN where nothing was measured.

        For volumes that lean, have gaps or uneven distances. step_mm: between the new slices.
        Raises GeometryError when the planes are not parallel or have no geometry.
        """
        return resample.resampled(self._image, step_mm)

    # ---- what ----

    def rescaled(self) -> xr.DataArray:
        """The values in their units: stored x RescaleSlope + RescaleIntercept (PS3.3 C.11.1), lazily.

        int16 where that is exact, float32 otherwise; values that are rescaled already come back as they are.
        Raises DicomlakeError where some slices have a factor and others lack it.
        """
        return rescale.rescaled(self._image)

    def hu(self) -> xr.DataArray:
        """Hounsfield units, lazily. Raises QuantityError when the rescaled values are not in HU.

        Units come from RescaleType, or from a CT image that has none (PS3.3 C.11.1.1.2).
        """
        units = self._image.attrs.get("units")
        if units != "HU":
            modality = self._image.attrs.get("modality", "this")
            raise QuantityError(
                f"{modality} values are in {units or 'no units'}, not HU: use .dicom.rescaled()"
            )
        return self.rescaled()

    def suv(self, kind: Kind = "bw") -> xr.DataArray:
        """Standardised uptake values of PET, float32, lazily; the attribute `rule` says how they came about.

        kind: by body weight (bw), lean body mass (lbm), body surface (bsa) or ideal body weight (ibw), by the
        vendor-neutral rules of QIBA. Raises QuantityError when the series does not state what they need.
        """
        inputs = self._image.attrs.get("pet")
        if inputs is None:
            raise QuantityError("SUV is of PET series: this array comes from none, or lost its attributes")
        found = suv(inputs, kind)
        return self._in_units(self.rescaled() * np.float32(found.factor), found.units, found.rule)

    def dose(self) -> xr.DataArray:
        """Dose in Gy, float32, lazily: stored x DoseGridScaling (PS3.3 C.8.8.3.4).

        Raises QuantityError when the values are no dose in Gy (DoseUnits RELATIVE).
        """
        units = self._image.attrs.get("units")
        if units != "GY":
            raise QuantityError(f"the values are no dose in Gy: their units are {units or 'not stated'}")
        return self._in_units(self.rescaled(), "Gy", "stored values x DoseGridScaling")

    def adc(self) -> xr.DataArray:
        """Apparent diffusion coefficient in 1e-6 mm2/s, float32, lazily.

        Raises QuantityError unless the object states a diffusion unit (RealWorldValueMapping or RescaleType).
        """
        units = self._image.attrs.get("units")
        factor = _DIFFUSION_UNITS.get(units or "")
        if factor is None:
            raise QuantityError(
                f"the values state no unit of diffusion: their units are {units or 'not stated'}"
            )
        values = self.rescaled() * np.float32(factor)
        return self._in_units(values, "1e-6 mm2/s", f"rescaled values in {units}")

    def _in_units(self, values: xr.DataArray, units: str, rule: str) -> xr.DataArray:
        found = values.astype(np.float32)
        found.attrs = self.rescaled().attrs | {"units": units, "rule": rule, "source": "rescaled"}
        return found.rename(self._image.name)

    def without_padding(self) -> xr.DataArray:
        """float32 with NaN for PixelPaddingValue, or its range (PS3.3 C.7.5.1.1.2); rescale it afterwards."""
        span = rescale.padding_range(self._image)
        if span is None:
            return self._image
        inside = (self._image >= span[0]) & (self._image <= span[1])
        found: xr.DataArray = self._image.astype(np.float32).where(~inside)
        found.attrs = {k: v for k, v in self._image.attrs.items() if not k.startswith("padding_")}
        return found

    # ---- elsewhere ----

    def to_sitk(self) -> SimpleITK.Image:
        """A SimpleITK image with the same values and geometry; computes the array. bool becomes uint8.

        Raises GeometryError for a sheared volume, which ITK's orthonormal direction cannot hold.
        """
        import SimpleITK as sitk

        affine = self.affine
        solid = placing.whole_space(self._image)
        extra = [d for d in solid.dims if d not in (*placing.AXES, "rgb")]
        if extra:
            raise GeometryError(
                f"an ITK image has three axes: select one of {', '.join(map(str, extra))} first"
            )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        direction = affine[:3, :3] / spacing
        if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
            raise GeometryError(
                "the volume is sheared, which an ITK image cannot say: take .dicom.resampled() first"
            )
        values = solid.transpose(*placing.AXES, ...).values
        values = values.astype(np.uint8) if values.dtype == bool else values
        image = sitk.GetImageFromArray(values, isVector="rgb" in solid.dims)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetDirection(direction[:, ::-1].ravel().tolist())
        return image

    def to_nifti(self, path: str | Path) -> list[Path]:
        """Write a NIfTI file (.nii or .nii.gz), with .bval and .bvec for diffusion; return the files.

        One axis beside z, y, x may stay (time, b-value …). `Series.to_nifti` writes all volumes, with BIDS
        sidecars. Raises GeometryError when no affine places the slices, or there are more axes.
        """
        from dicomlake.volumes.nifti import write_nifti

        return write_nifti(self._image, Path(path))

    def to_nrrd(self, path: str | Path) -> Path:
        """Write an NRRD file through SimpleITK, compressed; raises as `to_sitk` does."""
        import SimpleITK as sitk

        sitk.WriteImage(self.to_sitk(), str(path), useCompression=True)
        return Path(path)

    def verify(self) -> list[int]:
        """The slices of the stored volume whose bytes differ from what was decoded; an empty list is good.

        Reads the whole store, slab by slab. Raises VolumeError when the array does not come from a store.
        """
        from dicomlake.volumes.check import damaged_frames

        source = self._image.encoding.get("source")
        if source is None:
            raise VolumeError("this array does not come straight from a volume store: open the series again")
        return damaged_frames(Path(source))
