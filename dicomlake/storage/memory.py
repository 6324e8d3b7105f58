"""A lake's objects in memory: the fake that stands in for a disk, held to the same tests."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from dicomlake.storage.layout import STAGING
from dicomlake.storage.objectstore import (
    SWEEP_AGE_S,
    Data,
    Staged,
    Storage,
    byte_range,
    chunks,
    folder_parts,
    key_parts,
    reporting,
)


class MemoryStorage(Storage):
    """Objects in a dictionary; gone with the process, so nothing is ever left to sweep."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._numbers = count()
        self._lock = threading.RLock()

    def stage(self, key: str, data: Data, *, link: bool = False) -> Staged:  # noqa: ARG002 - nothing to link
        """See Storage.stage."""
        key_parts(key)
        content = b"".join(chunks(data))
        with self._lock:
            temporary = self._temporary()
            self._objects[temporary] = content
        return Staged(key, temporary, len(content))

    def publish(self, staged: Sequence[Staged]) -> Sequence[bool]:
        """See Storage.publish."""
        try:
            return [self._appear(one) for one in staged]
        finally:
            self.discard(staged)

    def discard(self, staged: Iterable[Staged]) -> None:
        """See Storage.discard."""
        with self._lock:
            for one in staged:
                self._objects.pop(one.temporary, None)

    def replace(self, key: str, data: Data) -> None:
        """See Storage.replace."""
        key_parts(key)
        content = b"".join(chunks(data))
        with self._lock, reporting("replace", key):
            self._refuse_folder(key)
            self._objects[key] = content

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See Storage.get."""
        content = self._content(key)
        return content[slice(*byte_range(len(content), start, stop))]

    def size(self, key: str) -> int:
        """See Storage.size."""
        return len(self._content(key))

    def exists(self, key: str) -> bool:
        """See Storage.exists."""
        key_parts(key)
        return key in self._objects

    def list(self, prefix: str = "") -> Iterator[str]:
        """See Storage.list."""
        with reporting("list", prefix):
            if prefix in self._objects:
                raise _os_error(errno.ENOTDIR)
            return iter(self._below(prefix))

    def delete(self, key: str) -> None:
        """See Storage.delete."""
        key_parts(key)
        with self._lock, reporting("delete", key):
            if self._below(key):
                raise _os_error(errno.EISDIR)
            self._objects.pop(key, None)

    def delete_tree(self, prefix: str) -> None:
        """See Storage.delete_tree."""
        key_parts(prefix)
        with self._lock:
            for key in self._below(prefix):
                del self._objects[key]

    def stage_tree(self, prefix: str) -> str:
        """See Storage.stage_tree."""
        key_parts(prefix)
        with self._lock:
            return self._temporary()

    def publish_tree(self, tree: str, prefix: str) -> None:
        """See Storage.publish_tree."""
        key_parts(prefix)
        with self._lock, reporting("publish", prefix):
            if prefix in self._objects:
                raise _os_error(errno.ENOTDIR)
            moved = {prefix + key.removeprefix(tree): self._objects.pop(key) for key in self._below(tree)}
            if not moved:
                raise _os_error(errno.ENOENT)
            self.delete_tree(prefix)
            self._objects |= moved

    def sweep(self, *, older_than_s: float = SWEEP_AGE_S) -> int:  # noqa: ARG002 - nothing outlives its writer
        """See Storage.sweep."""
        return 0

    def local_path(self, key: str) -> Path | None:
        """None: nothing of this lies in the file system."""
        key_parts(key)
        return None

    def close(self) -> None:
        """See Storage.close."""
        with self._lock:
            for key in [key for key in self._objects if key.startswith(f"{STAGING}/")]:
                del self._objects[key]

    def _appear(self, staged: Staged) -> bool:
        with self._lock, reporting("publish", staged.key):
            if staged.temporary not in self._objects:
                raise _os_error(errno.ENOENT)
            self._refuse_folder(staged.key)
            if staged.key in self._objects:
                return False
            self._objects[staged.key] = self._objects.pop(staged.temporary)
            return True

    def _content(self, key: str) -> bytes:
        key_parts(key)
        with reporting("read", key):
            if (content := self._objects.get(key)) is None:
                raise _os_error(errno.EISDIR if self._below(key) else errno.ENOENT)
            return content

    def _refuse_folder(self, key: str) -> None:
        """A key is an object or a folder, never both, as in a file system."""
        parts = key.split("/")
        if self._below(key):
            raise _os_error(errno.EISDIR)
        if any("/".join(parts[:depth]) in self._objects for depth in range(1, len(parts))):
            raise _os_error(errno.ENOTDIR)

    def _below(self, prefix: str) -> Sequence[str]:
        parts = folder_parts(prefix)
        start = f"{prefix}/" if parts else ""
        with self._lock:
            keys = sorted(key for key in self._objects if key.startswith(start))
        return keys if parts else [key for key in keys if not key.startswith(f"{STAGING}/")]

    def _temporary(self) -> str:
        return f"{STAGING}/memory/{next(self._numbers)}"


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
