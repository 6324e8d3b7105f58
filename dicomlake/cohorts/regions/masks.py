"""The regions that are drawn on a series, as masks on the grid of its image, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dicomlake.errors import GeometryError, VolumeError
from dicomlake.objects.segmentation import LABELMAP, Segmentation
from dicomlake.objects.structures import StructureSet

if TYPE_CHECKING:
    import xarray as xr

    from dicomlake.dicom.grid import Grid
    from dicomlake.series import Series

Mask = npt.NDArray[np.bool_]
Kind = Literal["seg", "rtstruct", "both"]
Given = Mapping[str, Mapping[str, Any]]
Drawer = Callable[["Series", "xr.DataArray"], Mapping[str, Any]]
Of = Kind | Given | Drawer
"""Where regions come from: SEG or RTSTRUCT objects of the lake; masks by SeriesInstanceUID and name; or a
function of series and image that gives masks by name."""
Labels = Collection[str] | Collection[int] | str | int | None


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One region of a series.

    source: seg, rtstruct or given. object_uid: SOPInstanceUID of the object that holds it.
    number: SegmentNumber or ROINumber. label: SegmentLabel or ROIName, free text, left out of the repr.
    draw: makes the mask, bool (z, y, x), on the grid of the image; raises what keeps it from being made.
    """

    source: str
    object_uid: str | None
    number: int | None
    label: str = field(repr=False)
    draw: Callable[[], Mask] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Drawing:
    """How masks are made.

    labels: only regions with one of these labels or numbers. resample: as in `Segmentation.open`.
    threshold: the smallest fraction inside, for fractional segmentations. skip_flawed, interpolate: as in
    `StructureSet.mask`.
    """

    labels: Labels = None
    resample: bool = False
    threshold: float | None = None
    skip_flawed: bool = False
    interpolate: bool = False

    def wants(self, label: str, number: int | None) -> bool:
        """Whether a region is among those that are meant."""
        if self.labels is None:
            return True
        if isinstance(self.labels, str | int):
            return self.labels in (label, number)
        return label in self.labels or number in self.labels


def check_of(of: Any) -> None:
    """Raise ValueError for what is no place of regions."""
    if not (callable(of) or isinstance(of, Mapping) or of in get_args(Kind)):
        raise ValueError(
            f"of is one of {', '.join(get_args(Kind))}, masks by SeriesInstanceUID and name, or a function of"
            " series and image that gives masks by name"
        )


def regions_of(series: Series, image: xr.DataArray, of: Of, drawing: Drawing) -> Iterator[Region]:
    """The regions of a series that are meant, in the order of their objects.

    image: (z, y, x), on whose grid they are drawn, when `Region.draw` is called.
    Raises VolumeError when nothing is drawn on the series.
    """
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    found = 0
    for region in _all(series, image, of, drawing):
        found += 1
        if drawing.wants(region.label, region.number):
            yield region
    if not found:
        what = {"seg": "no segmentation refers", "rtstruct": "no structure set refers"}
        said = what.get(of, "nothing") if isinstance(of, str) else "no mask was given"
        raise VolumeError(f"{said} to series {series.uid}: ingest what is drawn on it, or leave it out")


def _all(series: Series, image: xr.DataArray, of: Of, drawing: Drawing) -> Iterator[Region]:
    if callable(of):
        yield from _given(of(series, image), image)
    elif isinstance(of, Mapping):
        yield from _given(of.get(series.uid, {}), image)
    else:
        grid: Grid = image.dicom.grid
        if of in ("seg", "both"):
            for one in series.segmentations():
                yield from _segments(one, grid, drawing)
        if of in ("rtstruct", "both"):
            for one in series.structures():
                yield from _rois(one, grid, drawing)


def _segments(segmentation: Segmentation, grid: Grid, drawing: Drawing) -> Iterator[Region]:
    for segment in segmentation.segments:
        if segmentation.kind == LABELMAP and segment.number == segmentation.background:
            continue

        def draw(number: int = segment.number) -> Mask:
            threshold = drawing.threshold
            mask = segmentation.mask(number, grid, resample=drawing.resample, threshold=threshold)
            return np.asarray(mask.values)

        yield Region("seg", segmentation.sop_instance_uid, segment.number, segment.label or "", draw)


def _rois(structures: StructureSet, grid: Grid, drawing: Drawing) -> Iterator[Region]:
    for roi in structures.regions:

        def draw(number: int = roi.number) -> Mask:
            mask = structures.mask(
                number, grid, interpolate=drawing.interpolate, skip_flawed=drawing.skip_flawed
            )
            return np.asarray(mask.values)

        yield Region("rtstruct", structures.sop_instance_uid, roi.number, roi.name, draw)


def _given(masks: Mapping[str, Any], image: xr.DataArray) -> Iterator[Region]:
    for name, mask in masks.items():

        def draw(given: Any = mask) -> Mask:
            found = np.asarray(given)
            if found.shape != image.shape:
                raise GeometryError(
                    f"a mask of shape {found.shape} is not on the grid of {image.shape} voxels"
                )
            if found.dtype != bool:
                raise GeometryError(
                    f"a mask is bool, not {found.dtype}: compare with the label that is meant"
                )
            return found

        yield Region("given", None, None, str(name), draw)
