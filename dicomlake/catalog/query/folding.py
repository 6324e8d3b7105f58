"""Text without case and accents, so that "jose" finds "José"; and which elements are compared so.

Folding is the default for names and free text. What identifies, UIDs and codes are compared as written:
two patients may differ in the case of a letter.
"""

from __future__ import annotations

from unicodedata import normalize

FOLDED_VRS = frozenset({"PN", "LO", "SH", "LT", "ST", "UC", "UT"})

# Elements of those VRs that name one person, object or order.
IDENTIFIERS = frozenset(
    {
        *("PatientID", "IssuerOfPatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID"),
        *("ServiceEpisodeID", "RequestedProcedureID", "ScheduledProcedureStepID", "PerformedProcedureStepID"),
        *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
        *(
            "DeviceSerialNumber",
            "GantryID",
            "CassetteID",
            "PlateID",
            "ContainerIdentifier",
            "SpecimenIdentifier",
        ),
        *("ClinicalTrialProtocolID", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
        *("CodeValue", "TrackingID"),
    }
)

# Letters that Unicode does not take apart into a letter and an accent.
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
)


def fold(text: str) -> str:
    """Text in one case, without accents or differences of width (NFKC); folding it again changes nothing.

    Marks that make another letter, as in kana, stay: only U+0300 to U+036F are accents here.
    """
    if text.isascii():
        return text.lower()
    bare = "".join(c for c in normalize("NFKD", text) if not "\u0300" <= c <= "\u036f")
    return normalize("NFKC", bare.casefold().translate(_LETTERS))


def fold_value(vr: str, text: str) -> str | None:
    """A value as `attributes.fold` holds it; None for VRs that are compared as written."""
    if vr not in FOLDED_VRS:
        return None
    return fold(plain_name(text)) if vr == "PN" else fold(text)


def plain_name(text: str) -> str:
    """A PN without what says nothing: spaces around components, trailing delimiters (PS3.5 6.2.1.2)."""
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("="))
    return "=".join(groups).rstrip("=")
