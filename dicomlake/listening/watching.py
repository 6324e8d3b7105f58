"""A folder that is watched: what comes to rest in it is taken into the lake.

The folder is read again and again, as that also works on network file systems. A file is taken once its
size, time, name and identity have not changed for a while on this computer's own clock. Nothing here knows a
lake: it is handed what takes files and, where files are to be deleted, what proves that they are safe.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal, NamedTuple, Self

from dicomlake.catalog import reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.dicom.headers import read_header
from dicomlake.errors import DicomlakeError
from dicomlake.ingest.intact import is_intact
from dicomlake.ingest.report import ALREADY, CONFLICT, STORED, Entry, Report
from dicomlake.ingest.sources.items import printable
from dicomlake.storage.objectstore import Storage

log = logging.getLogger("dicomlake.listening")

After = Literal["keep", "delete", "move"]
Take = Callable[[list[Path]], Report]

_TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")
_TAKEN = frozenset((STORED, ALREADY, CONFLICT))
_LONGEST_PAUSE_S = 60.0
_READ_BYTES = 1 << 20
_SOP_INSTANCE = 0x00080018
_BATCH = 500  # files that are taken at once


class Kept(NamedTuple):
    """A file, or a folder, that was left where it is, and why."""

    path: Path
    reason: str


class _Signature(NamedTuple):
    """What changes when a file is written to, replaced or made readable."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int


@dataclass(slots=True)
class _Seen:
    signature: _Signature
    since: float
    done: bool = False
    reason: str = ""


class WatchFolder:
    """Takes in what comes to rest in a folder, until it is stopped; a context that begins and ends it.

    taken: files, since the start. problem: why nothing is taken at the moment; empty when all is well.
    """

    def __init__(
        self,
        folder: Path,
        take: Take,
        *,
        settle_s: float = 5.0,
        poll_s: float = 2.0,
        after: After = "keep",
        moved_to: Path | None = None,
        is_safe: Callable[[Path], bool] | None = None,
        on_report: Callable[[Report], Any] | None = None,
    ) -> None:
        """take: stores files and tells what became of each, by its path as the origin of the entry.

        settle_s: how long a file must be at rest. poll_s: between two looks.
        after: what becomes of files that are in the lake. "move" puts them in `moved_to`, which lies outside
        the folder, under the same names. "delete" needs `is_safe`, such as `Proof`, and deletes only what
        that says of.
        Raises DicomlakeError when these contradict each other, or there is no such folder.
        """
        self._folder = Path(os.path.realpath(folder))
        self._take, self._is_safe, self._on_report = take, is_safe, on_report
        self._settle_s, self._poll_s, self._after = settle_s, poll_s, after
        self._moved_to = Path(os.path.realpath(moved_to)) if moved_to is not None else None
        self._check()
        self._seen: dict[Path, _Seen] = {}
        self._passed: dict[Path, Kept] = {}
        self.problem = ""
        self.taken = 0
        self._failures = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def _check(self) -> None:
        if not self._folder.is_dir():
            raise DicomlakeError(f"{self._folder} is no folder: make it before it is watched")
        if self._after == "delete" and self._is_safe is None:
            raise DicomlakeError("after='delete' needs is_safe, which proves that the lake has a file")
        if (self._after == "move") != (self._moved_to is not None):
            raise DicomlakeError("after='move' and moved_to go together: give both or none")
        if self._moved_to is not None and self._moved_to.is_relative_to(self._folder):
            raise DicomlakeError("moved_to lies in the folder that is watched: choose one outside it")

    # ---- life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Watch, in a thread."""
        if self._thread is not None:
            return self
        self._thread = threading.Thread(target=self._run, name="dicomlake-watch", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Take nothing more; waits for the batch that is being taken."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause()):
            try:
                self.poll()
            except Exception as error:  # whatever it was, the next look may do better
                self._failed(type(error).__name__)

    def _pause(self) -> float:
        return min(_LONGEST_PAUSE_S, self._poll_s * 2.0 ** min(self._failures, 10))

    # ---- a look ---------------------------------------------------------------------------------------

    def poll(self) -> list[Report]:
        """Look once; take what is at rest. What was told of each batch of files."""
        self._look()
        reports = []
        for batch in self._batches():
            if self._stopping.is_set():
                break
            try:
                report = self._take(batch)
            except (DicomlakeError, OSError) as error:
                self._failed(str(error) if isinstance(error, DicomlakeError) else type(error).__name__)
                break
            self.problem, self._failures = "", 0
            self._finish(batch, report)
            reports.append(report)
            if self._on_report is not None:
                self._on_report(report)
        return reports

    def status(self) -> dict[str, int | str]:
        """How many files wait, were taken since the start, and are kept with a reason; and the problem."""
        waiting = sum(not seen.done for seen in list(self._seen.values()))
        return {"waiting": waiting, "taken": self.taken, "kept": len(self.kept), "problem": self.problem}

    def _failed(self, why: str) -> None:
        self.problem, self._failures = why, self._failures + 1
        log.warning("the watch folder waits: %s", why)

    def _look(self) -> None:
        """Note what is there, and forget what is not, or is another file by now."""
        now, before = monotonic(), self._seen
        seen: dict[Path, _Seen] = {}
        passed: dict[Path, Kept] = {}
        for path, found in _files(self._folder):
            if isinstance(found, str):
                passed[path] = Kept(path, found)
                continue
            known = before.get(path)
            same = known is not None and known.signature == found
            seen[path] = known if known is not None and same else _Seen(found, now)
        self._seen, self._passed = seen, passed

    @property
    def kept(self) -> dict[Path, Kept]:
        """What was not taken, or was taken and not deleted, by path; looked at again once it changes."""
        of_files = {path: Kept(path, seen.reason) for path, seen in self._seen.items() if seen.reason}
        return self._passed | of_files

    def _batches(self) -> Iterator[list[Path]]:
        """Files that are at rest and have something in them."""
        now = monotonic()
        paths = [
            path
            for path, seen in self._seen.items()
            if not seen.done and seen.signature.size and now - seen.since >= self._settle_s
        ]
        for start in range(0, len(paths), _BATCH):
            yield paths[start : start + _BATCH]

    # ---- afterwards -----------------------------------------------------------------------------------

    def _finish(self, paths: Sequence[Path], report: Report) -> None:
        told = _by_file(report.entries, paths)
        for path in paths:
            seen, entries = self._seen[path], told[path]
            if _signature(path) != seen.signature:
                continue  # written to while it was taken: once more when it is at rest
            seen.done = True
            bad = next((entry for entry in entries if entry.outcome not in _TAKEN), None)
            if bad is not None or not entries:
                seen.reason = f"{bad.outcome}: {bad.detail}" if bad else "nothing was told of it"
                continue
            self.taken += 1
            try:
                seen.reason = self._dispose(path, seen.signature)
            except (OSError, DicomlakeError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                seen.reason = f"in the lake, but not {self._after}d: {why}"

    def _dispose(self, path: Path, signature: _Signature) -> str:
        """Delete or move what is in the lake, as was asked for; why not, where not."""
        if self._moved_to is not None:
            _move(path, self._moved_to / path.relative_to(self._folder))
        elif self._after == "delete" and self._is_safe is not None:
            if not self._is_safe(path):
                return "in the lake, but that could not be proven: not deleted"
            if _signature(path) == signature:  # not written to since
                path.unlink()
        return ""


class Proof:
    """Whether a lake holds a file: its data set, read again from file and original, has one SHA-256."""

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self._catalog, self._storage = catalog, storage

    def __call__(self, path: Path) -> bool:
        """Raises DicomlakeError or OSError when the file or its original cannot be read."""
        with _ReadableFile(path) as file:
            header = read_header(file)
            raw = header.dataset.elements.get(_SOP_INSTANCE)
            uid = raw[1].strip(b"\0 ").decode("latin-1") if raw else ""
            whole, dataset = file.hashes(header.dataset_offset)
        with self._catalog.read() as view:
            held = reader.instances_with_uids(view, [uid]).get(uid, [])
        same = [one for one in held if one.sha256 == whole or one.dataset_sha256 == dataset]
        return any(is_intact(self._storage, one) for one in same)


class _ReadableFile:
    """A file that is read by range, opened once, so that what is hashed is what was read."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._file = os.fdopen(fd, "rb", buffering=0)
        self.size = os.fstat(fd).st_size

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from start up to stop."""
        stop = self.size if stop is None else stop
        return os.pread(self._file.fileno(), max(0, stop - start), start)

    def hashes(self, dataset: int) -> tuple[str, str]:
        """SHA-256 of the file, and from an offset on, in hexadecimal."""
        of_file, of_dataset = hashlib.sha256(self.read(0, dataset)), hashlib.sha256()
        at = dataset
        while piece := self.read(at, at + _READ_BYTES):
            of_file.update(piece)
            of_dataset.update(piece)
            at += len(piece)
        return of_file.hexdigest(), of_dataset.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is left alone for its name: hidden, temporary, or the index of a medium.

    The objects that a DICOMDIR names lie beside it and are taken themselves.
    """
    return name.startswith((".", "~")) or name.lower().endswith(_TEMPORARY) or name.upper() == "DICOMDIR"


def _files(top: Path) -> Iterator[tuple[Path, _Signature | str]]:
    """The files in a folder and those below, in the order of names; or why something is not looked at."""
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield folder, f"the folder cannot be read ({error.strerror})"
            continue
        entries = [entry for entry in entries if not is_passed_over(entry.name)]
        below = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        folders.extend(reversed(below))
        yield from _looked_at(entry for entry in entries if not entry.is_dir(follow_symlinks=False))


def _looked_at(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[Path, _Signature | str]]:
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink():
            yield path, "a symbolic link, which is not followed"
        elif not entry.is_file(follow_symlinks=False):
            yield path, "neither file nor folder"
        elif (signature := _signature(path)) is not None:
            yield path, signature


def _signature(path: Path) -> _Signature | None:
    """None for what is gone, or is no file any more."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return _Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)


def _by_file(entries: Sequence[Entry], paths: Sequence[Path]) -> dict[Path, list[Entry]]:
    """What was told of each file; of an archive, all that was told of its members."""
    by_origin: dict[str, list[Entry]] = {}
    for entry in entries:
        by_origin.setdefault(entry.origin, []).append(entry)
        if (archive := entry.origin.partition("!/")[0]) != entry.origin:
            by_origin.setdefault(archive, []).append(entry)
    return {path: by_origin.get(printable(str(path)), []) for path in paths}


# ---- moving -------------------------------------------------------------------------------------------


def _move(source: Path, target: Path) -> None:
    """Move a file, never over another; across file systems the copy is compared before the source goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target = _reserved(target)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            target.unlink()
            raise
        _copy_over(source, target)
        source.unlink()


def _reserved(target: Path) -> Path:
    """A name that was free, now of an empty file of ours."""
    number = 0
    while True:
        name = target if not number else target.with_name(f"{target.stem}~{number}{target.suffix}")
        try:
            with name.open("xb"):
                return name
        except FileExistsError:
            number += 1


def _copy_over(source: Path, target: Path) -> None:
    before = hashlib.sha256()
    try:
        with source.open("rb") as read, target.open("r+b") as write:
            while piece := read.read(_READ_BYTES):
                before.update(piece)
                write.write(piece)
            write.flush()
            os.fsync(write.fileno())
            write.seek(0)
            if hashlib.file_digest(write, "sha256").digest() != before.digest():
                raise DicomlakeError("the copy differs from the file")
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
