"""How a lake and its receivers are, asked from any process: what came, what is due, what went wrong."""

from __future__ import annotations

import datetime
import html
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dicomlake.catalog import lately, network, reader
from dicomlake.catalog.catalog import Catalog
from dicomlake.listening.live import receivers

_HOURS = 24.0
_NOT_TAKEN = ("full", "over_quota", "mismatch", "unreadable", "failed", "refused")
_SHOWN_HOURS = 6

Line = tuple[str, str, str]
"""Name, value, remark."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a lake is, at a time.

    at: ISO 8601, UTC. receivers: what those that run tell of themselves (`live.Live`).
    stored_by_hour: hour (UTC), such as 2026-01-31T23, to how many objects were stored in it, from whereever.
    last_arrivals: one dict for each calling AE title: when something came last, and how much in `hours`.
    unsettled: series to instances that they do not show yet. without_volumes: series that lack theirs.
    refused, conflicts: objects, in the last `hours`. open_commitments: promises that peers wait for.
    volume_failures: series with volumes that could not be built.
    disk_free, disk_total: bytes of the device; originals: bytes of all originals that are visible.
    """

    at: str
    hours: float
    receivers: tuple[dict[str, Any], ...]
    stored_by_hour: dict[str, int]
    last_arrivals: tuple[dict[str, Any], ...]
    unsettled: int
    unsettled_instances: int
    without_volumes: int
    volume_failures: int
    refused: int
    conflicts: int
    open_commitments: int
    disk_free: int
    disk_total: int
    originals: int

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON types."""
        return asdict(self)

    @property
    def problems(self) -> list[str]:
        """What somebody should look at; empty when all is well."""
        found = [
            (self.refused, f"{self.refused:,} objects were refused: `dicomlake ls refused`"),
            (self.conflicts, f"{self.conflicts:,} objects came in conflict: `dicomlake ls conflicts`"),
            (
                self.volume_failures,
                f"{self.volume_failures:,} series lack volumes that failed: `dicomlake ls findings`",
            ),
            (
                self.disk_total and self.disk_free < self.disk_total // 50,
                f"only {_size(self.disk_free)} are free",
            ),
        ]
        return [words for bad, words in found if bad]

    def lines(self) -> Iterator[Line]:
        """For people."""
        if not self.receivers:
            yield ("receivers", "none", "`dicomlake listen` starts one")
        for one in self.receivers:
            yield _of_receiver(one)
            yield from _turned_away(one.get("stats") or {})
        total = sum(self.stored_by_hour.values())
        hours = list(self.stored_by_hour.items())[-_SHOWN_HOURS:]
        yield ("stored", f"{total:,}", _by_hour(hours))
        for row in self.last_arrivals:
            yield (f"from {row['calling']}", f"{row['instances']:,}", f"last at {row['at']}")
        yield ("not visible yet", f"{self.unsettled:,} series", f"{self.unsettled_instances:,} instances")
        yield ("without volumes", f"{self.without_volumes:,} series", "")
        yield ("refused", f"{self.refused:,}", f"in {self.hours:g} hours")
        yield ("conflicts", f"{self.conflicts:,}", f"in {self.hours:g} hours")
        yield ("commitments", f"{self.open_commitments:,}", "to be answered")
        yield ("disk", f"{_size(self.disk_free)} free", f"{_size(self.originals)} of originals")

    def __repr__(self) -> str:
        rows = list(self.lines())
        wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
        text = [f"{name:<{wide[0]}}  {value:>{wide[1]}}  {remark}".rstrip() for name, value, remark in rows]
        return "\n".join([f"Status at {self.at}", *text, *(f"! {words}" for words in self.problems)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:right'>{html.escape(value)}</td>"
            f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
            for name, value, remark in self.lines()
        )
        words = "".join(f"<li>{html.escape(one)}</li>" for one in self.problems)
        title = f"<strong>Status</strong> at {html.escape(self.at)}"
        return f"<div>{title}<table>{rows}</table>" + (f"<ul>{words}</ul>" if words else "") + "</div>"


def status(catalog: Catalog, root: Path, *, hours: float = _HOURS) -> Status:
    """How the lake in a folder is, and whoever receives for it. hours: how far back to count."""
    after = lately.since(hours)
    with catalog.read() as view:
        unsettled = lately.unsettled_counts(view)
        findings = reader.findings(view)
        found: dict[str, Any] = {
            "stored_by_hour": lately.instances_by_hour(view, after),
            "last_arrivals": tuple(_arrivals(view, after)),
            "without_volumes": len(reader.series_without_volumes(view)),
            "refused": lately.refused_since(view, after),
            "conflicts": lately.conflicts_since(view, after),
            "open_commitments": lately.open_commitments(view),
            "originals": lately.bytes_of_originals(view),
        }
    usage = None
    with suppress(OSError):
        usage = shutil.disk_usage(root)
    return Status(
        at=network.now(),
        hours=hours,
        receivers=tuple(receivers(root)),
        unsettled=len(unsettled),
        unsettled_instances=sum(unsettled.values()),
        volume_failures=len({one.scope for one in findings if one.kind == "volume_failed"}),
        disk_free=usage.free if usage else 0,
        disk_total=usage.total if usage else 0,
        **found,
    )


def _arrivals(view: Any, after: str) -> Sequence[dict[str, Any]]:
    rows = lately.arrivals_by_calling(view, after)
    return [{"calling": calling, "at": at, "instances": n} for calling, (at, n) in rows.items()]


def _of_receiver(one: dict[str, Any]) -> Line:
    titles = ", ".join(map(str, one.get("ae_titles", ()))) or "?"
    ports = ", ".join(map(str, one.get("ports", ()))) or "?"
    queue = one.get("queue") or {}
    busy = ", ".join(f"{number} {state}" for state, number in queue.items() if number)
    remark = f"up {_age(one.get('started', ''))}, pid {one.get('pid')}" + (
        f", series: {busy}" if busy else ""
    )
    return (f"{titles} at {ports}", f"{one.get('associations', 0)} associations", remark)


def _turned_away(stats: dict[str, int]) -> Iterator[Line]:
    """What this receiver did not take; the log says whose it was and why."""
    associations = stats.get("associations_refused", 0)
    if associations:
        yield ("turned away", f"{associations:,}", "associations: see the log of the receiver, or monitor()")
    lost = {word: stats[word] for word in _NOT_TAKEN if stats.get(word)}
    if lost:
        words = ", ".join(f"{number:,} {word.replace('_', ' ')}" for word, number in lost.items())
        yield ("not taken", f"{sum(lost.values()):,}", words)


def _by_hour(hours: Sequence[tuple[str, int]]) -> str:
    return "by hour, UTC: " + ", ".join(f"{hour[-2:]}:00 {n:,}" for hour, n in hours) if hours else ""


def _age(started: str) -> str:
    try:
        seconds = (
            datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(started)
        ).total_seconds()
    except (ValueError, TypeError):
        return "?"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
