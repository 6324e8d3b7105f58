"""How much a receiver gives to its peers, and for how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a receiver; seconds and bytes.

    associations: at once, of all peers; associations_of_host: of one address.
    request_s: from a connection to a whole association request (the ARTIM timer of PS3.8 section 9.1.5).
    silence_s: without a byte while nothing is under way. stall_s: without a byte within a message.
    slowest: bytes a second that a message must reach on average, counted from `stall_s` on.
    answer_s: to send what a peer does not read.
    pdu: the largest P-DATA PDU, as negotiated. request_bytes: of an association request.
    message_bytes: of a request other than C-STORE. object_bytes: of one object. contexts: that are proposed.
    """

    associations: int = 100
    associations_of_host: int = 50
    request_s: float = 10.0
    silence_s: float = 120.0
    stall_s: float = 30.0
    slowest: int = 1024
    answer_s: float = 30.0
    pdu: int = 256 << 10
    request_bytes: int = 1 << 20
    message_bytes: int = 16 << 20
    object_bytes: int = 64 << 30
    contexts: int = 128
