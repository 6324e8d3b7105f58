"""From what the user passes to a stream of items."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count as numbers
from typing import TypeAlias

from dicomlake.dicom.files import HEAD_BYTES, Kind, is_dicomdir, sniff
from dicomlake.ingest.sources.archives import BROKEN, open_zip, unpack
from dicomlake.ingest.sources.content import BytesContent, open_regular
from dicomlake.ingest.sources.dicomdir import read_dicomdir
from dicomlake.ingest.sources.folders import FolderKey, read_file, walk
from dicomlake.ingest.sources.items import DEFAULT_LIMITS, Candidate, Item, Limits, Refused, Skipped
from dicomlake.ingest.sources.verdict import Fate, judge

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Iterable[Source]"
"""A path, the bytes of one object or archive, or any number of these."""


def discover(*sources: Source, limits: Limits = DEFAULT_LIMITS) -> Iterator[Item]:
    """Every file met in the sources, lazily and in a stable order: exactly one item for each.

    An archive yields the items of its members instead, and one more if it breaks on the way. Nothing
    that is found raises; an object that is no source raises TypeError. Close the content of a
    candidate when it is no longer needed: a large archive member is a temporary file.
    """
    seen: set[FolderKey] = set()
    bytes_number = numbers()
    for source in _flat(sources):
        if isinstance(source, bytes):
            yield from _from_bytes(f"bytes[{next(bytes_number)}]", source, limits)
        else:
            yield from _from_path(source, seen, limits)


def count(*sources: Source) -> int | None:
    """About how many items `discover` will yield, for a progress bar; None when nobody can say cheaply.

    Counts the files in folders and the members of zip archives that are given themselves. Opens no
    file in a folder, and takes nothing from an iterator.
    """
    seen: set[FolderKey] = set()
    total = 0
    for source in sources:
        size = _count(source, seen)
        if size is None:
            return None
        total += size
    return total


def _flat(sources: Iterable[Source]) -> Iterator[str | bytes]:
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            yield os.fspath(source)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            yield bytes(source)
        elif isinstance(source, Iterable) and not hasattr(source, "read"):
            yield from _flat(source)
        else:  # a file object would be iterated line by line
            raise TypeError(
                f"cannot ingest {type(source).__name__}; pass a path, bytes, or an iterable of these"
            )


def _from_path(path: str, seen: set[FolderKey], limits: Limits) -> Iterator[Item]:
    if os.path.isdir(path):
        for met in walk(path, seen):
            if isinstance(met, str):
                yield from read_file(met, limits)
            else:
                yield met
    elif is_dicomdir(_head(path)):
        yield from read_dicomdir(path, limits)
    else:
        yield from read_file(path, limits, gone="no such file or folder")


def _from_bytes(origin: str, data: bytes, limits: Limits) -> Iterator[Item]:
    head, content = data[:HEAD_BYTES], BytesContent(data)
    verdict = judge("", head, claimed=True)
    match verdict.fate:
        case Fate.CANDIDATE:
            yield Candidate(origin, content)
        case Fate.ARCHIVE:
            yield from unpack(origin, "", content, sniff(head), limits)
        case Fate.SKIP:
            yield Skipped(origin, verdict.reason)
        case Fate.REFUSE:
            yield Refused(origin, verdict.reason, content)


def _count(source: Source, seen: set[FolderKey]) -> int | None:
    if isinstance(source, (str, os.PathLike)):
        return _count_path(os.fspath(source), seen)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return 1
    if isinstance(source, (list, tuple)):
        sizes = [_count(each, seen) for each in source]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None
    return None


def _count_path(path: str, seen: set[FolderKey]) -> int | None:
    if os.path.isdir(path):
        return sum(1 for _ in walk(path, seen))
    head = _head(path)
    match sniff(head):
        case Kind.ZIP:
            return _count_zip(path)
        case Kind.TAR | Kind.GZIP | Kind.BZIP2 | Kind.XZ:
            return None
        case _:
            return None if is_dicomdir(head) else 1


def _count_zip(path: str) -> int | None:
    try:
        with open_regular(path) as file, open_zip(file) as archive:
            return sum(not info.is_dir() for info in archive.infolist())
    except BROKEN:
        return None


def _head(path: str) -> bytes:
    """The first bytes of an ordinary file; none where it cannot be read, which `read_file` explains."""
    try:
        if not os.path.isfile(path):
            return b""
        with open_regular(path) as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""
