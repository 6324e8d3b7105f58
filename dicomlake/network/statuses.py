"""The DIMSE statuses that this receiver answers, each with its meaning and clause; also what the docs list.

For C-STORE see PS3.4 table B.2-1 and PS3.7 section 9.1.1.1.9; for the others PS3.7 annex C and the services.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dicomlake.network.seams import Outcome

Kind = Literal["success", "pending", "cancel", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Status:
    """A status code, its name in the standard, what it says here, and where it is defined."""

    code: int
    name: str
    meaning: str
    clause: str

    @property
    def kind(self) -> Kind:
        """Which class of PS3.7 annex C the code belongs to."""
        return kind(self.code)


SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
INVALID_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_WARNING = 0xFF01

TABLE: tuple[Status, ...] = (
    Status(SUCCESS, "Success", "done; an object is durable and in the catalog", "PS3.7 C.1"),
    Status(
        PROCESSING_FAILURE,
        "Processing failure",
        "the request could not be done for a reason of this side; an object was not kept",
        "PS3.7 C.5",
    ),
    Status(
        INVALID_INSTANCE,
        "Invalid SOP Instance",
        "the SOP Instance UID of the request is not made of digits and dots, or is longer than 64",
        "PS3.7 9.1.1.1.9",
    ),
    Status(
        MISSING_ATTRIBUTE,
        "Missing Attribute",
        "the request lacks an element that it must have",
        "PS3.7 C.5",
    ),
    Status(
        CLASS_NOT_SUPPORTED,
        "Refused: SOP Class not supported",
        "the SOP Class of the request is not that of its presentation context, or that was not accepted",
        "PS3.7 9.1.1.1.9",
    ),
    Status(
        NOT_AUTHORIZED,
        "Refused: not authorized",
        "the peer is not allowed this operation",
        "PS3.7 9.1.1.1.9",
    ),
    Status(
        UNRECOGNIZED_OPERATION,
        "Unrecognized operation",
        "the SOP Class has no such operation here",
        "PS3.7 9.1.1.1.9",
    ),
    Status(
        RESOURCE_LIMITATION,
        "Resource limitation",
        "the request is larger than this receiver reads",
        "PS3.7 C.5",
    ),
    Status(
        OUT_OF_RESOURCES,
        "Refused: out of resources",
        "no space left, or the quota of the peer is used up; not kept, sending it again later may do",
        "PS3.4 B.2.3",
    ),
    Status(
        MISMATCH,
        "Error: data set does not match SOP Class",
        "SOP Class or Instance UID of the data set and of the request differ; the object is in quarantine",
        "PS3.4 B.2.3",
    ),
    Status(
        CANNOT_UNDERSTAND,
        "Error: cannot understand",
        "the data set cannot be read; its bytes are in quarantine",
        "PS3.4 B.2.3",
    ),
    Status(
        CANCELLED,
        "Cancel",
        "ended by the peer's C-CANCEL-RQ",
        "PS3.4 C.4.1.1.4",
    ),
    Status(PENDING, "Pending", "more responses follow", "PS3.4 C.4.1.1.4"),
    Status(PENDING_WARNING, "Pending", "more follow; optional keys were not matched", "PS3.4 C.4.1.1.4"),
)
"""Every status that the receiver itself answers; services may add theirs."""

MEANING: Mapping[int, Status] = {status.code: status for status in TABLE}

STORE: Mapping[Outcome, int] = {
    "stored": SUCCESS,
    "already": SUCCESS,
    "conflict": SUCCESS,  # the object is safe, so the sender may delete its copy
    "unreadable": CANNOT_UNDERSTAND,
    "mismatch": MISMATCH,
    "full": OUT_OF_RESOURCES,
    "over_quota": OUT_OF_RESOURCES,
    "failed": PROCESSING_FAILURE,
    "refused": NOT_AUTHORIZED,
}
"""The status that answers what became of an object."""


def store_status(outcome: Outcome, *, conflict: int = SUCCESS) -> int:
    """The status of a C-STORE-RSP; conflict: for an object kept beside another of its UID."""
    return conflict if outcome == "conflict" else STORE[outcome]


def kind(code: int) -> Kind:
    """Which class of PS3.7 annex C a status belongs to; services define the codes, the classes are fixed."""
    if code == SUCCESS:
        return "success"
    if code in (PENDING, PENDING_WARNING):
        return "pending"
    if code == CANCELLED:
        return "cancel"
    if code in (0x0001, 0x0107, 0x0116) or code >> 12 == 0xB:
        return "warning"
    return "failure"
