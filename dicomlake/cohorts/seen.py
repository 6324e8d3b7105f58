"""A cohort as one looks at it in a notebook: contact sheet, explorer, quiz."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dicomlake.cohorts.questions import Questions

if TYPE_CHECKING:
    from dicomlake.cohorts.source import Source
    from dicomlake.series import Series
    from dicomlake.widgets.compare.contact import ContactSheet
    from dicomlake.widgets.explorer.explorer import Explorer
    from dicomlake.widgets.teaching.quiz import Quiz


class Seen(Questions):
    """What of a cohort can be seen and clicked; needs the extra [lab]."""

    _source: Source

    @abstractmethod
    def __len__(self) -> int:
        """How many series."""

    @abstractmethod
    def __iter__(self) -> Iterator[Series]:
        """The series."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Any:
        """One series, or a cohort of some."""

    def contact_sheet(self, **how: Any) -> ContactSheet:
        """A thumbnail of each series, read when it is scrolled to; what is selected comes back.

        how: traits of the sheet, as columns=4. `sheet.selection` is the list of selected series.
        """
        from dicomlake.widgets.compare.contact import ContactSheet
        from dicomlake.widgets.compare.tiles import SeriesTiles
        from dicomlake.widgets.showing import small_image

        series: Any = self  # a sequence of them, by __len__ and __getitem__
        return ContactSheet(SeriesTiles(series, image=small_image), **how)

    def explore(self, *facets: str, **how: Any) -> Explorer:
        """Facets over these series, as `Lake.explore` has over all."""
        return explorer(self._source, self, facets, how)

    def quiz(
        self,
        *,
        label: str | None = None,
        words: Mapping[str, str | Sequence[str]] | None = None,
        segment: str | int | bool | None = None,
        truth: Mapping[str, str] | Callable[[Any], str] | None = None,
        **how: Any,
    ) -> Quiz:
        """A quiz over these series: look, answer, see what was true; `quiz.progress` is a DataFrame.

        One of four says what is true of a series: label, the name of a label; words, option -> phrases in
        its report; segment, the segment to be marked, True for any; truth, SeriesInstanceUID -> truth.
        how: ask, options, within_mm, seed, as in `dicomlake.widgets.teaching.quiz_from`.
        Raises ValueError when no series has a truth, or not one of the four is given.
        """
        from dicomlake.widgets.teaching.asking import quiz_from

        return quiz_from(self, label=label, words=words, segment=segment, truth=truth, **how)


def explorer(source: Any, cohort: Any, facets: Sequence[str], how: Mapping[str, Any]) -> Explorer:
    """An explorer of a lake, or of one of its cohorts, whose buttons show below it what it found."""
    from dicomlake.widgets.explorer.explorer import Explorer

    buttons: dict[str, Any] = {
        "on_view": lambda series: series.view(),
        "on_sheet": lambda found: found.contact_sheet(),
    }
    return Explorer(source, cohort=cohort, facets=facets or None, **buttons | dict(how))
