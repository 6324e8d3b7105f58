"""Who is who in chest-rt: the UIDs of its objects and the headers they share."""

from __future__ import annotations

from dataclasses import dataclass

from dicomlake.datasets import _headers as h
from dicomlake.datasets import chest_ct
from dicomlake.datasets._truth import Truth, uid

NAME = "chest-rt"
STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
PLAN_CLASS = "1.2.840.10008.5.1.4.1.1.481.5"
DOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
TIME = "160000"


@dataclass(frozen=True)
class Objects:
    """The UIDs of the four objects and of what they refer to."""

    structure_set_uid: str
    """SOPInstanceUID of the RTSTRUCT."""
    plan_uid: str
    """SOPInstanceUID of the RTPLAN."""
    dose_uid: str
    """SOPInstanceUID of the RTDOSE."""
    segmentation_uid: str
    """SOPInstanceUID of the SEG."""
    ct: Truth
    """The CT series."""


def objects(slices: int = chest_ct.SLICES, seed: int = 0) -> Objects:
    """Which objects `make("chest-rt")` writes."""
    return Objects(
        structure_set_uid=uid(NAME, seed, slices, "structure set"),
        plan_uid=uid(NAME, seed, slices, "plan"),
        dose_uid=uid(NAME, seed, slices, "dose"),
        segmentation_uid=uid(NAME, seed, slices, "segmentation"),
        ct=chest_ct.truth(slices, seed),
    )


def shared(modality: str, description: str, number: int, slices: int, seed: int) -> h.Elements:
    """Patient, study, series and equipment: the patient and study of the CT, a series of its own."""
    ct = chest_ct.visit(slices, seed)
    return {
        **h.patient(chest_ct.subject(seed)),
        **h.study(ct),
        **h.equipment("Phantom planning"),
        **h.frame_of_reference(ct),
        "Modality": modality,
        "SeriesInstanceUID": uid(NAME, seed, slices, modality),
        "SeriesNumber": number,
        "SeriesDate": h.DATE,
        "SeriesTime": TIME,
        "SeriesDescription": description,
        "OperatorsName": "Planer^Jürgen",
        "BodyPartExamined": "CHEST",
    }
