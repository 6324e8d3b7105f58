"""The PDUs of PS3.8 section 9.3 other than P-DATA: association requests read, answers written; no socket.

Read strictly: lengths are held against each other, and whatever does not fit raises `Violation`. Items that
are not known are skipped, as section 9.3.1 demands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dicomlake.dicom.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomlake.network.upper.failures import UNEXPECTED_PARAMETER, Violation

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLICIT_VR = "1.2.840.10008.1.2"

HEAD = struct.Struct(">BxL")
"""Type and length of a PDU."""

_ITEM = struct.Struct(">BxH")
_FIXED = struct.Struct(">H2x16s16s32x")
_SHORT = struct.Struct(">H")
_LONG = struct.Struct(">L")

_APPLICATION, _PROPOSED, _RESULT, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_MAXIMUM, _CLASS_UID, _ROLE, _VERSION = 0x51, 0x52, 0x54, 0x55


@dataclass(frozen=True, slots=True)
class Proposed:
    """A presentation context as proposed: an odd number, and transfer syntaxes in the order of the peer."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """Which roles a peer proposes to take for an abstract syntax, or is granted (PS3.7 annex D.3.3.4)."""

    abstract_syntax: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer to a proposed context: 0 accepted, or the reason of PS3.8 table 9-18."""

    number: int
    result: int
    transfer_syntax: str = IMPLICIT_VR


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 section 9.3.2).

    called, calling: AE titles without padding. maximum: bytes of a P-DATA-TF that the peer takes, 0 for any.
    fixed: the 66 bytes after the protocol version, which the answer repeats.
    """

    version: int
    called: str
    calling: str
    application_context: str
    contexts: tuple[Proposed, ...]
    roles: tuple[Role, ...] = ()
    maximum: int = 0
    implementation: str = ""
    fixed: bytes = field(default=bytes(66), repr=False)


def read_request(body: bytes | memoryview, *, contexts: int = 128) -> AssociateRequest:
    """The association request in a PDU without its head; at most `contexts` presentation contexts.

    Extended negotiations, asynchronous operations and user identities are passed over: none is agreed to.
    Raises Violation for what PS3.8 section 9.3.2 does not allow.
    """
    data = bytes(body)
    if len(data) < _FIXED.size:
        raise Violation("an association request is shorter than its fixed part")
    version, called, calling = _FIXED.unpack_from(data)
    applications: list[str] = []
    proposed: dict[int, Proposed] = {}
    user: list[bytes] = []
    for kind, value in _items(data[_FIXED.size :]):
        if kind == _APPLICATION:
            applications.append(uid(value))
        elif kind == _PROPOSED:
            context = _proposed(value)
            if context.number in proposed or len(proposed) == contexts:
                raise Violation("presentation contexts are too many, or share a number")
            proposed[context.number] = context
        elif kind == _USER:
            user.append(value)
    if len(applications) != 1 or len(user) != 1:
        raise Violation("an association request has no application context or user information, or several")
    maximum, implementation, roles = _user(user[0])
    return AssociateRequest(
        version=version,
        called=title(called),
        calling=title(calling),
        application_context=applications[0],
        contexts=tuple(proposed.values()),
        roles=roles,
        maximum=maximum,
        implementation=implementation,
        fixed=data[2 : _FIXED.size],
    )


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at, end = 0, len(data)
    while at < end:
        if end - at < _ITEM.size:
            raise Violation("an item is cut within its head")
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if length > end - at:
            raise Violation("an item is longer than what holds it")
        yield kind, data[at : at + length]
        at += length


def _proposed(value: bytes) -> Proposed:
    if len(value) < 4 or not value[0] & 1:
        raise Violation("a presentation context has no odd number")
    abstract: list[str] = []
    transfer: list[str] = []
    for kind, text in _items(value[4:]):
        if kind == _ABSTRACT:
            abstract.append(uid(text))
        elif kind == _TRANSFER:
            transfer.append(uid(text))
    if len(abstract) != 1:
        raise Violation("a presentation context has no abstract syntax, or several")
    return Proposed(value[0], abstract[0], tuple(transfer))


def _user(value: bytes) -> tuple[int, str, tuple[Role, ...]]:
    maximum, implementation, roles = 0, "", []
    for kind, item in _items(value):
        if kind == _MAXIMUM:
            if len(item) != 4:
                raise Violation("the maximum length of a PDU is not four bytes")
            maximum = _LONG.unpack(item)[0]
        elif kind == _CLASS_UID:
            implementation = uid(item)
        elif kind == _ROLE:
            roles.append(_role(item))
    if 0 < maximum < 8:
        raise Violation("the maximum length of a PDU leaves no room for data", UNEXPECTED_PARAMETER)
    return maximum, implementation, tuple(roles)


def _role(item: bytes) -> Role:
    length = _SHORT.unpack_from(item)[0] if len(item) >= 2 else -1
    if length != len(item) - 4:
        raise Violation("a role selection is not as long as its parts")
    return Role(uid(item[2:-2]), item[-2] == 1, item[-1] == 1)


def uid(value: bytes) -> str:
    """A UID as text without padding; what is none becomes "", so that nothing odd goes any further."""
    text = value.rstrip(b"\0 ").decode("latin-1")
    return text if is_uid(text) else ""


def is_uid(text: str) -> bool:
    """Whether a text is made of digits and dots and no longer than 64 (PS3.5 section 9.1, read leniently)."""
    return 0 < len(text) <= 64 and text.isascii() and text.replace(".", "").isdigit()


def title(value: bytes) -> str:
    """An AE title as text without padding; characters that it may not have become "?" (PS3.5 section 6.2)."""
    text = value.decode("latin-1").strip(" \0")
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)


def accept(
    request: AssociateRequest, decided: Iterable[Decided], roles: Sequence[Role], maximum: int
) -> bytes:
    """An A-ASSOCIATE-AC (PS3.8 section 9.3.3); maximum: bytes of a P-DATA-TF that we take."""
    user = _item(_MAXIMUM, _LONG.pack(maximum)) + _item(_CLASS_UID, IMPLEMENTATION_CLASS_UID.encode())
    user += b"".join(_item(_ROLE, _granted(role)) for role in roles)
    user += _item(_VERSION, IMPLEMENTATION_VERSION_NAME.encode())
    body = b"\0\1" + request.fixed + _item(_APPLICATION, APPLICATION_CONTEXT.encode())
    for one in decided:
        syntax = _item(_TRANSFER, one.transfer_syntax.encode())
        body += _item(_RESULT, bytes((one.number, 0, one.result, 0)) + syntax)
    body += _item(_USER, user)
    return HEAD.pack(ASSOCIATE_AC, len(body)) + body


def _granted(role: Role) -> bytes:
    name = role.abstract_syntax.encode()
    return _SHORT.pack(len(name)) + name + bytes((role.scu, role.scp))


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return HEAD.pack(ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def abort(source: int, reason: int) -> bytes:
    """An A-ABORT (PS3.8 table 9-26)."""
    return HEAD.pack(ABORT, 4) + bytes((0, 0, source, reason))


RELEASED = HEAD.pack(RELEASE_RP, 4) + bytes(4)
"""An A-RELEASE-RP (PS3.8 section 9.3.7)."""


def data(context: int, control: int, value: bytes | memoryview) -> bytes:
    """A P-DATA-TF of one fragment; control: 1 for a command, 2 for the last one (PS3.8 annex E.2)."""
    return b"".join((DATA_HEAD.pack(P_DATA, len(value) + 6, len(value) + 2, context, control), value))


DATA_HEAD = struct.Struct(">BxLLBB")
"""Head of a P-DATA-TF and of the one fragment in it."""
