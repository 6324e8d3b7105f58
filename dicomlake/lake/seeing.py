"""A lake as one looks at it in a notebook: viewer, browser, explorer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dicomlake.cohorts.seen import explorer
from dicomlake.errors import VolumeError
from dicomlake.lake.asking import Asking

if TYPE_CHECKING:
    from dicomlake.widgets.browser.browser import Browser
    from dicomlake.widgets.explorer.explorer import Explorer
    from dicomlake.widgets.viewer.viewer import Viewer


class Seeing(Asking):
    """What of a lake can be seen and clicked; needs the extra [lab]."""

    def view(self, uid: str, **how: Any) -> Viewer:
        """The images of a series, or of the series of one instance, in a viewer; `how` as in `Series.view`.

        Raises VolumeError when the UID names nothing, several series, or no images.
        """
        found = self.find(uid)
        if len(found) != 1:
            said = "the lake holds no series and no instance" if not found else f"{len(found)} series have"
            raise VolumeError(f"{said} {uid}: see lake.series() and lake.find()")
        return found[0].view(**how)

    def browse(self, query: str = "") -> Browser:
        """Patients, studies and series with thumbnails, headers and documents; what is chosen comes back.

        query: what is searched for first: words, or conditions as in `lake.query`.
        `browser.selection` is a DataFrame, `browser.cohort` a `Cohort`. Files that are dropped on it are
        ingested.
        """
        from dicomlake.series import Series
        from dicomlake.widgets.browser.browser import Browser

        whole: Any = self  # a Lake, which ingests what is dropped
        return Browser(whole, query or None, opener=lambda key: Series.of(self, key).view())

    def explore(self, *facets: str, **how: Any) -> Explorer:
        """Facets with counts and histograms over all series, cross-filtered, beside a table.

        facets: columns to begin with. `explorer.cohort` is what is chosen, `explorer.query` and
        `explorer.sql` say it; setting `explorer.query` moves the widget. Marked rows open in a viewer, or all
        that is found as a contact sheet, below the table.
        """
        return explorer(self, None, facets, how)
