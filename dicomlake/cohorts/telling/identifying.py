"""Which columns of a table tell who a patient is, and whose values are shown nowhere unasked."""

from __future__ import annotations

from dicomlake.cohorts.telling import cells
from dicomlake.errors import QueryError

_KEYWORDS = frozenset(
    {
        *("PatientID", "IssuerOfPatientID", "OtherPatientIDs", "PatientBirthDate", "PatientBirthTime"),
        *("PatientAddress", "PatientTelephoneNumbers", "MedicalRecordLocator", "MilitaryRank", "Occupation"),
        *(
            "RegionOfResidence",
            "CountryOfResidence",
            "InsurancePlanIdentification",
            "PatientTelecomInformation",
        ),
        *("AccessionNumber", "StudyID", "AdmissionID", "RequestedProcedureID", "ScheduledProcedureStepID"),
        *("PerformedProcedureStepID", "PlacerOrderNumberImagingServiceRequest"),
        *("FillerOrderNumberImagingServiceRequest", "InstitutionAddress", "CurrentPatientLocation"),
        *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "PatientInsurancePlanCodeSequence"),
        *("DeviceSerialNumber", "GantryID", "DetectorID", "CassetteID", "PlateID", "key", "note", "who"),
    }
)
_SAFE_UIDS = frozenset({"SOPClassUID", "TransferSyntaxUID", "MediaStorageSOPClassUID", "SOPClassesInStudy"})
_CODED = frozenset(
    {"CS", "AS", "DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "SV", "UV", "AT", "DA", "TM", "DT"}
)
_OF_MACHINES = frozenset(
    {
        *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "SequenceName"),
        *("ReceiveCoilName", "TransmitCoilName", "ContrastBolusAgent", "Radiopharmaceutical", "FilterType"),
        *("ReconstructionMethod", "ScatterCorrectionMethod", "AttenuationCorrectionMethod"),
        *("verdict", "extra_dims", "dims", "shape", "dtype", "units", "split_by", "TransferSyntaxUID"),
        *("SOPClassUID", "MediaStorageSOPClassUID", "level"),
    }
)


def identifying(name: str) -> bool:
    """Whether the values of a column tell who somebody is: names, identifiers, birth dates, UIDs."""
    last = name.rpartition(".")[2]
    vr = cells.vr(name)
    if vr == "UI" or last.endswith("UID"):
        return last not in _SAFE_UIDS
    return vr == "PN" or last in _KEYWORDS or last.lower() in ("name", "mrn", "patient_id", "date_of_birth")


def free_text(name: str) -> bool:
    """Whether people wrote the values of a column: then a value of few patients may tell who they are.

    All text but codes (VR CS) and what machines are called; columns that are no element count as well.
    """
    last = name.rpartition(".")[2]
    return last not in _OF_MACHINES and cells.vr(name) not in _CODED


def refuse(*names: str | None) -> None:
    """Raise QueryError when a column that shall be drawn is identifying."""
    wrong = [name for name in names if name is not None and identifying(name)]
    if wrong:
        raise QueryError(
            f"{', '.join(wrong)} would show who the patients are: draw another column, or take the table"
        )
