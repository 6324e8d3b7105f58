"""What a peer's status says of an object that was sent to it (PS3.4 section B.2.3, PS3.7 Annex C)."""

from __future__ import annotations

_WARNINGS = {
    0x0001: "some optional attributes are not supported",
    0x0107: "some attributes were not recognised",
    0x0116: "a value is outside its range",
    0xB000: "elements were coerced",
    0xB006: "elements were discarded",
    0xB007: "the data set does not match its SOP class",
}
_FAILURES = {
    0x0105: "no such attribute",
    0x0106: "a value is invalid",
    0x0110: "processing failed",
    0x0111: "the peer holds such an instance already",
    0x0112: "no such instance",
    0x0115: "an argument is invalid",
    0x0117: "the SOP instance UID is invalid",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0120: "an attribute is missing",
    0x0121: "a value is missing",
    0x0122: "the SOP class is not supported",
    0x0124: "not authorized",
    0x0210: "the message was sent twice",
    0x0211: "the operation is not recognised",
    0x0212: "an argument has the wrong type",
    0x0213: "resources are limited",
    0xA700: "out of resources",
    0xA701: "out of resources: number of matches",
    0xA702: "out of resources: sub-operations",
    0xA801: "the move destination is unknown",
    0xA900: "the data set does not match its SOP class",
    0xC000: "the data set cannot be understood",
    0xFE00: "cancelled",
}


def is_success(status: int) -> bool:
    """The object is safe with the peer."""
    return status == 0x0000


def is_warning(status: int) -> bool:
    """The peer took it, and something about it is to be known (PS3.7 section C.3)."""
    return status in _WARNINGS or status & 0xF000 == 0xB000


def is_pending(status: int) -> bool:
    """More answers follow (PS3.7 section C.1.3)."""
    return status in (0xFF00, 0xFF01)


def meaning(status: int) -> str:
    """The status in words."""
    if is_success(status):
        return ""
    known = _WARNINGS.get(status) or _FAILURES.get(status)
    if known is None:
        known = next(
            (
                words
                for mask, value, words in (
                    (0xFF00, 0xA700, "out of resources"),
                    (0xFF00, 0xA900, "the data set does not match its SOP class"),
                    (0xF000, 0xB000, "a warning of the peer's own"),
                    (0xF000, 0xC000, "the data set cannot be understood"),
                )
                if status & mask == value
            ),
            "a status the standard does not know",
        )
    return f"0x{status:04X}: {known}"
