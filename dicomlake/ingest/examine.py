"""One object: read it, hash it, read its header; decide nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import Header, HeaderReader
from dicomlake.errors import NotADicomObject
from dicomlake.ingest.sources import Candidate, Content
from dicomlake.records import SeriesKey

IN_MEMORY = 64 << 20  # bytes of an object that is read whole; longer ones are read in pieces
_IDENTITY = {
    "SOPInstanceUID": 0x00080018,
    "SOPClassUID": 0x00080016,
    "SeriesInstanceUID": 0x0020000E,
    "StudyInstanceUID": 0x0020000D,
}


@dataclass(frozen=True, slots=True)
class Examined:
    """A DICOM object that can be named, with its hashes (hexadecimal SHA-256) and header.

    data: the whole object, None when it is too long to hold.
    """

    origin: str
    content: Content
    data: bytes | None
    sop_instance_uid: str
    sop_class_uid: str
    series: SeriesKey
    transfer_syntax: str
    size: int
    sha256: str
    dataset_sha256: str
    header: Attributes
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unusable:
    """An object that cannot be taken, and why.

    data: its bytes where they are at hand; sha256 is empty when it could not be read at all.
    """

    origin: str
    reason: str
    content: Content | None
    data: bytes | None = None
    sha256: str = ""
    size: int = 0


def examine(candidate: Candidate, headers: HeaderReader) -> Examined | Unusable:
    """Read an object; an Unusable one says why it cannot be taken."""
    content = candidate.content
    data: bytes | None = None
    sha256 = ""
    try:
        if content.size <= IN_MEMORY:
            data = content.read()
        sha256 = sha256_of(content, data, 0)
        header = headers.read(content if data is None else data)
        dataset_sha256 = sha256_of(content, data, header.dataset_offset)
    except NotADicomObject as error:
        return Unusable(candidate.origin, str(error), content, data, sha256, _size(content, data))
    except OSError as error:
        reason = (
            f"cannot be read ({error.strerror or type(error).__name__}): check its permissions and medium"
        )
        return Unusable(candidate.origin, reason, None)
    reason = unnamed(header.dataset)
    if reason:
        return Unusable(candidate.origin, reason, content, data, sha256, _size(content, data))
    return examined(candidate.origin, content, data, header, sha256, dataset_sha256)


def unnamed(dataset: Attributes) -> str:
    """Why an object cannot be named, or ''."""
    found = {keyword: dataset.text(tag) for keyword, tag in _IDENTITY.items()}
    missing = [keyword for keyword, uid in found.items() if not uid]
    if missing:
        return f"has no {' and no '.join(missing)}: correct the object and ingest it again"
    unclear = [keyword for keyword, uid in found.items() if "\0" in (uid or "")]
    if unclear:  # some programs end the UID there, others do not: they would name different objects
        return f"has NUL within {' and '.join(unclear)}: correct the object and ingest it again"
    return ""


def examined(
    origin: str, content: Content, data: bytes | None, header: Header, sha256: str, dataset_sha256: str
) -> Examined:
    """What is known of an object that can be named."""
    uid = {keyword: header.dataset.text(tag) or "" for keyword, tag in _IDENTITY.items()}
    return Examined(
        origin=origin,
        content=content,
        data=data,
        sop_instance_uid=uid["SOPInstanceUID"],
        sop_class_uid=uid["SOPClassUID"],
        series=SeriesKey(uid["StudyInstanceUID"], uid["SeriesInstanceUID"]),
        transfer_syntax=header.transfer_syntax,
        size=_size(content, data),
        sha256=sha256,
        dataset_sha256=dataset_sha256,
        header=header.dataset,
        problems=header.problems,
    )


def _size(content: Content, data: bytes | None) -> int:
    return content.size if data is None else len(data)


def sha256_of(content: Content, data: bytes | None = None, start: int = 0) -> str:
    """SHA-256, in hexadecimal, from `start` to the end; of `data` where the bytes are at hand."""
    if data is not None:
        return hashlib.sha256(memoryview(data)[start:]).hexdigest()
    digest, skip = hashlib.sha256(), start
    for chunk in content.chunks():
        if skip < len(chunk):
            digest.update(memoryview(chunk)[skip:])
        skip = max(0, skip - len(chunk))
    return digest.hexdigest()
