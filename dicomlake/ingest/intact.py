"""Whether an original is what it was when it was stored."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from dicomlake.records import Instance
from dicomlake.storage.objectstore import Storage

_READ_BYTES = 4 << 20  # that are held at once


def is_intact(storage: Storage, instance: Instance) -> bool:
    """Whether the original, read again, has the size and the SHA-256 of the catalog.

    Raises StorageError when it cannot be read.
    """
    size = storage.size(instance.key)
    if size != instance.size:
        return False
    _let_go(storage, instance.key)
    digest = hashlib.sha256()
    for start in range(0, size, _READ_BYTES):
        digest.update(storage.get(instance.key, start, min(start + _READ_BYTES, size)))
    return digest.hexdigest() == instance.sha256


def _let_go(storage: Storage, key: str) -> None:
    """Have the kernel drop its copy of a file: what is to be proven is what the disk holds."""
    path = storage.local_path(key)
    if path is None or not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
