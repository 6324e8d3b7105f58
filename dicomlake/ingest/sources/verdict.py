"""Decide what becomes of a file from its name and first bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import PurePosixPath
from typing import Final

from dicomlake.dicom.files import Kind, describe, is_dicomdir, sniff

ARCHIVE_KINDS: Final = frozenset((Kind.ZIP, Kind.TAR, Kind.GZIP, Kind.BZIP2, Kind.XZ))
DICOMDIR_REASON: Final = "DICOMDIR: the files it names are read instead"

_DICOM_SUFFIXES: Final = frozenset((".dcm", ".dicom", ".ima"))
_CLOSED_ARCHIVES: Final = frozenset(
    ("7-Zip archive", "RAR archive", "Zstandard archive", "LZ4 archive", "Cabinet archive")
)
_JUNK: Final = {
    ".ds_store": "macOS folder settings",
    "thumbs.db": "Windows thumbnails",
    "desktop.ini": "Windows folder settings",
    "dirfile": "vendor's directory of a disc",
}
_MACOS_FOLDER: Final = "__MACOSX"


class Fate(Enum):
    """What becomes of a file."""

    CANDIDATE = auto()
    ARCHIVE = auto()  # to be looked into
    SKIP = auto()
    REFUSE = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of a file and, where it is not taken, the reason."""

    fate: Fate
    reason: str = ""


def judge(name: str, head: bytes, *, claimed: bool = False, packing: str = "") -> Verdict:
    """What becomes of a file with this name (its last parts, "/" between) and these first bytes.

    The bytes decide; the name matters only for what is not DICOM. There, `claimed`, or one of the
    suffixes .dcm, .dicom, .ima, says that DICOM was expected, which makes it an error.
    packing: what the bytes were unpacked from, for the reason, such as "gzip-compressed".
    """
    kind = sniff(head)
    if kind in (Kind.PART10, Kind.BARE):
        return Verdict(Fate.SKIP, DICOMDIR_REASON) if is_dicomdir(head) else Verdict(Fate.CANDIDATE)
    if kind in ARCHIVE_KINDS:
        return Verdict(Fate.ARCHIVE)
    if junk := _junk(name):
        return Verdict(Fate.SKIP, f"{junk}, not DICOM")
    what = ", ".join(filter(None, (describe(head), packing)))
    if what in _CLOSED_ARCHIVES:
        return Verdict(Fate.REFUSE, f"{what}, which cannot be looked into; unpack it first")
    if what == "macOS resource fork":  # "._IM1.dcm": bears the name, holds none of the bytes
        return Verdict(Fate.SKIP, f"{what}, not DICOM")
    if claimed or PurePosixPath(name).suffix.lower() in _DICOM_SUFFIXES:
        return Verdict(
            Fate.REFUSE, f"{what}, where a DICOM object was expected; copy it again from its source"
        )
    return Verdict(Fate.SKIP, what if kind is Kind.EMPTY else f"{what}, not DICOM")


def _junk(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if _MACOS_FOLDER in parts:
        return "macOS metadata"
    return _JUNK.get(parts[-1].lower()) if parts else None
