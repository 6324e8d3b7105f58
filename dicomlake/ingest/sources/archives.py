"""Members of zip and tar archives and of gzip, bzip2 and xz files, taken as bytes and no more.

Archives come from outside, and some are made to harm. Hence:

- Names are printed, never used as a path; links and devices are named and left alone.
- A member is judged by its first 4096 bytes before any more of it is unpacked.
- Every byte that is unpacked counts against one budget for the archive that was given, however
  deep the nesting; and no library is trusted to bound what it unpacks at once.
- A member that breaks is refused and the next one is read; an archive that breaks is refused
  after what was read of it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import BinaryIO, Final

from dicomlake.dicom.files import HEAD_BYTES, Kind, sniff
from dicomlake.ingest.sources.content import CHUNK, Content
from dicomlake.ingest.sources.items import Candidate, Item, Limits, Refused, Skipped, printable
from dicomlake.ingest.sources.streams import (
    Budget,
    CappedReads,
    ExpandsTooMuch,
    HeaderTooLarge,
    ObjectTooLarge,
    Stream,
    Unpacked,
    gather,
)
from dicomlake.ingest.sources.verdict import Fate, judge

_ENCRYPTED: Final = 0x1  # bit 0 of the general purpose flag, APPNOTE.TXT 4.4.4
# zipfile unpacks the other methods without bound: 4 kB of bzip2 can become 4 GB of memory.
_BOUNDED_METHODS: Final = frozenset((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
_MAX_ZIP_DIRECTORY: Final = 64 << 20  # some 600,000 members
_LOCAL_HEADER_BYTES: Final = 30  # without name and extra field, APPNOTE.TXT 4.3.7

_PACKING: Final = {Kind.GZIP: "gzip-compressed", Kind.BZIP2: "bzip2-compressed", Kind.XZ: "xz-compressed"}

# What the standard library raises on hostile or damaged archives, RecursionError and MemoryError
# for header chains and sizes that nobody checked.
BROKEN: Final = (
    HeaderTooLarge,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive that is being read."""

    origin: str
    name: str  # its own, without folders; may hold anything
    content: Content
    kind: Kind
    depth: int  # 1: given by the user, 2: a member of that one
    budget: Budget
    limits: Limits

    def inside(self, name: str) -> str:
        """The origin of a member."""
        return f"{self.origin}!/{printable(name)}"

    def nested(self, origin: str, name: str, content: Content, kind: Kind) -> _Archive:
        """A member that is an archive itself."""
        return replace(self, origin=origin, name=name, content=content, kind=kind, depth=self.depth + 1)

    def refused(self, reason: str) -> Refused:
        kept = self.content.size <= self.limits.max_object
        return Refused(self.origin, reason, self.content if kept else None)


def unpack(origin: str, name: str, content: Content, kind: Kind, limits: Limits) -> Iterator[Item]:
    """The items within an archive that the user gave, or that lay in a folder.

    At least one item, also for an archive without members. Raises nothing on hostile bytes.
    """
    budget = Budget(max(limits.max_expansion, limits.max_ratio * content.size))
    archive = _Archive(origin, name, content, kind, 1, budget, limits)
    try:
        yield from _items(archive)
    except ExpandsTooMuch:
        yield archive.refused(
            f"expands to more than {budget.size >> 20} MiB, the rest was not read; "
            "if you trust it, unpack it first and ingest the folder"
        )


def _items(archive: _Archive) -> Iterator[Item]:
    if archive.depth > archive.limits.max_depth:
        yield archive.refused(f"archives nested more than {archive.limits.max_depth} deep; unpack it first")
        return
    read = {Kind.ZIP: _zip, Kind.TAR: _tar}.get(archive.kind, _compressed)
    is_empty = True
    try:
        for item in read(archive):
            is_empty = False
            yield item
    except BROKEN as error:
        yield archive.refused(_why(error))
        return
    if is_empty:
        yield Skipped(archive.origin, "archive without files")


def _member(
    archive: _Archive, origin: str, name: str, stream: Stream, *, claims: int = 0, packing: str = ""
) -> Iterator[Item]:
    """The item for one member, or those within it; `stream` stands at its first byte.

    claims: its size in bytes by the archive's own account, if there is one: enough to refuse it.
    """
    head = stream.read(HEAD_BYTES)
    verdict = judge(name, head, packing=packing)
    if verdict.fate is Fate.SKIP:
        yield Skipped(origin, verdict.reason)
        return
    if verdict.fate is Fate.REFUSE:  # worth keeping only where it is small enough to be an accident
        small = claims <= archive.limits.in_memory
        yield Refused(origin, verdict.reason, _small(head, stream, archive.limits) if small else None)
        return
    try:
        if claims > archive.limits.max_object:
            raise ObjectTooLarge
        content = gather(head, stream, archive.limits)
    except ObjectTooLarge:
        size = archive.limits.max_object >> 20
        yield Refused(origin, f"larger than {size} MiB; unpack it first", None)
        return
    if verdict.fate is Fate.CANDIDATE:
        yield Candidate(origin, content)
    else:
        yield from _items(archive.nested(origin, os.path.basename(name), content, sniff(head)))


def _small(head: bytes, stream: Stream, limits: Limits) -> Content | None:
    try:
        return gather(head, stream, replace(limits, max_object=limits.in_memory))
    except ObjectTooLarge:
        return None


def _why(error: Exception) -> str:
    """The reason for people. Not the text of the error: it may hold names, and blame the wrong thing."""
    if isinstance(error, HeaderTooLarge):
        return "its directory is too large to be held in memory; unpack it first"
    if isinstance(error, MemoryError):
        return "unpacking it takes more memory than there is; unpack it first"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be unpacked: {os.strerror(error.errno).lower()}; unpack it first"
    return "damaged or cut short; copy it again from its source"


# --- zip -----------------------------------------------------------------------------------


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """A zip archive with its directory read, unless that is too large; raises any of `BROKEN`."""
    return zipfile.ZipFile(CappedReads(file, _MAX_ZIP_DIRECTORY))


def _zip(archive: _Archive) -> Iterator[Item]:
    with archive.content.open() as file, open_zip(file) as members:
        infos = members.infolist()
        overlapping = _overlapping(infos, members.start_dir)
        for position, info in enumerate(infos):
            if info.is_dir() and not info.file_size:
                continue
            origin = archive.inside(info.filename)
            if stat.S_ISLNK(info.external_attr >> 16):  # as Info-ZIP writes it on Unix
                yield Skipped(origin, "symbolic link in an archive, not followed")
            elif reason := _zip_refusal(info, overlaps=position in overlapping):
                yield Refused(origin, reason, None)
            else:
                yield from _zip_member(archive, origin, members, info)


def _zip_member(
    archive: _Archive, origin: str, members: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Iterator[Item]:
    try:
        with members.open(info) as stream:
            yield from _member(
                archive, origin, info.filename, Unpacked(stream, archive.budget), claims=info.file_size
            )
    except BROKEN as error:
        yield Refused(origin, _why(error), None)


def _zip_refusal(info: zipfile.ZipInfo, *, overlaps: bool) -> str | None:
    """Why a member is not to be opened, as far as the directory of the archive can tell."""
    if info.flag_bits & _ENCRYPTED:
        return "encrypted; unpack it first with its password"
    if overlaps:
        return "its bytes overlap those of another member, as in a zip bomb; ask for another copy"
    if info.compress_type not in _BOUNDED_METHODS:
        return f"ZIP compression method {info.compress_type} is not read; unpack it first"
    return None


def _overlapping(infos: list[zipfile.ZipInfo], directory: int) -> frozenset[int]:
    """Positions in the list of those members whose bytes reach into the next one, or the directory."""
    order = sorted(range(len(infos)), key=lambda position: infos[position].header_offset)
    starts = [infos[position].header_offset for position in order] + [directory]
    return frozenset(
        position
        for position, (start, following) in zip(order, pairwise(starts), strict=True)
        if start + _LOCAL_HEADER_BYTES + infos[position].compress_size > following
    )


# --- tar -----------------------------------------------------------------------------------

_MAX_TAR_HEADER: Final = 64 << 10
"""Bytes of headers before one member: a path has 4 kB at most, the rest is for extended attributes."""

_END_MARK: Final = bytes(tarfile.BLOCKSIZE)
_UNTAKEN: Final = {
    tarfile.SYMTYPE: "symbolic link in an archive, not followed",
    tarfile.LNKTYPE: "hard link in an archive; the member it names is read under its own name",
    tarfile.CHRTYPE: "character device in an archive",
    tarfile.BLKTYPE: "block device in an archive",
    tarfile.FIFOTYPE: "FIFO in an archive",
}


def _tar(archive: _Archive) -> Iterator[Item]:
    """Members in order, in one pass: works for plain and for compressed tar archives."""
    with _decompressed(archive) as stream:
        stream.allow(_MAX_TAR_HEADER)
        members = tarfile.TarFile(fileobj=stream, mode="r")
        while (info := members.next()) is not None:
            stream.allow(None)
            # else it keeps every header: 1 GB for a million members
            members.members.clear()  # type: ignore[attr-defined]  # typeshed leaves it out
            if not info.isdir():
                yield from _tar_member(archive, members, info)
            stream.allow(_MAX_TAR_HEADER)
        stream.allow(None)
        if stream.last_read != _END_MARK:  # tarfile takes a damaged or missing header for a quiet end
            raise tarfile.ReadError("no mark at the end")
        if any(chunk.strip(b"\0") for chunk in iter(lambda: stream.read(CHUNK), b"")):
            yield archive.refused("bytes follow the mark at its end and were not read; unpack it first")


def _tar_member(archive: _Archive, members: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[Item]:
    origin = archive.inside(info.name)
    if info.type in _UNTAKEN:
        yield Skipped(origin, _UNTAKEN[info.type])
    elif info.issparse():  # a few bytes can claim any length, unpacked by no decompressor
        yield Refused(origin, "sparse file in a tar archive; unpack it first", None)
    elif (stream := members.extractfile(info)) is not None:
        with stream:
            yield from _member(archive, origin, info.name, stream, claims=info.size)


# --- gzip, bzip2, xz -----------------------------------------------------------------------


def _compressed(archive: _Archive) -> Iterator[Item]:
    """What one compressed stream holds: a tar archive, or one file under the same origin."""
    with _decompressed(archive) as stream:
        is_tar = sniff(stream.read(HEAD_BYTES)) is Kind.TAR
    if is_tar:
        yield from _tar(archive)
        return
    with _decompressed(archive) as stream:
        name = os.path.splitext(archive.name)[0]
        yield from _member(archive, archive.origin, name, stream, packing=_PACKING[archive.kind])


@contextmanager
def _decompressed(archive: _Archive) -> Iterator[Unpacked]:
    """The bytes of an archive, decompressed as they are read, and counted."""
    with archive.content.open() as file:
        if archive.kind is Kind.TAR:
            yield Unpacked(file, archive.budget, skip=file.seek)
            return
        with _decompressor(file, archive.kind) as stream:
            yield Unpacked(stream, archive.budget)


def _decompressor(file: BinaryIO, kind: Kind) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if kind is Kind.GZIP:
        return gzip.GzipFile(fileobj=file)
    return bz2.BZ2File(file) if kind is Kind.BZIP2 else lzma.LZMAFile(file)
