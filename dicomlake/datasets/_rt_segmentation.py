"""The segmentation of chest-rt (Segmentation IOD, PS3.3 A.51)."""

from __future__ import annotations

from fractions import Fraction

from dicomlake.datasets import _headers as h
from dicomlake.datasets import chest_ct
from dicomlake.datasets._rt_objects import NAME, SEGMENTATION_CLASS, TIME, objects, shared
from dicomlake.datasets._rt_regions import SEGMENTS, Drawn
from dicomlake.datasets._truth import Planes, Truth, ds_list, uid


def segmentation(slices: int, seed: int, planes: list[Drawn]) -> h.Elements:
    """Segmentation IOD (PS3.3 A.51), binary; planes in which a segment is empty are left out."""
    these, stack = objects(slices, seed), chest_ct.planes(slices)
    bits = {(s, k): plane.bits[s] for s in range(len(SEGMENTS)) for k, plane in enumerate(planes)}
    frames = {place: packed for place, packed in bits.items() if packed is not None}
    organization = uid(NAME, seed, slices, "dimensions")
    places = {index: place for place, index in enumerate(sorted({index for _, index in frames}), 1)}
    measures = h.plane_geometry(stack, thickness_mm=min(stack.step_mm, Fraction(5)))
    orientation = {"ImageOrientationPatient": measures.pop("ImageOrientationPatient")}
    ct = these.ct
    return {
        **shared("SEG", "Lungs and nodules, binary", 104, slices, seed),
        **h.instance(SEGMENTATION_CLASS, these.segmentation_uid, number=1, time=TIME),
        "ImageType": ["DERIVED", "PRIMARY"],
        "ContentDate": h.DATE,
        "ContentTime": TIME,
        "ContentLabel": "CHEST",
        "ContentDescription": "Lungs and nodules",
        "ContentCreatorName": "Closed^Form",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": chest_ct.SIZE,
        "Columns": chest_ct.SIZE,
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelRepresentation": 0,
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "SegmentationType": "BINARY",
        "SegmentsOverlap": "YES",
        "SegmentSequence": [_segment(number) for number in range(1, len(SEGMENTS) + 1)],
        "NumberOfFrames": len(frames),
        "DimensionOrganizationType": "3D",
        "DimensionOrganizationSequence": [{"DimensionOrganizationUID": organization}],
        "DimensionIndexSequence": [
            {
                "DimensionOrganizationUID": organization,
                "DimensionIndexPointer": pointer,
                "FunctionalGroupPointer": group,
                "DimensionDescriptionLabel": label,
            }
            for pointer, group, label in (
                (0x0062000B, 0x0062000A, "ReferencedSegmentNumber"),
                (0x00200032, 0x00209113, "ImagePositionPatient"),
            )
        ],
        "SharedFunctionalGroupsSequence": [
            {"PixelMeasuresSequence": [measures], "PlaneOrientationSequence": [orientation]}
        ],
        "PerFrameFunctionalGroupsSequence": [
            _frame_groups(segment, index, places[index], stack, ct) for segment, index in frames
        ],
        "ReferencedSeriesSequence": [
            {
                "SeriesInstanceUID": ct.series_uid,
                "ReferencedInstanceSequence": [h.reference(chest_ct.SOP_CLASS, i) for i in ct.instance_uids],
            }
        ],
        "PixelData": b"".join(frames.values()),
    }


def _segment(number: int) -> h.Elements:
    """One item of the Segment Sequence (PS3.3 C.8.20.4)."""
    label = SEGMENTS[number - 1]
    if label == "Nodules":
        category, kind = (
            h.code("49755003", "Morphologically Abnormal Structure"),
            h.code("27925004", "Nodule"),
        )
    else:
        category = h.code("123037004", "Anatomical Structure")
        side = h.code("24028007", "Right") if label == "Lung_R" else h.code("7771000", "Left")
        kind = {**h.code("39607008", "Lung"), "SegmentedPropertyTypeModifierCodeSequence": [side]}
    return {
        "SegmentNumber": number,
        "SegmentLabel": label,
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "closed form",
        "SegmentedPropertyCategoryCodeSequence": [category],
        "SegmentedPropertyTypeCodeSequence": [kind],
        "RecommendedDisplayCIELabValue": [
            [45000, 30000, 25000],
            [50000, 25000, 38000],
            [38000, 48000, 44000],
        ][number - 1],
    }


def _frame_groups(segment: int, index: int, place: int, stack: Planes, ct: Truth) -> h.Elements:
    """Functional groups of one frame: which segment, where, and the CT slice it was drawn on."""
    purpose = h.code("121322", "Source image for image processing operation", "DCM")
    source = {
        **h.reference(chest_ct.SOP_CLASS, ct.instance_uids[index]),
        "PurposeOfReferenceCodeSequence": [purpose],
    }
    derivation = h.code("113076", "Segmentation", "DCM")
    return {
        "DerivationImageSequence": [
            {"SourceImageSequence": [source], "DerivationCodeSequence": [derivation]}
        ],
        "FrameContentSequence": [{"DimensionIndexValues": [segment + 1, place]}],
        "PlanePositionSequence": [{"ImagePositionPatient": ds_list(stack.position(index))}],
        "SegmentIdentificationSequence": [{"ReferencedSegmentNumber": segment + 1}],
    }
