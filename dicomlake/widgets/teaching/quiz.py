"""The quiz: one series after the other, an answer, then what was reported, labelled or segmented.

Before an answer is confirmed nothing that gives it away is in the browser: truths, reports and regions stay
in Python and travel in the answer to "confirm", never in traits, which are saved with the notebook.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import traitlets

from dicomlake.widgets.base import Refusal, Widget, handles
from dicomlake.widgets.teaching.questions import NOTHING, Kind, Question, judged, kind_of, place_of
from dicomlake.widgets.viewer.viewer import Viewer

if TYPE_CHECKING:
    import pandas as pd

Args = dict[str, Any]
_LONGEST = 4000  # letters of a free answer
_COLUMNS = ("item", "SeriesInstanceUID", "answer", "truth", "correct", "seconds", "distance_mm")
_MOST_OPTIONS = 12


@dataclass
class _Try:
    """What became of one item. seconds: spent looking before the answer."""

    seconds: float = 0.0
    answer: str | None = None
    correct: bool | None = None
    distance_mm: float = math.nan

    @property
    def result(self) -> str:
        if self.answer is None:
            return ""
        return "open" if self.correct is None else "right" if self.correct else "wrong"


class Quiz(Widget):
    """A quiz over series: look, answer, see what was true.

    items: the questions. ask: what is asked of every one. options: to choose from; all truths unless given.
    within_mm: how far from the region a mark may be. seed: of the order; None keeps the order of items.
    """

    ENTRY = "teaching/quiz.js"
    STYLES = (*Viewer.STYLES, "teaching/quiz.css")

    question = traitlets.Unicode("", help="What is asked.").tag(sync=True)
    kind = traitlets.Unicode("choice", help='"choice", "text" or "mark".').tag(sync=True)
    options = traitlets.List(traitlets.Unicode(), help="To choose from.").tag(sync=True)
    item = traitlets.Int(0, help="Which item is shown, from 0.").tag(sync=True)
    results = traitlets.List(
        traitlets.Unicode(),
        help='Of each item: "", "right", "wrong" or, when only a reader can tell, "open".',
    ).tag(sync=True)
    picture = traitlets.Instance(ipywidgets.Widget, allow_none=True).tag(
        sync=True, **ipywidgets.widget_serialization
    )

    def __init__(
        self,
        items: Sequence[Question],
        *,
        ask: str = "What do you see?",
        options: Sequence[str] | None = None,
        kind: Kind | None = None,
        within_mm: float = 5.0,
        seed: int | None = 0,
    ) -> None:
        if not items:
            raise ValueError("a quiz needs items: the cohort is empty, or nothing in it has a truth")
        self._questions = list(items)
        if seed is not None:
            random.Random(seed).shuffle(self._questions)
        offered = list(options) if options is not None else sorted({q.truth for q in items if q.truth})
        found = kind or kind_of(self._questions, offered)
        _check(self._questions, found, offered)
        self._within_mm = within_mm
        self._tries = [_Try() for _ in self._questions]
        self._lock = RLock()
        self._since: float | None = None
        self._shown_before: Any = None
        super().__init__(
            question=ask, kind=found, options=offered if found == "choice" else [], results=[""] * len(items)
        )
        self._show(0)

    # ---- what the student did

    @property
    def score(self) -> float:
        """The share of right answers among those that are judged, 0 to 1; NaN before the first."""
        known = [t.correct for t in self._tries if t.correct is not None]
        return sum(known) / len(known) if known else math.nan

    @property
    def progress(self) -> pd.DataFrame:
        """One row for each answered item, in the order of the quiz.

        item: from 1; truth: as far as it is a word; correct: None when nobody has said; seconds: until the
        answer; distance_mm: from the mark to the region, 0 inside, NaN without a mark.
        """
        import pandas as pd

        with self._lock:
            rows = [
                (n + 1, q.series_uid, t.answer, q.truth, t.correct, round(t.seconds, 1), t.distance_mm)
                for n, (q, t) in enumerate(zip(self._questions, self._tries, strict=True))
                if t.answer is not None
            ]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def go(self, item: int) -> None:
        """Show an item, from 1. Raises Refusal for one that there is not."""
        if not 1 <= item <= len(self._questions):
            raise Refusal(f"the quiz has items 1 to {len(self._questions)}, not {item}")
        with self._lock:
            if item - 1 != self.item:
                self._show(item - 1)
            self.error = ""

    def next(self) -> None:
        """Show the item that follows; the last one stays."""
        self.go(min(self.item + 2, len(self._questions)))

    def answer(self, answer: str = "", *, mark_mm: Sequence[float] | None = None) -> Args:
        """Answer the item that is shown, as if confirmed in the browser; returns what was true.

        answer: an option, or free text, or "nothing" where nothing is to be marked. mark_mm: of a mark, LPS.
        Raises Refusal for what is no answer. An item that is answered keeps its answer.
        """
        with self._lock:
            place = None if mark_mm is None else self._place_of_mm(mark_mm)
            return self._answered(answer, place)

    # ---- what the browser asks

    @handles("here")
    def _here(self, _args: Args, _buffers: Any) -> Args:
        """What a view begins with: the item, and what was true when it is answered already."""
        with self._lock:
            return {"item": self.item, "revealed": self._revealed()}

    @handles("go")
    def _go(self, args: Args, _buffers: Any) -> Args:
        with self._lock:
            self.go(_whole(args.get("item")) + 1)
            return {"item": self.item, "revealed": self._revealed()}

    @handles("confirm")
    def _confirm(self, args: Args, _buffers: Any) -> Args:
        """Judge an answer, once; only now what was true leaves Python."""
        with self._lock:
            if _whole(args.get("item")) != self.item:
                raise Refusal("another item is shown by now: answer that one")
            place = place_of(args.get("mark"), self._shown().stack_source.planes)
            return {"item": self.item, "revealed": self._answered(args.get("answer"), place)}

    @handles("judge")
    def _judge_oneself(self, args: Args, _buffers: Any) -> Args:
        """The reader says whether a free answer was right, where no word decides."""
        with self._lock:
            one = self._tries[self.item]
            if self.kind != "text" or one.answer is None or self._decided():
                raise Refusal("this answer is judged already, or not yet given")
            one.correct = bool(args.get("correct"))
            self._told_results()
            revealed = self._revealed()
        self.tell("revealed", {"item": self.item, "revealed": revealed})
        return {"item": self.item, "revealed": revealed}

    # ---- how it is done

    def _answered(self, given: Any, place: list[float] | None) -> Args:
        one = self._tries[self.item]
        if one.answer is None:
            self._judge(one, self._worded(given, place), None if given == NOTHING else place)
            self.error = ""
        revealed = self._revealed()
        self.tell("revealed", {"item": self.item, "revealed": revealed})
        return revealed or {}

    def _worded(self, given: Any, place: list[float] | None) -> str:
        """The answer in words. Raises Refusal when there is none."""
        if self.kind == "choice":
            if given not in self.options:
                raise Refusal("choose one of the options: " + ", ".join(self.options))
            return str(given)
        if self.kind == "text":
            text = str(given or "").strip()[:_LONGEST]
            if not text:
                raise Refusal("write an answer")
            return text
        if given == NOTHING:
            return NOTHING
        if place is None:
            raise Refusal("set a point on the image, or say that there is nothing to mark")
        return "mark at " + ", ".join(f"{i:.1f}" for i in place)

    def _shown(self) -> Any:
        """The viewer of the item."""
        if self.picture is None:
            raise Refusal("no image is shown: go to an item that opens")
        return self.picture

    def _place_of_mm(self, mm: Sequence[float]) -> list[float]:
        affine = self._shown().stack_source.affine
        if affine is None:
            raise Refusal("this image has no geometry: mark it in the browser")
        index = np.linalg.solve(np.asarray(affine, dtype=float), (*map(float, mm), 1.0))
        return [float(i) for i in index[:3]]

    def _judge(self, one: _Try, answer: str, place: list[float] | None) -> None:
        question = self._questions[self.item]
        found = judged(question, _kind(self.kind), answer, place, self._within_mm)
        one.seconds += self._stopped()
        one.answer, one.correct, one.distance_mm = answer, found.correct, found.distance_mm
        self._told_results()
        if question.reveal is not None and self.picture is not None:
            try:
                question.reveal(self.picture)
            except Exception as exc:  # the answer counts, whatever cannot be drawn
                self.failed(exc)

    def _revealed(self) -> Args | None:
        """What is shown after the answer; None before it."""
        one, question = self._tries[self.item], self._questions[self.item]
        if one.answer is None:
            return None
        distance = None if math.isnan(one.distance_mm) else round(one.distance_mm, 1)
        return {
            "answer": one.answer,
            "truth": self._truth(question),
            "correct": one.correct,
            "decided": self._decided(),
            "distance_mm": distance,
            "within_mm": self._within_mm,
            "report": question.report(),
        }

    def _truth(self, question: Question) -> str:
        if self.kind != "mark":
            return question.truth
        region = question.region() if question.region else None
        return NOTHING if region is None else question.truth

    def _decided(self) -> bool:
        """Whether words, options or a region decide on the answer, not the reader."""
        question = self._questions[self.item]
        return self.kind != "text" or bool(question.truth or question.accept)

    def _show(self, number: int) -> None:
        """Show an item. The last viewer is closed one item later: its view may still send its last news."""
        made = self._questions[number].show()
        if self.kind == "mark" and made.has_trait("tool") and self._tries[number].answer is None:
            made.tool = "point"
        if self._tries[number].answer is not None and self._questions[number].reveal is not None:
            self._questions[number].reveal(made)  # type: ignore[misc]
        self._tries[self.item].seconds += self._stopped()
        if self._shown_before is not None:
            self._shown_before.close()
        self._shown_before = self.picture
        with self.hold_sync():
            self.item, self.picture = number, made
        if self._tries[number].answer is None:
            self._since = time.monotonic()

    def _stopped(self) -> float:
        """Seconds since the item was shown, if it is not answered."""
        spent = 0.0 if self._since is None else time.monotonic() - self._since
        self._since = None
        return spent

    def _told_results(self) -> None:
        self.results = [one.result for one in self._tries]

    def still(self) -> str | None:
        """The still picture of the viewer; the quiz itself holds nothing to keep."""
        return self.picture.still() if isinstance(self.picture, Widget) else None

    def __repr__(self) -> str:
        answered = sum(one.answer is not None for one in self._tries)
        return f"<Quiz: {self.kind}, {answered} of {len(self._tries)} answered>"


def _check(questions: Sequence[Question], kind: Kind, options: Sequence[str]) -> None:
    if kind != "choice":
        return
    if len(options) < 2:
        raise ValueError("a choice needs two options: pass options=[…], all items have the same truth")
    if len(options) > _MOST_OPTIONS:
        raise ValueError(f"{len(options)} options are too many to choose from: pass kind='text'")
    if not all(question.truth in options for question in questions):
        raise ValueError("some truths are none of the options: add them, or leave options out")


def _kind(name: str) -> Kind:
    if name in ("choice", "text", "mark"):
        return name  # type: ignore[return-value]
    raise Refusal(f"a quiz is of kind choice, text or mark, not {name!r}")


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal("which item? Its number is missing: reload the page")
    return value
