"""Volumes as NIfTI-1 files: affine, rescale and times in the header, diffusion and BIDS facts beside it.

Voxels are written in the order of the array (x fastest), never flipped; the affine says where they lie. As
b-vectors are in voxel axes by FSL's convention, they follow the array as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.geometry import to_ras
from dicomlake.errors import GeometryError
from dicomlake.volumes.placing import AXES, affine
from dicomlake.volumes.rescale import rescaled

_FOURTH = ("time", "b", "repeat", "phase", "acquisition", "frame")  # what the fourth axis may be
_MS = 1e-3
_SUFFIXES = (".nii.gz", ".nii")
# BIDS key -> keyword, factor to the unit that BIDS asks for (BIDS 1.9, appendix on metadata)
_NUMBERS = {
    "MagneticFieldStrength": ("MagneticFieldStrength", 1.0),
    "EchoTime": ("EchoTime", _MS),
    "RepetitionTime": ("RepetitionTime", _MS),
    "InversionTime": ("InversionTime", _MS),
    "FlipAngle": ("FlipAngle", 1.0),
    "EchoTrainLength": ("EchoTrainLength", 1.0),
    "SliceThickness": ("SliceThickness", 1.0),
    "ImagingFrequency": ("ImagingFrequency", 1.0),
    "PixelBandwidth": ("PixelBandwidth", 1.0),
    "XRayTubeVoltage": ("KVP", 1.0),
    "SeriesNumber": ("SeriesNumber", 1.0),
}
_TEXTS = {
    "Modality": "Modality",
    "Manufacturer": "Manufacturer",
    "ManufacturersModelName": "ManufacturerModelName",
    "SoftwareVersions": "SoftwareVersions",
    "BodyPartExamined": "BodyPartExamined",
    "PatientPosition": "PatientPosition",
    "MRAcquisitionType": "MRAcquisitionType",
    "ScanningSequence": "ScanningSequence",
    "SequenceVariant": "SequenceVariant",
    "ScanOptions": "ScanOptions",
    "SequenceName": "SequenceName",
    "ReceiveCoilName": "ReceiveCoilName",
    "ConvolutionKernel": "ConvolutionKernel",
    "SeriesDescription": "SeriesDescription",
    "ProtocolName": "ProtocolName",
    "ImageType": "ImageType",
}


def write_nifti(image: xr.DataArray, path: Path, sidecar: Mapping[str, Any] | None = None) -> list[Path]:
    """Write an image of one volume; return the files: the image, its .json, .bval and .bvec of diffusion.

    image: (z, y, x), one further axis at most for time, b-value …; see `parts` for more.
    path: ends in .nii or .nii.gz. sidecar: facts for the .json, none is written without.
    Raises GeometryError when no affine places the slices.
    """
    import nibabel

    suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), None)
    if suffix is None:
        raise ValueError(f"a NIfTI file ends in .nii or .nii.gz: {path.name}")
    fourth = [str(dim) for dim in image.dims if dim not in (*AXES, "rgb")]
    if len(fourth) > 1:
        raise GeometryError(f"a NIfTI image has four axes: select one of {', '.join(fourth)} first")
    slope, intercept, values = _scaled(image.transpose(*fourth, *AXES, ...))
    matrix = to_ras(affine(image))[:, [2, 1, 0, 3]]  # columns x, y, z as NIfTI indexes them
    made = nibabel.Nifti1Image(_ordered(values), matrix)
    made.header.set_xyzt_units("mm", "sec")
    made.set_qform(None if _sheared(matrix) else matrix, code=0 if _sheared(matrix) else 1)
    made.set_sform(matrix, code=1)
    if fourth:
        made.header["pixdim"][4] = _interval_s(image, fourth[0])
    made.header.set_slope_inter(slope, intercept)
    nibabel.save(made, path)
    stem = path.with_name(path.name.removesuffix(suffix))
    return [path, *_sidecar(stem, sidecar), *_diffusion(stem, image, matrix, fourth)]


def parts(image: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """What makes one NIfTI file each, with the end of its name: one echo, one component … each.

    One axis that follows time or b-value may stay; of the others every index is a file of its own, named
    as BIDS does: `_echo-1`, `_part-phase`.
    """
    extra = [str(dim) for dim in image.dims if dim not in (*AXES, "rgb")]
    stays = next((dim for dim in _FOURTH if dim in extra), None)
    apart = [dim for dim in extra if dim != stays]
    for index in np.ndindex(*(image.sizes[dim] for dim in apart)):
        chosen = dict(zip(apart, index, strict=True))
        name = "".join(_entity(image, dim, i) for dim, i in chosen.items())
        yield name, image.isel(chosen)


def bids_facts(header: Attributes, image: xr.DataArray) -> dict[str, Any]:
    """The sidecar of one image: BIDS names and units, nothing that identifies the patient.

    header: of one instance of the series. Raises nothing: what is absent is left out.
    """
    found: dict[str, Any] = {
        name: "\\".join(header.texts(key)) for name, key in _TEXTS.items() if key in header
    }
    for name, (keyword, factor) in _NUMBERS.items():
        value = header.number(keyword)
        if value is not None:
            found[name] = value * factor
    for name, coordinate in (("EchoTime", "echo"), ("InversionTime", "inversion")):
        if coordinate in image.coords and image.coords[coordinate].ndim == 0:
            found[name] = float(image.coords[coordinate]) * _MS
    timing = image.coords.get("slice_time")
    if timing is not None and timing.dims == ("z",):
        found["SliceTiming"] = [float(t) * _MS for t in timing.values]
    return {name: value for name, value in found.items() if value not in ("", None)}


def _entity(image: xr.DataArray, dim: str, index: int) -> str:
    if dim == "component" and dim in image.coords:
        part = {"magnitude": "mag"}.get(
            str(image.coords[dim].values[index]), str(image.coords[dim].values[index])
        )
        return f"_part-{part}"
    return f"_{dim.replace('_', '')}-{index + 1}"


def _scaled(image: xr.DataArray) -> tuple[float, float, np.ndarray]:
    """Slope, intercept and values: as stored where one line serves all, rescaled where it does not."""
    varies = {"rescale_slope", "rescale_intercept"} & {*image.coords} or image.attrs.get("modality_lut")
    if image.attrs.get("source") != "stored" or varies:
        return 1.0, 0.0, rescaled(image).values
    slope, intercept = image.attrs.get("rescale_slope", 1.0), image.attrs.get("rescale_intercept", 0.0)
    return float(slope), float(intercept), image.values


def _ordered(values: np.ndarray) -> np.ndarray:
    """(…, z, y, x) to (x, y, z, …); colour as NIfTI's RGB24."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.shape[-1] == 3 and values.ndim >= 4 and values.dtype == np.uint8:
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        values = np.ascontiguousarray(values).view(rgb)[..., 0]
    return values.transpose(range(values.ndim - 1, -1, -1))


def _sheared(matrix: np.ndarray) -> bool:
    unit = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return not np.allclose(unit.T @ unit, np.eye(3), atol=1e-3)


def _interval_s(image: xr.DataArray, dim: str) -> float:
    """Time between the volumes in s, 1 where it is not known or not even."""
    times = image.coords.get(dim) if dim in image.coords else None
    if times is None or times.dims != (dim,) or times.size < 2 or times.attrs.get("units") not in ("s", "ms"):
        return 1.0
    steps = np.diff(times.values.astype(float))
    even = bool(np.allclose(steps, steps[0], rtol=1e-2)) and steps[0] > 0
    return float(steps[0]) * (_MS if times.attrs["units"] == "ms" else 1.0) if even else 1.0


def _sidecar(stem: Path, facts: Mapping[str, Any] | None) -> list[Path]:
    if facts is None:
        return []
    path = stem.with_name(stem.name + ".json")
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [path]


def _diffusion(stem: Path, image: xr.DataArray, matrix: np.ndarray, fourth: list[str]) -> list[Path]:
    """The .bval and .bvec files of a diffusion series, by FSL's convention."""
    if "b" not in image.coords or image.coords["b"].dims != tuple(fourth):
        return []
    values = np.atleast_1d(image.coords["b"].values).astype(float)
    vectors = np.zeros((3, values.size))
    for i, axis in enumerate("xyz"):
        name = f"gradient_{axis}"
        if name in image.coords and image.coords[name].dims == tuple(fourth):
            vectors[i] = np.nan_to_num(np.atleast_1d(image.coords[name].values).astype(float))
    files = {
        ".bval": _text_row(np.nan_to_num(values)),
        ".bvec": "".join(map(_text_row, _in_voxels(vectors, matrix))),
    }
    made = []
    for suffix, text in files.items():
        path = stem.with_name(stem.name + suffix)
        path.write_text(text, encoding="ascii")
        made.append(path)
    return made


def _in_voxels(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """LPS directions, (3, n), along the voxel axes x, y, z; x is reversed where the axes are right-handed."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    found = axes.T @ (np.diag([-1.0, -1.0, 1.0]) @ vectors)
    if np.linalg.det(axes) > 0:
        found[0] = -found[0]
    return np.asarray(found + 0.0)


def _text_row(values: np.ndarray) -> str:
    return " ".join(f"{v:.8g}" if math.isfinite(v) else "0" for v in values) + "\n"
