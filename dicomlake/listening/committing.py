"""Storage commitments: written down, checked, reported; each step is durable before the next one begins.

    open → verified → reported        a report that was not confirmed is sent again, ever more seldom
                    ↘ failed          and in the end no more; both are listed

One thread checks, another one reports: a peer that does not answer holds no check up. After a crash both go
on with what the register holds, so a report may be sent twice and is never lost.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dicomlake.catalog.catalog import Catalog
from dicomlake.catalog.network import State
from dicomlake.errors import DicomlakeError
from dicomlake.listening.checking import Checked, Stopped, check
from dicomlake.listening.register import REPLACED, Commitment, Register
from dicomlake.network import reporting
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.seams import Sender
from dicomlake.network.services import commitment as service
from dicomlake.network.services.commitment import Failed, Reference, Verdict
from dicomlake.storage.objectstore import Storage

LEFT = "to be reported on a new association"
NO_ADDRESS = "verified, not reported: add `address` to the peer"
_SHOWN = 20  # damaged originals that are told of one by one
_IDLE_S = 1.0  # how often the register is looked at for what other processes wrote
_LOOK_S = 0.25  # the same for one that is waited for


class Peer(Protocol):
    """Where reports go to."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port."""

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS."""


class AddressBook(Protocol):
    """Knows where peers listen."""

    def by_ae(self, title: str) -> Peer | None:
        """The peer of an AE title, which has an address; None when there is none."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a committer waits; seconds.

    arrival_s: for objects that are asked about before they have come; then the answer is no.
    again_s: between two looks for them. hold_s: while the association of the request may still take the
    report. first_s: after a report that was not confirmed; twice as long after each further one, longest_s at
    most. attempts: reports before it gives up; by default that is after three days.
    """

    arrival_s: float = 120.0
    again_s: float = 2.0
    hold_s: float = 40.0
    first_s: float = 5.0
    longest_s: float = 3600.0
    attempts: int = 80

    def pause(self, attempts: int) -> float:
        """How long to wait after so many reports."""
        return float(min(self.first_s * 2.0 ** min(attempts - 1, 60), self.longest_s))


class Tell(Protocol):
    """Is told what happens: the kinds are commitment_requested, commitment_reported, commitment_failed."""

    def __call__(self, kind: str, **facts: Any) -> None:
        """Facts are words and numbers without identifying values."""


def _tell_nobody(kind: str, **facts: Any) -> None:
    pass


class Committer(service.Ledger):
    """Checks what peers ask about, and reports to those that did not get the answer at once.

    ae_title: what we call ourselves where the request did not say. tls: to call peers that speak TLS.
    complete: is told of objects that all are safe: their sender has sent what it wanted to send.
    """

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        peers: AddressBook,
        ae_title: str,
        *,
        tls: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        tell: Tell = _tell_nobody,
        complete: Callable[[Sequence[Reference]], object] = lambda _references: None,
        waits: Waits = reporting.WAITS,
    ) -> None:
        self._catalog, self._storage, self._peers = catalog, storage, peers
        self._ae_title, self._tls, self._waits = ae_title, tls, waits
        self._register, self._patience, self._tell = Register(catalog), patience or Patience(), tell
        self._complete = complete
        self._changed = threading.Condition()
        self._moving = threading.Lock()  # while a commitment goes from "open" to "verified"
        self._stopping = self._abandoned = False
        self._rounds = 0  # wake-ups, so that none is missed
        self._threads: list[threading.Thread] = []
        # by the number of the commitment; a crash may forget these
        self._asked: dict[int, str] = {}  # the transactions of those whose associations are here
        self._safe: dict[int, frozenset[Reference]] = {}
        self._late: set[int] = set()  # those that wait for objects
        self._left: set[int] = set()  # those that no association will report

    # ---- what the service sees ----------------------------------------------------------------------------

    def open(self, transaction: str, requestor: Sender, references: Sequence[Reference]) -> int:
        """See Ledger.open."""
        number = self._register.add(transaction, requestor, references)
        with self._changed:
            self._asked[number] = transaction
        self._say("commitment_requested", requestor, count=len(references))
        self.wake()
        return number

    def verdict(self, commitment: int, timeout_s: float) -> Verdict | None:
        """See Ledger.verdict."""
        until = time.monotonic() + timeout_s
        while True:
            with self._changed:
                rounds = self._rounds
            found = self._found(commitment)
            if found is None or found.state != "open":
                return found.verdict if found and found.checked else None
            with self._changed:
                rest = until - time.monotonic()
                if rest <= 0 or self._stopping or commitment in self._late:
                    return None
                self._wait(rounds, min(rest, _LOOK_S))

    def _found(self, commitment: int) -> Commitment | None:
        with self._changed:
            transaction = self._asked.get(commitment, "")
        return self._register.get(commitment, transaction)

    def reported(self, commitment: int) -> None:
        """See Ledger.reported."""
        found = self._found(commitment)
        if found is not None:
            self._finish(found, "reported", "on the association of the request")

    def left(self, commitment: int) -> None:
        """See Ledger.left."""
        with self._moving:
            found = self._found(commitment)
            if found is not None and found.state == "verified":
                self._register.put(replace(found, next_at=time.time()))
            elif found is not None and found.state == "open":
                self._left.add(commitment)
                if not self._threads:  # another process checks it, and has to know
                    self._register.put(replace(found, detail=LEFT))
        with self._changed:
            self._asked.pop(commitment, None)
        self.wake()

    # ---- running ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, with what an earlier run has left to do; peers may have got addresses since."""
        for one in self._register.unfinished():
            if one.detail == NO_ADDRESS:
                self._register.put(replace(one, next_at=time.time()))
        for name, step in (("check", self.check_due), ("report", self.report_due)):
            thread = threading.Thread(target=self._run, args=(step,), name=f"dicomlake-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, wait_s: float = 10.0) -> None:
        """End after the object or the report under way; what is not done waits in the register.

        wait_s: for a peer that takes its time; then the report to it is forgotten, and made again.
        """
        with self._changed:
            self._stopping = True
        self.wake()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._abandoned = any(thread.is_alive() for thread in self._threads)
        self._threads.clear()

    def wake(self) -> None:
        """Look at once at what is due."""
        with self._changed:
            self._rounds += 1
            self._changed.notify_all()

    def _run(self, step: Callable[[], object]) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                rounds = self._rounds
            try:
                step()
            except Exception as error:  # a full disk, a locked catalog: tried again
                self._tell("commitment_failed", detail=f"to be tried again: {type(error).__name__}")
            with self._changed:
                self._wait(rounds, _IDLE_S)

    def _wait(self, rounds: int, longest_s: float) -> None:
        """Until somebody wakes us, or has since `rounds` was read."""
        self._changed.wait_for(lambda: self._stopping or self._rounds != rounds, longest_s)

    def unreported(self) -> list[Commitment]:
        """What peers wait for: being checked, not to be delivered now, or given up."""
        return [*self._register.unfinished(), *self._register.given_up()]

    # ---- checking -----------------------------------------------------------------------------------------

    def check_due(self) -> int:
        """Check all open commitments that it is time for; how many have a verdict now."""
        return self._each("open", self._check)

    def _each(self, state: State, step: Callable[[Commitment], bool]) -> int:
        """Take a step with all that it is due for; what goes wrong with one holds none of the others up."""
        done = 0
        for one in self._register.due(state, time.time()):
            if self._stopping:
                break
            try:
                done += step(one)
            except Stopped:
                break
            except DicomlakeError as error:
                self._say(
                    "commitment_failed", one.requestor, detail=f"to be tried again: {type(error).__name__}"
                )
        return done

    def _check(self, one: Commitment) -> bool:
        others = self._register.others(one)
        if others and others[0].id < one.id and not _same(others[0], one):
            self._verified(one, tuple(Failed(*r, service.DUPLICATE_TRANSACTION) for r in one.references))
            return True
        # a peer that got no answer asks once more: one is enough, to the last request
        if any(other.id > one.id and _same(other, one) for other in others):
            self._finish(one, "reported", REPLACED)
            return False
        for other in others:
            if other.state == "verified" and _same(other, one):
                self._finish(other, "reported", REPLACED)
        known = self._safe.get(one.id, frozenset())
        found = check(self._catalog, self._storage, one.references, known, stopping=lambda: self._stopping)
        if found.absent and time.time() < one.at + self._patience.arrival_s:
            self._wait_for_objects(one, found)
            return False
        self._verified(one, found.failed)
        return True

    def _wait_for_objects(self, one: Commitment, found: Checked) -> None:
        self._safe[one.id] = frozenset(found.safe)
        with self._changed:
            self._late.add(one.id)
        again = min(time.time() + self._patience.again_s, one.at + self._patience.arrival_s)
        self._register.put(replace(one, next_at=again))
        self.wake()

    def _verified(self, one: Commitment, failed: tuple[Failed, ...]) -> None:
        with self._moving:
            now_kept = self._register.get(one.id, one.transaction)
            left = one.id in self._left or (now_kept is not None and now_kept.detail == LEFT)
            free = left or one.id in self._late
            next_at = time.time() if free else max(time.time(), one.at + self._patience.hold_s)
            self._register.put(replace(one, state="verified", failed=failed, next_at=next_at, detail=""))
        self._safe.pop(one.id, None)
        self._warn(one, failed)
        if not failed:
            self._complete(one.references)
        self.wake()

    def _warn(self, one: Commitment, failed: tuple[Failed, ...]) -> None:
        """Tell of originals that are not well, which is worse for the lake than for the peer."""
        damaged = [found for found in failed if found.reason == service.PROCESSING_FAILURE]
        for found in damaged[:_SHOWN]:
            detail = "its original differs, or cannot be read: run `dicomlake verify`"
            uid = found.sop_instance_uid
            self._say("commitment_failed", one.requestor, detail=detail, sop_instance_uid=uid)

    # ---- reporting ----------------------------------------------------------------------------------------

    def report_due(self) -> int:
        """Report all verdicts that it is time for; how many were confirmed."""
        return self._each("verified", self._report)

    def _report(self, one: Commitment) -> bool:
        peer = self._peers.by_ae(one.requestor.calling)
        if peer is None or peer.address is None:
            self._register.put(
                replace(one, detail=NO_ADDRESS, next_at=time.time() + self._patience.longest_s)
            )
            if one.detail != NO_ADDRESS:
                self._say("commitment_failed", one.requestor, detail=NO_ADDRESS)
            return False
        problem = self._send(one, Address(one.requestor.calling, *peer.address), peer.tls)
        if self._abandoned:  # the catalog may be closed by now: it will be reported again
            return False
        if problem:
            self._postpone(one, problem)
        else:
            self._finish(one, "reported", "on a new association")
        return not problem

    def _send(self, one: Commitment, address: Address, speaks_tls: bool) -> str:
        if speaks_tls and self._tls is None:
            return f"{address} speaks TLS: give the receiver a certificate"
        return reporting.report(
            event_of(one.verdict),
            address,
            calling=one.requestor.called or self._ae_title,
            tls=self._tls if speaks_tls else None,
            waits=self._waits,
        )

    def _postpone(self, one: Commitment, problem: str) -> None:
        attempts = one.attempts + 1
        if attempts >= self._patience.attempts:
            self._finish(replace(one, attempts=attempts), "failed", problem)
            return
        next_at = time.time() + self._patience.pause(attempts)
        self._register.put(replace(one, attempts=attempts, next_at=next_at, detail=problem))
        self._say("commitment_failed", one.requestor, detail=problem)

    def _finish(self, one: Commitment, state: State, detail: str) -> None:
        self._register.put(replace(one, state=state, detail=detail))
        with self._changed:
            self._left.discard(one.id)
            self._late.discard(one.id)
            self._asked.pop(one.id, None)
        self._safe.pop(one.id, None)
        if state == "failed":
            self._say("commitment_failed", one.requestor, detail=f"given up: {detail}")
        elif detail != REPLACED:
            asked, failed = len(one.references), len(one.failed)
            said = f"{asked - failed} safe, {failed} not, {detail}"
            self._say("commitment_reported", one.requestor, detail=said, count=asked)

    def _say(self, kind: str, who: Sender, **facts: Any) -> None:
        facts |= {"association": who.association, "calling": who.calling, "called": who.called}
        self._tell(kind, host=who.host, **facts)


def _same(one: Commitment, other: Commitment) -> bool:
    return set(one.references) == set(other.references)


def event_of(verdict: Verdict) -> reporting.EventReport:
    """The report of a verdict, for a new association."""
    return reporting.EventReport(
        service.PUSH_MODEL,
        service.WELL_KNOWN_INSTANCE,
        verdict.event_type,
        lambda syntax: service.encoded(service.information(verdict), syntax),
    )
