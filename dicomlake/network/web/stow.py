"""STOW-RS: a body of DICOM files, handed to a sink one after another (PS3.18 section 10.5).

All of this runs in a thread and draws the body from an iterator; `app` feeds it. The data set of a part is
stored byte for byte. Its preamble and File Meta Information are read and not kept: as for an object that
came by C-STORE, the sink writes a File Meta Information of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from time import monotonic

from dicomlake.errors import BrokenObject, NotADicomObject
from dicomlake.network import statuses
from dicomlake.network.seams import Sender, Sink, Stored, StoreRequest, Watcher
from dicomlake.network.web import multipart, part10
from dicomlake.network.web.answers import Answer, Result
from dicomlake.network.web.failures import Malformed, NotTaken, TooLarge, WebError
from dicomlake.network.web.limits import WebLimits
from dicomlake.network.web.media import MediaType, boundary_of, media_type

DICOM = "application/dicom"
CALLING = "STOW-RS"
_ENCODINGS = ("binary", "8bit", "7bit", "")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Store:
    """Where objects go, and how: the sink, who is told, the bounds, the status of an object in conflict."""

    sink: Sink
    watcher: Watcher
    limits: WebLimits
    conflict: int = statuses.SUCCESS

    def take(
        self, chunks: Iterable[bytes], body: MediaType, sender: Sender, study_uid: str | None = None
    ) -> Answer:
        """Store what a body holds; what became of it. Never stops at one bad object.

        study_uid: the study that the objects must be of. What the chunks raise, if it is a WebError, ends
        the answer; what was stored before stays.
        """
        answer = Answer()
        self.watcher.opened(sender)
        try:
            for part in self._parts(_counted(chunks, self.limits.request_bytes), body):
                if len(answer.results) == self.limits.parts:
                    raise TooLarge(f"a body of more than {self.limits.parts} parts: send several")
                answer.results.append(_Object(self, part, sender, study_uid).take(answer))
            if not answer.results:
                raise Malformed("the body holds no part")
        except WebError as error:
            answer.error = error
        self.watcher.closed(sender, answer.error.how if answer.error else "released")
        return answer

    def _parts(self, chunks: Iterator[bytes], body: MediaType) -> Iterator[multipart.Part]:
        if body.name == DICOM:
            yield multipart.Part({}, map(memoryview, chunks))
            for _left in chunks:
                pass
            return
        yield from multipart.parts(chunks, boundary_of(body), header_bytes=self.limits.header_bytes)


def taken_type(content_type: str, content_encoding: str = "") -> MediaType:
    """The media type of a body. Raises NotTaken for what is not taken, Malformed for what makes no sense."""
    if content_encoding.strip().lower() not in ("", "identity"):
        raise NotTaken("a body with Content-Encoding is not taken: send it as it is")
    if not content_type:
        raise NotTaken(f'Content-Type is missing: send multipart/related; type="{DICOM}"; boundary=...')
    body = media_type(content_type)
    kind = body.parameters.get("type", DICOM).strip().lower()
    if body.name == DICOM:
        return body
    if body.name != "multipart/related":
        raise NotTaken(f'send multipart/related; type="{DICOM}", or one file as {DICOM}')
    if kind != DICOM:
        raise NotTaken(f"metadata with bulk data are not taken: send DICOM files, with type={DICOM}")
    boundary_of(body)
    return body


class _TooLong(Exception):
    """An object larger than one may be."""


class _Object:
    """One part on its way to the sink."""

    def __init__(self, store: Store, part: multipart.Part, sender: Sender, study_uid: str | None) -> None:
        self.store, self.part, self.sender, self.study_uid = store, part, sender, study_uid
        self.request = StoreRequest("", "", "", sender)

    def take(self, answer: Answer) -> Result:
        """Store it; what became of it, or why it was not tried."""
        began = monotonic()
        try:
            stored = self._stored()
        except WebError as error:
            if self.request.sop_instance_uid:
                answer.results.append(self._result(Stored("unreadable", str(error))))
            raise
        except NotADicomObject as error:
            stored = Stored("unreadable", str(error))
        except _TooLong:
            stored = Stored("full", f"larger than {self.store.limits.object_bytes} bytes")
            return replace(self._result(stored), full=False)
        except Exception as error:  # a bulk verb goes on; messages of others may hold values
            stored = Stored("failed", type(error).__name__)
        if self.request.sop_instance_uid:
            self.store.watcher.stored(self.request, stored, monotonic() - began)
        return self._result(stored)

    def _stored(self) -> Stored:
        self._check_headers()
        limits = self.store.limits
        file = part10.read_file(_cut(self.part.pieces, limits.object_bytes), meta_bytes=limits.meta_bytes)
        if not file.transfer_syntax:
            raise BrokenObject("the File Meta Information names no transfer syntax")
        self._name(file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax)
        tag = part10.SOP_INSTANCE if self.study_uid is None else part10.STUDY
        known = file.look(tag, most=limits.look_bytes)
        # the data set counts: in many files that were anonymized, the file meta still names another object
        sop_class = known.get(part10.SOP_CLASS) or file.sop_class_uid
        sop_instance = known.get(part10.SOP_INSTANCE) or file.sop_instance_uid
        if not self._name(sop_class, sop_instance, file.transfer_syntax):
            raise BrokenObject("SOP Class, SOP Instance or Transfer Syntax UID is missing or is no UID")
        if self.study_uid is not None and known.get(part10.STUDY, "") != self.study_uid:
            return Stored("mismatch", "its StudyInstanceUID is not that of the URL")
        return self.store.sink.store(self.request, file.pieces)

    def _name(self, sop_class: str, sop_instance: str, syntax: str) -> bool:
        """Make the request of these, if they are UIDs."""
        named = all(map(_UID.fullmatch, (sop_class, sop_instance, syntax)))
        if named:
            self.request = StoreRequest(sop_class, sop_instance, syntax, self.sender)
        return named

    def _check_headers(self) -> None:
        headers = self.part.headers
        if "content-type" in headers and media_type(headers["content-type"]).name != DICOM:
            raise NotADicomObject(f"a part that is not {DICOM}")
        if headers.get("content-transfer-encoding", "").lower() not in _ENCODINGS:
            raise NotADicomObject("a part with a Content-Transfer-Encoding, which HTTP does not have")

    def _result(self, stored: Stored) -> Result:
        code = statuses.store_status(stored.outcome, conflict=self.store.conflict)
        uids = self.request.sop_class_uid, self.request.sop_instance_uid
        return Result(*uids, code, stored.detail, stored.outcome == "full")


def _counted(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise TooLarge(f"a body of more than {most} bytes: send several")
        yield chunk


def _cut(pieces: Iterator[memoryview], most: int) -> Iterator[memoryview]:
    left = most
    for piece in pieces:
        if left and piece:
            yield piece[:left]
        if len(piece) > left:
            raise _TooLong
        left -= len(piece)
