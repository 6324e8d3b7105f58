"""Questions to a peer: C-FIND at the levels of study, series and instance (PS3.4 section C.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal, NamedTuple

from dicomlake.dicom import standard
from dicomlake.errors import BrokenObject, PeerError
from dicomlake.network.requesting import answers
from dicomlake.network.requesting.associations import Context, accepted, ask
from dicomlake.network.services import identifiers

if TYPE_CHECKING:
    from pynetdicom.association import Association

Root = Literal["study", "patient"]
Level = Literal["STUDY", "SERIES", "IMAGE"]
Found = dict[str, tuple[str, ...]]
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


class Model(NamedTuple):
    """The SOP classes of an information model (PS3.4 sections C.6.1 and C.6.2)."""

    find: str
    move: str
    get: str


_QR = "1.2.840.10008.5.1.4.1.2"
MODELS: Mapping[Root, Model] = {
    "patient": Model(f"{_QR}.1.1", f"{_QR}.1.2", f"{_QR}.1.3"),
    "study": Model(f"{_QR}.2.1", f"{_QR}.2.2", f"{_QR}.2.3"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a level, the keys to match, and those to return."""

    level: Level
    keys: Mapping[str, str]
    wanted: tuple[str, ...] = ()

    def encoded(self, syntax: str) -> bytes:
        """The identifier."""
        values: dict[int, tuple[str, ...]] = {tag_of(keyword): () for keyword in self.wanted}
        for keyword, value in self.keys.items():
            values[tag_of(keyword)] = tuple(value.split("\\")) if value else ()
        values[tag_of("QueryRetrieveLevel")] = (self.level,)
        return identifiers.write(dict(sorted(values.items())), syntax)


def tag_of(keyword: str) -> int:
    """The tag of a keyword. Raises PeerError for what is none, as no peer can be asked for it."""
    tag = standard.tag_of(keyword)
    if tag is None:
        raise PeerError(f"{keyword} is no keyword of PS3.6: spell it as in the standard, such as PatientID")
    return tag


def find_context(root: Root) -> Context:
    """The context that `find` needs."""
    return Context(MODELS[root].find, UNCOMPRESSED)


def find(association: Association, question: Question, *, root: Root = "study") -> list[Found]:
    """What matches, each by keyword. Raises PeerError when the peer refuses or breaks off."""
    from pynetdicom.dimse_primitives import C_FIND

    model = MODELS[root].find
    context, syntax = context_of(association, model)
    request = C_FIND()
    request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 0, model
    request.Identifier = BytesIO(question.encoded(syntax))
    found: list[Found] = []
    for response in ask(association, request, context):
        status = int(response.Status)
        if answers.is_pending(status):
            if response.Identifier is not None:
                found.append(_read(response.Identifier.getvalue(), syntax, question))
        elif not answers.is_success(status) and not answers.is_warning(status):
            raise PeerError(
                f"the peer cannot answer a query at the level of {question.level}: {answers.meaning(status)}",
                temporary=status & 0xFF00 == 0xA700,
            )
    return found


def context_of(association: Association, sop_class: str) -> tuple[int, str]:
    """Number and transfer syntax of the accepted context of a class. Raises PeerError without one."""
    for (abstract, syntax), number in accepted(association).items():
        if abstract == sop_class:
            return number, syntax
    raise PeerError(
        f"the peer does not offer {standard.uid_name(sop_class)}: try another way or information model"
    )


def _read(data: bytes, syntax: str, question: Question) -> Found:
    try:
        attributes = identifiers.read(data, syntax)
    except BrokenObject as exc:
        raise PeerError("the peer's answer to a query cannot be read") from exc
    keywords = dict.fromkeys((*question.wanted, *question.keys))
    return {keyword: attributes.texts(keyword) for keyword in keywords}
