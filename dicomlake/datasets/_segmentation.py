"""What binary segmentations have in common (Segmentation IOD, PS3.3 A.51): modules, segments, frames."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from dicomlake.datasets import _headers as h
from dicomlake.datasets._truth import Planes, Vector, ds_list

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def modules(
    stack: Planes, thickness_mm: Fraction, *, rows: int, columns: int, organization: str
) -> h.Elements:
    """Image Pixel, Multi-frame Dimension, and the groups that all frames share (PS3.3 C.8.20, C.7.6.17)."""
    measures = h.plane_geometry(stack, thickness_mm=thickness_mm)
    orientation = {"ImageOrientationPatient": measures.pop("ImageOrientationPatient")}
    return {
        "ImageType": ["DERIVED", "PRIMARY"],
        "ContentCreatorName": "Closed^Form",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelRepresentation": 0,
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
        "SegmentationType": "BINARY",
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
    }


def drawn_on(series_uid: str, instance_uids: Sequence[str]) -> h.Elements:
    """The CT that the segments were drawn on (PS3.3 C.12.4)."""
    references = [h.reference(_CT_CLASS, uid) for uid in instance_uids]
    return {
        "ReferencedSeriesSequence": [
            {"SeriesInstanceUID": series_uid, "ReferencedInstanceSequence": references}
        ]
    }


def segment(number: int, label: str, category: h.Elements, kind: h.Elements, colour: list[int]) -> h.Elements:
    """One item of the Segment Sequence (PS3.3 C.8.20.4). colour: CIELab, as DICOM scales it."""
    return {
        "SegmentNumber": number,
        "SegmentLabel": label,
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "closed form",
        "SegmentedPropertyCategoryCodeSequence": [category],
        "SegmentedPropertyTypeCodeSequence": [kind],
        "RecommendedDisplayCIELabValue": colour,
    }


def frame(number: int, place: int, position: Vector, instance_uid: str) -> h.Elements:
    """Functional groups of one frame: of which segment, where, and the CT slice it was drawn on.

    place: of the plane among those that are there, from 1.
    """
    purpose = h.code("121322", "Source image for image processing operation", "DCM")
    source = {**h.reference(_CT_CLASS, instance_uid), "PurposeOfReferenceCodeSequence": [purpose]}
    derivation = h.code("113076", "Segmentation", "DCM")
    return {
        "DerivationImageSequence": [
            {"SourceImageSequence": [source], "DerivationCodeSequence": [derivation]}
        ],
        "FrameContentSequence": [{"DimensionIndexValues": [number, place]}],
        "PlanePositionSequence": [{"ImagePositionPatient": ds_list(position)}],
        "SegmentIdentificationSequence": [{"ReferencedSegmentNumber": number}],
    }
