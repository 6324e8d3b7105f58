"""Stores of any dimensions: all voxels in their place, for any reader, and no zeros for what is lost."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

from dicomlake.dicom import pixels
from dicomlake.errors import VolumeError
from dicomlake.records import Volume
from dicomlake.storage import arrays
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes.build import build
from dicomlake.volumes.check import damaged_frames, differing_frames
from dicomlake.volumes.read import open_volume
from tests.support import PROJECT
from tests.volumes import stores

TIMES = {"time": {"dims": ["time"], "values": [0.0, 1.5, 3.0, 4.5], "units": "s"}}
CASES = [
    ((70, 24, 20), ("z", "y", "x"), np.int16),
    ((9, 24, 20), ("frame", "y", "x"), np.uint8),
    ((12, 9, 40, 33), ("time", "z", "y", "x"), np.uint16),
    ((2, 3, 4, 16, 12), ("echo", "time", "z", "y", "x"), np.uint16),
    ((2, 3, 24, 20), ("detector", "energy_window", "y", "x"), np.uint16),
    ((20, 30, 31, 3), ("frame", "y", "x", "rgb"), np.uint8),
    ((3, 5, 8, 7, 3), ("time", "frame", "y", "x", "rgb"), np.uint8),
    ((5, 6, 7), ("rotation", "y", "x"), np.uint16),
]


@pytest.mark.parametrize("make", [stores.single_frames, stores.one_object])
@pytest.mark.parametrize(("shape", "dims", "dtype"), CASES)
def test_every_voxel_is_in_its_place(
    tmp_path: Path, make: Any, shape: tuple[int, ...], dims: tuple[str, ...], dtype: Any
) -> None:
    values = stores.voxels(shape, dtype)
    volume, store = stores.built(tmp_path, make, values, dims)
    for chunks in ("auto", None):
        dataset = open_volume(volume, store, chunks=chunks)
        assert dataset.image.dims == dims
        assert dataset.image.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(dataset.image.values, values)
        uids = dataset.instance_uid.values
        assert uids.shape == shape[: dims.index("y")]
        assert len(set(uids.ravel())) == (uids.size if make is stores.single_frames else 1)
        if make is stores.one_object:
            np.testing.assert_array_equal(
                dataset.frame_index.values, np.arange(uids.size).reshape(uids.shape)
            )
    assert damaged_frames(store) == []


@pytest.mark.parametrize(("shape", "dims", "dtype"), CASES)
def test_one_dask_chunk_is_one_file(
    tmp_path: Path, shape: tuple[int, ...], dims: tuple[str, ...], dtype: Any
) -> None:
    volume, store = stores.built(tmp_path, stores.one_object, stores.voxels(shape, dtype), dims)
    image = open_volume(volume, store).image
    files = [p for p in (store / "scale0" / "image" / "c").rglob("*") if p.is_file()]
    assert image.data.npartitions == len(files)


def small_shards(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(arrays, "_SHARD_BYTES", limit)


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_many_shards_along_several_axes_come_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    small_shards(monkeypatch, limit)
    values = stores.voxels((3, 12, 11, 16, 12))
    volume, store = stores.built(tmp_path, stores.one_object, values, ("echo", "time", "z", "y", "x"))
    image = open_volume(volume, store).image
    assert image.data.npartitions > 5
    np.testing.assert_array_equal(image.values, values)
    np.testing.assert_array_equal(image[1, 3:7, ::-1, 5, 2:9:2].values, values[1, 3:7, ::-1, 5, 2:9:2])
    assert damaged_frames(store) == []
    zarr.open_array(store, path="scale0/frame_hash", mode="r+")[2, 7, 9] = 0
    assert damaged_frames(store) == [(2 * 12 + 7) * 11 + 9]


def test_the_tiles_of_a_mosaic_become_slices_and_each_image_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    really = pixels.FrameReader.frame

    def counting(self: Any, index: int) -> Any:
        decoded.append(index)
        return really(self, index)

    monkeypatch.setattr(pixels.FrameReader, "frame", counting)
    values = stores.voxels((4, 7, 12, 10))
    volume, store = stores.built(tmp_path, stores.mosaics, values, 3)
    assert len(decoded) == 4
    np.testing.assert_array_equal(open_volume(volume, store).image.values, values)
    assert damaged_frames(store) == []


def test_deep_comparison_cuts_the_tiles_again(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    values = stores.voxels((3, 4, 12, 10))
    plan, instances = stores.mosaics(storage, values, 2)
    volume = build(storage, plan, instances)
    store = tmp_path / str(volume.key)
    assert differing_frames(store, storage, instances) == []
    table = zarr.open_array(store, path="scale0/frame_hash", mode="r+")
    table[1, 2] = 0
    assert differing_frames(store, storage, instances) == [6]
    lost = {uid: one for uid, one in instances.items() if uid != plan.frames[0].sop_instance_uid}
    assert differing_frames(store, storage, lost) == [0, 1, 2, 3, 6]
    storage.close()


def test_a_frame_that_is_not_what_was_planned_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    plan, instances = stores.single_frames(storage, stores.voxels((3, 12, 10)), ("z", "y", "x"))
    wrong = replace(plan, volume=replace(plan.volume, shape=(3, 12, 11)))
    with pytest.raises(VolumeError, match="its header promises"):
        build(storage, wrong, instances)
    beyond = replace(plan, frames=(*plan.frames[:2], replace(plan.frames[2], frame_index=1)))
    with pytest.raises(VolumeError, match="has no frame 1"):
        build(storage, beyond, instances)
    storage.close()
    assert not (tmp_path / "studies").exists() or not list(tmp_path.rglob("*.zarr"))


# ---- coordinates -------------------------------------------------------------------------------------


def dynamic(tmp_path: Path, **info: Any) -> tuple[Volume, Path, np.ndarray]:
    values = stores.voxels((4, 3, 8, 6))
    volume, store = stores.built(tmp_path, stores.one_object, values, ("time", "z", "y", "x"), **info)
    return volume, store, values


def test_coordinates_of_the_record_are_on_the_array_and_in_the_store(tmp_path: Path) -> None:
    heights = [-100.0, -97.0, -90.0]
    clock = (np.arange(12.0).reshape(4, 3) + 0.25).tolist()
    clock[1][1] = None
    coords = {
        "time": {"dims": ["time", "z"], "values": clock, "units": "s"},
        "b": {"dims": ["time"], "values": [0, 50, 500, 1000], "units": "s/mm2"},
        "gradient": {"dims": ["time", "axis"], "values": np.eye(4, 3).tolist()},
        "component": {"dims": ["time"], "values": ["phase", None, "real", "mixed"]},
        "position": {"dims": ["z", "lps"], "values": np.arange(9.0).reshape(3, 3).tolist(), "units": "mm"},
        "rescale_slope": {"dims": ["time", "z"], "values": np.full((4, 3), 2.0).tolist()},
    }
    volume, store, _values = dynamic(tmp_path, coords=coords, z_mm=heights)
    wanted = np.array(clock, dtype=float)
    plain = xr.open_zarr(store, group="scale0")
    for dataset in (open_volume(volume, store), open_volume(volume, store, chunks=None), plain):
        np.testing.assert_array_equal(dataset.z, heights)
        np.testing.assert_allclose(dataset.y, 20 + 0.5 * np.arange(8))
        assert dataset["time"].dims == ("time", "z")
        np.testing.assert_array_equal(dataset["time"], wanted)
        assert dataset["time"].attrs["units"] == "s"
        assert dataset.b.values.tolist() == [0, 50, 500, 1000]
        assert dataset.gradient.dims == ("time", "axis")
        assert [str(text) for text in dataset.component.values] == ["phase", "", "real", "mixed"]
        assert dataset.position.sizes == {"z": 3, "lps": 3}
        assert dataset.rescale_slope.dims == ("time", "z")
    assert "component" in open_volume(volume, store).coords
    assert "ome" not in zarr.open_group(store, mode="r").attrs  # the slices are not evenly spaced


def test_a_sheared_volume_steps_along_its_normal(tmp_path: Path) -> None:
    volume, store, _ = dynamic(tmp_path, step_mm=[2.0, 0.5, 0.75])  # voxel centres are 2.5 mm apart
    opened = open_volume(volume, store)
    np.testing.assert_allclose(opened.z, [-100, -98, -96])
    assert opened.image.attrs["step_mm"] == [2.0, 0.5, 0.75]
    ome = zarr.open_group(store, mode="r").attrs["ome"]
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 2.0, 0.5, 0.75]


def test_irregular_slices_have_their_own_heights_and_no_affine(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = {"z_mm": [1.0, 2.0, 5.0], "pixel_spacing_mm": [0.5, 0.75], "origin_mm": [1.0, 20.0, 30.0]}
    plan, instances = stores.single_frames(storage, stores.voxels((3, 8, 6)), ("z", "y", "x"), **info)
    bare = replace(plan.volume, verdict="irregular", affine_lps=None, spacing_mm=None)
    volume = build(storage, replace(plan, volume=bare), instances)
    storage.close()
    image = open_volume(volume, tmp_path / str(volume.key)).image
    np.testing.assert_allclose(image.z, [1, 2, 5])
    np.testing.assert_allclose(np.diff(image.x), 0.75)
    assert image.attrs["origin_mm"] == [1.0, 20.0, 30.0]
    assert "affine_lps" not in image.attrs
    assert "ome" not in zarr.open_group(tmp_path / str(volume.key), mode="r").attrs


def test_without_geometry_there_are_no_coordinates_in_mm(tmp_path: Path) -> None:
    volume, store = stores.built(
        tmp_path, stores.one_object, stores.voxels((4, 8, 6, 3), np.uint8), ("frame", "y", "x", "rgb")
    )
    assert set(open_volume(volume, store).coords) == {"instance_uid", "frame_index"}
    assert "ome" not in zarr.open_group(store, mode="r").attrs


def test_a_volume_of_four_dimensions_has_levels_where_they_are_useful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch, 3 * 4 * 300 * 8 * 2)
    values = stores.voxels((3, 9, 300, 8))
    assert arrays.level_count(values.shape, ("time", "z", "y", "x"), "u2") == 2
    volume, store = stores.built(
        tmp_path,
        stores.one_object,
        values,
        ("time", "z", "y", "x"),
        levels=2,
        coords={
            "time": {"dims": ["time"], "values": [0.0, 2.0, 4.0], "units": "s"},
            "moment": {"dims": ["time", "z"], "values": np.zeros((3, 9)).tolist()},
        },
    )
    assert open_volume(volume, store).image.data.npartitions > 1
    half = open_volume(volume, store, level=1)
    assert half.image.shape == (3, 5, 150, 4)
    assert set(half.coords) == {"time", "z", "y", "x"}
    padded = np.concatenate([values, values[:, -1:]], axis=1).astype(int)
    blocks = padded.reshape(3, 5, 2, 150, 2, 4, 2).sum(axis=(2, 4, 6))
    np.testing.assert_array_equal(half.image.values, (blocks + 4) >> 3)
    np.testing.assert_allclose(half.z[:2], [-100 + 1.25, -100 + 6.25])


def test_more_levels_than_the_shards_allow_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shards(monkeypatch, 1 * 300 * 8 * 2)
    values = stores.voxels((5, 300, 8))
    volume, store = stores.built(tmp_path, stores.single_frames, values, ("z", "y", "x"), levels=3)
    assert volume.info["levels"] == 1
    np.testing.assert_array_equal(open_volume(volume, store).image.values, values)


# ---- what is lost is an error ------------------------------------------------------------------------


def lose_a_shard(store: Path) -> None:
    last = max(p for p in (store / "scale0" / "image" / "c").rglob("*") if p.is_file())
    last.unlink()


@pytest.fixture(params=["zarrs", "zarr-python"])
def pipeline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zarr-python":
        monkeypatch.setattr(arrays, "_pipeline", dict)
    return str(request.param)


@pytest.mark.parametrize("chunks", ["auto", None, {"time": 1}])
def test_a_lost_file_is_an_error_through_xarray_and_dask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, chunks: Any
) -> None:
    small_shards(monkeypatch, 300)  # a file for each time
    volume, store, values = dynamic(tmp_path)
    before = open_volume(volume, store, chunks=chunks)
    np.testing.assert_array_equal(before.image[0].values, values[0])  # its handle is open before the loss
    lose_a_shard(store)
    for dataset in (before, open_volume(volume, store, chunks=chunks)):
        with pytest.raises(VolumeError, match=r"missing.*rebuild"):
            dataset.image.mean().compute()
        np.testing.assert_array_equal(dataset.image[:3].values, values[:3])  # what is there can be read
    assert damaged_frames(store) == [9, 10, 11]


def test_a_lost_file_is_an_error_in_another_process(tmp_path: Path) -> None:
    volume, store, _ = dynamic(tmp_path)
    lose_a_shard(store)
    with dask.config.set(scheduler="processes", num_workers=1), pytest.raises(VolumeError, match="missing"):
        open_volume(volume, store).image.compute()


def test_a_lost_file_of_zeros_is_seen(tmp_path: Path, pipeline: str) -> None:
    values = np.zeros((70, 8, 6), np.uint16)
    volume, store = stores.built(tmp_path, stores.single_frames, values, ("z", "y", "x"))
    assert open_volume(volume, store).image.max().values == 0
    lose_a_shard(store)
    with pytest.raises(VolumeError, match="missing"):
        open_volume(volume, store).image.max().compute()
    assert damaged_frames(store) == list(range(64, 70))


def test_a_removed_store_is_an_error(tmp_path: Path, pipeline: str) -> None:
    volume, store, _ = dynamic(tmp_path)
    opened = open_volume(volume, store)
    assert opened.image[0, 0, 0, 0].compute() == 1
    shutil.rmtree(store)
    for dataset in (opened, open_volume(volume, store, chunks=None)):
        with pytest.raises(VolumeError, match="rebuild"):
            dataset.image.values  # noqa: B018
        with pytest.raises(VolumeError, match="rebuild"):
            dataset.instance_uid.values  # noqa: B018


def test_damaged_bytes_are_an_error_and_their_frames_are_named(tmp_path: Path, pipeline: str) -> None:
    values = np.random.default_rng(3).integers(0, 4000, (70, 40, 40), np.uint16)
    volume, store = stores.built(tmp_path, stores.single_frames, values, ("z", "y", "x"))
    path = store / "scale0" / "image" / "c" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[100] ^= 1  # one bit of what is compressed, in whichever chunk was done first
    path.write_bytes(data)
    with pytest.raises(VolumeError, match="rebuild"):
        open_volume(volume, store).image.sum().compute()
    named = damaged_frames(store)
    assert named
    assert max(named) < 64
    assert len({number // 32 for number in named}) == 1
    raw = arrays.open_array(store, "scale0/image")
    for number in set(range(70)) - set(named):
        np.testing.assert_array_equal(raw[number : number + 1], values[number : number + 1])


def test_an_opened_volume_can_be_pickled(tmp_path: Path) -> None:
    volume, store, values = dynamic(tmp_path)
    copy = pickle.loads(pickle.dumps(open_volume(volume, store)))
    np.testing.assert_array_equal(copy.image.values, values)


# ---- other readers -----------------------------------------------------------------------------------


def test_xarray_and_zarr_open_a_store_as_it_is(tmp_path: Path) -> None:
    _volume, store, values = dynamic(tmp_path, coords=TIMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(store, group="scale0")
        tree = xr.open_datatree(store, engine="zarr", chunks={})
        array = zarr.open_group(store, mode="r")["scale0/image"]
    for dataset in (plain, tree["scale0"].to_dataset()):
        np.testing.assert_array_equal(dataset.image.values, values)
        np.testing.assert_allclose(np.diff(dataset.z), 2.5)
        np.testing.assert_allclose(np.diff(dataset.x), 0.75)
        np.testing.assert_array_equal(dataset["time"], [0, 1.5, 3, 4.5])
    np.testing.assert_array_equal(array[:], values)
    assert array.metadata.dimension_names == ("time", "z", "y", "x")


def test_tensorstore_opens_a_store_as_it_is(tmp_path: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    _volume, store, values = dynamic(tmp_path)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / "scale0" / "image")}}
    opened = tensorstore.open(spec, open=True, read=True).result()
    np.testing.assert_array_equal(opened.read().result(), values)
    assert opened.domain.labels == ("time", "z", "y", "x")


@pytest.mark.parametrize("dims", [("z", "y", "x"), ("time", "z", "y", "x"), ("b", "z", "y", "x")])
def test_ngff_zarr_opens_a_store_as_it_is(tmp_path: Path, dims: tuple[str, ...]) -> None:
    ngff = pytest.importorskip("ngff_zarr")
    values = stores.voxels((4, 3, 300, 6)[-len(dims) :])
    coords = TIMES if "time" in dims else {}
    _volume, store = stores.built(tmp_path, stores.one_object, values, dims, coords=coords, levels=2)
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    ngff.validate(attributes, version="0.5", model="image", strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = ngff.from_ngff_zarr(store, validate=True).images
    assert len(levels) == 2
    assert tuple(levels[0].dims) == dims
    assert {name: levels[0].scale[name] for name in "zyx"} == dict(zip("zyx", stores.SPACING, strict=True))
    assert {name: levels[0].translation[name] for name in "zyx"} == dict(
        zip("zyx", stores.ORIGIN, strict=True)
    )
    if "time" in dims:
        assert levels[0].scale["time"] == 1.5
        assert levels[0].axes_units["time"] == "second"
    np.testing.assert_array_equal(np.asarray(levels[0].data), values)
    assert levels[1].scale["x"] == 1.5


@pytest.mark.parametrize(
    ("dims", "valid"),
    [
        (("time", "z", "y", "x"), True),
        (("time", "echo", "z", "y", "x"), True),
        (("echo", "time", "z", "y", "x"), False),  # time comes first
        (("echo", "b", "z", "y", "x"), False),  # one axis beside time and space
        (("z", "y", "x", "rgb"), False),  # space comes last
        (("frame", "y", "x"), False),
    ],
)
def test_ome_metadata_is_there_where_the_standard_can_say_it(
    tmp_path: Path, dims: tuple[str, ...], valid: bool
) -> None:
    shape = tuple({"rgb": 3, "y": 8, "x": 6}.get(name, 2) for name in dims)
    values = stores.voxels(shape, np.uint8 if "rgb" in dims else np.uint16)
    _volume, store = stores.built(tmp_path, stores.one_object, values, dims)
    ome = json.loads((store / "zarr.json").read_text())["attributes"].get("ome")
    assert (ome is not None) == valid
    if ome:
        _check_multiscales(ome, zarr.open_group(store, mode="r"))


def _check_multiscales(ome: dict[str, Any], root: zarr.Group) -> None:
    """The rules of OME-Zarr 0.5 about axes and transformations, one by one."""
    assert ome["version"] == "0.5"
    for one in ome["multiscales"]:
        axes = one["axes"]
        kinds = [axis.get("type") for axis in axes]
        assert 2 <= len(axes) <= 5
        assert 2 <= kinds.count("space") <= 3
        assert kinds.count("time") <= 1
        assert len(axes) - kinds.count("space") - kinds.count("time") <= 1
        order = {"time": 0, "channel": 1, "space": 2}
        assert [order[str(kind)] for kind in kinds] == sorted(order[str(kind)] for kind in kinds)
        assert len({axis["name"] for axis in axes}) == len(axes)
        for dataset in one["datasets"]:
            array = root[dataset["path"]]
            assert isinstance(array, zarr.Array)
            assert [axis["name"] for axis in axes] == list(array.metadata.dimension_names)
            steps = dataset["coordinateTransformations"]
            assert [step["type"] for step in steps] == ["scale", "translation"]
            assert all(len(step[step["type"]]) == len(axes) for step in steps)


# ---- memory ------------------------------------------------------------------------------------------

PEAK = """
import re, sys
from pathlib import Path
import numpy as np
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes.build import build
from tests.volumes import stores
root = Path(sys.argv[1])
storage = LocalStorage(root)
instance, first = stores.keep_file(storage, root / "large.dcm")
frames = stores.frames_of(first, 640)
plan = stores.planned(frames, (640, 512, 512), ("z", "y", "x"), np.uint16, levels=2)
build(storage, plan, {instance.sop_instance_uid: instance})
storage.close()
print(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of one process: Linux")
def test_a_large_object_is_built_frame_by_frame(tmp_path: Path) -> None:
    """336 MB in one file; the process must never hold it.

    Its peak by VmHWM: ru_maxrss begins with what the process that started it held.
    """
    stores.write_large(tmp_path / "large.dcm", 640, 512)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) / 1024 < 330
