"""Structure sets: their contours where they were drawn, the outline of their masks in other planes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.grid import Grid
from dicomlake.errors import GeometryError
from dicomlake.objects import contour_masks
from dicomlake.objects.contours import OFF_PLANE_MM, Contour, plane_of
from dicomlake.objects.structures import Roi
from dicomlake.widgets.overlays.base import Cut, Drawn, Request
from dicomlake.widgets.overlays.kept import Kept
from dicomlake.widgets.overlays.labels import Codes, joined
from dicomlake.widgets.overlays.lines import Line, outlines, packed

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Loops:
    """The lines of one region on each slice of a grid: (n, 2), row and column of the slice, closed or not.

    None where the region was not drawn parallel to the slices.
    """

    slices: tuple[tuple[tuple[Array, bool], ...], ...] | None

    @property
    def nbytes(self) -> int:
        """Bytes of the points."""
        return sum(points.nbytes for lines in self.slices or () for points, _ in lines)


@dataclass(frozen=True, slots=True, eq=False)
class Contours:
    """Regions over an image, in its own space. labels: entries of the trait; a value is an ROINumber."""

    key: str
    regions: tuple[Roi, ...]
    labels: list[dict[str, Any]]
    grid: Grid
    note: str = ""
    kind: str = field(default="contours", init=False)

    def state(self) -> dict[str, Any]:
        """Labels and how they are drawn."""
        return {"labels": [dict(one) for one in self.labels], "style": "outline", "note": self.note}

    def ready(self, request: Request, kept: Kept) -> bool:
        """Whether no mask has to be made first."""
        return (self.key, "codes") in kept or not any(self._cut_regions(c, kept) for c in request.cuts)

    def draw(self, request: Request, kept: Kept) -> Drawn:
        """The lines of each plane."""
        planes = [[*self._drawn(cut, kept), *self._cut(cut, kept)] for cut in request.cuts]
        data, buffers = packed(planes)
        return Drawn({"planes": data}, buffers)

    def _drawn(self, cut: Cut, kept: Kept) -> Iterator[Line]:
        """Contours as they were drawn, on slices."""
        if not _is_slice(cut):
            return
        to_plane = np.linalg.inv(cut.matrix[1:, :2])
        for region in self.regions:
            slices = self._loops(region, kept).slices
            for points, closed in slices[cut.number] if slices is not None else ():
                yield Line(region.number, (points - cut.matrix[1:, 2]) @ to_plane.T, closed)

    def _cut(self, cut: Cut, kept: Kept) -> Iterator[Line]:
        """The outline of masks, where a plane is not one of those that a region was drawn in."""
        numbers = self._cut_regions(cut, kept)
        if not numbers:
            return
        codes: Codes = kept.get((self.key, "codes"), self._codes)
        plane = cut.taken(codes.volume)
        present = set(np.flatnonzero(np.bincount(plane.ravel())).tolist())
        for number in numbers:
            members = [code for code in present if number in codes.sets[code]]
            for points in outlines(np.isin(plane, members)) if members else ():
                yield Line(number, points)

    def _cut_regions(self, cut: Cut, kept: Kept) -> list[int]:
        """ROINumbers of those that only their mask can tell about in a plane."""
        able = [region for region in self.regions if region.drawable]
        if _is_slice(cut):
            able = [region for region in able if self._loops(region, kept).slices is None]
        return [region.number for region in able]

    def _loops(self, region: Roi, kept: Kept) -> Loops:
        found: Loops = kept.get((self.key, region.number), lambda: loops_of(region, self.grid))
        return found

    def _codes(self) -> Codes:
        able = [region for region in self.regions if region.drawable]
        masks = ((r.number, contour_masks.rasterise(r.drawable, self.grid).mask) for r in able)
        return joined(self.grid.shape, masks)


def _is_slice(cut: Cut) -> bool:
    return cut.plane is not None and cut.plane.axes[0] == 0


def loops_of(region: Roi, grid: Grid) -> Loops:
    """What a region looks like on each slice, by the rules of `contour_masks.rasterise`.

    Open contours and points lie on the slice that is nearest, if that is less than half a step away.
    """
    lines: list[list[tuple[Array, bool]]] = [[] for _ in range(grid.shape[0])]
    if region.drawable:
        closed = contour_masks.on_slices(region.drawable, grid)
        if closed is None:
            return Loops(None)
        for z, loops in closed:
            lines[z] += [(points, True) for points in contour_masks.pixels(loops, grid, z)]
    for contour in region.contours:
        if not contour.closed and not contour.flaw and len(contour.points):
            for z in _met(contour, grid):
                lines[z] += [(points, False) for points in contour_masks.pixels([contour.points], grid, z)]
    return Loops(tuple(tuple(one) for one in lines))


def _met(contour: Contour, grid: Grid) -> list[int]:
    """The slice that an open contour, or a point, lies on."""
    heights = contour.points @ grid.normal
    away = np.abs(grid.origins @ grid.normal - float(heights.mean()))
    z = int(away.argmin())
    near = max(contour_masks.slice_step(grid) / 2, OFF_PLANE_MM)
    return [z] if away[z] <= near and np.ptp(heights) <= 2 * near else []


def moved(region: Roi, matrix: Array) -> Roi:
    """A region whose points went through a (4, 4) matrix, LPS, mm."""
    return replace(region, contours=tuple(_moved(contour, matrix) for contour in region.contours))


def _moved(contour: Contour, matrix: Array) -> Contour:
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise GeometryError("the transform flattens space: contours cannot follow it")
    points = contour.points @ matrix[:3, :3].T + matrix[:3, 3]
    plane = plane_of(points) if contour.plane is not None else None
    return replace(contour, points=points, plane=plane, images=())
