"""One series: its facts, its volumes, what it opens as, and what refers to it."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from dicomlake.errors import CatalogError, GeometryError, VolumeError
from dicomlake.records import Finding, Instance, SeriesKey, Volume

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from dicomlake.catalog.blocks import SeriesHeaders
    from dicomlake.dicom.attributes import Attributes
    from dicomlake.widgets.compare.contact import ContactSheet
    from dicomlake.widgets.viewer.viewer import Viewer

Row = dict[str, Any]
Grid = Literal["as-is", "strict", "resample"]
# where objects name the series that they are about: of their own study, and of others
_COMMON = (
    "ReferencedSeriesSequence.SeriesInstanceUID",
    "StudiesContainingOtherReferencedInstancesSequence.ReferencedSeriesSequence.SeriesInstanceUID",
)
_EVIDENCE = (
    "CurrentRequestedProcedureEvidenceSequence.ReferencedSeriesSequence.SeriesInstanceUID",
    "PertinentOtherEvidenceSequence.ReferencedSeriesSequence.SeriesInstanceUID",
)
_DRAWN_ON = (
    "ReferencedFrameOfReferenceSequence.RTReferencedStudySequence.RTReferencedSeriesSequence"
    ".SeriesInstanceUID",
)


class Source(Protocol):
    """What a series needs of its lake."""

    def series_row(self, series_id: int) -> Row:
        """The catalog's row of a series."""

    def series_id(self, key: SeriesKey) -> int | None:
        """The id of the catalog's row of a series now."""

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
        """series_id: of the catalog's row now; from here on the series is known by its UIDs."""
        self._source = source
        self._row = source.series_row(series_id) if row is None else row

    @classmethod
    def of(cls, source: Source, key: SeriesKey) -> Series:
        """The series of these UIDs. Raises CatalogError when the lake does not hold it."""
        return cls(source, _id_of(source, key))

    def __reduce__(self) -> tuple[Callable[[Source, SeriesKey], Series], tuple[Source, SeriesKey]]:
        """A series travels by its UIDs."""
        return Series.of, (self._source, self.key)

    @property
    def source(self) -> Source:
        """The lake that it is of."""
        return self._source

    @property
    def id(self) -> int:
        """The id of the catalog's row now; late instances and a rebuild change it."""
        return _id_of(self._source, self.key)

    @property
    def facts(self) -> Row:
        """The catalog's columns of the series, by PS3.6 keyword."""
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

        headers = self._source.headers(self.id)
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
        Segmentations, structure sets, reports, videos and whatever else is no stack of frames open as what
        they are (`Lake.open`); several of them as a list. Volumes that could not be built are listed in the
        attribute `not_built`.
        Raises VolumeError when no volume is built; it says what kept it from being built. Raises
        GeometryError for a grid that cannot be had.
        """
        _check(grid)
        wanted = [v for v in self.volumes if volume is None or v.number == volume]
        built = [v for v in wanted if v.key is not None]
        if not built:
            as_objects = volume is None and (not wanted or self._is_video())
            opened = self._source.open_objects(self.key) if as_objects else None
            if opened is None:
                raise VolumeError(_why_not_built(self.uid, wanted, volume))
            return opened
        datasets = [_on_grid(self._source.open_volume(v, chunks=chunks, level=level), v, grid) for v in built]
        missing = [f"volume {v.number}: {v.reason}" for v in wanted if v.key is None]
        if len(datasets) == 1:
            return datasets[0].assign_attrs({"not_built": missing} if missing else {})
        import xarray as xr

        tree = xr.DataTree.from_dict({f"vol{v.number}": ds for v, ds in zip(built, datasets, strict=True)})
        tree.attrs |= {"not_built": missing} if missing else {}
        return tree

    def _is_video(self) -> bool:
        from dicomlake.objects.documents import is_video

        return all(is_video(instance.transfer_syntax) for instance in self.instances)

    def segmentations(self) -> list[Any]:
        """The Segmentations of this series, in any study; `.open(grid=…)` puts them on its grid."""
        return self._about(["SEG"], _COMMON)

    def structures(self) -> list[Any]:
        """The RT structure sets drawn on this series; `.mask(roi, grid)` is exact on its grid."""
        return self._about(["RTSTRUCT"], _DRAWN_ON)

    def reports(self) -> list[Any]:
        """The structured reports and key object selections whose evidence holds images of this series."""
        return self._about(["SR", "KO"], _EVIDENCE)

    def presentations(self) -> list[Any]:
        """The presentation states of images of this series."""
        return self._about(["PR"], _COMMON)

    @property
    def dose_uids(self) -> list[str]:
        """SeriesInstanceUIDs of the RT doses in this series' frame of reference."""
        return [one.uid for one in self._doses()]

    def _doses(self) -> list[Series]:
        reference = self.facts.get("FrameOfReferenceUID")
        if not reference:
            return []
        return list(self._source.query(Modality="RTDOSE", FrameOfReferenceUID=reference))

    def dose(self, uid: str | None = None) -> xr.DataArray:
        """The RT dose in this series' frame of reference, in Gy, lazily, on its own grid.

        uid: the SeriesInstanceUID of one of several. Raises VolumeError when there is none, or several, or
        the one holds several volumes; QuantityError when it is no dose in Gy.
        """
        found = self._doses()
        wanted = [one for one in found if uid in (None, one.uid)]
        if len(wanted) != 1:
            which = ", ".join(one.uid for one in found[:4])
            remedy = f"name one with uid= ({which})" if found else "ingest the dose, or open it by its UID"
            raise VolumeError(f"{len(wanted)} dose series are meant for {self.uid}: {remedy}")
        opened = wanted[0].open()
        if not hasattr(opened, "image"):
            raise VolumeError(f"dose series {wanted[0].uid} holds several volumes: open it and choose one")
        dose: xr.DataArray = opened.image.dicom.dose()
        return dose

    def _about(self, modalities: list[str], paths: Iterable[str]) -> list[Any]:
        """The objects that refer to this series, opened."""
        from dicomlake.objects.opening import named_series

        found = [self._source.query(Modality=modalities, **{path: self.uid}) for path in paths]
        keys = dict.fromkeys(one.key for cohort in found for one in cohort)
        opened: list[Any] = []
        for key in keys:
            of_series = self._source.open_objects(key)
            if isinstance(of_series, list):  # one of them refers here, perhaps not all
                opened += [one for one in of_series if self.uid in named_series(one)]
            elif of_series is not None:
                opened.append(of_series)
        return opened

    def view(
        self, *, volume: int | None = None, overlays: bool = False, title: str = "", **traits: Any
    ) -> Viewer:
        """The series in a viewer; needs the extra [lab].

        volume: the number of one of several; the largest that is built unless told. overlays: lay over it
        what refers to it: segmentations, structures, dose. A segmentation, structure set or dose is shown
        over the images that it was drawn on. title: saved with the notebook, so name nobody in it.
        traits: what the viewer begins with, such as plane="coronal", window=(40, 400).
        Raises VolumeError when it holds no images, or none is built.
        """
        from dicomlake.widgets.showing import view

        return view(self, volume=volume, overlays=overlays, title=title, **traits)

    def prior(self, *, least: float = 0.5) -> Series | None:
        """The series of this patient's latest earlier study that shows the same, to compare it with.

        By modality, body part, kernel or sequence, thickness and description, scored from 0 to 1; None when
        none reaches `least`, or when no PatientID says whose it is.
        """
        from dicomlake.widgets.compare.prior import prior_of

        whose = {name: self.facts.get(name) for name in ("PatientID", "IssuerOfPatientID", "Modality")}
        if not whose["PatientID"]:
            return None
        wanted = {name: value for name, value in whose.items() if value}
        candidates = list(self._source.query(**wanted))
        found = prior_of(self, candidates, least=least)
        return None if found is None else candidates[found.index]

    def contact_sheet(self, *, every: int = 0, **how: Any) -> ContactSheet:
        """Its planes side by side, every n-th of them, about forty unless told; a click tells which."""
        from dicomlake.widgets.compare.contact import ContactSheet
        from dicomlake.widgets.showing import stack_of

        return ContactSheet.of(stack_of(self), every=every, **how)

    def to_nifti(self, folder: str | Path, *, grid: Grid = "as-is") -> list[Path]:
        """Write every volume as .nii.gz with a BIDS sidecar, and .bval and .bvec for diffusion.

        folder: made when missing. Each echo, component … is a file of its own. Returns the files, whose names
        tell modality, SeriesNumber and the beginning of a digest of the SeriesInstanceUID.
        Raises VolumeError when no volume is built, GeometryError, before anything is written, for a volume
        without one affine: take grid="resample".
        """
        from pathlib import Path

        from dicomlake.volumes.nifti import parts, write_nifti

        volumes = [v for v in self.volumes if v.key is not None]
        if not volumes:
            raise VolumeError(_why_not_built(self.uid, self.volumes, None))
        images = {v.number: self.open(volume=v.number, grid=grid).image for v in volumes}
        for image in images.values():
            _ = image.dicom.affine
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        headers = dict(self._source.headers(self.id))
        files: list[Path] = []
        for number, image in images.items():
            stored = self.open(volume=number).image  # a resampled image says no more where it comes from
            for (name, part), (_, original) in zip(parts(image), parts(stored), strict=True):
                path = target / f"{self._stem()}_vol-{number}{name}.nii.gz"
                files += write_nifti(part, path, _sidecar(part, original, headers))
        return files

    def _stem(self) -> str:
        """A file name for the series that is no other series' and names nobody."""
        number = self.facts.get("SeriesNumber")
        given = f"{int(number):03d}-" if isinstance(number, int | float) else ""
        modality = re.sub("[^a-z]", "", str(self.facts.get("Modality") or "").lower()) or "image"
        return f"{modality}-{given}{hashlib.sha256(self.uid.encode()).hexdigest()[:8]}"

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


def _id_of(source: Source, key: SeriesKey) -> int:
    found = source.series_id(key)
    if found is None:
        raise CatalogError(f"series {key.series_uid} is not in the lake any more: query again")
    return found


def _check(grid: str) -> None:
    if grid not in get_args(Grid):
        raise ValueError(f"grid is one of {', '.join(get_args(Grid))}, not {grid!r}")


def _sidecar(part: xr.DataArray, original: xr.DataArray, headers: Mapping[str, Attributes]) -> Row:
    """The facts of one image, by the header of the object that holds its first frame."""
    from dicomlake.volumes.sidecar import sidecar

    uid = str(original.instance_uid.values.flat[0])
    frame = int(original.frame_index.values.flat[0]) if "frame_index" in original.coords else 0
    return sidecar(headers[uid], part, frame)


def _on_grid(dataset: xr.Dataset, volume: Volume, grid: Grid) -> xr.Dataset:
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
