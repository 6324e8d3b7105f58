"""Overlays against pydicom, DCMTK and by hand."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from dicomlake.dicom.headers import read_header
from dicomlake.dicom.overlays import overlay_frame, overlays_of
from dicomlake.errors import BrokenObject, UnsupportedPixels
from tests.dicom.phantoms import as_bytes, slice_dataset
from tests.support import pydicom_files, real_data_folder


def bits(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(bool)


def with_overlay(
    planes: np.ndarray, origin: tuple[int, int] = (1, 1), group: int = 0x6000, ds: Dataset | None = None
) -> Dataset:
    """An image of 9 x 7 with an overlay of these planes (frames, rows, columns) or (rows, columns)."""
    ds = ds or slice_dataset(pixels=np.zeros((9, 7), np.uint16))
    ds.add_new((group, 0x10), "US", planes.shape[-2])
    ds.add_new((group, 0x11), "US", planes.shape[-1])
    if planes.ndim == 3:
        ds.add_new((group, 0x15), "IS", len(planes))
    ds.add_new((group, 0x40), "CS", "G")
    ds.add_new((group, 0x50), "SS", list(origin))
    ds.add_new((group, 0x100), "US", 1)
    ds.add_new((group, 0x102), "US", 0)
    packed = np.packbits(planes.ravel(), bitorder="little").tobytes()
    ds.add_new((group, 0x3000), "OW", packed + b"\0" * (len(packed) % 2))
    return ds


def drawn(ds: Dataset, frame: int = 0, number: int = 0) -> np.ndarray:
    data = as_bytes(ds)
    header = read_header(data)
    return overlay_frame(header, overlays_of(header.dataset)[number], frame, source=data)


def clipped(plane: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Bit by bit, by the definition of OverlayOrigin."""
    image = np.zeros(shape, dtype=bool)
    for (row, column), bit in np.ndenumerate(plane):
        r, c = row + origin[0] - 1, column + origin[1] - 1
        if 0 <= r < shape[0] and 0 <= c < shape[1]:
            image[r, c] = bit
    return image


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_an_overlay_is_read_as_pydicom_does(syntax: uid.UID) -> None:
    ds = with_overlay(bits((9, 7)))
    ds.file_meta.TransferSyntaxUID = syntax
    theirs = pydicom.dcmread(BytesIO(as_bytes(ds))).overlay_array(0x6000)
    assert np.array_equal(drawn(ds), theirs.astype(bool))
    assert np.array_equal(drawn(ds), bits((9, 7)))


def test_the_words_of_a_big_endian_overlay_are_swapped() -> None:
    ds = with_overlay(bits((9, 7)))
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian
    element = ds[0x6000, 0x3000]
    element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()
    assert np.array_equal(drawn(ds), bits((9, 7)))


@pytest.mark.parametrize("origin", [(1, 1), (3, 2), (-2, 0), (0, -30), (9, 7), (10, 8), (300, 1), (-8, -6)])
@pytest.mark.parametrize("shape", [(9, 7), (3, 4), (20, 30)])
def test_what_lies_outside_the_image_is_cut_off(origin: tuple[int, int], shape: tuple[int, int]) -> None:
    plane = bits(shape)
    assert np.array_equal(drawn(with_overlay(plane, origin)), clipped(plane, origin, (9, 7)))


def test_planes_of_a_multi_frame_overlay_go_with_frames_from_their_origin() -> None:
    planes = bits((3, 9, 7))
    ds = with_overlay(planes, ds=slice_dataset(pixels=np.zeros((9, 7), np.uint16), NumberOfFrames=6))
    ds.PixelData = bytes(6 * 9 * 7 * 2)
    ds.add_new((0x6000, 0x51), "US", 2)
    found = [drawn(ds, frame) for frame in range(6)]
    assert [plane.any() for plane in found] == [False, True, True, True, False, False]
    assert np.array_equal(found[1:4], planes)
    assert np.array_equal(planes, ds.overlay_array(0x6000).astype(bool))


def test_a_single_plane_goes_with_all_frames() -> None:
    ds = with_overlay(bits((9, 7)), ds=slice_dataset(pixels=np.zeros((9, 7), np.uint16), NumberOfFrames=3))
    ds.PixelData = bytes(3 * 9 * 7 * 2)
    assert all(np.array_equal(drawn(ds, frame), bits((9, 7))) for frame in range(3))
    with pytest.raises(IndexError):
        drawn(ds, 3)


def test_overlays_are_listed_by_group_without_their_bits() -> None:
    ds = with_overlay(bits((9, 7), 1), (2, -3), 0x6004)
    ds = with_overlay(bits((4, 5), 2), ds=ds)
    first, second = overlays_of(read_header(as_bytes(ds)).dataset)
    assert (first.group, first.rows, first.columns, first.kind, first.bit) == (0x6000, 4, 5, "G", None)
    assert (second.group, second.row, second.column) == (0x6004, 1, -4)
    assert np.array_equal(drawn(ds, number=1), clipped(bits((9, 7), 1), (2, -3), (9, 7)))


def test_an_overlay_without_size_or_bits_is_none() -> None:
    ds = with_overlay(bits((9, 7)))
    del ds[0x6000, 0x3000]
    assert overlays_of(read_header(as_bytes(ds)).dataset) == ()
    ds = with_overlay(bits((9, 7)))
    ds[0x6000, 0x10].value = 0
    assert overlays_of(read_header(as_bytes(ds)).dataset) == ()


def test_bits_that_are_cut_off_are_refused() -> None:
    ds = with_overlay(bits((9, 7)))
    ds[0x6000, 0x3000].value = ds[0x6000, 0x3000].value[:-2]
    with pytest.raises(BrokenObject, match="cut off"):
        drawn(ds)


def test_an_overlay_too_long_for_the_header_is_read_from_the_object() -> None:
    planes = bits((3, 2000, 1500))
    data = as_bytes(with_overlay(planes, ds=slice_dataset(NumberOfFrames=3, PixelData=bytes(144))))
    header = read_header(data)
    (overlay,) = overlays_of(header.dataset)
    assert np.array_equal(overlay_frame(header, overlay, 2, source=data), planes[2, :4, :6])
    with pytest.raises(ValueError, match="pass source"):
        overlay_frame(header, overlay, 2)


# ---- in the pixel data ----


def embedded(syntax: uid.UID = uid.ExplicitVRLittleEndian) -> tuple[Dataset, np.ndarray]:
    """Two frames of 12 bits with an overlay in bit 13, and its planes."""
    planes = bits((2, 9, 7), 5)
    values = np.random.default_rng(6).integers(0, 4096, (2, 9, 7))
    big = syntax == uid.ExplicitVRBigEndian
    ds = slice_dataset(pixels=np.zeros((9, 7), np.uint16), BitsStored=12, HighBit=11, NumberOfFrames=2)
    ds.PixelData = (values | planes << 13).astype(">u2" if big else "<u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    for element, vr, value in ((0x10, "US", 9), (0x11, "US", 7), (0x100, "US", 16), (0x102, "US", 13)):
        ds.add_new((0x6000, element), vr, value)
    ds.add_new((0x6000, 0x50), "SS", [1, 1])
    return ds, planes


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_an_overlay_in_unused_bits_of_the_pixels_is_read(syntax: uid.UID) -> None:
    ds, planes = embedded(syntax)
    assert np.array_equal([drawn(ds, frame) for frame in range(2)], planes)


def test_an_overlay_in_the_pixels_is_as_dcmtk_draws_it(tmp_path: Path) -> None:
    """dcm2pnm draws it white over an image that is made black (for all frames the plane of the first)."""
    if shutil.which("dcm2pnm") is None:
        pytest.skip("dcm2pnm is not installed")
    ds, planes = embedded()
    cells = np.frombuffer(ds.PixelData, "<u2") & 0xF000
    ds.PixelData = cells.tobytes()
    (tmp_path / "object").write_bytes(as_bytes(ds))
    window = ["+Ww", "2048", "4096"]
    subprocess.run(
        ["dcm2pnm", *window, "+opb", "+Omr", tmp_path / "object", tmp_path / "image.pgm"],
        check=True,
    )
    text = (tmp_path / "image.pgm").read_text().split()
    shape, values = (int(text[2]), int(text[1])), np.array(text[-63:], dtype=int)
    assert shape == (9, 7)
    assert np.array_equal(values.reshape(shape) > 0, planes[0])


def test_an_overlay_in_compressed_pixels_or_in_used_bits_is_refused() -> None:
    ds, _ = embedded()
    ds[0x6000, 0x102].value = 11
    with pytest.raises(BrokenObject, match="bit 11"):
        drawn(ds)
    ds, _ = embedded()
    ds.file_meta.TransferSyntaxUID = uid.JPEGLSLossless
    ds.PixelData = encapsulate([b"\xff\xd8"] * 2)
    ds["PixelData"].VR = "OB"
    with pytest.raises(UnsupportedPixels, match="uncompressed"):
        drawn(ds)


# ---- real files ----


def test_overlays_of_real_files_are_those_of_pydicom() -> None:
    compared, folder = 0, real_data_folder()
    names = ("ct-philips-screenshot", "nibabel")
    paths = [path for name in names for path in sorted((folder / name).iterdir())] if folder else []
    for path in [*paths, *pydicom_files()]:
        data = path.read_bytes()
        if b"\0\x60\0\x30" not in data:
            continue
        header = read_header(data)
        for overlay in overlays_of(header.dataset):
            ds = pydicom.dcmread(path)
            whole = ds.overlay_array(overlay.group).astype(bool)
            origin = (overlay.row + 1, overlay.column + 1)
            expected = clipped(whole, origin, (ds.Rows, ds.Columns))
            assert np.array_equal(overlay_frame(header, overlay, source=data), expected), path.name
            compared += 1
    assert compared >= 1
