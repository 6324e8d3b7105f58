"""The dictionary of PS3.6: VR and keyword of a tag, tag of a keyword, names of UIDs.

The tables load on first use; importing this package costs nothing.
"""

from __future__ import annotations

from functools import cache


@cache
def elements() -> dict[int, tuple[str, str]]:
    """Tag -> (VR, keyword) of every public data element; repeating groups are not in it."""
    from dicomlake.dicom.standard._elements import ELEMENTS

    return ELEMENTS


@cache
def _repeaters() -> tuple[tuple[int, int, tuple[str, str]], ...]:
    from dicomlake.dicom.standard._elements import REPEATERS

    return tuple(
        (int("".join("0" if c == "x" else "F" for c in mask), 16), int(mask.replace("x", "0"), 16), entry)
        for mask, entry in REPEATERS.items()
    )


@cache
def _tags() -> dict[str, int]:
    return {keyword: tag for tag, (_vr, keyword) in elements().items() if keyword}


def lookup(tag: int) -> tuple[str, str] | None:
    """VR and keyword of a public tag, repeating groups (50xx, 60xx) included; None when unknown."""
    entry = elements().get(tag)
    if entry is None and not tag & 0x00010000:
        for mask, value, repeated in _repeaters():
            if tag & mask == value:
                return repeated
    return entry


def vr_of(tag: int) -> str:
    """The VR of a tag in an implicit VR data set: UL for group lengths, LO for private creators, else UN."""
    entry = lookup(tag)
    if entry is not None:
        return entry[0]
    if tag & 0xFFFF == 0:
        return "UL"
    if tag & 0x00010000 and 0x10 <= tag & 0xFFFF <= 0xFF:
        return "LO"
    return "UN"


def private_vr(creator: str, tag: int) -> str | None:
    """The VR of a private element in the published dictionary of its creator, or None."""
    from dicomlake.dicom.standard._private import PRIVATE

    table = PRIVATE.get(creator)
    if table is None:
        return None
    digits = f"{tag:08x}"
    return table.get(f"{digits[:4]}xx{digits[6:]}")


def tag_of(keyword: str) -> int | None:
    """The tag of a keyword such as `SliceThickness`, or None."""
    return _tags().get(keyword)


@cache
def keywords() -> frozenset[str]:
    """All keywords, those of repeating groups (50xx, 60xx) included."""
    return frozenset(_tags()) | {entry[1] for _mask, _value, entry in _repeaters() if entry[1]}


def uid_name(uid: str) -> str:
    """The name of a SOP class or transfer syntax in PS3.6; the UID itself when unknown."""
    from dicomlake.dicom.standard._uids import UIDS

    entry = UIDS.get(uid)
    return entry[0] if entry else uid
