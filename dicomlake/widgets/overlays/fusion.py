"""A second image over the first: PET on CT, a dose wash, a probability map; resampled to each plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomlake.widgets.overlays.base import Cut, Drawn, Placed, Request, linear
from dicomlake.widgets.overlays.kept import Kept

COLORMAPS = ("hot", "inferno", "viridis", "cividis", "pet", "turbo", "bluered", "grey")
BLENDS = ("ramp", "mix")
_STEPS = 65534  # of the range of values, as they travel; 0 is outside


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A volume in memory, (z, y, x) float32 without NaN, and where it has values; their range."""

    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.float32] | None
    low: float
    high: float

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self.values.nbytes + (0 if self.valid is None else self.valid.nbytes))


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """An image over an image.

    values: reads the volume for an index along each of its extra dimensions: float32 (z, y, x), NaN where
    nothing was measured. follows: extra dimensions that it shares with the displayed image. placed: where
    it lies; None on the voxels of the displayed image. window: center and width, in units.
    """

    key: str
    values: Callable[[Mapping[str, int]], npt.NDArray[np.float32]]
    placed: Placed | None
    follows: tuple[str, ...]
    window: tuple[float, float]
    colormap: str
    blend: str
    units: str
    kind: str = field(default="fusion", init=False)

    def state(self) -> dict[str, Any]:
        """How it is shown, of JSON types; `range` is what sliders go through."""
        center, width = self.window
        return {
            "labels": [],
            "window": [center, width],
            "range": [min(0.0, center - width / 2), center + width / 2],
            "colormap": self.colormap,
            "blend": self.blend,
            "units": self.units,
        }

    def ready(self, request: Request, kept: Kept) -> bool:
        """Whether the volume is in memory."""
        return self._key(request) in kept

    def draw(self, request: Request, kept: Kept) -> Drawn:
        """One uint16 array a plane: 0 outside, else value = number * slope + intercept, in units."""
        extra = {name: request.extra.get(name, 0) for name in self.follows}
        volume: Measured = kept.get(self._key(request), lambda: measured(self.values(extra)))
        slope = (volume.high - volume.low) / _STEPS or 1.0
        buffers = [self._coded(self._plane(volume, cut), volume.low, slope) for cut in request.cuts]
        return Drawn({"slope": slope, "intercept": volume.low - slope, "dtype": "uint16"}, buffers)

    def _key(self, request: Request) -> tuple[Any, ...]:
        return (self.key, "values", *(request.extra.get(name, 0) for name in self.follows))

    def _plane(self, volume: Measured, cut: Cut) -> npt.NDArray[np.float32]:
        """Values in units, NaN outside and beside voxels without a value."""
        if self.placed is None and cut.plane is not None:
            found = cut.taken(volume.values)
            return found if volume.valid is None else np.where(cut.taken(volume.valid) > 0, found, np.nan)
        index = cut.index() if self.placed is None else self.placed.index(cut)
        found = linear(volume.values, index)
        if volume.valid is not None:
            found[linear(volume.valid, index) < 1 - 1e-4] = np.nan
        return found

    @staticmethod
    def _coded(plane: npt.NDArray[np.float32], low: float, slope: float) -> npt.NDArray[np.uint16]:
        inside = np.isfinite(plane)
        steps = np.rint((np.where(inside, plane, low).astype(np.float64) - low) / slope)
        return np.where(inside, np.clip(steps, 0, _STEPS) + 1, 0).astype(np.uint16)


def measured(values: npt.NDArray[np.float32]) -> Measured:
    """A volume without its NaN, which would spread when interpolated."""
    finite = np.isfinite(values)
    if finite.all():
        return Measured(values, None, float(values.min()), float(values.max()))
    low, high = (
        (float(v) for v in (values[finite].min(), values[finite].max())) if finite.any() else (0.0, 1.0)
    )
    return Measured(np.where(finite, values, np.float32(low)), finite.astype(np.float32), low, high)


def usual_window(sample: npt.NDArray[Any]) -> tuple[float, float]:
    """Center and width from 0, or the lowest value, to the 99.5th percentile of a sample's positive part."""
    finite = np.asarray(sample, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    positive = finite[finite > 0]
    if not len(positive):
        return 0.0, float(np.ptp(finite)) or 1.0 if len(finite) else 1.0
    low = min(0.0, float(np.percentile(finite, 0.5)))
    high = float(np.percentile(positive, 99.5))
    if finite.min() >= 0 and 0.5 < finite.max() <= 1:  # a probability, or a fraction
        low, high = 0.0, 1.0
    return (low + high) / 2, max(high - low, 1e-6)
