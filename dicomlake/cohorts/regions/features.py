"""Features of the regions that are drawn on the series of a cohort: a row for each series and region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicomlake.cohorts.arrays.images import Options, chosen_image, scalar_volume
from dicomlake.cohorts.regions.masks import Drawing, Labels, Of, Region, check_of, regions_of
from dicomlake.errors import GeometryError
from dicomlake.features import nomenclature
from dicomlake.features.first_order import discretised, histogram_features, intensity_statistics
from dicomlake.features.local_intensity import peak_features
from dicomlake.features.shape import intensity_shape_features, shape_features
from dicomlake.progress import progress as progress_bar

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from dicomlake.series import Series

Row = dict[str, Any]
KINDS = {
    "first_order": nomenclature.STATISTICS,
    "histogram": nomenclature.HISTOGRAM,
    "shape": (*nomenclature.MORPHOLOGY, *nomenclature.MORPHOLOGY_OF_INTENSITIES),
    "peak": nomenclature.LOCAL,
}
FACTS = ("SeriesInstanceUID", "source", "number", "label", "units", "voxels", "intensities")
ENDS = ("error", "message", "object", "StudyInstanceUID")
_MARGIN_MM = 7.0  # more than the radius of a sphere of 1 cm3


def features(
    series: Iterable[Series],
    *,
    of: Of = "seg",
    kinds: Sequence[str] = ("first_order", "shape"),
    labels: Labels = None,
    units: str | None = "modality",
    bins: int | None = None,
    width: float | None = None,
    lowest: float | None = None,
    volume: int | None = None,
    sel: Mapping[str, Any] | None = None,
    isel: Mapping[str, int] | None = None,
    resample: bool = False,
    threshold: float | None = None,
    skip_flawed: bool = False,
    interpolate: bool = False,
    workers: int = 2,
    progress: bool | None = None,
) -> pd.DataFrame:
    """IBSI features of regions, a row for each series and region; what fails is a row with `error`.

    of: "seg", "rtstruct" or "both" take the objects of the lake that refer to the series; a mapping gives
        masks, bool (z, y, x), by SeriesInstanceUID and name; a function of series and image, masks by name.
    kinds: of first_order, histogram, shape, peak. labels: only regions of these labels or numbers.
    units: of the intensities: "modality" (rescaled), "hu", "suv", … (`images.UNITS`).
    bins, width, lowest: how `histogram` discretises (`features.first_order.discretised`).
    volume, sel, isel: what of each series is meant, where it has several volumes, echoes, times …
    resample, threshold: for segmentations off the grid of the image, and fractional ones.
    skip_flawed, interpolate: for structure sets, as in `StructureSet.mask`.
    workers: threads.
    Columns: SeriesInstanceUID, source, number, label, units, voxels (of the mask), intensities (those of them
    that are no padding), the features by name (units in `features.nomenclature`), then error, message, object
    (SOPInstanceUID), StudyInstanceUID. Padding has no intensity but counts for the shape.
    Raises ValueError for unknown kinds, units and sources.
    """
    check_of(of)
    wanted = tuple(kinds)
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown or not wanted:
        raise ValueError(f"kinds are of {', '.join(KINDS)}, not {', '.join(unknown) or 'none'}")
    if "histogram" in wanted and (bins is None) == (width is None):
        raise ValueError("a histogram needs bins=, a number of them, or width=, in the unit of the values")
    job = _Job(
        of,
        wanted,
        Options(volume, units, sel or {}, isel or {}),
        Drawing(labels, resample, threshold, skip_flawed, interpolate),
        {"bins": bins, "width": width, "lowest": lowest},
    )
    return _table(_computed(job, list(series), workers, progress), wanted)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is computed of each series."""

    of: Of
    kinds: tuple[str, ...]
    options: Options
    drawing: Drawing
    binning: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, series: Series) -> list[Row]:
        """The rows of one series."""
        start: Row = {"SeriesInstanceUID": series.key.series_uid, "StudyInstanceUID": series.key.study_uid}
        found: list[Row] = []
        try:
            image = scalar_volume(chosen_image(series, self.options))
            start["units"] = _units(image)
            regions = regions_of(series, image, self.of, self.drawing)
            found.extend(start | self._row(region, image) for region in regions)
        except Exception as error:
            found.append(start | _failure(error))
        return found

    def _row(self, region: Region, image: xr.DataArray) -> Row:
        told: Row = {
            "source": region.source,
            "object": region.object_uid,
            "number": region.number,
            "label": region.label,
        }
        try:
            return told | self._measured(region.draw(), image)
        except Exception as error:
            return told | _failure(error)

    def _measured(self, mask: npt.NDArray[np.bool_], image: xr.DataArray) -> Row:
        if not mask.any():
            raise GeometryError("no voxel lies in the region: it has no features on this grid")
        margin = "peak" in self.kinds
        around = _around(mask, _steps_mm(image) if margin else None)
        mask = mask[around]
        part = image[around]
        values = part.dicom.without_padding().values.astype(np.float64)
        inside = values[mask]
        row: Row = {"voxels": int(mask.sum()), "intensities": int((~np.isnan(inside)).sum())}
        makers: dict[str, Callable[[], dict[str, float]]] = {
            "first_order": lambda: intensity_statistics(inside),
            "histogram": lambda: histogram_features(discretised(inside, **self.binning)),
            "shape": lambda: _shape(mask, values, image.dicom.affine[:3, :3]),
            "peak": lambda: peak_features(mask, values, image.dicom.affine[:3, :3]),
        }
        for kind in self.kinds:
            row |= makers[kind]()
        return row


def _shape(mask: npt.NDArray[np.bool_], values: npt.NDArray[np.float64], steps: Any) -> dict[str, float]:
    found = shape_features(mask, steps)
    return found | intensity_shape_features(mask, values, steps, volume_mm3=found["volume_mesh"])


def _around(mask: npt.NDArray[np.bool_], steps_mm: npt.NDArray[np.float64] | None) -> tuple[slice, ...]:
    """The part of an array that holds a mask, with a margin where steps are given."""
    found = []
    for axis, n in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        more = 0 if steps_mm is None else int(np.ceil(_MARGIN_MM / steps_mm[axis]))
        found.append(slice(max(int(occupied[0]) - more, 0), min(int(occupied[-1]) + 1 + more, n)))
    return tuple(found)


def _steps_mm(image: xr.DataArray) -> npt.NDArray[np.float64]:
    """How far apart neighbours are along z, y, x; between planes along their normal, as they may lean."""
    steps = np.asarray(image.dicom.affine[:3, :3])
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(steps), axis=1))


def _units(image: xr.DataArray) -> str | None:
    stated = image.attrs.get("units")
    return None if stated is None else str(stated)


def _failure(error: Exception) -> Row:
    return {"error": type(error).__name__, "message": str(error)}


def _computed(job: _Job, series: list[Series], workers: int, show: bool | None) -> list[Row]:
    rows: list[Row] = []
    with (
        progress_bar("Features", len(series), unit="series", show=show) as bar,
        ThreadPoolExecutor(max(workers, 1), thread_name_prefix="features") as threads,
    ):
        for found in threads.map(job.rows, series):
            rows += found
            bar.advance(1)
    return rows


def _table(rows: list[Row], kinds: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    names = [one.name for kind in kinds for one in KINDS[kind]]
    found = pd.DataFrame(rows, columns=[*FACTS, *names, *ENDS])
    for name in ("number", "voxels", "intensities"):
        found[name] = found[name].astype("Int64")
    return found.astype(dict.fromkeys(names, "float64"))
