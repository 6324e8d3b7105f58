"""Decoded volumes in memory: bounded, the same for all readers, and honest about damage."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import VolumeError
from dicomlake.widgets.images import memory, stack
from dicomlake.widgets.images.memory import Box, Memory, Resident, Streamed
from dicomlake.widgets.images.stack import Stack
from tests.widgets.images_support import stored

ZYX = ("z", "y", "x")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """A memory of its own for a test, of 64 MiB."""
    made = Memory(64 << 20)
    monkeypatch.setattr(memory, "MEMORY", made)
    monkeypatch.setattr(stack, "MEMORY", made)
    yield made
    assert made.wait()


def noise(shape: tuple[int, ...], dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(11).integers(0, 4000, shape).astype(dtype)


class Source:
    """An array that counts how it is read, and has parts that cannot be."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.boxes = values, list[Box]()
        self.broken: int | None = None  # a plane along the first axis

    def __call__(self, box: Box) -> np.ndarray:
        self.boxes.append(box)
        if self.broken is not None and box[0].start <= self.broken < box[0].stop:
            raise VolumeError("a part cannot be read")
        return self.values[box].copy()

    @property
    def voxels(self) -> int:
        return sum(int(np.prod([s.stop - s.start for s in box])) for box in self.boxes)


def box(*ends: tuple[int, int]) -> Box:
    return tuple(slice(a, b) for a, b in ends)


def test_the_first_look_reads_only_the_blocks_that_a_plane_crosses() -> None:
    source = Source(noise((100, 64, 48)))
    pixels = Resident(source.values.shape, np.uint16, (32, 16, 16), source)
    wanted = box((40, 48), (0, 64), (0, 48))
    np.testing.assert_array_equal(pixels.part(wanted), source.values[wanted])
    assert source.boxes == [box((32, 64), (0, 64), (0, 48))]
    column = box((0, 100), (20, 21), (0, 48))
    np.testing.assert_array_equal(pixels.part(column), source.values[column])
    assert source.voxels == 32 * 64 * 48 + 68 * 16 * 48  # what was there is not read again
    pixels.part(column)
    assert len(source.boxes) == 4
    assert not pixels.filled
    pixels.fill(())
    assert pixels.filled
    np.testing.assert_array_equal(pixels.whole(), source.values)


@pytest.mark.parametrize("blocks", [(1, 1, 1), (3, 5, 2), (7, 64, 64), (100, 100, 100)])
def test_any_boxes_in_any_order_are_those_of_the_array(blocks: tuple[int, ...]) -> None:
    source, rng = Source(noise((13, 11, 9))), np.random.default_rng(2)
    pixels = Resident((13, 11, 9), np.uint16, blocks, source)
    for _ in range(60):
        ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in (13, 11, 9)]
        wanted = box(*((a, b) for a, b in ends))
        np.testing.assert_array_equal(pixels.part(wanted), source.values[wanted])
    np.testing.assert_array_equal(pixels.whole(), source.values)


def test_large_reads_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PIECE_BYTES", 4000)
    source = Source(noise((10, 40, 30)))
    pixels = Resident((10, 40, 30), np.uint16, (5, 8, 8), source)
    np.testing.assert_array_equal(pixels.whole(), source.values)
    assert max(int(np.prod([s.stop - s.start for s in b])) * 2 for b in source.boxes) <= 4000


def test_what_is_in_memory_cannot_be_changed_through_a_plane(tmp_path: Path, kept: Memory) -> None:
    dataset, _ = stored(tmp_path, noise((5, 20, 20)), ZYX)
    for one in (Stack.of(dataset), Stack.of(dataset.load())):
        with pytest.raises(ValueError, match="read-only"):
            one.run("axial", 0, 2)[...] = 0
        with pytest.raises(ValueError, match="read-only"):
            one.values()[...] = 0


def test_readers_at_once_agree_while_the_rest_is_being_filled(tmp_path: Path, kept: Memory) -> None:
    values = noise((150, 96, 80))
    dataset, _ = stored(tmp_path, values, ZYX)
    shown, ready = Stack.of(dataset), threading.Barrier(6)

    def look(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        ready.wait()
        for _ in range(30):
            plane = shown.planes[str(rng.choice(list(shown.planes)))]
            start = int(rng.integers(plane.count))
            wanted = plane.displayed(values)[start : start + 8]
            if not np.array_equal(shown.run(plane.name, start, 8), wanted):
                return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(look, range(6)))
    assert kept.wait()
    (pixels,) = kept._kept.values()
    assert isinstance(pixels, Resident)
    assert pixels.filled


def test_the_bound_holds_and_what_was_used_last_stays(kept: Memory) -> None:
    kept.keep_at_most(3000)
    sources = [Source(noise((10, 10, 5)) + i) for i in range(5)]  # 1000 bytes each
    for i, source in enumerate(sources):
        made = kept.pixels((i,), (10, 10, 5), np.uint16, (4, 4, 4), source)
        np.testing.assert_array_equal(made.whole(), source.values)
        kept.pixels((0,), (10, 10, 5), np.uint16, (4, 4, 4), sources[0])
        assert kept.nbytes() <= 3000
    assert list(kept._kept) == [(3,), (4,), (0,)]
    before = len(sources[0].boxes)
    kept.pixels((0,), (10, 10, 5), np.uint16, (4, 4, 4), sources[0]).whole()
    assert len(sources[0].boxes) == before
    kept.keep_at_most(1500)
    assert list(kept._kept) == [(0,)]


def test_filling_stops_when_a_volume_is_let_go(kept: Memory) -> None:
    gate, begun = threading.Event(), threading.Event()
    source = Source(noise((100, 10, 10)))

    def slow(wanted: Box) -> np.ndarray:
        begun.set()
        assert gate.wait(30)
        return source(wanted)

    pixels = kept.pixels(("one",), (100, 10, 10), np.uint16, (10, 10, 10), slow)
    kept.fill(pixels)
    assert begun.wait(30)
    kept.keep_at_most(25_000)
    kept.pixels(("two",), (100, 10, 10), np.uint16, (10, 10, 10), source)
    gate.set()
    assert kept.wait()
    assert len(source.boxes) == 1
    assert kept.pixels(("two",), (100, 10, 10), np.uint16, (10, 10, 10), source) is not pixels


def test_a_stack_that_is_gone_frees_what_it_held(tmp_path: Path, kept: Memory) -> None:
    dataset, _ = stored(tmp_path, noise((5, 20, 20)), ZYX)
    shown = Stack.of(dataset)
    shown.values()
    assert kept.nbytes() == 5 * 20 * 20 * 2
    del shown
    gc.collect()
    assert kept.nbytes() == 0


def test_dask_arrays_of_the_same_content_share_their_memory(tmp_path: Path, kept: Memory) -> None:
    dataset, _ = stored(tmp_path, noise((5, 20, 20)), ZYX)
    lazy = dataset.image.chunk({"z": 5})
    for image in (lazy, lazy.copy()):
        Stack.of(image).values()
    assert kept.nbytes() == 5 * 20 * 20 * 2
    np.testing.assert_array_equal(Stack.of(lazy + 1).values(), dataset.image.values + 1)


def test_a_course_over_time_is_kept_whole_if_it_is_small_and_else_by_its_volumes(
    tmp_path: Path, kept: Memory
) -> None:
    values = noise((9, 6, 40, 33))
    dataset, _ = stored(tmp_path, values, ("time", *ZYX))
    for budget, entries in ((64 << 20, 1), (values.nbytes, 9)):
        kept.keep_at_most(budget)
        shown = Stack.of(dataset)
        for t in range(9):
            np.testing.assert_array_equal(shown.values((t,)), values[t])
            np.testing.assert_array_equal(shown.run("axial", 2, 3, (t,)), values[t, 2:5])
        assert sum(key[0] == shown._key for key in kept._kept) == entries
        assert kept.wait()


def test_a_volume_above_the_bound_is_read_when_asked_and_stays_within_it(
    tmp_path: Path, kept: Memory
) -> None:
    values = noise((90, 130, 70))
    dataset, _ = stored(tmp_path, values, ZYX)
    kept.keep_at_most(values.nbytes // 2)
    shown = Stack.of(dataset)
    for plane in shown.planes.values():
        for start in (0, 7, plane.count - 1):
            wanted = plane.displayed(values)[start : start + 2]
            np.testing.assert_array_equal(shown.run(plane.name, start, 2), wanted)
    (pixels,) = kept._kept.values()
    assert isinstance(pixels, Streamed)
    assert sum(piece.nbytes for piece in pixels._pieces.values()) <= kept.budget
    assert pixels.nbytes <= kept.budget
    with pytest.raises(VolumeError, match="keep_at_most"):
        shown.values()


def test_pieces_of_a_large_volume_are_read_once() -> None:
    source = Source(noise((64, 32, 32)))
    pixels = Streamed((64, 32, 32), np.uint16, (16, 16, 16), source, budget=60_000)
    for k in range(16):
        wanted = box((k, k + 1), (0, 32), (0, 32))
        np.testing.assert_array_equal(pixels.part(wanted), source.values[wanted])
    assert source.boxes == [box((0, 16), (0, 32), (0, 32))]
    pixels.part(box((20, 21), (0, 32), (0, 32)))
    pixels.part(box((0, 1), (0, 32), (0, 32)))
    assert len(source.boxes) == 3  # 32 KiB each: only one fits


def test_damage_is_told_with_the_planes_and_spoils_nothing_else(tmp_path: Path, kept: Memory) -> None:
    values = noise((140, 40, 40))
    dataset, store = stored(tmp_path, values, ZYX)
    shown = Stack.of(dataset)
    path = sorted(p for p in (store / "scale0/image/c").rglob("*") if p.is_file())[1]  # slices 64 to 127
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VolumeError, match=r"axial planes 70 to 77 of 140 cannot be read"):
        shown.run("axial", 70, 8)
    with pytest.raises(VolumeError, match=r"coronal plane 3 of 40 cannot be read"):
        shown.run("coronal", 3, 1)
    with pytest.raises(VolumeError, match="the volume cannot be read"):
        shown.values()
    np.testing.assert_array_equal(shown.run("axial", 0, 8), values[:8])
    assert kept.wait()
    np.testing.assert_array_equal(shown.run("axial", 132, 8), values[132:])
    assert shown.meta()["planes"]["axial"]["count"] == 140  # a viewer still opens
    path.write_bytes(whole)
    np.testing.assert_array_equal(Stack.of(dataset).run("axial", 70, 8), values[70:78])
    np.testing.assert_array_equal(shown.run("axial", 70, 8), values[70:78])  # and is tried again when asked
    np.testing.assert_array_equal(shown.values(), values)


def test_filling_passes_over_damage_and_fills_the_rest() -> None:
    source = Source(noise((100, 20, 20)))
    source.broken = 45
    pixels = Resident((100, 20, 20), np.uint16, (10, 10, 10), source)
    pixels.fill(())
    assert not pixels.filled
    source.boxes.clear()
    for k in (0, 99):
        pixels.part(box((k, k + 1), (0, 20), (0, 20)))
    assert source.boxes == []
    with pytest.raises(VolumeError):
        pixels.whole()
    source.broken = None
    np.testing.assert_array_equal(pixels.whole(), source.values)


def test_filling_begins_where_the_viewer_looks() -> None:
    source = Source(noise((100, 8, 8)))
    Resident((100, 8, 8), np.uint16, (10, 8, 8), source).fill((52,))
    starts = [box[0].start for box in source.boxes]
    assert starts[0] == 50
    assert {*starts[1:3]} == {40, 60}
    assert sorted(starts) == list(range(0, 100, 10))
    course = Source(noise((4, 20, 8, 8)))
    Resident((4, 20, 8, 8), np.uint16, (1, 10, 8, 8), course).fill((2, 15))
    assert [(b[0].start, b[1].start) for b in course.boxes[:2]] == [(2, 10), (2, 0)]


def test_a_process_ends_while_a_volume_is_being_filled(tmp_path: Path) -> None:
    stored(tmp_path, noise((200, 128, 128)), ZYX)
    (store,) = {p.parent.parent for p in tmp_path.rglob("scale0/zarr.json")}
    program = (
        "import sys, xarray as xr; from dicomlake.widgets.images.stack import Stack;"
        "Stack.of(xr.open_dataset(sys.argv[1], engine='dicomlake')).run('axial', 100, 8); print('seen')"
    )
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, "-c", program, str(store)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "seen\n", "")


def test_errors_of_others_are_not_quoted(kept: Memory) -> None:
    def broken(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("Doe^John")

    array = xr.DataArray(np.zeros((3, 4, 4), np.int16), dims=("frame", "y", "x")).chunk({"frame": 1})
    lazy = array.copy(data=array.data.map_blocks(broken, dtype=np.int16, meta=np.empty((0, 0, 0), np.int16)))
    with pytest.raises(VolumeError, match="RuntimeError") as caught:
        Stack.of(lazy).run("frame", 0, 1)
    assert "Doe" not in str(caught.value)


def test_the_bound_is_an_eighth_of_the_memory_and_1_gib_at_most() -> None:
    assert 0 < memory.default_budget() <= 1 << 30
    with pytest.raises(VolumeError, match="positive"):
        memory.keep_at_most(0)


def test_a_child_process_begins_with_an_empty_memory(kept: Memory) -> None:
    source = Source(noise((4, 4, 4)))
    kept.pixels(("a",), (4, 4, 4), np.uint16, (4, 4, 4), source)
    kept._lock.acquire()  # as a thread of the parent may hold it at the fork
    kept.forked()
    assert kept.nbytes() == 0
    assert kept.budget == 64 << 20
