"""Patches of the volumes of a cohort, for training: drawn at random, balanced by regions, or on a grid.

Patch k of a volume in an epoch depends on seed, epoch, series and k alone, so any process may make it, in any
order, and a run goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.arrays.images import Options
from dicomlake.cohorts.regions.masks import Drawing, Labels, Of
from dicomlake.cohorts.training.patch_volume import PatchVolume, patch_volume
from dicomlake.cohorts.training.runs import Index, Runs
from dicomlake.errors import VolumeError
from dicomlake.progress import progress as progress_bar
from dicomlake.records import SeriesKey

if TYPE_CHECKING:
    from dicomlake.series import Series

Size = tuple[int, int, int]
BACKGROUND = "background"


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A part of a volume.

    array: (z, y, x), in the units that were asked for.
    series_uid: SeriesInstanceUID. offset: index (z, y, x) of its first voxel in the volume; below 0 where the
        patch begins in the padding. position_mm: of the centre of that voxel, LPS; None without geometry.
    label: of the region that it was drawn for, "background" for none; None where nothing was to be balanced.
    mask: bool, (label, z, y, x), in the order of `Patches.labels`; None where no regions were asked for.
    """

    array: npt.NDArray[Any]
    series_uid: str
    offset: Index
    position_mm: tuple[float, float, float] | None
    label: str | None = field(repr=False, default=None)
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Sequence[Patch]):
    """Patches in a fixed order: by series, then by number within the series. Small and picklable.

    size: (z, y, x) voxels. per_volume: patches of each volume, 0 on a grid. stride: of the grid, else None.
    foreground: share of the patches of a volume that are drawn for a region. pad: value outside the volume.
    epoch: the one that indexing and iteration give. labels: what masks are of.
    failures: series that no patch can be cut from, with the type and the text of the error.
    """

    volumes: tuple[PatchVolume, ...]
    size: Size
    per_volume: int
    stride: Size | None
    balanced: bool
    foreground: float
    seed: int
    pad: float | None
    shuffle: bool
    labels: tuple[str, ...]
    failures: tuple[tuple[SeriesKey, str, str], ...] = ()
    epoch: int = 0

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.volumes else 0

    @overload
    def __getitem__(self, index: int) -> Patch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Patch]: ...

    def __getitem__(self, index: int | slice) -> Patch | list[Patch]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.at(self.epoch, range(len(self))[index])

    def __iter__(self) -> Iterator[Patch]:
        return (self.at(self.epoch, index) for index in range(len(self)))

    def at(self, epoch: int, index: int) -> Patch:
        """The patch at a place of an epoch. Raises IndexError outside, VolumeError when it cannot be read.

        For many of another epoch take `of_epoch`, which makes its order once.
        """
        if epoch != self.epoch:
            return self.of_epoch(epoch).at(epoch, index)
        volume, number = self.place(index)
        offset, label = self._chosen(volume, number)
        array, mask = self._cut(volume, offset)
        return Patch(array, volume.series.series_uid, offset, volume.position_mm(offset), label, mask)

    def place(self, index: int) -> tuple[PatchVolume, int]:
        """Which volume, and which of its patches, is at a place of this epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} patches, none is at {index}")
        index = int(self._order[index])
        at = int(np.searchsorted(self._ends, index, side="right"))
        return self.volumes[at], index - (int(self._ends[at - 1]) if at else 0)

    def of_epoch(self, epoch: int) -> Patches:
        """The same, giving the patches of another epoch; on a grid they differ in order only."""
        return replace(self, epoch=epoch)

    def stream(self, *, first: int = 0, every: int = 1, state: Mapping[str, Any] | None = None) -> Stream:
        """The patches of this epoch one after the other, to be interrupted and resumed.

        first, every: only those at first, first + every, …: the share of one of several workers.
        state: of a stream that was interrupted (`Stream.state_dict`), which this one goes on from.
        """
        stream = Stream(self, first, every)
        if state is not None:
            stream.load_state_dict(state)
        return stream

    @property
    def digest(self) -> str:
        """Over the settings, the series and their stores: equal where all patches are."""
        told = [self.size, self.per_volume, self.stride, self.balanced, self.foreground, self.seed]
        told += [self.pad, self.shuffle, self.labels]
        for one in self.volumes:
            marks = [
                blake2b(runs.starts.tobytes() + runs.stops.tobytes()).hexdigest() for _, runs in one.regions
            ]
            told.append((one.series, one.volume.store_sha256, one.level, repr(one.options), marks))
        return blake2b(repr(told).encode(), digest_size=16).hexdigest()

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """The place of each patch of this epoch in the order by series."""
        if not self.shuffle:
            return np.arange(len(self))
        return _random(self.seed, self.epoch, "order").permutation(len(self))

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        counts = [self._count(one) for one in self.volumes]
        return np.cumsum(counts, dtype=np.int64)

    def _count(self, volume: PatchVolume) -> int:
        if self.stride is None:
            return self.per_volume
        return math.prod(len(axis) for axis in _grid(volume.shape, self.size, self.stride, self.pad))

    def _chosen(self, volume: PatchVolume, number: int) -> tuple[Index, str | None]:
        """Where a patch begins, and what it was drawn for."""
        if self.stride is not None:
            axes = _grid(volume.shape, self.size, self.stride, self.pad)
            places = np.unravel_index(number, [len(axis) for axis in axes])
            z, y, x = (int(axis[int(i)]) for axis, i in zip(axes, places, strict=True))
            return (z, y, x), None
        random = _random(self.seed, self.epoch, volume.series.series_uid, number)
        if not self.balanced:
            return self._anywhere(volume, random), None
        label, runs, inside = self._meant(volume, number, random)
        count = runs.inside if inside else runs.outside
        drawn = int(random.integers(count))
        voxel = runs.voxel_inside(drawn) if inside else runs.voxel_outside(drawn)
        return self._around(volume, voxel), label

    def _meant(self, volume: PatchVolume, number: int, random: np.random.Generator) -> tuple[str, Runs, bool]:
        """Label and voxels that a patch is drawn for; each label of the volume has its turn."""
        every = volume.every
        for_region = number < round(self.per_volume * self.foreground)
        if for_region or not every.outside:
            turn = int(random.integers(len(volume.regions)))
            label, runs = volume.regions[turn]
            return label, runs, True
        return BACKGROUND, every, False

    def _anywhere(self, volume: PatchVolume, random: np.random.Generator) -> Index:
        """Uniformly: within the volume, or, where there is padding, with the middle in the volume."""
        if self.pad is None:
            spans = [n - size + 1 for n, size in zip(volume.shape, self.size, strict=True)]
            z, y, x = (int(random.integers(span)) for span in spans)
            return z, y, x
        z, y, x = (int(random.integers(n)) for n in volume.shape)
        return self._around(volume, (z, y, x))

    def _around(self, volume: PatchVolume, voxel: Index) -> Index:
        """Where the patch with a voxel in its middle begins, moved into the volume if it is not padded."""
        starts = [at - size // 2 for at, size in zip(voxel, self.size, strict=True)]
        if self.pad is None:
            starts = [
                min(max(start, 0), n - size)
                for start, n, size in zip(starts, volume.shape, self.size, strict=True)
            ]
        return starts[0], starts[1], starts[2]

    def _cut(
        self, volume: PatchVolume, offset: Index
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """The values and the masks of a patch."""
        low = tuple(max(start, 0) for start in offset)
        high = tuple(min(a + s, n) for a, s, n in zip(offset, self.size, volume.shape, strict=True))
        start, stop = (low[0], low[1], low[2]), (high[0], high[1], high[2])
        inner = tuple(slice(a - first, b - first) for a, b, first in zip(start, stop, offset, strict=True))
        values = volume.read(start, stop)
        if values.shape != self.size:
            assert self.pad is not None
            padded = np.full(self.size, self.pad, values.dtype)
            padded[inner] = values
            values = padded
        if not self.labels:
            return values, None
        masks = np.zeros((len(self.labels), *self.size), np.bool_)
        for label, runs in volume.regions:
            masks[self.labels.index(label)][inner] = runs.cut(start, stop)
        return values, masks

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.size))
        failed = f", {len(self.failures)} series without" if self.failures else ""
        return f"<Patches: {len(self):,} of {size} voxels from {len(self.volumes):,} volumes{failed}>"


class Stream(Iterator[Patch]):
    """Patches one after the other; what was given is counted."""

    def __init__(self, patches: Patches, first: int = 0, every: int = 1) -> None:
        if every < 1 or not 0 <= first < every:
            raise ValueError("first is a number from 0, below every")
        self.patches, self.first, self.every = patches, first, every
        self.given = 0

    def __next__(self) -> Patch:
        index = self.first + self.given * self.every
        if index >= len(self.patches):
            raise StopIteration
        patch = self.patches[index]
        self.given += 1
        return patch

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs, in another process, too: epoch, share, how many were given."""
        return {
            "digest": self.patches.digest,
            "epoch": self.patches.epoch,
            "first": self.first,
            "every": self.every,
            "given": self.given,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another stream was. Raises ValueError when that was of other patches."""
        if state["digest"] != self.patches.digest:
            raise ValueError("the state is of other patches: settings, series or their volumes have changed")
        if state["every"] != self.every or state["first"] != self.first:
            raise ValueError("the state is of another share of the patches: resume with as many workers")
        self.patches = self.patches.of_epoch(int(state["epoch"]))
        self.given = int(state["given"])


def patches(
    series: Iterable[Series],
    size: int | Sequence[int],
    *,
    per_volume: int = 8,
    stride: int | Sequence[int] | None = None,
    balance_by: str | Callable[..., Any] | Mapping[str, Any] | None = None,
    foreground: float = 0.5,
    labels: Labels = None,
    seed: int = 0,
    shuffle: bool = False,
    units: str | None = "modality",
    pad: float | None = None,
    level: int = 0,
    volume: int | None = None,
    sel: Mapping[str, Any] | None = None,
    isel: Mapping[str, int] | None = None,
    resample: bool = False,
    threshold: float | None = None,
    workers: int = 2,
    progress: bool | None = None,
) -> Patches:
    """Patches of the volumes of series; nothing of the images is read before a patch is asked for.

    size: voxels along z, y, x, or one number. per_volume: how many of each volume and epoch.
    stride: voxels along z, y, x; then patches lie on a grid that covers each volume, and none is random.
    balance_by: "SEG", "RTSTRUCT" or "both" draw a share of the patches around a voxel of a region, each label
        in its turn, and the others around a voxel of none; any other text means the regions of that label,
        of either kind; a mapping or a function gives masks as `regions.features` takes them. Regions
        are drawn once, now, and kept as runs. On a grid they only make the masks.
    foreground: that share. labels: only regions of these labels or numbers.
    seed, shuffle: patches, and their order if wanted, are another with each seed and epoch.
    units: "modality" (rescaled), "hu", "suv", … , None for values as stored (`images.UNITS`).
    pad: value of what lies outside the volume; without it patches stay inside, and volumes that are smaller
        than a patch are failures.
    level: 1, 2 … of the halved copies. volume, sel, isel: what of each series is meant.
    resample, threshold: for segmentations off the grid of the image, and fractional ones.
    workers: threads that look at the series.
    Series without a fitting volume, or without a region where regions are asked for, are in `.failures`.
    Raises ValueError for sizes, shares and units that make no sense.
    """
    extent, step = _three(size, "size"), None if stride is None else _three(stride, "stride")
    if not (per_volume >= 1 and 0 <= foreground <= 1):
        raise ValueError("per_volume is 1 or more, foreground a share from 0 to 1")
    of, wanted = _source(balance_by, labels)
    options, drawing = Options(volume, units, sel or {}, isel or {}), Drawing(wanted, resample, threshold)

    def looked_at(one: Series) -> PatchVolume:
        found = patch_volume(one, options, level, of, drawing)
        _check_extent(found, extent, pad)
        return found

    volumes, failures = _looked_at(list(series), looked_at, workers, progress)
    names = dict.fromkeys(label for one in volumes for label, _ in one.regions)
    return Patches(
        tuple(volumes),
        extent,
        0 if step else per_volume,
        step,
        of is not None,
        foreground,
        int(seed),
        pad,
        shuffle,
        tuple(names),
        tuple(failures),
    )


def _source(balance_by: Any, labels: Labels) -> tuple[Of | None, Labels]:
    """Where regions come from, and which of them are meant."""
    if isinstance(balance_by, str):
        if balance_by.lower() in ("seg", "rtstruct", "both"):
            kind: Any = balance_by.lower()
            return kind, labels
        return "both", balance_by
    return balance_by, labels


def _looked_at(
    series: list[Series], look: Callable[[Series], PatchVolume], workers: int, show: bool | None
) -> tuple[list[PatchVolume], list[tuple[SeriesKey, str, str]]]:
    """The volumes, and the series without one with the reason."""

    def tried(one: Series) -> PatchVolume | tuple[SeriesKey, str, str]:
        try:
            return look(one)
        except Exception as error:
            return one.key, type(error).__name__, str(error)

    volumes, failures = [], []
    with (
        progress_bar("Patches", len(series), unit="series", show=show) as bar,
        ThreadPoolExecutor(max(workers, 1), thread_name_prefix="patches") as threads,
    ):
        for found in threads.map(tried, series):
            if isinstance(found, PatchVolume):
                volumes.append(found)
            else:
                failures.append(found)
            bar.advance(1)
    return volumes, failures


def _check_extent(volume: PatchVolume, size: Size, pad: float | None) -> None:
    if pad is None and any(n < s for n, s in zip(volume.shape, size, strict=True)):
        raise VolumeError(
            f"series {volume.series.series_uid} has {volume.shape} voxels, fewer than a patch of {size}: pass"
            " pad=, the value of what lies outside"
        )


def _three(given: int | Sequence[int], name: str) -> Size:
    found = [given] * 3 if isinstance(given, int) else [int(one) for one in given]
    if len(found) != 3 or min(found) < 1:
        raise ValueError(f"{name} is one number of voxels, or three along z, y, x")
    return found[0], found[1], found[2]


def _grid(shape: Size, size: Size, stride: Size, pad: float | None) -> list[npt.NDArray[np.int64]]:
    """Where the patches of a grid begin along each axis; the last ends with the volume, or in the padding."""
    axes = []
    for n, s, step in zip(shape, size, stride, strict=True):
        starts = list(range(0, max(n - s, 0) + 1, step))
        if starts[-1] + s < n:
            starts.append(n - s if pad is None else starts[-1] + step)
        axes.append(np.array(starts, dtype=np.int64))
    return axes


def _random(*what: Any) -> np.random.Generator:
    """Random numbers that depend on nothing but these."""
    told = "\x1f".join(map(str, what)).encode()
    key = int.from_bytes(blake2b(told, digest_size=16).digest(), "big")
    return np.random.Generator(np.random.Philox(key=key))
