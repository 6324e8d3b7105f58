"""What is found in a source, and how much of it is taken in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from dicomlake.ingest.sources.content import Content


@dataclass(frozen=True, slots=True)
class Candidate:
    """Bytes that may be a DICOM object."""

    origin: str  # for people: the path as given, "a.zip!/dir/IM1", "bytes[3]"; always printable
    content: Content


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not DICOM, and nothing said that it was; never an error."""

    origin: str
    reason: str  # such as "PDF document, not DICOM"


@dataclass(frozen=True, slots=True)
class Refused:
    """Should have been readable, and is not."""

    origin: str
    reason: str  # ends with the remedy
    content: Content | None  # for quarantine; None when there are no bytes, or not whole


Item: TypeAlias = Candidate | Skipped | Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold. A plain file or folder has no limit: it cannot expand."""

    in_memory: int = 64 << 20
    """Members up to this many bytes stay in memory; larger ones go to a temporary file."""

    max_object: int = 8 << 30
    """Bytes of one member: twice what the 32 bit length of native Pixel Data can say."""

    max_depth: int = 3
    """Archives within archives, the outer one counted; a .tar.gz counts once."""

    max_expansion: int = 2 << 30
    """Bytes that one archive given may expand to, whatever its own size; nested ones included."""

    max_ratio: int = 200
    """Times its own size that a larger archive may expand to; DICOM seldom packs 10:1."""

    spool_folder: Path | None = None
    """Folder for temporary files; None: that of the operating system."""


DEFAULT_LIMITS: Final = Limits()


def printable(name: str) -> str:
    r"""A name that can be shown on one line: other characters and undecodable bytes as \n, \x80."""
    return name if name.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
