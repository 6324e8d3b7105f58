"""Small pictures of series: the middle plane of the coarsest copy of the largest volume."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from dicomlake.errors import DicomlakeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.widgets.browser.source import Lake
from dicomlake.widgets.images.contact import thumbnail
from dicomlake.widgets.showing import coarsest, shown_volume

SIDE = 64  # pixels of the longer side
_KEPT = 2000  # pictures, of some kilobytes each


class Pictures:
    """PNGs of series, made once for each version of a volume."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._guard = Lock()
        self._made: OrderedDict[tuple[SeriesKey, int, int], bytes] = OrderedDict()

    def of(self, key: SeriesKey) -> bytes:
        """The PNG of a series; empty for one without a built volume, or one that cannot be read."""
        volume = shown_volume(self._lake.series_volumes(key))
        if volume is None:
            return b""
        name = (key, volume.number, volume.version)
        with self._guard:
            if name in self._made:
                self._made.move_to_end(name)
                return self._made[name]
        found = self._drawn(volume)
        with self._guard:
            self._made[name] = found
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return found

    def _drawn(self, volume: Volume) -> bytes:
        try:
            return thumbnail(coarsest(self._lake, volume), SIDE)
        except (DicomlakeError, OSError, ValueError):  # a list must not fail for one picture
            return b""
