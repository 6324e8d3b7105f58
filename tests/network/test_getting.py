"""C-GET answers as PS3.4 section C.4.3 says: each object comes once on the association that asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomlake.dicom.walk import Readable
from dicomlake.errors import StorageError
from dicomlake.network.requesting.outgoing import Original, Outgoing
from dicomlake.network.seams import Answered, Cancelled, Message, Reply
from dicomlake.network.services import getting
from dicomlake.network.services.getting import GetService
from tests.network.questions import GET, STUDY_ROOT, keys, message
from tests.network.test_moving import CT, Holds, counts, data_set_of, failed_list, objects, uid
from tests.objects import dataset, dicom

EXPLICIT = str(ExplicitVRLittleEndian)


def request(contexts: dict[str, list[str]] | None = None) -> Message:
    taken = {CT: [EXPLICIT]} if contexts is None else contexts
    return message(keys("STUDY", StudyInstanceUID="1.2"), STUDY_ROOT, GET, contexts=taken)


def conversation(
    finder: Holds, asked: Message, statuses: Sequence[int | None]
) -> tuple[list[Reply], list[Reply], Reply]:
    """The requests to store, the pending responses, and the final one; stores are answered with statuses."""
    replies = GetService(finder).answer(asked)
    stores: list[Reply] = []
    responses: list[Reply] = []
    answer: Answered | None = None
    left = list(statuses)
    while True:
        try:
            reply = replies.send(answer)
        except StopIteration:
            break
        answer = None
        if reply.command[0x0100] == 0x0001:
            stores.append(Reply(reply.command, whole(reply), reply.abstract_syntax, reply.transfer_syntax))
            answer = Answered(left.pop(0))
        else:
            assert reply.command[0x0100] == 0x8010
            responses.append(reply)
    return stores, responses[:-1], responses[-1]


def whole(reply: Reply) -> bytes:
    return reply.dataset if isinstance(reply.dataset, bytes) else b"".join(reply.dataset)


def test_each_object_comes_unchanged_and_is_counted() -> None:
    stores, pending, final = conversation(Holds(objects(3)), request(), [0, 0, 0])
    assert [one.command[0x1000] for one in stores] == [uid(1), uid(2), uid(3)]
    assert [one.command[0x0110] for one in stores] == [1, 2, 3]
    assert {(one.abstract_syntax, one.transfer_syntax, one.command[0x0002]) for one in stores} == {
        (CT, EXPLICIT, CT)
    }
    for number, one in enumerate(stores, 1):
        assert data_set_of(dicom(number)) == data_set_of(b"\0" * 140 + b"\0\0\0\0" + whole(one))
    assert [counts(one)["remaining"] for one in pending] == [2, 1]
    assert final.command[0x0900] == 0
    assert counts(final) == {"remaining": None, "completed": 3, "failed": 0, "warning": 0}


@pytest.mark.parametrize(
    ("statuses", "status", "failed"),
    [
        ([0, 0xA700, 0], 0xB000, [2]),
        ([0xB007, 0, 0], 0xB000, []),
        ([None, None, None], 0xA702, [1, 2, 3]),
        ([0xC000, 0x0110, 0xA900], 0xA702, [1, 2, 3]),
    ],
)
def test_what_the_peer_does_not_take_is_listed(
    statuses: list[int | None], status: int, failed: list[int]
) -> None:
    _stores, _pending, final = conversation(Holds(objects(3)), request(), statuses)
    assert final.command[0x0900] == status
    assert failed_list(final) == [uid(number) for number in failed]


def test_an_object_whose_class_was_not_agreed_on_fails_and_is_not_sent() -> None:
    stores, _pending, final = conversation(Holds(objects(2)), request({"1.2.3": [EXPLICIT]}), [])
    assert not stores
    assert final.command[0x0900] == 0xA702
    assert failed_list(final) == [uid(1), uid(2)]


@pytest.mark.parametrize("target", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize(
    "source",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_an_object_is_written_in_the_syntax_that_the_peer_takes(source: Any, target: Any) -> None:
    ds = dataset(1)
    pixels = pydicom.dcmread(BytesIO(dicom(1))).pixel_array
    if source == ExplicitVRBigEndian:
        ds.PixelData = pixels.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = source
    buffer = BytesIO()
    ds.save_as(
        buffer,
        implicit_vr=source.is_implicit_VR,
        little_endian=source.is_little_endian,
        enforce_file_format=True,
    )
    one = Original.of(buffer.getvalue())
    (store,), _pending, final = conversation(Holds([one]), request({CT: [str(target)]}), [0])
    assert final.command[0x0900] == 0
    assert store.transfer_syntax == target
    got = read_dataset(BytesIO(whole(store)), target.is_implicit_VR, True)
    assert got.SOPInstanceUID == uid(1)
    assert np.array_equal(np.frombuffer(got.PixelData, "<u2").reshape(pixels.shape), pixels)


def test_the_transfer_syntax_of_the_original_is_preferred() -> None:
    stores, _pending, _final = conversation(
        Holds(objects(1)), request({CT: [str(ImplicitVRLittleEndian), EXPLICIT]}), [0]
    )
    assert stores[0].transfer_syntax == EXPLICIT


def test_an_original_that_cannot_be_read_fails_and_the_next_is_sent() -> None:
    class Broken(Outgoing):
        sop_class_uid, sop_instance_uid, transfer_syntax, size = CT, "1.2.9", EXPLICIT, 10

        def open(self) -> Any:
            raise StorageError("an original is missing")

    stores, _pending, final = conversation(Holds([Broken(), *objects(1)]), request(), [0])
    assert [one.command[0x1000] for one in stores] == [uid(1)]
    assert final.command[0x0900] == 0xB000
    assert failed_list(final) == ["1.2.9"]


def test_a_large_object_comes_in_pieces_that_are_read_when_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getting, "_HELD", 100)
    replies = GetService(Holds(objects(1))).answer(request())
    reply = next(replies)
    assert not isinstance(reply.dataset, bytes)
    assert data_set_of(b"\0" * 144 + whole(reply)) == data_set_of(dicom(1))
    assert replies.send(Answered(0)).command[0x0900] == 0


def test_a_cancelled_retrieval_closes_what_is_open_and_tells_what_remains() -> None:
    replies = GetService(Holds(objects(3))).answer(request())
    next(replies)
    assert replies.send(Answered(0)).command[0x0900] == 0xFF00
    assert next(replies).command[0x0100] == 0x0001
    final = replies.throw(Cancelled())
    assert final.command[0x0900] == 0xFE00
    assert counts(final) == {"remaining": 2, "completed": 1, "failed": 0, "warning": 0}


def test_an_association_that_ends_leaves_nothing_open() -> None:
    closed: list[bool] = []

    class Watched(Outgoing):
        sop_class_uid, sop_instance_uid, transfer_syntax, size = CT, uid(1), EXPLICIT, 10

        def open(self) -> Any:
            @contextmanager
            def opened() -> Any:
                try:
                    with Original.of(dicom(1)).open() as readable:
                        found: Readable = readable
                        yield found
                finally:
                    closed.append(True)

            return opened()

    replies = GetService(Holds([Watched()])).answer(request())
    next(replies)
    assert not closed
    replies.close()
    assert closed
