"""What is answered to a store: the Store Instances Response Module (PS3.18 annex I), as JSON or XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from dicomlake.network import statuses
from dicomlake.network.web.failures import WebError

JSON, XML = "application/dicom+json", "application/dicom+xml"
OFFERED = (JSON, "application/json", XML)
_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_SHOWN = 4  # reasons that the Warning header names

Element = tuple[str, str, Sequence[Any]]
"""Keyword, VR, values; those of a sequence are items."""

_TAGS = {
    "ReferencedSOPClassUID": "00081150",
    "ReferencedSOPInstanceUID": "00081155",
    "RetrieveURL": "00081190",
    "WarningReason": "00081196",
    "FailureReason": "00081197",
    "FailedSOPSequence": "00081198",
    "ReferencedSOPSequence": "00081199",
    "OtherFailuresSequence": "0008119A",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a part. code: 0 for stored, a warning, or a FailureReason of PS3.18 table I.2-2.

    The UIDs are empty where they could not be read. full: for want of space alone. detail: without values.
    """

    sop_class_uid: str
    sop_instance_uid: str
    code: int
    detail: str = ""
    full: bool = False

    @property
    def kept(self) -> bool:
        """Whether the lake has it."""
        return statuses.kind(self.code) in ("success", "warning")


@dataclass(slots=True)
class Answer:
    """What became of a request: of each part, in order, and why the rest was not read, if it was not."""

    results: list[Result] = field(default_factory=list)
    error: WebError | None = None

    @property
    def status(self) -> int:
        """Of the HTTP response (PS3.18 table 10.5.3-1)."""
        if self.error is not None:
            return self.error.status
        if not any(one.kept for one in self.results):
            return 503 if self.results and all(one.full for one in self.results) else 409
        return 200 if all(one.code == 0 for one in self.results) else 202

    def warning(self) -> str:
        """What went wrong in one line, for the Warning header; empty when nothing did."""
        failed = [one for one in self.results if not one.kept]
        words = [str(self.error)] if self.error is not None else []
        if failed:
            words.append(f"{len(failed)} of {len(self.results)} instances were not stored")
            reasons = Counter(one.detail for one in failed if one.detail).most_common(_SHOWN)
            words += [f"{count} x {why}" for why, count in reasons]
        return "; ".join(words)

    def elements(self) -> list[Element]:
        """The response module; what could not be named is in the Other Failures Sequence."""
        failed = [one for one in self.results if not one.kept]
        groups = {
            "FailedSOPSequence": [_failed(one) for one in failed if one.sop_instance_uid],
            "ReferencedSOPSequence": [_kept(one) for one in self.results if one.kept],
            "OtherFailuresSequence": [_reason(one) for one in failed if not one.sop_instance_uid],
        }
        sequences: list[Element] = [(name, "SQ", items) for name, items in groups.items() if items]
        return [("RetrieveURL", "UR", ()), *sequences]

    def body(self, media_type: str) -> bytes:
        """The response module in a media type of `OFFERED`."""
        if media_type == XML:
            root = ElementTree.Element("NativeDicomModel", {"xmlns": _NAMESPACE})
            _add_xml(root, self.elements())
            return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
        return json.dumps(_as_json(self.elements()), separators=(",", ":")).encode()


def _names(one: Result) -> list[Element]:
    return [
        ("ReferencedSOPClassUID", "UI", (one.sop_class_uid,)),
        ("ReferencedSOPInstanceUID", "UI", (one.sop_instance_uid,)),
    ]


def _reason(one: Result) -> list[Element]:
    return [("FailureReason", "US", (one.code,))]


def _failed(one: Result) -> list[Element]:
    return _names(one) + _reason(one)


def _kept(one: Result) -> list[Element]:
    warning: list[Element] = [("WarningReason", "US", (one.code,))] if one.code else []
    return [*_names(one), ("RetrieveURL", "UR", ()), *warning]


def _as_json(elements: Sequence[Element]) -> Mapping[str, Any]:
    """PS3.18 annex F."""
    return {
        _TAGS[keyword]: {"vr": vr}
        | ({"Value": [_as_json(one) if vr == "SQ" else one for one in values]} if values else {})
        for keyword, vr, values in elements
    }


def _add_xml(parent: ElementTree.Element, elements: Sequence[Element]) -> None:
    """PS3.19 section A.1."""
    for keyword, vr, values in elements:
        named = {"tag": _TAGS[keyword], "vr": vr, "keyword": keyword}
        node = ElementTree.SubElement(parent, "DicomAttribute", named)
        for number, value in enumerate(values, 1):
            inner = ElementTree.SubElement(node, "Item" if vr == "SQ" else "Value", {"number": str(number)})
            if vr == "SQ":
                _add_xml(inner, value)
            else:
                inner.text = str(value)
