"""What is agreed with a peer: pure decisions on an association request (PS3.8 section 7.1, PS3.7 annex D.3).

An abstract syntax is Verification, one that a service claims, or storage. Storage is everything that PS3.6
does not list as something else: private classes, retired ones and those of later editions are taken too.

Of the transfer syntaxes of a storage context the first is accepted, whichever it is: the order is the peer's
preference, and what it names first it need not convert. Services read Explicit and Implicit VR Little Endian.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from dicomlake.network.seams import Operation, Service
from dicomlake.network.upper import pdu

VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT_VR = "1.2.840.10008.1.2.1"
_READ_BY_SERVICES = (EXPLICIT_VR, pdu.IMPLICIT_VR)

ACCEPTED, USER_REJECTED, ABSTRACT_UNKNOWN, TRANSFER_UNKNOWN = 0, 1, 3, 4
"""Results of a presentation context (PS3.8 table 9-18)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An association that is not accepted: the A-ASSOCIATE-RJ of PS3.8 table 9-21, and why in two words."""

    result: int
    source: int
    reason: int
    why: str


WRONG_VERSION = Refusal(1, 2, 2, "protocol version")
WRONG_APPLICATION = Refusal(1, 1, 2, "application context")
CALLED_UNKNOWN = Refusal(1, 1, 7, "called AE title")
CALLING_UNKNOWN = Refusal(1, 1, 3, "unknown peer")
TOO_MANY = Refusal(2, 3, 2, "too many associations")


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context.

    service: who answers requests on it; None for Verification and storage.
    takes: whether the peer is an SCP, too.
    store: whether objects may be sent to us on it.
    """

    number: int
    abstract_syntax: str
    transfer_syntax: str
    service: Service | None = field(default=None, repr=False)
    takes: bool = False
    store: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """Answers to all proposed contexts, in their order; those accepted by number; roles granted."""

    decided: tuple[pdu.Decided, ...]
    contexts: Mapping[int, Context]
    roles: Sequence[pdu.Role]


def refusal(request: pdu.AssociateRequest, titles: Collection[str]) -> Refusal | None:
    """Why a request is refused whoever sent it; titles: our AE titles, none for any."""
    if not request.version & 1:
        return WRONG_VERSION
    if request.application_context != pdu.APPLICATION_CONTEXT:
        return WRONG_APPLICATION
    if titles and request.called not in titles:
        return CALLED_UNKNOWN
    return None


@cache
def _other_than_storage() -> frozenset[str]:
    from dicomlake.dicom.standard._uids import UIDS

    other = {"1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2", "1.2.840.10008.1.3.10"}
    named = {uid for uid, (name, _kind, _word) in UIDS.items() if "Storage" not in name}
    return frozenset(other | named | {pdu.APPLICATION_CONTEXT})


def is_storage(abstract_syntax: str) -> bool:
    """Whether objects of this class are taken: all but those that PS3.6 lists as something else."""
    return pdu.is_uid(abstract_syntax) and abstract_syntax not in _other_than_storage()


class Negotiator:
    """What this receiver can agree to: Verification, storage, and the SOP classes of its services."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = tuple(services)
        self._by_class = {uid: service for service in self._services for uid in service.sop_classes}
        self._sends = any(service.operation == "get" for service in self._services)

    def agree(self, request: pdu.AssociateRequest, allowed: Collection[Operation]) -> Agreement:
        """The answer to every proposed context of a peer that is allowed these operations."""
        proposed = {role.abstract_syntax: role for role in request.roles}
        contexts: dict[int, Context] = {}
        decided: list[pdu.Decided] = []
        for one in request.contexts:
            answer = self._context(one, proposed.get(one.abstract_syntax), allowed)
            if isinstance(answer, Context):
                contexts[one.number] = answer
                decided.append(pdu.Decided(one.number, ACCEPTED, answer.transfer_syntax))
            else:
                decided.append(pdu.Decided(one.number, answer))
        return Agreement(tuple(decided), contexts, _granted(proposed, contexts.values()))

    def _context(
        self, one: pdu.Proposed, role: pdu.Role | None, allowed: Collection[Operation]
    ) -> Context | int:
        uid, syntaxes = one.abstract_syntax, [syntax for syntax in one.transfer_syntaxes if syntax]
        service = self._by_class.get(uid)
        if service is not None or uid == VERIFICATION:
            if (service.operation if service else "echo") not in allowed:
                return USER_REJECTED
            readable = [syntax for syntax in syntaxes if syntax in _READ_BY_SERVICES or service is None]
            if not readable:
                return TRANSFER_UNKNOWN
            best = EXPLICIT_VR if EXPLICIT_VR in readable else readable[0]
            return Context(one.number, uid, best, service, takes=bool(role and role.scp))
        if not is_storage(uid):
            return ABSTRACT_UNKNOWN
        store = "store" in allowed and (role is None or role.scu)
        takes = bool(role and role.scp) and self._sends and "get" in allowed
        if not store and not takes:
            return USER_REJECTED
        if not syntaxes:
            return TRANSFER_UNKNOWN
        return Context(one.number, uid, syntaxes[0], takes=takes, store=store)


def _granted(proposed: Mapping[str, pdu.Role], contexts: Iterable[Context]) -> list[pdu.Role]:
    accepted = {context.abstract_syntax: context for context in contexts}
    return [
        pdu.Role(uid, role.scu and (one.store or not is_storage(uid)), one.takes)
        for uid, role in proposed.items()
        if (one := accepted.get(uid)) is not None
    ]
