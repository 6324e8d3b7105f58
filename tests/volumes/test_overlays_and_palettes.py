"""Overlays and palettes are arrays beside the image, bit for bit, and a broken one never costs the image."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pydicom
import pytest
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

import dicomlake
from dicomlake import datasets
from dicomlake.errors import VolumeError
from dicomlake.records import Instance, Volume
from dicomlake.storage import arrays
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes.build import build
from dicomlake.volumes.colour import to_rgb
from dicomlake.volumes.manifest import volume_of_store
from dicomlake.volumes.read import open_volume
from dicomlake.volumes.virtual import build_reference
from tests import objects
from tests.volumes import stores

SIZE = 16
Build = Callable[..., Volume]
BUILDS = [build, build_reference]


def slice_of(number: int, **others: Any) -> Dataset:
    return objects.dataset(number, series=stores.KEY.series_uid, size=SIZE, **others)


def draw(
    ds: Dataset,
    group: int,
    planes: np.ndarray,
    *,
    origin: Sequence[int] = (1, 1),
    kind: str = "G",
    **more: Any,
) -> Dataset:
    """Give an object an overlay of one plane (rows, columns), or of several."""
    frames = planes.reshape(-1, *planes.shape[-2:])
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    given = {
        0x10: ("US", frames.shape[1]),
        0x11: ("US", frames.shape[2]),
        0x22: ("LO", "Phantom drew this"),
        0x40: ("CS", kind),
        0x50: ("SS", list(origin)),
        0x100: ("US", 1),
        0x102: ("US", 0),
        0x1500: ("LO", "Phantom's mark"),
        0x3000: ("OW", packed + bytes(len(packed) % 2)),
    }
    if planes.ndim == 3:
        given[0x15] = ("IS", len(frames))
        given[0x51] = ("US", more.get("first", 1))
    for element, (vr, value) in sorted(given.items()):
        ds.add_new(group << 16 | element, vr, value)
    return ds


def made(
    root: Path,
    sets: Sequence[Dataset],
    how: Build = build,
    shape: Sequence[int] | None = None,
    dims: Sequence[str] = ("z", "y", "x"),
    **info: Any,
) -> tuple[Volume, Path]:
    """A volume of these objects, each with the frames it says."""
    storage = LocalStorage(root)
    instances: dict[str, Instance] = {}
    frames = []
    for ds in sets:
        instance, first = stores.keep(storage, objects.as_bytes(ds))
        instances[instance.sop_instance_uid] = instance
        frames += stores.frames_of(first, int(ds.get("NumberOfFrames", 1)))
    plan = stores.planned(frames, shape or (len(frames), SIZE, SIZE), dims, frames[0].pixel.dtype, **info)
    volume = how(storage, plan, instances)
    storage.close()
    return volume, root / str(volume.key)


def mask(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape or (SIZE, SIZE)) < 0.3


def clean(store: Path) -> bool:
    """Nothing of what somebody typed is in the store."""
    return not any(b"Phantom" in path.read_bytes() for path in store.rglob("*") if path.is_file())


# ---- overlays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BUILDS)
@pytest.mark.parametrize("limit", [72 << 20, 4096])
def test_overlays_lie_beside_the_image_frame_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Build, limit: int
) -> None:
    monkeypatch.setattr(arrays, "_SHARD_BYTES", limit)  # 4096: shards of eight slices
    sets = [slice_of(number) for number in range(1, 71)]
    wanted = np.zeros((2, 70, SIZE, SIZE), bool)
    for at in (*range(0, 64, 3), 69):
        wanted[0, at] = mask(at)
        draw(sets[at], 0x6000, wanted[0, at])
    wanted[1, 65] = mask(100)
    draw(sets[65], 0x601E, wanted[1, 65], kind="R")
    volume, store = made(tmp_path, sets, how)
    for chunks in ("auto", None, {"z": 7}):
        opened = open_volume(volume, store, chunks=chunks)
        assert [*opened.data_vars] == ["image", "overlay_6000", "overlay_601e"]
        for name, values in zip(("overlay_6000", "overlay_601e"), wanted, strict=True):
            assert opened[name].dims == ("z", "y", "x")
            assert opened[name].dtype == bool
            np.testing.assert_array_equal(opened[name].values, values)
            np.testing.assert_array_equal(opened[name][60:, 3].values, values[60:, 3])
    assert opened.overlay_6000.attrs["OverlayType"] == "G"
    assert opened.overlay_601e.attrs["OverlayType"] == "R"
    np.testing.assert_array_equal(opened.overlay_6000.dicom.affine, opened.image.dicom.affine)
    assert clean(store)
    assert "Phantom" not in str(volume)


def test_overlays_are_lazy_and_cut_as_the_image_is(tmp_path: Path) -> None:
    sets = [draw(slice_of(number), 0x6000, mask(number)) for number in range(1, 71)]
    opened = open_volume(*made(tmp_path, sets))
    assert isinstance(opened.overlay_6000.data, da.Array)
    assert opened.overlay_6000.chunks == opened.image.chunks == ((64, 6), (SIZE,), (SIZE,))


def test_any_zarr_reader_finds_them(tmp_path: Path) -> None:
    sets = [draw(slice_of(number), 0x6000, mask(number)) for number in range(1, 4)]
    _volume, store = made(tmp_path, sets)
    opened = xr.open_zarr(store, group="scale0")
    np.testing.assert_array_equal(opened.overlay_6000.values, [mask(n) for n in range(1, 4)])
    assert opened.overlay_6000.attrs == {"OverlayType": "G"}
    alone = xr.open_dataset(store, engine="dicomlake")
    np.testing.assert_array_equal(alone.overlay_6000.values, [mask(n) for n in range(1, 4)])


@pytest.mark.parametrize("origin", [(-3, 5), (9, 12), (1, 40)])
def test_a_plane_that_sticks_out_is_cut_at_the_image(tmp_path: Path, origin: tuple[int, int]) -> None:
    small = mask(5, 11, 9)
    volume, store = made(tmp_path, [draw(slice_of(1), 0x6000, small, origin=origin), slice_of(2)])
    wanted = np.zeros((2, SIZE, SIZE), bool)
    for (row, column), bit in np.ndenumerate(small):
        y, x = row + origin[0] - 1, column + origin[1] - 1
        if 0 <= y < SIZE and 0 <= x < SIZE:
            wanted[0, y, x] = bit
    np.testing.assert_array_equal(open_volume(volume, store).overlay_6000.values, wanted)


@pytest.mark.parametrize("how", BUILDS)
def test_overlays_in_unused_bits_of_the_pixels_are_found_too(tmp_path: Path, how: Build) -> None:
    values = stores.voxels((3, SIZE, SIZE)) & 0xFFF
    bits = np.stack([mask(1), mask(2), mask(3)])
    ds = slice_of(1, BitsStored=12, HighBit=11, NumberOfFrames=3)
    ds.PixelData = (values | bits.astype(np.uint16) << 13).tobytes()
    for element, vr, value in ((0x10, "US", SIZE), (0x11, "US", SIZE), (0x100, "US", 16), (0x102, "US", 13)):
        ds.add_new(0x6004 << 16 | element, vr, value)
    volume, store = made(tmp_path, [ds], how)
    opened = open_volume(volume, store)
    np.testing.assert_array_equal(opened.image.values, values)
    np.testing.assert_array_equal(opened.overlay_6004.values, bits)
    assert "OverlayType" not in opened.overlay_6004.attrs


def test_an_overlay_of_several_frames_goes_with_the_frames_it_says(tmp_path: Path) -> None:
    ds = slice_of(1, NumberOfFrames=5)
    ds.PixelData = stores.voxels((5, SIZE, SIZE)).tobytes()
    volume, store = made(tmp_path, [draw(ds, 0x6000, mask(4, 2, SIZE, SIZE), first=3)])
    wanted = np.zeros((5, SIZE, SIZE), bool)
    wanted[2:4] = mask(4, 2, SIZE, SIZE)
    np.testing.assert_array_equal(open_volume(volume, store).overlay_6000.values, wanted)


def test_the_overlay_of_a_mosaic_is_cut_as_its_tiles_are(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    values = stores.voxels((2, 4, 6, 5))
    plan, instances = stores.mosaics(storage, values, 2)
    drawn = mask(8, 12, 10)
    key = plan.frames[4].sop_instance_uid  # the second time
    path = tmp_path / instances[key].key
    path.write_bytes(objects.as_bytes(draw(pydicom.dcmread(path), 0x6000, drawn)))
    volume = build(storage, plan, instances)
    storage.close()
    found = open_volume(volume, tmp_path / str(volume.key)).overlay_6000.values
    assert found.shape == (2, 4, 6, 5)
    assert not found[0].any()
    np.testing.assert_array_equal(np.block([[found[1, 0], found[1, 1]], [found[1, 2], found[1, 3]]]), drawn)


@pytest.mark.parametrize("how", BUILDS)
def test_a_colour_image_has_overlays_without_colour(tmp_path: Path, how: Build) -> None:
    sets = []
    for number in (1, 2, 3):
        colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        ds = slice_of(number, **colour, BitsAllocated=8, BitsStored=8, HighBit=7)
        ds.PixelData = bytes(range(256)) * 3
        sets.append(draw(ds, 0x6000, mask(number)))
    volume, store = made(tmp_path, sets, how, (3, SIZE, SIZE, 3), ("frame", "y", "x", "rgb"))
    for chunks in ("auto", (1, SIZE, SIZE, 3)):
        found = open_volume(volume, store, chunks=chunks)
        assert found.overlay_6000.dims == ("frame", "y", "x")
        np.testing.assert_array_equal(found.overlay_6000.values, [mask(n) for n in (1, 2, 3)])
    assert to_rgb(found).identical(found.image)


@pytest.mark.parametrize("how", BUILDS)
def test_an_overlay_that_cannot_be_read_is_left_out_and_told(tmp_path: Path, how: Build) -> None:
    sets = [draw(slice_of(number), 0x6000, mask(number)) for number in range(1, 4)]
    draw(sets[0], 0x6002, mask(9))
    sets[1][0x60003000].value = bytes(4)  # cut off
    volume, store = made(tmp_path, sets, how)
    opened = open_volume(volume, store)
    assert [*opened.data_vars] == ["image", "overlay_6002"]
    assert opened.image.shape == (3, SIZE, SIZE)
    assert opened.image.values[1, 0, 3] == 203
    assert opened.attrs["overlays_unread"] == {"overlay_6000": "the overlay data are cut off"}
    assert not (store / "scale0" / "overlay_6000").exists()
    listed = json.loads((store / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert "scale0/overlay_6002" in listed
    assert "scale0/overlay_6000" not in listed
    np.testing.assert_array_equal(opened.overlay_6002.values[0], mask(9))


def test_objects_that_disagree_about_the_type_leave_it_open(tmp_path: Path) -> None:
    sets = [draw(slice_of(n), 0x6000, mask(n), kind=kind) for n, kind in ((1, "G"), (2, "R"))]
    sets.append(draw(slice_of(3), 0x6002, mask(3), kind="PHANTOM"))
    volume, store = made(tmp_path, sets)
    opened = open_volume(volume, store)
    assert "OverlayType" not in opened.overlay_6000.attrs
    assert "OverlayType" not in opened.overlay_6002.attrs
    assert b"PHANTOM" not in b"".join(path.read_bytes() for path in store.rglob("zarr.json"))


def test_halved_copies_come_without_overlays(tmp_path: Path) -> None:
    sets = [draw(slice_of(number), 0x6000, mask(number)) for number in range(1, 5)]
    volume, store = made(tmp_path, sets, levels=2)
    assert [*open_volume(volume, store, level=1).data_vars] == ["image"]


def test_a_lost_file_of_an_overlay_is_an_error(tmp_path: Path) -> None:
    volume, store = made(tmp_path, [draw(slice_of(1), 0x6000, np.zeros((SIZE, SIZE), bool))])
    assert not open_volume(volume, store).overlay_6000.values.any()
    (store / "scale0" / "overlay_6000" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(VolumeError, match="missing"):
        open_volume(volume, store).overlay_6000.values  # noqa: B018


def test_the_store_says_what_the_record_says(tmp_path: Path) -> None:
    volume, store = made(tmp_path, [draw(slice_of(1), 0x6000, mask(1))])
    assert volume_of_store(store).info == volume.info
    assert volume.info["overlays"]["overlay_6000"]["OverlayType"] == "G"


def in_a_lake(folder: Path, file: Path) -> xr.Dataset:
    with dicomlake.open(folder, create=True) as lake:
        lake.ingest(file, progress=False)
        assert lake.findings() == []
        (volume,) = lake.volumes()
        return lake.open_volume(volume).compute()


def sample(name: str) -> Path:
    return next(path for path in datasets.pydicom_samples() if path.name == name)


def test_the_overlay_of_a_real_image_is_that_of_pydicom(tmp_path: Path) -> None:
    file = sample("examples_overlay.dcm")
    wanted = pydicom.dcmread(file).overlay_array(0x6000).astype(bool)
    found = in_a_lake(tmp_path / "lake", file).overlay_6000
    assert found.shape == (1, *wanted.shape)
    assert wanted.any()
    np.testing.assert_array_equal(found.values[0], wanted)


@pytest.mark.parametrize("name", ["ct-philips-screenshot/I10", "nibabel/slicethickness_empty_string.dcm"])
def test_overlays_of_other_makers_are_those_of_pydicom(tmp_path: Path, real_data: Path, name: str) -> None:
    wanted = pydicom.dcmread(real_data / name).overlay_array(0x6000).astype(bool)
    assert wanted.any()
    np.testing.assert_array_equal(
        in_a_lake(tmp_path / "lake", real_data / name).overlay_6000.values[0], wanted
    )


# ---- palettes --------------------------------------------------------------------------------------------


def painted(number: int, table: np.ndarray, *, first: int = 0, frames: int = 1) -> Dataset:
    """An object of 8-bit indices 0, 1, … 255 with a palette, (entries, 3) of uint8 or uint16."""
    ds = slice_of(number, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.RescaleSlope = ds.RescaleIntercept = None
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.PixelData = bytes(range(256)) * frames
    if frames > 1:
        ds.NumberOfFrames = frames
    for channel, name in enumerate(("Red", "Green", "Blue")):
        bits = 8 * table.dtype.itemsize
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [len(table) & 0xFFFF, first, bits])
        setattr(ds, f"{name}PaletteColorLookupTableData", table[:, channel].tobytes())
    return ds


def colours(count: int, dtype: Any = np.uint16, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (count, 3), dtype)


@pytest.mark.parametrize("how", BUILDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("first", "count"), [(0, 256), (40, 100)])
def test_a_palette_turns_indices_into_colours(
    tmp_path: Path, how: Build, dtype: Any, first: int, count: int
) -> None:
    table = colours(count, dtype)
    volume, store = made(
        tmp_path, [painted(n, table, first=first) for n in (1, 2)], how, dims=("frame", "y", "x")
    )
    opened = open_volume(volume, store)
    np.testing.assert_array_equal(opened.image.values[1].ravel(), np.arange(256))  # stays an index
    np.testing.assert_array_equal(opened.palette.values, table)
    assert opened.palette.dims == ("index", "rgb")
    assert opened.palette.attrs == {"first": first}
    wanted = table[np.clip(np.arange(256) - first, 0, count - 1)].reshape(SIZE, SIZE, 3)
    found = to_rgb(opened)
    assert found.dims == ("frame", "y", "x", "rgb")
    assert found.dtype == dtype
    assert found.attrs["photometric_interpretation"] == "RGB"
    for plane in found.values:
        np.testing.assert_array_equal(plane, wanted)
    np.testing.assert_array_equal(to_rgb(opened.isel(frame=0, y=slice(3, 5))).values, wanted[3:5])


def test_colours_are_lazy(tmp_path: Path) -> None:
    opened = open_volume(*made(tmp_path, [painted(1, colours(256))], dims=("frame", "y", "x")))
    assert isinstance(to_rgb(opened).data, da.Array)


def test_a_black_palette_is_there(tmp_path: Path) -> None:
    black = np.zeros((256, 3), np.uint16)
    opened = open_volume(*made(tmp_path, [painted(1, black)], dims=("frame", "y", "x")))
    assert not to_rgb(opened).values.any()


def test_a_palette_of_several_frames_holds_for_all(tmp_path: Path) -> None:
    table = colours(256, np.uint8)
    volume, store = made(tmp_path, [painted(1, table, frames=3)], dims=("frame", "y", "x"))
    np.testing.assert_array_equal(to_rgb(open_volume(volume, store)).values.reshape(3, 256, 3), [table] * 3)


@pytest.mark.parametrize("how", BUILDS)
def test_palettes_that_differ_are_left_out_and_told(tmp_path: Path, how: Build) -> None:
    sets = [painted(n, colours(256, seed=n)) for n in (1, 2)]
    volume, store = made(tmp_path, sets, how, dims=("frame", "y", "x"))
    check_left_out(volume, store)


def test_a_palette_that_is_broken_does_not_cost_the_image(tmp_path: Path) -> None:
    sets = [painted(n, colours(256)) for n in (1, 2)]
    sets[1].GreenPaletteColorLookupTableData = b"\0\0"
    check_left_out(*made(tmp_path, sets, dims=("frame", "y", "x")))


def check_left_out(volume: Volume, store: Path) -> None:
    assert volume.info["palette_differs"] is True
    opened = open_volume(volume, store)
    assert "palette" not in opened
    assert opened.attrs["palette_differs"] is True
    np.testing.assert_array_equal(opened.image.values[1].ravel(), np.arange(256))
    with pytest.raises(VolumeError, match="different palettes"):
        to_rgb(opened)


def test_an_image_without_a_palette_has_no_colours(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no palette"):
        to_rgb(open_volume(*made(tmp_path, [slice_of(1)])))


@pytest.mark.parametrize("of_wheel", ["examples_palette.dcm", None])
def test_colours_of_real_images_are_those_of_pydicom(
    tmp_path: Path, request: pytest.FixtureRequest, of_wheel: str | None
) -> None:
    if of_wheel is not None:
        files = [sample(of_wheel)]
    else:
        real = request.getfixturevalue("real_data")
        names = ("OBXXXX1A_rle_2frame.dcm", "gdcm-US-ALOKA-16.dcm")
        files = [real / "pydicom-data" / name for name in names]
    for number, file in enumerate(files):
        ds = pydicom.dcmread(file)
        wanted = apply_color_lut(ds.pixel_array, ds)
        found = to_rgb(in_a_lake(tmp_path / str(number), file))
        np.testing.assert_array_equal(found.values.reshape(wanted.shape), wanted)


def test_frames_of_one_volume_in_another_order_keep_their_overlays(tmp_path: Path) -> None:
    """The overlay follows its frame, not the order in which objects are stored."""
    storage = LocalStorage(tmp_path)
    kept = [stores.keep(storage, objects.as_bytes(draw(slice_of(n), 0x6000, mask(n)))) for n in range(1, 7)]
    frames = [frame for _, frame in kept][::-1]
    instances: Mapping[str, Instance] = {one.sop_instance_uid: one for one, _ in kept}
    plan = stores.planned(frames, (2, 3, SIZE, SIZE), ("time", "z", "y", "x"))
    plan = replace(plan, volume=replace(plan.volume, number=4))
    volume = build(storage, plan, instances)
    storage.close()
    found = open_volume(volume, tmp_path / str(volume.key)).overlay_6000.values
    np.testing.assert_array_equal(found.reshape(6, SIZE, SIZE), [mask(n) for n in range(6, 0, -1)])
