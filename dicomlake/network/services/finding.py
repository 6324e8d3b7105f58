"""C-FIND as a provider: queries of Patient Root, Study Root and Patient/Study Only (PS3.4 section C.4.1).

Keys of any level may be given at any level, without the unique keys of the levels above: what is above
narrows the answer, what is below must be met by something below. A key that has no meaning here matches
everything, and the answers say so (0xFF01).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from dicomlake.dicom import standard, values
from dicomlake.dicom.attributes import Attributes
from dicomlake.errors import DicomlakeError, StorageFull
from dicomlake.network import matching
from dicomlake.network.requesting.outgoing import Outgoing
from dicomlake.network.seams import Cancelled, Message, Operation, Replies, Reply
from dicomlake.network.services import identifiers, levels
from dicomlake.network.services.levels import Level, Refusal

Alternatives: TypeAlias = Sequence[Sequence[str]]
"""What an element holds within an entity: one list of values, or several where parts of it differ."""
Found: TypeAlias = Mapping[str, Alternatives]
"""An entity: keyword -> what it holds, the value to be shown first; absent where it holds nothing."""

_LEVEL, _CHARSET, _TIMEZONE = 0x00080052, 0x00080005, 0x00080201
_RETRIEVE_AE, _AVAILABILITY = 0x00080054, 0x00080056
_OF_THE_ANSWER = frozenset({_LEVEL, _CHARSET, _TIMEZONE, _RETRIEVE_AE, _AVAILABILITY})
_MOST_KEYS = 512


class Finder(Protocol):
    """What queries are put to. Safe to use from many threads."""

    def match(
        self, level: Level, keys: Mapping[str, str], return_keys: Sequence[str]
    ) -> Generator[Found, None, None]:
        """The entities of a level that may match keys (keyword -> key); more may come, none may be missing.

        Each comes with what it holds of keys and return keys. The generator holds nothing but a page, and
        may be closed at any time. Raises DicomlakeError when the question cannot be answered.
        """

    def instances(self, uids: Mapping[str, Sequence[str]]) -> Sequence[Outgoing]:
        """The objects below some unique keys (keyword -> values), each SOPInstanceUID once."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks.

    keys: keyword -> key, those that not everything matches. wanted: tag -> keyword of what is answered.
    whole: whether all of its keys have a meaning here.
    """

    level: Level
    keys: dict[str, str]
    tests: dict[str, matching.Test]
    wanted: dict[int, str]
    whole: bool


class FindService:
    """Answers C-FIND.

    limit: so many matches are answered, then 0xA700; None for all there are.
    """

    operation: Operation = "find"
    sop_classes = levels.sop_classes("find")

    def __init__(self, finder: Finder, *, limit: int | None = None) -> None:
        self._finder = finder
        self._limit = limit

    def answer(self, message: Message) -> Replies:
        """A pending response for each match, then the final one (table C.4-1)."""
        try:
            question = read_question(message)
            yield from self._matches(message, question)
        except Refusal as refusal:
            status, comment = refusal.status, refusal.comment
        except Cancelled:
            status, comment = levels.CANCELLED, ""
        except StorageFull:
            status, comment = levels.OUT_OF_RESOURCES, "no space left to answer a query"
        except DicomlakeError as error:
            status, comment = levels.UNABLE, f"the query cannot be answered ({type(error).__name__})"
        else:
            status, comment = levels.SUCCESS, ""
        yield Reply(levels.response(message, status, comment))

    def _matches(self, message: Message, question: Question) -> Replies:
        pending = levels.PENDING if question.whole else levels.PENDING_WITHOUT_SOME
        command = levels.response(message, pending)
        answered = 0
        with closing(
            self._finder.match(question.level, question.keys, list(question.wanted.values()))
        ) as rows:
            for found in rows:
                if not met(question, found):
                    continue
                if answered == self._limit:
                    raise Refusal(levels.OUT_OF_RESOURCES, f"more than {answered} matches: narrow the query")
                answered += 1
                elements = _answer(message, question, found)
                yield Reply(command, identifiers.write(elements, message.transfer_syntax))


def read_question(message: Message) -> Question:
    """What an identifier asks (section C.4.1.1.3.1). Raises Refusal."""
    level, identifier = levels.read_identifier(message)
    if len(identifier.elements) > _MOST_KEYS:
        raise Refusal(levels.UNABLE, f"more than {_MOST_KEYS} keys")
    keys: dict[str, str] = {}
    tests: dict[str, matching.Test] = {}
    wanted: dict[int, str] = {}
    whole = True
    for tag in identifier.elements:
        if tag in _OF_THE_ANSWER or tag & 0xFFFF == 0:
            continue
        keyword, vr = levels.keyword_of(tag), _vr(tag)
        if not keyword or vr not in matching.MATCHED_VRS:
            whole = False
            continue
        wanted[tag] = keyword
        key = _key(identifier, tag, vr)
        if not matching.is_universal(vr, key):
            keys[keyword], tests[keyword] = key, matching.key_test(vr, key)
    return Question(level, keys, tests, wanted, whole)


def _vr(tag: int) -> str:
    return values.resolve_vr(standard.vr_of(tag), signed=False)


def _key(identifier: Attributes, tag: int, vr: str) -> str:
    """A key as text; by the VR of the dictionary, whatever the peer wrote."""
    raw = identifier.elements[tag][1]
    texts = values.texts(vr, raw, identifier.charset, identifier.encoding.big_endian)
    return "\\".join(texts)


def met(question: Question, found: Found) -> bool:
    """Whether an entity matches all keys: any value that it holds is enough."""
    return all(
        any(matching.matches(test, one) for one in found.get(keyword, ()))
        for keyword, test in question.tests.items()
    )


def _answer(message: Message, question: Question, found: Found) -> dict[int, Sequence[str]]:
    """What is answered of a match (section C.4.1.1.3.2): a zero length where there is no value."""
    elements: dict[int, Sequence[str]] = {
        tag: () if levels.is_below(keyword, question.level) else _shown(question, found, keyword)
        for tag, keyword in question.wanted.items()
    }
    elements[_LEVEL] = (question.level,)
    elements[_RETRIEVE_AE] = (message.sender.called,)
    elements[_AVAILABILITY] = ("ONLINE",)
    return elements


def _shown(question: Question, found: Found, keyword: str) -> Sequence[str]:
    """Of several alternatives, the first that the key matches."""
    there = found.get(keyword, ())
    test = question.tests.get(keyword)
    if test is not None:
        there = [one for one in there if matching.matches(test, one)]
    return there[0] if there else ()
