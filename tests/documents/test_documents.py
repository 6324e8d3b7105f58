"""Encapsulated documents and video streams come out byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, EncapsulatedPDFStorage, EncapsulatedSTLStorage

from dicomlake.errors import BrokenObject, DicomlakeError
from dicomlake.objects.documents import is_video, read_document
from tests.dicom.phantoms import as_bytes, slice_dataset

PDF = b"%PDF-1.7\nodd"


def document(content: bytes, **others: object) -> bytes:
    ds = slice_dataset(SOPClassUID=EncapsulatedPDFStorage)
    del ds.PixelData
    ds.EncapsulatedDocument = content
    for keyword, value in others.items():
        setattr(ds, keyword, value)
    return as_bytes(ds)


def test_padding_is_taken_off_and_nothing_else() -> None:
    assert len(PDF) % 2 == 0
    for content in (PDF, PDF + b"x"):
        found = read_document(document(content, MIMETypeOfEncapsulatedDocument="application/pdf"))
        assert (found.data, found.mime, found.suffix) == (content, "application/pdf", ".pdf")


def test_the_stated_length_keeps_a_nul_at_the_end() -> None:
    content = PDF + b"\0\0"
    assert read_document(document(content, EncapsulatedDocumentLength=len(content))).data == content


def test_a_document_of_several_megabytes_is_read_whole() -> None:
    content = bytes(range(256)) * 10_000
    assert read_document(document(content)).data == content


def test_the_class_tells_the_type_where_the_object_does_not() -> None:
    found = read_document(document(b"solid", SOPClassUID=EncapsulatedSTLStorage))
    assert (found.mime, found.suffix) == ("model/stl", ".stl")


def test_a_video_is_its_stream() -> None:
    stream = bytes(4) + b"ftypmp42" + bytes(range(200))
    ds = slice_dataset(NumberOfFrames=30)
    ds.file_meta.TransferSyntaxUID = MPEG4HP41
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    found = read_document(as_bytes(ds))
    assert (found.data, found.mime) == (stream, "video/mp4")
    assert is_video(MPEG4HP41)
    assert not is_video("1.2.840.10008.1.2.4.50")


def test_it_is_saved_under_the_name_given_or_a_usual_one(tmp_path: Path) -> None:
    found = read_document(document(PDF, MIMETypeOfEncapsulatedDocument="application/pdf"))
    assert found.save(tmp_path).name == "document.pdf"
    assert found.save(tmp_path / "a.pdf").read_bytes() == PDF


def test_the_repr_says_nothing_of_the_content() -> None:
    assert repr(read_document(document(PDF))) == "<Document application/pdf, 12 bytes>"


def test_what_holds_no_document_is_refused() -> None:
    with pytest.raises(DicomlakeError, match="no document"):
        read_document(as_bytes(slice_dataset()))
    with pytest.raises(BrokenObject, match="empty"):
        read_document(document(b""))
