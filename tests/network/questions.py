"""Queries as a peer sends them, their answers as pydicom reads them, and PS3.4's rules once more.

The rules are written down here a second time, slowly and on the values of pydicom, so that what the
receiver answers has something independent to agree with.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from io import BytesIO
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from dicomlake.network.seams import Command, Message, Replies, Reply, Sender

ROOT = "1.2.840.10008.5.1.4.1.2."
PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY = f"{ROOT}1.", f"{ROOT}2.", f"{ROOT}3."
FIND, MOVE, GET = "1", "2", "3"
_FIELDS = {FIND: 0x0020, MOVE: 0x0021, GET: 0x0010}
SENDER = Sender("ASKER", "DICOMLAKE", "127.0.0.1", "association-1", "asker")
OF_THE_ANSWER = ("QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability", "SpecificCharacterSet")
LOWER = {"PATIENT": "", "STUDY": "SeriesInstanceUID", "SERIES": "SOPInstanceUID", "IMAGE": ""}


def keys(level: str, charset: str | None = None, **elements: Any) -> Dataset:
    """An identifier; a value of "" is a key that everything matches."""
    ds = Dataset()
    if charset:
        ds.SpecificCharacterSet = charset
    ds.QueryRetrieveLevel = level
    for keyword, value in elements.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return ds


def encoded(ds: Dataset, syntax: UID = ImplicitVRLittleEndian) -> bytes:
    """A data set as it goes over the wire."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, ds)
    return buffer.getvalue()


def decoded(data: object, syntax: UID = ImplicitVRLittleEndian) -> Dataset:
    """A data set as pydicom reads it."""
    assert isinstance(data, bytes)
    return read_dataset(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)


def message(
    ds: Dataset | bytes,
    model: str = STUDY_ROOT,
    kind: str = FIND,
    syntax: UID = ImplicitVRLittleEndian,
    contexts: dict[str, list[str]] | None = None,
    **fields: Any,
) -> Message:
    """A request."""
    command: Command = {0x0002: model + kind, 0x0100: _FIELDS[kind], 0x0110: 7, 0x0700: 0}
    command |= {int(name[1:], 16): value for name, value in fields.items()}
    data = ds if isinstance(ds, bytes) else encoded(ds, syntax)
    return Message(command, data, model + kind, str(syntax), SENDER, contexts or {})


def all_of(replies: Replies) -> tuple[list[Reply], Reply]:
    """The pending responses, and the final one."""
    *pending, final = list(replies)
    assert all(int(one.command[0x0900]) in (0xFF00, 0xFF01) for one in pending)
    return pending, final


def answers(replies: Replies, syntax: UID = ImplicitVRLittleEndian) -> list[Dataset]:
    """The matches of a query that succeeds."""
    pending, final = all_of(replies)
    assert final.command[0x0900] == 0
    assert not final.dataset
    return [decoded(one.dataset, syntax) for one in pending]


# ---- PS3.4 section C.2.2.2, by brute force -----------------------------------------------------------


def wild(pattern: str, text: str) -> bool:
    """* and ? by trying everything."""

    @cache
    def from_here(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(text)
        if pattern[i] == "*":
            return from_here(i + 1, j) or (j < len(text) and from_here(i, j + 1))
        return j < len(text) and pattern[i] in ("?", text[j]) and from_here(i + 1, j + 1)

    return from_here(0, 0)


def plain(name: str) -> str:
    """A name without case and accents."""
    bare = unicodedata.normalize("NFD", name.casefold())
    return "".join(c for c in bare if unicodedata.category(c) != "Mn")


def in_range(key: str, value: str) -> bool:
    """Dates YYYYMMDD, or times to the second."""
    low, _, high = key.partition("-")
    return (not low or int(low) <= int(value)) and (not high or int(value) <= int(high))


def agrees(keyword: str, key: str, found: Sequence[str]) -> bool:
    """Whether an element with these values, as text, matches a key."""
    vr = dictionary_VR(keyword)
    if not key or key == "*":
        return True
    alternatives = key.split("\\")
    return any(_agrees(vr, one, value) for one in alternatives for value in found if value)


def _agrees(vr: str, key: str, value: str) -> bool:
    if vr == "PN":
        return any(wild(plain(key), plain(group)) for group in value.split("="))
    if vr in ("DA", "TM") and "-" in key:
        return in_range(key, value)
    if vr in ("IS", "DS", "US"):
        return float(key) == float(value)
    return wild(key, value) if vr not in ("UI", "DA", "TM") else key == value


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of an element, as text."""
    if keyword not in ds or ds[keyword].value is None:
        return ()
    value = ds[keyword].value
    several = list(value) if ds[keyword].VM > 1 else [value]
    found = tuple(str(one) for one in several)
    return found if any(found) else ()


UNIQUE = {
    "PATIENT": ("PatientID",),
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("SOPInstanceUID",),
}


_COUNTED = {"Studies": "StudyInstanceUID", "Series": "SeriesInstanceUID", "Instances": "SOPInstanceUID"}
_OF = {"Patient": "PatientID", "Study": "StudyInstanceUID", "Series": "SeriesInstanceUID"}


def entities(objects: Iterable[Dataset], level: str) -> dict[tuple[str, ...], list[Dataset]]:
    """The objects of each entity of a level."""
    found: dict[tuple[str, ...], list[Dataset]] = {}
    for ds in objects:
        found.setdefault(tuple(str(ds.get(name, "")) for name in UNIQUE[level]), []).append(ds)
    return found


def held(objects: Sequence[Dataset], some: Sequence[Dataset], keyword: str) -> Iterator[tuple[str, ...]]:
    """What an entity holds of an element, whose objects are `some`; counts and lists over all objects."""
    for ds in some:
        if keyword in ("ModalitiesInStudy", "SOPClassesInStudy"):
            of = "Modality" if keyword == "ModalitiesInStudy" else "SOPClassUID"
            beside = _beside(objects, ds, "Study")
            yield tuple(sorted({str(one[of].value) for one in beside if of in one and one[of].value}))
        elif keyword.startswith("NumberOf") and "Related" in keyword:
            level, _, counted = keyword.removeprefix("NumberOf").partition("Related")
            key = _COUNTED
            yield (str(len({str(one[key[counted]].value) for one in _beside(objects, ds, level)})),)
        else:
            yield texts(ds, keyword)


def _beside(objects: Sequence[Dataset], ds: Dataset, level: str) -> list[Dataset]:
    key = _OF[level]
    return [one for one in objects if one.get(key, "") == ds.get(key, "")]


def expected(objects: Sequence[Dataset], asked: Dataset) -> set[tuple[str, ...]]:
    """The entities that match an identifier: each key by any of its objects (an object by all itself)."""
    level = asked.QueryRetrieveLevel
    wanted = {e.keyword: "\\".join(texts(asked, e.keyword)) for e in asked if e.keyword not in OF_THE_ANSWER}
    return {
        name
        for name, some in entities(objects, level).items()
        if all(
            agrees(keyword, key, [value for one in held(objects, some, keyword) for value in one])
            for keyword, key in wanted.items()
        )
    }


def names_of(found: Iterable[Dataset], level: str) -> list[tuple[str, ...]]:
    """The unique keys of answers."""
    return [tuple(str(ds.get(name, "")) for name in UNIQUE[level]) for ds in found]


assert all(tag_for_keyword(keyword) for keyword in OF_THE_ANSWER)
