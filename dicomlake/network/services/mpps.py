"""Modality Performed Procedure Step (PS3.4 section F.7): a modality says what it does, and what it has made.

The lake wants one thing of it: which objects of which series are to come. The messages are kept as they came.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from dicomlake.dicom.attributes import Attributes
from dicomlake.network.seams import Message, Operation, Replies, Reply, Sender
from dicomlake.network.services import answering
from dicomlake.network.services.answering import Refusal

PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"

NO_LONGER = 0xA710  # Error ID, PS3.4 section F.7.2.2.2
_TYPE_1 = (  # of an N-CREATE, PS3.4 table F.7.2-1
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
)
_NOT_TO_BE_SET = (  # there as well: they are those of the N-CREATE
    *("ScheduledStepAttributesSequence", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("PerformedStationName", "PerformedLocation", "StudyID", *_TYPE_1),
)
_REFERENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
_LARGEST = 8 << 20  # bytes of all messages about one step
_TRIES = 5


class PerformedSeries(NamedTuple):
    """What a step has made of a series: the SOPInstanceUIDs of its objects, images and others."""

    series_uid: str
    instances: tuple[str, ...]


class Part(NamedTuple):
    """The data set of one message, as it came; it identifies the patient."""

    transfer_syntax: str
    dataset: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """A performed procedure step. Its parts are for the catalog alone: nothing shows or logs them.

    status: IN PROGRESS, COMPLETED or DISCONTINUED. study_uid: of its images; empty where it names several.
    parts: of the N-CREATE and each N-SET.
    """

    uid: str
    status: str
    study_uid: str
    series: tuple[PerformedSeries, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing may change it any more."""
        return self.status != IN_PROGRESS

    def as_json(self) -> str:
        """For the catalog."""
        parts = [[part.transfer_syntax, b64encode(part.dataset).decode("ascii")] for part in self.parts]
        return json.dumps([self.uid, self.status, self.study_uid, self.series, parts])

    @classmethod
    def from_json(cls, text: str) -> Step:
        """What `as_json` wrote."""
        uid, status, study_uid, series, parts = json.loads(text)
        return cls(
            uid,
            status,
            study_uid,
            tuple(PerformedSeries(series_uid, tuple(instances)) for series_uid, instances in series),
            tuple(Part(syntax, b64decode(dataset)) for syntax, dataset in parts),
        )

    def __repr__(self) -> str:
        return f"<Step {self.uid}: {self.status}, {len(self.series)} series>"


class Steps(Protocol):
    """Where steps are kept, durably; what final ones have made is expected. Safe to use from threads."""

    def create(self, step: Step, sender: Sender) -> bool:
        """Keep a new step; False when there is one of this UID."""

    def get(self, uid: str) -> Step | None:
        """A step; None when there is none."""

    def set(self, before: Step, after: Step) -> bool:
        """Put a step in the place of what `get` gave; False when it is no longer that."""


class MppsService:
    """Answers N-CREATE-RQ and N-SET-RQ of performed procedure steps."""

    operation: Operation = "mpps"
    sop_classes: Collection[str] = (PERFORMED_STEP,)

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def answer(self, message: Message) -> Replies:
        """One response. See seams.Service.answer."""
        try:
            reply = self._done(message)
        except Refusal as refusal:
            reply = answering.refused(message, refusal)
        yield reply

    def _done(self, message: Message) -> Reply:
        if answering.command_field(message) == answering.N_CREATE_RQ:
            _require_class(message, answering.AFFECTED_CLASS)
            return self._create(message)
        if answering.command_field(message) == answering.N_SET_RQ:
            _require_class(message, answering.REQUESTED_CLASS)
            return self._set(message)
        raise Refusal(answering.UNRECOGNIZED_OPERATION, "only N-CREATE and N-SET are known here")

    def _create(self, message: Message) -> Reply:
        """See PS3.4 section F.7.2.1; we name the instance where the request does not (PS3.7 10.1.5.1.4)."""
        uid = answering.text(message, answering.AFFECTED_INSTANCE) or f"2.25.{uuid.uuid4().int}"
        if not answering.is_uid(uid):
            raise Refusal(answering.INVALID_INSTANCE, "AffectedSOPInstanceUID is no UID")
        if not self._steps.create(created(uid, message), message.sender):
            raise Refusal(answering.DUPLICATE_INSTANCE, "there is a step of this UID")
        return answering.response(message, instance=uid)

    def _set(self, message: Message) -> Reply:
        """See PS3.4 section F.7.2.2."""
        uid = answering.text(message, answering.REQUESTED_INSTANCE)
        for _ in range(_TRIES):
            step = self._steps.get(uid)
            if step is None:
                raise Refusal(answering.NO_SUCH_INSTANCE, "there is no step of this UID")
            after, ignored = changed(step, message)
            if self._steps.set(step, after):
                status = answering.ATTRIBUTE_LIST_ERROR if ignored else answering.SUCCESS
                return answering.response(message, status, attributes=ignored)
        raise Refusal(answering.PROCESSING_FAILURE, "others change this step all the time")


def _require_class(message: Message, element: int) -> None:
    if answering.text(message, element) != PERFORMED_STEP:
        raise Refusal(answering.NO_SUCH_CLASS, "only performed procedure steps are known here")


def created(uid: str, message: Message) -> Step:
    """The step that an N-CREATE-RQ describes. Raises Refusal."""
    found = answering.dataset_of(message)
    for keyword in _TYPE_1:
        answering.required(found, keyword)
    if answering.required(found, "PerformedProcedureStepStatus") != IN_PROGRESS:
        raise Refusal(answering.INVALID_ATTRIBUTE_VALUE, "PerformedProcedureStepStatus is not IN PROGRESS")
    scheduled = answering.required_items(found, "ScheduledStepAttributesSequence")
    invalid = answering.INVALID_ATTRIBUTE_VALUE
    studies = {answering.required_uid(item, "StudyInstanceUID", invalid) for item in scheduled}
    part = Part(message.transfer_syntax, message.dataset)
    study_uid = studies.pop() if len(studies) == 1 else ""
    return _sized(Step(uid, IN_PROGRESS, study_uid, _series(found), (part,)))


def changed(step: Step, message: Message) -> tuple[Step, list[str]]:
    """The step after an N-SET-RQ, and the keywords of what it must not set, which is not. Raises Refusal."""
    if step.final:
        comment = "Performed Procedure Step Object may no longer be updated"
        raise Refusal(answering.PROCESSING_FAILURE, comment, error_id=NO_LONGER)
    found = answering.dataset_of(message)
    status = step.status
    if "PerformedProcedureStepStatus" in found:
        status = answering.required(found, "PerformedProcedureStepStatus")
        if status not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
            raise Refusal(answering.INVALID_ATTRIBUTE_VALUE, "PerformedProcedureStepStatus is none of three")
    series = _series(found) if "PerformedSeriesSequence" in found else step.series
    parts = (*step.parts, Part(message.transfer_syntax, message.dataset))
    ignored = [keyword for keyword in _NOT_TO_BE_SET if keyword in found]
    return _sized(replace(step, status=status, series=series, parts=parts)), ignored


def _sized(step: Step) -> Step:
    if sum(len(part.dataset) for part in step.parts) > _LARGEST:
        raise Refusal(answering.RESOURCE_LIMITATION, "the messages about this step are too many")
    return step


def _series(found: Attributes) -> tuple[PerformedSeries, ...]:
    """What PerformedSeriesSequence lists: always all of it, as an N-SET replaces a sequence whole."""
    made: dict[str, dict[str, None]] = {}
    for item in answering.items(found, "PerformedSeriesSequence"):
        uid = answering.required_uid(item, "SeriesInstanceUID", answering.INVALID_ATTRIBUTE_VALUE)
        made.setdefault(uid, {}).update(dict.fromkeys(_instances(item)))
    return tuple(PerformedSeries(uid, tuple(instances)) for uid, instances in made.items())


def _instances(series: Attributes) -> list[str]:
    return [
        answering.required_uid(item, "ReferencedSOPInstanceUID", answering.INVALID_ATTRIBUTE_VALUE)
        for keyword in _REFERENCES
        for item in answering.items(series, keyword)
    ]
