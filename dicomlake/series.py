"""One series: its facts, its volumes, what it opens as, and what refers to it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from dicomlake.errors import GeometryError, VolumeError
from dicomlake.records import Finding, Instance, SeriesKey, Volume

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from dicomlake.catalog.blocks import SeriesHeaders

Row = dict[str, Any]
Grid = Literal["as-is", "strict", "resample"]
_RT_REFERENCE = "ReferencedFrameOfReferenceSequence.RTReferencedStudySequence.RTReferencedSeriesSequence"


class Source(Protocol):
    """What a series needs of its lake."""

    def series_row(self, series_id: int) -> Row:
        """The catalog's row of a series."""

    def series_rows(self, ids: Sequence[int]) -> list[Row]:
        """The rows of several, in this order."""

    def headers(self, series_id: int) -> SeriesHeaders:
        """The full headers of a series."""

    def instances(self, key: SeriesKey) -> list[Instance]:
        """Its stored objects."""

    def series_volumes(self, key: SeriesKey) -> list[Volume]:
        """Its volumes, built or not."""

    def series_findings(self, key: SeriesKey) -> list[Finding]:
        """What is known to be wrong with it or with its objects."""

    def open_volume(self, volume: Volume, *, chunks: Any, level: int) -> xr.Dataset:
        """A built volume as lazy xarray."""

    def open_objects(self, key: SeriesKey) -> Any:
        """What is in a series that holds no stack of frames; None when it holds nothing to open."""

    def query(self, *conditions: str, **wanted: Any) -> Iterable[Series]:
        """The series that meet conditions on their elements."""


class Series:
    """One series of a lake."""

    def __init__(self, source: Source, series_id: int, row: Row | None = None) -> None:
        self._source = source
        self._id = series_id
        self._row = row

    @property
    def facts(self) -> Row:
        """The catalog's columns of the series, by PS3.6 keyword."""
        if self._row is None:
            self._row = self._source.series_row(self._id)
        return {k: v for k, v in self._row.items() if k not in ("id", "v_from", "v_to", "digest")}

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.facts["SeriesInstanceUID"])

    @property
    def key(self) -> SeriesKey:
        """StudyInstanceUID and SeriesInstanceUID."""
        return SeriesKey(str(self.facts["StudyInstanceUID"]), self.uid)

    @property
    def volumes(self) -> list[Volume]:
        """What its frames form: a record for each volume, with its verdict."""
        return self._source.series_volumes(self.key)

    @property
    def instances(self) -> list[Instance]:
        """Its stored objects."""
        return self._source.instances(self.key)

    @property
    def findings(self) -> list[Finding]:
        """What is known to be wrong with it."""
        return self._source.series_findings(self.key)

    def header(self, sop_instance_uid: str | None = None) -> dict[str, tuple[str, ...]]:
        """Every element of one instance, the first unless named: path -> values as text.

        Elements of sequence items are named `Sequence.Keyword`; values of several items follow each other.
        """
        from dicomlake.catalog.attributes import listing

        headers = self._source.headers(self._id)
        attributes = next(iter(headers))[1] if sop_instance_uid is None else headers.of(sop_instance_uid)
        return listing(attributes)

    def open(
        self, *, volume: int | None = None, grid: Grid = "as-is", chunks: Any = "auto", level: int = 0
    ) -> Any:
        """The series as lazy xarray: a Dataset with `image` (…, z, y, x[, rgb]), or a DataTree of several.

        volume: the number of one volume, which is then a Dataset.
        grid: "as-is" keeps every plane where it is; "strict" raises unless the slices are upright and
            evenly spaced; "resample" makes them so, by interpolation, float32.
        chunks: "auto" makes one Dask chunk of each shard, None opens without Dask.
        level: 1, 2 … open the halved copies for a quick look.
        Segmentations, structure sets, reports and whatever else is no stack of frames open as what they
        are (`Lake.open`).
        Raises VolumeError when no volume is built; it says what kept it from being built. Raises
        GeometryError for a grid that cannot be had.
        """
        wanted = [v for v in self.volumes if volume is None or v.number == volume]
        built = [v for v in wanted if v.key is not None]
        if not built:
            opened = None if wanted or volume is not None else self._source.open_objects(self.key)
            if opened is None:
                raise VolumeError(_why_not_built(self.uid, wanted, volume))
            return opened
        datasets = [_on_grid(self._source.open_volume(v, chunks=chunks, level=level), v, grid) for v in built]
        if len(datasets) == 1:
            return datasets[0]
        import xarray as xr

        return xr.DataTree.from_dict({f"vol{v.number}": ds for v, ds in zip(built, datasets, strict=True)})

    def segmentations(self) -> list[Any]:
        """The Segmentations of this series, in any study; `.open(grid=…)` puts them on its grid."""
        return self._opened("SEG", "ReferencedSeriesSequence.SeriesInstanceUID")

    def structures(self) -> list[Any]:
        """The RT structure sets drawn on this series; `.mask(roi, grid)` is exact on its grid."""
        return self._opened("RTSTRUCT", f"{_RT_REFERENCE}.SeriesInstanceUID")

    def reports(self) -> list[Any]:
        """The structured reports whose evidence holds images of this series."""
        evidence = "CurrentRequestedProcedureEvidenceSequence.ReferencedSeriesSequence.SeriesInstanceUID"
        return self._opened("SR", evidence)

    def presentations(self) -> list[Any]:
        """The presentation states of images of this series."""
        return self._opened("PR", "ReferencedSeriesSequence.SeriesInstanceUID")

    def dose(self, uid: str | None = None) -> xr.DataArray:
        """The RT dose in this series' frame of reference, in Gy, lazily, on its own grid.

        uid: the SeriesInstanceUID of one of several. Raises VolumeError when there is none, or several.
        """
        reference = self.facts.get("FrameOfReferenceUID")
        found = (
            list(self._source.query(Modality="RTDOSE", FrameOfReferenceUID=reference)) if reference else []
        )
        wanted = [one for one in found if uid in (None, one.uid)]
        if len(wanted) != 1:
            which = ", ".join(one.uid for one in wanted[:4])
            raise VolumeError(
                f"{len(wanted)} dose series share the frame of reference of {self.uid}"
                + (
                    f": name one with uid= ({which})"
                    if wanted
                    else ": ingest the dose, or open it by its UID"
                )
            )
        dose: xr.DataArray = wanted[0].open().image.dicom.dose()
        return dose

    def _opened(self, modality: str, reference: str) -> list[Any]:
        """The objects of a modality that refer to this series, opened."""
        found = self._source.query(Modality=modality, **{reference: self.uid})
        opened = [self._source.open_objects(one.key) for one in found]
        return [
            one for each in opened for one in (each if isinstance(each, list) else [each]) if one is not None
        ]

    def to_nifti(self, folder: str | Path, *, grid: Grid = "as-is") -> list[Path]:
        """Write every volume as .nii.gz with a BIDS sidecar, and .bval and .bvec for diffusion.

        folder: made when missing. Each echo, component … is a file of its own. Returns the files.
        Raises GeometryError for a volume without one affine: take grid="resample".
        """
        from pathlib import Path

        from dicomlake.volumes.nifti import bids_facts, parts, write_nifti

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        header = next(iter(self._source.headers(self._id)))[1]
        number = self.facts.get("SeriesNumber") or 0
        stem = f"{str(self.facts.get('Modality') or 'image').lower()}-{number:03d}"
        files: list[Path] = []
        for one in [v for v in self.volumes if v.key is not None]:
            image = self.open(volume=one.number, grid=grid).image
            for name, part in parts(image):
                path = target / f"{stem}_vol-{one.number}{name}.nii.gz"
                files += write_nifti(part, path, bids_facts(header, part))
        return files

    def __repr__(self) -> str:
        return f"<Series {self.uid}: {_summary(self.facts)}>"

    def _repr_html_(self) -> str:
        shown = {name: value for name, value in self.facts.items() if value is not None}
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text_of(value))}</td></tr>"
            for name, value in shown.items()
        )
        volumes = "".join(
            f"<li>volume {v.number}: {html.escape(v.verdict)}, {' × '.join(map(str, v.shape))}"
            f"{'' if v.key else ' — not built: ' + html.escape(v.reason)}</li>"
            for v in self.volumes
        )
        return (
            f"<div><strong>Series</strong> {html.escape(_summary(self.facts))}<ul>{volumes}</ul>"
            f"<details><summary>Facts</summary><table>{rows}</table></details></div>"
        )


def _on_grid(dataset: xr.Dataset, volume: Volume, grid: Grid) -> xr.Dataset:
    if grid not in get_args(Grid):
        raise ValueError(f"grid is one of {', '.join(get_args(Grid))}, not {grid!r}")
    if grid == "as-is" or volume.verdict == "regular":
        return dataset
    if grid == "strict":
        raise GeometryError(
            f"volume {volume.number} of {volume.series_uid} is {volume.verdict}: {volume.reason}; open it"
            " with grid='resample' or grid='as-is'"
        )
    from dicomlake.volumes.resample import resampled

    image = resampled(dataset.image)
    found = image.to_dataset()
    found.attrs = dataset.attrs | {"verdict": "regular", "resampled_from": volume.verdict}
    return found


def _why_not_built(uid: str, volumes: Sequence[Volume], wanted: int | None) -> str:
    if not volumes and wanted is not None:
        return f"series {uid} has no volume {wanted}: see series.volumes"
    if not volumes:
        return f"series {uid} has no volume: it holds no image, or run `dicomlake rebuild --volumes`"
    reasons = "; ".join(f"volume {v.number} is {v.verdict}: {v.reason}" for v in volumes[:3])
    return f"series {uid} has no built volume ({reasons}). Its originals are untouched: see series.instances"


def _summary(facts: Row) -> str:
    """What a series is, without anything that names the patient."""
    rows, columns = facts.get("Rows"), facts.get("Columns")
    size = f"{columns:g} × {rows:g}" if rows and columns else ""
    parts = (facts.get("Modality"), facts.get("BodyPartExamined"), size, f"{facts['instances']} instances")
    return ", ".join(str(part) for part in parts if part)


def text_of(value: Any) -> str:
    """A fact as a table shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
