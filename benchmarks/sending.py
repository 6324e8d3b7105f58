"""A C-STORE sender without a DICOM library, so that what is measured is the receiver.

`python -m benchmarks.sending PORT AE FOLDER [PDU]` reads all files of a folder, connects once, sends them one
after the other as PS3.7 wants it, and prints the seconds from connecting to release, and the slowest answer.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PDU = 128 << 10
_CONTEXT = b"1.2.840.10008.3.1.1.1"
_US, _UL = struct.Struct("<H"), struct.Struct(">L")


class Outgoing(NamedTuple):
    """What goes over the wire of one file."""

    sop_class: bytes
    sop_instance: bytes
    syntax: bytes
    dataset: memoryview


def read_part10(path: Path) -> Outgoing:
    """The data set of a file, and what its File Meta Information says of it."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<L", data, 140)
    at, stop, found = 144, 144 + length, {}
    while at < stop:
        _group, element, vr, size = struct.unpack_from("<HH2sH", data, at)
        at += 8
        if vr == b"OB":
            (size,) = struct.unpack_from("<L", data, at)
            at += 4
        found[element] = data[at : at + size].rstrip(b"\0")
        at += size
    return Outgoing(found[2], found[3], found[0x10], memoryview(data)[stop:])


def send(port: int, called: str, objects: Sequence[Outgoing], pdu: int = PDU) -> tuple[float, float]:
    """Send objects over one association; seconds of all, and of the slowest answer."""
    started, slowest = time.perf_counter(), 0.0
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = wire.makefile("rb")
        contexts = {
            pair: 2 * n + 1 for n, pair in enumerate(sorted({(o.sop_class, o.syntax) for o in objects}))
        }
        wire.sendall(_association_request(called, contexts, pdu))
        kind, body = _pdu(reader)
        if kind != 2:
            raise RuntimeError(f"the association was not accepted: PDU {kind}")
        at = body.find(b"\x51\0\0\4")
        room = min(_UL.unpack_from(body, at + 4)[0] or pdu, pdu) - 6
        for number, one in enumerate(objects):
            asked = time.perf_counter()
            wire.sendall(b"".join(_store(one, contexts[one.sop_class, one.syntax], number % 65535 + 1, room)))
            kind, body = _pdu(reader)
            if kind != 4 or _status(body) != 0:
                raise RuntimeError(f"object {number + 1} was answered by PDU {kind}, {body[6:].hex()}")
            slowest = max(slowest, time.perf_counter() - asked)
        wire.sendall(b"\5\0\0\0\0\4\0\0\0\0")
        reader.read(10)
        reader.close()
    return time.perf_counter() - started, slowest


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _association_request(called: str, contexts: dict[tuple[bytes, bytes], int], pdu: int) -> bytes:
    body = struct.pack(">Hxx16s16s32x", 1, called.encode().ljust(16), b"BENCHMARK".ljust(16))
    body += _item(0x10, _CONTEXT)
    for (sop_class, syntax), number in contexts.items():
        body += _item(0x20, bytes([number, 0, 0, 0]) + _item(0x30, sop_class) + _item(0x40, syntax))
    user = _item(0x51, _UL.pack(pdu)) + _item(0x52, b"2.25.1") + _item(0x55, b"BENCHMARK")
    body += _item(0x50, user)
    return struct.pack(">BxL", 1, len(body)) + body


def _store(one: Outgoing, context: int, message: int, room: int) -> Iterator[bytes | memoryview]:
    elements = (
        *((0x0002, _even(one.sop_class)), (0x0100, _US.pack(1)), (0x0110, _US.pack(message))),
        *((0x0700, _US.pack(0)), (0x0800, _US.pack(0)), (0x1000, _even(one.sop_instance))),
    )
    command = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in elements)
    command = struct.pack("<HHLL", 0, 0, 4, len(command)) + command
    yield _fragment_head(context, 3, len(command)) + command
    for start in range(0, len(one.dataset), room):
        part = one.dataset[start : start + room]
        yield _fragment_head(context, 2 * (start + room >= len(one.dataset)), len(part))
        yield part


def _fragment_head(context: int, flags: int, size: int) -> bytes:
    return struct.pack(">BxLLBB", 4, size + 6, size + 2, context, flags)


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) & 1)


def _pdu(reader: object) -> tuple[int, bytes]:
    read = reader.read  # type: ignore[attr-defined]
    head = read(6)
    if len(head) < 6:
        raise RuntimeError("the receiver closed the connection")
    return head[0], read(_UL.unpack_from(head, 2)[0])


def _status(body: bytes) -> int | None:
    at = 6
    while at + 8 <= len(body):
        group, element, size = struct.unpack_from("<HHL", body, at)
        if (group, element) == (0, 0x0900):
            return int(_US.unpack_from(body, at + 8)[0])
        at += 8 + size
    return None


if __name__ == "__main__":
    _port, _called, _folder, *_pdu_size = sys.argv[1:]
    _objects = [read_part10(path) for path in sorted(Path(_folder).rglob("*")) if path.is_file()]
    print(*send(int(_port), _called, _objects, *map(int, _pdu_size)))
