"""A peer made of bytes: it says what PS3.8 allows, and what it does not; and fakes to serve."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

import pydicom

from dicomlake.network.limits import Limits
from dicomlake.network.seams import Operation, Sender, Stored, StoreRequest
from dicomlake.network.server import Server

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
VERIFICATION = "1.2.840.10008.1.1"
OURS = {"dicomlake-association", "dicomlake-guard", "dicomlake-listen"}
ALL: frozenset[Operation] = frozenset(("echo", "store", "commit", "mpps", "find", "move", "get"))
SMALL = Limits(
    *(8, 8, 0.6, 3.0, 0.6),
    slowest=1000,
    answer_s=0.6,
    pdu=16384,
    request_bytes=64 << 10,
    message_bytes=100_000,
    object_bytes=1 << 20,
)


@dataclass(frozen=True)
class Peer:
    name: str = "peer"
    operations: frozenset[Operation] = ALL
    associations: int | None = None


@dataclass
class Peers:
    """Everybody, or those of a calling AE title."""

    titles: dict[str, Peer] | None = None

    def find(self, calling: str, host: str) -> Peer | None:
        return Peer() if self.titles is None else self.titles.get(calling)


@dataclass
class Sink:
    """Keeps the last data set of each UID, and hashes of all; `before` may answer, raise or wait."""

    before: Callable[[StoreRequest], Stored | None] | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[StoreRequest] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        early = self.before(request) if self.before else None
        if early is not None:
            return early
        data = bytearray()
        try:
            for piece in pieces:
                data += piece
        except Exception as error:
            self.errors.append(error)
            raise
        self.objects[request.sop_instance_uid] = bytes(data)
        self.digests.append(digest(data))
        self.requests.append(request)
        return Stored("stored", size=len(data))


@dataclass
class Watcher:
    events: list[tuple[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def _tell(self, what: str, how: str) -> None:
        with self.changed:
            self.events.append((what, how))
            self.changed.notify_all()

    def opened(self, sender: Sender) -> None:
        self._tell("opened", sender.calling)

    def refused(self, host: str, calling: str, reason: str) -> None:
        self._tell("refused", reason)

    def stored(self, request: StoreRequest, result: Stored, seconds: float) -> None:
        self._tell("stored", result.outcome)

    def closed(self, sender: Sender, how: str) -> None:
        self._tell("closed", how)

    def wait(self, event: tuple[str, str], count: int = 1, timeout: float = 10) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.events.count(event) >= count, timeout), self.events


@contextmanager
def serving(sink: object = None, services: tuple[object, ...] = (), **how: object) -> Iterator[Server]:
    """A server that is stopped in the end, and leaves no thread."""
    how = {"peers": Peers(), "limits": SMALL, **how}
    server = Server(sink or Sink(), services, how.pop("peers"), how.pop("limits"), **how)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop(2)
        left = [t.name for t in threading.enumerate() if t.name in OURS]
        assert left == []


def until(true: Callable[[], bool], timeout: float = 8) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


# Bytes


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def framed(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def proposal(
    contexts: list[tuple[int, str, list[str]]],
    *,
    called: bytes = b"DICOMLAKE",
    calling: bytes = b"TESTER",
    maximum: int = 16384,
    user: bytes = b"",
    version: int = 1,
    application: bytes = b"1.2.840.10008.3.1.1.1",
) -> bytes:
    body = struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16)) + item(
        0x10, application
    )
    for number, abstract, syntaxes in contexts:
        parts = item(0x30, abstract.encode()) + b"".join(item(0x40, s.encode()) for s in syntaxes)
        body += item(0x20, bytes((number, 0, 0, 0)) + parts)
    user = item(0x51, struct.pack(">L", maximum)) + item(0x52, b"1.2.3") + user
    return framed(1, body + item(0x50, user))


DEFAULT = [(1, VERIFICATION, [IMPLICIT]), (3, CT, [EXPLICIT])]


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) & 1)
    return struct.pack("<HHL", 0, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def command(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return element(0, struct.pack("<L", len(body))) + body


def pdv(context: int, control: int, value: bytes) -> bytes:
    return struct.pack(">LBB", len(value) + 2, context, control) + value


def data(context: int, control: int, value: bytes) -> bytes:
    return framed(4, pdv(context, control, value))


def store_command(uid: str, sop_class: str = CT, message: int = 1, *, dataset: int = 0) -> bytes:
    return command(
        element(2, sop_class.encode()),
        us(0x100, 1),
        us(0x110, message),
        us(0x700, 0),
        us(0x800, dataset),
        element(0x1000, uid.encode()),
    )


def store(uid: str, dataset: bytes, context: int = 3, sop_class: str = CT, size: int = 16378) -> bytes:
    """A C-STORE-RQ with its data set in fragments of at most `size`."""
    out = data(context, 3, store_command(uid, sop_class))
    for start in range(0, max(1, len(dataset)), size):
        out += data(context, 2 * (start + size >= len(dataset)), dataset[start : start + size])
    return out


ECHO = data(1, 3, command(element(2, VERIFICATION.encode()), us(0x100, 0x30), us(0x110, 7), us(0x800, 0x101)))
RELEASE = framed(5, bytes(4))
ABORT = framed(7, bytes(4))


class Raw:
    """A socket that speaks bytes; a wait of more than 8 s is an error."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=8)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Raw:
        self.socket.sendall(data)
        return self

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; (0, b"") at the end of the connection."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(struct.unpack_from(">L", head, 2)[0])

    def _exactly(self, count: int) -> bytes:
        found = b""
        try:
            while len(found) < count and (more := self.socket.recv(count - len(found))):
                found += more
        except ConnectionError:
            return b""
        return found

    def associate(self, contexts: list[tuple[int, str, list[str]]] = DEFAULT, **how: object) -> bytes:
        kind, body = self.send(proposal(contexts, **how)).pdu()  # type: ignore[arg-type]
        assert kind == 2, (kind, body)
        return body

    def response(self) -> dict[int, bytes]:
        """The command set of the next P-DATA-TF, by the letter."""
        kind, body = self.pdu()
        assert kind == 4, (kind, body)
        return elements(body[6:])

    def status(self) -> int:
        return int(struct.unpack("<H", self.response()[0x900])[0])


def elements(body: bytes) -> dict[int, bytes]:
    at, found = 0, {}
    while at < len(body):
        group, number, length = struct.unpack_from("<HHL", body, at)
        assert group == 0
        found[number] = body[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def dataset_of(file: bytes) -> bytes:
    """What a sender sends of a DICOM file: all behind the File Meta Information, by its group length."""
    length = pydicom.dcmread(BytesIO(file), specific_tags=[]).file_meta.FileMetaInformationGroupLength
    return file[144 + length :]


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


ROOT = "1.2.826.0.1.3680043.8.498.1.1"


def with_meta(data: bytes, sop_class: str, syntax: str = EXPLICIT) -> bytes:
    """A data set as a file that pydicom reads."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(sop_class), "1.2.3"
    stream = BytesIO()
    pydicom.filewriter.write_file_meta_info(stream, meta)
    return bytes(128) + b"DICM" + stream.getvalue() + data
