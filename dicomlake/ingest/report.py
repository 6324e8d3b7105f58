"""What an ingest did, object by object; prints, shows itself in a notebook, turns into a table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomlake.records import SeriesKey, Volume

if TYPE_CHECKING:
    import pandas as pd

STORED, ALREADY, CONFLICT, REFUSED, SKIPPED = OUTCOMES = (
    "stored",
    "already",
    "conflict",
    "refused",
    "skipped",
)
_MEANING = {
    STORED: "new in the lake",
    ALREADY: "there before, byte for byte or data set for data set",
    CONFLICT: "kept beside another object with the same SOPInstanceUID",
    REFUSED: "not taken, kept in quarantine where the bytes could be read",
    SKIPPED: "no DICOM",
}
_SHOWN = 8  # reasons listed in the short form


class Entry(NamedTuple):
    """What became of one object.

    origin: where it came from. detail: the reason for anything but stored. size: in bytes.
    """

    origin: str
    outcome: str
    detail: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What an ingest did.

    entries: one for each object met. series: those that got new instances.
    volumes: of these series, built or with the verdict that kept them from being built.
    seconds: of wall time, volumes included.
    """

    entries: Sequence[Entry] = ()
    series: Sequence[SeriesKey] = ()
    volumes: Sequence[Volume] = ()
    seconds: float = 0.0
    _counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, entries: Iterable[Entry], series: Iterable[SeriesKey], seconds: float) -> Report:
        """A report of these entries."""
        kept = tuple(entries)
        return cls(kept, tuple(series), (), seconds, Counter(entry.outcome for entry in kept))

    @classmethod
    def rebuilt(
        cls, originals: int, series: Iterable[SeriesKey], volumes: Iterable[Volume], seconds: float
    ) -> Report:
        """A report of a rebuild: the originals were there already."""
        return cls((), tuple(series), tuple(volumes), seconds, Counter({ALREADY: originals}))

    def with_volumes(self, volumes: Iterable[Volume], seconds: float) -> Report:
        """The same with what became of the volumes."""
        return replace(self, volumes=tuple(volumes), seconds=self.seconds + seconds)

    @property
    def stored(self) -> int:
        """Objects that are new in the lake."""
        return self._counts[STORED]

    @property
    def already(self) -> int:
        """Objects that were there before."""
        return self._counts[ALREADY]

    @property
    def conflicts(self) -> list[Entry]:
        """Objects kept beside another one with the same SOPInstanceUID."""
        return self._with(CONFLICT)

    @property
    def refused(self) -> list[Entry]:
        """Objects that were not taken, each with the reason."""
        return self._with(REFUSED)

    @property
    def skipped(self) -> list[Entry]:
        """What is no DICOM."""
        return self._with(SKIPPED)

    @property
    def built(self) -> list[Volume]:
        """The volumes that were made."""
        return [volume for volume in self.volumes if volume.key is not None]

    def _with(self, outcome: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome == outcome]

    def counts(self) -> dict[str, int]:
        """How many objects had each outcome; they add up to the objects met."""
        return {outcome: self._counts[outcome] for outcome in OUTCOMES}

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON types; names every object."""
        return {
            **self.counts(),
            "met": len(self.entries),
            "series": len(self.series),
            "volumes": len(self.built),
            "seconds": round(self.seconds, 3),
            "bytes": sum(entry.size for entry in self.entries if entry.outcome in (STORED, CONFLICT)),
            "objects": [entry._asdict() for entry in self.entries],
            "not_built": [
                {"series_uid": v.series_uid, "number": v.number, "verdict": v.verdict, "reason": v.reason}
                for v in self.volumes
                if v.key is None
            ],
        }

    def table(self) -> pd.DataFrame:
        """One row an object."""
        import pandas as pd

        return pd.DataFrame(list(self.entries), columns=list(Entry._fields))

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        """Label, number and remark of each line of the short form."""
        for outcome in OUTCOMES:
            if self._counts[outcome] or outcome == STORED:
                yield outcome, f"{self._counts[outcome]:,}", _MEANING[outcome]
        yield "series", f"{len(self.series):,}", "with new instances"
        verdicts = Counter(v.verdict for v in self.volumes)
        words = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
        if self.volumes:
            yield "volumes", f"{len(self.built):,}", f"built, of {len(self.volumes)}: {words}"

    def reasons(self) -> list[tuple[str, int]]:
        """Why objects were refused, the most frequent reason first."""
        return Counter(entry.detail for entry in self.refused).most_common()

    def _rate(self) -> str:
        rate = len(self.entries) / self.seconds if self.seconds else 0
        return f"{len(self.entries):,} objects in {self.seconds:.1f} s ({rate:,.0f}/s)"

    def __str__(self) -> str:
        width = max(len(number) for _label, number, _remark in self._lines())
        lines = [f"Ingest: {self._rate()}"]
        lines += [f"  {label:<9} {number:>{width}}  {remark}" for label, number, remark in self._lines()]
        reasons = self.reasons()
        lines += [f"  refused: {count} x {reason}" for reason, count in reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"  … and {len(reasons) - _SHOWN} more reasons: report.table()")
        return "\n".join(lines)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in self.counts().items() if n)
        return f"<Report: {counts or 'nothing met'}, {len(self.built):,} volumes>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{label}</th><td style='text-align:right'>{number}</td>"
            f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
            for label, number, remark in self._lines()
        )
        reasons = "".join(f"<li>{count} × {html.escape(why)}</li>" for why, count in self.reasons()[:_SHOWN])
        refused = f"<details open><summary>Refused</summary><ul>{reasons}</ul></details>" if reasons else ""
        return (
            f"<div><strong>Ingest</strong> <span style='opacity:.7'>{html.escape(self._rate())}</span>"
            f"<table>{rows}</table>{refused}</div>"
        )
