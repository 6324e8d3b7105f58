"""Structure sets are read as pydicom reads them; their masks are those of closed forms."""

from __future__ import annotations

import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicomlake import datasets
from dicomlake.datasets import chest_rt
from dicomlake.dicom.grid import Grid
from dicomlake.dicom.headers import read_header
from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.objects.structures import StructureSet, read_structures
from tests.rt.structure_sets import (
    FRAME,
    NAME,
    axial,
    circle,
    contour,
    region,
    rotation,
    square,
    structure_set,
    turned,
)

SLICES = 24


def one(*contours: pydicom.Dataset, **others: object) -> StructureSet:
    """A structure set with these contours as its region 1."""
    return read_structures(structure_set(region(1, contours, **others)))


def heights(mask: np.ndarray) -> list[int]:
    """Which slices of a mask hold anything."""
    return np.flatnonzero(mask.any(axis=(1, 2))).tolist()


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> StructureSet:
    folder = datasets.make("chest-rt", tmp_path_factory.mktemp("rt"), slices=SLICES)
    return read_structures((folder / "RS0001.dcm").read_bytes())


@pytest.fixture(scope="module")
def chest_grid() -> Grid:
    truth = datasets.truth("chest-ct", slices=SLICES)
    affine = np.array(truth.affine_lps)
    return Grid(truth.shape, affine, None, truth.frame_of_reference_uid, truth.instance_uids)


@pytest.mark.parametrize("lung", [1, 2])
def test_a_lung_is_the_closed_form_voxel_for_voxel(lung: int, chest: StructureSet, chest_grid: Grid) -> None:
    wanted = np.stack([chest_rt.segment_maps(index, SLICES)[lung - 1] for index in range(SLICES)])
    mask = chest.mask(lung, chest_grid)
    assert wanted.sum() > 200_000
    np.testing.assert_array_equal(mask.values, wanted)
    assert mask.dims == ("z", "y", "x")
    assert mask.attrs["contour_planes"] == wanted.any(axis=(1, 2)).sum()
    assert mask.attrs["contour_planes_unused"] == 0


def test_a_nodule_is_its_polygon_and_that_lies_within_the_ball(chest: StructureSet, chest_grid: Grid) -> None:
    from matplotlib.path import Path as Polygon

    masks = chest.masks(chest_grid)
    assert masks.roi.values.tolist() == [1, 2, 3, 4, 5, 6]
    nodules = masks.sel(roi=[3, 4, 5, 6]).any("roi").values
    ball = np.stack([chest_rt.nodule_map(index, SLICES) for index in range(SLICES)])
    assert not (nodules & ~ball).any()
    assert (ball & ~nodules).sum() <= 0.02 * ball.sum()
    (x0, y0), pixel = chest_grid.affine[:2, 3], chest_grid.affine[0, 2]
    centres = np.stack(np.meshgrid(x0 + pixel * np.arange(512), y0 + pixel * np.arange(512)), -1)
    for row in chest.table().query("roi_number == 3").itertuples():
        z = round((row.position_mm - chest_grid.affine[2, 3]) / chest_grid.affine[2, 0])
        inside = Polygon(row.points[:, :2]).contains_points(centres.reshape(-1, 2)).reshape(512, 512)
        np.testing.assert_array_equal(masks.sel(roi=3).values[z], inside)


@pytest.mark.parametrize("name", ["rt-dicompyler/rtss.dcm", "rt-utils/tests/empty/dummy_rt.dcm"])
def test_pydicom_reads_the_same_from_real_objects(name: str, real_data: Path) -> None:
    found = read_structures((real_data / name).read_bytes())
    truth = pydicom.dcmread(real_data / name)
    drawn = {int(item.ReferencedROINumber): item for item in truth.ROIContourSequence}
    kinds = {
        int(i.ReferencedROINumber): i.get("RTROIInterpretedType") for i in truth.RTROIObservationsSequence
    }
    table = found.table()
    for item, roi in zip(truth.StructureSetROISequence, found.regions, strict=True):
        assert (roi.number, roi.name) == (item.ROINumber, item.ROIName)
        assert roi.frame_of_reference_uid == item.ReferencedFrameOfReferenceUID
        assert (roi.interpreted_type or "") == (kinds[roi.number] or "")
        theirs = drawn[roi.number].get("ContourSequence", [])
        mine = table[table.roi_number == roi.number]
        assert len(mine) == len(theirs)
        for row, other in zip(mine.itertuples(), theirs, strict=True):
            np.testing.assert_array_equal(row.points, np.array(other.ContourData, float).reshape(-1, 3))
            assert row.geometric_type == other.ContourGeometricType
            assert row.n_points == other.NumberOfContourPoints
            assert row.position_mm == pytest.approx(float(other.ContourData[2]))
            images = other.get("ContourImageSequence")
            assert row.referenced_sop_instance_uid == (images[0].ReferencedSOPInstanceUID if images else None)
    (frame,) = truth.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert found.referenced_series_uids == (series.SeriesInstanceUID,)
    assert len(found.referenced_instance_uids) == len(
        {i.ReferencedSOPInstanceUID for i in series.ContourImageSequence}
    )


def test_a_header_serves_as_well_as_the_bytes() -> None:
    data = structure_set(region(1, [contour(square(2))]))
    (mine,), (other,) = read_structures(read_header(data)).regions, read_structures(data).regions
    np.testing.assert_array_equal(mine.contours[0].points, other.contours[0].points)


def test_the_table_tells_plane_and_area_of_a_tilted_contour() -> None:
    turn = rotation(20, 35, 50)
    keyhole = np.array(
        [(0, 0), (4, 4), (6, 4), (6, 6), (4, 6), (4, 4), (0, 0), (0, 10), (10, 10), (10, 0)], float
    )
    points = np.column_stack([keyhole, np.full(len(keyhole), 7.0)]) @ turn.T
    (row,) = one(contour(points)).table().itertuples()
    assert row.area_mm2 == pytest.approx(100 - 4, abs=1e-4)
    np.testing.assert_allclose(row.normal, turn[:, 2], atol=1e-6)
    assert row.position_mm == pytest.approx(7.0, abs=1e-5)


FLAWS = {
    "no whole points": contour("1\\2\\3\\4"),
    "not finite": contour("1\\2\\3\\4\\5\\nan\\7\\8\\9"),
    "a kilometre away": contour("1\\2\\3\\4\\5\\1e300\\7\\8\\9"),
    "no number": contour("1\\2\\3\\4\\x\\6\\7\\8\\9"),
    "off a plane": contour([(0, 0, 0), (9, 0, 0), (9, 9, 3), (0, 9, 0)]),
    "NumberOfContourPoints": contour(square(3), NumberOfContourPoints=9),
    "no ContourData": contour("", NumberOfContourPoints=5),
    "does not define": contour(square(3), "CIRCLE"),
}


@pytest.mark.parametrize("words", FLAWS)
def test_a_flawed_contour_is_a_finding_and_no_mask_is_made_without_it_unasked(words: str) -> None:
    found = one(contour(square(2)), FLAWS[words])
    (finding,) = found.findings
    assert words in finding
    assert "ROI 1, contour 2" in finding
    assert len(found.table()) == 2
    grid = axial((1, 9, 9))
    with pytest.raises(GeometryError, match="skip_flawed=True"):
        found.mask(1, grid)
    partial = found.mask(1, grid, skip_flawed=True)
    assert partial.attrs["contours_left_out"] == 1
    assert partial.sum() == 16


@pytest.mark.parametrize(
    "points", [[(0, 0, 0), (1, 1, 0)], [(0, 0, 0), (1, 1, 0), (2, 2, 0), (5, 5, 0)], [(1, 1, 0)]]
)
def test_a_contour_that_encloses_nothing_is_a_finding_but_no_obstacle(points: list[tuple[int, ...]]) -> None:
    found = one(contour(square(2)), contour(points))
    assert len(found.findings) == 1
    assert found.mask(1, axial((1, 9, 9))).sum() == 16


def test_a_contour_said_twice_is_counted_once_and_reported() -> None:
    found = one(contour(square(2)), contour(square(2)))
    assert found.mask(1, axial((1, 9, 9))).sum() == 16
    assert "contour 1, counted once" in found.findings[0]
    cancelled = one(contour(square(2), "CLOSEDPLANAR_XOR"), contour(square(2), "CLOSEDPLANAR_XOR"))
    assert cancelled.mask(1, axial((1, 9, 9))).sum() == 0


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_in_a_contour_is_a_hole(kind: str) -> None:
    found = one(contour(square(3.5), kind), contour(square(1.5), kind))
    assert found.mask(1, axial((1, 11, 11))).sum() == 7**2 - 3**2


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_what_is_not_closed_has_points_but_no_mask(kind: str) -> None:
    points = [(1, 2, 3)] if kind == "POINT" else [(0, 0, 0), (3, 0, 0), (3, 3, 0)]
    found = read_structures(
        structure_set(region(1, [contour(points, kind)]), region(2, [contour(square(2))]))
    )
    assert found.findings == ()
    np.testing.assert_array_equal(found.regions[0].contours[0].points, points)
    with pytest.raises(GeometryError, match=kind):
        found.mask(1, axial((1, 9, 9)))
    masks = found.masks(axial((1, 9, 9)))
    assert masks.roi.values.tolist() == [2]
    assert masks.attrs["regions_without_area"] == 1


def test_another_frame_of_reference_is_refused_with_the_remedy() -> None:
    found = one(contour(square(2)))
    with pytest.raises(GeometryError, match="referenced_series_uids"):
        found.mask(1, axial((1, 9, 9), frame_of_reference_uid="1.2.3"))


@pytest.mark.parametrize("missing", ["region", "grid"])
def test_an_unknown_frame_of_reference_needs_a_reference_to_the_images(missing: str) -> None:
    frame = None if missing == "region" else FRAME
    found = one(contour(square(2), images=["1.2.3"]), frame=frame)
    grid = axial((1, 9, 9), frame_of_reference_uid=FRAME if missing == "region" else None)
    with pytest.raises(GeometryError, match=f"the {missing} has no FrameOfReferenceUID"):
        found.mask(1, grid)
    assert found.mask(1, replace(grid, instance_uids=("1.2.3",))).sum() == 16


def test_a_region_is_found_by_number_or_name_and_a_doubtful_name_is_refused() -> None:
    regions = [region(n, [contour(square(2))], name="twice" if n > 1 else "once") for n in (1, 2, 3)]
    found = read_structures(structure_set(*regions))
    assert found.region("once").number == found.region(1).number == 1
    with pytest.raises(DicomlakeError, match="2, 3"):
        found.region("twice")
    with pytest.raises(DicomlakeError, match="1, 2, 3"):
        found.region(9)


def test_another_kind_of_object_is_refused() -> None:
    from tests import objects

    with pytest.raises(DicomlakeError, match="no RT Structure Set"):
        read_structures(objects.dicom())


def test_contours_without_a_description_are_kept_and_reported() -> None:
    ds = pydicom.dcmread(BytesIO(structure_set(region(1, [contour(square(2))]))))
    ds.StructureSetROISequence = []
    found = read_structures(_written(ds))
    assert found.regions[0].number == 1
    assert len(found.table()) == 1
    assert "no item in StructureSetROISequence" in found.findings[0]


def _written(ds: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def test_no_repr_finding_or_error_shows_the_name_of_a_region() -> None:
    found = one(contour(square(2)), contour("1\\2"), colour=[1, 2, 3])
    texts = [repr(found), found._repr_html_(), *found.findings, repr(found.regions[0])]
    with pytest.raises(GeometryError) as caught:
        found.mask(1, axial((1, 9, 9)))
    assert not any(word in text for text in [*texts, str(caught.value)] for word in NAME.split("^"))
    assert "rgb(1,2,3)" in found._repr_html_()
    assert "1 regions, 2 contours, 4 points, 1 findings" in repr(found)
    assert found.rois().roi_name.tolist() == [f"{NAME} 1"]


# Which slices a contour plane reaches.


def planes(*positions: float) -> StructureSet:
    return one(*(contour(square(2.5, z)) for z in positions))


@pytest.mark.parametrize(
    ("contours", "step", "wanted"),
    [
        ((0, 1, 2), 1.0, [0, 1, 2]),
        ((1, 4, 7), 1.0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),  # 3 mm of tissue each
        ((1, 4, 13, 16), 1.0, [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17]),  # the gap stays empty
        ((4,), 1.0, [4]),
        ((4.4,), 1.0, [4]),
        ((4.5,), 1.0, [4]),  # in the middle: the slice below
        ((4.6,), 1.0, [5]),
        ((4.0, 4.5, 5.0, 5.5, 6.0), 2.0, [2, 3]),  # finer than the slices
        ((0, 2, 4), 1.0, [0, 1, 2, 3, 4]),  # in the middle of two slices: each once
        ((0.0004, 0.9996, 2.0003), 1.0, [0, 1, 2]),
    ],
)
def test_a_slice_takes_the_nearest_contour_plane_within_half_a_spacing(
    contours: tuple[float, ...], step: float, wanted: list[int]
) -> None:
    mask = planes(*contours).mask(1, axial((20, 9, 9), step))
    assert heights(mask.values) == wanted
    assert set(mask.values.sum(axis=(1, 2)).tolist()) <= {0, 25}


def test_contours_beyond_the_grid_are_counted() -> None:
    mask = planes(-3, -2, -1, 0, 1).mask(1, axial((5, 9, 9)))
    assert heights(mask.values) == [0, 1]
    assert (mask.attrs["contour_planes"], mask.attrs["contour_planes_unused"]) == (5, 3)


def test_slices_from_head_to_feet_take_the_same_planes() -> None:
    found = planes(1, 4, 7)
    upward, downward = axial((12, 9, 9)), axial((12, 9, 9), -1.0, first=11.0)
    np.testing.assert_array_equal(found.mask(1, upward).values[::-1], found.mask(1, downward).values)


def test_interpolation_follows_a_cone_between_sparse_contours() -> None:
    radius = {z: 30 - 0.5 * z for z in range(0, 41, 10)}
    found = one(*(contour(circle(r, z, n=256)) for z, r in radius.items()))
    grid = axial((41, 81, 81))
    mask = found.mask(1, grid, interpolate=True).values
    plain = found.mask(1, grid).values
    y, x = np.ogrid[-40:41, -40:41]
    for z in range(41):
        wanted = x**2 + y**2 < (30 - 0.5 * z) ** 2
        assert (mask[z] ^ wanted)[np.abs(np.hypot(y, x) - (30 - 0.5 * z)) > 0.02].sum() == 0
    for z in radius:
        np.testing.assert_array_equal(mask[z], plain[z])
    exact = sum(np.pi * (30 - 0.5 * z) ** 2 for z in range(41))
    assert mask.sum() == pytest.approx(exact, rel=0.01)


def test_interpolation_leaves_a_wide_gap_empty() -> None:
    mask = planes(0, 2, 4, 12, 14).mask(1, axial((20, 9, 9)), interpolate=True).values
    assert heights(mask) == [0, 1, 2, 3, 4, 11, 12, 13, 14]


def test_a_sheared_grid_gets_what_its_voxels_cover() -> None:
    grid = axial((7, 31, 31))
    grid.affine[1, 0] = 2.0  # each slice begins 2 mm further back
    mask = one(*(contour(circle(8.03, z)) for z in range(7))).mask(1, grid).values
    z, y, x = np.ogrid[:7, :31, :31]
    wanted = (x - 15.0) ** 2 + (y - 15.0 + 2.0 * z) ** 2 < 8.02**2
    np.testing.assert_array_equal(mask, wanted)
    assert mask.any(axis=(1, 2)).all()


def irregular(*positions: float, uids: tuple[str, ...] = ()) -> Grid:
    grid = axial((len(positions), 9, 9))
    starts = np.array([(-4.0, -4.0, z) for z in positions])
    return replace(grid, positions=starts, instance_uids=uids)


def test_uneven_slices_take_contours_by_position() -> None:
    mask = planes(0, 1, 2, 10).mask(1, irregular(0, 1, 2, 5, 10, 20))
    assert heights(mask.values) == [0, 1, 2, 4]


def test_a_reference_finds_its_slice_among_uneven_ones() -> None:
    uids = ("1.1", "1.2", "1.3", "1.4")
    found = one(contour(square(2.5, 1), images=["1.2"]), contour(square(1.5, 7.2), images=["1.4"]))
    mask = found.mask(1, irregular(0, 1, 3, 7, uids=uids)).values
    assert mask.sum(axis=(1, 2)).tolist() == [0, 25, 0, 9]


def test_a_reference_that_contradicts_the_position_is_refused() -> None:
    found = one(contour(square(2.5, 1), images=["1.4"]))
    with pytest.raises(GeometryError, match="references"):
        found.mask(1, irregular(0, 1, 3, 7, uids=("1.1", "1.2", "1.3", "1.4")))


# Contours in planes that are not those of the slices.


def test_contours_across_the_slices_are_tested_in_their_own_plane() -> None:
    """A cylinder along x: sagittal circles, axial slices."""
    ring = circle(8.03, n=256)
    found = one(*(contour(np.column_stack([np.full(256, x), ring[:, :2]])) for x in range(-6, 7, 2)))
    grid = axial((21, 21, 21), first=-10.0)
    mask = found.mask(1, grid).values
    z, y, x = np.ogrid[-10:11, -10:11, -10:11]
    wanted = (z**2 + y**2 < 8.02**2) & (x >= -7) & (x < 7)
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("degrees", [(0, 0, 30), (15, 0, 0), (20, 35, 50), (90, 0, 0), (0, 45, 0)])
def test_a_turned_grid_sees_the_slabs_that_were_drawn(degrees: tuple[float, ...]) -> None:
    radii = {z: 9.03 - 0.1 * z**2 for z in range(-6, 7, 2)}
    found = one(*(contour(circle(r, z, n=720)) for z, r in radii.items()))
    grid = turned(axial((25, 25, 25), first=-12.0), rotation(*degrees))
    mask = found.mask(1, grid).values
    index = np.stack(np.meshgrid(*(np.arange(25),) * 3, indexing="ij"), -1)
    x, y, z = np.moveaxis(np.round(index @ grid.affine[:3, :3].T + grid.affine[:3, 3], 4), -1, 0)
    wanted, doubt = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for height, radius in radii.items():
        slab, away = (z >= height - 1) & (z < height + 1), np.hypot(x, y)
        wanted |= slab & (away < radius)
        doubt |= slab & (np.abs(away - radius) < 1e-3)
    assert doubt.sum() < 0.05 * mask.size
    np.testing.assert_array_equal(mask[~doubt], wanted[~doubt])
    assert mask.sum() > 2000


def test_both_ways_agree_where_both_can_go(chest: StructureSet) -> None:
    from dicomlake.objects.contour_masks import _across, _along, _planes

    contours = chest.region(1).drawable
    truth = datasets.truth("chest-ct", slices=SLICES)
    grid = Grid(truth.shape, np.array(truth.affine_lps))
    slices = _along(_planes(contours, grid.normal, 0.1), grid)
    np.testing.assert_array_equal(_across(contours, grid).mask, slices.mask)


def test_contours_of_several_orientations_are_refused() -> None:
    sagittal = square(3)[:, [2, 0, 1]]
    with pytest.raises(GeometryError, match="several orientations"):
        one(contour(square(3)), contour(sagittal)).mask(1, axial((9, 9, 9)))


def test_three_hundred_contours_of_five_hundred_points_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(0)
    rings = [circle(60 + rng.uniform(-5, 5), z, n=500) for z in range(300)]
    data = structure_set(region(1, [contour(ring) for ring in rings]))
    grid = axial((300, 512, 512), pixel=0.7)
    one(contour(square(2))).mask(1, axial((1, 9, 9)))  # imports are not counted
    begin = time.process_time()
    mask = read_structures(data).mask(1, grid)
    assert time.process_time() - begin < 2.0
    area = sum(np.pi * np.hypot(*ring[0, :2]) ** 2 for ring in rings) / 0.7**2
    assert float(mask.sum()) == pytest.approx(area, rel=1e-3)
