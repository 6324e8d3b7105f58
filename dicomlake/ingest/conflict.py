"""Two objects under one SOPInstanceUID: in what they differ, told without any value."""

from __future__ import annotations

from dicomlake.catalog.blocks import is_catalogued
from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import NotADicomObject, StorageError
from dicomlake.ingest.settle import read_original
from dicomlake.records import Finding, Instance
from dicomlake.storage.objectstore import Storage

_NAMED = 10  # elements that a message names


def conflict(one: Attributes, other: Attributes | None) -> str:
    """The message about an object and the one before it; None when that cannot be read."""
    if other is None:
        return "another object has this SOPInstanceUID, and it cannot be read"
    return f"another object with this SOPInstanceUID differs in {difference(one, other)}"


def header_of(storage: Storage, instance: Instance) -> Attributes | None:
    """The header of an original; None when it cannot be read."""
    try:
        return read_original(storage, instance)
    except (StorageError, NotADicomObject):
        return None


def difference(one: Attributes, other: Attributes) -> str:
    """The keywords of the elements that differ, the same for both orders."""
    tags = filter(is_catalogued, one.elements.keys() | other.elements.keys())
    names = [_keyword(tag) for tag in sorted(tags) if one.elements.get(tag) != other.elements.get(tag)]
    if not names:
        return "its pixels or its encoding"
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more elements" if more > 0 else "")


def conflict_finding(sop_instance_uid: str, message: str) -> Finding:
    """The finding about a conflict."""
    return Finding("warning", "conflict", sop_instance_uid, message)


def _keyword(tag: int) -> str:
    entry = standard.lookup(tag)
    return entry[1] if entry and entry[1] else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
