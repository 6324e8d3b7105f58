"""C-FIND answers as PS3.4 section C.4.1 says, whatever is asked and whoever is asked."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from dicomlake.errors import CatalogError, StorageFull
from dicomlake.network.seams import Cancelled, Message
from dicomlake.network.services import identifiers
from dicomlake.network.services.finding import FindService, Found
from dicomlake.network.services.levels import Level
from tests.network.questions import (
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    all_of,
    answers,
    decoded,
    encoded,
    keys,
    message,
)

SECRET = "Planted^Name"


class Rows:
    """A Finder that holds these rows and remembers what it was asked."""

    def __init__(self, rows: Iterable[Found], error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.asked: list[tuple[Level, Mapping[str, str], Sequence[str]]] = []
        self.drawn, self.closed = 0, False

    def match(
        self, level: Level, keys: Mapping[str, str], return_keys: Sequence[str]
    ) -> Generator[Found, None, None]:
        self.asked.append((level, keys, return_keys))
        try:
            for row in self.rows:
                self.drawn += 1
                yield row
            if self.error:
                raise self.error
        finally:
            self.closed = True

    def instances(self, uids: Mapping[str, Sequence[str]]) -> Sequence[Any]:
        return ()


def study(number: int, **others: str) -> Found:
    held = {"StudyInstanceUID": f"1.2.{number}", "PatientName": "Doe^Jane"} | others
    return {name: [text.split("\\")] for name, text in held.items()}


def final_of(finder: Rows, request: Message, **how: Any) -> tuple[int, str]:
    _pending, final = all_of(FindService(finder, **how).answer(request))
    comment = final.command.get(0x0902, b"")
    assert isinstance(comment, bytes)
    assert len(comment) % 2 == 0
    assert len(comment) <= 64
    return int(final.command[0x0900]), comment.decode("ascii").strip()


def test_responses_answer_their_request() -> None:
    finder = Rows([study(1)])
    request = message(keys("STUDY", StudyInstanceUID=""))
    for reply in FindService(finder).answer(request):
        assert reply.command[0x0100] == 0x8020
        assert reply.command[0x0120] == 7
        assert reply.command[0x0002] == STUDY_ROOT + "1"


def test_an_answer_says_where_and_at_what_level_it_is() -> None:
    (found,) = answers(FindService(Rows([study(1)])).answer(message(keys("STUDY", StudyInstanceUID=""))))
    assert found.QueryRetrieveLevel == "STUDY"
    assert found.RetrieveAETitle == "DICOMLAKE"
    assert found.InstanceAvailability == "ONLINE"


def test_a_key_without_a_value_here_is_answered_empty() -> None:
    asked = keys("STUDY", StudyInstanceUID="", AccessionNumber="")
    (found,) = answers(FindService(Rows([study(1)])).answer(message(asked)))
    assert found.AccessionNumber == ""
    assert "StudyDate" not in found


def test_what_does_not_match_is_not_answered_even_if_the_finder_gives_it() -> None:
    finder = Rows([study(1), study(2, PatientName="Roe"), study(3, PatientName="DOE^J")])
    asked = keys("STUDY", StudyInstanceUID="", PatientName="doe*")
    assert [ds.StudyInstanceUID for ds in answers(FindService(finder).answer(message(asked)))] == [
        "1.2.1",
        "1.2.3",
    ]
    assert finder.asked == [("STUDY", {"PatientName": "doe*"}, ["PatientName", "StudyInstanceUID"])]


@pytest.mark.parametrize(
    ("name", "charset"),
    [("Doe", ""), ("Müller", "ISO_IR 100"), ("山田", "ISO_IR 192"), ("Łoś", "ISO_IR 192")],
)
def test_an_answer_is_in_the_narrowest_character_set_that_holds_it(name: str, charset: str) -> None:
    finder = Rows([study(1, PatientName=name)])
    (found,) = answers(FindService(finder).answer(message(keys("STUDY", PatientName=""))))
    assert found.get("SpecificCharacterSet", "") == charset
    assert str(found.PatientName) == name


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100"])
def test_a_key_is_read_in_the_character_set_of_the_request(charset: str) -> None:
    finder = Rows([study(1, PatientName="MULLER")])
    asked = keys("STUDY", charset, PatientName="müller")
    assert len(answers(FindService(finder).answer(message(asked)))) == 1


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_of_every_kind_are_written_in_the_syntax_of_the_context(syntax: Any) -> None:
    held = {"Rows": "512", "KVP": "120", "FrameIncrementPointer": "00181063"}
    row = study(1, **held, RecommendedDisplayFrameRateInFloat="2.5")
    elements = {
        "Rows": None,
        "KVP": "",
        "FrameIncrementPointer": None,
        "RecommendedDisplayFrameRateInFloat": None,
    }
    asked = keys("STUDY", **elements)
    (found,) = answers(FindService(Rows([row])).answer(message(asked, syntax=syntax)), syntax)
    assert (found.Rows, found.KVP, found.FrameIncrementPointer) == (512, 120, 0x00181063)
    assert found.RecommendedDisplayFrameRateInFloat == 2.5


def test_values_that_a_vr_cannot_hold_are_left_out() -> None:
    row = study(1, Rows="none", PatientID="x" * 70_000)
    asked = keys("STUDY", Rows=None, PatientID="")
    (found,) = answers(
        FindService(Rows([row])).answer(message(asked, syntax=ExplicitVRLittleEndian)), ExplicitVRLittleEndian
    )
    assert found.Rows is None
    assert found.PatientID == ""


def test_a_deflated_identifier_is_read_and_answered() -> None:
    asked = encoded(keys("STUDY", StudyInstanceUID="1.2.1"), ExplicitVRLittleEndian)
    deflater = zlib.compressobj(wbits=-15)
    data = deflater.compress(asked) + deflater.flush()
    finder = Rows([study(1), study(2)])
    request = message(data, syntax=DeflatedExplicitVRLittleEndian)
    pending, final = all_of(FindService(finder).answer(request))
    assert final.command[0x0900] == 0
    (reply,) = pending
    assert isinstance(reply.dataset, bytes)
    found = decoded(zlib.decompressobj(-15).decompress(reply.dataset), ExplicitVRLittleEndian)
    assert found.StudyInstanceUID == "1.2.1"


# ---- statuses


def test_keys_without_a_meaning_here_are_told_by_the_pending_status() -> None:
    asked = keys("STUDY", StudyInstanceUID="")
    asked.ProcedureCodeSequence = [Dataset()]
    asked.add_new(0x00091010, "LO", "private")
    pending, final = all_of(FindService(Rows([study(1)])).answer(message(asked)))
    assert [one.command[0x0900] for one in pending] == [0xFF01]
    assert final.command[0x0900] == 0


@pytest.mark.parametrize(
    ("model", "level"),
    [(STUDY_ROOT, "PATIENT"), (PATIENT_STUDY_ONLY, "SERIES"), (PATIENT_ROOT, "FRAME"), (PATIENT_ROOT, "")],
)
def test_a_level_that_the_model_has_not_is_refused(model: str, level: str) -> None:
    finder = Rows([study(1)])
    assert final_of(finder, message(keys(level, PatientID=""), model))[0] == 0xA900
    assert not finder.asked


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_every_level_of_patient_root_is_answered(level: str) -> None:
    finder = Rows([study(1)])
    assert final_of(finder, message(keys(level, PatientID=""), PATIENT_ROOT))[0] == 0
    assert finder.asked[0][0] == level


@pytest.mark.parametrize("data", [b"\x08\x00\x52", b"\x08\x00\x52\x00\xff\xff\xff\x7fSTUDY", bytes(300)])
def test_an_identifier_that_cannot_be_read_is_an_error(data: bytes) -> None:
    assert final_of(Rows([]), message(data))[0] in (0xA900, 0xC000)


def test_an_identifier_with_pixels_is_an_error() -> None:
    data = encoded(keys("STUDY")) + b"\xe0\x7f\x10\x00\x02\x00\x00\x00\x00\x00"
    assert final_of(Rows([]), message(data))[0] == 0xC000


def test_no_more_than_the_limit_is_answered_and_the_rest_is_told() -> None:
    finder = Rows(study(n) for n in range(1000))
    pending, final = all_of(FindService(finder, limit=10).answer(message(keys("STUDY", StudyInstanceUID=""))))
    assert len(pending) == 10
    assert final.command[0x0900] == 0xA700
    assert b"10 matches" in bytes(final.command[0x0902])  # type: ignore[arg-type]
    assert finder.drawn == 11
    assert finder.closed


def test_as_many_matches_as_the_limit_are_all_there_are() -> None:
    finder = Rows(study(n) for n in range(10))
    pending, final = all_of(FindService(finder, limit=10).answer(message(keys("STUDY", StudyInstanceUID=""))))
    assert (len(pending), final.command[0x0900]) == (10, 0)


@pytest.mark.parametrize(("error", "status"), [(StorageFull, 0xA700), (CatalogError, 0xC000)])
def test_a_question_that_cannot_be_answered_is_told_without_values(
    error: type[Exception], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    finder = Rows([study(1, PatientName=SECRET)], error(SECRET))
    asked = keys("STUDY", PatientName=SECRET)
    found, comment = final_of(finder, message(asked))
    assert found == status
    assert "Planted" not in comment + caplog.text + repr(message(asked))


# ---- streaming and C-CANCEL


def test_matches_are_answered_one_by_one_as_they_are_found() -> None:
    finder = Rows(study(n) for n in range(100_000))
    replies = FindService(finder).answer(message(keys("STUDY", StudyInstanceUID="")))
    for _ in range(5):
        next(replies)
    assert finder.drawn == 5
    replies.close()
    assert finder.closed


def test_a_cancelled_query_ends_with_the_status_for_that() -> None:
    finder = Rows(study(n) for n in range(100_000))
    replies = FindService(finder).answer(message(keys("STUDY", StudyInstanceUID="")))
    next(replies)
    final = replies.throw(Cancelled())
    assert final.command[0x0900] == 0xFE00
    assert finder.closed
    assert list(replies) == []


def test_two_thousand_answers_are_written_within_two_seconds() -> None:
    """100,000 answers take seconds, not minutes; the bound is ten times what was measured."""
    finder = Rows(study(n, StudyDate="20240101", ModalitiesInStudy="CT\\MR") for n in range(2000))
    asked = keys(
        "STUDY", StudyInstanceUID="", PatientName="D*", StudyDate="", ModalitiesInStudy="", PatientID=""
    )
    begun = time.perf_counter()
    pending, _final = all_of(FindService(finder).answer(message(asked)))
    assert len(pending) == 2000
    assert time.perf_counter() - begun < 2


def test_writing_and_reading_an_identifier_agree() -> None:
    written = identifiers.write({0x00100010: ("Müller",), 0x00280010: ("7",)}, str(ExplicitVRBigEndian))
    found = identifiers.read(written, str(ExplicitVRBigEndian))
    assert found.texts("PatientName") == ("Müller",)
    assert found.texts("Rows") == ("7",)
