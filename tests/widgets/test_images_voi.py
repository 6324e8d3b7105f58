"""Windows: those of the header and of the modality; brightness against pydicom's `apply_voi`."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_voi, apply_windowing

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.headers import read_header
from dicomlake.widgets.images import voi
from dicomlake.widgets.images.contact import thumbnail, tiles
from dicomlake.widgets.images.encode import grey, jpeg, png
from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.images.still import still
from tests import objects
from tests.widgets.images_support import affine_of, image_on, voxels

UPRIGHT = affine_of(np.eye(3)[:, ::-1], (3.0, 1.0, 0.5))


def header(**elements: Any) -> Attributes:
    ds = objects.dataset(1)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return read_header(objects.as_bytes(ds)).dataset


def table(values: list[int], first: int, bits: int = 16, **more: Any) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "OW", np.array(values, "<u2").tobytes())
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (-600, 1500), (0.5, 1), (2048, 4096), (33.3, 7.5)])
@pytest.mark.parametrize("big", [False, True])
def test_brightness_is_that_of_pydicom(function: str, center: float, width: float, big: bool) -> None:
    values = np.arange(-3000, 3000, dtype=np.int16).reshape(60, 100)
    values = np.tile(values, (15, 1)) if big else values  # many pixels take the way of a table
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsStored, ds.PixelRepresentation = 16, 1
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = center, width, function
    with np.errstate(over="ignore"):  # of exp() in a sigmoid, far from its centre
        shown = apply_windowing(values, ds)
    wanted = (shown - -32768) / 65535 * 255
    found = grey(values, (center, width), function.lower())
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 0.5 + 1e-6


def test_the_formula_holds_for_values_in_units_not_for_what_travels() -> None:
    stored = np.arange(0, 300, dtype=np.uint16)
    by_units = grey(stored * np.float64(0.5) - 20, (30.0, 50.0))
    np.testing.assert_array_equal(grey(stored, (30.0, 50.0), slope=0.5, intercept=-20.0), by_units)
    np.testing.assert_array_equal(
        grey(np.array([np.nan, 0.0, 1.0], np.float32), (0.5, 1.0), "linear_exact"), [0, 0, 255]
    )
    assert set(grey(np.array([0.0, 1e-3]), (5e-4, 0.0)).tolist()) == {0, 255}  # no width: a step


def test_the_windows_of_the_header_come_first_with_what_they_are_called() -> None:
    told = header(
        WindowCenter=[40, -600, 20],
        WindowWidth=[400, 1500, 0],
        WindowCenterWidthExplanation=["SOFT_TISSUE", "Lung of Jane Doe", "BONE"],
        VOILUTFunction="SIGMOID",
    )
    found = voi.of_header(told)
    assert [(p.name, p.center, p.width, p.shape) for p in found] == [
        ("header: soft tissue", 40, 400, "sigmoid"),
        ("header 2", -600, 1500, "sigmoid"),  # free text is not shown; a window without width is none
    ]
    assert [p.center for p in voi.of_header(told, factor=0.5)] == [20, -300]
    assert voi.of_header(header()) == []


@pytest.mark.parametrize("entries", [200, 5000])
def test_a_voi_lut_is_that_of_pydicom(entries: int) -> None:
    values = (65535 * (np.arange(entries) / (entries - 1)) ** 2).astype(int).tolist()
    ds = objects.dataset(1)
    ds.VOILUTSequence = [table(values, -100 & 0xFFFF, LUTExplanation="NORMAL"), table([0, 1], 0)]
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
    told = read_header(objects.as_bytes(ds)).dataset
    first, second = voi.of_header(told, signed=True)
    assert (first.name, first.shape, second.name) == ("header: normal", "lut", "header 2")
    ds.VOILUTSequence[0].add_new("LUTDescriptor", "SS", [entries, -100, 16])  # pydicom goes by the VR
    numbers = np.arange(-300, entries + 300, dtype=np.int16)
    wanted = apply_voi(numbers, ds) / 65535 * 255
    assert first.lut is not None
    found = voi.looked_up(first.lut, numbers.astype(float))
    coarse = np.abs(np.diff(wanted)).max() * -(-entries // 1024)
    assert np.abs(found - wanted).max() <= 0.5 + coarse
    assert len(base64.b64decode(first.lut["values_base64"])) <= 1024
    assert len(str(first.meta())) < 2000


def test_a_broken_table_leaves_the_windows() -> None:
    told = header(VOILUTSequence=[table([1, 2, 3], 0, 9)], WindowCenter=1, WindowWidth=2)
    assert [p.name for p in voi.of_header(told)] == ["header"]


def test_ct_has_its_usual_windows_on_the_number_keys_and_one_by_its_values() -> None:
    image = image_on(UPRIGHT, voxels(), modality="CT", units="HU", window=[50.0, 350.0], source="stored")
    presets = Stack.of(image).presets
    assert [p.key for p in presets[:9]] == list("123456789")
    assert {p.key for p in presets[9:]} == {""}
    assert (presets[0].name, presets[0].center, presets[0].width) == ("header", 50.0, 350.0)
    names = [p.name for p in presets]
    assert presets[8].name == "automatic"
    assert {"lung", "bone", "brain", "subdural", "liver", "soft tissue", "angiography"} <= set(names)
    assert "mediastinum" not in names  # is what the header says
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("modality", ["MR", "NM", "MG", "CR", "DX", "XA", "PT", "RTDOSE", "OT", ""])
def test_every_modality_has_a_window_in_which_something_is_seen(modality: str) -> None:
    values = np.random.default_rng(1).gamma(2.0, 200.0, (4, 30, 30)).astype(np.uint16)
    stack = Stack.of(image_on(UPRIGHT, values, modality=modality))
    assert "automatic" in [p.name for p in stack.presets]
    for preset in stack.presets:
        shown = stack.shown(stack.run("axial", 1, 1)[0], preset=preset)
        assert shown.std() > 20
        assert preset.width > 0


def test_the_automatic_window_goes_by_the_values_without_padding() -> None:
    values = np.linspace(100, 1100, 4 * 30 * 30).reshape(4, 30, 30).astype(np.int16)
    values[:, :10] = -2000
    image = image_on(UPRIGHT, values, padding_value=-2000, source="stored", rescale_slope=2.0)
    auto = next(p for p in Stack.of(image).presets if p.name == "automatic")
    low, high = np.percentile(values[:, 10:] * 2.0, [1, 99.5])
    assert auto.center == pytest.approx((low + high) / 2, rel=0.01)
    assert auto.width == pytest.approx(high - low, rel=0.01)
    flat = Stack.of(image_on(UPRIGHT, np.full((4, 5, 6), 7, np.int16)))
    assert flat.presets[-1].width > 0
    assert flat.value_range()[0] < flat.value_range()[1]


def test_a_header_brings_all_its_windows_to_the_stack() -> None:
    told = header(WindowCenter=[10, 20], WindowWidth=[100, 200])
    image = image_on(UPRIGHT, voxels(), modality="CT", units="HU", source="stored")
    assert [p.center for p in Stack.of(image, header=told).presets[:2]] == [10, 20]
    assert Stack.of(image, header=header(BurnedInAnnotation="YES")).burned_in
    assert Stack.of(image, header=header(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")).burned_in  # captured
    assert not Stack.of(image, header=told).burned_in


# ---- pictures ----------------------------------------------------------------------------------------


def read(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as found:
        return np.asarray(found)


def test_monochrome1_is_told_and_shown_inverted() -> None:
    plain = image_on(UPRIGHT, voxels(), modality="MR", source="stored")
    dark = plain.assign_attrs(photometric_interpretation="MONOCHROME1")
    assert Stack.of(dark).meta()["inverted"] is True
    assert Stack.of(plain).meta()["inverted"] is False
    numbers = Stack.of(plain).run("axial", 1, 1)[0]
    one, other = (Stack.of(i).shown(numbers, (100.0, 200.0)) for i in (plain, dark))
    np.testing.assert_array_equal(one, 255 - other)
    np.testing.assert_array_equal(Stack.of(dark).shown(numbers, (100.0, 200.0), invert=True), one)


def test_jpeg_and_png_are_pictures_of_what_was_given() -> None:
    rows, cols = np.indices((64, 80))
    picture = (rows + 2 * cols).astype(np.uint8)
    np.testing.assert_array_equal(read(png(picture)), picture)
    assert np.abs(read(jpeg(picture)).astype(int) - picture).mean() < 2
    colour = np.stack([picture, 255 - picture, picture // 2], axis=-1)
    np.testing.assert_array_equal(read(png(colour)), colour)
    assert read(jpeg(colour[:, ::-1])).shape == (64, 80, 3)


def test_the_still_is_the_middle_plane_true_in_mm_and_none_where_text_may_be() -> None:
    values = np.zeros((7, 40, 40), np.int16)
    values[3, :20] = 1000  # anterior half of the middle slice
    image = image_on(UPRIGHT, values, modality="CT", units="HU", source="stored", window=[500.0, 1000.0])
    measured = [header(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")]
    picture = still(Stack.of(image, objects=measured))
    assert picture is not None
    found = read(picture)
    assert found.shape == (320, 160)  # 40 mm high, 20 mm wide
    assert found[:150].min() > 250
    assert found[170:].max() < 5
    assert still(Stack.of(image.assign_attrs(modality="US"), objects=measured)) is None
    assert still(Stack.of(image)) is None


def test_a_thumbnail_reads_one_plane_only() -> None:
    values = np.random.default_rng(0).integers(0, 1000, (3, 9, 40, 60)).astype(np.int16)
    seen: list[int] = []

    def block(part: np.ndarray) -> np.ndarray:
        seen.append(part.size)
        return part

    lazy = xr.DataArray(values, dims=("time", "frame", "y", "x")).chunk({"time": 1, "frame": 1})
    lazy = lazy.copy(data=lazy.data.map_blocks(block, dtype=np.int16, meta=np.empty((0,) * 4, np.int16)))
    picture = read(thumbnail(lazy, size=48))
    assert picture.shape == (32, 48)
    assert seen == [40 * 60]
    assert picture.std() > 10


def test_tiles_are_every_nth_plane() -> None:
    values = np.zeros((25, 40, 40), np.uint8)
    values += np.arange(25, dtype=np.uint8)[:, None, None] * 10
    stack = Stack.of(image_on(UPRIGHT, values, modality="MR", source="stored"))
    for every in (1, 3, 10):
        found = tiles(stack, "axial", every, 64, window=(127.5, 255.0))
        assert [t.number for t in found] == list(range(0, 25, every))
        for tile in found:
            picture = read(tile.png)
            assert picture.shape == (64, 32)
            assert abs(int(picture[10, 10]) - tile.number * 10) <= 1
    with pytest.raises(Exception, match="axial"):
        tiles(stack, "frame")
