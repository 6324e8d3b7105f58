"""Performed procedure steps: what a modality may say when, and what is kept of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomlake.network.seams import Message, Sender
from dicomlake.network.services.mpps import PERFORMED_STEP, MppsService, Step
from tests.network.requests import CT, MR, SYNTAXES, drive, message, parsed, referenced, written
from tests.objects import ROOT

STEP, STUDY, SERIES = f"{ROOT}.88.1", f"{ROOT}.1", f"{ROOT}.1.1"
NAME = "Planted^Secret"


class Held:
    """Steps in memory, as text, like in a catalog."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.lost = 0  # how many times somebody else is faster

    def create(self, step: Step, sender: Sender) -> bool:
        return self.texts.setdefault(step.uid, text := step.as_json()) is text

    def get(self, uid: str) -> Step | None:
        return Step.from_json(self.texts[uid]) if uid in self.texts else None

    def set(self, before: Step, after: Step) -> bool:
        if self.lost:
            self.lost -= 1
            return False
        assert self.texts[before.uid] == before.as_json()
        self.texts[before.uid] = after.as_json()
        return True


def begun(**others: Any) -> Dataset:
    """What an N-CREATE says; `others` are keywords, None leaves out."""
    ds, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = STUDY
    scheduled.AccessionNumber = ""
    ds.ScheduledStepAttributesSequence = [scheduled]
    ds.PatientName, ds.PatientID = NAME, "planted-id"
    ds.PerformedProcedureStepID, ds.PerformedStationAETitle = "PPS1", "CT1"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20240229", "101500"
    ds.PerformedProcedureStepStatus, ds.Modality = "IN PROGRESS", "CT"
    ds.PerformedSeriesSequence = []
    for keyword, value in others.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def performed(series: str, images: list[str], others: list[str] | None = None) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID, item.ProtocolName = series, "HEAD"
    item.ReferencedImageSequence = [referenced(CT, uid) for uid in images]
    item.ReferencedNonImageCompositeSOPInstanceSequence = [referenced(MR, uid) for uid in others or []]
    return item


def ended(*series: Dataset, status: str = "COMPLETED", **others: Any) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = status
    ds.PerformedSeriesSequence = list(series)
    for keyword, value in others.items():
        setattr(ds, keyword, value)
    return ds


def n_create(ds: Dataset | bytes, uid: str = STEP, syntax: UID = SYNTAXES[0], **others: Any) -> Message:
    command = {
        0x0002: others.get("sop_class", PERFORMED_STEP),
        0x0100: others.get("field", 0x0140),
        0x0110: 3,
    }
    return message(command | ({0x1000: uid} if uid else {}), ds, PERFORMED_STEP, syntax)


def n_set(ds: Dataset | bytes, uid: str = STEP, syntax: UID = SYNTAXES[0], **others: Any) -> Message:
    command = {0x0003: others.get("sop_class", PERFORMED_STEP), 0x0100: 0x0120, 0x0110: 4, 0x1001: uid}
    return message(command, ds, PERFORMED_STEP, syntax)


def answered(steps: Held, request: Message) -> dict[int, Any]:
    (reply,) = drive(MppsService(steps).answer(request))
    assert reply.command[0x0100] == int(request.command[0x0100]) | 0x8000
    assert reply.command[0x0120] == request.command[0x0110]
    assert reply.dataset == b""
    return dict(reply.command)


def status(steps: Held, request: Message) -> int:
    return int(answered(steps, request)[0x0900])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_step_begins_grows_and_ends(syntax: UID) -> None:
    steps = Held()
    assert status(steps, n_create(begun(), syntax=syntax)) == 0x0000
    step = steps.get(STEP)
    assert step is not None
    assert (step.status, step.final, step.study_uid, step.series) == ("IN PROGRESS", False, STUDY, ())
    one, two = performed(SERIES, [f"{SERIES}.1"]), performed(f"{ROOT}.1.2", ["1.2.3", "1.2.4"], ["1.2.5"])
    assert status(steps, n_set(ended(one, status="IN PROGRESS"), syntax=syntax)) == 0x0000
    assert status(steps, n_set(ended(one, two), syntax=syntax)) == 0x0000
    step = steps.get(STEP)
    assert step is not None
    assert (step.status, step.final) == ("COMPLETED", True)
    assert step.series == ((SERIES, (f"{SERIES}.1",)), (f"{ROOT}.1.2", ("1.2.3", "1.2.4", "1.2.5")))
    first, *_rest = step.parts
    assert parsed(first.dataset, UID(first.transfer_syntax)) == begun()
    assert len(step.parts) == 3


def test_an_update_without_series_keeps_those_there_are() -> None:
    steps = Held()
    answered(steps, n_create(begun(PerformedSeriesSequence=[performed(SERIES, ["1.2.3"])])))
    only = Dataset()
    only.PerformedProcedureStepStatus = "DISCONTINUED"
    assert status(steps, n_set(only)) == 0x0000
    step = steps.get(STEP)
    assert step is not None
    assert (step.status, step.series) == ("DISCONTINUED", ((SERIES, ("1.2.3",)),))


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_an_ended_step_may_no_longer_be_updated(final: str) -> None:
    steps = Held()
    answered(steps, n_create(begun()))
    answered(steps, n_set(ended(status=final)))
    before = steps.get(STEP)
    reply = answered(steps, n_set(ended(performed(SERIES, ["1.2.3"]))))
    assert (reply[0x0900], reply[0x0903]) == (0x0110, 0xA710)
    assert reply[0x0902].rstrip() == b"Performed Procedure Step Object may no longer be updated"
    assert steps.get(STEP) == before


def test_a_second_step_of_the_same_uid_is_a_duplicate() -> None:
    steps = Held()
    assert status(steps, n_create(begun())) == 0x0000
    assert status(steps, n_create(begun(PatientName="Other"))) == 0x0111
    assert len(steps.texts) == 1
    step = steps.get(STEP)
    assert step is not None
    assert parsed(step.parts[0].dataset).PatientName == NAME


def test_a_step_without_a_uid_gets_one_and_is_told() -> None:
    steps = Held()
    reply = answered(steps, n_create(begun(), uid=""))
    assert reply[0x0900] == 0x0000
    assert list(steps.texts) == [reply[0x1000]]
    assert UID(reply[0x1000]).is_valid


def test_a_step_of_several_studies_leaves_the_study_of_its_series_open() -> None:
    steps = Held()
    one, two = Dataset(), Dataset()
    one.StudyInstanceUID, two.StudyInstanceUID = STUDY, f"{ROOT}.2"
    answered(steps, n_create(begun(ScheduledStepAttributesSequence=[one, two])))
    step = steps.get(STEP)
    assert step is not None
    assert step.study_uid == ""


def no_study() -> Dataset:
    scheduled = Dataset()
    scheduled.AccessionNumber = ""
    return begun(ScheduledStepAttributesSequence=[scheduled])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (n_create(begun(PerformedProcedureStepStatus="COMPLETED")), 0x0106),
        (n_create(begun(PerformedProcedureStepStatus=None)), 0x0120),
        (n_create(begun(PerformedProcedureStepStatus="")), 0x0121),
        (n_create(begun(Modality=None)), 0x0120),
        (n_create(begun(PerformedProcedureStepID="")), 0x0121),
        (n_create(begun(ScheduledStepAttributesSequence=None)), 0x0120),
        (n_create(begun(ScheduledStepAttributesSequence=[])), 0x0121),
        (n_create(no_study()), 0x0120),
        (n_create(b""), 0x0120),
        (n_create(written(begun())[:-5]), 0x0110),
        (n_create(begun(), uid="no UID"), 0x0117),
        (n_create(begun(), sop_class=CT), 0x0118),
        (n_create(begun(), field=0x0110), 0x0211),
        (n_set(ended()), 0x0112),
        (n_set(ended(), sop_class=CT), 0x0118),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(request_: Message, expected: int) -> None:
    steps = Held()
    assert status(steps, request_) == expected
    assert steps.texts == {}


def nameless_series() -> Dataset:
    series = performed(SERIES, ["1.2.3"])
    del series.SeriesInstanceUID
    return ended(series)


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (ended(status="FINISHED"), 0x0106),
        (ended(status=""), 0x0121),
        (nameless_series(), 0x0120),
        (ended(performed(SERIES, [""])), 0x0121),
        (b"", 0x0120),
    ],
)
def test_an_update_that_is_wrong_changes_nothing(ds: Dataset | bytes, expected: int) -> None:
    steps = Held()
    answered(steps, n_create(begun()))
    before = dict(steps.texts)
    assert status(steps, n_set(ds)) == expected
    assert steps.texts == before


def test_what_an_update_must_not_set_is_ignored_with_a_warning() -> None:
    steps = Held()
    answered(steps, n_create(begun()))
    reply = answered(steps, n_set(ended(PatientID="another")))
    assert reply[0x0900] == 0x0107
    assert reply[0x1005] == b"\x10\x00\x20\x00"
    step = steps.get(STEP)
    assert step is not None
    assert step.status == "COMPLETED"


def test_updates_that_meet_are_done_one_after_the_other() -> None:
    steps = Held()
    answered(steps, n_create(begun()))
    steps.lost = 2
    assert status(steps, n_set(ended())) == 0x0000
    steps = Held()
    answered(steps, n_create(begun()))
    steps.lost = 1000
    assert status(steps, n_set(ended())) == 0x0110


def test_a_step_cannot_grow_without_bound() -> None:
    steps = Held()
    answered(steps, n_create(begun()))
    big = ended(status="IN PROGRESS", PerformedProcedureStepDescription="x")
    big.add_new("EncapsulatedDocument", "OB", bytes(1 << 20))
    found = [status(steps, n_set(big)) for _ in range(10)]
    assert set(found) == {0x0000, 0x0213}
    assert found[-1] == 0x0213


def test_nothing_of_the_patient_is_shown_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    steps = Held()
    replies = [answered(steps, n_create(begun())), answered(steps, n_create(begun()))]
    replies += [answered(steps, n_set(ended(PatientName=NAME))), answered(steps, n_set(ended()))]
    step = steps.get(STEP)
    assert "Planted" not in f"{step!r} {step} {replies} {caplog.text}"
    assert repr(step) == f"<Step {STEP}: COMPLETED, 0 series>"
