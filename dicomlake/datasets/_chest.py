"""The anatomy of the chest phantom: an ordered list of shapes with their CT numbers in HU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from dicomlake.datasets._noise import hashed
from dicomlake.datasets._shapes import Capsule, Column, Ellipsoid, Point, Shape

AIR, LUNG, FAT, WATER, MUSCLE, BLOOD = -1000.0, -865.0, -100.0, 10.0, 55.0, 215.0
CORTEX, MARROW = 620.0, 180.0
RIGHT_LUNG, LEFT_LUNG = 1, 2

_SIDES = (-1, 1)  # the patient's right, the patient's left
_HILUM: Point = (44.0, 14.0, -10.0)


@dataclass(frozen=True)
class Nodule:
    """A ball in a lung."""

    name: str
    """ROI name in the structure set and label in the segmentation."""
    centre: Point
    """Patient position, LPS, mm."""
    radius: float
    """mm."""
    hu: float
    """CT number without noise."""


NODULES = (
    Nodule("Nodule_1", (-92.0, -22.0, 42.0), 11.0, 45.0),
    Nodule("Nodule_2", (84.0, 38.0, -18.0), 7.0, 30.0),
    Nodule("Nodule_3", (72.0, -30.0, 66.0), 9.0, -560.0),  # ground glass
    Nodule("Nodule_4", (-70.0, 50.0, -58.0), 4.5, 410.0),  # calcified
)


def mirrored(side: int, point: Point) -> Point:
    """The point on the patient's right (-1) or left (1), given for the left."""
    return (side * point[0], point[1], point[2])


def lung(side: int) -> Ellipsoid:
    """The lung before heart, diaphragm and vessels are painted over it."""
    return Ellipsoid(
        (72.0 * side, 2.0, -75.0),
        (62.0, 86.0, 212.0),
        LUNG,
        square=0.35,
        below=82.0,
        lean=(-0.12 * side, 0.05),
        gradient=0.5,
        organ=RIGHT_LUNG if side < 0 else LEFT_LUNG,
    )


@cache
def shapes() -> tuple[Shape, ...]:
    """Everything in the field of view, in the order of painting."""
    return (
        *_couch(),
        *_trunk(),
        *_shoulder_blades(),
        *(lung(side) for side in _SIDES),
        *(vessel for side in _SIDES for vessel in _lung_vessels(side)),
        *(Ellipsoid(n.centre, (n.radius,) * 3, n.hu) for n in NODULES),
        *_mediastinum(),
        *_abdomen(),
        *_heart(),
        *_great_vessels(),
        *_airways(),
        *_spine(),
        *_rib_cage(),
    )


def _couch() -> list[Shape]:
    return [
        Column((0.0, 126.0), (190.0, 38.0), -180.0, square=0.4),
        Column((0.0, 126.0), (187.5, 35.5), -930.0, square=0.4),
        Column((0.0, -10.0), (330.0, 134.0), AIR),  # the top is hollow
    ]


def _trunk() -> list[Shape]:
    flare = (0.0, -0.025)
    return [
        Column((0.0, 0.0), (176.0, 119.0), WATER, square=0.5, flare=flare, organ=0),
        Column((0.0, 0.0), (174.0, 117.0), FAT, square=0.5, flare=flare),
        Column((0.0, 2.0), (159.0, 108.0), MUSCLE, square=0.55, flare=flare),
        *(
            Ellipsoid(mirrored(s, (62.0, -96.0, 40.0)), (60.0, 17.0, 90.0), MUSCLE) for s in _SIDES
        ),  # pectoral
        *(Ellipsoid(mirrored(s, (143.0, 6.0, -60.0)), (4.0, 58.0, 130.0), FAT) for s in _SIDES),
    ]


def _shoulder_blades() -> list[Shape]:
    """Plates of rods; each lower one lies closer to the spine."""
    plates: list[Shape] = []
    for side in _SIDES:
        plates.append(Ellipsoid(mirrored(side, (106.0, 72.0, 80.0)), (32.0, 9.0, 75.0), FAT))
        for step in range(14):
            z, inward = 20.0 + 9.0 * step, 1.2 * (13 - step)
            start, end = (96.0 - inward, 93.0, z), (134.0 - 2.0 * inward, 62.0 + inward, z)
            core = (0.5, MARROW)
            plates.append(Capsule(mirrored(side, start), mirrored(side, end), (4.0, 6.5), CORTEX, core))
    return plates


def _abdomen() -> list[Shape]:
    """What lies under the two domes of the diaphragm."""
    return [
        Ellipsoid((62.0, 0.0, -164.0), (74.0, 84.0, 84.0), MUSCLE, square=0.2, organ=0),
        Ellipsoid((62.0, 0.0, -164.0), (70.0, 80.0, 80.0), FAT, square=0.2),
        Ellipsoid((96.0, 42.0, -150.0), (32.0, 36.0, 48.0), 125.0),  # spleen
        Ellipsoid((52.0, -22.0, -160.0), (42.0, 44.0, 64.0), 70.0),  # stomach: wall, content, bubble
        Ellipsoid((52.0, -22.0, -160.0), (38.5, 40.5, 60.0), 22.0),
        Ellipsoid((52.0, -40.0, -156.0), (30.0, 19.0, 50.0), AIR),
        Ellipsoid((-52.0, -4.0, -158.0), (86.0, 86.0, 86.0), 112.0, square=0.2, organ=0),  # liver
        Ellipsoid((0.0, -44.0, -160.0), (66.0, 42.0, 58.0), 112.0, square=0.2),
        *(
            Capsule((-14.0, 24.0, -112.0), end, (5.0, 2.5), 165.0)  # hepatic veins
            for end in (
                (-92.0, 8.0, -122.0),
                (-66.0, -46.0, -128.0),
                (-22.0, -56.0, -132.0),
                (-84.0, 44.0, -140.0),
            )
        ),
        Capsule((-16.0, 30.0, -160.0), (-20.0, 16.0, -80.0), (11.0, 11.0), 170.0),  # inferior vena cava
    ]


def _mediastinum() -> list[Shape]:
    return [
        Column((0.0, -2.0), (29.0, 84.0), FAT, flare=(-0.08, 0.0), organ=0),
        Ellipsoid((0.0, -24.0, -150.0), (60.0, 66.0, 70.0), MUSCLE, organ=0),  # middle of the diaphragm
        Ellipsoid((0.0, -24.0, -150.0), (56.0, 62.0, 67.0), FAT),
        Ellipsoid((0.0, -58.0, 50.0), (17.0, 16.0, 45.0), -20.0),  # thymus
        Ellipsoid((0.0, 2.0, 150.0), (30.0, 26.0, 26.0), 75.0, organ=0),  # thyroid
        Column((1.0, 40.0), (8.0, 5.0), 42.0),  # oesophagus
        *(
            Ellipsoid(centre, (5.0, 4.0, 7.0), 50.0)  # lymph nodes
            for centre in ((-14.0, 2.0, 62.0), (10.0, 8.0, 18.0), (-8.0, 24.0, -2.0), (20.0, -20.0, 46.0))
        ),
    ]


def _heart() -> list[Shape]:
    return [
        Capsule((4.0, -22.0, -48.0), (42.0, -40.0, -92.0), (58.0, 42.0), FAT, (0.965, -92.0), organ=0),
        Ellipsoid((-38.0, -18.0, -52.0), (25.0, 29.0, 36.0), 190.0),  # right atrium
        Capsule(
            (-6.0, -46.0, -50.0), (38.0, -60.0, -92.0), (25.0, 13.0), 95.0, (0.86, 190.0)
        ),  # right ventricle
        Capsule(
            (16.0, -12.0, -52.0), (58.0, -44.0, -94.0), (33.0, 22.0), 105.0, (0.66, BLOOD)
        ),  # left ventricle
        Ellipsoid((6.0, 16.0, -36.0), (33.0, 20.0, 24.0), 210.0),  # left atrium
    ]


def _great_vessels() -> list[Shape]:
    """(points along the axis, radius, HU), each a chain of rods."""
    vessels: list[tuple[list[Point], float, float]] = [
        ([(28.0, 18.0, -36.0), (60.0, 26.0, -46.0)], 6.5, 205.0),  # pulmonary veins
        ([(-20.0, 18.0, -36.0), (-58.0, 26.0, -46.0)], 6.5, 205.0),
        ([(10.0, -42.0, -34.0), (14.0, -30.0, -4.0), (16.0, -16.0, 12.0)], 14.0, 240.0),  # pulmonary trunk
        ([(16.0, -14.0, 10.0), (44.0, 10.0, 6.0), (58.0, 20.0, -12.0)], 10.0, 240.0),
        ([(14.0, -14.0, 6.0), (-16.0, -2.0, 4.0), (-46.0, 8.0, -6.0), (-58.0, 18.0, -20.0)], 10.0, 240.0),
        ([(-2.0, -14.0, -40.0), (-14.0, -26.0, 0.0), (-12.0, -26.0, 28.0)], 15.5, BLOOD),  # aorta
        ([(-12.0, -26.0, 28.0), (-4.0, -16.0, 44.0), (14.0, 10.0, 48.0), (24.0, 36.0, 36.0)], 13.5, BLOOD),
        ([(24.0, 36.0, 36.0), (26.0, 44.0, 0.0), (22.0, 44.0, -90.0), (10.0, 42.0, -170.0)], 12.0, BLOOD),
        ([(-28.0, -24.0, 74.0), (-28.0, -18.0, -30.0)], 9.5, 265.0),  # superior vena cava
        ([(-28.0, -24.0, 74.0), (-34.0, -26.0, 170.0)], 7.5, 265.0),
        ([(-26.0, -28.0, 68.0), (24.0, -36.0, 88.0), (38.0, -26.0, 170.0)], 7.0, 265.0),
        ([(-6.0, -16.0, 46.0), (-20.0, -12.0, 80.0), (-24.0, -4.0, 170.0)], 6.5, BLOOD),
        ([(6.0, -2.0, 50.0), (14.0, 0.0, 90.0), (20.0, 0.0, 170.0)], 5.0, BLOOD),
        ([(16.0, 12.0, 50.0), (26.0, 14.0, 90.0), (42.0, 12.0, 170.0)], 5.5, BLOOD),
    ]
    return [
        Capsule(a, b, (radius, radius), hu, organ=0)
        for points, radius, hu in vessels
        for a, b in pairwise(points)
    ]


def _airways() -> list[Shape]:
    trachea: Point = (0.0, 18.0, 26.0)
    return [
        Capsule((0.0, 10.0, 175.0), trachea, (11.0, 11.0), 35.0, (0.83, AIR), organ=0),
        Capsule(trachea, (-40.0, 20.0, -8.0), (9.5, 7.0), 35.0, (0.8, AIR), organ=0),
        Capsule(trachea, (44.0, 22.0, -14.0), (9.0, 6.0), 35.0, (0.8, AIR), organ=0),
        Capsule(trachea, (0.0, 18.0, 40.0), (9.0, 9.0), AIR),  # opens the fork
        *(
            Capsule(mirrored(side, (42.0, 21.0, -10.0)), mirrored(side, end), (4.5, 2.2), 0.0, (0.66, AIR))
            for side in _SIDES
            for end in ((74.0, 36.0, -62.0), (84.0, 4.0, -6.0), (68.0, 8.0, 44.0))
        ),
    ]


def _spine() -> list[Shape]:
    bones: list[Shape] = [Column((0.0, 58.0), (17.5, 15.0), 88.0, square=0.25, organ=0)]  # discs
    for step in range(-7, 8):
        z = 24.0 * step
        body = Column((0.0, 58.0), (18.0, 15.5), CORTEX - 120.0, (z - 10.0, z + 10.0), square=0.25)
        bones += [body, replace(body, radii=(16.2, 13.7), value=MARROW)]
        for side in _SIDES:
            for start, end, radius in (
                ((10.0, 70.0, z + 2.0), (13.5, 86.0, z), 4.2),  # pedicle
                ((13.5, 86.0, z), (1.0, 96.0, z - 4.0), 4.0),  # lamina
                ((13.0, 82.0, z), (38.0, 90.0, z + 4.0), 4.4),  # transverse process
            ):
                ends = mirrored(side, start), mirrored(side, end)
                bones.append(Capsule(*ends, (radius, radius), CORTEX, (0.55, MARROW + 60.0), organ=0))
        bones.append(Capsule((0.0, 95.0, z - 4.0), (0.0, 106.0, z - 16.0), (3.6, 4.2), CORTEX, (0.5, MARROW)))
    return [
        *bones,
        Column((0.0, 82.0), (10.0, 8.5), 12.0),  # canal
        Column((0.0, 82.5), (5.5, 4.2), 42.0),  # spinal cord
    ]


def _rib_cage() -> Iterator[Shape]:
    for side in _SIDES:
        for step in range(-8, 8):
            yield from _rib(side, 24.0 * step + 12.0)
        yield Capsule(
            mirrored(side, (16.0, -86.0, 118.0)),
            mirrored(side, (118.0, -52.0, 146.0)),
            (7.0, 6.0),
            CORTEX,
            (0.6, MARROW),
        )  # collar bone
    yield Column((0.0, -95.0), (18.0, 6.5), CORTEX - 140.0, (-50.0, 122.0), square=0.3)  # breastbone
    yield Column((0.0, -95.0), (16.2, 4.7), MARROW - 30.0, (-50.0, 122.0), square=0.3)


def _rib(side: int, z: float) -> Iterator[Capsule]:
    """Rods along the outside of the lung, from the spine round to the cartilage in front."""
    points = [_rib_point(side, z - 58.0 * index / 14.0, index / 14.0) for index in range(15)]
    for index, (start, end) in enumerate(pairwise(points)):
        if index < 11:
            yield Capsule(start, end, (5.2, 5.2), CORTEX, (0.6, MARROW), organ=0)
        else:
            yield Capsule(start, end, (5.0, 5.0), 115.0, organ=0)  # cartilage


def _rib_point(side: int, z: float, way: float) -> Point:
    """A point on a rounded frame around the lung; way 0 is at the back, 1 at the front."""
    cut = lung(1).section(max(min(z, 118.0), -120.0))
    assert cut is not None  # the lung reaches from -157 to 137 mm
    half_turn = 0.16 + way * (5.2 - 0.16) * (0.35 + 0.65 * way)  # tangent of half the angle from the back
    sine = 2.0 * half_turn / (1.0 + half_turn * half_turn)
    cosine = (1.0 - half_turn * half_turn) / (1.0 + half_turn * half_turn)
    u, v, square = sine * sine, cosine * cosine, 0.62
    stretch = 1.0
    if u * v > 1e-9:
        stretch = math.sqrt((1.0 - math.sqrt(1.0 - 4.0 * square * u * v)) / (2.0 * square * u * v))
    wide, deep = cut.centre[0] + cut.radii[0] + 5.0, cut.radii[1] + 5.0
    return (side * wide * sine * stretch, cut.centre[1] + deep * cosine * stretch, z)


def _lung_vessels(side: int) -> Iterator[Capsule]:
    """A tree from the hilum: eleven trunks, each forking three times into thinner ones."""
    hilum = mirrored(side, _HILUM)
    targets: list[Point] = [
        (72.0, 54.0, -110.0), (104.0, 24.0, -106.0), (84.0, -46.0, -56.0), (104.0, -4.0, -50.0),
        (108.0, 22.0, -8.0), (84.0, -52.0, 14.0), (94.0, 58.0, 16.0), (70.0, 56.0, -50.0),
        (78.0, -26.0, 72.0), (70.0, 34.0, 88.0), (54.0, 6.0, 110.0),
    ]  # fmt: skip
    for index, target in enumerate(targets):
        end = mirrored(side, target)
        yield from _branches(side, hilum, end, radius=4.4, depth=4, key=index + 1)


def _branches(
    side: int, start: Point, end: Point, *, radius: float, depth: int, key: int
) -> Iterator[Capsule]:
    """One vessel and what grows out of it; the directions come from a hash, so they never change."""
    middle = _between(start, end, 0.55)
    yield Capsule(start, end if depth == 1 else middle, (radius, radius * 0.72), 30.0 - 40.0 * (4 - depth))
    if depth == 1:
        return
    for fork in range(3):
        mixed = int(hashed(11 + side, key, fork, depth)[0])
        sway = [((mixed >> shift) % 1024) / 512.0 - 1.0 for shift in (0, 10, 20)]
        reach = 15.0 * depth
        tip: Point = (
            end[0] + reach * 0.8 * sway[0],
            end[1] + reach * sway[1],
            end[2] + reach * sway[2],
        )
        yield from _branches(
            side, middle, _inside(side, tip), radius=radius * 0.66, depth=depth - 1, key=key * 7 + fork
        )


def _between(a: Point, b: Point, share: float) -> Point:
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]), a[2] + share * (b[2] - a[2]))


def _inside(side: int, point: Point) -> Point:
    """The point, pulled towards the middle of the lung until it lies within."""
    middle = mirrored(side, (70.0, 2.0, -20.0))
    for _ in range(12):
        cut = lung(side).section(point[2])
        if cut is not None:
            u, v = ((point[i] - cut.centre[i]) / (0.93 * cut.radii[i]) for i in (0, 1))
            if u * u + v * v < 1.0:
                break
        point = _between(point, middle, 0.15)
    return point
