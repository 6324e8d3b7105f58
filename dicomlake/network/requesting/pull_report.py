"""What a pull did, study by study; prints, shows itself in a notebook, turns into a table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("pulled", "complete", "partial", "failed", "not_found", "planned")
PULLED, COMPLETE, PARTIAL, FAILED, NOT_FOUND, PLANNED = OUTCOMES
_MEANING = {
    PULLED: "fetched",
    COMPLETE: "in the lake already, instance by instance",
    PARTIAL: "fetched in part",
    FAILED: "not fetched",
    NOT_FOUND: "no study matches the row",
    PLANNED: "would be fetched",
}
_SHOWN = 8  # reasons listed in the short form


class PulledStudy(NamedTuple):
    """What became of one study, or of a row without any.

    row: that of the table, or the query, from 1. prior_of: the study that it precedes.
    expected: instances that the peer announced, None when it does not. moved, warnings, failed: instances by
    what became of them; moved includes what the lake had before, fresh counts only the new.
    size: bytes of data sets received.
    resumed: done by an earlier run, so that nothing came in this one.
    """

    row: int
    outcome: str
    study_uid: str = ""
    reason: str = ""
    expected: int | None = None
    moved: int = 0
    warnings: int = 0
    failed: int = 0
    fresh: int = 0
    size: int = 0
    seconds: float = 0.0
    prior_of: str = ""
    resumed: bool = False
    PatientID: str = ""
    AccessionNumber: str = ""
    StudyDate: str = ""

    def __repr__(self) -> str:
        return f"<PulledStudy row {self.row}: {self.outcome} {self.study_uid}>"


@dataclass(frozen=True, slots=True, repr=False)
class PullReport:
    """What a pull did.

    studies: one for each study met, and for each row without any; in the order of rows.
    rows: how many were asked for. source: the peer. seconds: of wall time.
    """

    studies: Sequence[PulledStudy] = ()
    rows: int = 0
    source: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every row has studies, and all of them are here."""
        return all(one.outcome in (PULLED, COMPLETE) for one in self.studies)

    @property
    def failed(self) -> list[PulledStudy]:
        """Studies and rows that are not wholly here, each with the reason."""
        return [one for one in self.studies if one.outcome in (PARTIAL, FAILED, NOT_FOUND)]

    def counts(self) -> dict[str, int]:
        """How many studies, or rows without any, had each outcome."""
        found = Counter(one.outcome for one in self.studies)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def reasons(self) -> list[tuple[str, int]]:
        """Why studies are not wholly here, the most frequent reason first."""
        return Counter(one.reason for one in self.failed if one.reason).most_common()

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON types; the rows hold what identifies patients, as they were asked for."""
        return {
            **self.counts(),
            "source": self.source,
            "rows": self.rows,
            "instances": sum(one.fresh for one in self.studies),
            "bytes": sum(one.size for one in self.studies),
            "seconds": round(self.seconds, 3),
            "studies": [one._asdict() for one in self.studies],
        }

    def table(self) -> pd.DataFrame:
        """One row a study; holds what identifies patients."""
        import pandas as pd

        found = pd.DataFrame([tuple(one) for one in self.studies], columns=list(PulledStudy._fields))
        return found.astype({"expected": "Int64"})

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        counts = self.counts()
        for outcome in OUTCOMES:
            if counts[outcome] or (outcome == PULLED and not counts[PLANNED]):
                yield outcome.replace("_", " "), f"{counts[outcome]:,}", _MEANING[outcome]
        if resumed := sum(one.resumed for one in self.studies):
            yield "resumed", f"{resumed:,}", "of these, done by an earlier run"
        if priors := sum(bool(one.prior_of) for one in self.studies):
            yield "priors", f"{priors:,}", "of these, earlier studies of the same patients"

    def _title(self) -> str:
        size = sum(one.size for one in self.studies) / 1e6
        fresh = sum(one.fresh for one in self.studies)
        rows = f"{self.rows:,} rows of {self.source}" if self.rows != 1 else f"1 row of {self.source}"
        return f"{rows}, {fresh:,} new instances, {size:,.1f} MB in {self.seconds:.1f} s"

    def __str__(self) -> str:
        lines = list(self._lines())
        width = max(len(number) for _label, number, _remark in lines)
        text = [f"Pull: {self._title()}"]
        text += [f"  {label:<9} {number:>{width}}  {remark}" for label, number, remark in lines]
        reasons = self.reasons()
        text += [f"  {count} x {reason}" for reason, count in reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            text.append(f"  … and {len(reasons) - _SHOWN} more reasons: report.table()")
        return "\n".join(text)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in self.counts().items() if n)
        return f"<PullReport: {counts or 'nothing asked for'}, from {self.source}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{label}</th><td style='text-align:right'>{number}</td>"
            f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
            for label, number, remark in self._lines()
        )
        reasons = "".join(f"<li>{n} × {html.escape(why)}</li>" for why, n in self.reasons()[:_SHOWN])
        why = f"<details open><summary>Reasons</summary><ul>{reasons}</ul></details>" if reasons else ""
        return (
            f"<div><strong>Pull</strong> <span style='opacity:.7'>{html.escape(self._title())}</span>"
            f"<table>{rows}</table>{why}</div>"
        )
