"""A contour of a structure set: its points, the plane they lie in, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes

Array = npt.NDArray[np.float64]

OFF_PLANE_MM = 0.1  # how far a point may be from the plane of its contour: what rounded decimals can do
_FARTHEST_MM = 1e6
_THIN_MM = 1e-4  # points on a line, as far as decimals tell

CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
_OTHERS = frozenset({"POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"})
_CONTOUR_DATA = 0x30060050


class ImageReference(NamedTuple):
    """An image that a contour was drawn on; frame from 1, None for all frames or a single one."""

    sop_instance_uid: str
    frame: int | None


class Plane(NamedTuple):
    """The plane that points lie in.

    normal: unit vector, its largest component positive. position_mm: along the normal, LPS.
    off_mm: the largest distance of a point from it. thin: the points are on a line or at one place.
    """

    normal: Array
    position_mm: float
    off_mm: float
    thin: bool


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """One item of a ContourSequence (PS3.3 C.8.8.6).

    number: its place in the sequence, from 1.
    geometric_type: POINT, OPEN_PLANAR, OPEN_NONPLANAR, CLOSED_PLANAR or CLOSEDPLANAR_XOR; empty if absent.
    points: (n, 3), LPS, mm.
    images: what it was drawn on.
    plane: None for fewer than three points.
    flaw: why its region cannot be told; a mask without it would be wrong.
    idle: why it adds nothing to a region though it is a closed one (too few points, said twice).
    """

    number: int
    geometric_type: str
    points: Array
    images: tuple[ImageReference, ...]
    plane: Plane | None
    flaw: str | None = None
    idle: str | None = None

    def __repr__(self) -> str:
        return f"<Contour {self.number}: {self.geometric_type}, {len(self.points)} points>"

    @property
    def closed(self) -> bool:
        """Whether it is drawn around a region."""
        return self.geometric_type in CLOSED

    @property
    def area_mm2(self) -> float | None:
        """The enclosed area by the shoelace formula; None where it encloses none or has a flaw.

        A keyhole counts without its hole; where a contour crosses itself, loops that run the other way
        round are subtracted.
        """
        if not self.closed or self.flaw or self.plane is None:
            return None
        around = self.points - self.points[0]
        twice = np.cross(around, np.roll(around, -1, axis=0)).sum(axis=0)
        return abs(float(twice @ self.plane.normal)) / 2


def read_contour(item: Attributes, number: int) -> Contour:
    """A contour from its item; what is wrong with it is stated, not raised."""
    kind = item.text("ContourGeometricType") or ""
    points, flaw = _points(item)
    plane = plane_of(points) if len(points) > 2 and flaw is None else None
    idle = None
    if flaw is None and kind not in CLOSED | _OTHERS:
        flaw = "a ContourGeometricType that PS3.3 does not define" if kind else "no ContourGeometricType"
    if flaw is None and kind in CLOSED:
        if plane is None:
            idle = f"{len(points)} points enclose nothing"
        elif plane.off_mm > OFF_PLANE_MM:
            flaw = f"points are up to {plane.off_mm:.3g} mm off a plane"
        elif plane.thin:
            idle = "the points are on a line and enclose nothing"
    return Contour(number, kind, points, _images(item), plane, flaw, idle)


def _points(item: Attributes) -> tuple[Array, str | None]:
    """The points (n, 3), and why they cannot be used; without those that are not there."""
    _, raw = item.elements.get(_CONTOUR_DATA, ("DS", b""))
    stated = item.number("NumberOfContourPoints")
    text = raw.strip(b" \0")
    if not text:
        return np.empty((0, 3)), f"no ContourData for {stated:.0f} points" if stated else None
    try:
        # One conversion for all values: an item by item reader would take longer than all the rest.
        values = np.array(text.split(b"\\")).astype(np.float64)
    except ValueError:
        return np.empty((0, 3)), "ContourData holds something that is no number"
    if len(values) % 3:
        return values[: len(values) // 3 * 3].reshape(-1, 3), f"{len(values)} values are no whole points"
    points = values.reshape(-1, 3)
    if not (np.abs(points) < _FARTHEST_MM).all():
        return points, "ContourData holds something that is no position: not finite, or a kilometre away"
    if stated is not None and stated != len(points):
        return points, f"{len(points)} points where NumberOfContourPoints says {stated:.0f}"
    return points, None


def plane_of(points: Array) -> Plane:
    """The plane closest to the points (n, 3), by least squares."""
    around = points - points[0]
    _, axes = np.linalg.eigh(np.cov(around.T, bias=True))
    normal = axes[:, 0] * (1.0 if axes[np.abs(axes[:, 0]).argmax(), 0] > 0 else -1.0)
    heights = points @ normal
    middle = float(heights.min() + heights.max()) / 2
    across = around @ axes[:, 1]
    return Plane(normal, middle, float(np.abs(heights - middle).max()), bool(np.ptp(across) < _THIN_MM))


def _images(item: Attributes) -> tuple[ImageReference, ...]:
    found = []
    for image in item.items("ContourImageSequence"):
        uid = image.text("ReferencedSOPInstanceUID")
        frames = image.numbers("ReferencedFrameNumber")
        if uid:
            found += [ImageReference(uid, int(frame)) for frame in frames] or [ImageReference(uid, None)]
    return tuple(found)
