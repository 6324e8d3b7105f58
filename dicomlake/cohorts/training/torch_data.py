"""Patches as data sets of torch; only here is torch imported, and only when one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dicomlake.cohorts.training.patches import Patch, Patches
from dicomlake.errors import DicomlakeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Item = dict[str, Any]


def item_of(patch: Patch) -> Item:
    """A patch as `torch.utils.data.default_collate` takes it: numpy arrays, numbers and text.

    image: (1, z, y, x), native byte order. mask: uint8, (label, z, y, x), where there is one. offset: int64,
    (3,). position_mm: float64, (3,), NaN where unknown. series_uid, label: text, "" where there is none.
    """
    import numpy as np

    unknown = (float("nan"),) * 3
    found: Item = {
        "image": _native(patch.array)[None],
        "offset": np.array(patch.offset, dtype=np.int64),
        "position_mm": np.array(patch.position_mm or unknown, dtype=np.float64),
        "series_uid": patch.series_uid,
        "label": patch.label or "",
    }
    if patch.mask is not None:
        found["mask"] = patch.mask.astype(np.uint8)
    return found


def as_dataset(patches: Patches, transform: Callable[[Item], Any] = lambda item: item) -> Any:
    """A map-style `torch.utils.data.Dataset`: `dataset[i]` is `transform` of `item_of` the patch.

    It works with any number of workers and any sampler; `dataset.set_epoch(n)` takes the patches of another
    epoch, before the iterator of a DataLoader is made. Raises DicomlakeError without torch.
    """
    data = _torch_data()

    class PatchDataset(data.Dataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.patches = patches

        def set_epoch(self, epoch: int) -> None:
            self.patches = self.patches.of_epoch(epoch)

        def __len__(self) -> int:
            return len(self.patches)

        def __getitem__(self, index: int) -> Any:
            return transform(item_of(self.patches[index]))

        def __reduce__(self) -> tuple[Any, ...]:
            return as_dataset, (self.patches, transform)

    return PatchDataset()


def as_iterable(
    patches: Patches,
    transform: Callable[[Item], Any] = lambda item: item,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Any:
    """A `torch.utils.data.IterableDataset` whose workers share the patches: each is given once an epoch.

    Worker w of n in process `rank` of `world_size` gives every (n x world_size)-th patch, from the patch
    rank x n + w on, so the patches are the same whatever the number of workers; their order is, too, when all
    are read one by one in turn. `set_epoch(n)` as in `as_dataset`. Raises DicomlakeError without torch.
    """
    data = _torch_data()
    if not 0 <= rank < world_size:
        raise ValueError("rank is a number from 0, below world_size")

    class PatchIterable(data.IterableDataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.patches = patches

        def set_epoch(self, epoch: int) -> None:
            self.patches = self.patches.of_epoch(epoch)

        def __iter__(self) -> Iterator[Any]:
            worker = data.get_worker_info()
            here, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
            stream = self.patches.stream(first=rank * workers + here, every=workers * world_size)
            return (transform(item_of(patch)) for patch in stream)

        def __reduce__(self) -> tuple[Any, ...]:
            made = {"rank": rank, "world_size": world_size}
            return _iterable_again, (self.patches, transform, made)

    return PatchIterable()


def _iterable_again(patches: Patches, transform: Callable[[Item], Any], made: dict[str, int]) -> Any:
    return as_iterable(patches, transform, **made)


def _torch_data() -> Any:
    try:
        from torch.utils import data  # type: ignore[import-not-found]  # it need not be installed
    except ImportError as error:
        raise DicomlakeError(
            "torch is not installed: run `pip install torch`, or take the patches without it"
            " (they are a sequence of numpy arrays)"
        ) from error
    return data


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array that torch can take: own memory, native byte order, no unsigned 16 or 32 bits."""
    import numpy as np

    wider = {"uint16": np.int32, "uint32": np.int64}
    found: npt.NDArray[np.generic] = np.ascontiguousarray(
        array, dtype=wider.get(array.dtype.name, array.dtype.newbyteorder("="))
    )
    return found
