"""Questions of a quiz: what is shown, what is true, and whether an answer is right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Kind = Literal["choice", "text", "mark"]
NOTHING = "nothing"  # the answer of who finds nothing to mark


class PlaneLike(Protocol):
    """A plane as it is displayed."""

    @property
    def to_index(self) -> Any:
        """(4, 4): (plane, row, col, 1) as displayed -> (z, y, x, 1)."""


@dataclass(frozen=True, eq=False)
class Region:
    """What is to be hit in an image.

    mask: bool (z, y, x), of the image that is shown. affine: index (z, y, x) -> LPS in mm, (4, 4); None where
    the image has no geometry, then a mark is right only inside.
    """

    mask: npt.NDArray[np.bool_]
    affine: npt.NDArray[np.float64] | None = None

    def distance_mm(self, index: Sequence[float]) -> float:
        """From a position (z, y, x) to the nearest voxel centre of the region; 0 inside, NaN if unknown."""
        at = np.asarray(index, dtype=float)
        voxel = np.rint(at).astype(int)
        inside = np.all((voxel >= 0) & (voxel < self.mask.shape))
        if inside and self.mask[tuple(voxel)]:
            return 0.0
        if self.affine is None or not self.mask.any():
            return float("nan")
        linear = np.asarray(self.affine, dtype=float)[:3, :3]
        away = (np.argwhere(self.mask) - at) @ linear.T
        return float(np.sqrt((away**2).sum(axis=1).min()))

    def middle(self) -> list[int]:
        """The voxel of the region nearest to its centre of mass, (z, y, x)."""
        found = np.argwhere(self.mask)
        nearest = ((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()
        return [int(i) for i in found[nearest]]


@dataclass(frozen=True, eq=False)
class Question:
    """One item of a quiz.

    show: makes the viewer to look at; called anew each time the item is come to.
    truth: the right option, or what a free answer must hold; "" when only a reader can tell.
    accept: other words for the truth in a free answer.
    region: makes what a mark must hit; None where there is nothing to mark.
    report: makes the text that is shown afterwards.
    reveal: draws on the viewer what was to be seen.
    series_uid: what it is of, for the table of progress; the browser does not get it.
    """

    show: Callable[[], Any]
    truth: str = ""
    accept: tuple[str, ...] = ()
    region: Callable[[], Region | None] | None = None
    report: Callable[[], str] = field(default=str)
    reveal: Callable[[Any], object] | None = None
    series_uid: str = ""


@dataclass(frozen=True)
class Judged:
    """How an answer was. correct: None when it is for the reader to say; distance_mm: NaN without a mark."""

    correct: bool | None
    distance_mm: float = float("nan")


def judged(question: Question, kind: Kind, answer: str, place: Sequence[float] | None, mm: float) -> Judged:
    """Whether an answer is right. place: of the mark, (z, y, x); mm: how near to the region it must be."""
    if kind == "choice":
        return Judged(answer == question.truth)
    if kind == "text":
        return Judged(_holds(answer, (question.truth, *question.accept)))
    region = question.region() if question.region else None
    if region is None or place is None:
        return Judged(region is None and place is None)
    distance = region.distance_mm(place)
    return Judged(distance <= mm, distance)


def kind_of(questions: Sequence[Question], options: Sequence[str]) -> Kind:
    """Mark where there are regions, choose where every truth is an option, else write."""
    if any(q.region is not None for q in questions):
        return "mark"
    return "choice" if options and all(q.truth in options for q in questions) else "text"


def place_of(mark: Any, planes: Mapping[str, PlaneLike]) -> list[float] | None:
    """Where a point on a displayed plane lies, array index (z, y, x); None for what is no point.

    mark: {"plane": name, "index": number of the plane, "point": [row, col]}, as a browser says it.
    """
    try:
        to_index = np.asarray(planes[mark["plane"]].to_index, dtype=float)
        row, col = mark["point"]
        place = to_index @ (float(mark["index"]), float(row), float(col), 1.0)
    except (TypeError, KeyError, ValueError):
        return None
    return [float(i) for i in place[:3]] if np.isfinite(place).all() else None


def _holds(answer: str, accepted: Sequence[str]) -> bool | None:
    """Whether one of some phrases stands in an answer, as whole words; None without any to look for."""
    wanted = [folded(text) for text in accepted if text.strip()]
    said = folded(answer)
    return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) for text in wanted) if wanted else None


def folded(text: str) -> str:
    """Text without case, accents and runs of blanks."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).split())
