"""Studies are fetched from a peer into a sink: by query or by a table of accessions, gently, resumably."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dicomlake.errors import AddressError, DicomlakeError, PeerError
from dicomlake.network.requesting.addresses import Address, checked_title, is_web, web_root
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.find import Root
from dicomlake.network.requesting.journal import Journal
from dicomlake.network.requesting.pacing import Pacer, Pacing
from dicomlake.network.requesting.priors import Priors, priors_of
from dicomlake.network.requesting.pull_report import (
    COMPLETE,
    FAILED,
    NOT_FOUND,
    PARTIAL,
    PLANNED,
    PULLED,
    PulledStudy,
    PullReport,
)
from dicomlake.network.requesting.studies import Fetched, Source, Study
from dicomlake.network.requesting.tally import Count, Tally
from dicomlake.network.requesting.wanted import Wanted
from dicomlake.network.seams import Sink
from dicomlake.progress import Progress
from dicomlake.progress import progress as bar

By = Literal["get", "move", "web"]
Held = Callable[[str], Collection[str]]
"""The SOPInstanceUIDs of a study that are here already."""
Receiving = Callable[[Sink], AbstractContextManager[Any]]
"""What receives the objects of a C-MOVE into a sink while it is entered."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to pull.

    by: get, move or web; None takes web for a URL, else get.
    calling: our AE title, and the destination of a C-MOVE unless `move_to` names another.
    receiving: starts a receiver for a C-MOVE; None when one is listening already at `move_to`.
    root: the information model that is asked, "study" or "patient".
    headers: of requests to DICOMweb, such as Authorization.
    priors: also earlier studies of the same patients. at_once: studies that are fetched at the same time.
    retries: so many more tries for a study that breaks off.
    journal: a folder for the state of the pull, in the lake; resume: go on with what is in it.
    dry_run: ask, and fetch nothing. show: a bar; None where somebody looks.
    """

    by: By | None = None
    calling: str = "DICOMLAKE"
    move_to: str = ""
    receiving: Receiving | None = None
    root: Root = "study"
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    pacing: Pacing = field(default_factory=Pacing)
    priors: Priors | None = None
    at_once: int = 1
    retries: int = 2
    waits: Waits = field(default_factory=Waits)
    journal: Path | None = None
    resume: bool = False
    dry_run: bool = False
    show: bool | None = None


def pull(
    source: Address | str,
    wanted: Iterable[Wanted],
    *,
    into: Sink,
    held: Held | None = None,
    options: Options | None = None,
) -> PullReport:
    """Fetch the studies that rows of keys name; one that fails stops no other.

    source: AE@HOST:PORT, or the URL of a DICOMweb service.
    wanted: of `wanted.from_csv`, `from_conditions` or `studies`.
    into: takes the objects in, as those that a scanner sends. held: what is here already; a study of
        which every instance is, is not fetched, and of others only the series that lack something. A study
        is pulled when, after it was fetched, nothing of it lacks here; without `held` what went into the
        sink is what is here.
    Raises AddressError for an address that is none.
    """
    options, rows = options or Options(), list(wanted)
    started = time.perf_counter()
    pacer = Pacer(options.pacing)
    tally = Tally(into, pacer)
    with ExitStack() as stack:
        opened, name = _source(source, options, stack)
        journal = _journal(options, name, stack)
        if options.by == "move" and options.receiving is not None and not options.dry_run:
            stack.enter_context(options.receiving(tally))
        shown = stack.enter_context(bar(f"Pulling from {name}", len(rows), unit="rows", show=options.show))
        pulling = _Pulling(opened, tally, pacer, held, options, journal, shown)
        found = pulling.run(rows)
    return PullReport(found, len(rows), name, time.perf_counter() - started)


def _source(source: Address | str, options: Options, stack: ExitStack) -> tuple[Source, str]:
    if isinstance(source, str) and is_web(source):
        from dicomlake.network.requesting.dicomweb import WebSource

        if options.by not in (None, "web"):
            raise AddressError(f"a URL is not pulled from by {options.by}: write the peer as AE@HOST:PORT")
        web = WebSource(source, headers=options.headers, tls=options.tls, waits=options.waits)
        return stack.enter_context(web), web_root(source)
    from dicomlake.network.requesting.retrieve import DimseSource

    address = source if isinstance(source, Address) else Address.parse(source)
    if options.by == "web":
        raise AddressError(f"{address} is no URL: write the service as https://HOST/dicom-web")
    calling = checked_title(options.calling)
    move_to = checked_title(options.move_to or options.calling)
    way: Literal["get", "move"] = "move" if options.by == "move" else "get"
    return (
        DimseSource(address, calling, way, move_to, options.root, options.tls, options.waits),
        str(address),
    )


def _journal(options: Options, name: str, stack: ExitStack) -> Journal | None:
    if options.journal is None or options.dry_run:
        return None
    job = (name, str(options.priors))
    journal = Journal(options.journal, job, resume=options.resume)
    stack.callback(journal.close)
    return journal


@dataclass(slots=True)
class _Pulling:
    """A pull under way."""

    source: Source
    tally: Tally
    pacer: Pacer
    held: Held | None
    options: Options
    journal: Journal | None
    shown: Progress

    def run(self, rows: list[Wanted]) -> list[PulledStudy]:
        """All rows, in their order, `at_once` at the same time."""
        with ThreadPoolExecutor(max(1, self.options.at_once), "pull") as pool:
            try:
                return [study for found in pool.map(self._row, rows) for study in found]
            except BaseException:  # Ctrl-C: the study at hand comes to its end, and nothing is waited for
                self.pacer.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _row(self, row: Wanted) -> list[PulledStudy]:
        done = self.journal.done.get(row.digest) if self.journal and not row.refused else None
        if done is not None and all(map(self._is_here, done)):
            now = {"row": row.number, "resumed": True, "fresh": 0, "size": 0, "seconds": 0.0}
            found = [PulledStudy(**{**one, **now}) for one in done]
        else:
            found = list(self._studies(row))
            if self.journal and all(one.outcome in (PULLED, COMPLETE) for one in found):
                self.journal.finish(row.digest, [one._asdict() for one in found])
        self.shown.advance(1, sum(one.size for one in found))
        return found

    def _is_here(self, one: Mapping[str, Any]) -> bool:
        """Whether a study that the journal calls done has as many instances here as were announced."""
        return self.held is not None and len(self.held(one["study_uid"])) >= (one["expected"] or 1)

    def _studies(self, row: Wanted) -> Iterator[PulledStudy]:
        """The studies of a row, and those before them."""
        if row.refused or not row.keys:
            yield _of_keys(row, FAILED, row.refused or "the row is empty")
            return
        try:
            studies = self._again(lambda: self.source.studies(row.keys))
        except DicomlakeError as error:
            yield _of_keys(row, FAILED, str(error))
            return
        if not studies:
            yield _of_keys(row, NOT_FOUND, "the peer knows no such study")
        seen: set[str] = set()
        for study in studies:
            if study.uid in seen:
                continue
            seen.add(study.uid)
            yield self._study(row, study)
            for prior in self._priors(study, seen):
                yield self._study(row, prior, prior_of=study.uid)

    def _priors(self, study: Study, seen: set[str]) -> list[Study]:
        if self.options.priors is None:
            return []
        wanted = self.options.priors
        try:
            found = self._again(lambda: priors_of(self.source, study, wanted))
        except DicomlakeError:
            return []
        fresh = [prior for prior in found if prior.uid not in seen]
        seen.update(prior.uid for prior in fresh)
        return fresh

    def _study(self, row: Wanted, study: Study, *, prior_of: str = "") -> PulledStudy:
        started = time.perf_counter()
        if self.options.dry_run:
            return _result(row, study, PLANNED, prior_of)
        self.tally.take(study.uid)
        told, why, tries = Fetched(), "", 0
        while True:
            try:
                series = self._missing(study)
                if series is not None and not series:
                    outcome = COMPLETE if not tries else PULLED
                    break
                self.pacer.before_study()
                told = self.source.fetch(study, series, self.tally)
                outcome, why = _outcome(study, told, self._left(study))
                break
            except PeerError as error:
                outcome, why, tries = FAILED, str(error), tries + 1
                if not error.temporary or tries > self.options.retries:
                    break
                time.sleep(self.options.waits.pause(tries))
            except DicomlakeError as error:
                outcome, why = FAILED, str(error)
                break
        count = self.tally.take(study.uid)
        if outcome == FAILED and count.safe:
            outcome = PARTIAL
        if outcome in (FAILED, PARTIAL):
            why = why or self.tally.why() or "no reason given"
        seconds = time.perf_counter() - started
        return _result(row, study, outcome, prior_of, told, count, why, seconds)

    def _missing(self, study: Study) -> list[str] | None:
        """The series of which something is not here; None for the whole study."""
        here = self._here(study)
        lacking = self._lacking(study, here) if here else None
        return None if lacking is None else [uid for uid, uids in lacking.items() if uids is None or uids]

    def _left(self, study: Study) -> _Left:
        """What is still not here of a fetched study; not asked where as many came as were announced."""
        came = len(self.tally.uids(study.uid))
        if study.instances is not None and came >= study.instances:
            return _Left(came, sure=True)
        here = self._here(study)
        if not here and self.held is None:
            return _Left(None)  # it went elsewhere
        lacking = self._lacking(study, here)
        if lacking is None:
            return _Left(len(here))
        known = [uids for uids in lacking.values() if uids is not None]
        return _Left(len(here), sum(map(len, known)), sure=len(known) == len(lacking))

    def _here(self, study: Study) -> set[str]:
        return self.tally.uids(study.uid) if self.held is None else set(self.held(study.uid))

    def _lacking(self, study: Study, here: set[str]) -> dict[str, set[str] | None] | None:
        """What is not here of each series, None for one of which the peer does not tell.

        None for all when it does not answer at these levels. Raises PeerError for what may pass.
        """
        found: dict[str, set[str] | None] = {}
        try:
            for series in self.source.series(study):
                uids = self.source.instances(study, series.uid)
                found[series.uid] = uids - here if uids else None
        except PeerError as error:
            if error.temporary:
                raise
            return None
        return found or None

    def _again(self, ask: Callable[[], list[Study]]) -> list[Study]:
        """What a question gives, asked again while the failure may pass."""
        for tries in range(1, self.options.retries + 2):
            try:
                return ask()
            except PeerError as error:
                if not error.temporary or tries > self.options.retries:
                    raise
                time.sleep(self.options.waits.pause(tries))
        return []


class _Left(NamedTuple):
    """What is still not here of a study.

    here: instances that are, None when nobody can say. lacking: those that the peer lists and are not.
    sure: the peer listed those of every series.
    """

    here: int | None
    lacking: int = 0
    sure: bool = False


def _outcome(study: Study, told: Fetched, left: _Left) -> tuple[str, str]:
    """What a fetch that ended came to: pulled only when nothing says that something lacks."""
    came = told.completed + told.warnings
    here = came if left.here is None else left.here
    outcome = PARTIAL if came and here else FAILED
    also = f": {told.reason}" if told.reason else ""
    if told.failed:
        return outcome, told.reason or "some instances did not come"
    if left.lacking:
        return outcome, f"{left.lacking} instances that the peer lists are not here, {came} came{also}"
    if study.instances is not None and here < study.instances:
        return outcome, f"{study.instances} instances were announced, {here} are here, {came} came{also}"
    if left.sure:
        return PULLED, ""
    if not came:
        return FAILED, told.reason or "nothing came"
    if told.reason and not told.warnings and study.instances is None:
        return outcome, f"{came} came, and the peer does not tell of how many{also}"
    return PULLED, ""


def _of_keys(row: Wanted, outcome: str, reason: str) -> PulledStudy:
    keys = row.keys
    return PulledStudy(
        row.number,
        outcome,
        keys.get("StudyInstanceUID", ""),
        reason,
        PatientID=keys.get("PatientID", ""),
        AccessionNumber=keys.get("AccessionNumber", ""),
        StudyDate=keys.get("StudyDate", ""),
    )


def _result(
    row: Wanted,
    study: Study,
    outcome: str,
    prior_of: str,
    told: Fetched | None = None,
    count: Count | None = None,
    reason: str = "",
    seconds: float = 0.0,
) -> PulledStudy:
    told, count = told or Fetched(), count or Count()
    return PulledStudy(
        row.number,
        outcome,
        study.uid,
        reason,
        study.instances,
        max(told.completed + told.warnings, count.safe),
        told.warnings,
        told.failed,
        count.fresh,
        count.size,
        round(seconds, 3),
        prior_of,
        False,
        study.patient_id,
        study.accession,
        study.date,
    )
