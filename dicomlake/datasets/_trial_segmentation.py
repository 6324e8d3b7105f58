"""The segmentations of the trial (Segmentation IOD, PS3.3 A.51): the lesion, as it was computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._trial_plan import Exam
from dicomlake.datasets._truth import Planes, ds_list

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def segmentation(exam: Exam, stack: Planes, lesion: NDArray[np.bool_]) -> h.Elements:
    """One binary segment; planes in which it is empty are left out. lesion: shape (z, y, x)."""
    held = [index for index in range(stack.count) if lesion[index].any()]
    organization = exam.uid("dimensions")
    measures = h.plane_geometry(stack, thickness_mm=stack.step_mm)
    orientation = {"ImageOrientationPatient": measures.pop("ImageOrientationPatient")}
    day = f"{exam.day:%Y%m%d}"
    rows, columns = lesion.shape[1:]
    bits = np.packbits(lesion[held].reshape(-1), bitorder="little").tobytes()
    return {
        **h.instance(SEGMENTATION_CLASS, exam.uid("segmentation"), number=1, time="140000"),
        "InstanceCreationDate": day,
        "ImageType": ["DERIVED", "PRIMARY"],
        "ContentDate": day,
        "ContentTime": "140000",
        "ContentLabel": "LESION",
        "ContentDescription": "Lesion",
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
        "SegmentSequence": [_segment()],
        "NumberOfFrames": len(held),
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
            _frame(exam, stack, index, place) for place, index in enumerate(held, 1)
        ],
        "ReferencedSeriesSequence": [
            {
                "SeriesInstanceUID": exam.uid("ct", "series"),
                "ReferencedInstanceSequence": [_plane(exam, index) for index in range(stack.count)],
            }
        ],
        "PixelData": bits + b"\0" * (len(bits) % 2),
    }


def _plane(exam: Exam, index: int) -> h.Elements:
    return h.reference(_CT_CLASS, exam.uid("ct", "plane", index))


def _segment() -> h.Elements:
    """The item of the Segment Sequence (PS3.3 C.8.20.4)."""
    return {
        "SegmentNumber": 1,
        "SegmentLabel": "Lesion",
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "closed form",
        "SegmentedPropertyCategoryCodeSequence": [h.code("49755003", "Morphologically Abnormal Structure")],
        "SegmentedPropertyTypeCodeSequence": [h.code("52988006", "Lesion")],
        "RecommendedDisplayCIELabValue": [50000, 50000, 40000],
    }


def _frame(exam: Exam, stack: Planes, index: int, place: int) -> h.Elements:
    """Functional groups of one frame: where it lies, and the CT slice it was drawn on."""
    purpose = h.code("121322", "Source image for image processing operation", "DCM")
    source = {**_plane(exam, index), "PurposeOfReferenceCodeSequence": [purpose]}
    derivation = h.code("113076", "Segmentation", "DCM")
    return {
        "DerivationImageSequence": [
            {"SourceImageSequence": [source], "DerivationCodeSequence": [derivation]}
        ],
        "FrameContentSequence": [{"DimensionIndexValues": [1, place]}],
        "PlanePositionSequence": [{"ImagePositionPatient": ds_list(stack.position(index))}],
        "SegmentIdentificationSequence": [{"ReferencedSegmentNumber": 1}],
    }
