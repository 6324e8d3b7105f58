"""From arrivals to series that can be opened: each settles when it is quiet, complete or told, and is built.

A series goes arriving -> settling -> building -> ready, and back to arriving by a late instance. What fails
is tried again after a while and holds up no other. Nothing of the queue is lost with this process: the
catalog says which series are not visible yet, and which lack volumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Condition, Thread
from typing import Any

from dicomlake.catalog import lately, reader, writer
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import DicomlakeError, NotArrived
from dicomlake.listening.building import Work
from dicomlake.listening.events import Event, told_uid
from dicomlake.listening.ledger import Ledger
from dicomlake.listening.tracked import Expectation, Expected, Rules, Tracked
from dicomlake.network.seams import Stored, StoreRequest
from dicomlake.records import Finding, SeriesKey
from dicomlake.storage.objectstore import Storage

_SETTLE_AGAIN_S = (2.0, 10.0, 60.0, 300.0)  # and so on: what was acknowledged must become visible
_BUILD_AGAIN_S = (5.0, 60.0, 600.0)  # and then no more: it is a property of the series
_EXPECT_EVERY_S = 1.0
_AHEAD_S = 5.0  # before the first series is due, what works on it is started
_INDEX_EVERY_S = 60.0  # at least, however many series settle
_FINDING = "settle_failed"


class Settler:
    """Settles the series that a receiver got, and has their volumes built. Safe to use from many threads.

    work: what is done with a series, by this process or others. volumes: whether they are built.
    quiet_s: without an instance, after which a series settles. max_wait_s: the longest wait for a series
    that never is quiet. study_quiet_s: the same for telling that a study is ready; four times quiet_s.
    on_event: is told what happens. expected: what a series will hold, if its sender said so.
    look_s: how often to look in the catalog for what other processes received; None: they tell.
    """

    def __init__(
        self,
        catalog: Catalog,
        storage: Storage,
        work: Work,
        *,
        volumes: bool = True,
        quiet_s: float = 30.0,
        max_wait_s: float = 600.0,
        study_quiet_s: float | None = None,
        builders: int = 1,
        on_event: Callable[[Event], object] | None = None,
        expected: Expected | None = None,
        look_s: float | None = None,
        settle_again_s: Sequence[float] = _SETTLE_AGAIN_S,
        build_again_s: Sequence[float] = _BUILD_AGAIN_S,
    ) -> None:
        self._catalog, self._storage, self._work = catalog, storage, work
        self._volumes, self._rules = volumes, Rules(quiet_s, max_wait_s)
        self._study_quiet_s = 4 * quiet_s if study_quiet_s is None else study_quiet_s
        self._on_event, self._expected, self._look_s = on_event, expected, look_s
        self._again = {True: tuple(build_again_s), False: tuple(settle_again_s)}
        self._changed = Condition()
        self._ledger = Ledger()
        self._ask: set[SeriesKey] = set()  # whose expectation is to be looked up
        self._asked_at = 0.0
        self._settling = ThreadPoolExecutor(1, thread_name_prefix="settling")
        self._building = ThreadPoolExecutor(max(1, builders), thread_name_prefix="building")
        self._batch = 0  # series that settle before words are indexed
        self._indexed = time.monotonic()
        self._prepared = self._stopping = False
        self._ahead_s = min(quiet_s / 2, _AHEAD_S)
        self._thread = Thread(target=self._run, daemon=True, name="settler")

    # ---- life ---------------------------------------------------------------------------------------------

    def start(self, backlog: Iterable[SeriesKey] | None = None) -> None:
        """Begin, with what a process before this one left undone.

        backlog: series whose volumes are to be built; None: all that lack theirs and that peers sent.
        """
        self._look()
        if self._volumes:
            self._bring_back(backlog)
        self._thread.start()

    def _bring_back(self, backlog: Iterable[SeriesKey] | None) -> None:
        with self._catalog.read() as view:
            lacking = reader.series_without_volumes(view)
            wanted = set(lately.received(view, lacking) if backlog is None else backlog)
        at = time.monotonic()
        with self._changed:
            for key in lacking:
                if key in wanted and self._ledger.get(key) is None:
                    self._ledger.touch(key, at).only_build = True

    def stop(self, drain_s: float = 0.0) -> bool:
        """End; before that settle all, for so many seconds. Whether nothing is left for the next start."""
        drained = self.drain(drain_s) if drain_s > 0 else not self._busy()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._work.close()
        self._settling.shutdown(cancel_futures=True)
        self._building.shutdown(cancel_futures=True)
        self._announce_studies()
        return drained

    # ---- being told ---------------------------------------------------------------------------------------

    def arrived(self, key: SeriesKey, sop_instance_uid: str, calling: str = "") -> None:
        """An object of a series is durable and in the catalog since now."""
        at = time.monotonic()
        with self._changed:
            one = self._ledger.touch(key, at)
            begins = not one.fresh
            if one.arrive(at, sop_instance_uid, calling):
                one.told = begins = True
            if self._expected is not None and (one.expected is None or not one.completed):
                self._ask.add(key)
            if begins:
                self._changed.notify_all()

    def stored(self, request: StoreRequest, result: Stored) -> None:
        """`arrived`, for what a sink answered; nothing where the lake had the object before."""
        if result.fresh and result.series is not None:
            self.arrived(result.series, request.sop_instance_uid, request.sender.calling)

    def expectations_changed(self) -> None:
        """A sender said what it will send: look it up, within a second, for the series that are open."""
        if self._expected is None:
            return
        with self._changed:
            self._ask.update(one.key for one in self._ledger.live if one.open)
            self._changed.notify_all()

    def settle_now(self, *, study_uid: str | None = None, series: SeriesKey | str | None = None) -> int:
        """Settle a study, a series or all without waiting, and try again what failed; how many these are."""
        with self._changed:
            chosen = [one for one in self._ledger.live if _is(one.key, study_uid, series)]
            for one in chosen:
                one.told, one.attempts = True, 0
                self._ledger.hurry(one.key.study_uid)
            self._changed.notify_all()
        return len(chosen)

    # ---- asking -------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> bool:
        """Settle and build all now; whether that was done in time. What fails counts as done."""
        self.settle_now()
        with self._changed:
            return self._changed.wait_for(lambda: not self._ledger.busy or self._stopping, timeout)

    def wait(
        self,
        *,
        studies: int | None = None,
        series: int | None = None,
        instances: int | None = None,
        timeout: float | None = None,
    ) -> list[SeriesKey]:
        """Wait until so many came to this receiver and are ready; the series that are, the oldest first.

        Without numbers: until nothing is under way. Raises NotArrived, which says what there is.
        """
        wanted = {"studies": studies, "series": series, "instances": instances}
        given = {name: number for name, number in wanted.items() if number is not None}

        def there() -> bool:
            if not given:
                return not self._ledger.busy
            found = self._ledger.ready()
            return all(found[name] >= number for name, number in given.items())

        with self._changed:
            if self._changed.wait_for(lambda: there() or self._stopping, timeout) and there():
                return self._ledger.arrived()
            raise NotArrived(self._what_is_missing(given))

    def _what_is_missing(self, wanted: dict[str, int]) -> str:
        found = self._ledger.ready()
        asked = ", ".join(f"{found[name]} of {number} {name}" for name, number in wanted.items())
        states = {state: count for state, count in self._ledger.states().items() if count}
        rest = ", ".join(f"{count} series {state}" for state, count in sorted(states.items()))
        problems = [one.problem for one in self._ledger.live if one.problem][:1]
        return (
            f"ready: {asked or 'not all'}; under way: {rest or 'nothing'}"
            + "".join(f"; the first problem: {problem}" for problem in problems)
            + ("" if self._stopping else "; look at progress(), or wait longer")
        )

    def progress(self, study_uid: str | None = None) -> list[dict[str, Any]]:
        """One dict a series that is under way or was lately: received, expected, missing, state, since …"""
        with self._changed:
            return self._ledger.rows(study_uid)

    def counts(self) -> dict[str, int]:
        """State (arriving, settling, building, failed) to how many series are in it."""
        with self._changed:
            return self._ledger.states()

    def _busy(self) -> bool:
        with self._changed:
            return self._ledger.busy

    # ---- the thread that decides --------------------------------------------------------------------------

    def _run(self) -> None:
        looked = time.monotonic()
        while self._waited(looked):
            try:
                looked = self._looked(looked)
                self._look_up_expectations()
                self._begin()
                self._announce_studies()
            except Exception as error:  # must go on: everything that is received waits for this
                self._say(Event("settle_failed", detail=_words(error)))
                time.sleep(1.0)

    def _waited(self, looked: float) -> bool:
        """Wait until something is due; False at the end."""
        with self._changed:
            if not self._stopping:
                self._changed.wait(self._pause(looked))
            return not self._stopping

    def _looked(self, looked: float) -> float:
        if self._look_s is None or time.monotonic() - looked < self._look_s:
            return looked
        with suppress(DicomlakeError):  # the next time
            self._look()
        return time.monotonic()

    def _pause(self, looked: float) -> float | None:
        """Seconds until something is due; called with the lock."""
        at = time.monotonic()
        times = [due for one in self._ledger.live if (due := one.due_at(self._rules)) is not None]
        if not self._prepared:
            times = [due - self._ahead_s for due in times]
        times += self._ledger.study_dues(self._study_quiet_s).values()
        if self._look_s is not None:
            times.append(looked + self._look_s)
        if self._ask:
            times.append(self._asked_at + _EXPECT_EVERY_S)
        return max(0.0, min(times) - at) if times else None

    def _look(self) -> None:
        """Find in the catalog what came without being told."""
        with self._catalog.read() as view:
            found = lately.unsettled_counts(view)
        at = time.monotonic()
        with self._changed:
            for key, count in found.items():
                one = self._ledger.get(key)
                if one is None or (not one.job and count > one.fresh):
                    one = self._ledger.touch(key, at)
                    one.come(at, count - one.fresh)

    def _look_up_expectations(self) -> None:
        at = time.monotonic()
        with self._changed:
            if not self._ask or self._expected is None or at < self._asked_at + _EXPECT_EVERY_S:
                return
            keys, self._ask, self._asked_at = list(self._ask), set(), at
        for key in keys:
            with suppress(DicomlakeError):
                self._expect(key, self._expected(key))

    def _expect(self, key: SeriesKey, expected: Expectation | None) -> None:
        with self._changed:
            one = self._ledger.get(key)
            if expected is None or one is None:
                return
            if one.expect(expected) and one.state == "arriving":
                one.told = True

    def _begin(self) -> None:
        at = time.monotonic()
        with self._changed:
            for one in self._ledger.live:
                due = one.due_at(self._rules)
                if due is not None and due - self._ahead_s <= at and not self._prepared:
                    self._prepared = True  # not when the first object comes: those who send are still at it
                    self._work.prepare()
                if due is None or due > at:
                    continue
                one.begin()
                if one.only_build:
                    self._building.submit(self._build, one)
                else:
                    self._batch += 1
                    self._settling.submit(self._settle, one)

    # ---- the work -----------------------------------------------------------------------------------------

    def _settle(self, one: Tracked) -> None:
        started = time.perf_counter()
        try:
            found = self._work.settle(one.key)
        except Exception as error:  # one series must not stop the others
            self._failed(one, error, "settle_failed", found=_FINDING)
        else:
            seconds = time.perf_counter() - started
            with self._changed:
                one.held, one.gaps, one.only_build = found.instances, found.gaps, True
                one.attempts, one.state = 0, "building"
            self._tell("series_settled", one, count=found.instances, seconds=seconds)
            if self._volumes:
                self._building.submit(self._build, one)
            else:
                self._is_ready(one, "", None)
        finally:
            self._after()

    def _after(self) -> None:
        with self._changed:
            self._batch -= 1
            late = time.monotonic() - self._indexed > _INDEX_EVERY_S
        if not self._batch or late:
            self._indexed = time.monotonic()
            try:
                self._work.after()
            except Exception as error:
                if not self._stopping:
                    self._say(Event("settle_failed", detail=f"words were not indexed: {_words(error)}"))

    def _build(self, one: Tracked) -> None:
        started = time.perf_counter()
        try:
            outcome = self._work.build(one.key)
        except Exception as error:
            self._failed(one, error, "volume_failed")
            return
        if outcome.problems:
            self._failed(one, DicomlakeError("; ".join(outcome.problems)), "volume_failed")
            return
        volumes = f"{outcome.built} volume{'s' * (outcome.built != 1)}"
        self._is_ready(one, volumes, time.perf_counter() - started)

    def _is_ready(self, one: Tracked, detail: str, seconds: float | None) -> None:
        self._tell("series_ready", one, count=one.held, detail=detail, seconds=seconds)
        with self._changed:  # afterwards, so that who waited finds the event
            one.counted = one.shown
            one.end()
            if one.state == "ready":
                self._ledger.settle_down(one)
            self._changed.notify_all()

    def _failed(self, one: Tracked, error: Exception, kind: str, *, found: str | None = None) -> None:
        if self._stopping:
            return  # the catalog says what is to be done; whoever starts next does it
        message = _words(error)
        if found is not None:
            with suppress(DicomlakeError), self._catalog.change("findings") as (connection, v):
                text = f"it is not visible yet: {message}"
                writer.add_findings(connection, v, [Finding("error", found, one.key.series_uid, text)])
        again = self._again[kind == "volume_failed"]
        with self._changed:
            delay = again[min(one.attempts, len(again) - 1)] if again else None
            if kind == "volume_failed" and one.attempts >= len(again):
                delay = None
            one.end(message, None if delay is None else time.monotonic() + delay)
        self._tell(kind, one, detail=message)
        with self._changed:
            self._changed.notify_all()

    def _tell(self, kind: str, one: Tracked, **facts: Any) -> None:
        study, series = map(told_uid, one.key)
        self._say(Event(kind, study_uid=study, series_uid=series, calling=one.calling, **facts))

    def _say(self, event: Event) -> None:
        if self._on_event is not None:
            with suppress(Exception):
                self._on_event(event)

    def _announce_studies(self) -> None:
        with self._changed:
            ready = self._ledger.take_ready_studies(time.monotonic(), self._study_quiet_s)
        for study in ready:
            detail = f"{study.failed} series failed" if study.failed else ""
            self._say(
                Event(
                    "study_ready", study_uid=told_uid(study.study_uid), count=study.instances, detail=detail
                )
            )


def _is(key: SeriesKey, study_uid: str | None, series: SeriesKey | str | None) -> bool:
    if study_uid is not None and key.study_uid != study_uid:
        return False
    return series is None or series in (key, key.series_uid)


def _words(error: Exception) -> str:
    """Our own words; of an error that nobody foresaw only its kind, as its text may hold anything."""
    return str(error) if isinstance(error, DicomlakeError) else f"unexpected {type(error).__name__}"
