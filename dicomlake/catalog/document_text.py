"""The text of a series, to be searched: descriptions, content trees of reports, encapsulated documents.

What is one field becomes a paragraph, so that no phrase is found across two.
"""

from __future__ import annotations

import html.parser
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol
from xml.parsers import expat

from dicomlake.catalog.blocks import SeriesHeaders
from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.values import decode
from dicomlake.errors import BrokenObject, DicomlakeError

MAX_TEXT = 2_000_000  # characters of one text that are kept: 1,000 pages
MAX_PAGES = 2000
_MAX_DISTINCT = 100  # values of one description in a series
_CONTENT = 0x0040A730
_DOCUMENT = 0x00420011

_DESCRIPTIONS = (
    *("StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription"),
    *("PerformedProcedureStepDescription", "ScheduledProcedureStepDescription", "BodyPartExamined"),
    *("ReasonForTheRequestedProcedure", "ReasonForStudy", "AdmittingDiagnosesDescription"),
    *("AdditionalPatientHistory", "MedicalAlerts", "Allergies", "PatientComments", "StudyComments"),
    *("RequestedProcedureComments", "ImageComments", "FrameComments", "AcquisitionComments"),
    *("DerivationDescription", "ContrastBolusAgent", "ContentDescription", "DocumentTitle"),
    *("StructureSetLabel", "StructureSetName", "StructureSetDescription", "RTPlanLabel", "RTPlanName"),
    *("RTPlanDescription", "ClinicalTrialProtocolName", "AcquisitionProtocolDescription"),
)
_NESTED = (
    ("ProcedureCodeSequence", "CodeMeaning"),
    ("RequestedProcedureCodeSequence", "CodeMeaning"),
    ("AdmittingDiagnosesCodeSequence", "CodeMeaning"),
    ("ReasonForRequestedProcedureCodeSequence", "CodeMeaning"),
    ("AnatomicRegionSequence", "CodeMeaning"),
    ("RequestAttributesSequence", "RequestedProcedureDescription"),
    ("RequestAttributesSequence", "ScheduledProcedureStepDescription"),
    ("ConceptNameCodeSequence", "CodeMeaning"),
    ("SegmentSequence", "SegmentLabel"),
    ("SegmentSequence", "SegmentDescription"),
    ("StructureSetROISequence", "ROIName"),
    ("StructureSetROISequence", "ROIDescription"),
    ("RTROIObservationsSequence", "ROIObservationLabel"),
)
_VALUES = ("TextValue", "PersonName", "Date", "Time", "DateTime")


class DocumentText(NamedTuple):
    """One text. kind: description, of the series; report or document, of one instance."""

    kind: str
    sop_instance_uid: str | None
    text: str


class Document(Protocol):
    """A document that lay in an object (`objects.documents.Document`)."""

    @property
    def data(self) -> bytes:
        """Its bytes."""

    @property
    def mime(self) -> str:
        """Its MIME type."""


class TextError(DicomlakeError):
    """The text of a document cannot be read."""


# ---- headers -----------------------------------------------------------------------------------------


def description(headers: SeriesHeaders) -> str:
    """The descriptions of a series, from all its instances; each value once."""
    found: dict[str, None] = {}
    for group in headers.groups:
        constant = group.attributes(group.constant)
        for name in _DESCRIPTIONS:
            found |= dict.fromkeys(constant.texts(name))
        for sequence, name in _NESTED:
            found |= dict.fromkeys(_nested(constant, sequence, name))
        for name in (*_DESCRIPTIONS, *dict.fromkeys(sequence for sequence, _name in _NESTED)):
            cells = group.varying.get(standard.tag_of(name) or 0)
            if cells is None:
                continue
            tag = standard.tag_of(name) or 0
            for raw in list(dict.fromkeys(cell for cell in cells if cell))[:_MAX_DISTINCT]:
                own = group.attributes({tag: raw})
                inner = (text for of, one in _NESTED if of == name for text in _nested(own, name, one))
                found |= dict.fromkeys([*own.texts(name), *inner])
    return "\n\n".join(text for text in found if text.strip())[:MAX_TEXT]


def _nested(attributes: Attributes, sequence: str, name: str) -> Iterator[str]:
    try:
        for item in attributes.items(sequence):
            yield from item.texts(name)
    except BrokenObject:
        return


def has_content(headers: SeriesHeaders) -> bool:
    """Whether instances of a series have a content tree."""
    return any(_CONTENT in group.constant or _CONTENT in group.varying for group in headers.groups)


def has_document(headers: SeriesHeaders) -> bool:
    """Whether instances of a series have an encapsulated document."""
    return any(_DOCUMENT in group.constant or _DOCUMENT in group.varying for group in headers.groups)


def is_cut(header: Attributes) -> bool:
    """Whether the content tree is too long for the catalog, and in the original only."""
    raw = header.elements.get(_CONTENT)
    return raw is not None and not raw[1]


def report(header: Attributes) -> str:
    """All text of a content tree (PS3.3 C.17.3): concept names, texts, codes, names, dates, numbers.

    Raises BrokenObject when it cannot be read.
    """
    return "\n\n".join(_items(header, 0))[:MAX_TEXT]


def _items(item: Attributes, depth: int) -> Iterator[str]:
    line = _line(item)
    if line:
        yield line
    if depth < 64:  # deeper than any template
        for child in item.items(_CONTENT):
            yield from _items(child, depth + 1)


def _line(item: Attributes) -> str:
    name = next(_nested(item, "ConceptNameCodeSequence", "CodeMeaning"), "")
    values = [text for keyword in _VALUES for text in item.texts(keyword)]
    values += _nested(item, "ConceptCodeSequence", "CodeMeaning")
    for measured in item.items("MeasuredValueSequence"):
        values += measured.texts("NumericValue")
        values += _nested(measured, "MeasurementUnitsCodeSequence", "CodeMeaning")
    value = " ".join(values)
    return f"{name}: {value}" if name and value else name or value


# ---- documents ---------------------------------------------------------------------------------------


def document(found: Document, charset: tuple[str, ...] = ()) -> str:
    """The text of an encapsulated document: PDF (by pypdf), CDA and other XML, HTML, plain text.

    charset: SpecificCharacterSet of the object, for plain text that is not UTF-8.
    Raises TextError naming the cause when there is none to be had.
    """
    mime = found.mime.split(";")[0].strip().lower()
    reader = _READERS.get(mime)
    if reader is None:
        raise TextError("is of a type without text that can be read")
    return reader(found.data, charset)[:MAX_TEXT]


def _pdf(data: bytes, _charset: tuple[str, ...]) -> str:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise TextError("is a PDF: install pypdf, then index again") from None
    import logging

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs what it stumbles over
    try:
        pages = PdfReader(io.BytesIO(data)).pages
        texts: list[str] = []
        for number in range(min(len(pages), MAX_PAGES)):
            texts.append(pages[number].extract_text())
            if sum(map(len, texts)) > MAX_TEXT:
                break
    except Exception as error:  # a foreign parser on foreign bytes: anything may come out of it
        raise TextError(f"is a PDF that cannot be read ({type(error).__name__})") from None
    if not any(text.strip() for text in texts):
        raise TextError("is a PDF without text, such as a scan")
    return "\n\n".join(texts)


def _xml(data: bytes, _charset: tuple[str, ...]) -> str:
    """The character data of an XML document; an element ends a paragraph only where CDA has blocks."""
    pieces: list[str] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.CharacterDataHandler = pieces.append
    parser.EndElementHandler = lambda name: pieces.append(_BREAKS.get(name.rpartition(":")[2].lower(), " "))
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise TextError(f"is XML that cannot be read (line {error.lineno})") from None
    return _tidy("".join(pieces))


def _refuse_entity(*_declared: object) -> None:
    raise TextError("is XML that declares entities, which no CDA does")


_BREAKS = dict.fromkeys(
    ("title", "paragraph", "item", "caption", "td", "th", "tr", "list", "text", "section", "p", "div", "li"),
    "\n\n",
) | {"br": "\n"}


class _Html(html.parser.HTMLParser):
    """Collects what a page shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        del attrs
        self._hidden += tag in ("script", "style")
        self.pieces.append("\n" if tag == "br" else "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0
        self.pieces.append(_BREAKS.get(tag, "\n\n" if re.fullmatch("h[1-6]", tag) else ""))

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def _html(data: bytes, charset: tuple[str, ...]) -> str:
    page = _Html()
    page.feed(_plain(data, charset))
    page.close()
    return _tidy("".join(page.pieces))


def _plain(data: bytes, charset: tuple[str, ...]) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return decode(data, charset)


def _tidy(text: str) -> str:
    paragraphs = (re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(filter(None, paragraphs))


_READERS: dict[str, Callable[[bytes, tuple[str, ...]], str]] = {
    "application/pdf": _pdf,
    "text/xml": _xml,
    "application/xml": _xml,
    "application/hl7-cda+xml": _xml,
    "text/html": _html,
    "application/xhtml+xml": _html,
    "text/plain": _plain,
}
