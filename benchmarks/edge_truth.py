"""The truth of an edge case plane by plane: where each lies, and the values that count as right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.outputs import centres_of, plane_centres
from dicomlake.datasets.edge_cases import EdgeCase, VolumeTruth

if TYPE_CHECKING:
    from pydicom import Dataset

Array = NDArray[Any]

OF_A_VOXEL = 0.02
"""How far a centre may be off, in edges of the smallest voxel: float32 headers round, nothing else may."""
_PALETTES = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Plane:
    """One plane of the truth.

    volume: number of its volume in the case. extra: index along the further axes. z: index along the stack.
    centres: (y, x, 3), LPS, mm; None without geometry. values: right arrays (y, x[, rgb]) by name: stored,
    rescaled, colours.
    """

    volume: int
    extra: tuple[int, ...]
    z: int
    centres: Array | None
    values: Mapping[str, Array]
    slope: float
    intercept: float


@dataclass(frozen=True)
class Truth:
    """A case as planes. tolerance_mm: how far a centre may be off. complete: whether all must be there."""

    case: EdgeCase
    planes: tuple[Plane, ...]
    tolerance_mm: float
    complete: bool = True

    @cached_property
    def rescale_varies(self) -> bool:
        """Whether the stored values of two planes mean different things."""
        return len({(plane.slope, plane.intercept) for plane in self.planes}) > 1


def truth_of(case: EdgeCase) -> Truth:
    """What the case says of itself, joined with rescale and directions from the headers of its files."""
    headers = {str(header.SOPInstanceUID): header for header in _headers(case)}
    if case.unreadable:
        whole = [headers[uid] for uid in headers if uid not in case.unreadable]
        planes = tuple(_plane_of_file(header, i) for i, header in enumerate(whole))
    else:
        planes = tuple(p for i, volume in enumerate(case.volumes) for p in _planes(i, volume, headers))
    noise = max((volume.tolerance_mm for volume in case.volumes), default=0.0)
    edges = [_smallest_edge(volume, headers) for volume in case.volumes if volume.positions_lps]
    tolerance = max(2 * noise, OF_A_VOXEL * min(edges, default=0.0))
    return Truth(case, planes, tolerance, complete=not case.unreadable)


def _headers(case: EdgeCase) -> Iterator[Dataset]:
    import pydicom

    return (pydicom.dcmread(BytesIO(data)) for data in case.files())


def _planes(number: int, volume: VolumeTruth, headers: Mapping[str, Dataset]) -> Iterator[Plane]:
    placed = volume.positions_lps is not None
    for i, index in enumerate(np.ndindex(*volume.leading)):
        uid, frame = volume.sources[i]
        extra, z = (index[:-1], index[-1]) if placed else (index, 0)
        slope, intercept = _rescale(headers[uid], frame)
        values = _right_values(volume.plane(i), slope, intercept, headers[uid])
        centres = _centres(volume, z, headers[uid]) if placed else None
        yield Plane(number, extra, z, centres, values, slope, intercept)


def _centres(volume: VolumeTruth, z: int, header: Dataset) -> Array:
    if volume.affine_lps is not None:
        return centres_of(np.array(volume.affine_lps), (z + 1, *volume.plane_shape))[z]
    assert volume.positions_lps is not None
    turned, spacing = header.ImageOrientationPatient, [float(mm) for mm in header.PixelSpacing]
    return plane_centres(
        np.array(volume.positions_lps[z]), np.array(turned, float), spacing, volume.plane_shape
    )


def _plane_of_file(header: Dataset, z: int) -> Plane:
    """A plane of which only its own file speaks."""
    stored, (slope, intercept) = header.pixel_array, _rescale(header, 0)
    turned, spacing = header.ImageOrientationPatient, [float(mm) for mm in header.PixelSpacing]
    position = np.array(header.ImagePositionPatient, float)
    centres = plane_centres(position, np.array(turned, float), spacing, stored.shape)
    return Plane(0, (), z, centres, _right_values(stored, slope, intercept, header), slope, intercept)


def _smallest_edge(volume: VolumeTruth, headers: Mapping[str, Dataset]) -> float:
    first = _centres(volume, 0, headers[volume.sources[0][0]])
    edges = [np.linalg.norm(first[1, 0] - first[0, 0]), np.linalg.norm(first[0, 1] - first[0, 0])]
    assert volume.positions_lps is not None
    edges += [np.linalg.norm(step) for step in np.diff(np.array(volume.positions_lps), axis=0)]
    return float(min(edges))


# ---- values


def _rescale(header: Dataset, frame: int) -> tuple[float, float]:
    """Slope and intercept: of the frame's functional groups, of the dose grid, of the data set, or 1 and 0."""
    if "DoseGridScaling" in header:
        return float(header.DoseGridScaling), 0.0
    groups = [header]
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = [header.PerFrameFunctionalGroupsSequence[frame], *header.SharedFunctionalGroupsSequence]
        found = [g for g in groups if "PixelValueTransformationSequence" in g]
        groups = [found[0].PixelValueTransformationSequence[0]] if found else [header]
    return float(groups[0].get("RescaleSlope", 1.0)), float(groups[0].get("RescaleIntercept", 0.0))


def _right_values(stored: Array, slope: float, intercept: float, header: Dataset) -> dict[str, Array]:
    found = {"stored": stored.astype(float), "rescaled": stored * slope + intercept}
    if header.PhotometricInterpretation == "PALETTE COLOR":
        tables = [getattr(header, f"{colour}PaletteColorLookupTableData") for colour in _PALETTES]
        colours = np.stack([np.frombuffer(table, "<u2")[stored] for table in tables], axis=-1)
        found |= {"colours": colours.astype(float), "colours of 8 bits": (colours >> 8).astype(float)}
    return found
