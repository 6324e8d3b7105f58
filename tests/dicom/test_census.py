"""A census: every image at hand is decoded as another decoder does, or refused for a reason listed here.

First, middle and last frame of each object. Values are compared after pydicom has masked them to
BitsStored and made RGB of YBR, as ours are. They are equal but where a tolerance says why they need not be.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.pixels import FrameReader
from dicomlake.errors import BrokenObject, DicomlakeError
from tests.support import pydicom_files, real_data_folder

# What is refused: the end of the path, the error, what it says. Nothing else may be.
REFUSED: dict[str, tuple[type[DicomlakeError], str]] = {
    # four bytes of the stream were overwritten
    "pydicom/test_files/JPEG2000-embedded-sequence-delimiter.dcm": (BrokenObject, "1024 x 256 is described"),
    "pydicom/test_files/MR_truncated.dcm": (BrokenObject, "cut off"),
    "pydicom/test_files/badVR.dcm": (BrokenObject, "NumberOfFrames is missing or no number"),
    "pydicom/test_files/meta_missing_tsyntax.dcm": (BrokenObject, "BitsAllocated is missing"),
    "pydicom/test_files/nested_priv_SQ.dcm": (BrokenObject, "BitsAllocated is missing"),
    "nm-heart/3gb-bulk-data-truncated": (BrokenObject, "MONOCHROME2 with 3 SamplesPerPixel is wrong"),
    # its first fragment lies behind what the data set claims
    "us-cine-jpeg/integration_test/data/example3.dcm": (BrokenObject, "does not begin as JPEG"),
}

# What pydicom cannot read as it is (the delimiter behind the pixels is cut off), and what it was made from.
TWINS = {"pydicom-data/emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom-data/emri_small.dcm"}

# Decoders by pydicom that share no code with ours, and how far they may differ. The inverse DCT of JPEG
# may differ by 1 (ISO 10918-1); from YCbCr to RGB libjpeg rounds in fixed, pydicom in floating point.
OTHERS: dict[str, tuple[tuple[str, ...], int]] = {
    uid.JPEGBaseline8Bit: (("gdcm", "pillow"), 1),
    uid.JPEGLossless: (("gdcm",), 0),
    uid.JPEGLosslessSV1: (("gdcm",), 0),
    uid.JPEGLSLossless: (("gdcm", "pyjpegls"), 0),
    uid.JPEGLSNearLossless: (("gdcm", "pyjpegls"), 0),
    uid.JPEG2000Lossless: (("gdcm", "pylibjpeg"), 0),
    uid.JPEG2000: (("gdcm", "pylibjpeg"), 0),
    uid.HTJ2KLossless: (("pylibjpeg",), 0),
    uid.HTJ2K: (("pylibjpeg",), 0),
    uid.RLELossless: (("pydicom", "pylibjpeg"), 0),
}
TWELVE_BIT = {f"1.2.840.10008.1.2.4.{tail}" for tail in (51, 53, 55)}
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
NO_DICOM = {".nii", ".json", ".tsv", ".md", ".gz", ".bval", ".bvec", ".txt"}


def folders() -> list[str]:
    """The folders of real files, by name, and the wheel of pydicom."""
    root = real_data_folder()
    return ["pydicom", *(sorted(path.name for path in root.iterdir() if path.is_dir()) if root else [])]


def objects(folder: str) -> Iterator[tuple[str, bytes, Header]]:
    """Path below the folder, bytes and header of each object with pixel data."""
    root = real_data_folder()
    if folder == "pydicom":
        base, paths = Path(pydicom.__file__).parent / "data", pydicom_files()
    else:
        assert root is not None
        base = root / folder
        paths = sorted(path for path in base.rglob("*") if path.is_file())
    for path in paths:
        if path.suffix in NO_DICOM:
            continue
        data = path.read_bytes()
        try:
            header = read_header(data)
        except DicomlakeError:
            continue
        if header.pixels is not None:
            yield path.relative_to(base).as_posix(), data, header


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """pydicom logs the whole trace of each decoder that cannot."""
    caplog.set_level("CRITICAL", logger="pydicom")


@pytest.mark.parametrize("folder", folders())
def test_every_frame_is_that_of_another_decoder_or_refused_for_a_known_reason(folder: str) -> None:
    refused, unproven = {}, []
    for name, data, header in objects(folder):
        key = f"{folder}/{name}"
        try:
            reader = FrameReader(data, header)
            frames = sorted({0, reader.frames // 2, reader.frames - 1})
            ours = {index: reader.frame(index) for index in frames}
        except DicomlakeError as error:
            refused[key] = error
            continue
        if key in TWINS:
            data = (real_data_folder() / TWINS[key]).read_bytes()
            header = read_header(data)
        if not all(_proven(data, header, index, frame) for index, frame in ours.items()):
            unproven.append(key)
    expected = {key: why for key, why in REFUSED.items() if key.startswith(folder + "/")}
    assert refused.keys() == expected.keys()
    for key, error in refused.items():
        assert type(error) is expected[key][0], key
        assert expected[key][1] in str(error), key
    assert unproven == []


def _proven(data: bytes, header: Header, index: int, frame: np.ndarray) -> bool:
    """Whether another decoder gives the same frame. Fails when one gives another."""
    tolerance = OTHERS.get(header.transfer_syntax, ((), 0))[1]
    found = 0
    if header.transfer_syntax in TWELVE_BIT:  # others wrap what overshoots BitsStored around, we do not
        frame = frame & _mask(header)
    for theirs in _others(data, header, index):
        assert theirs.shape == frame.shape
        if frame.dtype.kind == "f":
            assert np.array_equal(frame, theirs, equal_nan=True)
        else:
            assert np.abs(frame.astype(np.int64) - theirs.astype(np.int64)).max() <= tolerance
        found += 1
    return found > 0


def _others(data: bytes, header: Header, index: int) -> Iterator[np.ndarray]:
    bits = header.dataset.number("BitsAllocated")
    if header.transfer_syntax == DEFLATED_FRAMES or (bits == 1 and header.transfer_syntax == uid.RLELossless):
        assert bits == 1
        yield _single_bits(data, header, index)
    elif header.transfer_syntax in TWELVE_BIT:
        yield _by_insight_toolkit(data, header, index)
    else:
        for plugin in OTHERS.get(header.transfer_syntax, (("",), 0))[0]:
            theirs = _by_pydicom(data, header, index, plugin)
            if theirs is not None:
                yield theirs


def _by_pydicom(data: bytes, header: Header, index: int, plugin: str) -> np.ndarray | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what it mends, in files made to be broken
        try:
            ds = pydicom.dcmread(BytesIO(data), force=True)
            ds.file_meta.TransferSyntaxUID = uid.UID(header.transfer_syntax)
            decoder = get_decoder(uid.UID(header.transfer_syntax))
            return decoder.as_array(ds, index=index, decoding_plugin=plugin)[0]
        except (RuntimeError, ValueError, AttributeError, NotImplementedError, TypeError, EOFError):
            return None


def _by_insight_toolkit(data: bytes, header: Header, index: int) -> np.ndarray:
    """No decoder of pydicom reads JPEG of 12 bits; gdcm inside SimpleITK does, and rescales: undone here."""
    import SimpleITK

    with NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(file.name)
        values = SimpleITK.GetArrayFromImage(reader.Execute())
    said = header.dataset
    for group in said.items("SharedFunctionalGroupsSequence"):
        said = next(iter(group.items("PixelValueTransformationSequence")), said)
    stored = (values - (said.number("RescaleIntercept") or 0)) / (said.number("RescaleSlope") or 1)
    assert np.array_equal(stored, np.rint(stored))
    if header.dataset.text("PhotometricInterpretation") == "MONOCHROME1":
        stored = _mask(header) - stored  # it inverts those
    return stored[index].astype(np.int64) & _mask(header)


def _mask(header: Header) -> int:
    return (1 << int(header.dataset.number("BitsStored") or 0)) - 1


def _single_bits(data: bytes, header: Header, index: int) -> np.ndarray:
    """Packed bits in RLE or deflated frames, by hand: pydicom 3.0 reads neither."""
    assert header.pixels is not None
    number = header.dataset.number
    rows, columns, count = (int(number(word) or 1) for word in ("Rows", "Columns", "NumberOfFrames"))
    value = data[header.pixels.offset : header.pixels.end]
    frame = get_frame(value, index, number_of_frames=count)
    if header.transfer_syntax == uid.RLELossless:
        raw = _unpacked(frame[64:])
    else:
        raw = zlib.decompress(frame, wbits=-zlib.MAX_WBITS)
    bits = [(raw[k // 8] >> k % 8) & 1 for k in range(rows * columns)]
    return np.array(bits).reshape(rows, columns)


def _unpacked(segment: bytes) -> bytes:
    """One RLE segment, as PS3.5 G.3.2 says it."""
    out, p = bytearray(), 0
    while p + 1 < len(segment):
        n = segment[p]
        if n < 128:
            out += segment[p + 1 : p + 2 + n]
            p += 2 + n
        elif n > 128:
            out += segment[p + 1 : p + 2] * (257 - n)
            p += 2
        else:
            p += 1
    return bytes(out)
