"""What a volume store says about itself: the record of the volume and OME-Zarr multiscales.

The store can be read without a lake: `dicomlake` in the attributes of the root group holds the record,
`ome` (OME-Zarr 0.5) the levels with scale and translation in mm. An oblique or sheared affine does not
fit into OME-Zarr 0.5; `affine_lps` in our own key has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dicomlake
from dicomlake.errors import VolumeError
from dicomlake.records import SeriesKey, Volume

FORMAT = 1


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
    if volume.spacing_mm is not None:
        attributes["ome"] = {"version": "0.5", "multiscales": [_multiscales(volume, volume.spacing_mm)]}
    return attributes


def _multiscales(volume: Volume, spacing: tuple[float, ...]) -> dict[str, Any]:
    extra = len(volume.dims) - 3
    axes: list[dict[str, str]] = [{"name": n, "type": "space", "unit": "millimeter"} for n in volume.dims[:3]]
    axes += [{"name": "c", "type": "channel"}] * extra
    origin = volume.info["origin_mm"]
    datasets = []
    for level in range(int(volume.info["levels"])):
        factor = 2**level
        scale = [s * factor for s in spacing] + [1.0] * extra
        shift = [o + s * (factor - 1) / 2 for o, s in zip(origin, spacing, strict=True)] + [0.0] * extra
        transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": f"scale{level}/image", "coordinateTransformations": transformations})
    return {"name": "image", "axes": axes, "datasets": datasets}


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
