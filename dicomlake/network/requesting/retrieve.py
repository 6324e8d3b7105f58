"""A DIMSE peer as a source of studies: C-FIND, then C-GET or C-MOVE (PS3.4 sections C.4.2, C.4.3)."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from dicomlake.errors import PeerError
from dicomlake.network import statuses
from dicomlake.network.requesting import answers
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Context, Waits, ask, associated
from dicomlake.network.requesting.contexts import get_contexts
from dicomlake.network.requesting.find import (
    MODELS,
    UNCOMPRESSED,
    Found,
    Level,
    Question,
    Root,
    context_of,
    find,
    find_context,
)
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
    from pynetdicom.association import Association


@dataclass(frozen=True, slots=True)
class DimseSource:
    """Studies of a peer. by: "get", or "move" to `move_to`, an AE title that the peer knows a way to."""

    address: Address
    calling: str
    by: Literal["get", "move"] = "get"
    move_to: str = ""
    root: Root = "study"
    tls: ssl.SSLContext | None = None
    waits: Waits = field(default_factory=Waits)

    def studies(self, keys: Keys) -> list[Study]:
        """As `Source.studies`."""
        found = self._find("STUDY", keys, STUDY_KEYS)
        return [study for study in map(Study.of, found) if study.uid]

    def series(self, study: Study) -> list[Series]:
        """As `Source.series`."""
        found = self._find("SERIES", self._within(study), SERIES_KEYS)
        return [
            Series(*(" ".join(one.get(key, ())[:1]).strip() for key in SERIES_KEYS[:3]))
            for one in found
            if one.get("SeriesInstanceUID")
        ]

    def instances(self, study: Study, series_uid: str) -> set[str]:
        """As `Source.instances`."""
        within = {**self._within(study), "SeriesInstanceUID": series_uid}
        found = self._find("IMAGE", within, INSTANCE_KEYS)
        return {uid.strip() for one in found for uid in one.get("SOPInstanceUID", ())[:1]}

    def fetch(self, study: Study, series: Iterable[str] | None, sink: Sink) -> Fetched:
        """As `Source.fetch`."""
        parts = [None] if series is None else [[uid] for uid in series]
        found = Fetched()
        for part in parts:
            how = self._get if self.by == "get" else self._move
            found = _sum(found, how(study, part, sink))
        return found

    def _within(self, study: Study) -> dict[str, str]:
        """The unique keys above a study's content."""
        above = {"PatientID": study.patient_id} if self.root == "patient" else {}
        return {**above, "StudyInstanceUID": study.uid}

    def _find(self, level: Level, keys: Keys, wanted: Sequence[str]) -> list[Found]:
        with self._associated([find_context(self.root)]) as association:
            return find(association, Question(level, keys, tuple(wanted)), root=self.root)

    @contextmanager
    def _associated(self, contexts: Sequence[Context], handlers: Sequence[Any] = ()) -> Iterator[Association]:
        how: dict[str, Any] = {"calling": self.calling, "tls": self.tls, "waits": self.waits}
        with associated(self.address, contexts, handlers=handlers, **how) as association:
            yield association

    def _get(self, study: Study, series: Sequence[str] | None, sink: Sink) -> Fetched:
        from pynetdicom import evt
        from pynetdicom.dimse_primitives import C_GET

        model = MODELS[self.root].get
        contexts = [Context(model, UNCOMPRESSED), *get_contexts(study)]
        handler = (evt.EVT_C_STORE, _taker(sink, self.address, self.calling))
        with self._associated(contexts, [handler]) as association:
            return self._ask(association, C_GET(), model, study, series)

    def _move(self, study: Study, series: Sequence[str] | None, _sink: Sink) -> Fetched:
        from pynetdicom.dimse_primitives import C_MOVE

        model, request = MODELS[self.root].move, C_MOVE()
        request.MoveDestination = self.move_to or self.calling
        with self._associated([Context(model, UNCOMPRESSED)]) as association:
            return self._ask(association, request, model, study, series)

    def _ask(
        self, association: Association, request: Any, model: str, study: Study, series: Sequence[str] | None
    ) -> Fetched:
        """Send the request and read the counts of the last response (PS3.7 sections 9.1.3 and 9.1.4)."""
        keys, level = self._within(study), "STUDY"
        if series is not None:
            keys, level = {**keys, "SeriesInstanceUID": "\\".join(series)}, "SERIES"
        context, syntax = context_of(association, model)
        request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 0, model
        request.Identifier = BytesIO(Question(level, keys).encoded(syntax))  # type: ignore[arg-type]
        last: Mapping[str, int] = {}
        status = 0
        for response in ask(association, request, context):
            status = int(response.Status)
            last = {**last, **_counts(response)}
        failed = last.get("Failed", 0)
        if not answers.is_success(status) and not answers.is_warning(status) and not sum(last.values()):
            raise PeerError(_refusal(status, self), temporary=status & 0xFF00 == 0xA700 and status != 0xA701)
        reason = answers.meaning(status) if not answers.is_success(status) else ""
        return Fetched(last.get("Completed", 0), last.get("Warning", 0), failed, reason)


def _counts(response: Any) -> dict[str, int]:
    names = ("Completed", "Warning", "Failed")
    found = {name: getattr(response, f"NumberOf{name}Suboperations") for name in names}
    return {name: int(value) for name, value in found.items() if value is not None}


def _refusal(status: int, source: DimseSource) -> str:
    if status == 0xA801:
        target = source.move_to or source.calling
        return f"the peer knows no way to {target}: let its operator add the AE title, host and port"
    told = f"the peer does not send the study: {answers.meaning(status)}"
    if source.by == "move":  # many peers answer so when they cannot reach, or do not know, the destination
        told += f"; does it know {source.move_to or source.calling} at our address?"
    return told


def _sum(one: Fetched, other: Fetched) -> Fetched:
    return Fetched(
        one.completed + other.completed,
        one.warnings + other.warnings,
        one.failed + other.failed,
        one.reason or other.reason,
    )


def _taker(sink: Sink, address: Address, called: str) -> Callable[[Any], int]:
    """What takes the objects of a C-GET in; the peer gets the sink's own status."""
    token = uuid.uuid4().hex[:12]

    def take(event: Any) -> int:
        request = event.request
        sender = Sender(address.ae_title, called, event.assoc.acceptor.address or address.host, token)
        wanted = StoreRequest(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            sender,
        )
        view = memoryview(request.DataSet.getvalue())
        return statuses.store_status(sink.store(wanted, iter((view,))).outcome)

    return take
