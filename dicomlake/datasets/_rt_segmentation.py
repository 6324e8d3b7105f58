"""The segmentation of chest-rt: lungs and nodules."""

from __future__ import annotations

from fractions import Fraction

from dicomlake.datasets import _headers as h
from dicomlake.datasets import _segmentation as seg
from dicomlake.datasets import chest_ct
from dicomlake.datasets._rt_objects import NAME, TIME, objects, shared
from dicomlake.datasets._rt_regions import SEGMENTS, Drawn
from dicomlake.datasets._truth import uid

_COLOURS = ([45000, 30000, 25000], [50000, 25000, 38000], [38000, 48000, 44000])


def segmentation(slices: int, seed: int, planes: list[Drawn]) -> h.Elements:
    """Segmentation IOD (PS3.3 A.51), binary; planes in which a segment is empty are left out."""
    these, stack = objects(slices, seed), chest_ct.planes(slices)
    bits = {(s, k): plane.bits[s] for s in range(len(SEGMENTS)) for k, plane in enumerate(planes)}
    frames = {place: packed for place, packed in bits.items() if packed is not None}
    places = {index: place for place, index in enumerate(sorted({index for _, index in frames}), 1)}
    ct = these.ct
    organization = uid(NAME, seed, slices, "dimensions")
    size, thickness_mm = chest_ct.SIZE, min(stack.step_mm, Fraction(5))
    return {
        **shared("SEG", "Lungs and nodules, binary", 104, slices, seed),
        **h.instance(seg.SEGMENTATION_CLASS, these.segmentation_uid, number=1, time=TIME),
        **seg.modules(stack, thickness_mm, rows=size, columns=size, organization=organization),
        **seg.drawn_on(ct.series_uid, ct.instance_uids),
        "ContentDate": h.DATE,
        "ContentTime": TIME,
        "ContentLabel": "CHEST",
        "ContentDescription": "Lungs and nodules",
        "SegmentsOverlap": "YES",
        "SegmentSequence": [_segment(number) for number in range(1, len(SEGMENTS) + 1)],
        "NumberOfFrames": len(frames),
        "PerFrameFunctionalGroupsSequence": [
            seg.frame(segment + 1, places[index], stack.position(index), ct.instance_uids[index])
            for segment, index in frames
        ],
        "PixelData": b"".join(frames.values()),
    }


def _segment(number: int) -> h.Elements:
    label, colour = SEGMENTS[number - 1], _COLOURS[number - 1]
    if label == "Nodules":
        category, kind = (
            h.code("49755003", "Morphologically Abnormal Structure"),
            h.code("27925004", "Nodule"),
        )
    else:
        category = h.code("123037004", "Anatomical Structure")
        side = h.code("24028007", "Right") if label == "Lung_R" else h.code("7771000", "Left")
        kind = {**h.code("39607008", "Lung"), "SegmentedPropertyTypeModifierCodeSequence": [side]}
    return seg.segment(number, label, category, kind, colour)
