"""Stored values: against pydicom with every other decoder it finds, across codecs, and cut-off streams."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import get_decoder

from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.pixels import decode_frame, decoder_name, frame_hash
from dicomlake.errors import BrokenObject, DicomlakeError, UnsupportedPixels
from tests.dicom.phantoms import as_bytes, place_values, slice_dataset
from tests.support import pydicom_files, real_data_folder

# ---- phantoms ----


def decoded(ds: Dataset, index: int = 0) -> np.ndarray:
    data = as_bytes(ds)
    return decode_frame(data, read_header(data), index)


def encoded(
    pixels: np.ndarray, syntax: str, *streams: bytes, photometric: str | None = None, **others: object
) -> Dataset:
    """A slice whose pixels are these streams, one a frame."""
    ds = slice_dataset(pixels=pixels, **others)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(list(streams))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    if photometric:
        ds.PhotometricInterpretation = photometric
    if len(streams) > 1:
        ds.NumberOfFrames = len(streams)
    return ds


def smooth(shape: tuple[int, ...], top: int, dtype: str) -> np.ndarray:
    """A picture without hard edges, values 0 to top: what lossy codecs keep nearly."""
    waves = sum(np.sin(grid / (7 + 3 * axis)) for axis, grid in enumerate(np.indices(shape)))
    scaled = (waves - waves.min()) / np.ptp(waves) * top
    return np.asarray(scaled.round(), dtype=dtype)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_uncompressed_values_come_back_as_written(dtype: str) -> None:
    info = np.iinfo(dtype)
    pixels = np.linspace(info.min, info.max, 35).astype(dtype).reshape(5, 7)
    found = decoded(slice_dataset(pixels=pixels))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("vr", ["OW", "OB"])
def test_byte_order_follows_the_transfer_syntax(syntax: uid.UID, vr: str) -> None:
    pixels = place_values(2, 4, 6)
    ds = slice_dataset(pixels=pixels)
    ds.file_meta.TransferSyntaxUID = syntax
    big = syntax == uid.ExplicitVRBigEndian
    ds.PixelData = pixels.astype(">u2" if big else "<u2").tobytes()
    ds["PixelData"].VR = vr
    found = decoded(ds)
    assert np.array_equal(found, pixels)
    assert found.dtype == np.dtype("<u2")


def test_bytes_in_big_endian_words_are_swapped() -> None:
    """PS3.5 7.3: OW is ordered by 16-bit words, also when the pixels are bytes."""
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    ds = slice_dataset(pixels=pixels)
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    ds.PixelData = np.frombuffer(pixels.tobytes(), "<u2").byteswap().tobytes()
    assert np.array_equal(decoded(ds), pixels)


def test_deflated_data_sets_are_inflated() -> None:
    ds = slice_dataset()
    ds.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    assert np.array_equal(decoded(ds), place_values(1, 4, 6))


def test_bits_above_bits_stored_are_no_part_of_the_value() -> None:
    pixels = np.array([[0x0123, 0xF123], [0x8FFF, 0x7800]], dtype="<u2")
    unsigned = slice_dataset(pixels=pixels, BitsStored=12, HighBit=11)
    assert decoded(unsigned).tolist() == [[0x123, 0x123], [0xFFF, 0x800]]
    signed = slice_dataset(pixels=pixels, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert decoded(signed).tolist() == [[0x123, 0x123], [-1, -2048]]


def test_a_high_bit_above_bits_stored_shifts_the_value() -> None:
    pixels = np.array([[0x1230, 0xFFF0]], dtype="<u2")
    ds = slice_dataset(pixels=pixels, BitsStored=12, HighBit=15)
    assert decoded(ds).tolist() == [[0x123, 0xFFF]]
    ds.PixelRepresentation = 1
    assert decoded(ds).tolist() == [[0x123, -1]]


def test_few_bits_in_wide_cells_become_the_small_dtype() -> None:
    ds = slice_dataset(pixels=np.array([[1, 255]], dtype="<u2"), BitsStored=8, HighBit=7)
    assert decoded(ds).dtype == np.uint8
    assert decoded(ds).tolist() == [[1, 255]]


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_by_pixel_whatever_the_planar_configuration(planar: int) -> None:
    pixels = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    ds = slice_dataset(pixels=pixels, PlanarConfiguration=planar)
    ds.PixelData = (pixels if planar == 0 else np.moveaxis(pixels, -1, 0)).tobytes() + b"\0"
    assert np.array_equal(decoded(ds), pixels)


def test_frames_of_single_bits_need_not_begin_at_a_byte() -> None:
    frames = np.random.default_rng(0).integers(0, 2, (3, 3, 5)).astype(bool)
    ds = slice_dataset(pixels=np.zeros((3, 5), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.NumberOfFrames = 3
    ds.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    for index in range(3):
        found = decoded(ds, index)
        assert found.dtype == bool
        assert np.array_equal(found, frames[index])


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_read_from_their_own_element(keyword: str, dtype: str) -> None:
    values = np.array([[1.5, -2.25], [np.nan, 1e30]], dtype=dtype)
    ds = slice_dataset(
        pixels=np.zeros((2, 2), np.uint16), BitsStored=None, HighBit=None, PixelRepresentation=None
    )
    ds.BitsAllocated = values.itemsize * 8
    del ds.PixelData
    setattr(ds, keyword, values.tobytes())
    assert np.array_equal(decoded(ds), values, equal_nan=True)


@pytest.mark.parametrize(
    ("ybr", "rgb"),  # PS3.3 C.7.6.3.1.2, inverted by hand
    [((255, 128, 128), (255, 255, 255)), ((76, 85, 255), (254, 0, 0)), ((29, 255, 107), (0, 0, 254))],
)
def test_ybr_full_becomes_rgb(ybr: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    ds = slice_dataset(pixels=np.full((2, 2, 3), ybr, np.uint8), PhotometricInterpretation="YBR_FULL")
    assert decoded(ds)[0, 0].tolist() == list(rgb)


def test_ybr_full_422_repeats_chroma_for_each_pair() -> None:
    ds = slice_dataset(pixels=np.zeros((1, 2, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = bytes([255, 76, 128, 128])
    assert decoded(ds).tolist() == [[[255] * 3, [76] * 3]]


def test_indices_of_a_palette_stay_indices() -> None:
    ds = slice_dataset(pixels=np.array([[3, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    assert decoded(ds).tolist() == [[3, 1]]


def test_monochrome1_is_not_inverted() -> None:
    ds = slice_dataset(pixels=np.array([[3, 1]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    assert decoded(ds).tolist() == [[3, 1]]


# ---- compressed phantoms ----

LOSSLESS = [
    (uid.JPEGLosslessSV1, lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1)),
    (uid.JPEGLossless, lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=4)),
    (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
    (uid.JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True)),
    (uid.HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
]


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=[s.name for s, _ in LOSSLESS])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lossless_streams_come_back_exactly(syntax: uid.UID, encode, dtype: str) -> None:
    pixels = np.random.default_rng(4).integers(0, np.iinfo(dtype).max, (33, 17)).astype(dtype)
    found = decoded(encoded(pixels, syntax, encode(pixels)))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS[:3], ids=[s.name for s, _ in LOSSLESS[:3]])
def test_signed_values_coded_as_bits_get_their_sign_back(syntax: uid.UID, encode) -> None:
    pixels = np.random.default_rng(5).integers(-2048, 2048, (16, 16)).astype("i2")
    ds = encoded(pixels, syntax, encode(pixels.view("u2")), BitsStored=12, HighBit=11)
    assert np.array_equal(decoded(ds), pixels)


@pytest.mark.parametrize("pixels", [smooth((20, 30), 60000, "u2"), smooth((20, 30, 3), 255, "u1")])
def test_rle_of_pydicom_comes_back_exactly(pixels: np.ndarray) -> None:
    ds = slice_dataset(pixels=pixels)
    ds.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    assert np.array_equal(decoded(ds), pixels)


def test_deflated_frames_are_inflated_one_by_one() -> None:
    frames = [place_values(i, 4, 6) for i in range(3)]
    streams = []
    for frame in frames:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        streams.append(deflater.compress(frame.tobytes()) + deflater.flush())
    data = as_bytes(encoded(frames[0], uid.JPEGLSLossless, *streams))
    data = data.replace(uid.JPEGLSLossless.encode(), b"1.2.840.10008.1.2.8.1\0")  # unknown to pydicom 3.0
    for index, frame in enumerate(frames):
        assert np.array_equal(decode_frame(data, read_header(data), index), frame)


def test_frames_are_found_by_table_by_item_and_by_end_marker() -> None:
    frames = [smooth((24, 24), 1000 + i, "u2") for i in range(3)]
    streams = [imagecodecs.jpegls_encode(frame) for frame in frames]
    basic = encoded(frames[0], uid.JPEGLSLossless, *streams)
    no_table = encoded(frames[0], uid.JPEGLSLossless, *streams)
    no_table.PixelData = encapsulate(streams, has_bot=False)
    split = encoded(frames[0], uid.JPEGLSLossless, *streams)
    split.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=False)
    extended = encoded(frames[0], uid.JPEGLSLossless, *streams)
    extended.PixelData, extended.ExtendedOffsetTable, extended.ExtendedOffsetTableLengths = (
        encapsulate_extended(streams)
    )
    for ds in (basic, no_table, split, extended):
        ds["PixelData"].is_undefined_length = True
        for index, frame in enumerate(frames):
            assert np.array_equal(decoded(ds, index), frame)


def test_lossy_overshoot_above_bits_stored_is_not_wrapped_around() -> None:
    """A 10 bit image in the 12 bits that JPEG has: 1024 must not become 0."""
    pixels = np.where(np.indices((64, 64)).sum(0) % 16 < 8, 1023, 900).astype("u2")
    stream = imagecodecs.jpeg8_encode(pixels, level=60, bitspersample=12)
    found = decoded(encoded(pixels, uid.JPEGExtended12Bit, stream, BitsStored=10, HighBit=9))
    assert found.max() > 1023
    assert np.abs(found.astype(int) - pixels).max() < 60


# ---- colour of JPEG ----


def without_markers(stream: bytes) -> bytes:
    """A JPEG stream without its APP0 and APP14 segments."""
    out, p = bytearray(stream[:2]), 2
    while stream[p + 1] != 0xDA:
        end = p + 2 + struct.unpack_from(">H", stream, p + 2)[0]
        if stream[p + 1] not in (0xE0, 0xEE):
            out += stream[p:end]
        p = end
    return bytes(out) + stream[p:]


def jpeg(rgb: np.ndarray, space: str, subsampling: str = "444") -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            rgb, level=98, colorspace="RGB", outcolorspace=space, subsampling=subsampling
        )
    )


@pytest.mark.parametrize(
    ("space", "markers", "photometric"),
    [
        ("YCBCR", True, "YBR_FULL"),
        ("YCBCR", True, "YBR_FULL_422"),
        ("YCBCR", True, "RGB"),  # JFIF says YCbCr: the attribute was not changed when it was compressed
        ("YCBCR", False, "YBR_FULL"),
        ("RGB", True, "RGB"),
        ("RGB", False, "RGB"),
    ],
)
def test_jpeg_colours_are_those_that_went_in(space: str, markers: bool, photometric: str) -> None:
    rgb = np.stack([smooth((32, 32), top, "u1") for top in (250, 120, 30)], axis=-1)
    stream = jpeg(rgb, space) if markers else without_markers(jpeg(rgb, space))
    found = decoded(encoded(rgb, uid.JPEGBaseline8Bit, stream, photometric=photometric))
    assert np.abs(found.astype(int) - rgb).max() <= 6  # quality 98; a wrong colour space is off by > 50


def test_jpeg_colours_with_contradicting_witnesses_are_refused() -> None:
    rgb = np.stack([smooth((32, 32), top, "u1") for top in (250, 120, 30)], axis=-1)
    ds = encoded(rgb, uid.JPEGBaseline8Bit, jpeg(rgb, "RGB"), photometric="YBR_FULL")
    with pytest.raises(UnsupportedPixels, match="PhotometricInterpretation YBR_FULL contradicts") as caught:
        decoded(ds)
    assert caught.value.transfer_syntax == uid.JPEGBaseline8Bit


def test_a_component_transform_that_the_header_denies_is_refused() -> None:
    rgb = np.stack([smooth((32, 32), top, "u1") for top in (250, 120, 30)], axis=-1)
    plain = imagecodecs.jpeg2k_encode(rgb, codecformat="j2k", reversible=True, mct=False)
    with pytest.raises(UnsupportedPixels, match="YBR_RCT contradicts"):
        decoded(encoded(rgb, uid.JPEG2000Lossless, plain, photometric="YBR_RCT"))
    assert np.array_equal(decoded(encoded(rgb, uid.JPEG2000Lossless, plain)), rgb)


# ---- refusals ----


def test_pixels_that_are_cut_off_are_refused() -> None:
    data = as_bytes(slice_dataset())
    with pytest.raises(BrokenObject, match="cut off"):
        decode_frame(data[:-7], read_header(data[:-7]))


def test_whole_frames_before_a_cut_are_still_there() -> None:
    ds = slice_dataset(NumberOfFrames=2)
    ds.PixelData = place_values(1, 4, 6).tobytes() + place_values(2, 4, 6).tobytes()
    data = as_bytes(ds)[:-10]
    assert np.array_equal(decode_frame(data, read_header(data), 0), place_values(1, 4, 6))
    with pytest.raises(BrokenObject, match="cut off"):
        decode_frame(data, read_header(data), 1)


@pytest.mark.parametrize("change", [-2, 2, 12])
def test_a_value_field_of_the_wrong_length_is_refused(change: int) -> None:
    ds = slice_dataset()
    ds.PixelData = ds.PixelData[:change] if change < 0 else ds.PixelData + b"\1" * change
    with pytest.raises(BrokenObject, match="48 are described"):
        decoded(ds)


def test_zeros_behind_the_pixels_are_padding() -> None:
    ds = slice_dataset()
    ds.PixelData += bytes(20)
    assert np.array_equal(decoded(ds), place_values(1, 4, 6))


def test_objects_without_pixels_and_absent_frames_are_refused() -> None:
    data = as_bytes(slice_dataset())
    with pytest.raises(IndexError):
        decode_frame(data, read_header(data), 1)
    ds = slice_dataset()
    del ds.PixelData
    with pytest.raises(BrokenObject, match="no pixel data"):
        decoded(ds)


def test_video_is_refused_by_name() -> None:
    ds = encoded(np.zeros((4, 4), np.uint8), uid.MPEG4HP41, b"\0\0\0\1")
    with pytest.raises(UnsupportedPixels, match=r"MPEG-4.*convert the object"):
        decoded(ds)
    with pytest.raises(UnsupportedPixels):
        decoder_name(uid.MPEG4HP41)


def test_uncompressed_pixels_under_a_private_syntax_are_refused() -> None:
    """GE wrote a syntax whose pixels are big endian in a little endian data set."""
    ds = slice_dataset()
    data = as_bytes(ds).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0")
    with pytest.raises(UnsupportedPixels, match=r"1\.2\.840\.113619\.5\.2"):
        decode_frame(data, read_header(data))


ENCODERS = [
    *LOSSLESS,
    (uid.JPEGBaseline8Bit, lambda a: imagecodecs.jpeg8_encode(a, level=90)),
    (uid.RLELossless, None),
]


@pytest.mark.parametrize(("syntax", "encode"), ENCODERS, ids=[s.name for s, _ in ENCODERS])
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.97])
def test_a_compressed_frame_that_is_cut_off_is_never_returned(syntax: uid.UID, encode, kept: float) -> None:
    pixels = np.random.default_rng(6).integers(0, 255, (64, 64)).astype(np.uint8)
    if encode is None:
        whole = slice_dataset(pixels=pixels)
        whole.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        stream = pydicom.encaps.get_frame(whole.PixelData, 0, number_of_frames=1)
    else:
        stream = bytes(encode(pixels))
    ds = encoded(pixels, syntax, stream[: int(len(stream) * kept)])
    with pytest.raises(DicomlakeError):
        decoded(ds)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1])
def test_a_complete_jpeg_without_its_end_marker_is_read(syntax: uid.UID) -> None:
    """Some angiography writers leave the marker out; that the pixels are all there can be proven."""
    pixels = smooth((40, 40), 255, "u1")
    lossless = syntax == uid.JPEGLosslessSV1
    stream = bytes(
        imagecodecs.jpeg8_encode(pixels, level=95, lossless=lossless, predictor=1 if lossless else None)
    )
    assert stream.endswith(b"\xff\xd9")
    whole, cut = (decoded(encoded(pixels, syntax, s)) for s in (stream, stream[:-2]))
    assert np.array_equal(whole, cut)


def test_an_rle_segment_short_by_a_run_is_refused() -> None:
    segment = imagecodecs.packbits_encode(bytes(range(100)))
    for size, fine in ((100, True), (90, False)):
        body = segment if fine else bytes(imagecodecs.packbits_encode(bytes(range(size))))
        stream = struct.pack("<16L", 1, 64, *[0] * 14) + body
        ds = encoded(np.zeros((10, 10), np.uint8), uid.RLELossless, stream)
        if fine:
            assert np.array_equal(decoded(ds).ravel(), np.arange(100))
        else:
            with pytest.raises(BrokenObject, match="90 bytes, 100 are described"):
                decoded(ds)


def test_a_stream_of_another_size_than_described_is_refused() -> None:
    stream = imagecodecs.jpegls_encode(smooth((20, 20), 255, "u1"))
    with pytest.raises(BrokenObject, match="is described"):
        decoded(encoded(np.zeros((20, 21), np.uint8), uid.JPEGLSLossless, stream))


# ---- hash and names ----


def test_the_hash_is_of_little_endian_bytes_in_c_order() -> None:
    pixels = place_values(3, 8, 9)
    expected = hashlib.blake2b(pixels.astype("<u2").tobytes(), digest_size=32).digest()
    assert frame_hash(pixels) == expected
    assert frame_hash(pixels.astype(">u2")) == expected
    assert frame_hash(np.asfortranarray(pixels)) == expected
    assert frame_hash(pixels + 1) != expected


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (uid.ExplicitVRLittleEndian, "numpy"),
        (uid.RLELossless, "packbits"),
        (uid.JPEGLosslessSV1, "libjpeg-turbo"),
        (uid.JPEGLSLossless, "CharLS"),
        (uid.HTJ2K, "OpenJPEG"),
    ],
)
def test_the_decoder_of_a_syntax_has_a_name(syntax: uid.UID, name: str) -> None:
    assert name in decoder_name(syntax)


# ---- real files ----

# Files that are broken or made to be: their pixels cannot be told.
REFUSED = {
    "3gb-bulk-data-truncated": "three samples of a monochrome image, 16 bits stored in 8",
    "example3.dcm": "its first fragment lies behind what the data set claims",
    "JPEG2000-embedded-sequence-delimiter.dcm": "four bytes of the stream were overwritten",
    "MR_truncated.dcm": "62 bytes are missing",
    "badVR.dcm": "NumberOfFrames is no number",
    "meta_missing_tsyntax.dcm": "no BitsAllocated",
    "nested_priv_SQ.dcm": "no BitsAllocated",
}


def real_images() -> Iterator[tuple[Path, bytes, Header]]:
    folder = real_data_folder()
    paths = sorted(folder.rglob("*")) if folder else []
    for path in [*paths, *pydicom_files()]:
        if path.is_file() and path.suffix not in {".nii", ".json", ".tsv", ".md", ".py", ".pyc"}:
            data = path.read_bytes()
            try:
                header = read_header(data)
            except DicomlakeError:
                continue
            if header.pixels is not None:
                yield path, data, header


def test_every_real_file_is_decoded_or_refused_for_a_known_reason() -> None:
    refused = set()
    for path, data, header in real_images():
        try:
            assert decode_frame(data, header).size
        except DicomlakeError:
            refused.add(path.name)
    assert refused <= set(REFUSED)
    assert refused >= {"MR_truncated.dcm", "badVR.dcm"}  # in the wheel of pydicom, always there


# What pydicom decodes with another library than we do: gdcm has its own copies of the IJG, CharLS and
# OpenJPEG code, pylibjpeg-rle is Rust. JPEG-LS and JPEG 2000 lossy decoding is defined exactly; the
# inverse DCT of JPEG is not (ISO 10918-1 allows ±1), nor is the rounding from YCbCr to RGB, which
# libjpeg does in fixed point and pydicom in floating point: hence 1 there and 0 everywhere else.
OTHERS = {
    **dict.fromkeys([uid.JPEGBaseline8Bit], (("gdcm", "pillow"), 1)),
    **dict.fromkeys([uid.JPEGLossless, uid.JPEGLosslessSV1], (("gdcm",), 0)),
    **dict.fromkeys([uid.JPEGLSLossless, uid.JPEGLSNearLossless], (("gdcm", "pyjpegls"), 0)),
    **dict.fromkeys([uid.JPEG2000Lossless, uid.JPEG2000], (("gdcm", "pylibjpeg"), 0)),
    **dict.fromkeys([uid.HTJ2KLossless, uid.HTJ2K], (("pylibjpeg",), 0)),
    **dict.fromkeys([uid.RLELossless], (("pydicom", "pylibjpeg"), 0)),
}


def by_pydicom(path: Path, header: Header, plugin: str) -> np.ndarray | None:
    """pydicom's frame 0 in RGB or grey; None where it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what it mends, in files made to be broken
        ds = pydicom.dcmread(path, force=True)
        decoder = get_decoder(uid.UID(header.transfer_syntax))
        try:
            return decoder.as_array(ds, index=0, decoding_plugin=plugin)[0]
        except (RuntimeError, ValueError, AttributeError, NotImplementedError):
            return None


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """pydicom logs the whole trace of each decoder that cannot."""
    caplog.set_level("CRITICAL", logger="pydicom")


def test_values_of_real_files_are_those_of_another_decoder() -> None:
    compared = dict.fromkeys(OTHERS, 0)
    for path, data, header in real_images():
        if header.pixels is None or header.pixels.length is not None or path.name in REFUSED:
            continue
        plugins, tolerance = OTHERS.get(uid.UID(header.transfer_syntax), ((), 0))
        ours = decode_frame(data, header) if plugins else None
        for plugin in plugins:
            theirs = by_pydicom(path, header, plugin)
            if ours is not None and theirs is not None:
                assert np.abs(ours.astype(np.int64) - theirs).max() <= tolerance, f"{path.name}, {plugin}"
                compared[uid.UID(header.transfer_syntax)] += 1
    assert sum(compared.values()) > 30
    assert all(compared.values()) or real_data_folder() is None


def test_uncompressed_values_of_real_files_are_those_of_pydicom() -> None:
    compared = 0
    for path, data, header in real_images():
        if header.pixels is None or header.pixels.length is None or path.name in REFUSED:
            continue
        theirs = by_pydicom(path, header, "")
        if theirs is not None:
            assert np.array_equal(decode_frame(data, header), theirs), path.name
            compared += 1
    assert compared > 30


def test_one_image_in_several_lossless_codecs_is_one_image(real_data: Path) -> None:
    """The NEMA WG-04 images were compressed by different encoders from one original each."""
    for group in ("CT1", "MR1", "NM1"):
        hashes = set()
        for suffix in ("J2KR", "JLSL", "JPLL", "RLE"):
            path = real_data / "wg04" / f"{group}_{suffix}"
            if path.exists():
                data = path.read_bytes()
                hashes.add(frame_hash(decode_frame(data, read_header(data))))
        assert len(hashes) == 1


@pytest.mark.parametrize("name", ["MR1_JPLY", "NM1_JPLY", "XA1_JPLY"])
def test_twelve_bit_jpeg_is_as_the_insight_toolkit_reads_it(real_data: Path, name: str) -> None:
    """No decoder of pydicom reads these; SimpleITK does, through gdcm's 12 bit build of the IJG code."""
    import SimpleITK

    path = real_data / "wg04" / name
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    theirs = np.squeeze(SimpleITK.GetArrayFromImage(reader.Execute()))
    data = path.read_bytes()
    assert np.array_equal(decode_frame(data, read_header(data)), theirs)


def test_sequential_and_progressive_twelve_bit_jpeg_agree(real_data: Path) -> None:
    """Processes 4, 8 and 12 of one image hold the same coefficients in another order."""
    hashes = set()
    for process in (51, 53, 55):
        (path,) = (real_data / "cornerstone").glob(f"CTImage*.4.{process}.dcm")
        data = path.read_bytes()
        hashes.add(frame_hash(decode_frame(data, read_header(data))))
    assert len(hashes) == 1


@pytest.mark.parametrize("name", ["liver_rle", "liver_j2k", "liver_deflate", "liver_expb_1frame"])
def test_a_single_bit_segmentation_is_the_same_in_every_syntax(name: str) -> None:
    found = {
        path.name: path for path in [*pydicom_files(), *(real_data_folder() or Path()).rglob("liver*.dcm")]
    }
    if f"{name}.dcm" not in found or "liver.dcm" not in found:
        pytest.skip("no real DICOM files: set DICOMLAKE_TESTDATA to their folder")
    ours, reference = (
        decode_frame(data, read_header(data))
        for data in (found[f"{name}.dcm"].read_bytes(), found["liver.dcm"].read_bytes())
    )
    assert ours.dtype == bool
    assert np.array_equal(ours, reference)
