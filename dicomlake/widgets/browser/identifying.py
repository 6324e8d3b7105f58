"""Which elements may tell who a patient is, and what the Basic Profile does with them.

By PS3.15 Table E.1-1, edition 2024b, for the elements that occur in practice: Z zero length, X removed,
D a dummy value, U another UID, C cleaned. By VR where the table names a whole kind: names of persons are
never kept, private elements are removed. It marks what to look at; it removes nothing.
"""

from __future__ import annotations

from functools import cache

from dicomlake.dicom import standard

_ACTIONS = {
    "Z": """AccessionNumber PatientBirthDate PatientID PatientName PatientSex ReferringPhysicianName
        StudyDate StudyID StudyTime ConsultingPhysicianName ClinicalTrialCoordinatingCenterName
        ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialTimePointID
        PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
        VerifyingObserverIdentificationCodeSequence""",
    "D": """ContentDate ContentTime ContentCreatorName ContrastBolusAgent ClinicalTrialProtocolID
        ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialSponsorName ContainerIdentifier
        VerifyingObserverName VerifyingOrganization PersonName StructureSetLabel StructureSetDate
        StructureSetTime RTPlanLabel RTPlanDate RTPlanTime ROIName AcquisitionFieldOfViewLabel
        ContentSequence DeviceLabel TextValue""",
    "X": """AcquisitionComments AcquisitionContextSequence AcquisitionDate AcquisitionDateTime
        AcquisitionDeviceProcessingDescription AcquisitionProtocolDescription AcquisitionTime
        ActualHumanPerformersSequence AdditionalPatientHistory AdmissionID AdmittingDate
        AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription AdmittingTime Allergies
        AuthorObserverSequence BranchOfService CassetteID ClinicalTrialSeriesDescription ClinicalTrialSeriesID
        ClinicalTrialTimePointDescription CommentsOnThePerformedProcedureStep
        ConsultingPhysicianIdentificationSequence ContributionDescription CountryOfResidence
        CurrentPatientLocation CustodialOrganizationSequence
        DataSetTrailingPadding DerivationDescription DetectorID DeviceSerialNumber DeviceDescription
        DigitalSignaturesSequence DischargeDiagnosisDescription EthnicGroup FrameComments GantryID
        GraphicAnnotationSequence IconImageSequence IdentifyingComments ImageComments
        ImageComments ImagingServiceRequestComments ImpedanceMeasurementDateTime InstanceCreationDate
        InstanceCreationTime InstanceCoercionDateTime InstitutionAddress InstitutionCodeSequence
        InstitutionName InstitutionalDepartmentName InsurancePlanIdentification
        IssuerOfAccessionNumberSequence IssuerOfAdmissionID IssuerOfPatientID LastMenstrualDate
        MedicalAlerts MedicalRecordLocator MilitaryRank ModifiedAttributesSequence ModifyingSystem
        NameOfPhysiciansReadingStudy Occupation OperatorIdentificationSequence OperatorsName
        OriginalAttributesSequence OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
        PatientAddress PatientAge PatientBirthName PatientBirthTime PatientComments
        PatientInstitutionResidence PatientInsurancePlanCodeSequence PatientMotherBirthName
        PatientPrimaryLanguageCodeSequence PatientReligiousPreference PatientSexNeutered PatientSize
        PatientSpeciesDescription PatientState PatientTelecomInformation PatientTelephoneNumbers
        PatientTransportArrangements PatientWeight PerformedProcedureStepDescription
        PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepID
        PerformedProcedureStepStartDate PerformedProcedureStepStartTime PerformedStationAETitle
        PerformedStationName PerformingPhysicianIdentificationSequence PerformingPhysicianName
        PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
        PhysiciansReadingStudyIdentificationSequence PlateID PreMedication PregnancyStatus ProtocolName
        ReasonForStudy ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure
        ReferencedDigitalSignatureSequence ReferencedPatientSequence ReferencedPatientAliasSequence
        ReferringPhysicianAddress ReferringPhysicianIdentificationSequence ReferringPhysicianTelephoneNumbers
        RegionOfResidence RequestAttributesSequence RequestedProcedureComments RequestedProcedureDescription
        RequestedProcedureID RequestingPhysician RequestingService ResponsibleOrganization ResponsiblePerson
        ResultsComments ReviewDate ReviewTime ReviewerName ScheduledPerformingPhysicianName
        ScheduledProcedureStepDescription ScheduledProcedureStepID ScheduledProcedureStepStartDate
        ScheduledStationAETitle ScheduledStationName SeriesDate SeriesDescription SeriesTime ServiceEpisodeID
        SmokingStatus SourceApplicationEntityTitle SourcePatientGroupIdentificationSequence
        SpecialNeeds StationName StructureSetDescription StructureSetName StudyComments StudyDescription
        TextComments TextString TimezoneOffsetFromUTC TreatmentDate TreatmentTime VerificationDateTime
        VisitComments OverlayData OverlayComments CurveData DateOfSecondaryCapture TimeOfSecondaryCapture
        SecondaryCaptureDeviceID RadiopharmaceuticalStartDateTime RadiopharmaceuticalStopDateTime
        EncapsulatedDocument DocumentTitle SoftwareVersions""",
}
_WELL_KNOWN_UIDS = frozenset(
    {
        *("SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID"),
        *("ImplementationClassUID", "ContextUID", "MappingResourceUID", "CodingSchemeUID"),
        *("ReferencedTransferSyntaxUIDInFile", "PrivateInformationCreatorUID", "SOPClassesInStudy"),
        *("EncryptedContentTransferSyntaxUID", "RelatedGeneralSOPClassUID", "OriginalSpecializedSOPClassUID"),
    }
)


@cache
def _table() -> dict[str, str]:
    return {keyword: action for action, names in _ACTIONS.items() for keyword in names.split()}


@cache
def action(tag: int, vr: str) -> str:
    """What the Basic Profile does with an element; empty where it keeps it, or does not know it."""
    if tag & 0x00010000:
        return "X"
    entry = standard.lookup(tag)
    keyword = entry[1] if entry else ""
    if keyword in _table():
        return _table()[keyword]
    if vr == "PN":
        return "X"
    if vr == "UI" and keyword not in _WELL_KNOWN_UIDS:
        return "U"
    return ""
