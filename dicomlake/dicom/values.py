"""Raw value fields to text and numbers, by VR (PS3.5 section 6.2); the raw bytes stay untouched.

Only what has a meaning outside the file is converted: bulk VRs (OB, OW, UN …) yield nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from struct import Struct

from dicomlake.dicom import times

TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})  # a backslash is text here (PS3.5 6.2)
BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
NUMERIC_TEXT_VRS = frozenset({"DS", "IS"})
_DECODED_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # where SpecificCharacterSet applies
_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
NUMBER_VRS = frozenset({*NUMERIC_TEXT_VRS, *_BINARY, "AS"})
TEMPORAL_VRS = frozenset({"DA", "TM", "DT"})
_STRUCTS = {
    (big, vr): Struct((">" if big else "<") + code) for big in (False, True) for vr, code in _BINARY.items()
}
_TAG_STRUCTS = {False: Struct("<HH"), True: Struct(">HH")}
_YEARS = {"D": 1 / 365.2425, "W": 7 / 365.2425, "M": 1 / 12, "Y": 1.0}
# Character sets that are one Python codec each; code extensions (ISO 2022) go to pydicom.
_CODECS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}


def resolve_vr(vr: str, signed: bool) -> str:
    """One VR for the dictionary's alternatives ("US or SS"), which PixelRepresentation decides."""
    if " or " not in vr:
        return vr
    if vr.startswith("US or SS"):
        return "SS" if signed else "US"
    return "OW" if vr.endswith("OW") else vr.split(" ", 1)[0]


@lru_cache(maxsize=64)
def _encodings(charset: tuple[str, ...]) -> tuple[str, ...]:
    import warnings

    from pydicom.charset import convert_encodings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown term falls back to the default repertoire
        return tuple(convert_encodings(list(charset)))


def decode(raw: bytes, charset: tuple[str, ...]) -> str:
    """Text of a value in its SpecificCharacterSet; bytes that do not fit become U+FFFD, never an error."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    codec = _CODECS.get(charset[0]) if len(charset) == 1 else None
    if codec == "ascii" or not charset:
        return raw.decode("utf-8") if _is_utf8(raw) else raw.decode("latin-1")  # undeclared, but readable
    if codec:
        return raw.decode(codec, "replace")
    import warnings

    from pydicom.charset import decode_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(decode_bytes(raw, list(_encodings(charset)), {0x0C, 0x0A, 0x0D, 0x09, 0x5C, 0x5E, 0x3D}))


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def texts(vr: str, raw: bytes, charset: tuple[str, ...] = (), big_endian: bool = False) -> tuple[str, ...]:
    """The values as text, padding removed; one entry a value, none for empty or bulk elements.

    Numbers held in binary are written in their shortest exact form, tags (AT) as `GGGGEEEE`.
    """
    if vr in TEXT_VRS:
        text = decode(raw, charset if vr in _DECODED_VRS else ("ISO_IR 100",))
        if vr in SINGLE_VALUED:
            text = text.rstrip(" \0")
            return (text,) if text else ()
        padding = " \0=" if vr == "PN" else " \0"  # an empty component group says nothing (PS3.5 6.2.1.1)
        values = tuple(value.lstrip(" \0").rstrip(padding) for value in text.split("\\"))
        return values if any(values) else ()
    if vr == "AT":
        unpack = _TAG_STRUCTS[big_endian]
        return tuple(f"{g:04X}{e:04X}" for g, e in unpack.iter_unpack(raw[: len(raw) // 4 * 4]))
    if vr in _BINARY:
        return tuple(str(value) for value in _binary(vr, raw, big_endian))
    return ()


def _binary(vr: str, raw: bytes, big_endian: bool) -> tuple[int | float, ...]:
    unpack = _STRUCTS[big_endian, vr]
    return tuple(value for (value,) in unpack.iter_unpack(raw[: len(raw) // unpack.size * unpack.size]))


def number(vr: str, text: str) -> float | None:
    """One value of `texts` as a finite number: DS, IS and binary numbers, AS in years; None otherwise."""
    if vr in NUMERIC_TEXT_VRS or vr in _BINARY:
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None
    if vr == "AS" and len(text) == 4 and text[:3].isdigit():
        per_year = _YEARS.get(text[3])
        return int(text[:3]) * per_year if per_year else None
    return None


def typed(vr: str, text: str) -> float | None:
    """One value of `texts` as the number it is ordered by: `number`, or a date or time; None for other text.

    DA in days since 1970-01-01, TM in seconds since midnight, DT in seconds since 1970-01-01T00:00 (in UTC
    where it states an offset). A value of less precision counts as its first moment: TM `10` as 10:00:00.
    """
    if vr == "DA":
        midnight = times.seconds(text, "00") if text.strip(" \0") else None
        return None if midnight is None else midnight / 86_400
    if vr == "TM":
        return times.seconds(None, text)
    if vr == "DT":
        return _of_datetime(text)
    return number(vr, text)


def _of_datetime(text: str) -> float | None:
    """A DT of any precision (PS3.5 table 6.2-1: trailing components may be left out)."""
    stated = text.rstrip(" \0")
    at = next((i for i, sign in enumerate(stated) if sign in "+-"), len(stated))
    start, offset = stated[:at], stated[at:]
    if len(start) in (4, 6) and start.isdecimal():
        start += "0101"[len(start) - 4 :]
    return times.seconds_of_datetime((start + "00" if len(start) == 8 else start) + offset)


def numbers(vr: str, raw: bytes, big_endian: bool = False) -> tuple[float, ...]:
    """All values as numbers; empty when any of them is not one, so that a vector is whole or absent."""
    if vr in _BINARY:
        return tuple(float(value) for value in _binary(vr, raw, big_endian))
    found = [number(vr, text) for text in texts(vr, raw)]
    return tuple(value for value in found if value is not None) if None not in found else ()
