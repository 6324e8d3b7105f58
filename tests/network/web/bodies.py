"""Bodies of STOW-RS made by hand, and a server with a sink that keeps what it is given."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pydicom

from dicomlake.network.web.app import app
from dicomlake.network.web.limits import WebLimits
from dicomlake.network.web.serving import HttpServer
from tests.network.collecting import Collecting, Noting

BOUNDARY = "edge.of=a part"
TYPE = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
STUDIES = "/dicomweb/studies"
SHORT = WebLimits(stall_s=0.4, linger_s=0.5)


def part(content: bytes, headers: bytes = b"Content-Type: application/dicom\r\n") -> bytes:
    """A part, from its boundary to the end of its content."""
    return b"--" + BOUNDARY.encode() + b"\r\n" + headers + b"\r\n" + content + b"\r\n"


def end() -> bytes:
    """The closing boundary."""
    return b"--" + BOUNDARY.encode() + b"--\r\n"


def multipart(*contents: bytes) -> bytes:
    """A whole body."""
    return b"".join(map(part, contents)) + end()


def dataset_bytes(file: bytes) -> bytes:
    """The data set of a DICOM file: what follows the File Meta Information, as pydicom finds it."""
    stream = io.BytesIO(file)
    pydicom.filereader.read_preamble(stream, force=False)
    pydicom.filereader._read_file_meta_info(stream)
    return file[stream.tell() :]


def uid_of(file: bytes) -> str:
    """SOPInstanceUID, by pydicom."""
    return str(pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).SOPInstanceUID)


class Served:
    """A server, its sink, and a client."""

    def __init__(self, server: HttpServer, sink: Any, watcher: Noting, client: httpx.Client) -> None:
        self.server, self.sink, self.watcher, self.client = server, sink, watcher, client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def post(self, content: Any, *, path: str = STUDIES, **headers: str) -> httpx.Response:
        named = {re.sub("_", "-", name): value for name, value in headers.items()}
        return self.client.post(path, content=content, headers={"content-type": TYPE} | named)


@contextmanager
def served(
    sink: Any = None, *, limits: WebLimits = SHORT, server: Any = None, **how: Any
) -> Iterator[Served]:
    """The application, served on a port of 127.0.0.1."""
    sink = Collecting(whole=True) if sink is None else sink
    watcher = Noting()
    made = app(sink, limits=limits, watcher=watcher, called="LAKE", **how)
    with (
        HttpServer(made, **(server or {})) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=20, trust_env=False) as client,
    ):
        yield Served(running, sink, watcher, client)
