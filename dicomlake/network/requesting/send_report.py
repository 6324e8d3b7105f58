"""What a send did, object by object; prints, shows itself in a notebook, turns into a table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

SENT, WARNED, FAILED, UNSENT, PLANNED = OUTCOMES = ("sent", "warning", "failed", "unsent", "planned")
_MEANING = {
    SENT: "acknowledged by the peer",
    WARNED: "taken by the peer, with a warning",
    FAILED: "refused by the peer, or not acknowledged",
    UNSENT: "not offered: no way to write it that the peer takes",
    PLANNED: "would be sent",
}
_SHOWN = 8  # reasons listed in the short form


class SentObject(NamedTuple):
    """What became of one object.

    status: what the peer answered, None without an answer. detail: the reason for anything but sent.
    transfer_syntax: of the original; sent_as: the one that went over the wire, "" when none did.
    tries: how often it was put on the wire. size: bytes of the original.
    """

    sop_instance_uid: str
    outcome: str
    status: int | None = None
    detail: str = ""
    transfer_syntax: str = ""
    sent_as: str = ""
    tries: int = 0
    size: int = 0
    series_uid: str = ""

    @property
    def transcoded(self) -> bool:
        """Whether other bytes went over the wire than those of the original."""
        return bool(self.sent_as) and self.sent_as != self.transfer_syntax


@dataclass(frozen=True, slots=True, repr=False)
class SendReport:
    """What a send did.

    objects: one for each object given, in that order. to: the peer.
    associations: how many were made. seconds: of wall time.
    """

    objects: Sequence[SentObject] = ()
    to: str = ""
    associations: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the peer has acknowledged every object."""
        return all(one.outcome in (SENT, WARNED) for one in self.objects)

    @property
    def sent(self) -> int:
        """Objects that the peer acknowledged, those with a warning included."""
        return sum(one.outcome in (SENT, WARNED) for one in self.objects)

    @property
    def failed(self) -> list[SentObject]:
        """Objects that the peer has not acknowledged, each with the reason."""
        return [one for one in self.objects if one.outcome in (FAILED, UNSENT)]

    def counts(self) -> dict[str, int]:
        """How many objects had each outcome; they add up to the objects given."""
        found = Counter(one.outcome for one in self.objects)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    def reasons(self) -> list[tuple[str, int]]:
        """Why objects were not sent, or sent with a warning, the most frequent reason first."""
        return Counter(one.detail for one in self.objects if one.detail).most_common()

    def as_dict(self) -> dict[str, Any]:
        """All of it in JSON types; names every object."""
        return {
            **self.counts(),
            "to": self.to,
            "transcoded": sum(one.transcoded for one in self.objects),
            "associations": self.associations,
            "seconds": round(self.seconds, 3),
            "objects": [one._asdict() for one in self.objects],
        }

    def table(self) -> pd.DataFrame:
        """One row an object."""
        import pandas as pd

        found = pd.DataFrame(list(self.objects), columns=list(SentObject._fields))
        return found.astype({"status": "Int64"})

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        counts = self.counts()
        for outcome in OUTCOMES:
            if counts[outcome] or (outcome == SENT and not counts[PLANNED]):
                yield outcome, f"{counts[outcome]:,}", _MEANING[outcome]
        if transcoded := sum(one.transcoded for one in self.objects):
            yield "transcoded", f"{transcoded:,}", "of these, as the peer takes no other transfer syntax"

    def _title(self) -> str:
        size = sum(one.size for one in self.objects) / 1e6
        if self.counts()[PLANNED]:
            return f"{len(self.objects):,} objects to {self.to}, {size:,.1f} MB"
        rate = len(self.objects) / self.seconds if self.seconds else 0
        took = f"{self.seconds:.1f} s ({rate:,.0f}/s)"
        return f"{len(self.objects):,} objects to {self.to}, {size:,.1f} MB in {took}"

    def __str__(self) -> str:
        lines = list(self._lines())
        width = max(len(number) for _label, number, _remark in lines)
        text = [f"Send: {self._title()}"]
        text += [f"  {label:<10} {number:>{width}}  {remark}" for label, number, remark in lines]
        reasons = self.reasons()
        text += [f"  {count} x {reason}" for reason, count in reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            text.append(f"  … and {len(reasons) - _SHOWN} more reasons: report.table()")
        return "\n".join(text)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {outcome}" for outcome, n in self.counts().items() if n)
        return f"<SendReport: {counts or 'nothing to send'}, to {self.to}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{label}</th><td style='text-align:right'>{number}</td>"
            f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
            for label, number, remark in self._lines()
        )
        reasons = "".join(f"<li>{n} × {html.escape(why)}</li>" for why, n in self.reasons()[:_SHOWN])
        why = f"<details open><summary>Reasons</summary><ul>{reasons}</ul></details>" if reasons else ""
        return (
            f"<div><strong>Send</strong> <span style='opacity:.7'>{html.escape(self._title())}</span>"
            f"<table>{rows}</table>{why}</div>"
        )
