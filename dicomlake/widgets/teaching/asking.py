"""A quiz from series of a lake: the truth is a label, words of the report, or what was segmented."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from dicomlake.records import SeriesKey
from dicomlake.widgets.showing import stack_of
from dicomlake.widgets.teaching.questions import Question, Region, folded
from dicomlake.widgets.teaching.quiz import Quiz
from dicomlake.widgets.viewer.viewer import Viewer

NONE_OF_THESE = "none of these"
_DENIED = re.compile(r"(?:\b(?:no|not|without|kein\w*|ohne|nicht)\b)[^.;,]*$")


class Askable(Protocol):
    """A series, as far as a quiz needs it."""

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""

    @property
    def key(self) -> SeriesKey:
        """StudyInstanceUID and SeriesInstanceUID."""

    @property
    def source(self) -> Any:
        """Its lake: `labels(keys, name=…)`."""

    def reports(self) -> list[Any]:
        """Structured reports about it; `.tree()` of each is text."""

    def segmentations(self) -> list[Any]:
        """Segmentations of it; `.segments`, `.mask(number, grid)`."""


class Shower(Protocol):
    """What makes the viewer of a series."""

    def __call__(self, series: Any, /) -> Any:
        """A Viewer, without what would give the answer away."""


class Placed(Protocol):
    """A Stack, as far as regions need it."""

    @property
    def image(self) -> Any:
        """DataArray (…, z, y, x)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""

    @property
    def affine(self) -> Any:
        """Index (z, y, x) -> LPS, mm; (4, 4), or None."""


def quiz_from(
    series: Iterable[Askable],
    *,
    show: Shower | None = None,
    label: str | None = None,
    words: Mapping[str, str | Sequence[str]] | None = None,
    segment: str | int | bool | None = None,
    truth: Mapping[str, str] | Callable[[Any], str] | None = None,
    ask: str = "",
    options: Sequence[str] | None = None,
    within_mm: float = 5.0,
    seed: int | None = 0,
) -> Quiz:
    """A quiz over these series; one of label, words, segment and truth says what is true of each.

    show: makes the viewer of a series; one of its largest volume alone unless given.
    label: the name of a label on each series; its value is the truth. Series without it are left out.
    words: option -> phrases; the first option with a phrase in a report of the series is true, else "none of
        these". A phrase after "no", "not", "without" in its sentence does not count. Series without a report
        are left out.
    segment: what is to be marked: a label or number of the segmentations of the series, True for all. Where
        there is none of it, nothing is to be marked.
    truth: SeriesInstanceUID -> truth, or a function of the series.
    ask: the question; one that fits unless given. options, within_mm, seed: as in Quiz.
    """
    given = [one for one in (label, words, segment, truth) if one is not None and one is not False]
    if len(given) != 1:
        raise ValueError("say what is true of a series: pass one of label=, words=, segment= and truth=")
    listed, show = list(series), show or shown_alone
    if segment is not None and segment is not False:
        if not any(_segments(one, segment) for one in listed):
            raise ValueError(f"none of {len(listed)} series has {_named(segment)}: check the name")
        items = [_to_mark(one, segment, show) for one in listed]
        return Quiz(items, ask=ask or _to_find(segment), kind="mark", within_mm=within_mm, seed=seed)
    truths = _truths(listed, label, words, truth)
    items = [_to_tell(one, truths[one.uid], show) for one in listed if one.uid in truths]
    if not items:
        raise ValueError(
            f"none of {len(listed)} series has a truth: check the name or the words, or set labels first"
        )
    offered = [*words, NONE_OF_THESE] if words is not None and options is None else options
    return Quiz(items, ask=ask or "What do you see?", options=offered, within_mm=within_mm, seed=seed)


def shown_alone(series: Any) -> Viewer:
    """The largest volume of a series, in a viewer that knows of nothing which refers to it."""
    return Viewer(stack_of(series))


def _truths(
    series: Sequence[Askable],
    label: str | None,
    words: Mapping[str, str | Sequence[str]] | None,
    truth: Mapping[str, str] | Callable[[Any], str] | None,
) -> dict[str, str]:
    if label is not None:
        return _of_labels(series, label)
    if words is not None:
        texts = {one.uid: report_text(one) for one in series}
        found = {uid: _option_of(text, words) for uid, text in texts.items() if text}
        return found if set(found.values()) - {NONE_OF_THESE} else {}
    if callable(truth):
        return {one.uid: str(truth(one)) for one in series}
    return {uid: str(value) for uid, value in (truth or {}).items()}


def _of_labels(series: Sequence[Askable], name: str) -> dict[str, str]:
    """The value of a label on each series that has it."""
    if not series:
        return {}
    table = series[0].source.labels([one.key for one in series], name=name)
    return {str(uid): str(v) for uid, v in zip(table.SeriesInstanceUID, table.value, strict=True)}


def _option_of(text: str, words: Mapping[str, str | Sequence[str]]) -> str:
    for option, phrases in words.items():
        listed = [phrases] if isinstance(phrases, str) else phrases
        if any(says(text, phrase) for phrase in listed):
            return option
    return NONE_OF_THESE


def says(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase as whole words, not denied within its sentence."""
    plain, wanted = folded(text), folded(phrase)
    for found in re.finditer(rf"(?<!\w){re.escape(wanted)}(?!\w)", plain):
        if not _DENIED.search(plain[: found.start()]):
            return True
    return False


def report_text(series: Askable) -> str:
    """The structured reports about a series, one after the other."""
    return "\n\n".join(str(one.tree()) for one in series.reports() if hasattr(one, "tree"))


def _to_tell(series: Askable, truth: str, show: Shower) -> Question:
    return Question(
        show=partial(show, series), truth=truth, report=partial(report_text, series), series_uid=series.uid
    )


def _to_mark(series: Askable, segment: str | int | bool, show: Shower) -> Question:
    """A question whose region is read when the first mark is judged, and kept."""
    shown: list[Any] = []
    found: list[Region | None] = []

    def show_anew() -> Any:
        shown[:] = [show(series)]
        return shown[0]

    def region() -> Region | None:
        if not found:
            found.append(region_of(series, segment, shown[0].stack_source))
        return found[0]

    def reveal(viewer: Any) -> None:
        there = region()
        if there is not None:
            viewer.add(there.mask, name=segment if isinstance(segment, str) else "to be marked")
            viewer.index = there.middle()

    return Question(
        show=show_anew,
        truth=segment if isinstance(segment, str) else "",
        region=region,
        report=partial(report_text, series),
        reveal=reveal,
        series_uid=series.uid,
    )


def region_of(series: Askable, segment: str | int | bool, stack: Placed) -> Region | None:
    """The voxels of a shown image, (z, y, x), that segmentations hold under a name or number, or at all."""
    total = np.zeros(stack.shape, dtype=bool)
    grid = stack.image.dicom.grid
    for one, numbers in _segments(series, segment):
        threshold = {"threshold": 0.5} if one.kind == "FRACTIONAL" else {}
        for number in numbers:
            total |= np.asarray(one.mask(number, grid, resample=True, **threshold))
    return Region(total, stack.affine) if total.any() else None


def _segments(series: Askable, segment: str | int | bool) -> list[tuple[Any, list[int]]]:
    """Segmentations of a series, each with the numbers of the segments that are meant."""
    found = []
    for one in series.segmentations():
        numbers = [s.number for s in one.segments if segment is True or segment in (s.number, s.label)]
        found += [(one, numbers)] if numbers else []
    return found


def _named(segment: str | int | bool) -> str:
    return "a segmentation" if segment is True else f"a segment {segment!r}"


def _to_find(segment: str | int | bool) -> str:
    return f"Mark: {segment}" if isinstance(segment, str) else "Mark what you find"
