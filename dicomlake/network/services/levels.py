"""The Query/Retrieve information models: their SOP classes, levels and unique keys (PS3.4 annex C.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject
from dicomlake.network.seams import Message
from dicomlake.network.services import identifiers

Level = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
Kind = Literal["find", "move", "get"]

LEVELS: tuple[Level, ...] = get_args(Level)
UNIQUE_KEYS: Mapping[Level, str] = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_ROOT = "1.2.840.10008.5.1.4.1.2."
_MODELS: Mapping[str, tuple[Level, ...]] = {
    "1": LEVELS,  # Patient Root
    "2": LEVELS[1:],  # Study Root
    "3": LEVELS[:2],  # Patient/Study Only, retired
}
_KINDS: Mapping[str, Kind] = {"1": "find", "2": "move", "3": "get"}

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITHOUT_SOME = 0xFF01
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
WRONG_IDENTIFIER = 0xA900
UNABLE = 0xC000

MESSAGE_ID = 0x0110
_COMMAND, _CLASS, _ANSWERED, _STATUS, _COMMENT = 0x0100, 0x0002, 0x0120, 0x0900, 0x0902
_RESPONSE = 0x8000
_LONGEST_COMMENT = 64  # LO
_QUERY_RETRIEVE_LEVEL = 0x00080052


class Refusal(Exception):
    """A request that ends with a failure. comment: why, free of values."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment


def sop_classes(kind: Kind) -> frozenset[str]:
    """The SOP classes of one service in all three models."""
    return frozenset(f"{_ROOT}{model}.{n}" for model in _MODELS for n, k in _KINDS.items() if k == kind)


def levels_of(sop_class: str) -> tuple[Level, ...]:
    """The levels of the model that a SOP class belongs to, the highest first."""
    return _MODELS.get(sop_class.removeprefix(_ROOT).partition(".")[0], ())


def read_identifier(message: Message) -> tuple[Level, Attributes]:
    """The level that is asked at, and the keys. Raises Refusal."""
    try:
        keys = identifiers.read(message.dataset, message.transfer_syntax)
    except BrokenObject as error:
        raise Refusal(UNABLE, "the identifier cannot be read") from error
    asked = (keys.text(_QUERY_RETRIEVE_LEVEL) or "").strip().upper()
    for level in levels_of(str(message.command.get(_CLASS, message.abstract_syntax)).strip("\0 ")):
        if level == asked:
            return level, keys
    raise Refusal(WRONG_IDENTIFIER, "QueryRetrieveLevel is missing, or none of the SOP class")


def level_of(keyword: str) -> Level | None:
    """The level whose unique key an element is."""
    return next((level for level, key in UNIQUE_KEYS.items() if key == keyword), None)


def is_below(keyword: str, level: Level) -> bool:
    """Whether an element is the unique key of a lower level, and so names none of this level's entities."""
    of = level_of(keyword)
    return of is not None and LEVELS.index(of) > LEVELS.index(level)


def unique_keys(keys: Attributes, level: Level) -> dict[str, tuple[str, ...]]:
    """The unique keys from the top down to a level, those that are given, with their values."""
    names = [UNIQUE_KEYS[one] for one in LEVELS[: LEVELS.index(level) + 1]]
    found = {name: tuple(text for text in keys.texts(name) if text) for name in names}
    return {name: texts for name, texts in found.items() if texts}


def response(message: Message, status: int, comment: str = "") -> dict[int, bytes | str | int]:
    """The command set of a response (PS3.7 sections 9.3.2.2, 9.3.3.2 and 9.3.4.2)."""
    request = message.command
    found: dict[int, bytes | str | int] = {
        _CLASS: request.get(_CLASS, message.abstract_syntax),
        _COMMAND: int(request[_COMMAND]) | _RESPONSE,
        _ANSWERED: request[MESSAGE_ID],
        _STATUS: status,
    }
    if comment:
        told = comment[:_LONGEST_COMMENT].encode("ascii", "replace")
        found[_COMMENT] = told + b" " * (len(told) % 2)
    return found


def keyword_of(tag: int) -> str:
    """The keyword of a public element; empty for others."""
    entry = standard.lookup(tag) if not tag & 0x00010000 else None
    return entry[1] if entry else ""
