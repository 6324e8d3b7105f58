"""What the first bytes of a file say, checked against pydicom and against files of other kinds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicomlake.dicom.files import HEAD_BYTES, Kind, describe, is_dicomdir, sniff

TESTDATA = Path(os.environ.get("DICOMLAKE_TESTDATA", Path(__file__).parents[3] / "shared" / "data"))
PYDICOM_DATA = Path(pydicom.__file__).parent / "data"


def dataset(**values: object) -> Dataset:
    made = Dataset()
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.SOPInstanceUID = "1.2.3"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def written(content: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    """The data set alone, as pydicom writes it: no preamble, no File Meta Information."""
    target = io.BytesIO()
    dcmwrite(target, content, implicit_vr=implicit, little_endian=little)
    return target.getvalue()


def part10(content: Dataset) -> bytes:
    target = io.BytesIO()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(target, content, enforce_file_format=True)
    return target.getvalue()


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def read_by_pydicom(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:
            return False
    return True


@pytest.mark.parametrize("folder", [PYDICOM_DATA, TESTDATA], ids=["pydicom", "testdata"])
def test_part10_is_exactly_what_pydicom_reads_without_force(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip("no test data: set DICOMLAKE_TESTDATA")
    paths = list(files_below(folder))
    assert paths
    differing = [
        path.name
        for path in paths
        if (sniff(path.read_bytes()[:HEAD_BYTES]) is Kind.PART10) != read_by_pydicom(path)
    ]
    assert differing == []


def test_the_data_sets_without_file_meta_among_real_files_are_bare() -> None:
    """pydicom's list: it reads these three with force=True only; the fourth begins with a stray byte."""
    bare = {path.name for path in files_below(PYDICOM_DATA) if sniff(path.read_bytes()) is Kind.BARE}
    assert bare == {"ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm", "rtstruct.dcm"}


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_file_meta_is_bare_in_each_encoding(implicit: bool, little: bool) -> None:
    content = written(dataset(Modality="OT", Rows=3), implicit=implicit, little=little)
    assert sniff(content[:HEAD_BYTES]) is Kind.BARE
    assert "without file meta" in describe(content)


def test_a_data_set_that_begins_with_a_long_sequence_is_bare() -> None:
    code = Dataset()
    code.CodeMeaning = "x" * 60
    content = dataset()
    content.LanguageCodeSequence = Sequence([code] * 200)
    assert len(written(content)) > 2 * HEAD_BYTES
    assert sniff(written(content)[:HEAD_BYTES]) is Kind.BARE


@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_that_begins_with_a_sequence_of_undefined_length_is_bare(implicit: bool) -> None:
    content = dataset()
    content.LanguageCodeSequence = Sequence([dataset()])
    content["LanguageCodeSequence"].is_undefined_length = True
    assert sniff(written(content, implicit=implicit)) is Kind.BARE


def test_file_meta_without_preamble_before_an_implicit_data_set_is_bare() -> None:
    meta = struct.pack("<HH2sH18s", 2, 0x10, b"UI", 18, b"1.2.840.10008.1.2\0")
    assert sniff(meta + written(dataset(), implicit=True)) is Kind.BARE


def test_a_prefix_without_preamble_is_part10_only_before_elements() -> None:
    content = part10(dataset())
    assert sniff(content[128:]) is Kind.PART10
    assert sniff(b"DICM is the prefix of DICOM files.") is Kind.OTHER


def test_a_tiff_in_the_preamble_does_not_hide_a_dicom_file() -> None:
    content = part10(dataset())
    assert sniff(b"II*\0" + content[4:]) is Kind.PART10


def test_an_element_out_of_order_is_not_believed() -> None:
    first = struct.pack("<HH2sH4s", 8, 0x60, b"CS", 4, b"OT  ")
    second = struct.pack("<HH2sH4s", 8, 0x18, b"UI", 4, b"1.2\0")
    assert sniff(second + first) is Kind.BARE
    assert sniff(first + second) is Kind.OTHER


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_text_is_never_taken_for_dicom(text: str) -> None:
    assert sniff(text.encode()) is Kind.OTHER


@given(st.sampled_from([b"\x08\0\x05\0", b"\0\x08\0\x05", b"\x02\0\0\0", b"DICM"]), st.binary(max_size=64))
def test_any_bytes_behind_a_first_tag_get_an_answer(tag: bytes, tail: bytes) -> None:
    assert sniff(tag + tail) in (Kind.OTHER, Kind.BARE, Kind.PART10)
    assert describe(tag + tail)
    assert is_dicomdir(tag + tail) in (True, False)


def test_an_element_header_cut_short_is_not_dicom() -> None:
    content = written(dataset())
    assert all(sniff(content[:size]) is Kind.OTHER for size in range(1, 8))


def test_archives_are_told_by_their_bytes() -> None:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a", b"a")
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    old_tar = bytearray(tarred.getvalue())
    old_tar[257:265] = bytes(8)  # before POSIX there was no "ustar"
    old_tar[148:156] = b"%06o\0 " % (sum(old_tar[:148]) + sum(old_tar[156:512]) + 8 * 32)
    assert sniff(zipped.getvalue()) is Kind.ZIP
    assert sniff(tarred.getvalue()) is Kind.TAR
    assert sniff(bytes(old_tar)) is Kind.TAR
    assert sniff(gzip.compress(b"a")) is Kind.GZIP
    assert sniff(bz2.compress(b"a")) is Kind.BZIP2
    assert sniff(lzma.compress(b"a")) is Kind.XZ
    assert sniff(b"") is Kind.EMPTY


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"%PDF-1.7\n", "PDF document"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG image"),
        (struct.pack("<i", 348) + bytes(340) + b"n+1\0", "NIfTI"),
        (struct.pack(">i", 540) + b"n+2\0\r\n\x1a\n", "NIfTI-2"),
        (struct.pack("<i", 348) + bytes(344), "Analyze header"),
        (bytes(36) + b"acsp", "ICC profile"),
        (b'{"Modality": "MR"}', "JSON"),
        (b"[settings]\na = 1\n", "text"),
        (b"<?xml version='1.0'?>", "XML document"),
        (b"PatientID,Modality\n1,CT\n", "text"),
        ("Größe der Schicht\n".encode("latin-1"), "text"),
        (b"BMI table\n", "text"),
        (b"BM\x36\0\x0c\0\0\0\0\0", "BMP image"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7-Zip archive"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "macOS resource fork"),
        (bytes(64), "unknown binary"),
        (b"", "empty file"),
    ],
)
def test_what_is_not_dicom_is_named_for_people(head: bytes, name: str) -> None:
    assert sniff(head) in (Kind.OTHER, Kind.EMPTY)
    assert describe(head) == name


def test_a_dicomdir_is_told_by_its_sop_class_and_not_by_its_name() -> None:
    folder = PYDICOM_DATA / "test_files" / "dicomdirtests"
    named = {path for path in files_below(folder) if path.name.startswith("DICOMDIR")}
    assert len(named) > 5
    assert {path for path in files_below(folder) if is_dicomdir(path.read_bytes()[:HEAD_BYTES])} == named


def test_a_directory_without_file_meta_is_a_dicomdir() -> None:
    directory = Dataset()
    directory.FileSetID = "DISC"
    directory.FileSetConsistencyFlag = 0
    assert is_dicomdir(written(directory))
    assert not is_dicomdir(written(dataset()))
