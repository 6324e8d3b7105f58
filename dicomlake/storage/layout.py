"""Where things lie in a lake: the only file that knows; pure functions from UIDs and hashes to keys.

lake.toml  catalog.sqlite  mirror/
studies/<study>/<series>/originals/<sop>.dcm     or <sop>~<sha8>.dcm, see `original_key`
studies/<study>/<series>/volumes/<n>.zarr        or <n>~<version>.zarr, see `volume_key`
quarantine/<sha256>.bin  .json
annotations/<number>-<kind>-<hash>.json          the journal of labels, clinical tables, frozen cohorts
.staging/                                        what is being written; nothing in it is stored yet
receivers/<token>.json  .lock                    what receivers that run tell other processes
pulls/                                           journals of pulls, which identify patients
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

LAKE_TOML = "lake.toml"
CATALOG = "catalog.sqlite"
MIRROR = "mirror"
STUDIES = "studies"
QUARANTINE = "quarantine"
ANNOTATIONS = "annotations"  # its keys: `catalog.journal`, which may not import this
STAGING = ".staging"
ARRIVING = f"{STAGING}/arriving/object"  # stands for the key of an object until its header was read

# PS3.5 section 9.1: components of digits between single dots, 64 characters at most. A component
# with a leading zero is not conformant, but common and harmless here. Asking for a digit on both
# sides of each dot also keeps out ".", ".." and a trailing dot, which SMB shares would drop.
_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CONFLICT = re.compile(r"[0-9a-f]{8,64}\Z")
_SEGMENT = r"[0-9][0-9.]{0,63}|x-[0-9a-f]{32}"
_ORIGINAL = re.compile(
    rf"{STUDIES}/(?P<study>{_SEGMENT})/(?P<series>{_SEGMENT})/originals/"
    rf"(?P<sop>{_SEGMENT})(?:~(?P<sha>[0-9a-f]{{8}}|[0-9a-f]{{64}}))?\.dcm\Z"
)

_VOLUME = re.compile(
    rf"(?P<store>{STUDIES}/(?P<study>{_SEGMENT})/(?P<series>{_SEGMENT})/volumes/"
    r"(?P<number>0|[1-9][0-9]{0,9})(?:~(?P<version>[2-9]|[1-9][0-9]{1,9}))?\.zarr)(?:/|\Z)"
)


class OriginalKey(NamedTuple):
    """The parts of an original's key, as path segments: equal to the UIDs where those are well-formed."""

    study: str
    series: str
    sop: str
    sha: str | None  # 8 or all 64 hex digits of the sha256; only for another object under one SOPInstanceUID


def segment(uid: str) -> str:
    """One safe path part for any UID; distinct UIDs give distinct parts.

    A well-formed UID (PS3.5 section 9.1) is its own part. Anything else, which may hold slashes, blanks
    or text, becomes "x-" and the first 32 hex digits of its sha256.
    """
    if _UID.match(uid):
        return uid
    # surrogatepass, because it alone encodes every str, and no two of them alike
    return "x-" + hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def series_prefix(study_uid: str, series_uid: str) -> str:
    """The folder of one series."""
    return f"{STUDIES}/{segment(study_uid)}/{segment(series_uid)}"


def original_key(
    study_uid: str, series_uid: str, sop_uid: str, *, conflict: str | None = None, whole: bool = False
) -> str:
    """The key of an original.

    conflict: the sha256 (hex, 8 digits or more) of a second, different object under a SOPInstanceUID
    that is already taken; its first 8 digits join the name. They do not prove identity: where even
    this key exists, compare the whole hash.
    whole: all 64 digits join the name, for two objects that share the first 8.
    """
    name = segment(sop_uid)
    if conflict is not None:
        name += "~" + (_checked(conflict, _SHA256) if whole else _checked(conflict, _CONFLICT)[:8])
    return f"{series_prefix(study_uid, series_uid)}/originals/{name}.dcm"


def parse_original_key(key: str) -> OriginalKey | None:
    """The parts that `original_key` joined, or None where the key is not an original's."""
    found = _ORIGINAL.match(key)
    return OriginalKey(**found.groupdict()) if found else None


class VolumeKey(NamedTuple):
    """The parts of the key of a volume's store; study and series are path segments."""

    study: str
    series: str
    number: int
    version: int


def volume_key(study_uid: str, series_uid: str, number: int, version: int = 1) -> str:
    """The folder of the Zarr store of one volume; number: its place in the series, from 0.

    version: from 1; each has a folder of its own, so that what is open stays what it was.
    """
    if number < 0:
        raise ValueError(f"a volume's number counts from 0, not {number}")
    if version < 1:
        raise ValueError(f"a volume's versions count from 1, not {version}")
    name = f"{number}" if version == 1 else f"{number}~{version}"
    return f"{volumes_prefix(study_uid, series_uid)}/{name}.zarr"


def volumes_prefix(study_uid: str, series_uid: str) -> str:
    """The folder of all volume stores of one series."""
    return f"{series_prefix(study_uid, series_uid)}/volumes"


def parse_volume_key(key: str) -> VolumeKey | None:
    """The parts that `volume_key` joined, or None where the key is not a volume store's."""
    found = _VOLUME.match(key)
    if not found or found["store"] != key:
        return None
    version = int(found["version"] or 1)
    return VolumeKey(found["study"], found["series"], int(found["number"]), version)


def store_of(key: str) -> str | None:
    """The volume store that a file lies in, or None where it lies in none."""
    found = _VOLUME.match(key)
    return found["store"] if found else None


def quarantine_key(sha256: str) -> str:
    """The key of a refused file, named by its content."""
    return f"{QUARANTINE}/{_checked(sha256, _SHA256)}.bin"


def quarantine_note_key(sha256: str) -> str:
    """The key of the note that says why a file was refused."""
    return f"{QUARANTINE}/{_checked(sha256, _SHA256)}.json"


def _checked(digest: str, pattern: re.Pattern[str]) -> str:
    if not pattern.match(digest):
        raise ValueError("a sha256 is written in lower-case hex digits")
    return digest
