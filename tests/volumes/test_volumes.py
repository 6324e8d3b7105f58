"""Volumes: the voxels, the place and the laziness of what a series opens as."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr

import dicomlake
from dicomlake import datasets
from dicomlake.datasets.chest_ct import chest_ct_hu
from dicomlake.errors import DicomlakeError, GeometryError, VolumeError
from dicomlake.lake import Lake
from dicomlake.storage import arrays
from tests import objects

SLICES = 70  # more than one slab


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    source = datasets.make("chest-ct", tmp_path_factory.mktemp("ct"), slices=SLICES)
    with dicomlake.open(tmp_path_factory.mktemp("lake"), create=True) as opened:
        report = opened.ingest(source)
        assert [v.verdict for v in report.volumes] == ["regular"]
        yield opened


@pytest.fixture
def image(lake: Lake) -> xr.DataArray:
    found: xr.DataArray = lake.query(Modality="CT")[0].open().image
    return found


def test_every_voxel_is_the_phantoms(image: xr.DataArray) -> None:
    z, y, x = range(SLICES), range(512), range(512)
    expected = chest_ct_hu(z, y, x, slices=SLICES)
    np.testing.assert_array_equal(image.dicom.hu().values, expected)
    np.testing.assert_array_equal(image.values.astype(int), expected + 1024)


def test_the_affine_and_the_coordinates_are_the_phantoms(image: xr.DataArray) -> None:
    truth = datasets.truth("chest-ct", slices=SLICES)
    np.testing.assert_allclose(image.dicom.affine, truth.affine_lps, atol=1e-9)
    np.testing.assert_allclose(image.attrs["affine_lps"], truth.affine_lps, atol=1e-9)
    origin, steps = np.array(truth.affine_lps)[:3, 3], np.array(truth.spacing_mm)
    for axis, name, lps in ((0, "z", 2), (1, "y", 1), (2, "x", 0)):
        expected = origin[lps] + steps[axis] * np.arange(image.sizes[name])
        np.testing.assert_allclose(image.coords[name].values, expected)
    assert image.attrs["units"] == "HU"
    assert image.attrs["source"] == "stored"


def test_each_slice_names_its_instance(image: xr.DataArray) -> None:
    truth = datasets.truth("chest-ct", slices=SLICES)
    assert image.coords["instance_uid"].values.tolist() == list(truth.instance_uids)


def test_nothing_is_read_before_compute(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read: list[Any] = []
    really_open, really_read = arrays.open_array, arrays.LazyArray.__getitem__

    def counting_open(store: Path, path: str) -> Any:
        opened.append(path)
        return really_open(store, path)

    def counting_read(self: arrays.LazyArray, key: Any) -> Any:
        read.append(key)
        return really_read(self, key)

    monkeypatch.setattr(arrays, "open_array", counting_open)
    monkeypatch.setattr(arrays.LazyArray, "__getitem__", counting_read)
    image = lake.query(Modality="CT")[0].open().image
    hu = image.dicom.hu().isel(z=slice(3, 5))
    repr(image), image._repr_html_(), hu.dicom.affine, image.dicom.rescaled()
    assert (opened, read) == ([], [])
    hu.compute()
    assert sorted(opened) == ["scale0/image", "scale0/instance_uid"]
    assert len(read) == 2


def test_one_dask_chunk_is_one_shard(image: xr.DataArray) -> None:
    assert image.chunks == ((64, SLICES - 64), (512,), (512,))
    assert len(dict(image.__dask_graph__())) <= 4


def test_without_dask_indexing_is_lazy_and_equal(lake: Lake, image: xr.DataArray) -> None:
    plain = lake.query(Modality="CT")[0].open(chunks=None).image
    assert plain.chunks is None
    assert not plain._in_memory
    np.testing.assert_array_equal(plain.isel(x=100).values, image.isel(x=100).values)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_any_scheduler_computes_the_same(image: xr.DataArray, scheduler: str) -> None:
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert int(image.isel(y=256).astype(np.int64).sum()) == int(image.values[:, 256].sum(dtype=np.int64))


def test_slicing_keeps_the_geometry(image: xr.DataArray) -> None:
    part = image.isel(z=slice(4, 40, 3), y=slice(100, 200), x=slice(50, 300, 2))
    whole = image.dicom.affine
    expected = whole @ np.array([4, 100, 50, 1])
    np.testing.assert_allclose(part.dicom.affine[:3, 3], expected[:3], atol=1e-6)
    np.testing.assert_allclose(part.dicom.affine[:3, 0], 3 * whole[:3, 0], atol=1e-6)
    np.testing.assert_allclose(part.dicom.affine[:3, 2], 2 * whole[:3, 2], atol=1e-6)
    np.testing.assert_allclose(image.isel(z=7).dicom.affine[:3, 3], (whole @ [7, 0, 0, 1])[:3], atol=1e-6)
    with pytest.raises(GeometryError, match="not evenly spaced"):
        _ = image.isel(z=[0, 1, 5]).dicom.affine


def test_a_patient_position_finds_its_voxel(image: xr.DataArray) -> None:
    index = np.array([[33, 200, 150], [0, 0, 0], [69, 511, 511]])
    points = image.dicom.affine @ np.c_[index, np.ones(3)].T
    found = image.dicom.at_lps(*points[:3])
    np.testing.assert_array_equal(found.values, image.values[tuple(index.T)])
    one = image.dicom.at_lps(*points[:3, 0])
    assert one.ndim == 0
    assert int(one) == int(image.values[33, 200, 150])
    with pytest.raises(GeometryError, match="outside"):
        image.dicom.at_lps(10_000, 0, 0)


def test_linear_interpolation_agrees_with_simpleitk(image: xr.DataArray) -> None:
    part = image.isel(z=slice(10, 20), y=slice(200, 260), x=slice(200, 260)).dicom.hu().astype(np.float32)
    part = part.assign_attrs(image.attrs).compute()
    reference = part.dicom.to_sitk()
    points = (part.dicom.affine @ np.array([[3.25, 20.5, 31.75, 1], [7.5, 11.1, 5.9, 1], [9, 59, 59, 1]]).T)[
        :3
    ]
    ours = part.dicom.at_lps(*points, method="linear").values
    theirs = [reference.EvaluateAtPhysicalPoint(p.tolist(), sitk.sitkLinear) for p in points.T]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_simpleitk_reads_the_same_image_from_the_originals(lake: Lake, image: xr.DataArray) -> None:
    series = lake.query(Modality="CT")[0]
    folder = lake.path / Path(series.instances[0].key).parent
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs, ours = reader.Execute(), image.dicom.hu().dicom.to_sitk()
    assert ours.GetSize() == theirs.GetSize()
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-9)
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(ours), sitk.GetArrayViewFromImage(theirs))


def test_plain_xarray_opens_the_store_without_a_warning(lake: Lake, image: xr.DataArray) -> None:
    store = lake.path / str(lake.volumes()[0].key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(store, group="scale0")
        tree = xr.open_datatree(store, engine="zarr", chunks={})
    np.testing.assert_array_equal(plain.image.isel(z=3).values, image.isel(z=3).values)
    np.testing.assert_allclose(plain.z, image.z)
    assert set(tree.children) == {"scale0", "scale1"}


def test_the_backend_opens_a_store_without_its_lake(lake: Lake, image: xr.DataArray) -> None:
    store = lake.path / str(lake.volumes()[0].key)
    alone = xr.open_dataset(store, engine="dicomlake").image
    np.testing.assert_allclose(alone.dicom.affine, image.dicom.affine)
    np.testing.assert_array_equal(alone.isel(y=9).dicom.hu(), image.isel(y=9).dicom.hu())
    assert xr.open_dataset(store, engine="dicomlake", chunks={}).image.chunks is not None
    assert xr.open_dataset(store).image.attrs["units"] == "HU"  # found without naming the engine
    with pytest.raises(VolumeError, match="no volume store"):
        xr.open_dataset(lake.path, engine="dicomlake")


def test_levels_are_means_at_the_right_place(lake: Lake, image: xr.DataArray) -> None:
    half = lake.query(Modality="CT")[0].open(level=1).image
    assert half.shape == (35, 256, 256)
    block = image.values[20:22, 300:302, 100:102].astype(int)
    assert int(half.values[10, 150, 50]) == (block.sum() + 4) >> 3
    np.testing.assert_allclose(half.z[10], image.z[20:22].mean())
    expected = image.dicom.affine @ np.array([20.5, 300.5, 100.5, 1])
    index = half.dicom.affine @ np.array([10, 150, 50, 1])
    np.testing.assert_allclose(index, expected, atol=1e-6)
    with pytest.raises(VolumeError, match="levels 0 to 1"):
        lake.query(Modality="CT")[0].open(level=2)


def test_ome_zarr_levels_scale_and_translate(lake: Lake, image: xr.DataArray) -> None:
    import json

    store = lake.path / str(lake.volumes()[0].key)
    levels = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    for level in levels:
        scale, shift = (t[t["type"]] for t in level["coordinateTransformations"])
        group = xr.open_zarr(store, group=level["path"].split("/")[0])
        for axis, name in enumerate("zyx"):
            np.testing.assert_allclose(group[name], shift[axis] + scale[axis] * np.arange(group.sizes[name]))


def test_verify_is_silent_on_a_good_volume_and_names_a_bad_slice(
    lake: Lake, image: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicomlake.volumes import check

    assert image.dicom.verify() == []
    really = arrays.open_array

    class Flipped:
        def __init__(self, array: Any) -> None:
            self._array = array
            self.shape, self.shards, self.chunks = array.shape, array.shards, array.chunks

        def __getitem__(self, key: Any) -> Any:
            values = np.array(self._array[key])
            values[5, 7, 9] ^= 1
            return values

    monkeypatch.setattr(
        check, "open_array", lambda s, p: Flipped(really(s, p)) if p.endswith("image") else really(s, p)
    )
    assert image.dicom.verify() == [5, 69]


def test_what_has_no_hounsfield_units_says_so(lake: Lake, tmp_path: Path) -> None:
    source = datasets.make("dynamic-pet", tmp_path / "pet", slices=4)
    first_frame = [
        p for p in sorted(source.iterdir()) if _frame_time(p) == _frame_time(sorted(source.iterdir())[0])
    ]
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(*first_frame)
        image = other.query(Modality="PT")[0].open().image
        with pytest.raises(DicomlakeError, match="not HU"):
            image.dicom.hu()
        assert image.coords["rescale_slope"].dims == ("z",)
        rescaled = image.dicom.rescaled()
        assert rescaled.dtype == np.float32
        by_uid = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in first_frame}
        for k, uid in enumerate(image.coords["instance_uid"].values):
            ds = by_uid[uid]
            expected = ds.pixel_array * np.float64(ds.RescaleSlope) + np.float64(ds.RescaleIntercept)
            np.testing.assert_allclose(rescaled.isel(z=k), expected, rtol=1e-6)


def _frame_time(path: Path) -> object:
    return pydicom.dcmread(path, stop_before_pixels=True).get("FrameReferenceTime")


def test_a_dynamic_series_has_its_frames_along_time(tmp_path: Path) -> None:
    source = datasets.make("dynamic-pet", tmp_path / "pet", slices=4)
    headers = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, source.iterdir())}
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(source)
        image = other.query(Modality="PT")[0].open().image
        assert image.dims == ("time", "z", "y", "x")
        uids = image.coords["instance_uid"].values
        assert uids.shape == image.shape[:2]
        times = [[float(headers[uid].FrameReferenceTime) for uid in row] for row in uids]
        heights = [[float(headers[uid].ImagePositionPatient[2]) for uid in row] for row in uids]
        assert (np.diff(times, axis=0) > 0).all()
        assert (np.diff(heights, axis=1) > 0).all()
        for place in np.ndindex(uids.shape):
            np.testing.assert_array_equal(image[place].values, headers[uids[place]].pixel_array)
        assert image.dicom.verify() == []


def test_late_slices_make_a_new_volume(tmp_path: Path) -> None:
    files = sorted(datasets.make("chest-ct", tmp_path / "ct", slices=8).iterdir())
    order = sorted(
        files, key=lambda p: float(pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[2])
    )
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(*order[:5])
        assert other.query(Modality="CT")[0].open().image.sizes["z"] == 5
        other.ingest(*order[5:])
        assert len(other.query()) == 1
        image = other.query(Modality="CT")[0].open().image
        assert image.sizes["z"] == 8
        assert image.dicom.verify() == []
        assert other.verify(deep=True).ok


def test_the_real_chest_ct_is_the_one_pydicom_reads(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "ct-chest-lidc"
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(folder)
        image = other.query(Modality="CT")[0].open().image
        assert image.shape == (100, 512, 512)
        slices = [pydicom.dcmread(p) for p in folder.rglob("*") if p.is_file()]
        slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
        for k, ds in enumerate(slices):
            np.testing.assert_array_equal(image.isel(z=k).values, ds.pixel_array)
        theirs = _lps_of_dcm2niix(real_data, "ct-chest-lidc", 512)
        np.testing.assert_allclose(image.dicom.affine[:3, :3], theirs[:3, :3], atol=1e-4)
        rounding = 0.5e-4 * 512  # the reference has four decimals, and its origin lies a row flip away
        np.testing.assert_allclose(image.dicom.affine[:3, 3], theirs[:3, 3], atol=rounding)


def _lps_of_dcm2niix(real_data: Path, folder: str, rows: int) -> np.ndarray:
    """dcm2niix's affine (index x, y flipped, z; RAS) as ours (index z, y, x; LPS)."""
    lines = (line.split("\t") for line in (real_data / "GEOMETRY.tsv").read_text().splitlines())
    numbers = next(np.array(line[5].split(), float) for line in lines if line[0] == folder)
    ras = np.vstack([numbers.reshape(3, 4), [0, 0, 0, 1]])
    unflipped = ras @ np.array([[1, 0, 0, 0], [0, -1, 0, rows - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    lps = np.diag([-1, -1, 1, 1]) @ unflipped
    return lps[:, [2, 1, 0, 3]]


def test_oblique_voxels_lie_where_the_headers_say(tmp_path: Path) -> None:
    """One echo of the brain phantom: an oblique stack, checked point by point against PS3.3 C.7.6.2.1.1."""
    source = datasets.make("brain-mr", tmp_path / "mr", slices=6)
    headers = {p: pydicom.dcmread(p) for p in source.iterdir()}
    echo = min(float(ds.EchoTime) for ds in headers.values())
    chosen = {p: ds for p, ds in headers.items() if float(ds.EchoTime) == echo}
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(*chosen)
        image = other.query(Modality="MR")[0].open().image
        by_uid = {ds.SOPInstanceUID: ds for ds in chosen.values()}
        for k, uid in enumerate(image.coords["instance_uid"].values):
            ds = by_uid[uid]
            np.testing.assert_array_equal(image.isel(z=k).values, ds.pixel_array)
            row, column = np.array(ds.ImageOrientationPatient[:3]), np.array(ds.ImageOrientationPatient[3:])
            between_rows, between_columns = map(float, ds.PixelSpacing)
            expected = (
                np.array(ds.ImagePositionPatient) + 17 * between_columns * row + 40 * between_rows * column
            )
            found = image.dicom.affine @ np.array([k, 40, 17, 1.0])
            np.testing.assert_allclose(found[:3], expected, atol=1e-3)


def _slices(tmp_path: Path, change: Any, count: int = 5, size: int = 16) -> xr.DataArray:
    objects_of_series = []
    for number in range(1, count + 1):
        ds = objects.dataset(number, size=size)
        change(ds, number)
        objects_of_series.append(objects.as_bytes(ds))
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*objects_of_series)
        found: xr.DataArray = lake.query()[0].open().image
        return found


def test_slices_without_a_slope_among_others_are_not_rescaled_by_guess(tmp_path: Path) -> None:
    def change(ds: pydicom.Dataset, number: int) -> None:
        ds.RescaleType = "HU"
        if number == 3:
            del ds.RescaleSlope, ds.RescaleIntercept

    with pytest.raises(DicomlakeError, match="some slices have a rescale slope"):
        _slices(tmp_path, change).dicom.rescaled()


def test_slices_scaled_apart_are_not_averaged_into_a_level(tmp_path: Path) -> None:
    def change(ds: pydicom.Dataset, number: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = number, 0

    _slices(tmp_path, change, size=512)
    with dicomlake.open(tmp_path / "lake") as lake:
        assert lake.volumes()[0].info["levels"] == 1


def test_positions_beyond_any_scanner_are_no_geometry(tmp_path: Path) -> None:
    def change(ds: pydicom.Dataset, number: int) -> None:
        ds.ImagePositionPatient = ["0", "0", f"{number}e307"]

    image = _slices(tmp_path, change)
    assert image.attrs["verdict"] == "none"
    assert image.dims == ("frame", "y", "x")
    assert "x" not in image.coords
