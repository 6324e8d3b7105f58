"""How much the HTTP side gives to its clients, and for how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Bounds of STOW-RS; seconds and bytes.

    requests: that store at once; each has a thread. More are answered 503.
    request_bytes: of one body. object_bytes: of one part. parts: of one body.
    header_bytes: of the headers of a part, of the preamble and of the epilogue.
    meta_bytes: of the File Meta Information of a part.
    look_bytes: of a data set that are held to find its identifiers, where these are needed beforehand.
    stall_s: without a byte. slowest: bytes a second that a body must reach on average, counted from `stall_s`
        on; the time that this side takes does not count. request_s: for a whole body.
    answer_s: to send what a client does not read.
    buffer_bytes: of a body that wait for the sink.
    linger_s, linger_bytes: a body that is refused is read on for so long and so far, as many clients read
        the answer only when they have sent everything.
    """

    requests: int = 16
    request_bytes: int = 256 << 30
    object_bytes: int = 64 << 30
    parts: int = 100_000
    header_bytes: int = 16 << 10
    meta_bytes: int = 1 << 20
    look_bytes: int = 16 << 20
    stall_s: float = 30.0
    slowest: int = 1024
    request_s: float = 4 * 3600.0
    answer_s: float = 30.0
    buffer_bytes: int = 4 << 20
    linger_s: float = 2.0
    linger_bytes: int = 8 << 20
