"""How arrays are cut: whole shards of whole slices, not too large, whatever the dimensions."""

from __future__ import annotations

import shutil
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomlake.errors import VolumeError
from dicomlake.storage import arrays

SHARD_BYTES = 72 << 20


@st.composite
def volumes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[str, ...], str]:
    further = draw(st.lists(st.sampled_from(["time", "echo", "b"]), unique=True, max_size=3))
    stack = draw(st.sampled_from([["z"], ["frame"], []]))
    colour = draw(st.booleans())
    dims = (*further, *stack, "y", "x", *(["rgb"] if colour else []))
    sizes = {"y": 3000, "x": 3000, "z": 600, "frame": 600}
    shape = tuple(3 if d == "rgb" else draw(st.integers(1, sizes.get(d, 300))) for d in dims)
    return shape, dims, draw(st.sampled_from(["u1", "i2", "f4", "f8"]))


@settings(max_examples=300, deadline=None)
@given(volumes())
def test_shards_are_whole_chunks_of_whole_slices_within_bounds(
    volume: tuple[tuple[int, ...], tuple[str, ...], str],
) -> None:
    shape, dims, dtype = volume
    cut = arrays.layout_of(shape, dims, dtype)
    assert all(s % c == 0 for s, c in zip(cut.shard, cut.chunk, strict=True))
    first = dims.index("y")
    assert all(s >= n for s, n in zip(cut.shard[first:], shape[first:], strict=True))
    size = prod(cut.shard) * np.dtype(dtype).itemsize
    assert size <= SHARD_BYTES or cut.shard[:first] == (1,) * first


@settings(max_examples=300, deadline=None)
@given(volumes())
def test_a_shard_becomes_exactly_one_shard_of_each_level(
    volume: tuple[tuple[int, ...], tuple[str, ...], str],
) -> None:
    shape, dims, dtype = volume
    cut = arrays.layout_of(shape, dims, dtype)
    for level in range(arrays.level_count(shape, dims, dtype)):
        smaller = arrays.level_shape(shape, dims, level)
        halved = arrays.level_layout(shape, dims, cut, level)
        extent = arrays.level_shard(shape, dims, cut.shard, level)
        for n, s, m, t, e in zip(shape, cut.shard, smaller, halved.shard, extent, strict=True):
            assert -(-n // s) == -(-m // t)  # as many shards
            assert e == min(t, m)
            if n > s:  # which begin where those of the volume end up
                assert s % 2**level == 0 or t == s


@pytest.mark.parametrize(
    ("shape", "dims", "chunk", "shard"),
    [
        ((300, 512, 512), "z y x", (32, 64, 64), (64, 512, 512)),
        ((5, 100, 80), "z y x", (5, 64, 64), (5, 128, 128)),
        ((200, 512, 512, 3), "frame y x rgb", (8, 256, 256, 3), (64, 512, 512, 3)),
        ((200, 40, 64, 64), "time z y x", (8, 16, 32, 32), (128, 48, 64, 64)),
        ((10, 40, 256, 256), "phase z y x", (5, 16, 32, 32), (10, 48, 256, 256)),
        ((2, 60, 512, 512), "echo z y x", (1, 32, 64, 64), (2, 64, 512, 512)),
        ((2, 3, 64, 48), "detector energy_window y x", (1, 1, 64, 48), (2, 3, 64, 48)),
    ],
)
def test_the_cut_of_common_volumes(shape: Any, dims: str, chunk: Any, shard: Any) -> None:
    dtype = "u1" if "rgb" in dims else "u2"
    assert arrays.layout_of(shape, dims.split(), dtype) == arrays.Layout(chunk, shard)


def test_huge_slices_make_thin_shards() -> None:
    cut = arrays.layout_of((60, 4096, 4096), ("z", "y", "x"), "u2")
    assert cut.shard == (2, 4096, 4096)
    assert cut.chunk == (2, 64, 64)


# ---- files -------------------------------------------------------------------------------------------


@pytest.fixture(params=["zarrs", "zarr-python"])
def pipeline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to encode and decode; the second is in force where zarrs is not installed."""
    name = str(request.param)
    if name == "zarr-python":
        monkeypatch.setattr(arrays, "_pipeline", dict)
    return name


def written(folder: Path, values: np.ndarray) -> Path:
    dims = ("time", "z", "y", "x")[-values.ndim :]
    cut = arrays.sharded(values.shape, dims, values.dtype, (2,) * values.ndim)
    cut = arrays.Layout(cut.chunk, (2,) * (values.ndim - 2) + cut.shard[-2:])
    with arrays.fast_pipeline():
        root = zarr.open_group(folder, mode="w")
        array = arrays.create_array(root, "image", values.shape, values.dtype, dims, cut)
    for first in np.ndindex(*(n // 2 for n in values.shape[:-2])):
        start = (*(2 * i for i in first), 0, 0)
        arrays.write_block(folder, array, start, values[tuple(slice(i, i + 2) for i in start[:-2])])
    return folder


def lazily(folder: Path, values: np.ndarray) -> arrays.LazyArray:
    return arrays.LazyArray(
        folder, "image", values.shape, values.dtype, (2,) * (values.ndim - 2) + values.shape[-2:]
    )


def test_a_shard_of_zeros_is_a_file_too(tmp_path: Path, pipeline: str) -> None:
    values = np.zeros((6, 4, 4), np.int16)
    values[3, 1, 2] = 7
    store = written(tmp_path / "s", values)
    assert sorted(p.name for p in (store / "image" / "c").iterdir()) == ["0", "1", "2"]
    np.testing.assert_array_equal(lazily(store, values)[...], values)


@pytest.mark.parametrize("shape", [(6, 4, 4), (4, 6, 4, 4)])
def test_a_missing_shard_is_an_error_and_not_zeros(
    tmp_path: Path, pipeline: str, shape: tuple[int, ...]
) -> None:
    values = np.arange(prod(shape), dtype=np.int16).reshape(shape)
    store = written(tmp_path / "s", values)
    array = lazily(store, values)
    assert array[-1].shape == shape[1:]  # its handle is open before the damage
    last = "/".join(str(n // 2 - 1) for n in shape[:-2])
    (store / "image" / "c" / last / "0" / "0").unlink()
    first = (slice(0, 2),) * (len(shape) - 2)
    np.testing.assert_array_equal(array[first], values[first])
    for key in (..., -1, (slice(None, None, 2),) * (len(shape) - 2), slice(shape[0] - 1, None)):
        with pytest.raises(VolumeError, match=r"missing.*rebuild"):
            array[key]


def test_a_damaged_shard_is_an_error(tmp_path: Path, pipeline: str) -> None:
    values = np.random.default_rng(1).integers(0, 1000, (4, 16, 16), np.int16)
    store = written(tmp_path / "s", values)
    path = store / "image" / "c" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    array = lazily(store, values)
    with pytest.raises(VolumeError, match="rebuild"):
        array[0:2]
    np.testing.assert_array_equal(array[2:4], values[2:4])


def test_a_store_that_was_removed_is_an_error_even_when_it_was_open(tmp_path: Path, pipeline: str) -> None:
    values = np.ones((4, 4, 4), np.int16)
    store = written(tmp_path / "s", values)
    used, fresh = lazily(store, values), lazily(store, values)
    assert used[0].all()
    shutil.rmtree(store)
    for array in (used, fresh):
        with pytest.raises(VolumeError, match="rebuild"):
            array[0]


def test_an_index_out_of_range_stays_an_index_error(tmp_path: Path, pipeline: str) -> None:
    values = np.ones((4, 4, 4), np.int16)
    array = lazily(written(tmp_path / "s", values), values)
    with pytest.raises(IndexError):
        array[4]


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        (slice(1, 5, 2), 3),
        (..., 2),
        (1, ..., slice(0, 2)),
        (slice(None), -1, slice(3)),
        slice(2, 2),
        (2, 1, 3, 0),
    ],
)
def test_indexing_is_that_of_numpy(tmp_path: Path, pipeline: str, key: Any) -> None:
    values = np.arange(6 * 4 * 6 * 4, dtype=np.int16).reshape(6, 4, 6, 4)
    array = lazily(written(tmp_path / "s", values), values)
    found = array[key]
    assert found.shape == values[key].shape
    np.testing.assert_array_equal(found, values[key])


def test_both_pipelines_write_the_same_chunks_and_read_each_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).integers(-500, 500, (6, 40, 40), np.int16)
    values[:2] = 0
    fast = written(tmp_path / "zarrs", values)
    with monkeypatch.context() as patched:
        patched.setattr(arrays, "_pipeline", dict)
        slow = written(tmp_path / "python", values)
        np.testing.assert_array_equal(lazily(fast, values)[...], values)
    np.testing.assert_array_equal(lazily(slow, values)[...], values)
    assert (fast / "image" / "zarr.json").read_bytes() == (slow / "image" / "zarr.json").read_bytes()
    for path in sorted((fast / "image" / "c").rglob("*")):
        other = slow / path.relative_to(fast)
        if path.is_file():
            assert _chunks(path) == _chunks(other)


def _chunks(path: Path) -> list[bytes]:
    """The encoded chunks of a shard in the order of its index; where in the file they lie is left open."""
    data = path.read_bytes()
    count = 20 * 20
    index = np.frombuffer(data[-16 * count - 4 : -4], "<u8").reshape(-1, 2)
    return [b"" if size == 2**64 - 1 else data[first : first + size] for first, size in index.tolist()]
