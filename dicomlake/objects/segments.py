"""What a segmentation says about itself: its segments, and for each frame which segment, where, from what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Vector, number_of_frames, plane_geometry
from dicomlake.dicom.luts import palette
from dicomlake.errors import BrokenObject
from dicomlake.objects.codes import Code, Reference, code_in, codes_in, reference_of
from dicomlake.objects.colours import RGB, rgb_of

_MODIFIERS = "SegmentedPropertyTypeModifierCodeSequence"


@dataclass(frozen=True, slots=True)
class Segment:
    """One item of the Segment Sequence (PS3.3 C.8.20.4).

    label, description: free text of the maker, left out of the repr.
    category, type, type_modifiers, region: what was segmented, in codes; region is anatomic.
    algorithm_type: AUTOMATIC, SEMIAUTOMATIC or MANUAL. algorithm_name: as stated, None when manual.
    tracking_id, tracking_uid: tell the same lesion in several objects.
    rgb: the recommended colour, 0 to 255, None where none is recommended.
    """

    number: int
    label: str
    description: str | None
    category: Code | None
    type: Code | None
    type_modifiers: tuple[Code, ...]
    region: Code | None
    algorithm_type: str | None
    algorithm_name: str | None
    tracking_id: str | None
    tracking_uid: str | None
    rgb: RGB | None

    def __repr__(self) -> str:
        return f"<Segment {self.number}: {self.type.meaning if self.type else 'no property type'}>"

    def row(self) -> dict[str, Any]:
        """As a row of a table; codes as value, scheme and meaning."""
        return {
            "number": self.number,
            "label": self.label,
            "category": self.category and str(self.category),
            "type": self.type and str(self.type),
            "modifiers": ", ".join(map(str, self.type_modifiers)) or None,
            "region": self.region and str(self.region),
            "algorithm_type": self.algorithm_type,
            "algorithm_name": self.algorithm_name,
            "rgb": self.rgb,
            "tracking_id": self.tracking_id,
            "tracking_UID": self.tracking_uid,
        }


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame: its number within the object, from 0, the segment it draws, and where it lies.

    segment: None for a label map, whose voxels hold the numbers.
    position, orientation, spacing_mm: as in `frames.Frame`; all None where `flaw` says why.
    step_mm: SpacingBetweenSlices, as far as stated.
    sources: the images it was derived from; in_place: whether it has their rows and columns.
    """

    index: int
    segment: int | None
    position: Vector | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, float] | None
    step_mm: float | None
    flaw: str | None
    sources: tuple[Reference, ...]
    in_place: bool


def segments_of(dataset: Attributes) -> tuple[Segment, ...]:
    """The segments, by number. Raises BrokenObject when there is none or a number occurs twice."""
    found = sorted((_segment(item) for item in dataset.items("SegmentSequence")), key=lambda s: s.number)
    if not found:
        raise BrokenObject("SegmentSequence is absent or empty: the object is no segmentation")
    numbers = [segment.number for segment in found]
    if len(set(numbers)) != len(numbers):
        raise BrokenObject("a SegmentNumber occurs twice: its frames cannot be told apart")
    return tuple(found)


def _segment(item: Attributes) -> Segment:
    number = item.number("SegmentNumber")
    if number is None:
        raise BrokenObject("a segment has no SegmentNumber")
    kind = next(iter(item.items("SegmentedPropertyTypeCodeSequence")), None)
    return Segment(
        number=int(number),
        label=item.text("SegmentLabel") or "",
        description=item.text("SegmentDescription"),
        category=code_in(item, "SegmentedPropertyCategoryCodeSequence"),
        type=code_in(item, "SegmentedPropertyTypeCodeSequence"),
        type_modifiers=codes_in(kind, _MODIFIERS) if kind else (),
        region=code_in(item, "AnatomicRegionSequence"),
        algorithm_type=item.text("SegmentAlgorithmType"),
        algorithm_name=item.text("SegmentAlgorithmName"),
        tracking_id=item.text("TrackingID"),
        tracking_uid=item.text("TrackingUID"),
        rgb=rgb_of(item.numbers("RecommendedDisplayCIELabValue")),
    )


def frames_of(dataset: Attributes, segments: tuple[Segment, ...], labelmap: bool) -> tuple[SegmentFrame, ...]:
    """All frames in the order of the object; functional groups per frame come before shared ones.

    Raises BrokenObject when there is not one item per frame, or a frame names no segment of the object.
    """
    count = number_of_frames(dataset)
    items = dataset.items("PerFrameFunctionalGroupsSequence")
    if len(items) != count:
        raise BrokenObject(f"NumberOfFrames is {count}, but {len(items)} frames are described")
    shared = next(iter(dataset.items("SharedFunctionalGroupsSequence")), None)
    numbers = {segment.number for segment in segments}
    found = tuple(_frame(i, (item, shared), labelmap) for i, item in enumerate(items))
    if not labelmap and any(frame.segment not in numbers for frame in found):
        raise BrokenObject("a frame has no ReferencedSegmentNumber, or one that no segment has")
    return found


def _frame(index: int, places: tuple[Attributes, Attributes | None], labelmap: bool) -> SegmentFrame:
    measures = _macro(places, "PixelMeasuresSequence")
    at, turned = _macro(places, "PlanePositionSequence"), _macro(places, "PlaneOrientationSequence")
    position, orientation, spacing, flaw = plane_geometry(at, turned, measures)
    identified = None if labelmap else _macro(places, "SegmentIdentificationSequence")
    number = identified.number("ReferencedSegmentNumber") if identified else None
    sources = list(_sources(places))
    return SegmentFrame(
        index=index,
        segment=int(number) if number is not None else None,
        position=position,
        orientation=orientation,
        spacing_mm=spacing,
        step_mm=measures.number("SpacingBetweenSlices"),
        flaw=flaw,
        sources=tuple(ref for item in sources if (ref := reference_of(item))),
        in_place=all(item.text("SpatialLocationsPreserved") in (None, "YES") for item in sources),
    )


def _macro(places: tuple[Attributes, Attributes | None], keyword: str) -> Attributes:
    """The item of a functional group macro, of the frame or shared; an empty item when there is none."""
    for place in places:
        for item in place.items(keyword) if place else ():
            return item
    return Attributes({}, places[0].encoding)


def _sources(places: tuple[Attributes, Attributes | None]) -> Iterator[Attributes]:
    for place in places:
        for derivation in place.items("DerivationImageSequence") if place else ():
            yield from derivation.items("SourceImageSequence")


def palette_of(dataset: Attributes, segments: tuple[Segment, ...]) -> dict[int, RGB]:
    """The colour that the palette of a PALETTE COLOR label map gives each segment (PS3.3 C.7.9)."""
    found = palette(dataset)
    if found is None:
        return {}
    table = found.colours if found.colours.dtype == np.uint8 else found.colours >> 8
    numbers = {s.number for s in segments if 0 <= s.number - found.first < len(table)}
    return {n: (int(r), int(g), int(b)) for n in numbers for r, g, b in [table[n - found.first]]}
