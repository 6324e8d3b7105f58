"""A patient's studies on a true time axis, one shown at a time; place, zoom and window stay from one to the
next.

Of each study the series is shown that matches one best. A viewer is made when its study is first looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from threading import RLock
from typing import Any, ClassVar

import traitlets

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal, Widget, handles
from dicomlake.widgets.compare.linking import places_of
from dicomlake.widgets.compare.prior import likeness, study_day
from dicomlake.widgets.compare.registering import Pair, Registering
from dicomlake.widgets.viewer.viewer import Viewer

Facts = Mapping[str, Any]
_MOST_CHOICES = 100  # series of a study that are offered


@dataclass(frozen=True, slots=True)
class Study:
    """day: from the first study, None where it has no date. series: numbers of its series, the best match
    first. score: of the best match, 0 … 1; 0 where nothing is like it."""

    day: int | None
    series: tuple[int, ...]
    score: float


class Timeline(Registering, Widget):
    """Studies of a patient over time. at: number of the study that is shown, the earliest is 0.

    chosen: number of the series that is shown of each study. registrations: by numbers of series.
    """

    ENTRY: ClassVar[str] = "compare/timeline.js"
    STYLES: ClassVar[tuple[str, ...]] = (*Viewer.STYLES, "compare/compare.css")

    at = traitlets.Int(0).tag(sync=True)
    studies: traitlets.List[dict[str, Any]] = traitlets.List(
        help="day and score of each; nothing that names a patient."
    ).tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    keep_place = traitlets.Bool(True).tag(sync=True)
    keep_window = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        series: Sequence[Any],
        open: Callable[[int], Viewer],
        *,
        like: Any = None,
        caption: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> None:
        """series: of one patient: facts, or things with `.facts`. open: a Viewer of a series by its number.

        like: the series, its facts or its number, that is sought in every study; the largest of the latest
        study unless told. caption: of a series, for the list to choose from; shown, never saved.
        Raises DicomlakeError for no series, or those of several patients.
        """
        super().__init__(**kwargs)
        self._series = list(series)
        self._open = open
        self._caption = caption or _line_of
        self._opened: dict[int, Viewer] = {}
        self._opening = RLock()
        self.places: dict[str, Any] = {}  # number of a series that was opened -> where it lies
        self._studies = studies_of(self._series, like)
        self.studies = [
            {"day": s.day, "score": round(s.score, 3), "count": len(s.series)} for s in self._studies
        ]
        self.chosen = [s.series[0] for s in self._studies]
        self.at = kwargs.get("at", len(self._studies) - 1)

    @property
    def viewer(self) -> Viewer:
        """The viewer of the study that is shown."""
        return self.viewer_of(self.chosen[self.at])

    def viewer_of(self, number: int) -> Viewer:
        """The viewer of a series by its number; made when it is first asked for."""
        with self._opening:
            if number not in self._opened:
                self._opened[number] = self._open(number)
                self._place()
            return self._opened[number]

    @handles("open")
    def _ask_open(self, args: dict[str, Any], _buffers: Any) -> dict[str, Any]:
        """{study, series?} -> the model of its viewer, and the series that there are to choose from."""
        study = self._study(args.get("study"))
        number = args.get("series", self.chosen[study])
        if number not in self._studies[study].series:
            raise Refusal(f"study {study + 1} has no such series: reload the page")
        viewer = self.viewer_of(number)
        self.chosen = [number if i == study else n for i, n in enumerate(self.chosen)]
        self.at = study
        return {
            "model": viewer.model_id,
            "series": number,
            "places": self.places,
            "choices": self._choices(study),
        }

    def _choices(self, study: int) -> list[dict[str, Any]]:
        numbers = self._studies[study].series[:_MOST_CHOICES]
        return [{"series": n, "text": self._caption(self._series[n])[:120]} for n in numbers]

    def _study(self, number: Any) -> int:
        if not isinstance(number, int) or not 0 <= number < len(self._studies):
            raise Refusal(f"there are the studies 0 to {len(self._studies) - 1}: reload the page")
        return number

    @traitlets.validate("at")
    def _within(self, proposal: Any) -> int:
        return max(0, min(int(proposal["value"]), max(0, len(self.studies) - 1)))

    # ---- registering

    def _stack_at(self, number: int) -> Any:
        return self.viewer_of(number).stack_source

    def _called(self, number: int) -> str:
        return next(f"study {i + 1}" for i, s in enumerate(self._studies) if number in s.series)

    def _count(self) -> int:
        return len(self._series)

    def _place(self) -> None:
        with self._opening:
            numbers = list(self._opened)
            among = {
                (numbers.index(i), numbers.index(j)): found
                for (i, j), found in self.registrations.items()
                if i in self._opened and j in self._opened
            }
            placed = places_of([self._opened[n].stack_source for n in numbers], among)
            self.places = {str(n): place.meta() for n, place in zip(numbers, placed, strict=True)}
            self.tell("places", self.places)

    def _pairs(self) -> list[Pair]:
        """The series that is shown, to the first that was opened."""
        with self._opening:
            shown = self.chosen[self.at]
            numbers = [n for n in self._opened if self.places[str(n)]["space"] is not None]
            if shown not in numbers:
                raise Refusal("the series that is shown cannot be registered: no even geometry places it")
            space = self.places[str(shown)]["space"]
            others = [n for n in numbers if self.places[str(n)]["space"] != space]
        if not others:
            raise Refusal("nothing needs registration: all that was opened lies in one space")
        return [(others[0], shown)]

    def still(self) -> str | None:
        """The picture of the study that is shown."""
        return self.viewer.still()

    def __repr__(self) -> str:
        return f"<Timeline of {len(self._studies)} studies>"


def studies_of(series: Sequence[Any], like: Any = None) -> list[Study]:
    """The studies of one patient in time, undated ones last, each with its series by likeness to one.

    Raises DicomlakeError for no series, or when they are of several patients.
    """
    facts = [_facts(one) for one in series]
    if not facts:
        raise DicomlakeError("a timeline needs the series of a patient: there are none")
    if len({one["PatientID"] for one in facts if one.get("PatientID")}) > 1:
        raise DicomlakeError("these series are of several patients: give those of one")
    wanted = _wanted(facts, like)
    dated = [day for day in map(study_day, facts) if day is not None]
    found = []
    for numbers in _by_study(facts).values():
        scores = {n: likeness(wanted, facts[n])[0] for n in numbers}
        ordered = sorted(numbers, key=lambda n: (-scores[n], -_size(facts[n]), n))
        day = study_day(facts[numbers[0]])
        since = None if day is None else (day - min(dated)).days
        found.append(Study(since, tuple(ordered), scores[ordered[0]]))
    return sorted(found, key=lambda study: (study.day is None, study.day or 0))


def _by_study(facts: Sequence[Facts]) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for number, one in enumerate(facts):
        found.setdefault(one.get("StudyInstanceUID") or number, []).append(number)
    return found


def _wanted(facts: Sequence[Facts], like: Any) -> Facts:
    """The facts of the series that is sought."""
    if isinstance(like, int):
        return facts[like]
    if like is not None:
        return _facts(like)
    return max(facts, key=lambda one: (study_day(one) or date.min, _size(one)))


def _size(facts: Facts) -> int:
    return int(facts.get("instances") or 0)


def _facts(one: Any) -> Facts:
    found = getattr(one, "facts", one)
    return found if isinstance(found, Mapping) else {}


def _line_of(series: Any) -> str:
    facts = _facts(series)
    parts = [facts.get("Modality"), facts.get("SeriesDescription"), f"{_size(facts)} images"]
    return " · ".join(str(part) for part in parts if part)
