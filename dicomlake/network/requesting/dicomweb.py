"""A DICOMweb service as a source of studies: QIDO-RS and WADO-RS (PS3.18 sections 10.4 and 10.6).

httpx reads a body as it comes, so a study needs no memory; dicomweb-client would decode and encode the
objects again. httpx logs URLs, which hold what was asked for: its lines for these requests are dropped.
"""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from dicomlake.dicom import standard
from dicomlake.errors import PeerError
from dicomlake.network.requesting.addresses import web_root
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.failures import Lost
from dicomlake.network.requesting.multipart import File, boundary_of, file_of, parts
from dicomlake.network.requesting.studies import (
    INSTANCE_KEYS,
    SERIES_KEYS,
    STUDY_KEYS,
    Fetched,
    Keys,
    Series,
    Study,
)
from dicomlake.network.seams import Sender, Sink, StoreRequest

if TYPE_CHECKING:
    import httpx

_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PLAIN = 'multipart/related; type="application/dicom"'
_CHUNK = 1 << 18
_PAGES = 1000  # of an answer in pieces; more is a server that repeats itself
_SAFE = frozenset({"stored", "already", "conflict"})
_ASKING: ContextVar[bool] = ContextVar("dicomlake_asking", default=False)


class WebSource:
    """Studies of a DICOMweb service; closes its connections at the end of a `with` block."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        waits: Waits | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """url: the root of the service. headers: such as Authorization. Raises AddressError."""
        import httpx

        waits = waits or Waits()
        self.root = web_root(url)
        logging.getLogger("httpx").addFilter(_not_ours)
        self._client = httpx.Client(
            headers=dict(headers or {}),
            verify=tls if tls is not None else True,
            timeout=httpx.Timeout(waits.answer_s, connect=waits.connect_s),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._client.close()

    def studies(self, keys: Keys) -> list[Study]:
        """As `Source.studies`."""
        found = self._query("/studies", keys, STUDY_KEYS)
        return [study for study in map(Study.of, found) if study.uid]

    def series(self, study: Study) -> list[Series]:
        """As `Source.series`."""
        found = self._query(f"/studies/{_part(study.uid)}/series", {}, SERIES_KEYS)
        return [Series(*(" ".join(one.get(key, ())[:1]) for key in SERIES_KEYS[:3])) for one in found]

    def instances(self, study: Study, series_uid: str) -> set[str]:
        """As `Source.instances`."""
        path = f"/studies/{_part(study.uid)}/series/{_part(series_uid)}/instances"
        found = self._query(path, {}, INSTANCE_KEYS)
        return {uid for one in found for uid in one.get("SOPInstanceUID", ())[:1]}

    def fetch(self, study: Study, series: Iterable[str] | None, sink: Sink) -> Fetched:
        """As `Source.fetch`."""
        root = f"/studies/{_part(study.uid)}"
        paths = [root] if series is None else [f"{root}/series/{_part(uid)}" for uid in series]
        completed, failed, reasons = 0, 0, []
        for path in paths:
            for why in self._instances(path, sink):
                completed, failed = completed + (not why), failed + bool(why)
                reasons += [why] if why else []
        return Fetched(completed, 0, failed, reasons[0] if reasons else "")

    # ---- WADO-RS --------------------------------------------------------------------------------------

    def _instances(self, path: str, sink: Sink) -> Iterator[str]:
        """Take in what comes; "" for each instance that is safe, else the reason."""
        import httpx

        host = urlsplit(self.root).hostname or ""
        sender = Sender("", "", host, uuid.uuid4().hex[:12])
        with self._get(path, accept=_AS_STORED, or_else=_PLAIN) as response:
            boundary = boundary_of(response.headers.get("content-type", ""))
            try:
                for body in parts(response.iter_bytes(_CHUNK), boundary):
                    yield _store(file_of(body), sender, sink)
            except httpx.HTTPError as exc:
                raise Lost(f"the connection ended while a study came ({type(exc).__name__})") from None

    # ---- QIDO-RS --------------------------------------------------------------------------------------

    def _query(self, path: str, keys: Keys, wanted: Iterable[str]) -> list[dict[str, tuple[str, ...]]]:
        """What matches, in as many pages as the server makes of it (PS3.18 section 8.3.4.4)."""
        found: list[dict[str, tuple[str, ...]]] = []
        for _page in range(_PAGES):
            asked = [*keys.items(), *(("includefield", keyword) for keyword in wanted)]
            asked += [("offset", str(len(found)))] if found else []
            with self._get(path, accept="application/dicom+json", params=asked) as response:
                page = [] if response.status_code == 204 else _json(response)
                more = response.headers.get("warning", "").startswith("299")
            fresh = [one for one in map(_by_keyword, page) if one not in found]
            found += fresh
            if not more or not fresh:
                break
        return found

    @contextmanager
    def _get(
        self, path: str, *, accept: str, or_else: str = "", params: Any = None
    ) -> Iterator[httpx.Response]:
        """An answer that is one. Raises PeerError that says what else it was, without the URL."""
        import httpx

        token = _ASKING.set(True)
        try:
            request = self._client.build_request(
                "GET", self.root + path, params=params, headers={"Accept": accept}
            )
            try:
                response = self._client.send(request, stream=True)
            except httpx.HTTPError as exc:
                raise PeerError(
                    f"{self.root} cannot be reached ({type(exc).__name__}): check URL and TLS", temporary=True
                ) from None
            refused = response.status_code in (400, 406) and bool(or_else)
            try:
                if not refused:
                    _check(response.status_code, self.root)
                    yield response
            finally:
                response.close()
        finally:
            _reset(token)
        if refused:
            with self._get(path, accept=or_else, params=params) as second:
                yield second


def _reset(token: Any) -> None:
    try:
        _ASKING.reset(token)
    except ValueError:  # a generator that is closed in another context
        _ASKING.set(False)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not _ASKING.get()


def _part(uid: str) -> str:
    return quote(uid, safe="")


def _check(status: int, root: str) -> None:
    if status in (200, 204, 206):
        return
    known = {
        401: "it wants credentials: pass headers or a token",
        403: "it does not allow this: check the credentials",
        404: "it holds no such thing, or the URL is not its root",
        406: "it offers no DICOM files",
        413: "the answer would be too large for it: narrow the query",
    }
    why = (
        "it answers with a redirect: write the URL it leads to" if 300 <= status < 400 else known.get(status)
    )
    temporary = status in (408, 425, 429) or status >= 500
    raise PeerError(f"{root} answered {status}: {why or 'see its log'}", temporary=temporary)


def _store(file: File, sender: Sender, sink: Sink) -> str:
    request = StoreRequest(file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax, sender)
    stored = sink.store(request, (memoryview(piece) for piece in file.pieces))
    return "" if stored.outcome in _SAFE else f"{stored.outcome}: {stored.detail}".rstrip(": ")


def _json(response: httpx.Response) -> list[Any]:
    import httpx

    try:
        response.read()
        found = response.json()
    except (ValueError, httpx.HTTPError):
        raise PeerError(
            "the answer to a query is no JSON: is the URL the root of a DICOMweb service?"
        ) from None
    return found if isinstance(found, list) else []


def _by_keyword(one: Any) -> dict[str, tuple[str, ...]]:
    """An object of the DICOM JSON Model (PS3.18 section F.2), its plain values."""
    found = {}
    for tag, element in one.items() if isinstance(one, dict) else ():
        entry = standard.lookup(int(tag, 16)) if len(tag) == 8 else None
        values = element.get("Value", ()) if isinstance(element, dict) else ()
        if entry is not None:
            found[entry[1]] = tuple(str(value) for value in values if isinstance(value, str | int | float))
    return found
