"""What C-MOVE and C-GET have in common: what is asked for, and the count of sub-operations.

PS3.4 sections C.4.2 and C.4.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dicomlake.errors import DicomlakeError
from dicomlake.network.requesting.outgoing import Outgoing
from dicomlake.network.seams import Message, Reply
from dicomlake.network.services import identifiers, levels
from dicomlake.network.services.finding import Finder
from dicomlake.network.services.levels import Refusal

WITH_FAILURES = 0xB000
NOT_CALCULATED = 0xA701
NOT_PERFORMED = 0xA702
_REMAINING, _COMPLETED, _FAILED, _WARNING = 0x1020, 0x1021, 0x1022, 0x1023
_FAILED_LIST = 0x00080058  # FailedSOPInstanceUIDList
_MOST = 0xFFFF  # US; and what a list of UIDs, 64 characters each, may have in an explicit VR is less
_MOST_LISTED = 0xFFFE // 65
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})


def asked_for(message: Message, finder: Finder) -> list[Outgoing]:
    """The objects that an identifier names (sections C.4.2.1.4 and C.4.3.1.3). Raises Refusal."""
    level, identifier = levels.read_identifier(message)
    uids = levels.unique_keys(identifier, level)
    if levels.UNIQUE_KEYS[level] not in uids:
        raise Refusal(levels.WRONG_IDENTIFIER, f"{levels.UNIQUE_KEYS[level]} is missing")
    try:
        return list(finder.instances(uids))
    except DicomlakeError as error:
        told = f"the matches cannot be counted ({type(error).__name__})"
        raise Refusal(NOT_CALCULATED, told) from error


@dataclass(slots=True)
class Tally:
    """Counts sub-operations."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, sop_instance_uid: str, status: int | None) -> None:
        """Count what a C-STORE was answered; None where it could not be made, or was not answered."""
        self.remaining -= 1
        if status == levels.SUCCESS:
            self.completed += 1
        elif status is not None and (status & 0xF000 == 0xB000 or status in _WARNINGS):
            self.warning += 1
        else:
            self.failed.append(sop_instance_uid)

    def fail(self, objects: Iterable[Outgoing]) -> None:
        """Count objects that cannot be sent."""
        for one in objects:
            self.add(one.sop_instance_uid, None)

    @property
    def status(self) -> int:
        """Of the final response, when nothing remains."""
        if not self.failed and not self.warning:
            return levels.SUCCESS
        return WITH_FAILURES if self.completed or self.warning else NOT_PERFORMED

    def reply(self, message: Message, status: int, comment: str = "") -> Reply:
        """A response with the counts; in a final one, the list of what failed."""
        pending = status == levels.PENDING
        command = levels.response(message, status, comment) | {
            _COMPLETED: min(self.completed, _MOST),
            _FAILED: min(len(self.failed), _MOST),
            _WARNING: min(self.warning, _MOST),
        }
        if pending or status == levels.CANCELLED:
            command |= {_REMAINING: min(self.remaining, _MOST)}
        if pending or not self.failed:
            return Reply(command)
        listed = {_FAILED_LIST: self.failed[:_MOST_LISTED]}
        return Reply(command, identifiers.write(listed, message.transfer_syntax))
