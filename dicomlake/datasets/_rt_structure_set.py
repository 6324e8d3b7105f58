"""The structure set of chest-rt (RT Structure Set IOD, PS3.3 A.19)."""

from __future__ import annotations

from dicomlake.datasets import _headers as h
from dicomlake.datasets import chest_ct
from dicomlake.datasets._chest import NODULES
from dicomlake.datasets._rt_objects import STRUCTURE_SET_CLASS, TIME, objects, shared
from dicomlake.datasets._rt_regions import SEGMENTS, Contours, Drawn, Loop, lung_contours, nodule_contours
from dicomlake.datasets._truth import Truth

_COLOURS = ((80, 170, 255), (120, 220, 140), (255, 80, 80), (255, 170, 60), (240, 220, 70), (230, 110, 230))


def structure_set(slices: int, seed: int, planes: list[Drawn]) -> h.Elements:
    """RT Structure Set IOD (PS3.3 A.19): lungs along pixel edges, nodules as polygons of 32 points."""
    these = objects(slices, seed)
    ct = these.ct
    regions = [
        *((SEGMENTS[side], "ORGAN", lung_contours(side, planes)) for side in (0, 1)),
        *((nodule.name, "GTV", nodule_contours(nodule, slices)) for nodule in NODULES),
    ]
    images = [h.reference(chest_ct.SOP_CLASS, instance) for instance in ct.instance_uids]
    study = h.reference("1.2.840.10008.3.1.2.3.1", ct.study_uid)
    series = {"SeriesInstanceUID": ct.series_uid, "ContourImageSequence": images}
    return {
        **shared("RTSTRUCT", "Lungs and nodules", 101, slices, seed),
        **h.instance(STRUCTURE_SET_CLASS, these.structure_set_uid, number=1, time=TIME),
        "StructureSetLabel": "CHEST",
        "StructureSetName": "Lungs and nodules",
        "StructureSetDate": h.DATE,
        "StructureSetTime": TIME,
        "ApprovalStatus": "UNAPPROVED",
        "ReferencedFrameOfReferenceSequence": [
            {
                "FrameOfReferenceUID": ct.frame_of_reference_uid,
                "RTReferencedStudySequence": [{**study, "RTReferencedSeriesSequence": [series]}],
            }
        ],
        "StructureSetROISequence": [
            {
                "ROINumber": number,
                "ReferencedFrameOfReferenceUID": ct.frame_of_reference_uid,
                "ROIName": name,
                "ROIGenerationAlgorithm": "AUTOMATIC",
            }
            for number, (name, _, _) in enumerate(regions, 1)
        ],
        "ROIContourSequence": [
            {
                "ROIDisplayColor": list(_COLOURS[(number - 1) % len(_COLOURS)]),
                "ReferencedROINumber": number,
                **_contour_sequence(contours, ct),
            }
            for number, (_, _, contours) in enumerate(regions, 1)
        ],
        "RTROIObservationsSequence": [
            {
                "ObservationNumber": number,
                "ReferencedROINumber": number,
                "RTROIInterpretedType": kind,
                "ROIInterpreter": "",
            }
            for number, (_, kind, _) in enumerate(regions, 1)
        ],
    }


def _contour_sequence(contours: Contours, ct: Truth) -> h.Elements:
    """The contours of a region; absent, not empty, where no plane cuts it (PS3.3 C.8.8.6)."""
    if not contours:
        return {}
    return {"ContourSequence": [_contour(index, points, ct) for index, points in contours]}


def _contour(index: int, points: Loop, ct: Truth) -> h.Elements:
    return {
        "ContourImageSequence": [h.reference(chest_ct.SOP_CLASS, ct.instance_uids[index])],
        "ContourGeometricType": "CLOSED_PLANAR",
        "NumberOfContourPoints": len(points),
        "ContourData": [f"{value:.4f}" for point in points for value in point],
    }
