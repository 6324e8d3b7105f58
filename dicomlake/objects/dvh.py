"""Dose-volume histograms: computed from a dose and a mask, or as stored in an RT Dose (PS3.3 C.8.8.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.headers import Header, read_header
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects.contour_masks import slice_reach
from dicomlake.objects.dose_sampling import dose_at, voxel_centres

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]

BIN_GY = 0.01  # what planning systems store; a statistic from the histogram is off by less than a bin
_ON_EDGE = 1e-9  # of a bin: 0.29 Gy is on an edge of 0.01 Gy bins, though 0.29 / 0.01 is less than 29
_NOISE = 1e-6  # of the volume: what a stored histogram may rise or fall below zero by rounding
_VOLUME_UNITS = frozenset({"CM3", "PERCENT"})


@dataclass(frozen=True, slots=True, eq=False)
class Dvh:
    """A dose-volume histogram.

    edges: of the bins, (n + 1,), in dose_units, from 0. volumes: in each bin, (n,), in volume_units; a
        dose on an edge is in the bin above it.
    dose_units: GY or RELATIVE; every method in Gy refuses RELATIVE, as what it is relative to is not said.
    volume_units: CM3 or PERCENT.
    exact_gy: minimum, mean, maximum of the voxels; None for a stored one, whose bins are all that is known.
    outside_cm3: the part of the mask beyond the dose grid.
    roi_numbers, excluded_roi_numbers: regions of the structure set that were added and taken away.
    dose_type: PHYSICAL, EFFECTIVE or ERROR.
    stated: DVHMinimumDose, DVHMeanDose, DVHMaximumDose as stored, believed by no method.
    findings: where a stored one contradicts itself. flaw: why its bins cannot be read; methods raise it.
    """

    edges: Array
    volumes: Array
    dose_units: str = "GY"
    volume_units: str = "CM3"
    exact_gy: tuple[float, float, float] | None = None
    outside_cm3: float = 0.0
    roi_numbers: tuple[int, ...] = ()
    excluded_roi_numbers: tuple[int, ...] = ()
    dose_type: str | None = None
    stated: tuple[float | None, float | None, float | None] = (None, None, None)
    findings: tuple[str, ...] = ()
    flaw: str | None = None

    @property
    def edges_gy(self) -> Array:
        """The edges of the bins in Gy, (n + 1,). Raises DicomlakeError when the doses are relative."""
        if self.flaw:
            raise DicomlakeError(f"the stored DVH cannot be used: {self.flaw}; compute it with dvh()")
        if self.dose_units != "GY":
            raise DicomlakeError(
                f"doses of this DVH are in DoseUnits {self.dose_units}, not Gy: compute it with dvh() from a"
                " dose in Gy, or use dataclasses.replace with edges in Gy and dose_units='GY'"
            )
        return self.edges

    @property
    def cumulative(self) -> Array:
        """The volume that receives at least the dose of each edge, (n + 1,), in volume_units."""
        return np.concatenate([np.cumsum(self.volumes[::-1])[::-1], [0.0]])

    @property
    def volume_cm3(self) -> float:
        """The whole volume. Raises DicomlakeError when volumes are in percent."""
        if self.volume_units != "CM3":
            raise DicomlakeError(f"volumes of this DVH are in {self.volume_units}, the cm³ are not known")
        return float(self.volumes.sum())

    @property
    def minimum_gy(self) -> float:
        """The smallest dose; of a stored DVH the lower edge of its first bin that is not empty."""
        return self.exact_gy[0] if self.exact_gy else float(self.edges_gy[self._filled()[0]])

    @property
    def mean_gy(self) -> float:
        """The mean dose; of a stored DVH with each bin at its middle."""
        if self.exact_gy:
            return self.exact_gy[1]
        middles = (self.edges_gy[1:] + self.edges_gy[:-1]) / 2
        return float(middles @ self.volumes / self.volumes.sum())

    @property
    def maximum_gy(self) -> float:
        """The largest dose; of a stored DVH the upper edge of its last bin that is not empty."""
        return self.exact_gy[2] if self.exact_gy else float(self.edges_gy[self._filled()[-1] + 1])

    def _filled(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.volumes > 0)

    def volume_percent(self, gy: float) -> float:
        """V of a dose: how much of the volume receives at least this dose, in percent."""
        return 100 * self._volume(gy) / float(self.volumes.sum())

    def volume_cm3_at(self, gy: float) -> float:
        """V of a dose in cm³. Raises DicomlakeError when volumes are in percent."""
        return self._volume(gy) / float(self.volumes.sum()) * self.volume_cm3

    def _volume(self, gy: float) -> float:
        edges = self.edges_gy
        return float(np.interp(gy, edges, self.cumulative, left=float(self.volumes.sum())))

    def dose_gy(self, percent: float) -> float:
        """D of a volume: the largest dose that this much of the volume, in percent, receives at least."""
        if not 0 <= percent <= 100:
            raise DicomlakeError(f"{percent} percent of a volume cannot be: ask for 0 to 100")
        edges, cumulative = self.edges_gy, self.cumulative
        wanted = percent / 100 * cumulative[0] * (1 - 1e-12)
        if wanted <= 0:
            return self.maximum_gy
        i = int(np.flatnonzero(cumulative >= wanted)[-1])
        share = (cumulative[i] - wanted) / (cumulative[i] - cumulative[i + 1])
        dose = float(edges[i] + share * (edges[i + 1] - edges[i]))
        return min(max(dose, self.minimum_gy), self.maximum_gy)

    def dose_gy_at_cm3(self, cm3: float) -> float:
        """D of a volume in cm³, such as the dose to the hottest 2 cm³."""
        return self.dose_gy(100 * cm3 / self.volume_cm3)

    def statistics(self, *, doses_gy: tuple[float, ...] = (5, 10, 20, 30, 40, 50)) -> dict[str, float]:
        """Dmin, Dmean, Dmax, D98 to D2 in Gy and V of each dose in percent of the volume.

        Percentiles are interpolated within a bin, so they are off by less than its width.
        """
        found = {"Dmin": self.minimum_gy, "Dmean": self.mean_gy, "Dmax": self.maximum_gy}
        found |= {f"D{percent}": self.dose_gy(percent) for percent in (98, 95, 50, 5, 2)}
        return found | {f"V{dose:g}Gy": self.volume_percent(dose) for dose in doses_gy}

    def table(self) -> pd.DataFrame:
        """The bins: dose_gy (lower edge), width_gy, differential and cumulative in volume_units."""
        import pandas as pd

        edges = self.edges_gy
        columns = {"dose_gy": edges[:-1], "width_gy": np.diff(edges), "differential": self.volumes}
        return pd.DataFrame(columns | {"cumulative": self.cumulative[:-1]})

    def plot(self, axes: Axes | None = None, *, label: str | None = None) -> Axes:
        """Draw the cumulative histogram, volume in percent over dose in Gy; returns the axes."""
        from matplotlib import pyplot

        drawn = axes if axes is not None else pyplot.subplots()[1]
        drawn.plot(self.edges_gy, 100 * self.cumulative / self.cumulative[0], label=label)
        drawn.set(xlabel="dose (Gy)", ylabel="volume (%)", ylim=(0, 105))
        drawn.set_xlim(left=0)
        return drawn

    def __repr__(self) -> str:
        if self.flaw or self.dose_units != "GY":
            return f"<Dvh: {self.flaw or 'doses are ' + self.dose_units.lower()}>"
        volume = f"{self.volume_cm3:.4g} cm³, " if self.volume_units == "CM3" else ""
        return f"<Dvh: {volume}mean {self.mean_gy:.4g} Gy, maximum {self.maximum_gy:.4g} Gy>"


def dvh(
    dose: Any,
    mask: Any,
    grid: Grid,
    *,
    dose_grid: Grid | None = None,
    bin_gy: float = BIN_GY,
    outside_gy: float | None = None,
) -> Dvh:
    """The histogram of the dose in a mask.

    dose: (z, y, x) in Gy on dose_grid, which is the grid of the mask when not given; an array or DataArray.
    mask: (z, y, x) bool on grid. Each voxel of the mask counts with its whole volume and the dose at its
        centre, interpolated as in `dose_on`; on uneven slices it reaches half way to its neighbours.
    bin_gy: width of the bins.
    outside_gy: the dose to assume for voxels beyond the dose grid; nan leaves them out of the histogram.
    Raises GeometryError when shapes or frames of reference differ, when the mask is empty, or when part of
    it is beyond the dose grid and outside_gy is not given; DicomlakeError when the dose is not in Gy.
    """
    chosen = np.argwhere(np.asarray(mask, dtype=np.bool_))
    if np.shape(mask) != grid.shape:
        raise GeometryError(f"the mask has shape {np.shape(mask)}, its grid {grid.shape}: give its own grid")
    if not len(chosen):
        raise GeometryError("the mask has no voxel, so it has no dose: is the region within this grid?")
    values = dose_at(voxel_centres(grid, chosen), dose, dose_grid or grid, grid)
    volumes = _voxel_cm3(grid)[chosen[:, 0]]
    beyond = np.isnan(values)
    if beyond.any() and outside_gy is None:
        raise GeometryError(
            f"{100 * volumes[beyond].sum() / volumes.sum():.3g} % of the mask lies beyond the dose grid: pass"
            " outside_gy=0.0 to count it without dose, or outside_gy=nan to leave it out"
        )
    outside_cm3 = float(volumes[beyond].sum())
    values[beyond] = np.nan if outside_gy is None else outside_gy
    kept = ~np.isnan(values)
    return _histogram(values[kept], volumes[kept], bin_gy, outside_cm3)


def _histogram(values: Array, volumes: Array, bin_gy: float, outside_cm3: float) -> Dvh:
    if not len(values):
        raise GeometryError("the whole mask lies beyond the dose grid: no histogram")
    if bin_gy <= 0 or values.min() < 0:
        what = "the dose is negative in places" if bin_gy > 0 else "bins have no width"
        raise DicomlakeError(f"{what}: no histogram")
    place = np.floor(values / bin_gy + _ON_EDGE).astype(np.int64)
    edges = bin_gy * np.arange(place.max() + 2, dtype=np.float64)
    counted = np.bincount(place, volumes, len(edges) - 1).astype(np.float64)
    mean = float(values @ volumes / volumes.sum())
    exact = (float(values.min()), mean, float(values.max()))
    return Dvh(edges, counted, exact_gy=exact, outside_cm3=outside_cm3)


def _voxel_cm3(grid: Grid) -> Array:
    """The volume of a voxel of each slice, (z,)."""
    area = float(np.linalg.norm(np.cross(grid.affine[:3, 1], grid.affine[:3, 2])))
    below, above = slice_reach(grid)
    return area * (below + above) / 1000


def stored_dvhs(source: bytes | Header) -> list[Dvh]:
    """The histograms that an RT Dose object holds, in the order of DVHSequence (PS3.3 C.8.8.4).

    A cumulative one is taken to state the volume at the lower edge of each bin, so that its first value is
    the whole volume. Those that cannot be read have a `flaw`; those with DoseUnits RELATIVE refuse Gy.
    Raises NotADicomObject or BrokenObject when the object cannot be read.
    """
    header = source if isinstance(source, Header) else read_header(source)
    return [_stored(item) for item in header.dataset.items("DVHSequence")]


def _stored(item: Attributes) -> Dvh:
    regions: dict[str, list[int]] = {"INCLUDED": [], "EXCLUDED": []}
    for reference in item.items("DVHReferencedROISequence"):
        number = reference.number("ReferencedROINumber")
        if number is not None:
            regions.get(reference.text("DVHROIContributionType") or "", []).append(int(number))
    edges, volumes, flaw = _stored_bins(item)
    units = item.text("DoseUnits") or "RELATIVE"
    stated = tuple(item.number(f"DVH{which}Dose") for which in ("Minimum", "Mean", "Maximum"))
    return Dvh(
        edges,
        volumes,
        units,
        item.text("DVHVolumeUnits") or "",
        roi_numbers=tuple(regions["INCLUDED"]),
        excluded_roi_numbers=tuple(regions["EXCLUDED"]),
        dose_type=item.text("DoseType"),
        stated=(stated[0], stated[1], stated[2]),
        findings=_contradictions(edges, volumes, stated) if flaw is None else (),
        flaw=flaw,
    )


def _stored_bins(item: Attributes) -> tuple[Array, Array, str | None]:
    """Edges and differential volumes of a stored histogram, and why they cannot be told."""
    none = np.zeros(1), np.zeros(0)
    kind, data = item.text("DVHType"), np.array(item.numbers("DVHData"))
    count, scale = item.number("DVHNumberOfBins"), item.number("DVHDoseScaling")
    if kind not in ("CUMULATIVE", "DIFFERENTIAL"):
        return *none, f"DVHType is {kind}, which has no plain dose axis" if kind else "it has no DVHType"
    if item.text("DVHVolumeUnits") not in _VOLUME_UNITS:
        return *none, "DVHVolumeUnits is neither CM3 nor PERCENT"
    if not len(data) or len(data) % 2 or (count is not None and count != len(data) // 2):
        return *none, f"DVHData holds {len(data)} values, DVHNumberOfBins says {count or 0:.0f} bins"
    widths, volumes = data.reshape(-1, 2).T * np.array([[scale or 1.0], [1.0]])
    if (widths < 0).any():
        return *none, "a bin has a negative width"
    if kind == "CUMULATIVE":
        volumes = volumes - np.append(volumes[1:], 0.0)
    noise = _NOISE * float(np.abs(volumes).sum())
    if not volumes.sum() > 0 or (volumes < -noise).any():
        return *none, "a volume is negative, or a cumulative one grows with dose"
    return np.concatenate([[0.0], np.cumsum(widths)]), np.maximum(volumes, 0.0), None


def _contradictions(edges: Array, volumes: Array, stated: tuple[float | None, ...]) -> tuple[str, ...]:
    """Stated statistics that the bins rule out; some planning systems state them in percent."""
    filled = np.flatnonzero(volumes > 0)
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    slack = 2 * float(np.diff(edges).max()) + 0.01 * high
    wrong = [
        f"DVH{name}Dose lies outside the bins, it may be in another unit"
        for name, value in zip(("Minimum", "Mean", "Maximum"), stated, strict=True)
        if value is not None and value and not low - slack <= value <= high + slack
    ]
    return tuple(wrong)
