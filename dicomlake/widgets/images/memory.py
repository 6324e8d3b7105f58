"""Decoded volumes in memory: one bounded store of the process, filled block by block.

The first look at a plane reads only the blocks that it crosses. A thread then fills the rest of the volume,
so that afterwards planes of all orientations cost the same. Volumes that exceed the bound are read anew for
each request, but for a few pieces that were used last. Safe to use from many threads.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.forking import watch

Box = tuple[slice, ...]
"""A slice with start and stop for each axis but that of colours."""
Read = Callable[[Box], np.ndarray]
Key = tuple[Hashable, ...]

_PIECE_BYTES = 32 << 20  # read at once: large enough to be fast, small enough to let others have their turn
_LARGEST_BUDGET = 1 << 30
_SHARE_OF_MEMORY = 8
_UNKNOWN_MEMORY = 4 << 30
_LAST_PIECE = 10.0  # seconds that the end of a process waits for the piece that is being read


class Pixels(Protocol):
    """The decoded values of an array."""

    @property
    def nbytes(self) -> int:
        """What it takes of the memory."""

    def part(self, box: Box) -> np.ndarray:
        """The values of a box, not to be changed. Raises DicomlakeError when they cannot be read."""

    def whole(self) -> np.ndarray:
        """All of them. Raises DicomlakeError when they cannot be read, or do not fit."""


class Given:
    """An array that is in memory anyway."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.nbytes = 0

    def part(self, box: Box) -> np.ndarray:
        """The values of a box."""
        return _read_only(self._values[box])

    def whole(self) -> np.ndarray:
        """All of them."""
        return _read_only(self._values[...])


class Resident:
    """An array that becomes resident block by block.

    shape, dtype: of the array; axes beyond those of `blocks` are always read whole. blocks: shape of a block.
    read: gives the values of a box. A block that cannot be read is tried again when it is asked for again.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, blocks: Sequence[int], read: Read) -> None:
        self._data = np.empty(tuple(shape), dtype)
        self._sizes, self._blocks, self._read = tuple(shape)[: len(blocks)], tuple(blocks), read
        grid = [-(-n // b) for n, b in zip(self._sizes, self._blocks, strict=True)]
        self._there = np.zeros(grid, dtype=bool)
        self._reading = threading.Lock()
        self._asked = 0  # requests that wait for `_reading`: filling gives way to them
        self._idle = threading.Condition()
        self.dropped = False

    @property
    def nbytes(self) -> int:
        """What it takes of the memory, once it is filled."""
        return self._data.nbytes

    @property
    def filled(self) -> bool:
        """Whether all blocks are there."""
        return bool(self._there.all())

    def part(self, box: Box) -> np.ndarray:
        """The values of a box, not to be changed. Raises DicomlakeError when they cannot be read."""
        cells = self._cells(box)
        if not self._there[cells].all():
            with self._idle:
                self._asked += 1
            try:
                with self._reading:
                    self._fill(cells)
            finally:
                with self._idle:
                    self._asked -= 1
                    self._idle.notify_all()
        return _read_only(self._data[box])

    def whole(self) -> np.ndarray:
        """All values. Raises DicomlakeError when they cannot be read."""
        return self.part(tuple(slice(0, n) for n in self._sizes))

    def fill(self, first: Sequence[int]) -> None:
        """Read what is missing, piece by piece, beginning at the leading index `first`.

        Damage is passed over: it is told to whoever asks for it.
        """
        for cells in self._pieces(first):
            with self._idle:
                while self._asked and not self.dropped:
                    self._idle.wait()
            if self.dropped:
                return
            try:
                with self._reading:
                    self._fill(cells)
            except Exception:  # whatever it is, a request for these blocks meets it again and reports it
                continue

    def _pieces(self, first: Sequence[int]) -> Iterator[Box]:
        """The grid of blocks in slabs, those of the wanted leading index and near to it before others."""
        leading = self._there.shape[: max(self._there.ndim - 2, 1)]
        wanted = [i // b for i, b in zip(first, self._blocks[: len(leading)], strict=False)]

        def distance(index: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(abs(a - b) for a, b in zip(index, wanted, strict=False))

        for index in sorted(np.ndindex(leading), key=distance):
            yield tuple(slice(i, i + 1) for i in index)

    def _cells(self, box: Box) -> Box:
        """The blocks that a box touches."""
        return tuple(slice(s.start // b, -(-s.stop // b)) for s, b in zip(box, self._blocks, strict=True))

    def _box(self, low: Sequence[int], high: Sequence[int]) -> Box:
        """The voxels of the blocks from low to high, both included."""
        return tuple(
            slice(a * b, min((c + 1) * b, n))
            for a, c, b, n in zip(low, high, self._blocks, self._sizes, strict=True)
        )

    def _fill(self, cells: Box) -> None:
        """Read the missing ones of these blocks. What can be read is kept, even if other blocks cannot."""
        failed: Exception | None = None
        for low, high in self._missing(cells):
            box = self._box(low, high)
            try:
                self._data[box] = self._read(box)
            except Exception as error:
                failed = failed or error
            else:
                self._there[tuple(slice(a, c + 1) for a, c in zip(low, high, strict=True))] = True
        if failed is not None:
            raise failed

    def _missing(self, cells: Box) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Boxes of blocks, (first, last), that cover the missing ones; each about a piece in size."""
        start = np.array([s.start or 0 for s in cells])
        start = np.concatenate([start, np.zeros(self._there.ndim - len(start), int)])
        missing = np.argwhere(~self._there[cells]) + start
        lines: dict[tuple[int, ...], list[np.ndarray]] = {}
        for index in missing:
            lines.setdefault(tuple(index[:-2].tolist()), []).append(index)
        found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for members in lines.values():
            stacked = np.stack(members)
            found += self._cut(tuple(stacked.min(axis=0).tolist()), tuple(stacked.max(axis=0).tolist()))
        return found

    def _cut(
        self, low: tuple[int, ...], high: tuple[int, ...]
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """A box of blocks in parts of about a piece at most, cut between rows of blocks."""
        size = prod(s.stop - s.start for s in self._box(low, high)) * self._data.dtype.itemsize
        size *= prod(self._data.shape[len(self._sizes) :])
        rows = high[-2] - low[-2] + 1
        at_once = max(1, int(rows * _PIECE_BYTES / size))
        for first in range(low[-2], high[-2] + 1, at_once):
            last = min(first + at_once - 1, high[-2])
            yield (*low[:-2], first, low[-1]), (*high[:-2], last, high[-1])


class Streamed:
    """An array that is too large to be kept: read for each request, the last few pieces stay.

    budget: bytes of pieces that are kept. The other arguments are those of `Resident`.
    """

    def __init__(
        self, shape: Sequence[int], dtype: Any, blocks: Sequence[int], read: Read, budget: int
    ) -> None:
        self._sizes, self._blocks, self._read = tuple(shape)[: len(blocks)], tuple(blocks), read
        self._voxel: int = np.dtype(dtype).itemsize * prod(tuple(shape)[len(blocks) :])
        self._budget = budget
        self._lock = threading.Lock()
        self._pieces: OrderedDict[tuple[tuple[int, int], ...], np.ndarray] = OrderedDict()
        self._kept = 0

    @property
    def nbytes(self) -> int:
        """What it may take of the memory."""
        return min(self._budget, int(prod(self._sizes)) * self._voxel)

    def part(self, box: Box) -> np.ndarray:
        """The values of a box. Raises DicomlakeError when they cannot be read, or are too many."""
        size = self._bytes(box)
        if size > self._budget:
            raise VolumeError(
                f"{size >> 20} MiB are needed at once, more than the viewer may keep: take fewer planes or a"
                " thinner slab, or raise the bound with dicomlake.widgets.images.memory.keep_at_most(…)"
            )
        with self._lock:
            around = self._around(box)
            found = self._piece(around)
        inner = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True))
        return _read_only(found[inner])

    def whole(self) -> np.ndarray:
        """All values. Raises DicomlakeError when they do not fit."""
        return self.part(tuple(slice(0, n) for n in self._sizes))

    def _bytes(self, box: Box) -> int:
        return int(prod(s.stop - s.start for s in box)) * self._voxel

    def _around(self, box: Box) -> Box:
        """The blocks around a box, which are decoded for it anyway, as far as they are no large piece."""
        found = list(box)
        for axis, (s, b, n) in enumerate(zip(box, self._blocks, self._sizes, strict=True)):
            found[axis] = slice(s.start // b * b, min(-(-s.stop // b) * b, n))
            if self._bytes(tuple(found)) > max(_PIECE_BYTES, self._budget // 4):
                found[axis] = s
        return tuple(found)

    def _piece(self, box: Box) -> np.ndarray:
        key = tuple((s.start, s.stop) for s in box)
        if key in self._pieces:
            self._pieces.move_to_end(key)
            return self._pieces[key]
        found = self._read(box)
        self._pieces[key] = found
        self._kept += found.nbytes
        while self._kept > self._budget and len(self._pieces) > 1:
            self._kept -= self._pieces.popitem(last=False)[1].nbytes
        return found


class Memory:
    """Decoded arrays by key, at most `budget` bytes of them; those that were used last stay."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Pixels] = OrderedDict()
        self._queue: list[tuple[Resident, tuple[int, ...]]] = []
        self._filler: threading.Thread | None = None
        self._released: deque[Hashable] = deque()
        self._reading: Resident | None = None
        self._ends = False
        watch(self)

    def pixels(
        self,
        key: Key,
        shape: Sequence[int],
        dtype: Any,
        blocks: Sequence[int],
        read: Read,
    ) -> Pixels:
        """The array of this key, from memory, or as one that will be read; arguments as of `Resident`.

        key: whose it is, and what else tells it apart. Nothing is read yet.
        """
        with self._lock:
            self._sweep()
            if key not in self._kept:
                self._kept[key] = self._made(shape, dtype, blocks, read)
            self._kept.move_to_end(key)
            found = self._kept[key]
            self._make_room()
            return found

    def _made(self, shape: Sequence[int], dtype: Any, blocks: Sequence[int], read: Read) -> Pixels:
        if prod(shape) * np.dtype(dtype).itemsize <= self.budget:
            return Resident(shape, dtype, blocks, read)
        return Streamed(shape, dtype, blocks, read, max(self.budget // 2, 1))

    def fill(self, pixels: Pixels, first: Sequence[int] = ()) -> None:
        """Have a thread read what is missing of an array; the array asked for last comes first."""
        if not isinstance(pixels, Resident) or pixels.filled or pixels.dropped:
            return
        with self._lock:
            self._queue = [item for item in self._queue if item[0] is not pixels]
            self._queue.append((pixels, tuple(first)))
            if self._filler is None and not self._ends:
                # after what reads has been imported, so that it runs before what that does at the end
                atexit.unregister(self._end)
                atexit.register(self._end)
                self._filler = threading.Thread(target=self._work, name="dicomlake-pixels", daemon=True)
                self._filler.start()

    def keep_at_most(self, budget: int) -> None:
        """Change the bound, in bytes; what exceeds it is let go."""
        with self._lock:
            self.budget = budget
            self._make_room()

    def release(self, owner: Hashable) -> None:
        """Let the arrays of an owner go, soon; takes no lock, as garbage collection may happen anywhere."""
        self._released.append(owner)

    def nbytes(self) -> int:
        """What all arrays take, once they are filled."""
        with self._lock:
            self._sweep()
            return sum(one.nbytes for one in self._kept.values())

    def forked(self) -> None:
        """Begin anew in a child process, where the thread that fills is not."""
        self.__init__(self.budget)  # type: ignore[misc]

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until nothing is being filled; False when that took too long."""
        with self._lock:
            filler = self._filler
        if filler is not None:
            filler.join(seconds)
        return filler is None or not filler.is_alive()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._filler = None
                    return
                pixels, first = self._queue.pop()
                self._reading = pixels
            pixels.fill(first)

    def _end(self) -> None:
        """Stop filling: the process ends, and what the thread reads with is about to go."""
        with self._lock:
            self._ends = True
            self._queue.clear()
            if self._reading is not None:
                self._reading.dropped = True
        self.wait(_LAST_PIECE)

    def _sweep(self) -> None:
        while self._released:
            owner = self._released.popleft()
            for key in [key for key in self._kept if key[0] == owner]:
                self._let_go(key)

    def _make_room(self) -> None:
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > self.budget:
            self._let_go(next(iter(self._kept)))

    def _let_go(self, key: Key) -> None:
        gone = self._kept.pop(key, None)
        if isinstance(gone, Resident):
            gone.dropped = True


def default_budget() -> int:
    """1 GiB, or an eighth of the memory of this machine if that is less; in bytes."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        memory = _UNKNOWN_MEMORY
    return min(_LARGEST_BUDGET, memory // _SHARE_OF_MEMORY)


MEMORY = Memory(default_budget())
"""That of this process: all widgets share the bound."""


def keep_at_most(budget: int) -> None:
    """Bound what all widgets of this process keep of decoded volumes, in bytes."""
    if budget <= 0:
        raise VolumeError("the bound of decoded volumes is a positive number of bytes")
    MEMORY.keep_at_most(int(budget))


def _read_only(values: np.ndarray) -> np.ndarray:
    """A view through which nobody changes what all share."""
    view = values.view()
    view.flags.writeable = False
    return view


def told(what: str, error: Exception) -> VolumeError:
    """An error for planes that cannot be read; only dicomlake's own words are quoted."""
    cause = str(error) if isinstance(error, DicomlakeError) else type(error).__name__
    return VolumeError(f"{what} cannot be read: {cause}")
