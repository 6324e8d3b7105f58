"""Files of an ordinary file system: one, or all those in a folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from dicomlake.dicom.files import HEAD_BYTES, sniff
from dicomlake.ingest.sources.archives import unpack
from dicomlake.ingest.sources.content import FileContent
from dicomlake.ingest.sources.items import Candidate, Item, Limits, Refused, Skipped, printable
from dicomlake.ingest.sources.verdict import Fate, judge

FolderKey: TypeAlias = tuple[int, int]
"""(st_dev, st_ino): what tells one folder from another, however it is reached."""

_SPECIAL: Final = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFDIR: "folder",  # only where a file became one in the meantime
}


def walk(folder: str, seen: set[FolderKey]) -> Iterator[str | Skipped | Refused]:
    """The paths of everything in a folder that is no folder, in sorted order, one folder at a time.

    Follows symbolic links, but enters no folder twice: `seen` holds those entered, and is added to.
    Only one folder's names are held at a time for each level of depth. Opens no file.
    """
    stack: list[_Entered] = []
    waiting: Iterator[tuple[str, bool]] = iter([(folder, True)])
    while True:
        for path, is_folder in waiting:
            if not is_folder:
                yield path
                continue
            entered = _enter(path, seen, tuple(above.key for above in stack))
            if isinstance(entered, _Entered):
                stack.append(_Entered(entered.key, waiting))  # to come back to
                waiting = entered.entries
                break
            yield entered
        else:
            if not stack:
                return
            waiting = stack.pop().entries


def read_file(
    path: str, limits: Limits, *, gone: str = "vanished while its folder was read"
) -> Iterator[Item]:
    """The item for one file, or the items within it, if it is an archive.

    gone: the reason to give when there is no such file.
    """
    origin = printable(path)
    try:
        content = _find(path)
        if isinstance(content, str):
            yield Skipped(origin, content)
            return
        head = content.read(0, HEAD_BYTES) if content.size else b""
    except FileNotFoundError:
        yield Refused(origin, f"{gone}; check the path and ingest it again", None)
        return
    except (OSError, ValueError) as error:
        yield Refused(origin, _unreadable(error), None)
        return
    yield from _by_verdict(path, origin, head, content, limits)


def _by_verdict(path: str, origin: str, head: bytes, content: FileContent, limits: Limits) -> Iterator[Item]:
    verdict = judge(path, head)
    match verdict.fate:
        case Fate.CANDIDATE:
            yield Candidate(origin, content)
        case Fate.ARCHIVE:
            yield from unpack(origin, os.path.basename(path), content, sniff(head), limits)
        case Fate.SKIP:
            yield Skipped(origin, verdict.reason)
        case Fate.REFUSE:
            yield Refused(origin, verdict.reason, content)


@dataclass(frozen=True, slots=True)
class _Entered:
    """A folder that is being read."""

    key: FolderKey
    entries: Iterator[tuple[str, bool]]  # path, and whether it is a folder


def _enter(path: str, seen: set[FolderKey], above: tuple[FolderKey, ...]) -> _Entered | Skipped | Refused:
    try:
        status = os.stat(path)
        key = (status.st_dev, status.st_ino)
        if key in above:
            return Skipped(printable(path), "symbolic link loop: it leads to a folder above itself")
        if key in seen:
            return Skipped(printable(path), "folder already read under another name")
        with os.scandir(path) as entries:
            names = sorted((entry.name, _is_folder(entry)) for entry in entries)
    except FileNotFoundError:
        return Refused(printable(path), "folder vanished while it was read; ingest it again", None)
    except OSError as error:
        return Refused(printable(path), _unreadable(error), None)
    seen.add(key)
    return _Entered(key, ((os.path.join(path, name), is_folder) for name, is_folder in names))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere: named when it is read as a file
        return False


def _find(path: str) -> FileContent | str:
    """The content of an ordinary file, unopened; or the reason why there is none to read."""
    status = os.lstat(path)
    real = path
    if stat.S_ISLNK(status.st_mode):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return "broken symbolic link"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "symbolic link loop"
            raise
        real = os.path.realpath(path)
    if not stat.S_ISREG(status.st_mode):
        return f"{_SPECIAL.get(stat.S_IFMT(status.st_mode), 'special file')}, not an ordinary file"
    return FileContent(Path(real), status.st_size)


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "not readable: permission denied; ask for the right to read it"
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a usable path"
    return f"not readable: {why[:1].lower()}{why[1:]}; check the disk and the path"
