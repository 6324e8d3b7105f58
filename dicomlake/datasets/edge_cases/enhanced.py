"""Enhanced and legacy converted objects: frames in any order, described in functional groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import nan

import numpy as np

from dicomlake.datasets._headers import Elements
from dicomlake.datasets._truth import clock, shuffled, uid
from dicomlake.datasets.edge_cases import objects
from dicomlake.datasets.edge_cases.building import Axis, Made, case
from dicomlake.datasets.edge_cases.grids import AXIAL, OBLIQUE, SAGITTAL, Grid, upright
from dicomlake.datasets.edge_cases.multiframe import one_object, truth
from dicomlake.datasets.edge_cases.objects import DATE, Object, number, numbers
from dicomlake.datasets.edge_cases.records import Coordinate, EdgeCase

_CT, _MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
_LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
_FRAME_CONTENT = 0x00209111
_STACK_ID, _IN_STACK = (0x00209056, _FRAME_CONTENT), (0x00209057, _FRAME_CONTENT)
_TEMPORAL = (0x00209128, _FRAME_CONTENT)
_ECHO_TIME, _B_VALUE = (0x00189082, 0x00189114), (0x00189087, 0x00189117)
_HU: Elements = {
    "PixelValueTransformationSequence": [
        {"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU"}
    ]
}

Pointer = tuple[int, int]  # of an element, of the functional group that holds it


@dataclass(frozen=True)
class _Kind:
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    shared: Elements


_ENHANCED_CT = _Kind(_CT, "CT", ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"), _HU)
_CONVERTED_CT = _Kind(_LEGACY_CT, "CT", ("DERIVED", "PRIMARY", "AXIAL"), _HU)
_ENHANCED_MR = _Kind(_MR, "MR", ("ORIGINAL", "PRIMARY", "M", "NONE"), {})


def cases() -> Iterator[EdgeCase]:
    """The cases of this module."""
    grid = upright(OBLIQUE, slices=5, step_mm=3.0)
    yield _case(
        "enhanced-ct", "Enhanced CT whose frames are out of order.", upright(slices=9), kind=_ENHANCED_CT
    )
    yield _case(
        "legacy-converted",
        "Legacy converted CT: classic slices in one object, out of order.",
        upright(slices=8),
        kind=_CONVERTED_CT,
    )
    yield _case(
        "enhanced-echoes",
        "Enhanced MR: echo by position in stack, both of them dimensions.",
        grid,
        _axis("echo", "MREchoSequence", "EffectiveEchoTime", (5.0, 10.0, 120.0), "ms"),
        dimensions=(_ECHO_TIME,),
    )
    yield _case(
        "enhanced-times",
        "Enhanced MR: time by TemporalPositionIndex.",
        grid,
        _axis("time", "FrameContentSequence", "TemporalPositionIndex", (1, 2, 3, 4)),
        dimensions=(_TEMPORAL,),
    )
    yield _case(
        "enhanced-echo-by-time",
        "Enhanced MR of two echoes at three times.",
        grid,
        _axis("echo", "MREchoSequence", "EffectiveEchoTime", (5.0, 10.0), "ms"),
        _axis("time", "FrameContentSequence", "TemporalPositionIndex", (1, 2, 3)),
        dimensions=(_ECHO_TIME, _TEMPORAL),
    )
    yield _case("enhanced-diffusion", "Enhanced MR diffusion.", grid, _diffusion(), dimensions=(_B_VALUE,))
    yield _slopes()
    yield _two_stacks()
    yield _over_two_objects()


def _axis(name: str, group: str, keyword: str, values: Sequence[float], units: str | None = None) -> Axis:
    says = tuple({group: [{keyword: value}]} for value in values)
    return Axis(name, says, (Coordinate(name, (name,), tuple(values), units),))


def _diffusion() -> Axis:
    b = (0.0, 800.0, 800.0)
    gradients = ((nan, nan, nan), (0.0, 0.6, 0.8), (0.8, 0.6, 0.0))
    says = []
    for value, gradient in zip(b, gradients, strict=True):
        item: Elements = {
            "DiffusionBValue": value,
            "DiffusionDirectionality": "DIRECTIONAL" if value else "NONE",
        }
        if value:
            item["DiffusionGradientDirectionSequence"] = [{"DiffusionGradientOrientation": list(gradient)}]
        says.append({"MRDiffusionSequence": [item]})
    coordinates = (
        Coordinate("b", ("b",), b, "s/mm2"),
        Coordinate("gradient", ("b", "lps"), gradients),
    )
    return Axis("b", tuple(says), coordinates)


def _case(
    name: str,
    story: str,
    grid: Grid,
    *axes: Axis,
    dimensions: Sequence[Pointer] = (),
    kind: _Kind = _ENHANCED_MR,
    planes: Sequence[Elements] = (),
    along_z: tuple[Coordinate, ...] = (),
) -> EdgeCase:
    """One object, frames shuffled.

    dimensions: those of the further axes. planes: further functional groups of the frames at each plane,
    along_z: the coordinates that these make.
    """
    places = list(product(*(range(len(axis.says)) for axis in axes), range(grid.slices)))
    order = shuffled(len(places))
    said = {
        **_dimensions(name, dimensions),
        "ImageType": list(kind.image_type),
        "SharedFunctionalGroupsSequence": [_measures(grid) | _turned(grid) | kind.shared],
        "PerFrameFunctionalGroupsSequence": [
            _frame(i, grid, axes, places[plane]) | (planes[places[plane][-1]] if planes else {})
            for i, plane in enumerate(order)
        ],
    }
    volume = truth(name, grid, order, axes=axes)
    volume = replace(volume, coordinates=volume.coordinates + along_z)
    made = one_object(name, volume, order, sop_class=kind.sop_class, modality=kind.modality, elements=said)
    return case(name, story, made)


def _dimensions(name: str, further: Sequence[Pointer]) -> Elements:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): stack, further axes, position in the stack."""
    organization = uid("edge", name, "dimensions")
    return {
        "DimensionOrganizationSequence": [{"DimensionOrganizationUID": organization}],
        "DimensionIndexSequence": [
            {
                "DimensionOrganizationUID": organization,
                "DimensionIndexPointer": pointer,
                "FunctionalGroupPointer": group,
            }
            for pointer, group in (_STACK_ID, *further, _IN_STACK)
        ],
    }


def _measures(grid: Grid) -> Elements:
    """Pixel Measures macro; its thickness is not the step."""
    return {"PixelMeasuresSequence": [{"PixelSpacing": numbers(grid.spacing), "SliceThickness": "9"}]}


def _turned(grid: Grid) -> Elements:
    return {"PlaneOrientationSequence": [{"ImageOrientationPatient": numbers(grid.orientation)}]}


def _frame(
    number: int, grid: Grid, axes: Sequence[Axis], place: tuple[int, ...], stack_number: int = 1
) -> Elements:
    """The functional groups of a frame; those that an axis says of the frame's content are merged."""
    content: Elements = {
        "FrameAcquisitionDateTime": f"{DATE}{clock(36_000 + number)}",
        "FrameReferenceDateTime": f"{DATE}{clock(36_000 + number)}",
        "FrameAcquisitionDuration": 500.0,
        "StackID": str(stack_number),
        "InStackPositionNumber": place[-1] + 1,
        "DimensionIndexValues": [stack_number, *(index + 1 for index in place)],
    }
    groups: Elements = {
        "PlanePositionSequence": [{"ImagePositionPatient": numbers(grid.position(place[-1]))}]
    }
    for axis, index in zip(axes, place, strict=False):
        for name, (item,) in axis.says[index].items():
            if name == "FrameContentSequence":
                content |= item
            else:
                groups[name] = [item]
    return groups | {"FrameContentSequence": [content]}


def _slopes() -> EdgeCase:
    """Each plane has a slope of its own, in its functional groups."""
    slopes, grid = (0.5, 1.25, 2.0, 0.75), upright(slices=4)
    each = tuple(
        {
            "PixelValueTransformationSequence": [
                {"RescaleSlope": number(slope), "RescaleIntercept": "0", "RescaleType": "US"}
            ]
        }
        for slope in slopes
    )
    along_z = Coordinate("rescale_slope", ("z",), slopes)
    story = "Enhanced MR with a slope for each frame."
    return _case("enhanced-slopes", story, grid, planes=each, along_z=(along_z,))


def _two_stacks() -> EdgeCase:
    """Two stacks of two directions in one object, their frames taking turns."""
    name, slices = "enhanced-two-stacks", 4
    grids = [upright(directions, slices=slices) for directions in (AXIAL, SAGITTAL)]
    volumes, first = [], 0
    frames = [(stack, k) for k in range(slices) for stack in range(2)]
    sop_uid = uid("edge", name, "object")
    for stack, grid in enumerate(grids):
        volume = truth(name, grid, list(range(slices)), first=first)
        sources = tuple((sop_uid, frames.index((stack, k))) for k in range(slices))
        volumes.append(replace(volume, sources=sources))
        first = volume.end
    said = {
        **objects.series(name, "MR"),
        **objects.instance(_MR, sop_uid, 1),
        **objects.pixels(np.stack([volumes[stack].plane(k) for stack, k in frames]), frames=True),
        **_dimensions(name, ()),
        "ImageType": list(_ENHANCED_MR.image_type),
        "SharedFunctionalGroupsSequence": [_measures(grids[0])],
        "PerFrameFunctionalGroupsSequence": [
            _turned(grids[stack]) | _frame(i, grids[stack], (), (k,), stack + 1)
            for i, (stack, k) in enumerate(frames)
        ],
    }
    parts = (Made(volumes[0], (Object(said),)), Made(volumes[1], ()))
    return case(name, "Two stacks of two directions in one object: two volumes.", *parts)


def _over_two_objects() -> EdgeCase:
    """A concatenation (PS3.3 C.7.6.16.2.2.4): one stack, cut into two objects between its frames."""
    name, count = "concatenation", 4
    grid = upright(slices=2 * count)
    plain = truth(name, grid, list(range(grid.slices)))
    uids = [uid("edge", name, "object", part) for part in range(2)]
    volume = replace(plain, sources=tuple((uids[k // count], k % count) for k in range(grid.slices)))
    made = []
    for part in range(2):
        planes = range(part * count, part * count + count)
        made.append(
            Object(
                {
                    **objects.series(name, "CT"),
                    **objects.instance(_CT, uids[part], 1),
                    **objects.pixels(np.stack([volume.plane(k) for k in planes]), frames=True),
                    **_dimensions(name, ()),
                    "ImageType": list(_ENHANCED_CT.image_type),
                    "ConcatenationUID": uid("edge", name, "concatenation"),
                    "SOPInstanceUIDOfConcatenationSource": uid("edge", name, "source"),
                    "InConcatenationNumber": part + 1,
                    "InConcatenationTotalNumber": 2,
                    "ConcatenationFrameOffsetNumber": part * count,
                    "SharedFunctionalGroupsSequence": [_measures(grid) | _turned(grid) | _HU],
                    "PerFrameFunctionalGroupsSequence": [_frame(k, grid, (), (k,)) for k in planes],
                }
            )
        )
    return case(name, "A stack in two objects of a concatenation: one volume.", Made(volume, tuple(made)))
