"""An RT Structure Set: regions of interest as contours in patient space (PS3.3 A.19, C.8.8.5 to C.8.8.8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from dicomlake import tables
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.headers import Header, read_header
from dicomlake.dicom.walk import Encoding
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects import contour_masks
from dicomlake.objects.contours import Contour, read_contour
from dicomlake.objects.gridded import coordinates, geometry_attributes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_NOTHING = Attributes({}, Encoding(False, False))


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """A region of interest (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8).

    number: ROINumber. name: ROIName, free text, left out of the repr.
    interpreted_type: RTROIInterpretedType, such as ORGAN, GTV, PTV, EXTERNAL.
    colour: ROIDisplayColor, red, green, blue from 0 to 255.
    generation_algorithm: AUTOMATIC, SEMIAUTOMATIC or MANUAL.
    stated_volume_cm3: ROIVolume as the object states it.
    """

    number: int
    name: str
    interpreted_type: str | None
    colour: tuple[int, int, int] | None
    generation_algorithm: str | None
    stated_volume_cm3: float | None
    frame_of_reference_uid: str | None
    contours: tuple[Contour, ...]

    def __repr__(self) -> str:
        return f"<Roi {self.number}: {len(self.contours)} contours>"

    @property
    def points(self) -> int:
        """The number of points of all contours."""
        return sum(len(contour.points) for contour in self.contours)

    @property
    def drawable(self) -> tuple[Contour, ...]:
        """The closed contours that enclose something."""
        return tuple(c for c in self.contours if c.closed and not c.flaw and not c.idle)


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """What an RT Structure Set object holds.

    regions: in the order of StructureSetROISequence.
    frame_of_reference_uids, referenced_study_uids, referenced_series_uids, referenced_instance_uids: what
        it was drawn on, from ReferencedFrameOfReferenceSequence.
    findings: what is wrong with it, in words without identifying values.
    """

    sop_instance_uid: str | None
    frame_of_reference_uids: tuple[str, ...]
    referenced_study_uids: tuple[str, ...]
    referenced_series_uids: tuple[str, ...]
    referenced_instance_uids: tuple[str, ...]
    regions: tuple[Roi, ...]
    findings: tuple[str, ...]

    def region(self, roi: int | str) -> Roi:
        """The region with this ROINumber or, given a str, this ROIName.

        Raises DicomlakeError when there is none or more than one.
        """
        found = [r for r in self.regions if roi in ((r.number,) if isinstance(roi, int) else (r.name,))]
        if len(found) != 1:
            numbers = ", ".join(str(r.number) for r in (found or self.regions)) or "none"
            many = "more than one region has" if found else "no region has"
            raise DicomlakeError(f"{many} this number or name: choose by number, {numbers}; see .rois()")
        return found[0]

    def rois(self) -> pd.DataFrame:
        """The regions, a row each: number, name, type, colour, stated volume in cm³, contours, points."""
        columns = (
            "roi_number", "roi_name", "interpreted_type", "generation_algorithm", "colour",
            "stated_volume_cm3", "contours", "flawed", "points", "frame_of_reference_uid",
        )  # fmt: skip
        rows = [
            (
                r.number, r.name, r.interpreted_type, r.generation_algorithm, r.colour,
                r.stated_volume_cm3, len(r.contours), sum(c.flaw is not None for c in r.contours), r.points,
                r.frame_of_reference_uid,
            )
            for r in self.regions
        ]  # fmt: skip
        return tables.frame([dict(zip(columns, row, strict=True)) for row in rows], columns)

    def table(self) -> pd.DataFrame:
        """The contours, a row each.

        position_mm is that of the plane along its normal (for an axial contour the patient's z), normal
        the unit normal, LPS; area_mm2 by the shoelace formula; points (n, 3), LPS, mm; flaw says why a
        contour cannot be drawn or adds nothing.
        """
        columns = (
            "roi_number", "roi_name", "contour_number", "geometric_type", "position_mm", "normal", "n_points",
            "area_mm2", "flaw", "points", "referenced_sop_instance_uid", "referenced_frame",
        )  # fmt: skip
        rows = [
            (
                r.number, r.name, c.number, c.geometric_type, c.plane and c.plane.position_mm,
                c.plane and c.plane.normal, len(c.points), c.area_mm2, c.flaw or c.idle, c.points,
                c.images[0].sop_instance_uid if c.images else None, c.images[0].frame if c.images else None,
            )
            for r in self.regions
            for c in r.contours
        ]  # fmt: skip
        return tables.frame([dict(zip(columns, row, strict=True)) for row in rows], columns)

    def mask(
        self, roi: int | str, grid: Grid, *, interpolate: bool = False, skip_flawed: bool = False
    ) -> xr.DataArray:
        """The voxels of the grid whose centre lies in the region: bool, dims (z, y, x).

        All closed contours of a plane count together by the even-odd rule, so a contour in another is
        a hole; of a centre on an edge, see `polygons.fill`. Contours apply where `contour_masks.rasterise`
        says, which also tells what `interpolate` does. The attributes name the number of contour planes
        and of those that no slice took: contours beyond the grid are not in the mask.
        skip_flawed: leave out contours that cannot be drawn, instead of raising; `contours_left_out`
        counts them.
        Raises GeometryError when the region is in another frame of reference than the grid, has no closed
        contour, or has flawed ones; DicomlakeError when there is no such region.
        """
        import xarray as xr

        region = self.region(roi)
        left_out = _check_contours(region, skip_flawed)
        _check_space(region, grid)
        drawn = contour_masks.rasterise(region.drawable, grid, interpolate=interpolate)
        attributes = {
            "roi_number": region.number,
            "contour_planes": drawn.planes,
            "contour_planes_unused": drawn.planes - drawn.used,
            "contours_left_out": left_out,
            "interpolated": interpolate,
            **geometry_attributes(grid),
        }
        return xr.DataArray(drawn.mask, coordinates(grid), ("z", "y", "x"), "mask", attributes)

    def masks(self, grid: Grid, *, interpolate: bool = False, skip_flawed: bool = False) -> xr.DataArray:
        """The masks of all regions with a closed contour: bool, dims (roi, z, y, x).

        Coordinates along roi: its number (`roi`), `roi_name` and the attributes of `mask`. Regions without
        a closed contour are counted in the attribute `regions_without_area`. Memory: one byte a voxel and
        region. Raises as `mask`, for the first region that it concerns.
        """
        import xarray as xr

        able = [r for r in self.regions if r.drawable]
        out = np.zeros((len(able), *grid.shape), np.bool_)
        facts = []
        for number, region in enumerate(able):
            one = self.mask(region.number, grid, interpolate=interpolate, skip_flawed=skip_flawed)
            out[number] = one.values
            facts.append(one.attrs)
        coords: dict[str, tuple[str, list[object]]] = {
            "roi": ("roi", [r.number for r in able]),
            "roi_name": ("roi", [r.name for r in able]),
        }
        for key in ("contour_planes", "contour_planes_unused", "contours_left_out"):
            coords[key] = ("roi", [fact[key] for fact in facts])
        attributes = {
            "regions_without_area": len(self.regions) - len(able),
            "interpolated": interpolate,
            **geometry_attributes(grid),
        }
        return xr.DataArray(out, coords | coordinates(grid), ("roi", "z", "y", "x"), "masks", attributes)

    def __repr__(self) -> str:
        contours = sum(len(r.contours) for r in self.regions)
        points = sum(r.points for r in self.regions)
        noted = f", {len(self.findings)} findings" if self.findings else ""
        return f"<StructureSet: {len(self.regions)} regions, {contours} contours, {points} points{noted}>"

    def _repr_html_(self) -> str:
        """Numbers, types, colours and counts; names are in `rois()`."""
        rows = "".join(_html_row(region) for region in self.regions)
        head = "<tr><th></th><th>ROI</th><th>type</th><th>contours</th><th>points</th></tr>"
        return f"<p>{escape(repr(self))}</p><table>{head}{rows}</table>"


def _html_row(region: Roi) -> str:
    swatch = ""
    if region.colour is not None:
        style = "display:inline-block;width:1em;height:1em;background:rgb({},{},{})"
        swatch = f'<span style="{style.format(*region.colour)}"></span>'
    counts = (str(len(region.contours)), str(region.points))
    cells = (swatch, str(region.number), escape(region.interpreted_type or ""), *counts)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _check_contours(region: Roi, skip_flawed: bool) -> int:
    """The number of flawed contours that are left out; raises when there is nothing to draw or a doubt."""
    flawed = [c for c in region.contours if c.flaw]
    if flawed and not skip_flawed:
        raise GeometryError(
            f"{len(flawed)} contours of ROI {region.number} cannot be drawn, the first is number"
            f" {flawed[0].number}: {flawed[0].flaw}; pass skip_flawed=True for a mask without them"
        )
    if not region.drawable:
        kinds = ", ".join(sorted({c.geometric_type for c in region.contours if not c.flaw})) or "none"
        raise GeometryError(
            f"ROI {region.number} has no closed contour that encloses anything (its contours: {kinds}), so"
            " it has no mask; its points are in .table()"
        )
    return len(flawed)


def _check_space(region: Roi, grid: Grid) -> None:
    """Raise unless region and grid share a space: one frame of reference, or drawn on the grid's images."""
    mine, theirs = region.frame_of_reference_uid, grid.frame_of_reference_uid
    if mine is None or theirs is None:
        known = set(grid.instance_uids)
        if any(image.sop_instance_uid in known for c in region.drawable for image in c.images):
            return
        unknown = "region" if mine is None else "grid"
        raise GeometryError(
            f"nothing says that ROI {region.number} and the grid share a space: the {unknown} has no"
            " FrameOfReferenceUID; if you know that they do, give both the same by dataclasses.replace"
        )
    if mine != theirs:
        raise GeometryError(
            f"ROI {region.number} was drawn in frame of reference {mine}, the grid is in {theirs}: take the"
            " series that the structure set refers to (referenced_series_uids), or register the two first"
        )


def read_structures(source: bytes | Header) -> StructureSet:
    """The regions of an RT Structure Set.

    source: the whole object, or its header. Raises NotADicomObject or BrokenObject when it cannot be read,
    DicomlakeError when it is something else. Flaws within become findings, and contours keep their flaw.
    """
    header = source if isinstance(source, Header) else read_header(source)
    dataset = header.dataset
    sop_class = dataset.text("SOPClassUID")
    if sop_class != SOP_CLASS and (sop_class or "StructureSetROISequence" not in dataset):
        raise DicomlakeError(
            f"an object of SOP class {sop_class} is no RT Structure Set: open it as its own kind"
        )
    regions, findings = _regions(dataset)
    frames = dataset.items("ReferencedFrameOfReferenceSequence")
    studies = [s for frame in frames for s in frame.items("RTReferencedStudySequence")]
    series = [s for study in studies for s in study.items("RTReferencedSeriesSequence")]
    images = [i for one in series for i in one.items("ContourImageSequence")]
    return StructureSet(
        dataset.text("SOPInstanceUID"),
        _uids(frames, "FrameOfReferenceUID"),
        _uids(studies, "ReferencedSOPInstanceUID"),
        _uids(series, "SeriesInstanceUID"),
        _uids(images, "ReferencedSOPInstanceUID"),
        regions,
        (*header.problems, *findings),
    )


def _uids(items: list[Attributes] | tuple[Attributes, ...], keyword: str) -> tuple[str, ...]:
    found = (item.text(keyword) for item in items)
    return tuple(dict.fromkeys(uid for uid in found if uid))


def _number(item: Attributes, keyword: str) -> int | None:
    value = item.number(keyword)
    return None if value is None else int(value)


def _regions(dataset: Attributes) -> tuple[tuple[Roi, ...], list[str]]:
    """The regions of all three sequences, joined by ROINumber, and what is wrong with them."""
    drawn: dict[int | None, list[Attributes]] = {}
    for item in dataset.items("ROIContourSequence"):
        drawn.setdefault(_number(item, "ReferencedROINumber"), []).append(item)
    seen: dict[int | None, Attributes] = {}
    for item in dataset.items("RTROIObservationsSequence"):
        seen.setdefault(_number(item, "ReferencedROINumber"), item)
    regions, findings = [], []
    described = {}
    for item in dataset.items("StructureSetROISequence"):
        number = _number(item, "ROINumber")
        if number is None or number in described:
            findings.append("an item of StructureSetROISequence has no ROINumber of its own and is left out")
        else:
            described[number] = item
    for number, item in described.items():
        regions.append(_region(number, item, drawn.pop(number, []), seen.get(number, _NOTHING)))
    for orphan, items in drawn.items():
        if orphan is None:
            findings.append(f"{len(items)} items of ROIContourSequence name no ROI and are left out")
        else:
            findings.append(f"ROI {orphan} has contours but no item in StructureSetROISequence")
            regions.append(_region(orphan, _NOTHING, items, seen.get(orphan, _NOTHING)))
    findings += [finding for region in regions for finding in _contour_findings(region)]
    return tuple(regions), findings


def _region(number: int, item: Attributes, drawn: list[Attributes], seen: Attributes) -> Roi:
    colours = [tuple(int(v) for v in one.numbers("ROIDisplayColor")) for one in drawn]
    colour = next((c for c in colours if len(c) == 3 and all(0 <= v <= 255 for v in c)), None)
    items = [contour for one in drawn for contour in one.items("ContourSequence")]
    contours = tuple(read_contour(one, place) for place, one in enumerate(items, 1))
    return Roi(
        number,
        item.text("ROIName") or "",
        seen.text("RTROIInterpretedType"),
        (colour[0], colour[1], colour[2]) if colour else None,
        item.text("ROIGenerationAlgorithm"),
        item.number("ROIVolume"),
        item.text("ReferencedFrameOfReferenceUID"),
        _without_repeats(contours),
    )


def _without_repeats(contours: tuple[Contour, ...]) -> tuple[Contour, ...]:
    """The same, with contours that were said before marked idle: twice would make a hole of them."""
    first: dict[bytes, int] = {}
    out = []
    for contour in contours:
        known = contour.number
        if contour.geometric_type == "CLOSED_PLANAR" and not contour.flaw and not contour.idle:
            known = first.setdefault(contour.points.tobytes(), contour.number)
        repeated = f"has the points of contour {known}, counted once"
        out.append(contour if known == contour.number else replace(contour, idle=repeated))
    return tuple(out)


def _contour_findings(region: Roi) -> Iterator[str]:
    for contour in region.contours:
        if problem := contour.flaw or contour.idle:
            yield f"ROI {region.number}, contour {contour.number}: {problem}"
