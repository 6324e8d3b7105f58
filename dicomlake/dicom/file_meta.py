"""The File Meta Information of an object that came over the network (PS3.10 section 7.1).

It is made of what names the object and nothing else: no AE title, no time, no version of the program. So
one data set gives one file, whoever sends it and whenever.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

IMPLEMENTATION_CLASS_UID = "2.25.50442413966141443619817964002811592689"
IMPLEMENTATION_VERSION_NAME = "DICOMLAKE"

_SHORT, _LONG = Struct("<HH2sH").pack, Struct("<HH2sHL").pack
_PREAMBLE = bytes(128) + b"DICM"


@lru_cache(maxsize=64)
def _ending(transfer_syntax: str) -> bytes:
    return (
        _text(0x0010, b"UI", transfer_syntax)
        + _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
        + _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)
    )


def head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """What precedes a data set in its file: preamble, prefix, File Meta Information."""
    group = (
        _LONG(2, 0x0001, b"OB", 0, 2)
        + b"\0\1"
        + _text(0x0002, b"UI", sop_class_uid)
        + _text(0x0003, b"UI", sop_instance_uid)
        + _ending(transfer_syntax)
    )
    return _PREAMBLE + _SHORT(2, 0, b"UL", 4) + len(group).to_bytes(4, "little") + group


def _text(element: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("latin-1", "replace")[:0xFFFE]
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return _SHORT(2, element, vr, len(encoded)) + encoded
