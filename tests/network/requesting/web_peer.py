"""A DICOMweb service after PS3.18, small, on 127.0.0.1; fails in chosen ways."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pydicom

BOUNDARY = "a-b=c d"


class WebPeer:
    """Objects, and what was asked. cut: how many retrievals of a study end in the middle."""

    def __init__(self, objects: Sequence[bytes]) -> None:
        self.objects = [(pydicom.dcmread(BytesIO(data), stop_before_pixels=True), data) for data in objects]
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()
        self.cut = 0
        self.busy = 0
        self.page: int | None = None
        self.star = True
        self.token = ""
        self.url = ""

    def query(self, level: str, keys: dict[str, str]) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for ds, _data in self.objects:
            if all(
                str(ds.get(key, "")) == value for key, value in keys.items() if key != "ModalitiesInStudy"
            ):
                of_study = [o for o, _d in self.objects if o.StudyInstanceUID == ds.StudyInstanceUID]
                answer = pydicom.Dataset()
                for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "PatientID"):
                    if keyword in ds:
                        setattr(answer, keyword, ds[keyword].value)
                answer.ModalitiesInStudy = sorted({o.Modality for o in of_study})
                answer.NumberOfStudyRelatedInstances = len(of_study)
                for keyword in ("SeriesInstanceUID", "Modality", "BodyPartExamined", "SOPInstanceUID"):
                    if keyword in ds:
                        setattr(answer, keyword, ds[keyword].value)
                found.setdefault(str(ds[level].value), answer.to_json_dict())
        return list(found.values())

    def body(self, keys: dict[str, str]) -> Iterator[bytes]:
        chosen = [(o, d) for o, d in self.objects if all(str(o.get(k, "")) == v for k, v in keys.items())]
        for number, (ds, data) in enumerate(chosen):
            if self.cut and number == 4:
                self.cut -= 1
                return
            self.sent[str(ds.SOPInstanceUID)] += 1
            yield f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + data
        yield f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def serving(objects: Sequence[bytes]) -> Iterator[WebPeer]:
    """The service at its url until the end of the block."""
    peer = WebPeer(objects)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: Any) -> None:
            pass

        def do_GET(self) -> None:
            peer.requests.append(self.path)
            parts = urlsplit(self.path)
            names = parts.path.removeprefix("/dicom-web").strip("/").split("/")
            asked = dict(parse_qsl(parts.query))
            if peer.token and self.headers.get("Authorization") != f"Bearer {peer.token}":
                return self._answer(401, b"")
            if peer.busy:
                peer.busy -= 1
                return self._answer(503, b"")
            keys = dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), names[1::2], strict=False))
            if "dicom+json" in self.headers.get("Accept", ""):
                return self._query(names, keys, asked)
            if "transfer-syntax=*" in self.headers["Accept"] and not peer.star:
                return self._answer(406, b"")
            self.send_response(200)
            self.send_header(
                "Content-Type", f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
            )
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in peer.body(keys):
                for start in range(0, len(piece), 700):
                    part = piece[start : start + 700]
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return None

        def _query(self, names: list[str], keys: dict[str, str], asked: dict[str, str]) -> None:
            level = {
                "studies": "StudyInstanceUID",
                "series": "SeriesInstanceUID",
                "instances": "SOPInstanceUID",
            }
            offset = int(asked.pop("offset", 0))
            asked.pop("includefield", None)
            found = peer.query(level[names[-1]], {**keys, **asked})[offset:]
            warning = peer.page is not None and len(found) > peer.page
            found = found[: peer.page]
            self._answer(200 if found else 204, json.dumps(found).encode() if found else b"", warning=warning)

        def _answer(self, status: int, body: bytes, *, warning: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            if warning:
                self.send_header("Warning", '299 x "There are additional results"')
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    peer.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
