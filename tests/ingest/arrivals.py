"""What the tests of received objects share: requests and data sets as a peer would send them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pydicom

from dicomlake.records import Sender, StoreRequest

SENDER = Sender("SCANNER", "DICOMLAKE", "127.0.0.1", "a1", "scanner")
PIECE = 16_000


def sent(data: bytes, sender: Sender = SENDER) -> tuple[StoreRequest, bytes]:
    """The command and the data set with which a peer sends a DICOM file, by pydicom."""
    stream = BytesIO(data)
    meta = pydicom.filereader.read_preamble(stream, force=False)
    assert meta is not None
    info = pydicom.filereader._read_file_meta_info(stream)
    request = StoreRequest(
        str(info.MediaStorageSOPClassUID),
        str(info.MediaStorageSOPInstanceUID),
        str(info.TransferSyntaxUID),
        sender,
    )
    return request, data[stream.tell() :]


def pieces(data: bytes, size: int = PIECE) -> Iterator[memoryview]:
    """A data set as it comes: in one buffer that is used again for every piece."""
    buffer = bytearray(size)
    for start in range(0, len(data), size):
        part = data[start : start + size]
        buffer[: len(part)] = part
        yield memoryview(buffer)[: len(part)]
    buffer[:] = b"\xff" * size
