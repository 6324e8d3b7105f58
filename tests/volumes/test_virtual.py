"""Volumes that stay in their originals open with the same values as copies, and are proven the same way."""

from __future__ import annotations

import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

from dicomlake.dicom import pixels
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.records import Volume
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes import virtual
from dicomlake.volumes.build import build
from dicomlake.volumes.check import damaged_frames, differing_frames
from dicomlake.volumes.manifest import volume_of_store
from dicomlake.volumes.read import open_volume
from dicomlake.volumes.virtual import OriginalFrames, build_reference
from tests import objects
from tests.volumes import stores

TIMES = {"time": {"dims": ["time"], "values": [0.0, 1.5, 3.0, 4.5], "units": "s"}}


def referred(root: Path, make: Any, *args: Any, prove: bool = True, **info: Any) -> tuple[Volume, Path]:
    storage = LocalStorage(root)
    plan, instances = make(storage, *args, **info)
    volume = build_reference(storage, plan, instances, prove=prove)
    storage.close()
    return volume, root / str(volume.key)


@pytest.mark.parametrize("prove", [True, False])
@pytest.mark.parametrize("make", [stores.single_frames, stores.one_object])
@pytest.mark.parametrize(
    ("shape", "dims", "dtype"),
    [
        ((9, 24, 20), ("z", "y", "x"), np.int16),
        ((4, 3, 12, 11), ("time", "z", "y", "x"), np.uint16),
        ((5, 10, 11, 3), ("frame", "y", "x", "rgb"), np.uint8),
    ],
)
def test_the_values_are_those_of_the_originals(
    tmp_path: Path, make: Any, shape: tuple[int, ...], dims: tuple[str, ...], dtype: Any, prove: bool
) -> None:
    values = stores.voxels(shape, dtype)
    volume, store = referred(tmp_path, make, values, dims, prove=prove)
    for chunks in ("auto", None, {"y": 5}):
        image = open_volume(volume, store, chunks=chunks).image
        np.testing.assert_array_equal(image.values, values)
        np.testing.assert_array_equal(
            image[..., ::-1].isel(y=3).values, values[..., ::-1].take(3, -3 if "rgb" in dims else -2)
        )
    assert volume.info["stored"] == "reference"
    assert not (store / "scale0" / "image").exists()


@pytest.mark.parametrize(
    "key",
    [
        0,
        (slice(None), 1),
        (..., -1),
        (slice(None), slice(1, 3), slice(2, 9, 3), 4),
        (2, 1, 5, 7),
        (slice(3, 3), 0),
        (slice(None, None, -1), -1, slice(None, None, -2)),
    ],
)
def test_indexing_is_that_of_numpy(tmp_path: Path, key: Any) -> None:
    values = stores.voxels((4, 3, 12, 11))
    _volume, store = referred(tmp_path, stores.one_object, values, ("time", "z", "y", "x"))
    array = OriginalFrames(store, values.shape, ("time", "z", "y", "x"), values.dtype)
    assert array[key].shape == values[key].shape
    np.testing.assert_array_equal(array[key], values[key])
    with pytest.raises(IndexError):
        array[4]


def test_uncompressed_frames_are_read_in_place_and_only_the_rows_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stores.voxels((6, 24, 20)) & 0xFFF
    storage = LocalStorage(tmp_path)
    kept = [stores.put(storage, n + 1, frame, BitsStored=12, HighBit=11) for n, frame in enumerate(values)]
    plan = stores.planned([frame for _, frame in kept], values.shape, ("z", "y", "x"))
    instances = {one.sop_instance_uid: one for one, _ in kept}
    volume = build_reference(storage, plan, instances)
    storage.close()
    monkeypatch.setattr(pixels.FrameReader, "frame", None)  # nothing is decoded
    lengths: list[int] = []
    really = virtual.FileBytes.read

    def counting(self: Any, start: int = 0, stop: int | None = None) -> bytes:
        lengths.append((stop or 0) - start)
        return really(self, start, stop)

    monkeypatch.setattr(virtual.FileBytes, "read", counting)
    image = open_volume(volume, tmp_path / str(volume.key), chunks=None).image
    np.testing.assert_array_equal(image.values, values)
    lengths.clear()
    np.testing.assert_array_equal(image[:, 7].values, values[:, 7])
    np.testing.assert_array_equal(image[1, 20:3:-5, 2].values, values[1, 20:3:-5, 2])
    assert lengths == [40] * 6 + [16 * 40]
    path = tmp_path / instances[plan.frames[5].sop_instance_uid].key
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(VolumeError, match="cut off"):
        image[5].values  # noqa: B018


def test_values_that_share_their_cells_with_other_bits_are_decoded(tmp_path: Path) -> None:
    values = stores.voxels((3, 24, 20)) & 0xFFF
    storage = LocalStorage(tmp_path)
    cells = values | 0x3000  # an overlay in the unused bits, as PS3.5 8.1.1 once allowed
    kept = [stores.put(storage, n + 1, frame, BitsStored=12, HighBit=11) for n, frame in enumerate(cells)]
    plan = stores.planned([frame for _, frame in kept], values.shape, ("z", "y", "x"))
    for prove in (True, False):
        volume = build_reference(storage, plan, {one.sop_instance_uid: one for one, _ in kept}, prove=prove)
        image = open_volume(volume, tmp_path / str(volume.key)).image
        np.testing.assert_array_equal(image.values, values)
    storage.close()


def test_it_opens_with_the_same_coordinates_as_a_copy(tmp_path: Path) -> None:
    values = stores.voxels((4, 3, 12, 11))
    args = (stores.one_object, values, ("time", "z", "y", "x"))
    copy = open_volume(*stores.built(tmp_path / "copy", *args, coords=TIMES))
    kept = open_volume(*referred(tmp_path / "kept", *args, coords=TIMES))
    xr.testing.assert_identical(copy.compute(), kept.compute())


def test_tiles_are_cut_out_of_the_originals(tmp_path: Path) -> None:
    values = stores.voxels((4, 7, 12, 10))
    volume, store = referred(tmp_path, stores.mosaics, values, 3)
    np.testing.assert_array_equal(open_volume(volume, store).image.values, values)
    assert damaged_frames(store) == []


def test_nothing_is_decoded_before_it_is_asked_for_and_then_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = stores.voxels((6, 12, 11, 3), np.uint8)
    volume, store = referred(tmp_path, stores.one_object, values, ("frame", "y", "x", "rgb"))
    decoded: list[int] = []
    really = pixels.FrameReader.frame

    def counting(self: Any, index: int) -> Any:
        decoded.append(index)
        return really(self, index)

    monkeypatch.setattr(pixels.FrameReader, "frame", counting)
    image = open_volume(volume, store, chunks=None).image
    repr(image)
    assert decoded == []
    np.testing.assert_array_equal(image[4].values, values[4])
    np.testing.assert_array_equal(image[4, 2:5].values, values[4, 2:5])
    assert decoded == [4]


def test_the_cache_of_decoded_frames_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = stores.voxels((5, 6, 12, 10))
    monkeypatch.setattr(virtual, "_CACHE_BYTES", 5 * 12 * 10 * 2)
    _volume, store = referred(tmp_path, stores.mosaics, values, 3)
    array = OriginalFrames(store, values.shape, ("time", "z", "y", "x"), values.dtype)
    np.testing.assert_array_equal(array[...], values)
    assert len(array._recent) == 5


def test_threads_and_processes_read_the_same(tmp_path: Path) -> None:
    values = stores.voxels((16, 24, 20))
    volume, store = referred(tmp_path, stores.one_object, values, ("z", "y", "x"))
    array = OriginalFrames(store, values.shape, ("z", "y", "x"), values.dtype)
    gate = threading.Barrier(4)

    def read(number: int) -> bool:
        gate.wait()
        return all(np.array_equal(array[k], values[k]) for k in range(number, 16, 3))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], values)
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(open_volume(volume, store).image.compute().values, values)


def test_a_lake_that_was_moved_opens_all_the_same(tmp_path: Path) -> None:
    values = stores.voxels((4, 12, 10))
    volume, _store = referred(tmp_path / "here", stores.single_frames, values, ("z", "y", "x"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    store = tmp_path / "there" / str(volume.key)
    np.testing.assert_array_equal(open_volume(volume_of_store(store), store).image.values, values)
    alone = xr.open_dataset(store, engine="dicomlake").image
    np.testing.assert_array_equal(alone.values, values)


def test_a_lossy_loop_stays_compressed(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (5, 64, 64, 3), np.uint8)
    storage = LocalStorage(tmp_path)
    kept = [
        stores.keep(storage, stores.compressed(frame, n + 1, "1.2.840.10008.1.2.4.90"))
        for n, frame in enumerate(values)
    ]
    plan = stores.planned([frame for _, frame in kept], values.shape, ("frame", "y", "x", "rgb"), np.uint8)
    instances = {one.sop_instance_uid: one for one, _ in kept}
    volume = build_reference(storage, plan, instances)
    copy = build(storage, _other(plan, 1), instances)
    np.testing.assert_array_equal(open_volume(volume, tmp_path / str(volume.key)).image.values, values)
    np.testing.assert_array_equal(open_volume(copy, tmp_path / str(copy.key)).image.values, values)
    assert volume.info["decoder"] == copy.info["decoder"] != "numpy"
    storage.close()


def _other(plan: Any, number: int) -> Any:
    from dataclasses import replace

    return replace(plan, volume=replace(plan.volume, number=number))


# ---- proof -------------------------------------------------------------------------------------------


def damage(original: Path) -> None:
    data = bytearray(original.read_bytes())
    data[-5] ^= 1
    original.write_bytes(data)


def test_a_changed_original_is_named(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    plan, instances = stores.single_frames(storage, stores.voxels((5, 12, 10)), ("z", "y", "x"))
    volume = build_reference(storage, plan, instances)
    store = tmp_path / str(volume.key)
    assert damaged_frames(store) == differing_frames(store, storage, instances) == []
    damage(tmp_path / instances[plan.frames[3].sop_instance_uid].key)
    assert damaged_frames(store) == differing_frames(store, storage, instances) == [3]
    (tmp_path / instances[plan.frames[1].sop_instance_uid].key).unlink()
    assert damaged_frames(store) == differing_frames(store, storage, instances) == [1, 3]
    storage.close()


def test_without_kept_hashes_frames_must_decode(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    plan, instances = stores.single_frames(storage, stores.voxels((5, 12, 10)), ("z", "y", "x"))
    volume = build_reference(storage, plan, instances, prove=False)
    store = tmp_path / str(volume.key)
    path = tmp_path / instances[plan.frames[2].sop_instance_uid].key
    path.write_bytes(path.read_bytes()[:-20])
    assert damaged_frames(store) == [2]
    with pytest.raises(VolumeError, match="cut off"):
        open_volume(volume, store).image.compute()
    storage.close()


def test_a_lost_original_or_store_is_an_error(tmp_path: Path) -> None:
    values = stores.voxels((5, 12, 10))
    volume, store = referred(tmp_path, stores.single_frames, values, ("z", "y", "x"))
    uid = str(open_volume(volume, store).instance_uid.values[2])
    (store.parent.parent / "originals" / f"{uid}.dcm").unlink()
    image = open_volume(volume, store).image
    np.testing.assert_array_equal(image[:2].values, values[:2])
    with pytest.raises(VolumeError, match=rf"{uid} .*ingest it again"):
        image.compute()
    shutil.rmtree(store)
    with pytest.raises(VolumeError, match="rebuild"):
        open_volume(volume, store).image.compute()


def test_a_frame_that_cannot_be_decoded_is_refused_when_it_is_registered(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    plan, instances = stores.single_frames(storage, stores.voxels((5, 12, 10)), ("z", "y", "x"))
    path = tmp_path / instances[plan.frames[2].sop_instance_uid].key
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DicomlakeError):
        build_reference(storage, plan, instances)
    assert list(tmp_path.rglob("*.zarr")) == []
    storage.close()


def test_the_table_of_frames_is_small_and_not_in_the_record(tmp_path: Path) -> None:
    values = stores.voxels((3000, 2, 3), np.uint8)
    volume, store = referred(tmp_path, stores.one_object, values, ("frame", "y", "x"), prove=False)
    assert len(str(volume.info)) < 500
    assert sum(p.stat().st_size for p in store.rglob("*") if p.is_file()) < 40_000
    assert objects.ROOT not in str(volume.info)
