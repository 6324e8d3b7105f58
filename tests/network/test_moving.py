"""C-MOVE answers as PS3.4 section C.4.2 says, and sends every object once, unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicomlake.errors import CatalogError, PeerError
from dicomlake.network.peers import Peer
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.outgoing import Original, Outgoing
from dicomlake.network.seams import Cancelled, Reply
from dicomlake.network.services.finding import Found
from dicomlake.network.services.forwarding import Forward
from dicomlake.network.services.levels import Level
from dicomlake.network.services.moving import MoveService, Originator
from tests.network.questions import MOVE, PATIENT_ROOT, STUDY_ROOT, all_of, decoded, keys, message
from tests.objects import ROOT, dicom
from tests.support import pydicom_files

THERE = Peer("archive", "ARCHIVE", address=("127.0.0.1", 11113))
NOWHERE = Peer("workstation", "NOWHERE")
CT = "1.2.840.10008.5.1.4.1.1.2"


class Holds:
    """A Finder that holds these objects."""

    def __init__(self, objects: Sequence[Outgoing], error: Exception | None = None) -> None:
        self.objects, self.error = objects, error
        self.asked: list[Mapping[str, Sequence[str]]] = []

    def match(
        self, level: Level, keys: Mapping[str, str], return_keys: Sequence[str]
    ) -> Generator[Found, None, None]:
        raise NotImplementedError

    def instances(self, uids: Mapping[str, Sequence[str]]) -> Sequence[Outgoing]:
        self.asked.append(uids)
        if self.error:
            raise self.error
        return self.objects


class Sends:
    """A `Send` whose objects are answered with these statuses; fails after the last."""

    def __init__(self, statuses: Sequence[int | None], error: Exception | None = None) -> None:
        self.statuses, self.error = statuses, error
        self.calls: list[tuple[Peer, str, Originator]] = []
        self.closed = False

    def __call__(
        self, objects: Sequence[Outgoing], destination: Peer, *, calling: str, originator: Originator
    ) -> Generator[tuple[Outgoing, int | None], None, None]:
        self.calls.append((destination, calling, originator))
        try:
            yield from zip(objects, self.statuses, strict=False)
            if self.error:
                raise self.error
        finally:
            self.closed = True


def objects(count: int) -> list[Outgoing]:
    return [Original.of(dicom(number)) for number in range(1, count + 1)]


def uid(number: int) -> str:
    return f"{ROOT}.1.1.{number}"


def request(destination: str = "ARCHIVE", **unique: Any) -> Any:
    unique = unique or {"StudyInstanceUID": "1.2"}
    return message(keys("STUDY", **unique), STUDY_ROOT, MOVE, x0600=destination)


def service(finder: Holds, send: Any, **how: Any) -> MoveService:
    known = {peer.ae_title: peer for peer in (THERE, NOWHERE)}
    return MoveService(finder, send, known.get, **how)


def counts(reply: Reply) -> dict[str, int | None]:
    names = {"remaining": 0x1020, "completed": 0x1021, "failed": 0x1022, "warning": 0x1023}
    return {name: reply.command.get(element) for name, element in names.items()}  # type: ignore[misc]


def failed_list(reply: Reply) -> list[str]:
    if not reply.dataset:
        return []
    found = decoded(reply.dataset).FailedSOPInstanceUIDList
    return [found] if isinstance(found, str) else list(found)


@pytest.mark.parametrize(
    ("statuses", "final", "failed", "warning"),
    [
        ((0, 0, 0), 0x0000, (), 0),
        ((0, 0xB000, 0), 0xB000, (), 1),
        ((0, 0xA700, 0), 0xB000, (2,), 0),
        ((None, 0, 0xC000), 0xB000, (1, 3), 0),
        ((0xA700, None, 0x0122), 0xA702, (1, 2, 3), 0),
        ((0, 0), 0xB000, (3,), 0),
        ((), 0xA702, (1, 2, 3), 0),
    ],
)
def test_the_final_response_tells_what_became_of_every_object(
    statuses: tuple[int | None, ...], final: int, failed: tuple[int, ...], warning: int
) -> None:
    send = Sends(statuses)
    _pending, reply = all_of(service(Holds(objects(3)), send).answer(request()))
    assert reply.command[0x0100] == 0x8021
    assert reply.command[0x0900] == final
    assert failed_list(reply) == [uid(number) for number in failed]
    completed = 3 - len(failed) - warning
    assert counts(reply) == {
        "remaining": None,
        "completed": completed,
        "failed": len(failed),
        "warning": warning,
    }
    assert send.calls == [(THERE, "DICOMLAKE", Originator("ASKER", 7))]


def test_pending_responses_count_down() -> None:
    pending, _final = all_of(
        service(Holds(objects(4)), Sends([0, 0xB000, None, 0]), interval_s=0).answer(request())
    )
    assert [counts(one) for one in pending] == [
        {"remaining": 3, "completed": 1, "failed": 0, "warning": 0},
        {"remaining": 2, "completed": 1, "failed": 0, "warning": 1},
        {"remaining": 1, "completed": 1, "failed": 1, "warning": 1},
    ]
    assert not any(one.dataset for one in pending)


def test_a_move_of_nothing_succeeds() -> None:
    send = Sends([])
    _pending, final = all_of(service(Holds([]), send).answer(request()))
    assert final.command[0x0900] == 0
    assert counts(final) == {"remaining": None, "completed": 0, "failed": 0, "warning": 0}
    assert not send.calls


@pytest.mark.parametrize("destination", ["STRANGER", "NOWHERE", ""])
def test_nothing_goes_to_who_is_no_peer_with_an_address(destination: str) -> None:
    finder, send = Holds(objects(1)), Sends([0])
    _pending, final = all_of(service(finder, send).answer(request(destination)))
    assert final.command[0x0900] == 0xA801
    assert not send.calls
    assert not finder.asked


@pytest.mark.parametrize(
    ("level", "unique", "status"),
    [
        ("SERIES", {"StudyInstanceUID": "1.2"}, 0xA900),
        ("STUDY", {"StudyInstanceUID": ""}, 0xA900),
        ("PATIENT", {"PatientID": "P"}, 0xA900),
        ("IMAGE", {"SOPInstanceUID": ["1.2", "1.3"]}, 0x0000),
    ],
)
def test_the_unique_key_of_the_level_must_be_there(level: str, unique: dict[str, Any], status: int) -> None:
    finder = Holds([])
    asked = message(keys(level, **unique), STUDY_ROOT, MOVE, x0600="ARCHIVE")
    _pending, final = all_of(service(finder, Sends([])).answer(asked))
    assert final.command[0x0900] == status
    assert finder.asked == ([{"SOPInstanceUID": ("1.2", "1.3")}] if status == 0 else [])


def test_keys_above_the_level_narrow_what_is_moved_and_others_do_not() -> None:
    finder = Holds([])
    asked = keys("SERIES", PatientID="P", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", Modality="CT")
    list(service(finder, Sends([])).answer(message(asked, PATIENT_ROOT, MOVE, x0600="ARCHIVE")))
    assert finder.asked == [
        {"PatientID": ("P",), "StudyInstanceUID": ("1.2",), "SeriesInstanceUID": ("1.2.3",)}
    ]


def test_a_catalog_that_cannot_answer_is_told() -> None:
    _pending, final = all_of(service(Holds([], CatalogError("Planted^Name")), Sends([])).answer(request()))
    assert final.command[0x0900] == 0xA701
    assert b"Planted" not in bytes(final.command[0x0902])  # type: ignore[arg-type]


@pytest.mark.parametrize(("statuses", "status", "failed"), [((), 0xA702, 3), ((0,), 0xB000, 2)])
def test_a_destination_that_goes_away_fails_what_is_left(
    statuses: tuple[int, ...], status: int, failed: int
) -> None:
    send = Sends(statuses, PeerError("gone"))
    _pending, final = all_of(service(Holds(objects(3)), send).answer(request()))
    assert final.command[0x0900] == status
    assert len(failed_list(final)) == failed


def test_a_cancelled_move_stops_and_tells_what_remains() -> None:
    send = Sends([0, None, 0, 0])
    replies = service(Holds(objects(4)), send, interval_s=0).answer(request())
    next(replies), next(replies)
    final = replies.throw(Cancelled())
    assert final.command[0x0900] == 0xFE00
    assert counts(final) == {"remaining": 2, "completed": 1, "failed": 1, "warning": 0}
    assert failed_list(final) == [uid(2)]
    assert send.closed
    assert list(replies) == []


# ---- over the wire


@contextmanager
def storing(syntaxes: Sequence[str], classes: Sequence[str] = (CT,)) -> Iterator[tuple[Peer, dict[str, Any]]]:
    """A provider by pynetdicom that keeps hashes of the data sets it is sent."""
    got: dict[str, Any] = {}

    def keep(event: Any) -> int:
        data = event.request.DataSet.getvalue()
        got[str(event.request.AffectedSOPInstanceUID)] = (
            hashlib.sha256(data).hexdigest(),
            str(event.context.transfer_syntax),
            event.assoc.requestor.ae_title,
            event.request.MoveOriginatorApplicationEntityTitle,
            event.request.MoveOriginatorMessageID,
        )
        return 0x0000

    entity = AE("ARCHIVE")
    entity.supported_contexts = [build_context(name, list(syntaxes)) for name in classes]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    try:
        yield Peer("archive", "ARCHIVE", address=("127.0.0.1", server.server_address[1])), got
    finally:
        server.shutdown()


def forwarded(objects: Sequence[Outgoing], there: Peer) -> list[int | None]:
    waits = Waits(connect_s=2, answer_s=5)
    sent = Forward(waits=waits)(objects, there, calling="LAKE", originator=Originator("ASKER", 9))
    return [status for _one, status in sent]


def data_set_of(data: bytes) -> str:
    """The hash of what follows the File Meta Information, whose length pydicom reads."""
    length = int.from_bytes(data[140:144], "little")
    return hashlib.sha256(data[144 + length :]).hexdigest()


def test_a_destination_gets_the_bytes_of_the_originals_and_who_asked_for_them() -> None:
    files = {uid(number): dicom(number) for number in range(1, 6)}
    with storing(["1.2.840.10008.1.2.1"]) as (there, got):
        assert forwarded([Original.of(data) for data in files.values()], there) == [0] * 5
    assert got == {
        name: (data_set_of(data), "1.2.840.10008.1.2.1", "LAKE", "ASKER", 9) for name, data in files.items()
    }


def test_a_destination_that_takes_only_implicit_vr_gets_the_same_values() -> None:
    with storing([ImplicitVRLittleEndian]) as (there, got):
        assert forwarded([Original.of(dicom(1))], there) == [0]
    assert got[uid(1)][1] == ImplicitVRLittleEndian


def test_what_a_destination_does_not_take_fails_and_the_rest_goes() -> None:
    other = Original.of(dicom(2, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    with storing(["1.2.840.10008.1.2.1"]) as (there, got):
        assert sorted(map(str, forwarded([other, Original.of(dicom(1))], there))) == ["0", "None"]
    assert set(got) == {uid(1)}


def test_compressed_objects_go_as_they_are_where_they_are_taken() -> None:
    name = "SC_rgb_dcmtk_+eb+cr.dcm"
    data = next(path for path in pydicom_files() if path.name == name).read_bytes()
    one = Original.of(data)
    assert one.transfer_syntax == JPEGBaseline8Bit
    with storing([JPEGBaseline8Bit], [one.sop_class_uid]) as (there, got):
        assert forwarded([one], there) == [0]
    assert got[one.sop_instance_uid][0] == data_set_of(data)
    assert pydicom.uid.UID(got[one.sop_instance_uid][1]) == JPEGBaseline8Bit


def test_a_destination_that_is_not_there_is_an_error_of_the_peer() -> None:
    with storing([ImplicitVRLittleEndian]) as (there, _got):
        pass
    with pytest.raises(PeerError):
        forwarded([Original.of(dicom(1))], there)
