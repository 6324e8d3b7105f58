"""The DICOM conformance statement (PS3.2), written from what the receiver is made of."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Sequence

from dicomlake.dicom import file_meta
from dicomlake.network import statuses, tls
from dicomlake.network.config import ReceiverConfig
from dicomlake.network.limits import Limits
from dicomlake.network.seams import Outcome
from dicomlake.network.services import answering, levels, retrieving
from dicomlake.network.services.commitment import CommitmentService
from dicomlake.network.services.finding import FindService
from dicomlake.network.services.getting import GetService
from dicomlake.network.services.moving import UNKNOWN_DESTINATION, MoveService
from dicomlake.network.services.mpps import MppsService
from dicomlake.network.upper import negotiation, pdu

_INTRODUCTION = """# DICOM conformance statement

Written by `docs/reference/make_conformance.py` from the program itself; the order follows PS3.2.

dicomlake takes objects of any Storage SOP class from modalities and archives, keeps them byte for byte,
answers storage commitment after having read them again, and gives them out by query and retrieve. It is an
archive for research, not a medical device: nothing it shows is for diagnosis.
"""

_COMMITMENT = "N-ACTION, N-EVENT-REPORT"
_SERVICES = (
    (CommitmentService, "commit", "Storage Commitment", _COMMITMENT, "PS3.4 annex J"),
    (MppsService, "mpps", "Modality Performed Procedure Step", "N-CREATE, N-SET", "PS3.4 section F.7"),
    (FindService, "find", "Query", "C-FIND", "PS3.4 section C.4.1"),
    (MoveService, "move", "Retrieve by C-MOVE", "C-MOVE", "PS3.4 section C.4.2"),
    (GetService, "get", "Retrieve by C-GET", "C-GET", "PS3.4 section C.4.3"),
)

_LIMITS = {
    "associations": "open at once, of all peers",
    "associations_of_host": "open at once, of one address",
    "request_s": "from the connection to a whole association request (ARTIM, PS3.8 section 9.1.5)",
    "silence_s": "without a byte while nothing is under way",
    "stall_s": "without a byte within a message",
    "slowest": "bytes a second that a message must reach on average",
    "answer_s": "that a peer may take to read what it is sent",
    "pdu": "the largest P-DATA PDU that is read, as negotiated",
    "request_bytes": "of an association request",
    "message_bytes": "of a request other than C-STORE",
    "object_bytes": "of one object",
    "contexts": "presentation contexts that are read of an association request",
}

_OUTCOMES: dict[Outcome, str] = {
    "stored": "the object is new, durable and in the catalog",
    "already": "the same object was there before",
    "conflict": "another object has its UID; both are kept and listed",
    "unreadable": "the data set cannot be read; its bytes are in quarantine",
    "mismatch": "SOP Class or Instance UID of the data set is not that of the request; in quarantine",
    "full": "no space is left",
    "over_quota": "the quota of the peer is used up",
    "failed": "storing failed on this side",
    "refused": "the peer may not store",
}

_OF_SERVICES = (
    ("commit, mpps", answering.INVALID_ATTRIBUTE_VALUE, "a value that the element may not have"),
    ("commit, mpps", answering.PROCESSING_FAILURE, "the request could not be done for a reason of this side"),
    ("mpps", answering.DUPLICATE_INSTANCE, "a step of this UID exists"),
    ("mpps", answering.NO_SUCH_INSTANCE, "there is no step of this UID"),
    ("commit, mpps", answering.INVALID_ARGUMENT_VALUE, "an argument cannot be used"),
    ("commit, mpps", answering.NO_SUCH_CLASS, "the SOP Class is not that of the service"),
    ("commit, mpps", answering.MISSING_ATTRIBUTE, "an element that must be there is not"),
    ("commit, mpps", answering.MISSING_ATTRIBUTE_VALUE, "an element that must have a value has none"),
    ("commit", answering.NO_SUCH_ACTION, "another action than to request commitment"),
    ("find", levels.PENDING_WITHOUT_SOME, "a match; optional keys were not matched"),
    ("find, move, get", levels.OUT_OF_RESOURCES, "more is asked for than is answered at once"),
    ("move", UNKNOWN_DESTINATION, "the destination is not a peer with an address"),
    ("move, get", retrieving.NOT_CALCULATED, "how much is asked for cannot be told"),
    ("move, get", retrieving.NOT_PERFORMED, "no object could be sent"),
    ("move, get", retrieving.WITH_FAILURES, "some objects could not be sent"),
    ("find, move, get", levels.WRONG_IDENTIFIER, "level or keys do not fit the information model"),
    ("find, move, get", levels.UNABLE, "the request could not be done"),
)


def statement() -> str:
    """The whole page, Markdown."""
    parts = (_INTRODUCTION, *_overview(), *_policies(), *_storage(), *_services(), *_requesting())
    return "\n".join((*parts, *_statuses(), *_security(), *_rest())).rstrip() + "\n"


def _prose(text: str) -> str:
    """A paragraph."""
    return inspect.cleandoc(text) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _overview() -> Iterator[str]:
    yield "## Network services\n"
    yield from _table(
        ("Service", "as SCU", "as SCP"),
        (
            ("Verification", "no", "yes"),
            ("Storage", "yes", "yes"),
            *(
                (title, _asks(operation), "yes")
                for _service, operation, title, _messages, _clause in _SERVICES
            ),
        ),
    )
    yield "Over HTTP: STOW-RS as origin server; QIDO-RS and WADO-RS as user agent (PS3.18).\n"


def _asks(operation: str) -> str:
    return "no" if operation in ("commit", "mpps") else "yes"


def _policies() -> Iterator[str]:
    yield "## Association policies\n"
    config = ReceiverConfig()
    yield _prose(
        f"""
        Application context `{pdu.APPLICATION_CONTEXT}`, implementation class UID
        `{file_meta.IMPLEMENTATION_CLASS_UID}`, implementation version name
        `{file_meta.IMPLEMENTATION_VERSION_NAME}`.
        Default AE title `{config.ae_titles[0]}`, port {config.port}; both are configurable. Operations are
        synchronous: an asynchronous operations window is not negotiated. User identity and extended
        negotiation are not answered.
        """
    )
    yield _prose(
        """
        An association is accepted when the called AE title is one of the receiver's, and the calling AE
        title and the address are those of a peer in its list. Titles compare with case; padding does not
        count. A peer gets the presentation contexts of the operations that it may do. Rejections (PS3.8
        table 9-21):
        """
    )
    yield from _table(
        ("Result", "Source", "Reason", "When"),
        (
            (one.result, one.source, one.reason, one.why)
            for one in (
                negotiation.WRONG_VERSION,
                negotiation.WRONG_APPLICATION,
                negotiation.CALLED_UNKNOWN,
                negotiation.CALLING_UNKNOWN,
                negotiation.TOO_MANY,
            )
        ),
    )
    yield "Bounds, each of which can be set:\n"
    yield from _table(
        ("Setting", "Default", "Meaning"),
        ((f"`{one.name}`", f"{one.default:,}", _LIMITS[one.name]) for one in dataclasses.fields(Limits)),
    )
    yield "What breaks the protocol or a bound is ended by A-ABORT or by closing the connection.\n"


def _storage() -> Iterator[str]:
    from dicomlake.dicom.standard._uids import UIDS

    yield "## Storage (SCP)\n"
    yield _prose(
        """
        Level 2 (full) conformance (PS3.4 section B.4.1): everything is kept as it came, nothing is coerced.
        Success is answered once the object is durable and in the catalog.
        """
    )
    yield _prose(
        """
        **SOP classes.** Every abstract syntax is taken for one of Storage unless PS3.6 lists it as
        something else: private classes, and those of later editions, are stored like those below.
        """
    )
    yield _prose(
        """
        **Transfer syntaxes.** The first one that is proposed in a presentation context is accepted, private
        ones too; nothing is decoded or converted when objects come in. Propose each syntax in a context of
        its own to choose between several. Role selection is answered.
        """
    )
    yield from _list("Storage SOP classes", _storage_classes(UIDS))
    syntaxes = [(name, uid) for uid, (name, kind, _word) in UIDS.items() if kind == "Transfer Syntax"]
    yield from _list("Transfer syntaxes", syntaxes)


def _storage_classes(uids: dict[str, tuple[str, str, str]]) -> list[tuple[str, str]]:
    return sorted(
        (name, uid)
        for uid, (name, kind, _word) in uids.items()
        if kind == "SOP Class" and negotiation.is_storage(uid)
    )


def _list(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"<details><summary>{title} of PS3.6: {len(rows)}</summary>\n"
    yield from _table(("Name", "UID"), ((name, f"`{uid}`") for name, uid in rows))
    yield "</details>\n"


def _services() -> Iterator[str]:
    from dicomlake.dicom.standard import uid_name

    yield "## Other services (SCP)\n"
    rows = [("Verification", "C-ECHO", negotiation.VERIFICATION, "`echo`", "PS3.4 annex A")]
    for service, operation, _title, messages, clause in _SERVICES:
        rows += [(uid_name(u), messages, u, f"`{operation}`", clause) for u in sorted(service.sop_classes)]
    yield from _table(
        ("SOP class", "Messages", "UID", "Operation of the peer", "Clause"),
        ((name, messages, f"`{uid}`", operation, clause) for name, messages, uid, operation, clause in rows),
    )
    yield _prose(
        """
        Transfer syntaxes: Explicit VR Little Endian, preferred, and Implicit VR Little Endian. Storage
        commitment is answered with success for an object only after its file was read again and its hash
        compared; the report comes on the same association where it still stands, else on a new one to the
        address of the peer in the list.
        """
    )


def _requesting() -> Iterator[str]:
    yield "## Requests (SCU)\n"
    yield _prose(
        """
        `dicomlake send` proposes each SOP class with the transfer syntax of its objects, and the
        uncompressed ones; objects are converted only when a peer does not accept theirs. `dicomlake pull`
        queries by C-FIND and retrieves by C-MOVE or C-GET, in the Patient Root and Study Root models.
        Storage commitment reports and C-MOVE sub-operations go to peers that the list gives an address,
        over TLS where it says so.
        """
    )


def _statuses() -> Iterator[str]:
    yield "## Statuses\n"
    yield "What is answered to a C-STORE-RQ, by what became of the object:\n"
    yield from _table(
        ("Outcome", "Status", "Meaning"),
        (
            (f"`{outcome}`", _codes(outcome, code), _OUTCOMES[outcome])
            for outcome, code in statuses.STORE.items()
        ),
    )
    yield "All that the receiver itself answers:\n"
    yield from _table(
        ("Status", "Name", "Meaning", "Clause"),
        ((f"`{one.code:04X}`", one.name, one.meaning, one.clause) for one in statuses.TABLE),
    )
    yield "And those of services:\n"
    yield from _table(
        ("Status", "Service", "Meaning"),
        ((f"`{code:04X}`", service, meaning) for service, code, meaning in _OF_SERVICES),
    )


def _codes(outcome: Outcome, code: int) -> str:
    if outcome != "conflict":
        return f"`{code:04X}`"
    other = [f"`{ReceiverConfig(conflict=kind).conflict_status:04X}`" for kind in ("warning", "failure")]
    return f"`{code:04X}`, or {' or '.join(other)} where `conflict` says so"


def _security() -> Iterator[str]:
    yield "## Security\n"
    yield _prose(
        f"""
        TLS by the *{tls.PROFILE}* (PS3.15 section B.12): TLS 1.2 and 1.3, 1.3 preferred. Certificates of
        clients are required where authorities are given. A port with TLS takes nothing else; 2762 is the
        registered one. Keys are PEM files, which the administrator puts in place. Suites of TLS 1.2:
        """
    )
    yield from (f"- `{suite}`" for suite in tls.SUITES)
    yield ""
    yield _prose(
        """
        Logs, metrics and events hold UIDs, AE titles, addresses and counts, no values of attributes that
        identify a patient.
        """
    )


def _rest() -> Iterator[str]:
    yield "## Character sets\n"
    yield _prose(
        """
        Data sets are kept as they come, whatever Specific Character Set (0008,0005) they name. For the
        catalog, and for keys of C-FIND, those of PS3.3 section C.12.1.1.2 are read, with code extensions.
        Responses name the character set that they need: the default repertoire, else ISO_IR 192.
        """
    )
    yield "## Media\n"
    yield _prose(
        """
        `dicomlake ingest` reads any file set with a DICOMDIR, and DICOM files without one (PS3.10), as a
        file set reader. It writes none.
        """
    )
    yield ""
