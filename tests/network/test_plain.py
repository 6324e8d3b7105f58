"""The plain server gives the sink what was sent, answers by the listed statuses, and lets in nobody else."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from dicomlake.errors import DicomlakeError
from dicomlake.network import dimse, statuses
from dicomlake.network.limits import Limits
from dicomlake.network.peers import ANYWHERE, Peer, Peers
from dicomlake.network.plain import PlainServer
from dicomlake.network.seams import Message, Outcome, Replies, Reply, Stored
from dicomlake.network.server import Server
from tests.network.collecting import Collecting, Noting
from tests.objects import as_bytes, dataset, dicom
from tests.support import pydicom_files

PRIVATE = "1.2.826.0.1.3680043.8.498.77"


KINDS = {"plain": PlainServer, "fast": Server}


@contextmanager
def running(sink: Any, *, kind: str = "plain", peers: Peers | None = None, **others: Any) -> Iterator[Any]:
    """A server that listens; other arguments as its own."""
    others = {"ae_titles": ("LAKE",), "host": "127.0.0.1", "port": 0, **others}
    server = KINDS[kind](sink, others.pop("services", ()), peers or Peers.any(), Limits(), **others)
    server.start()
    try:
        yield server
    finally:
        server.stop(2.0)


@contextmanager
def calling(
    server: Any,
    contexts: list[PresentationContext],
    *,
    called: str = "LAKE",
    title: str = "CT1",
    **others: Any,
) -> Iterator[Any]:
    """An association of pynetdicom as the requestor."""
    entity = AE(title)
    entity.requested_contexts = contexts
    association = entity.associate("127.0.0.1", server.port, ae_title=called, **others)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        if association.is_alive():
            association.join(10)


def contexts_of(data: Mapping[str, pydicom.Dataset]) -> list[PresentationContext]:
    pairs = sorted({(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in data.values()})
    return [build_context(abstract, syntax) for abstract, syntax in pairs]


def sendable(paths: Iterable[Path]) -> dict[str, Path]:
    """The DICOM files among these that have what a C-STORE-RQ needs, by SOP Instance UID."""
    found: dict[str, Path] = {}
    for path in paths:
        with suppress(Exception):
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            uids = [ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID]
            if all(UID(uid).is_valid for uid in uids) and ds.file_meta.MediaStorageSOPInstanceUID == uids[1]:
                found.setdefault(str(ds.SOPInstanceUID), path)
    return found


def dataset_bytes(path: Path) -> bytes:
    """What follows the file meta information, found by pydicom."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def send_raw(server: Any, files: Mapping[str, Path]) -> dict[str, int]:
    """Send files as they are by pynetdicom, which then changes no byte; the status of each."""
    answers: dict[str, int] = {}
    headers = {uid: pydicom.dcmread(path, stop_before_pixels=True) for uid, path in files.items()}
    with calling(server, contexts_of(headers)) as association:
        assert association.is_established
        numbers = {
            (str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id
            for c in association.accepted_contexts
        }
        association._reactor_checkpoint.clear()  # or its thread would take some of the answers
        time.sleep(0.1)
        _until(lambda: association._is_paused)
        for message, (uid, path) in enumerate(files.items(), 1):
            header = headers[uid]
            request = _request(header, message, dataset_bytes(path))
            number = numbers[str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID)]
            association.dimse.send_msg(request, number)
            _number, answer = association.dimse.get_msg(block=True)
            answers[uid] = answer.Status
        association._reactor_checkpoint.set()
    return answers


def _request(header: pydicom.Dataset, message: int, content: bytes) -> Any:
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = message
    request.AffectedSOPClassUID = header.SOPClassUID
    request.AffectedSOPInstanceUID = header.SOPInstanceUID
    request.Priority = 2
    request.DataSet = BytesIO(content)
    return request


# ---- bytes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_sink_gets_the_bytes_of_every_file_of_pydicom(kind: str) -> None:
    files = sendable(pydicom_files())
    assert len(files) > 60
    sink = Collecting()
    with running(sink, kind=kind) as server:
        answers = send_raw(server, files)
    assert set(answers.values()) == {0}
    assert sink.received.keys() == files.keys()
    different = [
        path.name
        for uid, path in files.items()
        if sink.received[uid][1] != hashlib.sha256(dataset_bytes(path)).digest()
    ]
    assert different == []
    requests = {uid: request for uid, (request, _digest) in sink.received.items()}
    headers = {uid: pydicom.dcmread(path, stop_before_pixels=True) for uid, path in files.items()}
    assert {uid: (r.sop_class_uid, r.transfer_syntax) for uid, r in requests.items()} == {
        uid: (str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for uid, ds in headers.items()
    }


def test_both_servers_get_the_same_bytes_of_real_files(real_data: Path) -> None:
    paths = [path for path in sorted(real_data.rglob("*")) if path.is_file() and path.stat().st_size < 30e6]
    files = dict(list(sendable(paths[::12]).items())[:60])
    got = {}
    for kind in KINDS:
        sink = Collecting()
        with running(sink, kind=kind) as server:
            assert set(send_raw(server, files).values()) == {0}
        got[kind] = {uid: digest for uid, (_request, digest) in sink.received.items()}
    assert len(got["plain"]) == len(files) > 20
    assert got["plain"] == got["fast"]


@pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed")
def test_both_servers_get_the_same_from_storescu(tmp_path: Path) -> None:
    for number in range(1, 9):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(number, size=64 * number))
    got = {}
    for kind in ("plain", "fast"):
        sink = Collecting()
        with running(sink, kind=kind) as server:
            command = ["storescu", "-aet", "CT1", "-aec", "LAKE", "127.0.0.1", str(server.port), "+sd"]
            subprocess.run([*command, str(tmp_path)], check=True, timeout=60)
        got[kind] = {uid: digest for uid, (_request, digest) in sink.received.items()}
    assert len(got["plain"]) == 8
    assert got["plain"] == got["fast"]


@pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed")
def test_storescu_and_echoscu_are_answered(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(dicom(1))
    sink = Collecting(whole=True)
    with running(sink) as server:
        to = ["-aet", "CT1", "-aec", "LAKE", "127.0.0.1", str(server.port)]
        subprocess.run(["echoscu", *to], check=True, timeout=60)
        subprocess.run(["storescu", *to, str(tmp_path / "1.dcm")], check=True, timeout=60)
    ((_request, content),) = sink.received.values()
    read = pydicom.dcmread(BytesIO(content), force=True)
    assert read.SOPInstanceUID == dataset(1).SOPInstanceUID
    assert read.PixelData == dataset(1).PixelData


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_class_is_stored_like_any_other(kind: str) -> None:
    ds = dataset(1, SOPClassUID=PRIVATE)
    ds.file_meta.MediaStorageSOPClassUID = PRIVATE
    sink = Collecting()
    with running(sink, kind=kind) as server, calling(server, [build_context(PRIVATE)]) as association:
        assert association.send_c_store(ds).Status == 0
    assert [request.sop_class_uid for request, _content in sink.received.values()] == [PRIVATE]


# ---- statuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", statuses.STORE)
def test_what_became_of_an_object_is_answered_by_the_listed_status(outcome: Outcome) -> None:
    watcher = Noting()
    with (
        running(Collecting(Stored(outcome)), watcher=watcher) as server,
        calling(server, [build_context(CTImageStorage)]) as association,
    ):
        answered = association.send_c_store(dataset(1)).Status
    assert answered == statuses.STORE[outcome]
    assert ("stored", str(dataset(1).SOPInstanceUID), outcome) in watcher.events


@pytest.mark.parametrize("kind", KINDS)
def test_what_answers_a_conflict_can_be_chosen(kind: str) -> None:
    with (
        running(Collecting(Stored("conflict")), kind=kind, conflict_status=0xB000) as server,
        calling(server, [build_context(CTImageStorage)]) as association,
    ):
        assert association.send_c_store(dataset(1)).Status == 0xB000


def test_a_sink_that_fails_is_answered_and_its_words_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def store(self, request: Any, pieces: Any) -> Stored:
            raise ValueError("Doe^Jane")

    with running(Failing()) as server, calling(server, [build_context(CTImageStorage)]) as association:
        assert association.send_c_store(dataset(1)).Status == statuses.PROCESSING_FAILURE
        assert association.send_c_store(dataset(2)).Status == statuses.PROCESSING_FAILURE
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text


# ---- who is let in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_not_on_the_list_is_rejected(kind: str) -> None:
    peers = Peers((Peer("ct", "CT1", ANYWHERE),))
    with running(Collecting(), kind=kind, peers=peers) as server:
        with calling(server, [build_context(Verification)], title="CT1") as association:
            assert association.is_established
        for title, called in (("CT2", "LAKE"), ("ct1", "LAKE"), ("CT1", "OTHER")):
            with calling(server, [build_context(Verification)], title=title, called=called) as association:
                # pynetdicom may see the end of the connection before it has read the rejection: test_server
                assert not association.is_established


def test_an_address_that_no_peer_has_is_not_answered_at_all() -> None:
    watcher = Noting()
    peers = Peers.parse([{"ae_title": "CT1", "hosts": ["192.0.2.7"]}], "test")
    with (
        running(Collecting(), peers=peers, watcher=watcher) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as connection,
    ):
        assert connection.recv(10) == b""
    assert watcher.events == [("refused", "", "unknown host")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_may_do_only_what_its_entry_says(kind: str) -> None:
    peers = Peers((Peer("echo", "CT1", ANYWHERE, frozenset({"echo"})),))
    with (
        running(Collecting(), kind=kind, peers=peers) as server,
        calling(server, [build_context(Verification), build_context(CTImageStorage)]) as association,
    ):
        assert [str(c.abstract_syntax) for c in association.accepted_contexts] == [Verification]
        assert association.send_c_echo().Status == 0


def test_associations_of_a_peer_are_counted_and_come_free_again() -> None:
    peers = Peers((Peer("ct", "CT1", ANYWHERE, associations=1),))
    watcher = Noting()
    with running(Collecting(), peers=peers, watcher=watcher) as server:
        with calling(server, [build_context(Verification)]) as first:
            assert first.is_established
            with calling(server, [build_context(Verification)]) as second:
                assert second.is_rejected
        _until(lambda: server.associations == 0)
        with calling(server, [build_context(Verification)]) as third:
            assert third.is_established
    assert ("refused", "CT1", "too many associations") in watcher.events
    assert watcher.events.count(("opened", "CT1", "ct")) == 2
    assert ("closed", "CT1", "released") in watcher.events


def test_stopping_aborts_who_does_not_end() -> None:
    watcher = Noting()
    aborted: list[Any] = []
    with running(Collecting(), watcher=watcher) as server:
        handlers = [(evt.EVT_ABORTED, aborted.append)]
        with calling(server, [build_context(Verification)], evt_handlers=handlers) as association:
            server.stop(0.1)
            _until(lambda: not association.is_established)
    assert len(aborted) == 1
    assert watcher.events[-1] == ("closed", "CT1", "stopped")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 10)


def test_a_socket_that_is_given_is_listened_on() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    with given, running(Collecting(), socket=given) as server:
        assert server.port == port
        with calling(server, [build_context(Verification)]) as association:
            assert association.send_c_echo().Status == 0


# ---- services --------------------------------------------------------------------------------------------


class Asking:
    """Answers C-FIND on one class with two matches, after an N-EVENT-REPORT-RQ of its own."""

    operation = "find"
    sop_classes = ("1.2.840.10008.5.1.4.1.2.2.1",)

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def answer(self, message: Message) -> Replies:
        self.messages.append(message)
        command = {
            dimse.AFFECTED_CLASS: message.abstract_syntax,
            dimse.FIELD: 0x8020,
            dimse.RESPONDED_ID: message.command[dimse.MESSAGE_ID],
        }
        for _ in range(2):
            yield Reply({**command, dimse.STATUS: 0xFF00}, message.dataset)
        if message.command.get(0x0700) == 0:  # Priority
            raise DicomlakeError("no")
        yield Reply({**command, dimse.STATUS: 0})


@pytest.mark.parametrize(("priority", "final"), [(2, 0), (0, statuses.PROCESSING_FAILURE)])
def test_a_service_answers_what_pynetdicom_hands_to_it(priority: int, final: int) -> None:
    service = Asking()
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.PatientID = "STUDY", "phantom"
    peers = Peers((Peer("ws", "CT1", ANYWHERE, frozenset({"find"})),))
    model = service.sop_classes[0]
    with (
        running(Collecting(), peers=peers, services=[service]) as server,
        calling(server, [build_context(model, ImplicitVRLittleEndian)]) as association,
    ):
        answers = list(association.send_c_find(query, model, priority=priority))
    assert [status.Status for status, _identifier in answers] == [0xFF00, 0xFF00, final]
    assert [found == query for _status, found in answers[:2]] == [True, True]
    (message,) = service.messages
    assert message.command[dimse.FIELD] == 0x0020
    assert (message.abstract_syntax, message.sender.calling, message.sender.peer) == (model, "CT1", "ws")


class Getting(Asking):
    """Answers C-GET by sending one object in pieces on the context that the peer takes it on."""

    operation = "get"
    sop_classes = ("1.2.840.10008.5.1.4.1.2.2.3",)

    def answer(self, message: Message) -> Replies:
        self.messages.append(message)
        ds = dataset(3)
        file = BytesIO(as_bytes(ds))
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        content = file.read()
        answered = yield Reply(
            {0x0002: str(ds.SOPClassUID), 0x0100: 1, 0x0110: 7, 0x0700: 2, 0x1000: str(ds.SOPInstanceUID)},
            iter([content[:100], content[100:]]),
            abstract_syntax=str(ds.SOPClassUID),
            transfer_syntax=str(ds.file_meta.TransferSyntaxUID),
        )
        assert answered is not None
        yield Reply(
            {
                dimse.AFFECTED_CLASS: message.abstract_syntax,
                dimse.FIELD: 0x8010,
                dimse.RESPONDED_ID: message.command[dimse.MESSAGE_ID],
                dimse.STATUS: 0 if answered.status == 0 else 0xA702,
            }
        )


def test_a_service_sends_objects_on_the_association_that_asks_for_them() -> None:
    service, got = Getting(), []
    peers = Peers((Peer("ws", "CT1", ANYWHERE, frozenset({"get"})),))
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2.3"

    def keep(event: Any) -> int:
        got.append(event.encoded_dataset(include_meta=False))
        return 0

    model = service.sop_classes[0]
    contexts = [build_context(uid, ExplicitVRLittleEndian) for uid in (model, CTImageStorage, MRImageStorage)]
    with (
        running(Collecting(), peers=peers, services=[service]) as server,
        calling(
            server,
            contexts,
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        ) as association,
    ):
        (answer,) = [status.Status for status, _ in association.send_c_get(query, model)]
    assert answer == 0
    assert pydicom.dcmread(BytesIO(got[0]), force=True).PixelData == dataset(3).PixelData
    assert str(CTImageStorage) in service.messages[0].contexts
    assert str(MRImageStorage) not in service.messages[0].contexts


def _until(true: Callable[[], bool], seconds: float = 10) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_the_port_is_free_after_stopping() -> None:
    with running(Collecting()) as server:
        port = server.port
    with closing(socket.create_server(("127.0.0.1", port))):
        pass
