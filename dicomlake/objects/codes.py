"""Coded concepts and references to instances, as every object that refers to images writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dicomlake.dicom.attributes import Attributes


class Code(NamedTuple):
    """A coded concept (PS3.3 section 8): what it means to a machine, and to a reader.

    version: of the coding scheme, None where the scheme needs none.
    """

    value: str
    scheme: str
    meaning: str
    version: str | None = None

    def is_one_of(self, *codes: tuple[str, str]) -> bool:
        """Whether it is one of these (value, scheme) pairs; the meaning is only for reading."""
        return (self.value, self.scheme) in codes

    def __str__(self) -> str:
        return f"{self.meaning} ({self.scheme} {self.value})"


class Reference(NamedTuple):
    """A reference to an instance, or to some of its frames or segments.

    frames: numbers from 1 as in ReferencedFrameNumber; empty means all. segments: likewise.
    """

    sop_instance_uid: str
    sop_class_uid: str = ""
    frames: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()
    series_uid: str | None = None


def code_of(item: Attributes) -> Code | None:
    """The concept that a code sequence item holds; None when it has no code at all.

    The value is in CodeValue, LongCodeValue or URNCodeValue, whichever it fits (PS3.3 8.1).
    """
    found = (item.text(keyword) for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue"))
    value = next((text for text in found if text), None)
    if value is None:
        return None
    scheme = item.text("CodingSchemeDesignator") or ""
    return Code(value, scheme, item.text("CodeMeaning") or "", item.text("CodingSchemeVersion"))


def codes_in(dataset: Attributes, keyword: str) -> tuple[Code, ...]:
    """The concepts of a code sequence."""
    return tuple(code for item in dataset.items(keyword) if (code := code_of(item)))


def code_in(dataset: Attributes, keyword: str) -> Code | None:
    """The first concept of a code sequence, None when it is absent or empty."""
    found = codes_in(dataset, keyword)
    return found[0] if found else None


def reference_of(item: Attributes, series_uid: str | None = None) -> Reference | None:
    """The reference that an item holds (PS3.3 10.3 and 10.8); None when it names no instance."""
    uid = item.text("ReferencedSOPInstanceUID")
    if not uid:
        return None
    return Reference(
        uid,
        item.text("ReferencedSOPClassUID") or "",
        tuple(int(n) for n in item.numbers("ReferencedFrameNumber")),
        tuple(int(n) for n in item.numbers("ReferencedSegmentNumber")),
        series_uid,
    )


def references_in(dataset: Attributes, keyword: str, series_uid: str | None = None) -> tuple[Reference, ...]:
    """The references of a sequence of them."""
    return tuple(ref for item in dataset.items(keyword) if (ref := reference_of(item, series_uid)))


def referenced_series(dataset: Attributes) -> Iterator[Reference]:
    """Every instance named by series: of this study and of others (PS3.3 C.12.4, C.11.11)."""
    places = (dataset, *dataset.items("StudiesContainingOtherReferencedInstancesSequence"))
    for place in places:
        for series in place.items("ReferencedSeriesSequence"):
            uid = series.text("SeriesInstanceUID")
            for keyword in ("ReferencedInstanceSequence", "ReferencedImageSequence"):
                yield from references_in(series, keyword, uid)


def evidence(dataset: Attributes) -> Iterator[Reference]:
    """Every instance that a document names as evidence (PS3.3 C.17.2.3), with its series."""
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.items(keyword):
            for series in study.items("ReferencedSeriesSequence"):
                uid = series.text("SeriesInstanceUID")
                yield from references_in(series, "ReferencedSOPSequence", uid)
