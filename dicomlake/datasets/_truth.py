"""What a generated data set must read back as, known without opening a file."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Affine = tuple[tuple[float, float, float, float], ...]
Vector = tuple[Fraction, Fraction, Fraction]

AXIAL: tuple[Vector, Vector, Vector] = (
    (Fraction(1), Fraction(0), Fraction(0)),
    (Fraction(0), Fraction(1), Fraction(0)),
    (Fraction(0), Fraction(0), Fraction(1)),
)
"""Row, column and normal of planes that lie square in the patient."""


@dataclass(frozen=True)
class Truth:
    """One image series as its formula says it is."""

    name: str
    """Name of the data set."""
    dims: tuple[str, ...]
    """Axis names; the last are `z`, `y`, `x`, or `frame`, `y`, `x`, `rgb` where there is no patient space."""
    shape: tuple[int, ...]
    """Length of each axis."""
    spacing_mm: tuple[float, float, float] | None
    """Distance of neighbours along z, y, x; None without patient space."""
    affine_lps: Affine | None
    """Index (z, y, x) to patient position, LPS, mm, 4 x 4; z rises along the normal of the planes."""
    units: str
    """Of the values after rescale: HU, BQML, or 1 for numbers without a unit."""
    study_uid: str
    """StudyInstanceUID."""
    series_uid: str
    """SeriesInstanceUID."""
    frame_of_reference_uid: str | None
    """FrameOfReferenceUID."""
    instance_uids: tuple[str, ...]
    """SOPInstanceUID of each plane in the order of the axes before y and x; one for a multi-frame object."""


@dataclass(frozen=True)
class Planes:
    """Parallel, evenly spaced planes in exact numbers, so that the text of a DS loses nothing."""

    origin: Vector
    """Position of the first pixel of the first plane, LPS, mm."""
    row: Vector
    """Direction in which the column index grows (first three values of ImageOrientationPatient)."""
    column: Vector
    """Direction in which the row index grows."""
    normal: Vector
    """Direction in which the planes are stacked: row x column."""
    pixel_mm: Fraction
    """Distance of pixel centres, both ways."""
    step_mm: Fraction
    """Distance of planes."""
    count: int
    """Number of planes."""

    def position(self, index: int) -> Vector:
        """ImagePositionPatient of a plane."""
        x, y, z = (o + index * self.step_mm * n for o, n in zip(self.origin, self.normal, strict=True))
        return x, y, z

    @property
    def affine_lps(self) -> Affine:
        """Index (z, y, x) to LPS mm."""
        step, pixel = self.step_mm, self.pixel_mm
        axes = zip(self.normal, self.column, self.row, self.origin, strict=True)
        rows = [(float(n * step), float(c * pixel), float(r * pixel), float(o)) for n, c, r, o in axes]
        return (*rows, (0.0, 0.0, 0.0, 1.0))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Along z, y, x."""
        return float(self.step_mm), float(self.pixel_mm), float(self.pixel_mm)


def centred(
    directions: tuple[Vector, Vector, Vector],
    *,
    rows: int,
    columns: int,
    pixel_mm: Fraction,
    step_mm: Fraction,
    count: int,
    centre: Vector,
) -> Planes:
    """Planes along (row, column, normal) whose middle lies at `centre`, LPS mm."""
    row, column, normal = directions
    half = (
        Fraction(columns - 1, 2) * pixel_mm,
        Fraction(rows - 1, 2) * pixel_mm,
        Fraction(count - 1, 2) * step_mm,
    )
    x, y, z = (
        m - half[0] * r - half[1] * c - half[2] * n
        for m, r, c, n in zip(centre, row, column, normal, strict=True)
    )
    return Planes((x, y, z), row, column, normal, pixel_mm, step_mm, count)


def step_for(extent_mm: int, count: int) -> Fraction:
    """The distance at which `count` planes fill an extent, rounded down to an eighth of a millimetre."""
    return Fraction(max(extent_mm * 8 // count, 1), 8)


def uid(*parts: object) -> str:
    """A UID derived from names (PS3.5 B.2): the same parts give the same UID for ever."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(('dicomlake', *map(str, parts)))).int}"


def ds(number: Fraction | int) -> str:
    """The number as an exact decimal string (VR DS, PS3.5 6.2).

    Raises ValueError when 16 characters cannot hold it without rounding.
    """
    value = Fraction(number)
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
        if places > 15:
            raise ValueError("not a finite decimal of 15 places; choose another number")
    text = f"{'-' if value < 0 else ''}{abs(value.numerator) // value.denominator}"
    if places:
        text += f".{int(abs(value) % 1 * 10**places):0{places}d}"
    if len(text) > 16:
        raise ValueError("an exact decimal string would be longer than 16 characters; choose another number")
    return text


def ds_list(numbers: Sequence[Fraction | int]) -> list[str]:
    """Exact decimal strings of several numbers."""
    return [ds(number) for number in numbers]


def shuffled(count: int) -> list[int]:
    """The numbers 0 to count - 1 out of order: a stride near the golden section visits each once."""
    stride = max(count * 21 // 34, 1)
    while math.gcd(stride, count) != 1:
        stride += 1
    return [(index * stride + count // 3) % count for index in range(count)]


def clock(seconds: Fraction | int) -> str:
    """A time of day (VR TM) from seconds after midnight, with microseconds."""
    whole = int(seconds)
    micro = int((Fraction(seconds) - whole) * 1_000_000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{micro:06d}"
