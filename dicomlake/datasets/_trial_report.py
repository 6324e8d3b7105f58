"""The reports of the trial (Basic Text SR, PS3.3 A.35.1): a few sentences on each CT."""

from __future__ import annotations

from dicomlake.datasets import _headers as h
from dicomlake.datasets._trial_plan import Exam

REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"


def sentences(exam: Exam) -> tuple[str, str]:
    """Finding and impression."""
    size = f"{2 * exam.radius_mm} mm"
    fluid = "Small pleural effusion on the right." if exam.patient.number % 4 == 1 else "No pleural effusion."
    air = "Apical pneumothorax after biopsy." if exam.number == 1 and exam.patient.number % 6 == 0 else ""
    finding = f"Round lesion of {size} in the right lung. {fluid} {air}".strip()
    if exam.number == 0:
        return finding, "Baseline. Suspected bronchial carcinoma; Rückfrage an die Onkologie."
    change = "Partial response" if exam.patient.responds else "Progressive disease"
    return finding, f"{change} compared with the previous examination."


def report(exam: Exam) -> h.Elements:
    """SR Document General and Content modules (PS3.3 C.17.2, C.17.3)."""
    day = f"{exam.day:%Y%m%d}"
    finding, impression = sentences(exam)
    parts = (("121071", "Finding", finding), ("121073", "Impression", impression))
    return {
        **h.instance(REPORT_CLASS, exam.uid("report"), number=1, time="150000"),
        "InstanceCreationDate": day,
        "ContentDate": day,
        "ContentTime": "150000",
        "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED",
        "ValueType": "CONTAINER",
        "ContinuityOfContent": "SEPARATE",
        "ConceptNameCodeSequence": [h.code("18748-4", "Diagnostic imaging report", "LN")],
        "CurrentRequestedProcedureEvidenceSequence": [_evidence(exam)],
        "ContentSequence": [
            {
                "RelationshipType": "CONTAINS",
                "ValueType": "TEXT",
                "ConceptNameCodeSequence": [h.code(value, meaning, "DCM")],
                "TextValue": text,
            }
            for value, meaning, text in parts
        ],
    }


def _evidence(exam: Exam) -> h.Elements:
    """The first slice of the CT, which stands for the series."""
    ct = h.reference("1.2.840.10008.5.1.4.1.1.2", exam.uid("ct", "plane", 0))
    series = {"SeriesInstanceUID": exam.uid("ct", "series"), "ReferencedSOPSequence": [ct]}
    return {"StudyInstanceUID": exam.uid("ct", "study"), "ReferencedSeriesSequence": [series]}
