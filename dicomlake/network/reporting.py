"""N-EVENT-REPORT on an association of our own (PS3.7 section 10.1.1), as those who asked may have gone.

The one who reports is the SCP of the SOP class though it asks for the association, so that role is proposed
(PS3.7 section D.3.3.4; PS3.4 section J.3.3 wants it for storage commitment).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from dicomlake.errors import DicomlakeError
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Context, Waits, associated, paused

if TYPE_CHECKING:
    from pynetdicom.association import Association

_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # Explicit and Implicit VR Little Endian
_SUCCESS = 0x0000
WAITS = Waits(connect_s=10.0, answer_s=30.0)


@dataclass(frozen=True, slots=True)
class EventReport:
    """What is reported.

    event_type: by the SOP class. information: its data set, as encoded in a transfer syntax.
    """

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: Callable[[str], bytes] = field(repr=False)


def report(
    event: EventReport,
    address: Address,
    *,
    calling: str,
    tls: ssl.SSLContext | None = None,
    waits: Waits = WAITS,
) -> str:
    """Tell a peer of an event; "" when it has confirmed it, else why not, in words without values.

    calling: our AE title. Raises nothing: what was not confirmed is to be sent again.
    """
    context = Context(event.sop_class_uid, _SYNTAXES, scp=True)
    try:
        with associated(address, [context], calling=calling, tls=tls, waits=waits) as association:
            status = _send(association, event)
    except DicomlakeError as error:
        return str(error)
    except (OSError, RuntimeError, ValueError) as error:  # pynetdicom's, of associations that end meanwhile
        return f"{address} could not be told: the association ended ({type(error).__name__})"
    if status is None:
        return f"{address} gave no answer to the report"
    return "" if status == _SUCCESS else f"{address} answered the report with status 0x{status:04X}"


def _send(association: Association, event: EventReport) -> int | None:
    """Send the request, and return the status of the answer; None when there is none.

    Not `send_n_event_report`, which waits for ever for an association that has just ended.
    """
    from pynetdicom.dimse_primitives import N_EVENT_REPORT

    context = association.accepted_contexts[0]
    request = N_EVENT_REPORT()
    request.MessageID, request.EventTypeID = 1, event.event_type
    request.AffectedSOPClassUID = event.sop_class_uid
    request.AffectedSOPInstanceUID = event.sop_instance_uid
    request.EventInformation = BytesIO(event.information(str(context.transfer_syntax[0])))
    with paused(association):
        association.dimse.send_msg(request, context.context_id or 1)
        _context, response = association.dimse.get_msg(block=True)
    if not isinstance(response, N_EVENT_REPORT) or not response.is_valid_response:
        association.abort()
        return None
    return None if response.Status is None else int(response.Status)
