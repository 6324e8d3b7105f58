"""Which elements may tell who a patient is, and what the Basic Profile does with them.

An excerpt of PS3.15 Table E.1-1, the elements that occur in practice, with the actions that it gives: Z zero
length, X removed, D a dummy value, U another UID; X/Z and the like where the type of the element decides.
All UIDs of instances are U and all private elements X, as there. `?` marks what is not in the excerpt and may
tell all the same: other names, dates, documents. It marks what to look at; it removes nothing.
"""

from __future__ import annotations

from functools import cache

from dicomlake.dicom import standard

_ACTIONS = {
    "Z": """AccessionNumber ClinicalTrialCoordinatingCenterName ClinicalTrialProtocolName ClinicalTrialSiteID
        ClinicalTrialSiteName ClinicalTrialTimePointID ConsultingPhysicianName
        FillerOrderNumberImagingServiceRequest IssuerOfTheContainerIdentifierSequence
        IssuerOfTheSpecimenIdentifierSequence PatientBirthDate PatientID PatientName PatientSex
        PlacerOrderNumberImagingServiceRequest ROIInterpreter ROIName ReferringPhysicianName
        SpecimenPreparationSequence StructureSetDate StudyDate StudyID StudyTime
        VerifyingObserverIdentificationCodeSequence""",
    "D": """AcquisitionFieldOfViewLabel ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolID
        ClinicalTrialSponsorName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ContainerIdentifier
        ContentSequence DeviceLabel GraphicAnnotationSequence ImpedanceMeasurementDateTime
        PersonIdentificationCodeSequence PersonName RTPlanLabel SourceEndDateTime SourceStartDateTime
        SpecimenIdentifier StructureSetLabel TreatmentSite VerifyingObserverName VerifyingObserverSequence
        VerifyingOrganization XRayDetectorID XRaySourceID""",
    "Z/D": "ContentCreatorName ContentDate ContentTime ContrastBolusAgent",
    "X/D": """AcquisitionDeviceProcessingDescription DetectorID EndAcquisitionDateTime
        OperatorIdentificationSequence ProtocolName RTPlanDate RTPlanTime SeriesDate SeriesTime
        StartAcquisitionDateTime StructureSetTime TreatmentDate TreatmentTime""",
    "X/Z": """AcquisitionContextSequence AcquisitionDate AcquisitionTime BarcodeValue LabelText
        PatientSexNeutered ReferencedStudySequence RequestedProcedureDescription ReviewerName
        SourceSerialNumber""",
    "X/Z/D": """AcquisitionDateTime DeviceSerialNumber InstitutionCodeSequence InstitutionName OperatorsName
        ReferencedPerformedProcedureStepSequence StationName""",
    "X/Z/U": "ReferencedImageSequence SourceImageSequence",
    "X": """AcquisitionComments AcquisitionProtocolDescription ActualHumanPerformersSequence
        AdditionalPatientHistory AdmissionID AdmittingDate AdmittingDiagnosesCodeSequence
        AdmittingDiagnosesDescription AdmittingTime Allergies AuthorObserverSequence BeamDescription
        BranchOfService CassetteID ClinicalTrialSeriesDescription ClinicalTrialSeriesID
        ClinicalTrialTimePointDescription CommentsOnRadiationDose CommentsOnThePerformedProcedureStep
        ConfidentialityConstraintOnPatientDataDescription ConsultingPhysicianIdentificationSequence
        ContentCreatorIdentificationCodeSequence ContributionDescription CountryOfResidence
        CurrentPatientLocation CurveData CustodialOrganizationSequence DataSetTrailingPadding
        DerivationDescription DeviceDescription DigitalSignaturesSequence DischargeDiagnosisDescription
        EthnicGroup FrameComments GantryID GeneratorID HumanPerformerName HumanPerformerOrganization
        IconImageSequence IdentifyingComments ImageComments ImagePresentationComments
        ImagingServiceRequestComments InstanceCoercionDateTime InstitutionAddress
        InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence InsurancePlanIdentification
        InterpretationAuthor InterpretationText IssuerOfAdmissionID IssuerOfAdmissionIDSequence
        IssuerOfPatientID IssuerOfServiceEpisodeID LastMenstrualDate LongDeviceDescription MakerNote
        MedicalAlerts MedicalRecordLocator MilitaryRank ModifiedAttributesSequence ModifyingDeviceID
        NameOfPhysiciansReadingStudy NamesOfIntendedRecipientsOfResults
        NonconformingModifiedAttributesSequence Occupation OrderCallbackPhoneNumber OrderEnteredBy
        OrderEntererLocation OriginalAttributesSequence OtherPatientIDs OtherPatientIDsSequence
        OtherPatientNames OverlayComments OverlayData ParticipantSequence PatientAddress PatientAge
        PatientBirthName PatientBirthTime PatientComments PatientInstitutionResidence
        PatientInsurancePlanCodeSequence PatientMotherBirthName PatientPrimaryLanguageCodeSequence
        PatientPrimaryLanguageModifierCodeSequence PatientReligiousPreference PatientSize PatientState
        PatientTelecomInformation PatientTelephoneNumbers PatientTransportArrangements PatientWeight
        PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepEndDate
        PerformedProcedureStepEndDateTime PerformedProcedureStepEndTime PerformedProcedureStepID
        PerformedProcedureStepStartDate PerformedProcedureStepStartDateTime
        PerformedProcedureStepStartTime PerformedStationAETitle PerformedStationName
        PerformingPhysicianIdentificationSequence PerformingPhysicianName PersonAddress
        PersonTelecomInformation PersonTelephoneNumbers PhysiciansOfRecord
        PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence PlateID
        PreMedication PregnancyStatus PrescriptionDescription ROIDescription ROIGenerationDescription
        ROIObservationDescription ROIObservationLabel RTPlanDescription RTPlanName ReasonForStudy
        ReasonForTheImagingServiceRequest ReasonForTheRequestedProcedure ReasonForVisit
        ReferencedDigitalSignatureSequence ReferencedPatientAliasSequence ReferencedPatientPhotoSequence
        ReferencedPatientSequence ReferringPhysicianAddress ReferringPhysicianIdentificationSequence
        ReferringPhysicianTelephoneNumbers RegionOfResidence RequestAttributesSequence
        RequestedContrastAgent RequestedProcedureComments RequestedProcedureID RequestedProcedureLocation
        RequestingPhysician RequestingService ResponsibleOrganization ResponsiblePerson ResultsComments
        ScheduledPerformingPhysicianName ScheduledProcedureStepDescription ScheduledProcedureStepID
        ScheduledProcedureStepLocation ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime
        ScheduledStationAETitle ScheduledStationName SeriesDescription ServiceEpisodeDescription
        ServiceEpisodeID SlideIdentifier SmokingStatus SpecialNeeds SpecimenAccessionNumber
        SpecimenDetailedDescription SpecimenShortDescription StructureSetDescription StructureSetName
        StudyComments StudyDescription TextComments TextString TimezoneOffsetFromUTC TopicAuthor
        TopicKeywords TopicSubject TopicTitle TransducerIdentificationSequence TreatmentMachineName
        UDISequence UniqueDeviceIdentifier VisitComments""",
}
_OTHERS = frozenset(
    {
        *("EncapsulatedDocument", "DocumentTitle", "TextValue", "UnformattedTextValue", "RetrieveURL"),
        *("SourceApplicationEntityTitle", "SecondaryCaptureDeviceID", "ModifyingSystem"),
    }
)
_WELL_KNOWN_UIDS = frozenset(
    {
        *("SOPClassUID", "ReferencedSOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID"),
        *("ImplementationClassUID", "ContextUID", "MappingResourceUID", "CodingSchemeUID"),
        *("ReferencedSOPClassUIDInFile", "ReferencedTransferSyntaxUIDInFile", "SOPClassesInStudy"),
        *("EncryptedContentTransferSyntaxUID", "RelatedGeneralSOPClassUID", "OriginalSpecializedSOPClassUID"),
        *("PrivateInformationCreatorUID", "AvailableTransferSyntaxUID", "SOPClassesSupported"),
    }
)
_TELLING_VRS = frozenset({"PN", "DA", "DT", "TM"})


@cache
def table() -> dict[str, str]:
    """Keyword -> what the Basic Profile does with the element."""
    return {keyword: action for action, names in _ACTIONS.items() for keyword in names.split()}


@cache
def action(tag: int, vr: str) -> str:
    """What the Basic Profile does with an element; `?` where that is not known here, empty where it stays."""
    if tag & 0x00010000:
        return "X"
    entry = standard.lookup(tag)
    keyword = entry[1] if entry else ""
    if keyword in table():
        return table()[keyword]
    if 0x5000 <= tag >> 16 <= 0x50FF:
        return "X"
    if vr == "UI" and keyword not in _WELL_KNOWN_UIDS:
        return "U"
    return "?" if vr in _TELLING_VRS or keyword in _OTHERS else ""
