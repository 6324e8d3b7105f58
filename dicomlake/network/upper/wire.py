"""The socket of one association: PDUs in through one buffer, fragments out as views, answers in one send.

A receiver is as fast as it copies little: what the kernel hands over stays where it is until the sink has
seen it. Nothing is allocated on what a peer says of its lengths; they are held against the limits first.

Waiting is bounded without a system call for each read: `until` says up to when this side waits, and the one
thread of `guard.Guard` shuts the sockets of those that waited too long, which wakes them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from time import monotonic

from dicomlake.network.limits import Limits
from dicomlake.network.upper import pdu
from dicomlake.network.upper.failures import (
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    Aborted,
    AssociationError,
    ConnectionLost,
    TimedOut,
    Violation,
)

FOREVER = float("inf")
STALL_S = (
    0.02  # a read within a message that takes longer hints at a sender that waits for our acknowledgement
)
_FIRST = 16 << 10
_EMPTY = 64  # fragments without data in one message
_LINGER_S = 2.0
_LINGER_BYTES = 8 << 20
_HEAD = pdu.HEAD.size
_FRAGMENT = struct.Struct(">LBB")
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


class Released(Exception):
    """The peer asks to release the association (PS3.8 section 7.2)."""


class Wire:
    """What is read from and sent to one peer; used by one thread, `expire` and `until` excepted.

    context, control, piece: of the fragment that `fragment` read last; a piece is valid until the next call.
    within: whether a message is under way, or the association not yet there: the peer may not release it.
    until: when what this side waits for has to have come. sending: whether it waits for the peer to read.
    """

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self.until = FOREVER
        self.within = True
        self.context = self.control = 0
        self.piece = memoryview(b"")
        self._socket = connection
        self._limits = limits
        self._buffer = bytearray(_FIRST)
        self._view = memoryview(self._buffer)
        self._low = self._high = 0  # what was read and not yet used
        self._at = self._end = 0  # what is left of the P-DATA-TF at hand
        self._patience = limits.silence_s
        self._failure: AssociationError | None = None
        self._counting = False
        self._received, self._waited, self._empty = 0, 0.0, 0
        self._closing = threading.Lock()
        self._quick = False
        self.sending = False

    # Waiting

    def expire(self, failure: AssociationError, *, both: bool = False) -> None:
        """Wake the thread of this wire with a failure; from any thread. both: sending ends too."""
        if self._failure is None or both:
            self._failure = self._failure or failure
        self._shut(socket.SHUT_RDWR if both else socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        with self._closing, contextlib.suppress(OSError):
            # that of SSLSocket would drop its TLS state under the thread that uses it
            socket.socket.shutdown(self._socket, how)

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self._socket.fileno() < 0

    def handshake(self, deadline: float) -> None:
        """TLS, where the socket is to be secured."""
        if isinstance(self._socket, ssl.SSLSocket):
            self.until = deadline
            try:
                self._socket.do_handshake()
            except (OSError, ValueError) as error:
                raise self._failure or ConnectionLost("the TLS handshake failed") from error
            finally:
                self.until = FOREVER

    # Reading

    def request(self, deadline: float) -> memoryview:
        """The body of the first PDU, an A-ASSOCIATE-RQ, read until a deadline (PS3.8 section 9.1.5)."""
        kind, length = self._head(deadline)
        if kind != pdu.ASSOCIATE_RQ:
            raise self._unexpected(kind)
        if length > self._limits.request_bytes:
            raise Violation("an association request is larger than the limit")
        while self._high - self._low < length:
            self._room(length)
            self._fill(deadline)
        body = self._view[self._low : self._low + length]
        self._low += length
        return body

    def established(self) -> None:
        """From now on P-DATA is read: the buffer grows to two PDUs, so that little is moved within it."""
        rest = self._view[self._low : self._high]
        self._buffer = bytearray(max(2 * (self._limits.pdu + 64), len(rest)))
        self._view = memoryview(self._buffer)
        self._view[: len(rest)] = rest
        self._low, self._high = 0, len(rest)
        self.begin()

    def begin(self) -> None:
        """The next fragment is the first of a message."""
        self.within = self._counting = False
        self._patience = self._limits.silence_s
        self._received, self._waited, self._empty = 0, 0.0, 0

    def fragment(self) -> None:
        """Read the next fragment (presentation data value) into `context`, `control` and `piece`.

        Raises Released for an A-RELEASE-RQ between messages, AssociationError for what ends the association.
        """
        if self._at >= self._end:
            self._data()
        at, left = self._at, self._end - self._at
        if left < 6:
            raise Violation("a fragment is cut within its head")
        length, self.context, self.control = _FRAGMENT.unpack_from(self._buffer, at)
        if not 2 <= length <= left - 4:
            raise Violation("a fragment is longer than its PDU, or shorter than its head")
        self._at = at + 4 + length
        self.piece = self._view[at + 6 : self._at]
        self.within = True
        if length == 2 and not self.control & 2:
            self._empty += 1
            if self._empty > _EMPTY:
                raise Violation("a message is made of fragments without data")

    def _data(self) -> None:
        """Have the next P-DATA-TF whole in the buffer."""
        kind, length = self._head()
        if kind != pdu.P_DATA:
            raise self._unexpected(kind)
        # some peers count the head of the PDU in its length, others do not
        if not 6 <= length <= self._limits.pdu + _HEAD:
            raise Violation("a P-DATA-TF is empty, or larger than was agreed")
        while self._high - self._low < length:
            self._room(length)
            self._fill()
        self._at, self._end = self._low, self._low + length
        self._low = self._end

    def _head(self, deadline: float = FOREVER) -> tuple[int, int]:
        while self._high - self._low < _HEAD:
            if self._high > self._low:
                self._patience = self._limits.stall_s
            self._room(_HEAD)
            self._fill(deadline)
        kind, length = pdu.HEAD.unpack_from(self._buffer, self._low)
        self._low += _HEAD
        self._counting = True
        self._patience = self._limits.stall_s
        if kind == pdu.ABORT:
            raise Aborted("the peer aborted the association")
        return kind, length

    def _unexpected(self, kind: int) -> Exception:
        if kind == pdu.RELEASE_RQ and not self.within:
            return Released()
        if 1 <= kind <= 7:
            return Violation("a PDU came where it may not", UNEXPECTED_PDU)
        return Violation("a PDU of an unknown type", UNRECOGNIZED_PDU)

    def _room(self, wanted: int) -> None:
        """Have room behind `_high` for what `wanted` bytes from `_low` on still lack."""
        low, high = self._low, self._high
        if low == high:
            self._low = self._high = 0
        elif low + wanted > len(self._buffer):
            self._view[: high - low] = self._view[low:high]
            self._low, self._high = 0, high - low
        if self._high == len(self._buffer):  # an association request, of a length that was checked
            grown = bytearray(min(wanted, 2 * len(self._buffer)))
            grown[: self._high] = self._view[: self._high]
            self._buffer, self._view = grown, memoryview(grown)

    def _fill(self, deadline: float = FOREVER) -> None:
        """Read what there is, at least a byte; counts how long the peer let us wait."""
        if self._quick:
            self.acknowledge()
        before = monotonic()
        self.until = min(before + self._patience, deadline)
        try:
            count = self._socket.recv_into(self._view[self._high :])
        except (OSError, ValueError) as error:
            raise self._failure or ConnectionLost("the connection broke") from error
        self.until = FOREVER
        if self._failure is not None:
            raise self._failure
        if not count:
            raise ConnectionLost("the connection was closed without a release")
        self._high += count
        if self._counting:
            waited = monotonic() - before
            self._received += count
            self._waited += waited
            if waited > STALL_S:
                self._late(waited)

    def _late(self, waited: float) -> None:
        limits = self._limits
        # a sender with Nagle's algorithm on waits for our delayed acknowledgement, 40 to 200 ms
        self._quick = self._quick or waited < 0.25
        patient = self._waited - limits.stall_s
        if patient > 0 and self._received < limits.slowest * patient:
            raise TimedOut("a message comes more slowly than the limit")

    def acknowledge(self) -> None:
        """Have the kernel acknowledge at once what came: a peer with Nagle's algorithm on waits for it."""
        if _QUICK_ACK is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    @property
    def starved(self) -> bool:
        """Whether the next fragment has yet to come over the network."""
        return self._at >= self._end and self._low == self._high

    def readable(self) -> bool:
        """Whether there is something to read, without waiting."""
        if self._failure is not None or not self.starved:
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    # Sending

    def send(self, data: bytes | bytearray | memoryview, within_s: float | None = None) -> None:
        """Send all of it; TimedOut where the peer does not read for `answer_s`."""
        self.until = monotonic() + (self._limits.answer_s if within_s is None else within_s)
        self.sending = True
        try:
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise self._failure or ConnectionLost("the connection broke") from error
        finally:
            self.sending = False
            self.until = FOREVER

    def farewell(self, last: bytes) -> None:
        """Send a last PDU, so that the peer can read it, and close: within two seconds, whatever it does.

        A socket closed with bytes unread is reset, and the peer loses what it was just told.
        """
        self._failure = None
        deadline = monotonic() + _LINGER_S
        try:
            if last:
                self.send(last, _LINGER_S)
                self._shut(socket.SHUT_WR)
                left = _LINGER_BYTES
                self.until = deadline
                while left > 0 and (count := self._socket.recv_into(self._view)):
                    left -= count
                    if monotonic() > deadline:
                        break
        except (AssociationError, OSError, ValueError):
            pass  # the peer is gone, or does not listen
        finally:
            self.until = FOREVER
            self.close()

    def close(self) -> None:
        """Close the socket; from then on nothing reaches it."""
        with self._closing, contextlib.suppress(OSError):
            self._socket.close()
