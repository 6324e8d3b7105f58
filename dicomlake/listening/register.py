"""Commitments and performed steps in the catalog, as the services and the committer want them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection

from dicomlake.catalog import network, steps
from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.network import State
from dicomlake.network.seams import Sender
from dicomlake.network.services import mpps
from dicomlake.network.services.commitment import Failed, Reference, Verdict
from dicomlake.network.services.mpps import Step

REPLACED = "asked again: the answer is that to the later request"
_NEVER = "9999"  # sorts behind every time


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request for commitment, and how far it has come.

    references: what it asks about. failed: of these, once they are checked. at: of the request; next_at: of
    the next step; both in seconds since 1970. attempts: reports that were not confirmed. detail: why not.
    """

    id: int
    transaction: str
    requestor: Sender
    references: tuple[Reference, ...]
    at: float
    next_at: float
    state: State = "open"
    failed: tuple[Failed, ...] = ()
    attempts: int = 0
    detail: str = ""

    @classmethod
    def of(cls, row: network.Commitment) -> Self:
        """What a row says."""
        result: dict[str, Any] = row.result or {}
        return cls(
            row.id,
            row.transaction_uid,
            row.sender,
            tuple(Reference(*pair) for pair in row.items),
            _seconds(row.at),
            _seconds(row.next_at),
            row.state,
            tuple(Failed(*one) for one in result.get("failed", ())),
            row.attempts,
            result.get("detail", ""),
        )

    @property
    def checked(self) -> bool:
        """Whether its references were looked at: only then does `failed` say anything."""
        return self.state != "open" and self.detail != REPLACED

    @property
    def verdict(self) -> Verdict:
        """What the check came to."""
        not_safe = {Reference(one.sop_class_uid, one.sop_instance_uid) for one in self.failed}
        safe = tuple(one for one in self.references if one not in not_safe)
        return Verdict(self.transaction, safe, self.failed)


def _seconds(at: str) -> float:
    return datetime.datetime.fromisoformat(at).timestamp()


def _stamp(seconds: float) -> str:
    return network.stamp(datetime.datetime.fromtimestamp(seconds, datetime.UTC))


@contextmanager
def _writing(catalog: Catalog) -> Iterator[Connection]:
    """A transaction that no rebuild misses."""
    with catalog.database.shared(), catalog.database.write() as connection:
        yield connection


class Register:
    """Where commitments are kept, durably. Safe to use from many threads and processes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def add(self, transaction: str, requestor: Sender, references: Sequence[Reference]) -> int:
        """Keep a new one, and expect its objects to come; its number."""
        uids = [one.sop_instance_uid for one in references]
        with _writing(self._catalog) as connection:
            number = network.add_commitment(connection, transaction, requestor, references)
            network.add_expectation(connection, "", source="commitment", reference=transaction, items=uids)
        return number

    def get(self, number: int, transaction: str) -> Commitment | None:
        """One of them; None when a rebuild has given it another number."""
        with self._catalog.read() as view:
            found = network.commitments(view, transaction_uid=transaction)
        return next((Commitment.of(row) for row in found if row.id == number), None)

    def put(self, commitment: Commitment) -> None:
        """Keep how far it has come."""
        with _writing(self._catalog) as connection:
            network.update_commitment(
                connection,
                commitment.id,
                state=commitment.state,
                attempts=commitment.attempts,
                next_at=_stamp(commitment.next_at),
                result={"failed": commitment.failed, "detail": commitment.detail},
            )

    def due(self, state: State, at: float) -> list[Commitment]:
        """Those in a state whose next step is due, the oldest first."""
        with self._catalog.read() as view:
            found = network.open_commitments(view, _stamp(at))
        return [Commitment.of(row) for row in found if row.state == state]

    def unfinished(self) -> list[Commitment]:
        """Those that are open or verified, the oldest first."""
        with self._catalog.read() as view:
            return [Commitment.of(row) for row in network.open_commitments(view, _NEVER)]

    def given_up(self) -> list[Commitment]:
        """Those whose report nobody took, the newest first."""
        with self._catalog.read() as view:
            found = network.commitments(view)
        return [Commitment.of(row) for row in found if row.state == "failed"]

    def others(self, commitment: Commitment) -> list[Commitment]:
        """All of the same transaction and requestor but this one, the oldest first."""
        with self._catalog.read() as view:
            found = network.commitments(view, transaction_uid=commitment.transaction)
        calling = commitment.requestor.calling
        others = (row for row in found if row.id != commitment.id and row.sender.calling == calling)
        return [Commitment.of(row) for row in reversed([*others])]


class CatalogSteps(mpps.Steps):
    """Performed procedure steps in the catalog; of those that have ended, the objects are expected."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def create(self, step: Step, sender: Sender) -> bool:
        """See Steps.create."""
        with _writing(self._catalog) as connection:
            return steps.add_step(connection, step.uid, sender, step.status, step.as_json())

    def get(self, uid: str) -> Step | None:
        """See Steps.get."""
        with self._catalog.read() as view:
            found = steps.step_facts(view, uid)
        return None if found is None else Step.from_json(found)

    def set(self, before: Step, after: Step) -> bool:
        """See Steps.set."""
        with _writing(self._catalog) as connection:
            if steps.step_facts(connection, before.uid) != before.as_json():
                return False
            steps.update_step(connection, after.uid, after.status, after.as_json())
            if after.final:
                _expect(connection, after)
        return True


def _expect(connection: Connection, step: Step) -> None:
    """Only of a final step: what one in progress has made so far is not what is to come."""
    for series_uid, instances in step.series:
        if instances:
            network.add_expectation(
                connection,
                step.study_uid,
                series_uid,
                source="mpps",
                reference=step.uid,
                items=instances,
            )
