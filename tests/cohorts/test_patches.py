"""Patches hold the voxels of their place, are balanced by regions, and are the same in every process."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import dicomlake as dl
from dicomlake import datasets
from dicomlake.cohorts.training.patches import BACKGROUND, Patch, Patches, patches
from dicomlake.cohorts.training.runs import Runs
from dicomlake.datasets import chest_rt
from dicomlake.errors import VolumeError

SLICES = 24


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dl.Lake]:
    folder = tmp_path_factory.mktemp("chest")
    for name in ("chest-ct", "chest-rt"):
        datasets.make(name, folder / name, slices=SLICES)
    with dl.open(folder / "lake", create=True) as lake:
        lake.ingest(folder / "chest-ct", folder / "chest-rt", progress=False)
        yield lake


@pytest.fixture(scope="module")
def hu(chest: dl.Lake) -> npt.NDArray[np.int16]:
    (one,) = chest.query(Modality="CT")
    return np.asarray(one.open().image.dicom.hu().values)


@pytest.fixture(scope="module")
def truth() -> npt.NDArray[np.bool_]:
    """The segments of the chest, (segment, z, y, x)."""
    return np.stack([chest_rt.segment_maps(z, SLICES) for z in range(SLICES)], axis=1)


def part(array: npt.NDArray, patch: Patch) -> npt.NDArray:  # type: ignore[type-arg]
    size = patch.array.shape
    key = tuple(slice(a, a + n) for a, n in zip(patch.offset, size, strict=True))
    return np.asarray(array[(..., *key)])


def same(one: Patch, other: Patch) -> bool:
    return one.offset == other.offset and one.label == other.label and bool((one.array == other.array).all())


def test_a_patch_holds_the_values_of_its_place(chest: dl.Lake, hu: npt.NDArray[np.int16]) -> None:
    found = patches(chest.query(Modality="CT"), (8, 40, 30), per_volume=20, units="hu", progress=False)
    affine = np.array(datasets.truth("chest-ct", slices=SLICES).affine_lps)
    assert len(found) == 20
    for patch in found:
        assert patch.array.shape == (8, 40, 30)
        assert (patch.array == part(hu, patch)).all()
        assert patch.position_mm == pytest.approx((affine @ [*patch.offset, 1])[:3])
        assert patch.label is None
        assert patch.mask is None
    assert len({patch.offset for patch in found}) == 20


def test_the_same_seed_and_epoch_give_the_same_patches(chest: dl.Lake) -> None:
    series = chest.query(Modality="CT")
    one, other = (patches(series, 16, per_volume=6, seed=4, progress=False) for _ in range(2))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))
    assert all(same(one.at(3, i), one.of_epoch(3)[i]) for i in range(6))
    again = {patch.offset for patch in one}
    assert again == {patch.offset for patch in one}
    assert not again & {patch.offset for patch in one.of_epoch(1)}
    assert not again & {patch.offset for patch in patches(series, 16, per_volume=6, seed=5, progress=False)}


def test_half_of_the_patches_lie_around_a_voxel_of_a_region(
    chest: dl.Lake, truth: npt.NDArray[np.bool_]
) -> None:
    found = patches(
        chest.query(Modality="CT"), (4, 16, 16), per_volume=60, balance_by="SEG", pad=-1024, progress=False
    )
    assert found.labels == ("Lung_R", "Lung_L", "Nodules")
    counts = Counter(patch.label for patch in found)
    assert counts[BACKGROUND] == 30
    assert min(counts[label] for label in found.labels) >= 4  # a rare one as often as a large one
    for patch in found:
        middle = tuple(a + n // 2 for a, n in zip(patch.offset, (4, 16, 16), strict=True))
        held = [label for label, mask in zip(found.labels, truth, strict=True) if mask[middle]]
        assert (patch.label in held) if patch.label != BACKGROUND else not held
        for mask, whole in zip(patch.mask if patch.mask is not None else [], truth, strict=True):
            inner = np.zeros((4, 16, 16), bool)
            for index in np.ndindex(4, 16, 16):
                at = tuple(a + i for a, i in zip(patch.offset, index, strict=True))
                if all(0 <= a < n for a, n in zip(at, whole.shape, strict=True)):
                    inner[index] = whole[at]
            assert (mask == inner).all()


@pytest.mark.parametrize("balance_by", ["Nodules", "Lung_L"])
def test_one_label_can_be_meant(chest: dl.Lake, truth: npt.NDArray[np.bool_], balance_by: str) -> None:
    found = patches(
        chest.query(Modality="CT"), (4, 8, 8), balance_by=balance_by, foreground=1, progress=False
    )
    assert found.labels == (balance_by,)
    for patch in found:
        assert patch.mask is not None
        assert patch.mask.any()


def test_a_function_says_what_to_balance_by(chest: dl.Lake, hu: npt.NDArray[np.int16]) -> None:
    def bone(series: dl.series.Series, image: object) -> dict[str, object]:
        return {"bone": image.dicom.hu().values > 200}  # type: ignore[attr-defined]

    found = patches(
        chest.query(Modality="CT"), (2, 4, 4), balance_by=bone, foreground=1, units="hu", progress=False
    )
    assert all(patch.array.max() > 200 for patch in found)
    assert all((patch.mask[0] == (patch.array > 200)).all() for patch in found if patch.mask is not None)


def test_a_grid_covers_every_voxel(chest: dl.Lake, hu: npt.NDArray[np.int16]) -> None:
    series = chest.query(Modality="CT")
    seen = np.zeros(hu.shape, bool)
    for patch in patches(series, (10, 200, 300), stride=(10, 200, 200), units="hu", progress=False):
        assert (patch.array == part(hu, patch)).all()
        part(seen, patch)  # inside
        seen[tuple(slice(a, a + n) for a, n in zip(patch.offset, patch.array.shape, strict=True))] = True
    assert seen.all()
    padded = patches(series, (10, 200, 300), stride=(10, 200, 300), pad=-2000, units="hu", progress=False)
    assert sum(int((patch.array != -2000).sum()) for patch in padded) == hu.size


def test_padding_lies_outside_the_volume_only(chest: dl.Lake, hu: npt.NDArray[np.int16]) -> None:
    size = (SLICES + 6, 32, 32)
    with_padding = patches(chest.query(Modality="CT"), size, pad=-2000, units="hu", progress=False)
    padded = np.pad(hu, 64, constant_values=-2000)
    for patch in with_padding:
        moved = tuple(a + 64 for a in patch.offset)
        key = tuple(slice(a, a + n) for a, n in zip(moved, size, strict=True))
        assert (patch.array == padded[key]).all()
    without = patches(chest.query(Modality="CT"), size, progress=False)
    assert len(without) == 0
    ((_, kind, message),) = without.failures
    assert kind == "VolumeError"
    assert "pad=" in message


def test_series_without_what_is_needed_are_failures(chest: dl.Lake) -> None:
    found = patches(chest.query(), (4, 8, 8), balance_by="SEG", progress=False)
    assert len(found.volumes) == 1
    assert len(found.failures) == len(chest.query()) - 1
    assert "Phantom" not in repr(found)
    assert "Lung" not in repr(found)


def test_a_shuffled_epoch_has_the_same_patches_in_another_order(chest: dl.Lake) -> None:
    series = chest.query(Modality="CT")
    plain = patches(series, 8, per_volume=12, progress=False)
    mixed = patches(series, 8, per_volume=12, shuffle=True, progress=False)
    assert [p.offset for p in plain] != [p.offset for p in mixed]
    assert {p.offset for p in plain} == {p.offset for p in mixed}


def _made(job: tuple[Patches, int, int]) -> Patch:
    found, epoch, index = job
    return found.at(epoch, index)


def test_another_process_makes_the_same_patches(chest: dl.Lake) -> None:
    found = patches(chest.query(Modality="CT"), 12, per_volume=4, balance_by="SEG", progress=False)
    _ = found[0]  # what is open now does not travel
    assert len(pickle.dumps(found)) < 3_000_000
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = list(pool.map(_made, [(found, 2, i) for i in range(4)]))
    assert all(same(one, found.at(2, i)) for i, one in enumerate(there))


def test_a_stream_goes_on_where_it_was_interrupted(chest: dl.Lake) -> None:
    found = patches(chest.query(Modality="CT"), 8, per_volume=9, shuffle=True, progress=False).of_epoch(5)
    stream = found.stream(first=1, every=2)
    begun = [next(stream).offset, next(stream).offset]
    state = stream.state_dict()
    again = patches(chest.query(Modality="CT"), 8, per_volume=9, shuffle=True, progress=False)
    rest = [patch.offset for patch in again.stream(first=1, every=2, state=state)]
    assert begun + rest == [found[i].offset for i in range(1, 9, 2)]
    with pytest.raises(ValueError, match="other patches"):
        patches(chest.query(Modality="CT"), 9, progress=False).stream(first=1, every=2, state=state)
    with pytest.raises(ValueError, match="another share"):
        again.stream(state=state)


def test_a_damaged_store_gives_no_patch(tmp_path: Path) -> None:
    folder = datasets.make("chest-ct", tmp_path / "ct", slices=4)
    with dl.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(folder, progress=False)
        found = patches(lake.query(Modality="CT"), 4, progress=False)
        for shard in (tmp_path / "lake").rglob("scale0/image/c/**/*"):
            if shard.is_file():
                shard.unlink()
        with pytest.raises(VolumeError, match="missing"):
            found[0]


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": (1, 2)}, {"size": 4, "foreground": 2}, {"size": 4, "units": "miles"}]
)
def test_arguments_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"voxels|share|units"):
        patches([], **wrong)  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6))), st.data())
def test_runs_hold_a_mask(mask: npt.NDArray[np.bool_], data: st.DataObject) -> None:
    runs = Runs.of(mask)
    assert [runs.voxel_inside(i) for i in range(runs.inside)] == [
        tuple(i) for i in np.argwhere(mask).tolist()
    ]
    assert [runs.voxel_outside(i) for i in range(runs.outside)] == [
        tuple(i) for i in np.argwhere(~mask).tolist()
    ]
    start = tuple(data.draw(st.integers(0, n - 1)) for n in mask.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, mask.shape, strict=True))
    key = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    assert (runs.cut(start, stop) == mask[key]).all()  # type: ignore[arg-type]
    other = np.asarray(data.draw(hnp.arrays(bool, mask.shape)))
    both = Runs.union([runs, Runs.of(other), Runs.of(mask)])
    assert (both.cut((0, 0, 0), mask.shape) == (mask | other)).all()  # type: ignore[arg-type]
    assert both.inside == (mask | other).sum()
