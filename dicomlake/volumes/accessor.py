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
    "10*-6.mm2/s": 1.0,
    "1e-6 mm2/s": 1.0,
    "10-3.mm2/s": 1e3,
    "10*-3.mm2/s": 1e3,
}  # UCUM, and what writers take for it


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

        linear: floating point; NaN beside padding; rescaled where slices are scaled apart, else as stored.
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
        """The values in their units, by Modality LUT or RescaleSlope and RescaleIntercept (C.11.1), lazily.

        int16 where that is exact, float64 for more than 24 bits, else float32; values that are rescaled
        already come back as they are. Raises QuantityError where that would be a guess: some slices lack a
        factor, an operation dropped the factors of the slices, or the array is no image any more.
        """
        return rescale.rescaled(self._image)

    def hu(self) -> xr.DataArray:
        """Hounsfield units, lazily. Raises QuantityError when the rescaled values are not in HU.

        Units come from RescaleType, or from a CT image that has none (PS3.3 C.11.1.1.2).
        """
        found = self.rescaled()
        if found.attrs.get("units") != "HU":
            raise QuantityError(f"values are in {_units_of(found)}, not HU: use .dicom.rescaled()")
        return found

    def suv(self, kind: Kind = "bw") -> xr.DataArray:
        """Standardised uptake values of PET, float32, lazily; the attribute `rule` says how they came about.

        kind: by body weight (bw), lean body mass (lbm), body surface (bsa) or ideal body weight (ibw), by the
        vendor-neutral rules of QIBA. Raises QuantityError when the series does not state what they need.
        """
        inputs = self._image.attrs.get("pet")
        if inputs is None:
            raise QuantityError(
                "SUV is made once, of a PET series: this array comes from none, is SUV already, or lost its"
                " attributes"
            )
        found = suv(inputs, kind)
        return rescale.in_units(self._image, found.factor, found.units, found.rule)

    def dose(self) -> xr.DataArray:
        """Dose in Gy, float32, lazily: stored x DoseGridScaling (PS3.3 C.8.8.3.4).

        Raises QuantityError when the values are no dose in Gy (DoseUnits RELATIVE).
        """
        units = self._image.attrs.get("units")
        if units != "GY":
            raise QuantityError(f"values are in {_units_of(self._image)}: they are no dose in GY as stored")
        return rescale.in_units(self._image, 1.0, "Gy", "stored values x DoseGridScaling")

    def adc(self) -> xr.DataArray:
        """Apparent diffusion coefficient in 1e-6 mm2/s, float32, lazily.

        Raises QuantityError unless the object states a diffusion unit (RealWorldValueMapping or RescaleType).
        """
        units = self._image.attrs.get("units") or ""
        if units not in _DIFFUSION_UNITS:
            raise QuantityError(f"values are in {_units_of(self._image)}, which is no unit of diffusion")
        rule = f"rescaled values in {units}"
        return rescale.in_units(self._image, _DIFFUSION_UNITS[units], "1e-6 mm2/s", rule)

    def real_world(self, label: str | None = None) -> xr.DataArray:
        """Values by a RealWorldValueMapping (PS3.3 C.7.6.16.2.11), float32, lazily; NaN where it says none.

        label: LUTLabel of one of several; `image.attrs["real_world"]` lists them.
        Raises QuantityError when none, or more than one, is meant, and for values that were rescaled.
        """
        return rescale.real_world(self._image, label)

    def without_padding(self) -> xr.DataArray:
        """Floating point with NaN for PixelPaddingValue, or its range (PS3.3 C.7.5.1.1.2), lazily.

        Before or after rescaling; an array without padding comes back as it is.
        """
        return rescale.without_padding(self._image)

    # ---- elsewhere ----

    def to_sitk(self) -> SimpleITK.Image:
        """A SimpleITK image with the same values and geometry; computes the array. bool becomes uint8.

        Raises GeometryError for a sheared volume, which ITK's orthonormal direction cannot hold.
        """
        import SimpleITK as sitk

        solid = placing.whole_space(self._image)
        matrix = placing.unsheared(self.affine, solid.sizes["z"])
        extra = [str(d) for d in solid.dims if d not in (*placing.AXES, "rgb")]
        if extra:
            raise GeometryError(f"an ITK image has three axes: select one of {', '.join(extra)} first")
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        direction = matrix[:3, :3] / spacing
        values = solid.transpose(*placing.AXES, ...).values
        values = values.astype(np.uint8) if values.dtype == bool else values
        image = sitk.GetImageFromArray(values, isVector="rgb" in solid.dims)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
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


def _units_of(image: xr.DataArray) -> str:
    return str(image.attrs.get("units") or "units that are not stated")
