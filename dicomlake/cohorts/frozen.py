"""Frozen cohorts: a name for what was studied, with proof; re-opened, compared, cited, carried elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dicomlake.catalog.frozen import FrozenRow, Member
from dicomlake.catalog.frozen_files import write_export
from dicomlake.cohorts import citing
from dicomlake.errors import CohortChanged
from dicomlake.records import SeriesKey

if TYPE_CHECKING:
    import pandas as pd

    from dicomlake.cohorts.cohort import Cohort

What = Literal["gone", "added", "instances", "header", "pixels", "volumes"]
MEANINGS: dict[str, str] = {
    "gone": "the lake does not hold it any more",
    "added": "meets the query now, did not then",
    "instances": "has other objects",
    "header": "an element of its objects differs",
    "pixels": "a voxel differs",
    "volumes": "its volumes were planned anew: other frames, geometry or dtype, no voxel compared",
}


class Source(Protocol):
    """What a frozen cohort needs of its lake."""

    def states(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, Member]:
        """What those of these series that the lake holds are now."""

    def cohort_of(self, keys: Sequence[SeriesKey]) -> Cohort:
        """These series, in this order."""

    def requery(self, query: dict[str, Any]) -> Cohort:
        """What meets conditions, given as JSON, now."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one series differs, in one way. detail: free of identifying values."""

    key: SeriesKey
    what: What
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Diff:
    """How what is now, or another cohort, differs from a frozen cohort.

    same: how many series are what they were.
    """

    name: str
    against: str
    same: int
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def of(self, what: What) -> list[SeriesKey]:
        """The series that differ in this way."""
        return [change.key for change in self.changes if change.what == what]

    @property
    def added(self) -> list[SeriesKey]:
        """Series that meet the query now and did not, or that only the other cohort has."""
        return self.of("added")

    @property
    def gone(self) -> list[SeriesKey]:
        """Series that the lake, or the other cohort, does not hold."""
        return self.of("gone")

    def table(self) -> pd.DataFrame:
        """One row a series and way in which it differs."""
        from dicomlake.tables import frame

        rows = [
            {
                "what": one.what,
                "meaning": MEANINGS[one.what],
                "detail": one.detail,
                "SeriesInstanceUID": one.key.series_uid,
                "StudyInstanceUID": one.key.study_uid,
            }
            for one in self.changes
        ]
        return frame(rows, ("what", "meaning", "detail", "SeriesInstanceUID", "StudyInstanceUID"))

    def counts(self) -> dict[str, int]:
        """How many series differ in each way."""
        return {what: n for what in MEANINGS if (n := sum(one.what == what for one in self.changes))}

    def __str__(self) -> str:
        counts = self.counts()
        told = ", ".join(f"{n:,} {what}" for what, n in counts.items()) or "nothing differs"
        return f"{self.name} against {self.against}: {self.same:,} series as they were; {told}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{what}</th><td style='text-align:right'>{n:,}</td>"
            f"<td style='text-align:left'>{MEANINGS[what]}</td></tr>"
            for what, n in self.counts().items()
        )
        title = f"<strong>{html.escape(self.name)}</strong> against {html.escape(self.against)}"
        return (
            f"<div>{title}: {self.same:,} series as they were"
            f"{f'<table>{rows}</table>' if rows else ', nothing differs'}</div>"
        )


@dataclass(frozen=True)
class FrozenCohort:
    """A cohort as it was when it was frozen; it never changes. What the lake made of it since: `diff()`."""

    source: Source = field(repr=False)
    row: FrozenRow = field(repr=False)

    @property
    def name(self) -> str:
        """What it was called."""
        return self.row.name

    @property
    def keys(self) -> list[SeriesKey]:
        """The series in it."""
        return [member.key for member in self.row.members]

    @property
    def digest(self) -> str:
        """SHA-256 over what all its series were; names the content whatever lake it is in."""
        return self.row.digest

    def __len__(self) -> int:
        return len(self.row.members)

    def cohort(self, *, strict: bool = True) -> Cohort:
        """Its series, to work with.

        Raises CohortChanged, naming how many series differ in which way, when one is gone or has other
        objects or voxels than then; strict=False gives those that the lake holds, as they are.
        """
        found = self.source.states(self.keys)
        if strict:
            diff = _compared(self.name, "the lake", self.row.members, found)
            if diff:
                raise CohortChanged(f"{diff}: see diff(), or take cohort(strict=False)")
        return self.source.cohort_of([key for key in self.keys if key in found])

    def diff(self, other: FrozenCohort | None = None) -> Diff:
        """How the lake, or another frozen cohort, differs from what it was.

        Against the lake, series that meet its query now and did not then are `added`.
        """
        if other is not None:
            members = {member.key: member for member in other.row.members}
            added = [key for key in members if key not in set(self.keys)]
            return _compared(self.name, other.name, self.row.members, members, added)
        added = self._meet_now() if self.row.query is not None else []
        return _compared(self.name, "the lake", self.row.members, self.source.states(self.keys), added)

    def _meet_now(self) -> list[SeriesKey]:
        assert self.row.query is not None
        known = set(self.keys)
        return [key for key in self.source.requery(self.row.query).keys if key not in known]

    def export(self, path: str | Path) -> Path:
        """Write it to a .json or .parquet file that another lake can `import_cohort`; returns the path.

        The file names series by UID and holds the query as it was asked; nothing else of any patient.
        """
        return write_export(self.row, Path(path))

    def cite(self, style: Literal["bibtex", "ris"] = "bibtex") -> str:
        """The cohort, the collections that its data are from, and dicomlake, for a reference manager.

        Collections are named by the labels `doi` and `citation` of patients, studies or series, and by
        ClinicalTrialProtocolID and ClinicalTrialProtocolName.
        """
        cohort = self.cohort(strict=False)
        return citing.citation(self.row, citing.collections(cohort), style)

    def __repr__(self) -> str:
        return f"<FrozenCohort {self.name!r} of {len(self):,} series, at change {self.row.change}>"

    def _repr_html_(self) -> str:
        facts = {
            "series": f"{len(self):,}",
            "frozen": f"{self.row.at} at change {self.row.change}",
            "by": f"{self.row.who}, dicomlake {self.row.program}",
            "SHA-256": self.digest,
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in facts.items()
        )
        return f"<div><strong>Frozen cohort</strong> {html.escape(self.name)}<table>{rows}</table></div>"


def _compared(
    name: str,
    against: str,
    members: Iterable[Member],
    now: dict[SeriesKey, Member],
    added: Sequence[SeriesKey] = (),
) -> Diff:
    changes = [Change(key, "added") for key in added]
    same = 0
    for member in members:
        found = list(_changes(member, now.get(member.key)))
        same += not found
        changes += found
    return Diff(name, against, same, tuple(changes))


def _changes(was: Member, now: Member | None) -> Iterator[Change]:
    """In which ways a series differs. Stores may be built anew: only what they hold counts."""
    if now is None:
        yield Change(was.key, "gone")
        return
    if was.instances != now.instances:
        yield Change(was.key, "instances", f"{was.instances} then, {now.instances} now")
    known = bool(_voxels(was)) and bool(_voxels(now))
    pixels = known and _voxels(was) != _voxels(now)
    if was.objects != now.objects and was.instances == now.instances:
        if was.headers != now.headers:
            yield Change(was.key, "header")
        if pixels:
            yield Change(was.key, "pixels")
        elif was.headers == now.headers:
            yield Change(
                was.key, "header", "what is not catalogued" + ("" if known else ", or pixels: no volume")
            )
    elif pixels and was.objects == now.objects:
        yield Change(was.key, "volumes", f"{len(was.volumes)} then, {len(now.volumes)} now")


def _voxels(member: Member) -> list[tuple[int, str]]:
    return [(volume.number, volume.voxels) for volume in member.volumes if volume.voxels is not None]
