"""trial: an invented trial of many small patients, for questions to a cohort rather than to one image.

Each visit has a chest CT on one of three scanners, a segmentation of the lesion, a report in words, and on
most visits a PET some days later. One scanner changes its protocol in the course, some exams deviate from it,
lesions grow or shrink, and a table of clinical facts lies beside the objects.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomlake.datasets import _headers as h
from dicomlake.datasets._noise import bell
from dicomlake.datasets._trial_plan import PATIENTS, Exam, Patient, exams
from dicomlake.datasets._trial_report import report
from dicomlake.datasets._trial_segmentation import segmentation
from dicomlake.datasets._truth import AXIAL, Planes, centred, ds, ds_list

if TYPE_CHECKING:
    from pydicom import Dataset

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
CLINICAL = "clinical.csv"
SIZE = 64
LESION_HU, BODY_HU, LUNG_HU, AIR_HU = 60, 40, -820, -1000
_PIXEL_MM = Fraction(5)
_EXTENT_MM = 80


class Made(NamedTuple):
    """One CT of the trial, and the lesion in it. radius_mm, centre_mm: of a sphere, LPS."""

    patient_id: str
    visit: int
    study_date: str
    series_uid: str
    radius_mm: int
    centre_mm: tuple[int, int, int]
    pet_date: str | None


def write(folder: str | Path, *, patients: int = PATIENTS, seed: int = 0) -> list[Made]:
    """Write all objects and `clinical.csv`; return what was made, by patient and visit.

    folder: made when missing; files of the same name are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for exam in exams(patients, seed):
        for path, made in _objects(exam):
            h.write(made, folder / path)
    _write_clinical(folder / CLINICAL, [Patient(number, seed) for number in range(patients)])
    return made_of(patients, seed)


def made_of(patients: int = PATIENTS, seed: int = 0) -> list[Made]:
    """What `write` with the same arguments makes."""
    return [
        Made(
            exam.patient.id,
            exam.number,
            _day(exam.day),
            exam.uid("ct", "series"),
            exam.radius_mm,
            exam.centre_mm,
            None if exam.pet_day is None else _day(exam.pet_day),
        )
        for exam in exams(patients, seed)
    ]


def planes(exam: Exam) -> Planes:
    """The planes of the CT: axial, 80 mm of chest, as thick as the scanner makes them."""
    step = exam.scanner.thickness_mm
    count = int(_EXTENT_MM / step)
    zero = (Fraction(0), Fraction(0), Fraction(0))
    return centred(AXIAL, rows=SIZE, columns=SIZE, pixel_mm=_PIXEL_MM, step_mm=step, count=count, centre=zero)


def _day(date: datetime.date) -> str:
    return f"{date:%Y%m%d}"


def _objects(exam: Exam) -> Iterator[tuple[str, Dataset]]:
    """File names and data sets; one data set serves all planes of a series, one after the other."""
    lesion = lesion_mask(exam)
    stem = f"{exam.patient.number:03d}-{exam.number}"
    shared = _study(exam, "ct", exam.day, "CT Chest")
    made = h.dataset({**shared, **_ct_series(exam)})
    for index, inside in enumerate(lesion):
        made.update(h.dataset(_ct_plane(exam, index, inside)))
        yield f"{stem}-CT{index + 1:03d}.dcm", made
    drawn = {**shared, **_series(exam, "SEG", "Lesion", 201, exam.day)}
    yield f"{stem}-SEG.dcm", h.dataset({**drawn, **segmentation(exam, planes(exam), lesion)})
    told = {**shared, **_series(exam, "SR", "Report", 301, exam.day)}
    yield f"{stem}-SR.dcm", h.dataset({**told, **report(exam)})
    if exam.pet_day is not None:
        shared = _study(exam, "pet", exam.pet_day, "PET Chest FDG")
        made = h.dataset({**shared, **_pet_series(exam, exam.pet_day)})
        for index, inside in enumerate(lesion):
            made.update(h.dataset(_pet_plane(exam, index, inside, exam.pet_day)))
            yield f"{stem}-PT{index + 1:03d}.dcm", made


def _study(exam: Exam, which: str, day: datetime.date, description: str) -> h.Elements:
    """Patient, study and equipment (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.5.1)."""
    patient, scanner = exam.patient, exam.scanner
    years = (day - patient.born).days * 100 // 36525
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": f"Trial^{patient.number:03d}",
        "PatientID": patient.id,
        "IssuerOfPatientID": "DICOMLAKE",
        "PatientBirthDate": _day(patient.born),
        "PatientSex": patient.sex,
        "PatientAge": f"{years:03d}Y",
        "PatientSize": "1.7",
        "PatientWeight": str(60 + patient.number % 30),
        "StudyInstanceUID": exam.uid(which, "study"),
        "StudyDate": _day(day),
        "StudyTime": "090000",
        "AccessionNumber": f"{which.upper()}{patient.number:03d}{exam.number}",
        "StudyID": str(exam.number + 1),
        "StudyDescription": description,
        "ReferringPhysicianName": "Überweis^Jörg^^Dr.",
        "Manufacturer": scanner.manufacturer,
        "ManufacturerModelName": scanner.model,
        "StationName": scanner.station,
        "DeviceSerialNumber": f"{scanner.station}-0001",
        "SoftwareVersions": ["VB20" if exam.upgraded else "VB10"],
        "InstitutionName": "Hôpital Imaginaire",
        "ClinicalTrialProtocolID": "DL-TRIAL",
        "ClinicalTrialProtocolName": "dicomlake phantom trial",
        "ClinicalTrialTimePointID": f"V{exam.number + 1}",
        "FrameOfReferenceUID": exam.uid(which, "frame of reference"),
        "PositionReferenceIndicator": "",
    }


def _series(exam: Exam, modality: str, description: str, number: int, day: datetime.date) -> h.Elements:
    return {
        "Modality": modality,
        "SeriesInstanceUID": exam.uid({"CT": "ct", "PT": "pet"}.get(modality, modality), "series"),
        "SeriesNumber": number,
        "SeriesDate": _day(day),
        "SeriesTime": "090500",
        "SeriesDescription": description,
        "ProtocolName": description,
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
    }


# ---- what there is to see ----------------------------------------------------------------------------


def lesion_mask(exam: Exam) -> NDArray[np.bool_]:
    """Voxels whose centre lies in the lesion, shape (z, y, x)."""
    x, y, z = _from(exam, exam.centre_mm)
    return np.asarray(x * x + y * y + z * z <= (2 * exam.radius_mm) ** 2)


def _from(exam: Exam, point: tuple[int, int, int]) -> tuple[NDArray[np.int64], ...]:
    """Distance from a point to each voxel centre along x, y, z in half millimetres: whole numbers."""
    stack = planes(exam)
    starts = [int(2 * start) for start in stack.origin]
    steps = [int(2 * step) for step in (stack.pixel_mm, stack.pixel_mm, stack.step_mm)]
    counts = (SIZE, SIZE, stack.count)
    x, y, z = (
        start + step * np.arange(count) - 2 * p
        for start, step, count, p in zip(starts, steps, counts, point, strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _body(exam: Exam) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Body and lungs in a plane, ellipses, shape (y, x); as in all planes."""
    x, y, _z = _from(exam, (0, 0, 0))
    body = (x * x) * 100**2 + (y * y) * 140**2 <= (2 * 100 * 140) ** 2
    side = np.abs(x) - 2 * 62
    lungs = (side * side) * 70**2 + (y * y) * 48**2 <= (2 * 70 * 48) ** 2
    return np.asarray(body[0]), np.asarray(lungs[0])


def _ct_series(exam: Exam) -> h.Elements:
    """What all slices of a CT share (PS3.3 C.8.2.1)."""
    stack = planes(exam)
    return {
        **_series(exam, "CT", f"Chest {exam.kernel}", 2, exam.day),
        **h.plane_geometry(stack, thickness_mm=stack.step_mm),
        **h.grey_pixels(rows=SIZE, columns=SIZE, signed=False),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": str(exam.kvp),
        "ConvolutionKernel": exam.kernel,
        "XRayTubeCurrent": 180,
        "ExposureTime": 500,
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": "-500",
        "WindowWidth": "1500",
    }


def _ct_plane(exam: Exam, index: int, lesion: NDArray[np.bool_]) -> h.Elements:
    body, lungs = _body(exam)
    hu = np.where(body, BODY_HU, AIR_HU)
    hu = np.where(lungs & body, LUNG_HU, hu)
    pixels = np.arange(SIZE)
    noise = bell(exam.patient.number, index, pixels[:, None], pixels, spread=12)
    stored = np.maximum(np.where(lesion, LESION_HU, hu) + noise + 1024, 0)
    return {**_instance(exam, CT_CLASS, "ct", index, exam.day), **_pixels(stored)}


def _pet_series(exam: Exam, day: datetime.date) -> h.Elements:
    """PET Series and Isotope modules (PS3.3 C.8.9.1, C.8.9.2)."""
    isotope = {
        "Radiopharmaceutical": "FDG",
        "RadiopharmaceuticalStartTime": "080000",
        "RadiopharmaceuticalStartDateTime": f"{_day(day)}080000",
        "RadionuclideTotalDose": "200000000",
        "RadionuclideHalfLife": "6586.2",
        "RadionuclideCodeSequence": [h.code("77004003", "^18^Fluorine")],
        "RadiopharmaceuticalCodeSequence": [h.code("35321007", "Fluorodeoxyglucose F^18^")],
    }
    stack = planes(exam)
    return {
        **_series(exam, "PT", "FDG attenuation corrected", 3, day),
        **h.plane_geometry(stack, thickness_mm=stack.step_mm),
        **h.grey_pixels(rows=SIZE, columns=SIZE, signed=False),
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Units": "BQML",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "NumberOfSlices": stack.count,
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "FrameReferenceTime": "0",
        "ActualFrameDuration": 120000,
        "DecayFactor": "1",
        "RadiopharmaceuticalInformationSequence": [isotope],
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
    }


def _pet_plane(exam: Exam, index: int, lesion: NDArray[np.bool_], day: datetime.date) -> h.Elements:
    """The lesion takes up less from visit to visit where it shrinks."""
    body, _lungs = _body(exam)
    change = -2000 if exam.patient.responds else 500
    activity = np.where(body, 1500, 20) + np.where(lesion, 9000 + change * exam.number, 0)
    pixels = np.arange(SIZE)
    noise = bell(exam.patient.number + 500, index, pixels[:, None], pixels, spread=60)
    made = {**_instance(exam, PET_CLASS, "pet", index, day), "ImageIndex": index + 1}
    return {**made, **_pixels(np.maximum(activity + noise, 0))}


def _instance(exam: Exam, sop_class: str, which: str, index: int, day: datetime.date) -> h.Elements:
    position = planes(exam).position(index)
    return {
        **h.instance(sop_class, exam.uid(which, "plane", index), number=index + 1, time="090500"),
        "AcquisitionNumber": 1,
        "AcquisitionDate": _day(day),
        "AcquisitionTime": "090500",
        "ContentDate": _day(day),
        "ContentTime": "090500",
        "InstanceCreationDate": _day(day),
        "ImagePositionPatient": ds_list(position),
        "SliceLocation": ds(position[2]),
        "LossyImageCompression": "00",
        "BurnedInAnnotation": "NO",
    }


def _pixels(values: NDArray[np.integer]) -> h.Elements:
    return {"BitsAllocated": 16, "PixelData": values.astype("<u2").tobytes()}


# ---- the clinical table ------------------------------------------------------------------------------


def _write_clinical(path: Path, patients: list[Patient]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["PatientID", "arm", "response", "ecog", "survival_days"])
        for patient in patients:
            days = 900 - patient.number * 7 if patient.responds else 380 + patient.number * 5
            response = "partial" if patient.responds else "progressive"
            ecog = "" if patient.number % 9 == 4 else str(patient.number % 3)
            writer.writerow([patient.id, patient.arm, response, ecog, days])
