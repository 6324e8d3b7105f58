"""Planes of an RT dose grid (PS3.3 C.8.8.3): one position, and an offset for each plane."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dicomlake.dicom import geometry
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Frame, Vector

_VECTOR = "GridFrameOffsetVector"
_AXIAL = (1, 0, 0, 0, 1, 0)
_COSINE_TOLERANCE = 1e-4
_ZERO_MM = 1e-6  # a first offset this small is zero: relative offsets
_SAME_MM = 0.01  # a first offset this close to the z of the position is that z: absolute offsets


def frames(dataset: Attributes, first: Frame, count: int) -> tuple[Frame, ...]:
    """One record per plane of dose; slope is DoseGridScaling, units are DoseUnits as stored (GY, RELATIVE).

    A plane whose place is not defined (C.8.8.3.2) has no geometry and says why; a lone plane needs no
    offsets.
    """
    scaled = replace(
        first, slope=dataset.number("DoseGridScaling"), intercept=None, units=dataset.text("DoseUnits")
    )
    position, orientation = first.position, first.orientation
    if count == 1 or position is None or orientation is None:
        return tuple(replace(scaled, frame_index=index) for index in range(count))
    heights, flaw = _heights(dataset.numbers(_VECTOR), position, orientation, count)
    if flaw is not None:
        lost = replace(scaled, position=None, orientation=None, spacing_mm=None, flaw=flaw)
        return tuple(replace(lost, frame_index=index) for index in range(count))
    normal = geometry.normal(orientation)
    return tuple(
        replace(scaled, frame_index=index, position=_moved(position, height * normal))
        for index, height in enumerate(heights)
    )


def _heights(
    offsets: tuple[float, ...], position: Vector, orientation: tuple[float, ...], count: int
) -> tuple[tuple[float, ...], str | None]:
    """How far each plane lies from the first along the normal, in mm; or why that is not known."""
    if len(offsets) != count:
        return (), f"{_VECTOR} is no list of {count} numbers, one for each frame"
    rising = offsets[-1] > offsets[0]
    if not all((a < b) if rising else (a > b) for a, b in pairwise(offsets)):
        return (), f"{_VECTOR} neither rises nor falls throughout"
    if abs(offsets[0]) <= _ZERO_MM:
        return offsets, None
    if abs(offsets[0] - position[2]) > _SAME_MM:
        return (), f"{_VECTOR} begins neither with 0 nor with the z of ImagePositionPatient"
    if any(abs(a - b) > _COSINE_TOLERANCE for a, b in zip(orientation, _AXIAL, strict=True)):
        return (), f"{_VECTOR} holds z coordinates, which mean nothing for planes that are not axial"
    return tuple(offset - offsets[0] for offset in offsets), None


def _moved(position: Vector, by: npt.NDArray[np.float64]) -> Vector:
    x, y, z = (float(start + part) for start, part in zip(position, by, strict=True))
    return x, y, z
