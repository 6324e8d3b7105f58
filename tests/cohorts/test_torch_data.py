"""The seam to torch: each patch once, whatever the number of workers; with torch where it is installed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dicomlake as dl
from dicomlake import datasets
from dicomlake.cohorts.training.patches import Patch, Patches, patches
from dicomlake.cohorts.training.torch_data import as_dataset, as_iterable, item_of
from dicomlake.errors import DicomlakeError


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patches]:
    folder = tmp_path_factory.mktemp("torch")
    with dl.open(folder / "lake", create=True) as lake:
        lake.ingest(datasets.make("chest-ct", folder / "ct", slices=6), progress=False)
        yield patches(lake.query(Modality="CT"), 4, per_volume=11, shuffle=True, progress=False)


@pytest.fixture
def torch_data(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for `torch.utils.data`: two base classes, and who the worker is."""
    data = ModuleType("torch.utils.data")
    worker = SimpleNamespace(info=None)
    data.Dataset = type("Dataset", (), {})  # type: ignore[attr-defined]
    data.IterableDataset = type("IterableDataset", (), {})  # type: ignore[attr-defined]
    data.get_worker_info = lambda: worker.info  # type: ignore[attr-defined]
    utils, torch = ModuleType("torch.utils"), ModuleType("torch")
    utils.data = data  # type: ignore[attr-defined]
    for name, module in {"torch": torch, "torch.utils": utils, "torch.utils.data": data}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return worker


def offsets(items: Any) -> list[tuple[int, ...]]:
    return [tuple(item["offset"].tolist()) for item in items]


def test_a_dataset_gives_the_patches_of_its_epoch(found: Patches, torch_data: SimpleNamespace) -> None:
    dataset = as_dataset(found)
    assert offsets(dataset[i] for i in range(len(dataset))) == [patch.offset for patch in found]
    dataset.set_epoch(2)
    assert offsets([dataset[3]]) == [found.at(2, 3).offset]
    assert as_dataset(found, lambda item: item["image"].shape)[0] == (1, 4, 4, 4)


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (1, 1), (3, 1), (2, 2), (20, 1)])
def test_each_patch_is_given_once_whatever_the_number_of_workers(
    found: Patches, torch_data: SimpleNamespace, workers: int, world: int
) -> None:
    for epoch in (0, 1):
        shares = []
        for rank, worker in itertools.product(range(world), range(max(workers, 1))):
            torch_data.info = SimpleNamespace(id=worker, num_workers=workers) if workers else None
            iterable = as_iterable(found, rank=rank, world_size=world)
            iterable.set_epoch(epoch)
            shares.append(offsets(iterable))
        in_turn = [one for row in itertools.zip_longest(*shares) for one in row if one is not None]
        assert in_turn == [patch.offset for patch in found.of_epoch(epoch)]


def test_an_item_is_what_torch_can_collate() -> None:
    big_endian = np.arange(8, dtype=">u2").reshape(2, 2, 2)
    mask = np.ones((1, 2, 2, 2), bool)
    item = item_of(Patch(big_endian, "1.2.3", (0, -1, 2), None, None, mask))
    assert item["image"].dtype == np.int32
    assert item["image"].tolist() == [big_endian.tolist()]
    assert item["mask"].dtype == np.uint8
    assert np.isnan(item["position_mm"]).all()
    assert (item["series_uid"], item["label"]) == ("1.2.3", "")


def test_without_torch_the_error_says_what_to_install(
    found: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for adaptor in (as_dataset, as_iterable):
        with pytest.raises(DicomlakeError, match="pip install torch"):
            adaptor(found)


def test_a_rank_outside_the_world_is_refused(found: Patches, torch_data: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="world_size"):
        as_iterable(found, rank=2, world_size=2)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_a_data_loader_gives_each_patch_once(found: Patches) -> None:
    from torch.utils.data import DataLoader

    for dataset, workers in itertools.product((as_dataset(found), as_iterable(found)), (0, 2)):
        batches = list(DataLoader(dataset, batch_size=3, num_workers=workers))
        given = [tuple(one) for batch in batches for one in batch["offset"].tolist()]
        assert sorted(given) == sorted(patch.offset for patch in found)
