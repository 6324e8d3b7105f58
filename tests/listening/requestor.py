"""A modality by pynetdicom: asks for commitment, and takes reports on its association or at its port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.network.requests import CT, INSTANCE, MR, PUSH_MODEL, TRANSACTION, action

__all__ = ["CT", "INSTANCE", "MR", "PUSH_MODEL", "TRANSACTION", "Requestor", "information"]
Pair = tuple[str, str]


class Requestor:
    """statuses: to answer reports with, in their order; then success. before_answer: called when one came."""

    def __init__(self, statuses: Sequence[int] = ()) -> None:
        self._statuses = list(statuses)
        self._reports: Queue[tuple[int, Dataset]] = Queue()
        self.before_answer: Callable[[], None] = lambda: None

    def _take(self, event: Any) -> tuple[int, None]:
        assert event.request.AffectedSOPInstanceUID == INSTANCE
        self.before_answer()
        self._reports.put((event.event_type, event.event_information))
        return (self._statuses.pop(0) if self._statuses else 0x0000), None

    def next(self) -> tuple[int, Dataset]:
        """Type and data set of the next report."""
        return self._reports.get(timeout=15)

    def none(self, seconds: float = 0.3) -> bool:
        """Whether none comes for a while."""
        try:
            self._reports.get(timeout=seconds)
        except Empty:
            return True
        return False

    @contextmanager
    def associated(self, port: int, *, take: bool = True) -> Iterator[Callable[..., int]]:
        """An association; what it gives asks about objects and returns the status."""
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(PUSH_MODEL, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)] if take else []
        association = entity.associate("127.0.0.1", port, ae_title="DICOMLAKE", evt_handlers=handlers)
        assert association.is_established

        def ask(objects: Sequence[Pair], transaction: str = TRANSACTION) -> int:
            answer, _reply = association.send_n_action(
                action(*objects, transaction=transaction), 1, PUSH_MODEL, INSTANCE
            )
            return int(answer.Status)

        try:
            yield ask
        finally:
            association.release()

    @contextmanager
    def listening(self) -> Iterator[tuple[str, int]]:
        """A server for reports; its address."""
        entity = AE(ae_title="MODALITY")
        entity.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        try:
            yield "127.0.0.1", server.server_address[1]
        finally:
            server.shutdown()


def information(report: Dataset) -> tuple[set[Pair], dict[Pair, int]]:
    """Which objects a report says are safe, and which are not, with the reason."""

    def pair(item: Dataset) -> Pair:
        return str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)

    safe = {pair(item) for item in report.get("ReferencedSOPSequence", [])}
    return safe, {pair(item): item.FailureReason for item in report.get("FailedSOPSequence", [])}
