"""Responses of the normalized services (PS3.7 section 10), and what is checked before they succeed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dicomlake.dicom import standard
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import BrokenObject
from dicomlake.network.seams import Command, Message, Reply
from dicomlake.network.services import identifiers

AFFECTED_CLASS, REQUESTED_CLASS = 0x0002, 0x0003
COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO = 0x0100, 0x0110, 0x0120
STATUS, ERROR_COMMENT, ERROR_ID = 0x0900, 0x0902, 0x0903
AFFECTED_INSTANCE, REQUESTED_INSTANCE = 0x1000, 0x1001
EVENT_TYPE, ATTRIBUTES, ACTION_TYPE = 0x1002, 0x1005, 0x1008

N_EVENT_REPORT_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ = 0x0100, 0x0120, 0x0130, 0x0140
_RESPONSE = 0x8000

SUCCESS = 0x0000  # the statuses are those of PS3.7 annex C
INVALID_ATTRIBUTE_VALUE = 0x0106
ATTRIBUTE_LIST_ERROR = 0x0107
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT_VALUE = 0x0115
INVALID_INSTANCE = 0x0117
NO_SUCH_CLASS = 0x0118
CLASS_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
NO_SUCH_ACTION = 0x0123
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

_UID = re.compile(r"[0-9.]{1,64}")
_COMMENT = 64  # characters of an Error Comment (VR LO)


class Refusal(Exception):
    """A request that is answered with a failure; never leaves its service.

    comment: keywords and plain words, no values. error_id: for (0000,0903), where the service has such.
    """

    def __init__(self, status: int, comment: str, *, error_id: int | None = None) -> None:
        super().__init__(comment)
        self.status, self.comment, self.error_id = status, comment, error_id


def response(
    message: Message, status: int = SUCCESS, *, instance: str = "", attributes: Sequence[str] = ()
) -> Reply:
    """The response to a request, without a data set.

    instance: of the SOP Instance, where that is not what the request says. attributes: keywords of those
    that the status is about.
    """
    command: Command = {
        COMMAND_FIELD: command_field(message) | _RESPONSE,
        RESPONDED_TO: number(message, MESSAGE_ID) or 0,
        STATUS: status,
    }
    if sop_class := text(message, AFFECTED_CLASS) or text(message, REQUESTED_CLASS):
        command[AFFECTED_CLASS] = sop_class
    if instance := instance or instance_of(message):
        command[AFFECTED_INSTANCE] = instance
    if attributes:
        command[ATTRIBUTES] = b"".join(_tag(keyword) for keyword in attributes)
    return Reply(command)


def refused(message: Message, refusal: Refusal) -> Reply:
    """The response that says why not."""
    reply = response(message, refusal.status)
    comment = refusal.comment[:_COMMENT].encode("ascii", "replace")
    reply.command[ERROR_COMMENT] = comment + b" " * (len(comment) % 2)
    if refusal.error_id is not None:
        reply.command[ERROR_ID] = refusal.error_id
    return reply


def _tag(keyword: str) -> bytes:
    tag = standard.tag_of(keyword) or 0
    return (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")


def command_field(message: Message) -> int:
    """Which request it is."""
    return number(message, COMMAND_FIELD) or 0


def instance_of(message: Message) -> str:
    """The SOP Instance that the request is about."""
    return text(message, AFFECTED_INSTANCE) or text(message, REQUESTED_INSTANCE)


def number(message: Message, element: int) -> int | None:
    """An element of the command that is a number."""
    found = message.command.get(element)
    return found if isinstance(found, int) else None


def text(message: Message, element: int) -> str:
    """An element of the command that is a text; empty when there is none."""
    found = message.command.get(element)
    return found.strip("\0 ") if isinstance(found, str) else ""


def is_uid(uid: str) -> bool:
    """Whether it is made of what UIDs are made of (PS3.5 section 9.1); leading zeros pass."""
    return _UID.fullmatch(uid) is not None


def dataset_of(message: Message) -> Attributes:
    """The data set of a request, read without a warning: those of pydicom would tell values.

    Raises Refusal when it is absent or cannot be read.
    """
    if not message.dataset:
        raise Refusal(MISSING_ATTRIBUTE, "the request has no data set")
    try:
        return identifiers.read(message.dataset, message.transfer_syntax)
    except BrokenObject:
        raise Refusal(PROCESSING_FAILURE, "the data set cannot be read") from None


def items(found: Attributes, keyword: str) -> tuple[Attributes, ...]:
    """The items of a sequence. Raises Refusal when it cannot be read."""
    try:
        return found.items(keyword)
    except BrokenObject:
        raise Refusal(PROCESSING_FAILURE, f"{keyword} cannot be read") from None


def required(found: Attributes, keyword: str) -> str:
    """The value of an attribute of type 1. Raises Refusal when it is absent or empty."""
    if keyword not in found:
        raise Refusal(MISSING_ATTRIBUTE, f"{keyword} is missing")
    value = found.text(keyword)
    if not value:
        raise Refusal(MISSING_ATTRIBUTE_VALUE, f"{keyword} is empty")
    return value


def required_items(found: Attributes, keyword: str) -> tuple[Attributes, ...]:
    """The items of a sequence of type 1, one at least. Raises Refusal."""
    if keyword not in found:
        raise Refusal(MISSING_ATTRIBUTE, f"{keyword} is missing")
    held = items(found, keyword)
    if not held:
        raise Refusal(MISSING_ATTRIBUTE_VALUE, f"{keyword} is empty")
    return held


def required_uid(found: Attributes, keyword: str, status: int) -> str:
    """The value of a UID of type 1. Raises Refusal, with `status` where it is no UID."""
    uid = required(found, keyword)
    if not is_uid(uid):
        raise Refusal(status, f"{keyword} is no UID")
    return uid
