"""Rows of the long table of the scale fixture, about 120 a series, as SQL over its series.

What the series' columns hold is repeated from there. The rest are elements as scanners write them, with as
many distinct values as they have there: codes a few, free text hundreds, identifiers one a series. The value
of series number k is computed from k, so a brute-force answer to a question is a formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from dicomlake.catalog import schema
from dicomlake.catalog.query.folding import FOLDED_VRS, fold
from dicomlake.dicom import standard

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TEXTS = frozenset(schema.SERIES_COLUMNS) - {*schema.WHOLE_FACETS, *schema.NUMBER_FACETS}
_NUMERIC = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD"})


class _Element(NamedTuple):
    """An element of many series. value: its text in SQL. where: of which series.

    low, high: SQL of the range of an element that differs from instance to instance; then there is no text.
    multiplicity: how many values it has.
    """

    path: str
    vr: str
    value: str
    where: str = "true"
    creator: str | None = None
    low: str = ""
    high: str = ""
    multiplicity: int = 1


def select(connection: DuckDBPyConnection, series: str) -> str:
    """All rows, by path and series, of a FROM item with the catalog's columns and `series_id`.

    The connection gets the function that the text calls.
    """
    known = "SELECT 1 FROM duckdb_functions() WHERE function_name = 'dicomlake_fold'"
    if connection.execute(known).fetchone() is None:
        connection.create_function("dicomlake_fold", fold, ["VARCHAR"], "VARCHAR")
    return " UNION ALL ".join(_rows(one, series) for one in ELEMENTS)


def _rows(one: _Element, series: str) -> str:
    creator = f"'{one.creator}'" if one.creator else "NULL::VARCHAR"
    low, high = (one.low, one.high) if one.low else (_number(one.vr),) * 2
    # ASCII, which has as many bytes as characters, is folded by DuckDB: a million calls less
    folded = "CASE WHEN strlen(text) = length(text) THEN lower(text) ELSE dicomlake_fold(text) END"
    value = "NULL" if one.low else one.value
    rows = f"SELECT series_id, instances, ({value})::VARCHAR AS text FROM {series} WHERE {one.where}"
    return (
        f"SELECT series_id, '{one.path}' AS path, {creator} AS creator, '{one.vr}' AS vr, text, "
        f"{folded if one.vr in FOLDED_VRS else 'NULL::VARCHAR'} AS fold, "
        f"({low})::DOUBLE AS low, ({high})::DOUBLE AS high, instances, "
        f"{one.multiplicity}::BIGINT AS vm_low, {one.multiplicity}::BIGINT AS vm_high "
        f"FROM ({rows}) WHERE {'true' if one.low else 'text IS NOT NULL'}"
    )


def _number(vr: str) -> str:
    """The number of a `text`: AS in years, DA in days since 1970, TM in seconds since midnight."""
    if vr in _NUMERIC:
        return "try_cast(text AS DOUBLE)"
    if vr == "DA":
        return "datediff('day', DATE '1970-01-01', try_strptime(text, '%Y%m%d')::DATE)"
    if vr == "TM":
        return "text[1:2]::INTEGER * 3600 + text[3:4]::INTEGER * 60 + text[5:6]::INTEGER"
    if vr == "AS":
        return "try_cast(text[1:3] AS DOUBLE)"
    return "NULL"


# ---- the elements

_MR, _CT = "Modality = 'MR'", "Modality = 'CT'"
_IMAGE = "Modality NOT IN ('SR', 'SEG', 'RTSTRUCT')"
_SIEMENS_MR = f"{_MR} AND Manufacturer ILIKE 'siemens%'"
_GE = "Manufacturer ILIKE 'ge %'"

# Keyword: VR and distinct values of what every object has, of images only, of CT, of MR.
_EVERYWHERE = """
AcquisitionDate DA 9000, AcquisitionTime TM 86000, ContentDate DA 9000, ContentTime TM 86000,
SeriesTime TM 86000, StudyTime TM 80000, StudyID SH 5000, PatientName PN 80000, PatientBirthDate DA 20000,
PatientWeight DS 90, PatientSize DS 60, ReferringPhysicianName PN 900, OperatorsName PN 500,
PerformingPhysicianName PN 300, InstitutionalDepartmentName LO 60, InstitutionAddress ST 170,
DeviceSerialNumber LO 800, SoftwareVersions LO 400, SpecificCharacterSet CS 4, InstanceCreationDate DA 9000,
InstanceCreationTime TM 86000, TimezoneOffsetFromUTC SH 9, PatientIdentityRemoved CS 2,
DeidentificationMethod LO 20, ClinicalTrialSponsorName LO 30, ClinicalTrialProtocolName LO 170,
ClinicalTrialSiteID LO 300, ClinicalTrialSubjectID LO 80000, ClinicalTrialTimePointID LO 12,
PerformedProcedureStepDescription LO 700, PerformedProcedureStepStartDate DA 9000,
PerformedProcedureStepStartTime TM 86000, PerformedProcedureStepID SH 20000,
RequestedProcedureDescription LO 600, StudyComments LT 50, AdmittingDiagnosesDescription LO 90,
InstanceAvailability CS 2, LossyImageCompression CS 2, ReasonForStudy LO 60,
ProcedureCodeSequence.CodeValue SH 300, ProcedureCodeSequence.CodingSchemeDesignator SH 3,
ProcedureCodeSequence.CodeMeaning LO 300, RequestAttributesSequence.RequestedProcedureID SH 90000,
RequestAttributesSequence.ScheduledProcedureStepID SH 90000,
RequestAttributesSequence.ScheduledProcedureStepDescription LO 700,
ReferencedStudySequence.ReferencedSOPClassUID UI 2,
ReferencedStudySequence.ReferencedSOPInstanceUID UI 160000,
ReferencedSeriesSequence.SeriesInstanceUID UI 400000, ReferencedImageSequence.ReferencedSOPClassUID UI 5,
ReferencedImageSequence.ReferencedSOPInstanceUID UI 900000,
DeidentificationMethodCodeSequence.CodeValue SH 9, DeidentificationMethodCodeSequence.CodeMeaning LO 9,
DeidentificationMethodCodeSequence.CodingSchemeDesignator SH 1, PatientComments LT 40, EthnicGroup SH 6,
PregnancyStatus US 4, AcquisitionNumber IS 20, TemporalPositionIndex UL 30, StudyStatusID CS 3,
CurrentPatientLocation LO 30, MedicalAlerts LO 12, Allergies LO 12, SmokingStatus CS 3,
DistributionType CS 3, ConsentForDistributionFlag CS 2, LongitudinalTemporalInformationModified CS 3
"""
_OF_IMAGES = """
BitsAllocated US 3, BitsStored US 6, HighBit US 6, PixelRepresentation US 2, SamplesPerPixel US 2,
PhotometricInterpretation CS 4, WindowCenter DS 90, WindowWidth DS 120, RescaleIntercept DS 6,
RescaleSlope DS 30, RescaleType LO 3, SpacingBetweenSlices DS 40, ImageOrientationPatient DS 300,
BurnedInAnnotation CS 2, PresentationLUTShape CS 2, AcquisitionMatrix US 20, DerivationDescription ST 80,
PatientOrientation CS 12, AnatomicRegionSequence.CodeValue SH 40, AnatomicRegionSequence.CodeMeaning LO 40,
LargestImagePixelValue US 4000, SmallestImagePixelValue US 200, PositionReferenceIndicator LO 20,
CommentsOnThePerformedProcedureStep ST 20, IrradiationEventUID UI 300000, DateOfLastCalibration DA 2000,
TimeOfLastCalibration TM 2000, ViewPosition CS 8
"""
_OF_CT = """
XRayTubeCurrent IS 600, Exposure IS 400, ExposureTime IS 300, FilterType SH 8, GeneratorPower IS 60,
FocalSpots DS 3, DataCollectionDiameter DS 3, ReconstructionDiameter DS 200, DistanceSourceToDetector DS 10,
TableHeight DS 200, DistanceSourceToPatient DS 10, GantryDetectorTilt DS 15, RotationDirection CS 2,
SpiralPitchFactor FD 40, SingleCollimationWidth FD 9, TotalCollimationWidth FD 9, TableSpeed FD 30,
CTDIvol FD 900, ScanOptions CS 6, ExposureModulationType CS 5, RevolutionTime FD 12,
EstimatedDoseSaving FD 50, TableFeedPerRotation FD 30, CTDIPhantomTypeCodeSequence.CodeValue SH 2,
CTDIPhantomTypeCodeSequence.CodeMeaning LO 2
"""
_OF_MR = """
ScanningSequence CS 6, SequenceVariant CS 9, MRAcquisitionType CS 2, SequenceName SH 300,
InversionTime DS 90, NumberOfAverages DS 9, ImagingFrequency DS 20000, ImagedNucleus SH 2, EchoNumbers IS 8,
EchoTrainLength IS 60, PercentSampling DS 40, PercentPhaseFieldOfView DS 40, PixelBandwidth DS 300,
TransmitCoilName SH 9, ReceiveCoilName SH 40, InPlanePhaseEncodingDirection CS 2,
VariableFlipAngleFlag CS 2, SAR DS 8000, dBdt DS 900, AngioFlag CS 2, NumberOfPhaseEncodingSteps IS 200,
TriggerTime DS 900, DiffusionBValue FD 9
"""


def _listed(text: str, where: str) -> Iterator[_Element]:
    """Elements of a list: the n values of each are spread over the series by a step that is prime to n."""
    for entry in text.replace("\n", " ").split(","):
        path, vr, count = entry.split()
        yield _Element(path, vr, _value(vr, f"(series_id * 7919 + {len(path)}) % {count}"), where)


def _value(vr: str, n: str) -> str:
    if vr == "DA":
        return f"strftime(DATE '1995-01-01' + ({n})::INTEGER, '%Y%m%d')"
    if vr == "TM":
        return f"lpad((({n}) // 3600)::VARCHAR, 2, '0') || lpad((({n}) // 60 % 60)::VARCHAR, 2, '0') || '30'"
    if vr == "UI":
        return f"'2.25.98765432100' || ({n})::VARCHAR"
    if vr in ("DS", "FL", "FD"):
        return f"({n}) / 2.0"
    if vr in _NUMERIC:
        return n
    if vr == "PN":
        return f"'Family' || ({n})::VARCHAR || '^Given'"
    return f"'VALUE ' || ({n})::VARCHAR"


def _of_columns() -> Iterator[_Element]:
    """The series' columns that are elements; an age, which is in years there, as written."""
    for name in schema.SERIES_COLUMNS:
        tag = standard.tag_of(name)
        if tag is not None:
            vr = standard.vr_of(tag)
            value = (
                "lpad(PatientAge::INTEGER::VARCHAR, 3, '0') || 'Y'" if vr == "AS" else f"nullif({name}, '')"
            )
            if name == "ImageType":  # one row a value
                yield _Element(name, vr, "unnest(string_split(ImageType, '\\'))", multiplicity=3)
            else:
                yield _Element(name, vr, value if vr == "AS" or name in _TEXTS else name)


def _others() -> Iterator[_Element]:
    """Private elements, and those that differ from instance to instance."""
    yield _Element("InstanceNumber", "IS", "", _IMAGE, low="1", high="instances")
    yield _Element("SliceLocation", "DS", "", _IMAGE, low="series_id % 500 - 700", high="series_id % 500")
    yield _Element(
        "ImagePositionPatient", "DS", "", _IMAGE, None, "series_id % 500 - 700", "series_id % 500", 3
    )
    yield _Element("SOPInstanceUID", "UI", "'2.25.' || series_id::VARCHAR")
    for element, vr, count in (("0C", "IS", 12), ("0E", "FD", 4000), ("0D", "CS", 3), ("27", "FD", 900)):
        yield _private("0019", element, "SIEMENS MR HEADER", vr, count, _SIEMENS_MR)
    for element, count in (("08", 3), ("09", 40), ("18", 3), ("19", 40)):
        yield _private("0029", element, "SIEMENS CSA HEADER", "LO", count, "Manufacturer ILIKE 'siemens%'")
    for element, count in (("1E", 90), ("27", 9), ("39", 30), ("60", 5)):
        yield _private("0043", element, "GEMS_PARM_01", "DS", count, _GE)
        yield _private("0019", element, "GEMS_ACQU_01", "DS", count, _GE)
    yield _private("0013", "10", "CTP", "LO", 170, "true")
    yield _private("0013", "13", "CTP", "LO", 300, "true")


def _private(group: str, element: str, creator: str, vr: str, count: int, where: str) -> _Element:
    path = f'{group},xx{element}["{creator}"]'
    return _Element(path, vr, _value(vr, f"(series_id * 31 + 5) % {count}"), where, creator)


def _all() -> tuple[_Element, ...]:
    listed = (
        *_listed(_EVERYWHERE, "true"),
        *_listed(_OF_IMAGES, _IMAGE),
        *_listed(_OF_CT, _CT),
        *_listed(_OF_MR, _MR),
    )
    return tuple(sorted((*listed, *_of_columns(), *_others()), key=lambda one: one.path))


ELEMENTS = _all()
