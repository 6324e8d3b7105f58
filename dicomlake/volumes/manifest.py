"""What a volume store says about itself: the record of the volume and OME-Zarr multiscales.

The store can be read without a lake: `dicomlake` in the attributes of the root group holds the record,
`ome` (OME-Zarr 0.5) the levels with scale and translation in mm. An oblique or sheared affine does not
fit into OME-Zarr 0.5; `affine_lps` in our own key has it. Where OME-Zarr 0.5 cannot say what the axes
are, `ome` is left out rather than bent: no geometry, slices at uneven distances, colour as the last axis,
more than one time and one other axis, or these in another order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import dicomlake
from dicomlake.errors import VolumeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.volumes.coordinates import steps_mm

FORMAT = 3  # 1: files whose voxels are all 0 were left out; 2: so were overlays and palettes
LEVEL = "scale{}"  # the group of an image, 0, or of a halved copy of it
COPY, REFERENCE = "copy", "reference"  # `info["stored"]`: the voxels are in the store, or in the originals


def group_attributes(volume: Volume) -> dict[str, Any]:
    """The attributes of the root group of a volume's store."""
    record = {
        "format": FORMAT,
        "dicomlake_version": dicomlake.__version__,
        "SeriesInstanceUID": volume.series.series_uid,
        "StudyInstanceUID": volume.series.study_uid,
        "number": volume.number,
        "verdict": volume.verdict,
        "dims": list(volume.dims),
        "shape": list(volume.shape),
        "dtype": volume.dtype,
        "affine_lps": volume.affine_lps,
        "spacing_mm": volume.spacing_mm,
        "info": volume.info,
    }
    attributes: dict[str, Any] = {"dicomlake": record}
    if _fits_ome(volume):
        attributes["ome"] = {"version": "0.5", "multiscales": [_multiscales(volume)]}
    return attributes


def _fits_ome(volume: Volume) -> bool:
    """Whether the axes are [time], [another], z, y, x, evenly spaced along the last three."""
    *further, z, y, x = volume.dims if len(volume.dims) >= 3 else ("", "", "")
    others = further[1:] if further[:1] == ["time"] else further
    return (
        (z, y, x) == ("z", "y", "x")
        and len(others) <= 1
        and steps_mm(volume) is not None
        and "origin_mm" in volume.info
        and volume.info.get("z_mm") is None
        and volume.info.get("stored") != REFERENCE  # there is no image in the store
    )


def _multiscales(volume: Volume) -> dict[str, Any]:
    steps = [_even(volume, name) for name in volume.dims[:-3]]
    axes = [_axis(name, step) for name, step in zip(volume.dims, steps, strict=False)]
    axes += [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    datasets = []
    for level in range(int(volume.info["levels"])):
        factor = 2**level
        scale, shift = [step.scale for step in steps], [step.first for step in steps]
        for first, spacing in zip(volume.info["origin_mm"], steps_mm(volume) or (), strict=True):
            scale.append(spacing * factor)
            shift.append(first + spacing * (factor - 1) / 2)
        transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": f"scale{level}/image", "coordinateTransformations": transformations})
    return {"name": "image", "axes": axes, "datasets": datasets}


class _Steps(NamedTuple):
    """Where the values along an axis begin and how far apart they are; plain indices without a unit."""

    first: float = 0.0
    scale: float = 1.0
    unit: str | None = None


def _even(volume: Volume, name: str) -> _Steps:
    """The steps of a time axis, where they are even."""
    given = volume.info.get("coords", {}).get(name, {})
    unit = _OME_UNITS.get(given.get("units") or "")
    values = given.get("values", ())
    if unit is None or list(given.get("dims", ())) != [name] or len(values) < 2 or None in values:
        return _Steps()
    step = (values[-1] - values[0]) / (len(values) - 1)
    even = all(abs(v - values[0] - i * step) <= 1e-3 * abs(step) for i, v in enumerate(values))
    return _Steps(float(values[0]), float(step), unit) if even and step > 0 else _Steps()


_OME_UNITS = {"s": "second", "ms": "millisecond"}


def _axis(name: str, step: _Steps) -> dict[str, str]:
    axis = {"name": name, "type": "time" if name == "time" else "channel"}
    return axis | {"unit": step.unit} if name == "time" and step.unit else axis


def volume_of_store(store: Path) -> Volume:
    """The record that a store holds. Raises VolumeError when it is no volume store."""
    try:
        attributes = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        record = attributes["dicomlake"]
        affine, spacing = record["affine_lps"], record["spacing_mm"]
        return Volume(
            series=SeriesKey(record["StudyInstanceUID"], record["SeriesInstanceUID"]),
            number=record["number"],
            verdict=record["verdict"],
            dims=tuple(record["dims"]),
            shape=tuple(record["shape"]),
            dtype=record["dtype"],
            affine_lps=None if affine is None else tuple(tuple(row) for row in affine),
            spacing_mm=None if spacing is None else tuple(spacing),
            info=record["info"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VolumeError("this is no volume store of dicomlake: open it with engine='zarr'") from error
