"""Documents and video inside DICOM objects: their bytes as they are, and what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from dicomlake.dicom.headers import Header, read_header
from dicomlake.errors import BrokenObject, DicomlakeError

_ENCAPSULATED_DOCUMENT = 0x00420011
_ROOT = "1.2.840.10008.5.1.4.1.1.104."
_MIME_OF_CLASS = {  # where MIMETypeOfEncapsulatedDocument is absent (PS3.3 A.45, A.104 …)
    _ROOT + "1": "application/pdf",
    _ROOT + "2": "text/XML",
    _ROOT + "3": "model/stl",
    _ROOT + "4": "model/obj",
    _ROOT + "5": "model/mtl",
}
_SUFFIXES = {
    "application/pdf": ".pdf",
    "text/xml": ".xml",
    "model/stl": ".stl",
    "model/obj": ".obj",
    "model/mtl": ".mtl",
    "video/mpeg": ".mpg",
    "video/mp4": ".mp4",
    "video/hevc": ".hevc",
    "video/avc": ".h264",
}
_TS = "1.2.840.10008.1.2.4."
_VIDEO = {  # tail of the transfer syntax -> what the stream is, when it is not a file of its own
    **dict.fromkeys(("100", "100.1", "101", "101.1"), "video/mpeg"),
    **dict.fromkeys(
        ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1"), "video/avc"
    ),
    **dict.fromkeys(("107", "108"), "video/hevc"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document or a video: `data`, byte for byte as it was put in, and its MIME type."""

    data: bytes = field(repr=False)
    mime: str

    @property
    def suffix(self) -> str:
        """The usual end of a file name."""
        return _SUFFIXES.get(self.mime.lower(), ".bin")

    def save(self, path: str | Path) -> Path:
        """Write it to a file; a folder gets `document` with the usual suffix. Returns the path."""
        target = Path(path)
        target = target / f"document{self.suffix}" if target.is_dir() else target
        target.write_bytes(self.data)
        return target

    def __repr__(self) -> str:
        return f"<Document {self.mime}, {len(self.data):,} bytes>"


def is_video(transfer_syntax: str) -> bool:
    """Whether the pixels of a transfer syntax are one video stream rather than frames."""
    return transfer_syntax.removeprefix(_TS) in _VIDEO and transfer_syntax.startswith(_TS)


def read_document(source: bytes) -> Document:
    """The document of an encapsulated PDF, CDA, STL, OBJ or MTL object, or the stream of a video.

    Raises DicomlakeError when the object holds neither, BrokenObject when it is cut off.
    """
    header = read_header(source)
    if header.pixels is not None and is_video(header.transfer_syntax):
        return _video(source, header)
    if _ENCAPSULATED_DOCUMENT not in header.dataset.elements:
        raise DicomlakeError("the object holds no document: EncapsulatedDocument is absent")
    data = _whole_value(source, header)
    sop_class = header.dataset.text("SOPClassUID") or ""
    mime = header.dataset.text("MIMETypeOfEncapsulatedDocument") or _MIME_OF_CLASS.get(sop_class)
    return Document(data, mime or "application/octet-stream")


def _whole_value(source: bytes, header: Header) -> bytes:
    """The value of EncapsulatedDocument without its padding (PS3.3 C.24.2.1)."""
    data = header.dataset.elements[_ENCAPSULATED_DOCUMENT][1]
    if not data:  # long values are located by the header, not copied
        from pydicom import dcmread
        from pydicom.filebase import DicomBytesIO

        data = bytes(dcmread(DicomBytesIO(source), force=True)[_ENCAPSULATED_DOCUMENT].value or b"")
    length = header.dataset.number("EncapsulatedDocumentLength")
    if length is not None and 0 < length <= len(data):
        return data[: int(length)]
    if not data:
        raise BrokenObject("EncapsulatedDocument is empty or cut off")
    return data[:-1] if len(data) % 2 == 0 and data.endswith(b"\0") else data


def _video(source: bytes, header: Header) -> Document:
    """All fragments of the pixel data, joined: an MPEG stream is one frame (PS3.5 8.2.5 to 8.2.8)."""
    from pydicom.encaps import generate_fragments, parse_basic_offsets
    from pydicom.filebase import DicomBytesIO

    assert header.pixels is not None
    stream = DicomBytesIO(source)
    stream.is_little_endian = True
    stream.seek(header.pixels.offset)
    try:
        parse_basic_offsets(stream)
        data = b"".join(generate_fragments(stream))
    except (ValueError, EOFError) as error:
        raise BrokenObject("the video stream is cut off") from error
    mp4 = re.match(rb"....ftyp", data[:8], re.DOTALL)
    return Document(data, "video/mp4" if mp4 else _VIDEO[header.transfer_syntax.removeprefix(_TS)])
