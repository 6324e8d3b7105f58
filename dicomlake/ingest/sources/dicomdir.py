"""The files that a DICOMDIR names: PS3.3 annex F, PS3.10 section 8."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from dicomlake.ingest.sources.content import FileContent, open_regular
from dicomlake.ingest.sources.folders import read_file
from dicomlake.ingest.sources.items import Item, Limits, Refused, Skipped, printable
from dicomlake.ingest.sources.verdict import DICOMDIR_REASON

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DIRECTORY_RECORD_SEQUENCE: Final = 0x00041220
_RECORD_IN_USE_FLAG: Final = 0x00041410
_REFERENCED_FILE_ID: Final = 0x00041500
_INACTIVE: Final = b"\0\0"


@dataclass(frozen=True, slots=True)
class _Record:
    """What a directory record says of a file."""

    file_id: tuple[str, ...]  # Referenced File ID: folders, then the file; from outside, not yet safe
    in_use: bool  # a record may stay behind when its file is taken out of the file-set


def read_dicomdir(path: str, limits: Limits) -> Iterator[Item]:
    """The items for the DICOMDIR itself and for each file that it names, once each, in its order."""
    content = None
    try:
        content = FileContent.of(path)
        records = _records(path)
    except Exception as error:  # pydicom answers damaged bytes with exceptions of many classes
        reason = f"DICOMDIR that cannot be read ({type(error).__name__}); ingest its folder instead"
        yield Refused(printable(path), reason, content)
        return
    yield Skipped(printable(path), DICOMDIR_REASON)
    names_in = lru_cache(maxsize=64)(_names_in)  # a disc has few folders with many files each
    for record in records:
        yield from _items(path, record, names_in, limits)


def _items(
    dicomdir: str, record: _Record, names_in: Callable[[str], tuple[str, ...]], limits: Limits
) -> Iterator[Item]:
    folder = os.path.dirname(dicomdir)
    if not all(map(_is_plain_name, record.file_id)):
        origin = printable(f"{dicomdir}: {'/'.join(record.file_id)}")
        yield Refused(origin, "named by the DICOMDIR outside its folder; ingest the folder instead", None)
        return
    origin = printable(os.path.join(folder, *record.file_id))
    if not record.in_use:
        yield Skipped(origin, "its record in the DICOMDIR is no longer in use")
    elif (path := _resolve(folder, record.file_id, names_in)) is None:
        yield Refused(origin, "named by the DICOMDIR but missing; copy the whole disc again", None)
    else:
        yield from read_file(path, limits)


def _records(path: str) -> tuple[_Record, ...]:
    """The records with a Referenced File ID; several may share a file, which then counts once."""
    from pydicom import dcmread

    with open_regular(path) as file:
        dicomdir = dcmread(file, specific_tags=[_DIRECTORY_RECORD_SEQUENCE])
    records = (_record(item) for item in dicomdir[_DIRECTORY_RECORD_SEQUENCE].value)
    return tuple({record.file_id: record for record in records if record.file_id}.values())


def _record(item: Dataset) -> _Record:
    file_id = os.fsdecode(_raw(item, _REFERENCED_FILE_ID).strip(b" \0"))
    return _Record(
        file_id=tuple(part.strip(" ") for part in file_id.split("\\")) if file_id else (),
        in_use=_raw(item, _RECORD_IN_USE_FLAG) != _INACTIVE,
    )


def _raw(item: Dataset, tag: int) -> bytes:
    """The bytes of an element that pydicom has not converted: converting would warn of, and quote, values."""
    value = item.get_item(tag).value if tag in item else None
    return value if isinstance(value, bytes) else b""


def _resolve(folder: str, file_id: tuple[str, ...], names_in: Callable[[str], tuple[str, ...]]) -> str | None:
    """The path of a file as it is spelled on disc; None where it is missing, or two names would do.

    A File ID is in capitals (PS3.10 section 8.5); discs are often mounted and copied in small ones.
    """
    path = folder
    for part in file_id:
        names = names_in(path or os.curdir)
        alike = [part] if part in names else [name for name in names if name.lower() == part.lower()]
        if len(alike) != 1:
            return None
        path = os.path.join(path, alike[0])
    return path


def _names_in(folder: str) -> tuple[str, ...]:
    try:
        return tuple(os.listdir(folder))
    except OSError:  # no folder, or not readable: what is in it is reported as missing
        return ()


def _is_plain_name(part: str) -> bool:
    return part not in ("", os.curdir, os.pardir) and not set(part) & {"/", "\0"}
