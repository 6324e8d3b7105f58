"""Segmentations as arrays: on their own grid, or voxel on voxel in the image that they were drawn on.

Segmentation Storage and Label Map Segmentation Storage (PS3.3 A.51): binary, fractional and label map.
Nothing is decoded until an array is computed, and then one segment at a time.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import pixel_format
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.headers import read_header
from dicomlake.errors import BrokenObject, DicomlakeError, GeometryError
from dicomlake.objects import gridded, placing, voxels
from dicomlake.objects.codes import Reference, referenced_series
from dicomlake.objects.colours import hex_of
from dicomlake.objects.segments import Segment, SegmentFrame, frames_of, palette_of, segments_of
from dicomlake.tables import frame as table_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

BINARY, FRACTIONAL, LABELMAP = "BINARY", "FRACTIONAL", "LABELMAP"
SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Segmentation:
    """A segmentation object: what it segments, in what, and how to get at the voxels.

    kind: BINARY, FRACTIONAL or LABELMAP (SegmentationType). fractional_type: PROBABILITY or OCCUPANCY.
    segments: by number. references: the instances it names, with their series.
    background: for a label map, the value of voxels in no segment (PixelPaddingValue, else 0).
    tiled: a whole slide segmentation, which has a table but does not open.
    """

    kind: str
    fractional_type: str | None
    maximum: int
    segments: tuple[Segment, ...]
    references: tuple[Reference, ...]
    frames: tuple[SegmentFrame, ...]
    rows: int
    columns: int
    background: int
    tiled: bool
    sop_instance_uid: str
    frame_of_reference_uid: str | None
    source: voxels.Source

    @property
    def referenced_series(self) -> tuple[str, ...]:
        """SeriesInstanceUIDs of what it refers to, in the order of the object."""
        return tuple(dict.fromkeys(ref.series_uid for ref in self.references if ref.series_uid))

    @property
    def referenced_instances(self) -> tuple[str, ...]:
        """SOPInstanceUIDs of what it refers to, those that only frames name included."""
        by_frames = (source for frame in self.frames for source in frame.sources)
        return tuple(dict.fromkeys(ref.sop_instance_uid for ref in (*self.references, *by_frames)))

    @property
    def grid(self) -> Grid | None:
        """The grid that the frames define themselves; None without geometry. Raises GeometryError."""
        return self._own().grid

    def table(self) -> pd.DataFrame:
        """One row a segment: number, label, codes, algorithm, colour (sRGB), tracking, frames."""
        count = Counter(frame.segment for frame in self.frames)
        rows = [s.row() for s in self.segments]
        if self.kind != LABELMAP:
            rows = [row | {"frames": count[row["number"]]} for row in rows]
        return table_of(rows)

    def segment(self, which: int | str) -> Segment:
        """The segment of a number or a label. Raises KeyError when there is none, or several."""
        field = "label" if isinstance(which, str) else "number"
        found = [segment for segment in self.segments if getattr(segment, field) == which]
        if len(found) != 1:
            raise KeyError(f"{len(found)} segments have that {field}: choose one of .table() by its number")
        return found[0]

    def open(self, grid: Grid | None = None, *, resample: bool = False) -> xr.Dataset:
        """The voxels as a Dataset with `segmentation`, lazy; one Dask block for each segment.

        grid: of the image to lay them on; None keeps the grid of the frames themselves.
        resample: where voxels do not coincide take the nearest one, and drop what lies outside.

        BINARY is bool (segment, z, y, x), FRACTIONAL float32 from 0 to 1, a label map (z, y, x) with
        segment numbers as stored. A slice without a frame holds nothing (0, False, the background).
        Without geometry and grid, `frame` takes the place of z. Coordinates: `segment`, `label`, z, y and
        x in mm, `position_x`, `_y`, `_z` where the planes are not evenly spaced, `instance_uid` of the image.
        Raises GeometryError when the frames cannot be placed without guessing, or are tiled.
        """
        import xarray as xr

        placement, sampled = self._place(grid, resample)
        if self.kind == LABELMAP:
            dims: tuple[str, ...] = ()
            data = voxels.lazily(self.source, self._plan(None, placement), sampled)
        else:
            import dask.array as da

            dims = ("segment",)
            plans = [self._plan(segment.number, placement) for segment in self.segments]
            data = da.stack([voxels.lazily(self.source, plan, sampled) for plan in plans])
        target = grid or placement.grid
        axes = ("frame" if target is None else "z", "y", "x")
        array = xr.DataArray(data, dims=(*dims, *axes), name="segmentation", attrs=self._attributes(target))
        found = xr.Dataset({"segmentation": array}, gridded.coordinates(target, placement.sources))
        if dims:
            found = found.assign_coords(
                segment=("segment", [segment.number for segment in self.segments]),
                label=("segment", np.array([segment.label for segment in self.segments], dtype=object)),
            )
        found.attrs = {"SOPInstanceUID": self.sop_instance_uid, "referenced_series": self.referenced_series}
        return found

    def mask(
        self,
        which: int | str,
        grid: Grid | None = None,
        *,
        resample: bool = False,
        threshold: float | None = None,
    ) -> xr.DataArray:
        """One segment, by number or label, as a lazy bool array (z, y, x).

        threshold: for a fractional segmentation, the smallest fraction that counts as inside.
        grid, resample: as in `open`. Raises KeyError for an unknown or ambiguous segment, DicomlakeError
        when a fractional one is asked for without a threshold.
        """
        number = self.segment(which).number
        opened = self.open(grid, resample=resample).segmentation
        found = opened == number if self.kind == LABELMAP else opened.sel(segment=number)
        if self.kind == FRACTIONAL:
            if threshold is None:
                raise DicomlakeError("the segmentation is fractional: pass threshold=0.5, or what you mean")
            found = found >= np.float32(threshold)
        named: xr.DataArray = found.rename("mask").assign_attrs(opened.attrs)
        return named

    def _own(self) -> placing.Placement:
        return placing.own_placement(self.frames, self.rows, self.columns, self.frame_of_reference_uid)

    def _place(self, grid: Grid | None, resample: bool) -> tuple[placing.Placement, Grid | None]:
        """Where the frames go, and the grid to be sampled from there if voxels do not coincide."""
        if self.tiled:
            raise GeometryError("a tiled (whole slide) segmentation does not open as a volume")
        if grid is None:
            return self._own(), None
        mine, theirs = self.frame_of_reference_uid, grid.frame_of_reference_uid
        if mine and theirs and mine != theirs and not any(frame.flaw for frame in self.frames):
            raise GeometryError(
                "segmentation and image have different FrameOfReferenceUIDs: positions in one mean nothing in"
                " the other; register them first, or open the segmentation without a grid"
            )
        try:
            return placing.image_placement(self.frames, self.rows, self.columns, grid), None
        except GeometryError:
            own = self._own() if resample else None
            if own is None or own.grid is None:
                raise
            if not own.regular or not np.isfinite(grid.affine).all():
                raise GeometryError(
                    "planes of the segmentation are not evenly spaced, so none is nearest to a voxel between"
                    " them: open it without a grid"
                ) from None
            return own, grid

    def _plan(self, segment: int | None, placement: placing.Placement) -> voxels.Plan:
        """Which frames make up a segment (all of them: None), each on its place."""
        chosen = [(f, p) for f, p in zip(self.frames, placement.places, strict=True) if f.segment == segment]
        return voxels.Plan(
            shape=placement.shape,
            frames=tuple((frame.index, place) for frame, place in _one_each(chosen, placement.grid)),
            own=placement.grid,
            dtype=voxels.dtype_of(self.kind, self.source.header),
            fill=self.background if self.kind == LABELMAP else 0,
            maximum=self.maximum if self.kind == FRACTIONAL else None,
        )

    def _attributes(self, grid: Grid | None) -> dict[str, Any]:
        found: dict[str, Any] = {"segmentation_type": self.kind}
        if self.kind == FRACTIONAL:
            found["fractional_type"] = self.fractional_type
        if self.kind == LABELMAP:
            found["background"] = self.background
        return found | gridded.geometry_attributes(grid)

    def __repr__(self) -> str:
        return f"<Segmentation: {self.kind}, {len(self.segments)} segments in {len(self.frames)} frames>"

    def _repr_html_(self) -> str:
        count = Counter(frame.segment for frame in self.frames)
        rows = "".join(
            f"<tr><td>{s.number}</td><td>{_swatch(s)}</td>"
            f"<td style='text-align:left'>{html.escape(_meaning(s))}</td>"
            f"<td style='text-align:left'>{html.escape(s.algorithm_type or '')}</td>"
            f"<td>{'' if self.kind == LABELMAP else count[s.number]}</td></tr>"
            for s in self.segments
        )
        head = "".join(f"<th>{name}</th>" for name in ("number", "", "segment", "algorithm", "frames"))
        return (
            f"<div><strong>Segmentation</strong> <span style='opacity:.7'>{self.kind},"
            f" {len(self.segments)} segments, {len(self.frames)} frames of {self.rows} × {self.columns}"
            f"</span>"
            f"<table><tr>{head}</tr>{rows}</table></div>"
        )


def _one_each(
    frames: Sequence[tuple[SegmentFrame, placing.Place]], grid: Grid | None
) -> list[tuple[SegmentFrame, placing.Place]]:
    """At most one frame for each slice of a segment.

    Several are told apart by their source where the slices are known: a segmentation of a series over
    time has frames for each time at one place. Raises GeometryError when that leaves more than one.
    """
    by_slice: dict[int, list[tuple[SegmentFrame, placing.Place]]] = {}
    for frame, place in frames:
        by_slice.setdefault(place.z, []).append((frame, place))
    chosen = []
    for z, several in by_slice.items():
        if len(several) > 1 and grid is not None and grid.instance_uids:
            several = [one for one in several if z in placing.cited_slices(one[0], grid)]
        if len(several) > 1:
            raise GeometryError(
                f"{len(several)} frames of one segment lie on one plane: open the segmentation on the grid of"
                " an image that only one of them refers to"
            )
        chosen += several
    return chosen


def _swatch(segment: Segment) -> str:
    if segment.rgb is None:
        return ""
    colour = hex_of(segment.rgb)
    style = f"display:inline-block;width:1em;height:1em;background:{colour}"
    return f"<span title='{colour}' style='{style}'></span>"


def _meaning(segment: Segment) -> str:
    """What was segmented, in the meanings of its codes; the label is free text and stays in the table."""
    if segment.type is None:
        return "no property type"
    return ", ".join(code.meaning for code in (segment.type, *segment.type_modifiers))


def read_segmentation(source: bytes) -> Segmentation:
    """Read a segmentation object; its pixels are not decoded yet.

    Raises NotADicomObject for bytes that are not DICOM, BrokenObject when segments or frames are not
    described as PS3.3 C.8.20 wants.
    """
    header = read_header(source)
    dataset = header.dataset
    kind = _kind(dataset)
    form = pixel_format(dataset)
    segments = segments_of(dataset)
    if kind == LABELMAP:
        colours = palette_of(dataset, segments)
        segments = tuple(replace(s, rgb=s.rgb or colours.get(s.number)) for s in segments)
    return Segmentation(
        kind=kind,
        fractional_type=dataset.text("SegmentationFractionalType"),
        maximum=_maximum(dataset, kind),
        segments=segments,
        references=tuple(referenced_series(dataset)),
        frames=() if _tiled(dataset) else frames_of(dataset, segments, kind == LABELMAP),
        rows=form.rows,
        columns=form.columns,
        background=int(dataset.number("PixelPaddingValue") or 0),
        tiled=_tiled(dataset),
        sop_instance_uid=dataset.text("SOPInstanceUID") or "",
        frame_of_reference_uid=dataset.text("FrameOfReferenceUID"),
        source=voxels.Source(source, header),
    )


def _kind(dataset: Attributes) -> str:
    kind = dataset.text("SegmentationType") or ""
    if kind not in (BINARY, FRACTIONAL, LABELMAP):
        raise BrokenObject("SegmentationType is none of BINARY, FRACTIONAL, LABELMAP (PS3.3 C.8.20.2)")
    return kind


def _maximum(dataset: Attributes, kind: str) -> int:
    """MaximumFractionalValue, which a fractional segmentation must have; 1 for the others."""
    if kind != FRACTIONAL:
        return 1
    value = dataset.number("MaximumFractionalValue")
    if not value or value < 1:
        raise BrokenObject("MaximumFractionalValue is missing: the fractions cannot be scaled")
    return int(value)


def _tiled(dataset: Attributes) -> bool:
    organized = dataset.text("DimensionOrganizationType") or ""
    return organized.startswith("TILED") or "TotalPixelMatrixColumns" in dataset
