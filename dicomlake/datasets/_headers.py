"""The modules that all objects share, with full and clearly invented clinical headers.

An object is a plain mapping from keyword (PS3.6) to value; a list of mappings is a sequence.
`dataset` turns it into pydicom's Dataset and `write` into a Part 10 file whose bytes depend on
nothing but the mapping: not on the clock, the machine or the version of pydicom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomlake.datasets._truth import Planes, ds, ds_list, uid

if TYPE_CHECKING:
    from pydicom import Dataset

Elements = dict[str, Any]

IMPLEMENTATION_CLASS_UID = uid("implementation")
PRIVATE_CREATOR = "DICOMLAKE PHANTOM 1.0"
DATE = "20240315"

_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"


@dataclass(frozen=True)
class Subject:
    """An invented patient."""

    name: str
    """PatientName, all groups."""
    number: str
    """PatientID."""
    birth_date: str
    """DA."""
    sex: str
    """M, F or O."""
    age: str
    """AS on the day of the study."""
    size_m: str
    """DS, m."""
    weight_kg: str
    """DS, kg."""
    charset: str = "ISO_IR 192"
    """SpecificCharacterSet of all objects of this patient."""


@dataclass(frozen=True)
class Visit:
    """One study and one series in it, in the words of the modality worklist."""

    key: tuple[object, ...]
    """What the UIDs are derived from."""
    modality: str
    """Modality."""
    description: str
    """StudyDescription."""
    protocol: str
    """ProtocolName and SeriesDescription."""
    body_part: str
    """BodyPartExamined."""
    region: tuple[str, str]
    """SNOMED CT code and meaning of the anatomic region."""
    procedure: tuple[str, str]
    """Local code and meaning of the procedure."""
    time: str
    """TM of the study; the series starts then too."""

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return uid(*self.key, "study")

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return uid(*self.key, "series")

    @property
    def frame_of_reference_uid(self) -> str:
        """FrameOfReferenceUID."""
        return uid(*self.key, "frame of reference")


def code(value: str, meaning: str, scheme: str = "SCT") -> Elements:
    """A coded concept (PS3.3 8.8)."""
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def reference(sop_class: str, instance: str) -> Elements:
    """A reference to an instance (PS3.3 10.8)."""
    return {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": instance}


def patient(subject: Subject) -> Elements:
    """Patient and Patient Study modules (PS3.3 C.7.1.1, C.7.2.2)."""
    return {
        "SpecificCharacterSet": subject.charset,
        "PatientName": subject.name,
        "PatientID": subject.number,
        "IssuerOfPatientID": "DICOMLAKE",
        "PatientBirthDate": subject.birth_date,
        "PatientSex": subject.sex,
        "PatientAge": subject.age,
        "PatientSize": subject.size_m,
        "PatientWeight": subject.weight_kg,
        "OtherPatientIDsSequence": [
            {"PatientID": f"X-{subject.number}", "IssuerOfPatientID": "INVENTED", "TypeOfPatientID": "TEXT"}
        ],
        "EthnicGroup": "INVENTED",
        "Occupation": "Phantom",
        "AdditionalPatientHistory": "None: this patient was computed.",
        "SmokingStatus": "NO",
        "PregnancyStatus": 4,
        "MedicalAlerts": "NONE",
        "Allergies": "NONE",
        "PatientComments": "Invented by dicomlake. Not a person.",
        "QualityControlSubject": "YES",
    }


def study(visit: Visit) -> Elements:
    """General Study module (PS3.3 C.7.2.1)."""
    return {
        "StudyInstanceUID": visit.study_uid,
        "StudyDate": DATE,
        "StudyTime": visit.time,
        "AccessionNumber": f"A{visit.procedure[0]}",
        "StudyID": "1",
        "StudyDescription": visit.description,
        "ReferringPhysicianName": "Überweis^Jörg^^Dr.",
        "ConsultingPhysicianName": "Conseil^Hélène",
        "PhysiciansOfRecord": "Förster^Märta",
        "NameOfPhysiciansReadingStudy": "Lesage^François^^Dr.",
        "ReferencedStudySequence": [reference(_DETACHED_STUDY, visit.study_uid)],
        "ProcedureCodeSequence": [code(*visit.procedure, scheme="99DICOMLAKE")],
        "ReasonForPerformedProcedureCodeSequence": [code("TEACHING", "Teaching", "99DICOMLAKE")],
    }


def series(visit: Visit, *, number: int = 1) -> Elements:
    """General Series module (PS3.3 C.7.3.1) of a series that was acquired."""
    step = uid(*visit.key, "performed step")
    protocol = code(visit.procedure[0] + "P", visit.protocol, "99DICOMLAKE")
    return {
        "Modality": visit.modality,
        "SeriesInstanceUID": visit.series_uid,
        "SeriesNumber": number,
        "SeriesDate": DATE,
        "SeriesTime": visit.time,
        "SeriesDescription": visit.protocol,
        "ProtocolName": visit.protocol,
        "BodyPartExamined": visit.body_part,
        "AnatomicRegionSequence": [code(*visit.region)],
        "PerformingPhysicianName": "Ausführ^Käthe",
        "OperatorsName": ["Techník^Zoë", "Opérateur^Noël"],
        "PerformedProcedureStepStartDate": DATE,
        "PerformedProcedureStepStartTime": visit.time,
        "PerformedProcedureStepEndDate": DATE,
        "PerformedProcedureStepEndTime": "180000",
        "PerformedProcedureStepID": f"P{visit.procedure[0]}",
        "PerformedProcedureStepDescription": visit.description,
        "PerformedProtocolCodeSequence": [protocol],
        "ReferencedPerformedProcedureStepSequence": [reference(_PERFORMED_STEP, step)],
        "RequestAttributesSequence": [
            {
                "RequestedProcedureID": f"R{visit.procedure[0]}",
                "RequestedProcedureDescription": visit.description,
                "RequestedProcedureCodeSequence": [code(*visit.procedure, scheme="99DICOMLAKE")],
                "ScheduledProcedureStepID": f"S{visit.procedure[0]}",
                "ScheduledProcedureStepDescription": visit.protocol,
                "ScheduledProtocolCodeSequence": [protocol],
            }
        ],
        "CommentsOnThePerformedProcedureStep": "Computed, not acquired.",
    }


def equipment(model: str) -> Elements:
    """General Equipment module (PS3.3 C.7.5.1)."""
    return {
        "Manufacturer": "dicomlake",
        "ManufacturerModelName": model,
        "DeviceSerialNumber": "DL-0001",
        "SoftwareVersions": ["1.0", "phantom"],
        "InstitutionName": "Hôpital Imaginaire",
        "InstitutionAddress": "1 Example Street, Nowhere",
        "InstitutionalDepartmentName": "Invented Radiology",
        "StationName": "PHANTOM1",
        "DateOfLastCalibration": "20240301",
        "TimeOfLastCalibration": "070000",
    }


def frame_of_reference(visit: Visit) -> Elements:
    """Frame of Reference module (PS3.3 C.7.4.1)."""
    return {"FrameOfReferenceUID": visit.frame_of_reference_uid, "PositionReferenceIndicator": ""}


def instance(sop_class: str, sop_uid: str, *, number: int, time: str) -> Elements:
    """SOP Common module (PS3.3 C.12.1)."""
    return {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": sop_uid,
        "InstanceNumber": number,
        "InstanceCreationDate": DATE,
        "InstanceCreationTime": time,
        "InstanceCreatorUID": IMPLEMENTATION_CLASS_UID,
        "TimezoneOffsetFromUTC": "+0000",
    }


def plane_geometry(stack: Planes, *, thickness_mm: Fraction) -> Elements:
    """Image Plane module (PS3.3 C.7.6.2) without the position, which differs from plane to plane."""
    return {
        "ImageOrientationPatient": ds_list([*stack.row, *stack.column]),
        "PixelSpacing": ds_list([stack.pixel_mm] * 2),
        "SliceThickness": ds(thickness_mm),
        "SpacingBetweenSlices": ds(stack.step_mm),
    }


def grey_pixels(*, rows: int, columns: int, bits: int = 16, signed: bool) -> Elements:
    """Image Pixel module (PS3.3 C.7.6.3) of one grey plane of 16-bit words."""
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
    }


def dataset(elements: Mapping[str, Any]) -> Dataset:
    """The elements as pydicom's Dataset; lists of mappings become sequences.

    PixelData is taken as it is: OW in words, OB where a sample has at most a byte (PS3.5 A.2).
    """
    from pydicom import Dataset, Sequence

    made = Dataset()
    for keyword, value in elements.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = Sequence([dataset(item) for item in value])
        if keyword == "PixelData":
            made.add_new(0x7FE00010, "OB" if elements["BitsAllocated"] <= 8 else "OW", value)
        else:
            setattr(made, keyword, value)
    return made


def add_private(made: Dataset, key: tuple[object, ...]) -> None:
    """A block of private elements of many VRs, a sequence with a block of its own among them (PS3.5 7.8)."""
    from pydicom import Dataset, Sequence

    item = Dataset()
    inner = item.private_block(0x0019, PRIVATE_CREATOR, create=True)
    inner.add_new(0x01, "LO", "nested")
    inner.add_new(0x02, "FD", [0.5, 0.25])
    block = made.private_block(0x0019, PRIVATE_CREATOR, create=True)
    for element, vr, value in (
        (0x01, "LO", str(key[0])),
        (0x02, "SH", ["CLOSED", "FORM"]),
        (0x03, "DS", "1.25"),
        (0x04, "IS", "42"),
        (0x05, "US", 7),
        (0x06, "UL", 70_000),
        (0x07, "SL", -70_000),
        (0x08, "FD", 0.125),
        (0x09, "FL", [0.5, 1.5]),
        (0x0A, "UI", uid(*key, "private")),
        (0x0B, "DA", DATE),
        (0x0C, "OB", bytes(range(16))),
        (0x0D, "UT", "Every number in this object follows from a formula."),
        (0x10, "SQ", Sequence([item])),
    ):
        block.add_new(element, vr, value)


def write(made: Dataset, path: Path) -> None:
    """Write a Part 10 file, Explicit VR Little Endian (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "DICOMLAKE"
    meta.SourceApplicationEntityTitle = "PHANTOM1"
    made.file_meta = meta
    made.save_as(path, enforce_file_format=True)
