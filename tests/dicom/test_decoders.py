"""Every transfer syntax of PS3.6 is decoded as other tools do, or refused by name."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder

from dicomlake.dicom import standard
from dicomlake.dicom.headers import read_header
from dicomlake.dicom.pixels import decode_frame, decoder_name
from dicomlake.errors import BrokenObject, DicomlakeError, UnsupportedPixels
from tests.dicom.phantoms import as_bytes, slice_dataset

JXL_LOSSLESS, JXL_JPEG, JXL = (f"1.2.840.10008.1.2.4.{tail}" for tail in (110, 111, 112))
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
PLACEHOLDERS = {22: uid.JPEGLSLossless, 24: uid.HTJ2KLossless}  # by length in the file


def decoded(ds: Dataset, index: int = 0) -> np.ndarray:
    return of_bytes(as_bytes(ds), index)


def of_bytes(data: bytes, index: int = 0) -> np.ndarray:
    return decode_frame(data, read_header(data), index)


def encoded(pixels: np.ndarray, syntax: str, *streams: bytes, **others: object) -> bytes:
    """An object whose frames are these streams; for syntaxes, too, that pydicom does not know yet."""
    written = syntax if uid.UID(syntax).is_transfer_syntax else PLACEHOLDERS[(len(syntax) + 1) // 2 * 2]
    ds = slice_dataset(pixels=pixels, NumberOfFrames=len(streams), **others)
    ds.file_meta.TransferSyntaxUID = written
    ds.PixelData = encapsulate([bytes(stream) for stream in streams])
    ds["PixelData"].VR = "OB"
    padded = [value.encode() + b"\0" * (len(value) % 2) for value in (written, syntax)]
    return as_bytes(ds).replace(*padded, 1)


def noise(shape: tuple[int, ...], bits: int, *, signed: bool = False) -> np.ndarray:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    values = np.random.default_rng(bits).integers(low, high, shape)
    return values.astype(f"<{'i' if signed else 'u'}{size}")


def smooth(shape: tuple[int, ...], top: int, dtype: str = "u1") -> np.ndarray:
    waves = sum(np.sin(grid / (7 + 3 * axis)) for axis, grid in enumerate(np.indices(shape)))
    return np.asarray(((waves - waves.min()) / np.ptp(waves) * top).round(), dtype=dtype)


# ---- what has a decoder ----

DECODED = {
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    *("1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5", DEFLATED_FRAMES, JXL_LOSSLESS, JXL_JPEG, JXL),
    *(f"1.2.840.10008.1.2.4.{tail}" for tail in (50, 51, 53, 55, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
}


def test_each_transfer_syntax_has_a_decoder_or_is_refused_by_name() -> None:
    known = {value for value, entry in uid.UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    for syntax in known | DECODED:
        if syntax in DECODED:
            assert decoder_name(syntax)
            continue
        with pytest.raises(UnsupportedPixels) as caught:
            decoder_name(syntax)
        assert standard.uid_name(syntax) in str(caught.value)
        assert "convert the object" in str(caught.value)


@pytest.mark.parametrize("syntax", [uid.MPEG2MPML, uid.MPEG4HP41F, uid.HEVCM10P51])
def test_video_says_that_it_opens_as_bytes(syntax: str) -> None:
    with pytest.raises(UnsupportedPixels, match="video, which opens as bytes"):
        decoder_name(syntax)


# ---- encoders of DCMTK and GDCM, read back by ours and by their own decoders ----


def tool(name: str, *arguments: object) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    subprocess.run([name, *map(str, arguments)], check=True, capture_output=True)


IMAGES: dict[str, Callable[[], Dataset]] = {
    "8 bits": lambda: slice_dataset(pixels=noise((37, 30), 8)),
    "12 bits": lambda: slice_dataset(pixels=noise((37, 30), 12), BitsStored=12, HighBit=11),
    "16 bits": lambda: slice_dataset(pixels=noise((37, 30), 16)),
    "16 bits signed": lambda: slice_dataset(pixels=noise((37, 30), 16, signed=True)),
    "12 bits signed": lambda: slice_dataset(
        pixels=noise((37, 30), 12, signed=True), BitsStored=12, HighBit=11
    ),
    "colour": lambda: slice_dataset(pixels=noise((37, 30, 3), 8)),
    "three frames": lambda: frames_of(noise((3, 24, 22), 12)),
}


def frames_of(pixels: np.ndarray) -> Dataset:
    ds = slice_dataset(pixels=pixels[0], NumberOfFrames=len(pixels), BitsStored=12, HighBit=11)
    ds.PixelData = pixels.tobytes()
    return ds


LOSSLESS_TOOLS = {
    **{f"dcmcjpeg predictor {n}": ("dcmcjpeg", "+el", "+sv", n) for n in range(1, 8)},
    "dcmcjpeg first order": ("dcmcjpeg", "+e1"),
    "dcmcjpls": ("dcmcjpls", "+el"),
    "dcmcjpls by line": ("dcmcjpls", "+el", "+il"),
    "dcmcjpls by sample": ("dcmcjpls", "+el", "+is"),
    "dcmcjpls by plane": ("dcmcjpls", "+el", "+in"),
    "dcmcjpls in fragments": ("dcmcjpls", "+el", "+fs", 1),
    "dcmcrle": ("dcmcrle",),
    "dcmcrle in fragments": ("dcmcrle", "+fs", 1),
    "gdcm JPEG": ("gdcmconv", "--jpeg"),
    "gdcm JPEG-LS": ("gdcmconv", "--jpegls"),
    "gdcm JPEG 2000": ("gdcmconv", "--j2k"),
    "gdcm RLE": ("gdcmconv", "--rle"),
}


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("way", LOSSLESS_TOOLS)
def test_what_other_tools_compress_comes_back_exactly(way: str, image: str, tmp_path: Path) -> None:
    ds = IMAGES[image]()
    (tmp_path / "plain").write_bytes(as_bytes(ds))
    name, *options = LOSSLESS_TOOLS[way]
    tool(name, *options, tmp_path / "plain", tmp_path / "packed")
    data = (tmp_path / "packed").read_bytes()
    header = read_header(data)
    assert header.pixels is not None
    assert header.pixels.length is None
    for index in range(int(ds.get("NumberOfFrames", 1))):
        assert np.array_equal(decode_frame(data, header, index), decoded(ds, index))


LOSSY_TOOLS = {
    "baseline": ("8 bits", ("dcmcjpeg", "+eb", "+q", 90), "dcmdjpeg", 0),
    "baseline colour 444": ("colour", ("dcmcjpeg", "+eb", "+q", 90, "+s4"), "dcmdjpeg", 2),
    "extended": ("12 bits", ("dcmcjpeg", "+ee", "+q", 90), "dcmdjpeg", 0),
    "spectral selection": ("12 bits", ("dcmcjpeg", "+es", "+q", 90), "dcmdjpeg", 0),
    "progressive": ("12 bits", ("dcmcjpeg", "+ep", "+q", 90), "dcmdjpeg", 0),
    "JPEG-LS near lossless": ("12 bits", ("dcmcjpls", "+en", "+md", 3), "dcmdjpls", 0),
    "JPEG-LS near lossless, colour": ("colour", ("dcmcjpls", "+en", "+md", 2), "dcmdjpls", 0),
}


@pytest.mark.parametrize("way", LOSSY_TOOLS)
def test_lossy_streams_are_decoded_as_their_own_tool_does(way: str, tmp_path: Path) -> None:
    """Exact, but for 2 where DCMTK turns YCbCr into RGB: it rounds twice."""
    image, (name, *options), back, tolerance = LOSSY_TOOLS[way]
    (tmp_path / "plain").write_bytes(as_bytes(IMAGES[image]()))
    tool(name, *options, tmp_path / "plain", tmp_path / "packed")
    tool(back, tmp_path / "packed", tmp_path / "unpacked")
    theirs = pydicom.dcmread(tmp_path / "unpacked").pixel_array
    ours = of_bytes((tmp_path / "packed").read_bytes())
    assert np.abs(ours.astype(int) - theirs).max() <= tolerance
    assert not np.array_equal(ours, decoded(IMAGES[image]()))  # it was lossy indeed


# ---- 1 bit, 32 bits, floating point ----


def rle(planes: list[bytes]) -> bytes:
    """An RLE frame (PS3.5 annex G) of byte planes."""
    segments = [bytes(imagecodecs.packbits_encode(plane)) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64 + sum(map(len, segments[:k])) for k in range(len(segments))]
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


BITS = {"pixels": np.zeros((9, 11), np.uint8), "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}


@pytest.mark.parametrize("signed", [False, True])
def test_32_bit_rle_is_as_pylibjpeg_and_pydicom_read_it(signed: bool) -> None:
    pixels = noise((21, 17), 32, signed=signed)
    planes = [pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()[k::4] for k in range(4)]
    data = encoded(pixels, uid.RLELossless, rle(planes))
    assert np.array_equal(of_bytes(data), pixels)
    ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    for plugin in ("pydicom", "pylibjpeg"):
        theirs, _ = get_decoder(uid.RLELossless).as_array(ds, decoding_plugin=plugin)
        assert np.array_equal(of_bytes(data), theirs)


@pytest.mark.parametrize("syntax", [uid.RLELossless, DEFLATED_FRAMES, "1.2.840.10008.1.2.1.98"])
def test_single_bits_are_read_in_each_syntax_that_packs_them(syntax: str) -> None:
    bits = [np.random.default_rng(k).integers(0, 2, (9, 11)).astype(bool) for k in range(3)]
    packed = [np.packbits(frame.ravel(), bitorder="little").tobytes() for frame in bits]
    pack = {uid.RLELossless: lambda p: rle([p]), DEFLATED_FRAMES: deflate}.get(syntax, bytes)
    data = encoded(BITS["pixels"], syntax, *map(pack, packed), **_but_pixels(BITS))
    for index, frame in enumerate(bits):
        assert of_bytes(data, index).dtype == bool
        assert np.array_equal(of_bytes(data, index), frame)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", bitspersample=1)),
        (uid.JPEGLSLossless, lambda a: imagecodecs.jpegls_encode(a)),
        (JXL_LOSSLESS, lambda a: imagecodecs.jpegxl_encode(a, lossless=True)),
    ],
)
def test_single_bits_coded_as_samples_are_bits_again(syntax: str, encode: Callable) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (9, 11)).astype(np.uint8)
    data = encoded(BITS["pixels"], syntax, encode(bits), **_but_pixels(BITS))
    assert of_bytes(data).dtype == bool
    assert np.array_equal(of_bytes(data), bits.astype(bool))


def _but_pixels(keywords: dict) -> dict:
    return {key: value for key, value in keywords.items() if key != "pixels"}


@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian],
)
def test_floating_point_pixels_are_read_in_each_byte_order(code: str, syntax: uid.UID) -> None:
    values = np.array([[1.5, -2.25], [np.nan, 1e30]], dtype=code)
    ds = slice_dataset(
        pixels=np.zeros((2, 2), np.uint16), BitsStored=None, HighBit=None, PixelRepresentation=None
    )
    del ds.PixelData
    ds.BitsAllocated = values.itemsize * 8
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    raw = values.astype(order + code).tobytes()
    setattr(ds, "FloatPixelData" if code == "f4" else "DoubleFloatPixelData", raw)
    ds.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(decoded(ds), values, equal_nan=True)


# ---- JPEG 2000 beyond 16 bits ----


def jpeg_2000(pixels: np.ndarray, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=bits))


@pytest.mark.parametrize("bits", [17, 20, 24])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_2000_up_to_24_bits_comes_back_exactly(bits: int, signed: bool) -> None:
    pixels = noise((40, 50), bits, signed=signed)
    stream = jpeg_2000(pixels, bits)
    data = encoded(pixels, uid.JPEG2000Lossless, stream, BitsStored=bits, HighBit=bits - 1)
    assert np.array_equal(of_bytes(data), pixels)


@pytest.mark.parametrize("bits", [25, 26])
def test_jpeg_2000_beyond_24_bits_is_refused_as_its_library_is_wrong_there(bits: int) -> None:
    pixels = noise((40, 50), bits)
    stream = jpeg_2000(pixels, bits)
    assert not np.array_equal(imagecodecs.jpeg2k_decode(stream), pixels)  # else the limit can go
    data = encoded(pixels, uid.JPEG2000Lossless, stream, BitsStored=bits, HighBit=bits - 1)
    with pytest.raises(UnsupportedPixels, match=f"{bits} bits"):
        of_bytes(data)


def test_high_throughput_jpeg_2000_of_32_bits_is_refused() -> None:
    pixels = noise((40, 50), 32)
    data = encoded(pixels, uid.HTJ2KLossless, imagecodecs.htj2k_encode(pixels, reversible=True))
    with pytest.raises(UnsupportedPixels, match="32 bits"):
        of_bytes(data)


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K])
@pytest.mark.parametrize("bits", [8, 16])
def test_high_throughput_jpeg_2000_is_as_openjph_reads_it(syntax: uid.UID, bits: int) -> None:
    """OpenJPH made the stream and reads it too; ours is OpenJPEG."""
    pixels = noise((40, 50), bits)
    stream = imagecodecs.htj2k_encode(pixels, reversible=True)
    ours = of_bytes(encoded(pixels, syntax, stream))
    assert np.array_equal(ours, imagecodecs.htj2k_decode(stream))
    assert np.array_equal(ours, pixels)


def test_subsampled_components_of_jpeg_2000_are_refused() -> None:
    rgb = noise((40, 50, 3), 8)
    stream = bytearray(imagecodecs.jpeg2k_encode(rgb, codecformat="j2k", reversible=True, mct=False))
    at = stream.index(b"\x07\x01\x01" * 3)
    stream[at + 4 : at + 6] = b"\x02\x02"
    with pytest.raises(UnsupportedPixels, match="different kinds"):
        of_bytes(encoded(rgb, uid.JPEG2000Lossless, bytes(stream)))


# ---- JPEG XL ----


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3), (64, 64), (48, 64), (8, 16, 3)])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_xl_comes_back_exactly(shape: tuple[int, ...], bits: int, container: bool) -> None:
    pixels = noise(shape, bits)
    for coded in {bits, 8 * pixels.itemsize}:
        stream = imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=coded, usecontainer=container)
        data = encoded(pixels, JXL_LOSSLESS, stream, BitsStored=bits, HighBit=bits - 1)
        assert np.array_equal(of_bytes(data), pixels)


@pytest.mark.parametrize("syntax", [JXL_JPEG, JXL])
@pytest.mark.parametrize("colour", [False, True])
def test_a_recompressed_jpeg_is_the_jpeg_that_went_in(syntax: str, colour: bool) -> None:
    pixels = smooth((40, 56, 3) if colour else (40, 56), 255)
    stream = bytes(imagecodecs.jpeg8_encode(pixels, level=90))
    how = {"PhotometricInterpretation": "YBR_FULL_422"} if colour else {}
    ours = of_bytes(encoded(pixels, syntax, imagecodecs.jpegxl_encode_jpeg(stream), **how))
    assert np.array_equal(ours, of_bytes(encoded(pixels, uid.JPEGBaseline8Bit, stream, **how)))


def test_jpeg_xl_that_cannot_be_proven_is_refused() -> None:
    pixels = smooth((40, 56), 255)
    lossy = imagecodecs.jpegxl_encode(pixels, distance=1.0)
    exact = imagecodecs.jpegxl_encode(pixels, lossless=True)
    alpha = imagecodecs.jpegxl_encode(np.dstack([pixels, pixels]), lossless=True)
    for syntax, stream in ((JXL, lossy), (JXL_JPEG, lossy), (JXL_LOSSLESS, lossy), (JXL_LOSSLESS, alpha)):
        with pytest.raises(UnsupportedPixels, match="JPEG XL"):
            of_bytes(encoded(pixels, syntax, stream))
    with pytest.raises(UnsupportedPixels, match="signed"):
        of_bytes(encoded(pixels.view("i1"), JXL_LOSSLESS, exact))


@pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_jpeg_xl_that_is_cut_off_is_never_returned(kept: float) -> None:
    pixels = noise((300, 300), 8)
    jpeg = bytes(imagecodecs.jpeg8_encode(pixels, level=80))
    for syntax, stream in (
        (JXL_LOSSLESS, bytes(imagecodecs.jpegxl_encode(pixels, lossless=True))),
        (JXL_JPEG, bytes(imagecodecs.jpegxl_encode_jpeg(jpeg))),
    ):
        with pytest.raises(DicomlakeError):
            of_bytes(encoded(pixels, syntax, stream[: int(len(stream) * kept)]))


# ---- streams that ask for more than the image is ----


def test_a_stream_that_claims_another_size_is_refused_before_it_is_decoded() -> None:
    pixels = smooth((16, 16), 255)
    huge = np.zeros((4000, 4000), np.uint8)
    for syntax, stream in (
        (uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(huge)),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode(huge)),
        (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(huge, codecformat="j2k", reversible=True)),
        (JXL_LOSSLESS, imagecodecs.jpegxl_encode(huge, lossless=True)),
    ):
        with pytest.raises(BrokenObject, match="4000 x 4000, 16 x 16 is described"):
            of_bytes(encoded(pixels, syntax, stream))


def test_a_frame_of_more_samples_than_any_image_is_refused() -> None:
    stream = bytearray(imagecodecs.jpeg2k_encode(smooth((16, 16), 255), codecformat="j2k", reversible=True))
    stream[8:16] = struct.pack(">2L", 60000, 60000)
    data = encoded(smooth((16, 16), 255), uid.JPEG2000Lossless, bytes(stream), Rows=60000, Columns=60000)
    with pytest.raises(BrokenObject, match="not believed"):
        of_bytes(data)


def test_a_comment_that_looks_like_a_marker_does_not_mislead() -> None:
    """JPEG 2000: a COM segment before COD may hold any bytes, also those of COD."""
    rgb = noise((40, 50, 3), 8)
    stream = bytes(imagecodecs.jpeg2k_encode(rgb, codecformat="j2k", reversible=True, mct=True))
    behind = stream.index(b"\xff\x52")
    comment = b"\xff\x64\x00\x10\x00\x00\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x00"
    assert stream[behind + 8] == 1
    data = encoded(
        rgb,
        uid.JPEG2000Lossless,
        stream[:behind] + comment + stream[behind:],
        PhotometricInterpretation="YBR_RCT",
    )
    assert np.array_equal(of_bytes(data), rgb)
    assert get_frame(encapsulate([stream]), 0, number_of_frames=1)[:2] == b"\xff\x4f"
