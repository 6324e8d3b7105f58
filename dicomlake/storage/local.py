"""A lake's objects as files below one folder, durable and atomic on any POSIX file system.

    stage     `.staging/<writer>/<name>` is written; the kernel is asked to start writing it out
    publish   fsync every file · link it to its final name · fsync its folder and all folders above
    sweep     remove `.staging/<writer>/` of every writer whose lock is no longer held

Temporary files lie in one place and not beside their final names: sweeping then costs what was left
behind and not a walk over all originals, and whoever opens `originals/` while studies arrive never
meets half a file. The price is that a lake must lie on one file system.

Folders are opened one part at a time and never through a symbolic link, so no link that lies in a
lake can redirect a write to elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import threading
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path

from dicomlake.storage import files
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

_Parts = tuple[str, ...]
_Identity = tuple[int, int]  # device and inode

_LOCK = "lock"
_REMEMBERED = 1 << 14  # folders
_OPEN_FOLDERS = 8  # at once; six descriptors each


class LocalStorage(Storage):
    """Objects below a folder, which is made when something is first staged.

    Costs two open files from the first write until `close` or the end of the process. May be
    pickled; a copy, and a forked process, is a writer of its own.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)
        self._lock = threading.Lock()
        self._own_writer: _Writer | None = None
        self._durable: dict[_Parts, _Identity] = {}  # folders whose names are known to be on the disk

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root!r})"

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[str]]:
        return type(self), (self._root,)

    # objects

    def stage(self, key: str, data: Data, *, link: bool = False) -> Staged:
        """See Storage.stage. Falls back to a copy where no hard link can be made."""
        key_parts(key)
        writer, name = self._writer(), _fresh_name()
        if link and isinstance(data, Path):
            size = files.link_new(writer.folder, name, data)
            if size is not None:
                return Staged(key, f"{writer.key}/{name}", size)
        return Staged(key, f"{writer.key}/{name}", files.write_new(writer.folder, name, chunks(data), key))

    def publish(self, staged: Sequence[Staged]) -> Sequence[bool]:
        """See Storage.publish."""
        try:
            places = [key_parts(one.key) for one in staged]
            folders = sorted({parts[:-1] for parts in places})
            files.in_threads(self._sync_staged, [one for one in staged if not one.durable])
            with ExitStack() as stack:
                # all of them first: where this fails, nothing is visible yet
                if len(folders) <= _OPEN_FOLDERS:
                    reached = {parts: self._reach(parts, stack) for parts in folders}
                    created = self._appear(staged, places, {p: one.folder for p, one in reached.items()})
                    # also where a key existed: whoever published it may not have come this far yet
                    self._sync_reached(reached)
                    return created
            for parts in folders:
                with reporting("make the folder", "/".join(parts)), self._folder(parts, create=True):
                    pass
            created = self._appear(staged, places, {})
            self._sync_folders(folders)
            return created
        finally:
            self.discard(staged)

    def make_durable(self, staged: Staged) -> Staged:
        """See Storage.make_durable."""
        self._sync_staged(staged)
        return replace(staged, durable=True)

    def discard(self, staged: Iterable[Staged]) -> None:
        """See Storage.discard."""
        for one in staged:
            with reporting("discard what was staged for", one.key), suppress(FileNotFoundError):
                os.unlink(self._path(one.temporary))

    def replace(self, key: str, data: Data) -> None:
        """See Storage.replace."""
        *above, name = key_parts(key)
        staged = self.stage(key, data)
        try:
            self._sync_staged(staged)
            with reporting("replace", key), self._folder(above, create=True) as folder:
                os.rename(self._path(staged.temporary), name, dst_dir_fd=folder)
            self._sync_folders({tuple(above)})
        finally:
            self.discard([staged])

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """See Storage.get."""
        *above, name = key_parts(key)
        with reporting("read", key):
            with self._folder(above) as folder:
                fd = os.open(name, files.READ, dir_fd=folder)
            try:
                return files.read(fd, *byte_range(files.object_size(os.fstat(fd)), start, stop))
            finally:
                os.close(fd)

    def size(self, key: str) -> int:
        """See Storage.size."""
        with reporting("read the size of", key):
            return files.object_size(self._stat(key))

    def exists(self, key: str) -> bool:
        """See Storage.exists."""
        with reporting("look for", key):
            try:
                return stat.S_ISREG(self._stat(key).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def list(self, prefix: str = "") -> Iterator[str]:
        """See Storage.list. Symbolic links are not objects and are not followed."""
        return self._walk(folder_parts(prefix))

    def delete(self, key: str) -> None:
        """See Storage.delete."""
        *above, name = key_parts(key)
        with reporting("delete", key), suppress(FileNotFoundError), self._folder(above) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    # folders

    def delete_tree(self, prefix: str) -> None:
        """See Storage.delete_tree. The folder vanishes at once and is then emptied out of sight."""
        *above, name = key_parts(prefix)
        with reporting("delete", prefix), suppress(FileNotFoundError), self._folder(above) as folder:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                aside = self._path(self._temporary())
                os.rename(name, aside, src_dir_fd=folder)
                self._durable = {}  # a folder made in its place may have its inode
                os.fsync(folder)
                shutil.rmtree(aside)

    def stage_tree(self, prefix: str) -> str:
        """See Storage.stage_tree."""
        key_parts(prefix)
        tree = self._temporary()
        with reporting("make a folder for", prefix):
            os.mkdir(self._path(tree))
        return tree

    def publish_tree(self, tree: str, prefix: str) -> None:
        """See Storage.publish_tree."""
        *above, name = key_parts(prefix)
        aside = self._path(self._temporary())
        with reporting("publish", prefix):
            self._sync_tree(tree)
            with self._folder(above, create=True) as folder:
                with suppress(OSError):  # without locks, two that publish one prefix may fail, not mix
                    fcntl.flock(folder, fcntl.LOCK_EX)
                files.rename_over(self._path(tree), folder, name, aside)
            self._sync_folders({tuple(above)})
            with suppress(FileNotFoundError):
                shutil.rmtree(aside)

    def local_path(self, key: str) -> Path | None:
        """See Storage.local_path."""
        return Path(self._root, *key_parts(key))

    # writers

    def sweep(self, *, older_than_s: float = SWEEP_AGE_S) -> int:
        """See Storage.sweep."""
        staging = os.path.join(self._root, STAGING)
        before = time.time() - older_than_s
        with reporting("sweep", STAGING):
            try:
                with os.scandir(staging) as entries:
                    old = [one.path for one in entries if one.stat(follow_symlinks=False).st_mtime <= before]
            except FileNotFoundError:
                return 0
            return sum(_sweep_writer(path) for path in old)

    def close(self) -> None:
        """See Storage.close."""
        with self._lock:
            if self._own_writer is not None:
                self._own_writer.leave()
                self._own_writer = None

    def _writer(self) -> _Writer:
        with self._lock:
            if self._own_writer is None or self._own_writer.pid != os.getpid():
                with reporting("prepare to write below", STAGING):
                    files.make_root(self._root)
                    self._own_writer = self._enter()
            return self._own_writer

    def _enter(self) -> _Writer:
        while True:
            key = f"{STAGING}/{_fresh_name()}"
            with suppress(FileNotFoundError), self._folder(key.split("/"), create=True) as folder:
                lock = os.open(_LOCK, files.CREATE, 0o666, dir_fd=folder)
                with suppress(OSError):  # a file system without locks: `sweep` cannot lock either
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.fstat(lock).st_nlink:
                    return _Writer(key, self._path(key), os.dup(folder), lock)
                os.close(lock)  # swept between its making and its locking

    def _temporary(self) -> str:
        return f"{self._writer().key}/{_fresh_name()}"

    # places

    def _path(self, key: str) -> str:
        """For temporary keys only: their folder was reached without symbolic links when it was made."""
        return f"{self._root}/{key}"

    @contextmanager
    def _folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder, reached without following any symbolic link."""
        fd = os.open(self._root, files.FOLDER)
        try:
            for part in parts:
                above, fd = fd, files.open_folder(fd, part, create=create)
                os.close(above)
            yield fd
        finally:
            os.close(fd)

    def _stat(self, key: str) -> os.stat_result:
        *above, name = key_parts(key)
        with self._folder(above) as folder:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def _walk(self, parts: _Parts) -> Iterator[str]:
        with reporting("list", "/".join(parts)):
            try:
                names = self._names(parts)
            except FileNotFoundError:
                return
        for name in names:
            if not name.endswith("/"):
                yield "/".join((*parts, name))
            elif parts or name != f"{STAGING}/":
                yield from self._walk((*parts, name[:-1]))

    def _names(self, parts: _Parts) -> Sequence[str]:
        """What lies in a folder, a folder's name with "/" behind it; in the order that keys have."""
        with self._folder(parts) as fd, os.scandir(fd) as entries:
            return sorted(
                f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name
                for one in entries
                if one.is_dir(follow_symlinks=False) or one.is_file(follow_symlinks=False)
            )

    # visibility and durability

    def _appear(
        self, staged: Sequence[Staged], places: Sequence[_Parts], opened: Mapping[_Parts, int]
    ) -> Sequence[bool]:
        created = [False] * len(staged)
        order = sorted(range(len(staged)), key=lambda number: places[number][:-1])
        for parts, numbers in groupby(order, key=lambda number: places[number][:-1]):
            given = nullcontext(opened[parts]) if parts in opened else self._folder(parts)
            with reporting("open the folder", "/".join(parts)), given as folder:
                for number in numbers:
                    one = staged[number]
                    with reporting("publish", one.key):
                        created[number] = files.link_if_absent(
                            self._path(one.temporary), folder, places[number][-1]
                        )
        return created

    def _sync_staged(self, staged: Staged) -> None:
        with reporting("make durable", staged.key):
            files.sync_path(self._path(staged.temporary))

    def _sync_folders(self, folders: Collection[_Parts]) -> None:
        """Make the names in these folders durable, and the names of all folders above them."""
        above_too = {parts[:depth] for parts in folders for depth in range(len(parts) + 1)}
        files.in_threads(self._sync_folder, sorted(above_too, reverse=True))  # a folder before the one above

    def _reach(self, parts: _Parts, stack: ExitStack) -> _Reached:
        """A folder, made where it is missing, with what has to be synced for its name to be durable."""
        with reporting("make the folder", "/".join(parts)):
            fd = os.open(self._root, files.FOLDER)
            reached = _Reached(fd)
            for depth, part in enumerate(parts, 1):
                stack.callback(os.close, fd)
                above, fd = fd, files.open_folder(fd, part, create=True)
                status = os.fstat(fd)
                identity = status.st_dev, status.st_ino
                if self._durable.get(parts[:depth]) != identity:
                    reached.fresh[parts[:depth]] = identity
                    reached.above[parts[: depth - 1]] = above
            stack.callback(os.close, fd)
            reached.folder = fd
            return reached

    def _sync_reached(self, reached: Mapping[_Parts, _Reached]) -> None:
        """As `_sync_folders`, without the folders above that this process has synced since they were there:
        an fsync costs a flush of the disk even where there is nothing to write."""
        wanted: dict[_Parts, int] = {}
        fresh: dict[_Parts, _Identity] = {}
        for parts, one in reached.items():
            wanted |= {parts: one.folder} | one.above
            fresh |= one.fresh

        def sync(parts: _Parts) -> None:
            with reporting("make durable", "/".join(parts)):
                os.fsync(wanted[parts])

        files.in_threads(sync, sorted(wanted, reverse=True))
        if len(self._durable) > _REMEMBERED:
            self._durable = {}
        self._durable.update(fresh)

    def _sync_folder(self, parts: _Parts) -> None:
        with reporting("make durable", "/".join(parts)), self._folder(parts) as folder:
            os.fsync(folder)

    def _sync_tree(self, tree: str) -> None:
        found = list(os.walk(self._path(tree)))
        if not any(names for _, _, names in found):
            raise FileNotFoundError(errno.ENOENT, "nothing was written into the staged folder")
        inside = [os.path.join(folder, name) for folder, *names in found for name in chain(*names)]
        files.in_threads(files.sync_path, [*inside, self._path(tree)])  # refuses symbolic links


@dataclass(slots=True)
class _Reached:
    """An open folder, and by their parts: folders on the way to it whose names may not be durable, and the
    open folders that those names are in."""

    folder: int
    fresh: dict[_Parts, _Identity] = field(default_factory=dict)
    above: dict[_Parts, int] = field(default_factory=dict)


class _Writer:
    """A process's own folder below `.staging/`, held by a lock that ends with the process.

    A lock and not a process id: ids mean nothing to another container or host that shares the disk.
    """

    def __init__(self, key: str, path: str, folder: int, lock: int) -> None:
        self.key = key
        self.folder = folder  # descriptor
        self.pid = os.getpid()
        self.leave = weakref.finalize(self, _leave, self.pid, path, folder, lock)


def _leave(pid: int, path: str, folder: int, lock: int) -> None:
    if pid == os.getpid():  # a forked child only lets go of its copies of the descriptors
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # others still write
            os.rmdir(os.path.dirname(path))
    os.close(folder)
    os.close(lock)


def _sweep_writer(path: str) -> int:
    """Remove what a writer left, if it no longer lives; how much that was."""
    try:
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # a sweep that was cut short, or a writer that begins and will begin anew
        return _remove_leftovers(path)
    except OSError:  # another user's, or not a writer's folder
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _remove_leftovers(path)
    except OSError:  # its writer lives
        return 0
    finally:
        os.close(lock)


def _remove_leftovers(path: str) -> int:
    left = sum(name != _LOCK for name in os.listdir(path))
    shutil.rmtree(path, ignore_errors=True)
    return left


def _fresh_name() -> str:
    return secrets.token_hex(8)
