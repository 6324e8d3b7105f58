"""Volumes as NIfTI-1 files: affine, rescale and times in the header, diffusion and BIDS facts beside it.

Voxels are written in the order of the array (x fastest), never flipped; the affine says where they lie. As
b-vectors are in voxel axes by FSL's convention, they follow the array as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dicomlake.dicom import geometry
from dicomlake.errors import GeometryError
from dicomlake.volumes.placing import AXES, affine, unsheared, whole_space
from dicomlake.volumes.rescale import FACTORS, rescaled, states_a_line

_FOURTH = ("time", "b", "repeat", "phase", "acquisition")  # what stays the fourth axis, the first of them
_SUFFIXES = (".nii.gz", ".nii")
_SECONDS = {"s": 1.0, "ms": 1e-3}
_CLOCK_S = 0.005  # scanners state times in ticks of 2.5 ms
_CLOCKS = ("dynamic_time", "acquisition_time", "frame_reference_time", "trigger_time")
_ENTITIES = {"component": "part", "inversion": "inv"}  # BIDS names of dimensions
_PARTS = {"magnitude": "mag", "imaginary": "imag"}  # BIDS names of components


def write_nifti(image: xr.DataArray, path: Path, sidecar: Mapping[str, Any] | None = None) -> list[Path]:
    """Write an image of one volume; return the files: the image, its .json, .bval and .bvec of diffusion.

    image: (z, y, x), one further axis at most for time, b-value …; see `parts` for more. It is computed
        as a whole.
    path: ends in .nii or .nii.gz. sidecar: facts for the .json, none is written without.
    Raises GeometryError when no affine places the slices, or there are more axes.
    """
    suffix = _suffix(path)
    solid = whole_space(image)
    fourth = [str(dim) for dim in solid.dims if dim not in (*AXES, "rgb")]
    if len(fourth) > 1:
        raise GeometryError(f"a NIfTI image has four axes: select one of {', '.join(fourth)} first")
    lps = affine(image)
    stem = path.with_name(path.name.removesuffix(suffix))
    beside = _diffusion(image, lps, fourth, solid.sizes["z"])
    if sidecar is not None:
        beside[".json"] = json.dumps(sidecar, indent=2, sort_keys=True, allow_nan=False) + "\n"
    interval = _interval_s(image, fourth[0], (sidecar or {}).get("RepetitionTime")) if fourth else None
    _save(solid.transpose(*fourth, *AXES, ...), lps, interval, path)
    return [path, *(_written(stem, end, text) for end, text in beside.items())]


def _suffix(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise ValueError("the name of a NIfTI file ends in .nii or .nii.gz")


def _written(stem: Path, end: str, text: str) -> Path:
    path = stem.with_name(stem.name + end)
    path.write_text(text, encoding="utf-8")
    return path


def _save(image: xr.DataArray, lps: np.ndarray, interval_s: float | None, path: Path) -> None:
    """image: ([fourth,] z, y, x[, rgb]). interval_s: along the fourth axis."""
    import nibabel

    slope, intercept, values = _scaled(image)
    made = nibabel.Nifti1Image(_voxels(values, colour="rgb" in image.dims), _ras(lps))
    made.header.set_xyzt_units("mm", "sec" if interval_s else "unknown")
    made.set_sform(_ras(lps), code="scanner")
    with suppress(GeometryError):  # a qform cannot lean: then the sform alone says where the voxels are
        made.set_qform(_ras(unsheared(lps, image.sizes["z"])), code="scanner")
    made.header["pixdim"][4] = interval_s or 1.0  # must be positive; its unit says whether it means anything
    made.header.set_slope_inter(slope, intercept)
    nibabel.save(made, path)


def _ras(lps: np.ndarray) -> np.ndarray:
    """Columns x, y, z, as NIfTI indexes voxels."""
    return geometry.to_ras(lps)[:, [2, 1, 0, 3]]


def _scaled(image: xr.DataArray) -> tuple[float, float, np.ndarray]:
    """Slope, intercept and values: as stored where one line serves all, rescaled where it does not."""
    attrs = image.attrs
    if attrs.get("source") != "stored":
        return 1.0, 0.0, image.values
    by_slice = any(name in image.coords or name in attrs.get("rescale_varies", ()) for name in FACTORS)
    if by_slice or attrs.get("rescale_mixed") or attrs.get("modality_lut"):
        return 1.0, 0.0, rescaled(image).values
    if not states_a_line(image):
        return 1.0, 0.0, image.values
    return float(attrs.get("rescale_slope", 1.0)), float(attrs.get("rescale_intercept", 0.0)), image.values


def _voxels(values: np.ndarray, *, colour: bool) -> np.ndarray:
    """(…, z, y, x[, rgb]) to (x, y, z, …); colour as NIfTI's RGB24."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    if colour:
        if values.dtype != np.uint8 or values.shape[-1] != 3:
            raise GeometryError("NIfTI holds colours of three times 8 bits: select one of rgb first")
        values = np.ascontiguousarray(values).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    return values.transpose(range(values.ndim - 1, -1, -1))


def _interval_s(image: xr.DataArray, dim: str, repetition_s: float | None) -> float | None:
    """Time from one volume to the next in s, by the clock; None where it is not stated or not even.

    RepetitionTime, which is that in some sequences only, where the clock agrees: it is more precise.
    """
    for name in (dim, *_CLOCKS) if dim == "time" else ():
        clock = image.coords.get(name) if name in image.coords else None
        if clock is None or dim not in clock.dims or clock.attrs.get("units") not in _SECONDS:
            continue
        steps = clock.astype(float).diff(dim).values
        if steps.size and steps.mean() > 0 and np.allclose(steps, steps.mean(), rtol=1e-2):
            interval = float(steps.mean()) * _SECONDS[clock.attrs["units"]]
            agreed = repetition_s is not None and abs(repetition_s - interval) <= _CLOCK_S
            return repetition_s if agreed else interval
    return None


# ---- several files of one volume -------------------------------------------------------------------


def parts(image: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """What makes one NIfTI file each, with the end of its name: one echo, one component … each.

    One axis that follows time or b-value may stay; of the others every index is a file of its own, named
    as BIDS does: `_echo-1`, `_part-phase`.
    """
    extra = [str(dim) for dim in image.dims if dim not in (*AXES, "rgb")]
    stays = next((dim for dim in _FOURTH if dim in extra), None)
    apart = [dim for dim in extra if dim != stays]
    names = {dim: _values_of(image, dim) for dim in apart}
    for index in np.ndindex(*(image.sizes[dim] for dim in apart)):
        chosen = dict(zip(apart, index, strict=True))
        yield "".join(f"_{_entity(dim)}-{names[dim][i]}" for dim, i in chosen.items()), image.isel(chosen)


def _entity(dim: str) -> str:
    return _ENTITIES.get(dim, dim.replace("_", ""))


def _values_of(image: xr.DataArray, dim: str) -> list[str]:
    """What tells the files of a dimension apart: the name of a component, 1, 2 … of everything else."""
    if dim == "component" and dim in image.coords:
        terms = [str(term).lower() for term in image.coords[dim].values]
        found = [re.sub("[^a-z0-9]", "", _PARTS.get(term, term)) for term in terms]
        if all(found) and len(set(found)) == len(found):
            return found
    return [str(i + 1) for i in range(image.sizes[dim])]


# ---- diffusion -------------------------------------------------------------------------------------


def _diffusion(image: xr.DataArray, lps: np.ndarray, fourth: Sequence[str], slices: int) -> dict[str, str]:
    """The content of .bval and .bvec by FSL's convention, where every volume states its b-value.

    Raises GeometryError for a sheared volume, along whose axes a direction has no such components.
    """
    values = _along(image, "b", fourth)
    if values is None or not np.isfinite(values).all():
        return {}
    vectors = np.zeros((3, values.size))
    for row, axis in enumerate("xyz"):
        found = _along(image, f"gradient_{axis}", fourth)
        if found is not None:
            vectors[row] = np.nan_to_num(found)  # b = 0, and means over directions, have none
    along = _in_voxels(vectors, _ras(unsheared(lps, slices)))
    return {".bval": _row(values), ".bvec": "".join(map(_row, along))}


def _along(image: xr.DataArray, name: str, dims: Sequence[str]) -> np.ndarray | None:
    """A coordinate for each volume; None where it is not there, or differs between slices."""
    if name not in image.coords or not set(image.coords[name].dims) <= set(dims):
        return None
    sizes = [image.sizes[dim] for dim in dims]
    return np.broadcast_to(image.coords[name].values.astype(float), sizes).reshape(-1)


def _in_voxels(vectors: np.ndarray, ras: np.ndarray) -> np.ndarray:
    """LPS directions, (3, n), along the voxel axes x, y, z; x is reversed where the axes are right-handed."""
    axes = ras[:3, :3] / np.linalg.norm(ras[:3, :3], axis=0)
    found = axes.T @ (np.diag([-1.0, -1.0, 1.0]) @ vectors)
    if np.linalg.det(axes) > 0:
        found[0] = -found[0]
    return np.asarray(found + 0.0)  # no -0


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.8g}" for value in values) + "\n"
