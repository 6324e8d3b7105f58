"""Small pictures of series: the middle plane of the coarsest copy of the first volume."""

from __future__ import annotations

import io
from collections import OrderedDict
from threading import Lock

import numpy as np
import numpy.typing as npt

from dicomlake.errors import DicomlakeError
from dicomlake.records import SeriesKey, Volume
from dicomlake.widgets.browser.source import Lake

SIDE = 64  # pixels of the longer side
_KEPT = 2000  # pictures, of some kilobytes each
_CLIPPED = (1, 99)  # percentiles that are drawn black and white

Thumbs = dict[int, bytes]


class Pictures:
    """PNGs of series, made once for each version of a volume."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._guard = Lock()
        self._made: OrderedDict[tuple[SeriesKey, int, int], bytes] = OrderedDict()

    def of(self, key: SeriesKey) -> bytes:
        """The PNG of a series; empty for one without a built volume, or one that cannot be read."""
        built = [volume for volume in self._lake.series_volumes(key) if volume.built]
        if not built:
            return b""
        volume = max(built, key=lambda one: int(np.prod(one.shape)))
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
            return _png(_grey(_middle(self._lake, volume), volume))
        except (DicomlakeError, OSError, ValueError):  # a list must not fail for one picture
            return b""


def _middle(lake: Lake, volume: Volume) -> npt.NDArray[np.generic]:
    """The middle plane (y, x[, rgb]) of the coarsest copy, at every other index the middle too."""
    level = max(int(volume.info.get("levels", 1)) - 1, 0)
    image = lake.open_volume(volume, chunks=None, level=level)["image"]
    kept = ("y", "x", "rgb")
    where = {str(dim): size // 2 for dim, size in image.sizes.items() if dim not in kept}
    every = {dim: slice(None, None, max(1, image.sizes[dim] // SIDE)) for dim in ("y", "x")}
    return np.asarray(image.isel(where | every).values)


def _grey(plane: npt.NDArray[np.generic], volume: Volume) -> npt.NDArray[np.uint8]:
    """A plane between its percentiles as bytes; MONOCHROME1 turned over, colours as they are."""
    if plane.ndim == 3 and plane.dtype == np.uint8:
        return np.ascontiguousarray(plane[..., :3], dtype=np.uint8)
    numbers = np.nan_to_num(np.asarray(plane, dtype=np.float32))
    low, high = np.percentile(numbers, _CLIPPED)
    if high <= low:
        low, high = float(numbers.min()), float(numbers.max())
    scaled = np.clip((numbers - low) / max(float(high - low), 1e-9), 0, 1) * 255
    if volume.info.get("photometric_interpretation") == "MONOCHROME1":
        scaled = 255 - scaled
    return scaled.astype(np.uint8)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
