"""Bytes under keys: what every place that can hold a lake must do, and how its failures are told.

Nothing above `storage/` knows whether a lake is a folder or an object-store prefix. An object is
written in two steps, so that many objects share the cost of being made durable:

    staged = [storage.stage(key, data) for key, data in arriving]    # fast; neither durable nor visible
    created = storage.publish(staged)                                # durable, then visible

A key is relative and '/'-separated, see `key_parts`. An object, once visible, is complete and never
changes; only `replace`, meant for small state files, gives a key new content.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from dicomlake.errors import StorageError, StorageFull
from dicomlake.storage.layout import STAGING

Chunk: TypeAlias = bytes | bytearray | memoryview
Data: TypeAlias = Chunk | Path | Iterable[Chunk]

SWEEP_AGE_S = 3600.0
"""Leftovers younger than this stay: it guards writers on hosts between which file locks do not work."""

_READ_BYTES = 1 << 20  # of a file that is copied; the gain above 1 MiB is within noise
_PART_BYTES = 255  # NAME_MAX of ext4, XFS, APFS, NTFS
_UNSAFE_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class Staged:
    """An object that is written but neither durable nor visible; may be published by another process."""

    key: str  # where it will be visible
    temporary: str  # the key it has until then
    size: int  # bytes
    durable: bool = False  # by `make_durable`: `publish` need not do it again


class Storage(Protocol):
    """A place that holds objects. Every method is thread-safe and raises StorageError.

    StorageFull is raised, and the temporary object removed, where no space is left.
    """

    def stage(self, key: str, data: Data, *, link: bool = False) -> Staged:
        """Write a temporary object for `key`; it is neither durable nor visible until published.

        A path is copied. With `link=True` it is hard-linked where the file system can, which costs
        nothing but lets a later change of that file, in place, change the object as well.
        An error raised by iterable `data` passes through as it is.
        """
        ...

    def publish(self, staged: Sequence[Staged]) -> Sequence[bool]:
        """Make a batch durable, then visible; True for each key that this call created.

        False: the key existed (it is durable, too, and was not touched). Each object appears whole
        and at once, or not at all. All temporary objects are gone afterwards, also after an error;
        objects that became visible before the error are complete and stay.
        """
        ...

    def make_durable(self, staged: Staged) -> Staged:
        """Do a part of what `publish` has to do ahead of it; still not visible.

        For threads that stage one object each: what is left for the one that publishes all of them is small.
        """
        return staged

    def put(self, key: str, data: Data) -> bool:
        """Store one object; False where the key existed already."""
        return self.publish([self.stage(key, data)])[0]

    def discard(self, staged: Iterable[Staged]) -> None:
        """Drop staged objects instead of publishing them."""
        ...

    def replace(self, key: str, data: Data) -> None:
        """Give a key new content, atomically and durably; for small state files, never for originals."""
        ...

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of an object from `start` up to `stop`, both counted from its beginning."""
        ...

    def size(self, key: str) -> int:
        """The length of an object in bytes."""
        ...

    def exists(self, key: str) -> bool:
        """Whether an object is visible under this very key."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys of all visible objects below a folder, in order of their characters, lazily."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object durably; a missing one is fine."""
        ...

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and all below it, durably; a missing one is fine."""
        ...

    def stage_tree(self, prefix: str) -> str:
        """The key of a fresh, invisible folder in which the later content of `prefix` can be built."""
        ...

    def publish_tree(self, tree: str, prefix: str) -> None:
        """Make a folder from `stage_tree` durable, then visible as `prefix`, in place of an older one.

        Unlike an object, a folder cannot be exchanged in one step everywhere: a crash in between may
        leave neither visible. So this is for what can be rebuilt.
        """
        ...

    def sweep(self, *, older_than_s: float = SWEEP_AGE_S) -> int:
        """Remove what writers that no longer live have left unpublished; how many objects and trees."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the object or folder lies in the file system; None where it lies elsewhere.

        To read, to map or to hard-link; written to only below a folder from `stage_tree`.
        """
        ...

    def close(self) -> None:
        """Drop what this writer staged and did not publish, and release what it holds."""
        ...


def key_parts(key: str) -> tuple[str, ...]:
    """The parts of a safe key.

    Raises StorageError, naming the cause but not the text, for an empty part, "." or "..", a control
    character, a backslash, a lone surrogate, a part of more than 255 bytes, or one that is reserved.
    """
    parts = tuple(key.split("/"))
    for number, part in enumerate(parts, start=1):
        if cause := _unsafe(part):
            raise StorageError(f"unsafe key: part {number} of {len(parts)} {cause}; build keys with layout")
    if parts[0] == STAGING and len(parts) < 3:
        raise StorageError(f"unsafe key: {STAGING!r} is reserved for what is being written; choose another")
    return parts


def folder_parts(prefix: str) -> tuple[str, ...]:
    """The parts of a folder's key, which may be "" for the root."""
    return key_parts(prefix) if prefix else ()


def _unsafe(part: str) -> str | None:
    if not part:
        return "is empty"
    if part in (".", ".."):
        return f"is {part!r}"
    if _UNSAFE_CHARACTER.search(part):
        return "holds a control character or a backslash"
    try:  # surrogateescape, so that a foreign file name that is not UTF-8 can be named and removed
        length = len(part.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return f"has more than {_PART_BYTES} bytes" if length > _PART_BYTES else None


def chunks(data: Data) -> Iterator[Chunk]:
    """The data in pieces, each to be written whole."""
    if isinstance(data, bytes | bytearray | memoryview):
        return iter((data,))
    return _file_chunks(data) if isinstance(data, Path) else iter(data)


def byte_range(size: int, start: int, stop: int | None) -> tuple[int, int]:
    """The part of an object of `size` bytes that `start` and `stop` ask for."""
    if start < 0 or (stop is not None and stop < 0):
        raise ValueError("a byte range counts from the beginning of the object: start and stop >= 0")
    stop = size if stop is None else min(stop, size)
    return min(start, stop), stop


def _file_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_READ_BYTES):
                yield chunk
    except OSError as exc:
        raise StorageError(
            f"the file to store cannot be read: {exc.strerror}; check its permissions"
        ) from exc


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_A_FOLDER = (
    "a file or a symbolic link lies where a folder or an object is expected; move it away: a lake is only "
    "read and written below its own folder"
)
_REMEDIES = {
    errno.ENOSPC: "free some space on the device or move the lake to a larger one",
    errno.EDQUOT: "ask for a larger quota or move the lake",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or use a file system without this one",
    errno.ENOENT: "list the keys below its folder to see what is there",
    errno.EACCES: "give this user permission to read and write the lake's folder",
    errno.EPERM: "give this user permission to read and write the lake's folder",
    errno.EROFS: "mount the file system for writing, or open the lake read-only",
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.ELOOP: _NOT_A_FOLDER,
    errno.EISDIR: "a folder lies under this key: use delete_tree to remove it",
    errno.EXDEV: "the folder lies on another file system than the lake's root: mount the lake as a whole",
    errno.EMFILE: "close some files or raise the limit (ulimit -n)",
}


@contextmanager
def reporting(action: str, key: str) -> Iterator[None]:
    """Tell an OSError as a StorageError that names the action, the key, the cause and the remedy."""
    try:
        yield
    except OSError as exc:
        kind = StorageFull if exc.errno in _FULL else StorageError
        remedy = _REMEDIES.get(exc.errno or 0, "check the device and its mount")
        raise kind(f"cannot {action} {key!r}: {exc.strerror}; {remedy}") from exc
