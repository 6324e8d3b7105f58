"""Segmentations: voxel for voxel what other readers and the makers of the files say, or a refusal."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicomlake import datasets
from dicomlake.datasets import chest_ct, chest_rt
from dicomlake.dicom.grid import Grid
from dicomlake.errors import BrokenObject, DicomlakeError, GeometryError
from dicomlake.objects.colours import rgb_of
from dicomlake.objects.segmentation import Segmentation, read_segmentation
from tests.objects import as_bytes
from tests.seg import phantom

RANDOM = np.random.default_rng(11)
VOLUMES = [
    "dcmqi/segmentations/liver.dcm",
    "dcmqi/segmentations/partial_overlaps.dcm",
    "dcmqi/sr-example/seg.dcm",
    "highdicom/seg_image_ct_binary.dcm",
    "highdicom/seg_image_ct_binary_fractional.dcm",
    "highdicom/seg_image_ct_binary_overlap.dcm",
    "highdicom/seg_image_ct_binary_single_frame.dcm",
    "highdicom/seg_image_ct_true_fractional.dcm",
    "pydicom-data/liver_j2k.dcm",
    "pydicom-data/liver_nonbyte_aligned_j2k.dcm",
]


def planes(count: int, rows: int = 4, columns: int = 6) -> np.ndarray:
    """Random bool frames, none of them empty or the same as another."""
    return RANDOM.random((count, rows, columns)) < 0.4


def stack_grid(files: list[Path]) -> Grid:
    """The grid of single-frame axial slices, by hand."""
    slices = sorted((pydicom.dcmread(f) for f in files), key=lambda ds: ds.ImagePositionPatient[2])
    assert all(list(ds.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0] for ds in slices)
    first = slices[0]
    affine = np.eye(4)
    affine[:3, 0] = np.array(slices[1].ImagePositionPatient) - np.array(first.ImagePositionPatient)
    affine[1, 1], affine[0, 2] = first.PixelSpacing
    affine[1, 2] = affine[0, 1] = affine[2, 1] = affine[2, 2] = 0
    affine[:3, 3] = first.ImagePositionPatient
    uids = tuple(str(ds.SOPInstanceUID) for ds in slices)
    shape = (len(slices), first.Rows, first.Columns)
    return Grid(shape, affine, None, str(first.FrameOfReferenceUID), uids)


def segread(file: Path) -> Any:
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dates and headers of old files
        return hd.seg.segread(file)


@pytest.mark.parametrize("name", VOLUMES)
def test_voxels_and_their_places_are_those_of_highdicom(real_data: Path, name: str) -> None:
    mine = read_segmentation((real_data / name).read_bytes())
    theirs = segread(real_data / name).get_volume(combine_segments=False, rescale_fractional=True)
    array = np.moveaxis(theirs.array, -1, 0)
    opened = mine.open().segmentation
    assert opened.shape == array.shape
    assert mine.grid is not None
    flipped = not np.allclose(mine.grid.affine[:3, 0], theirs.affine[:3, 0], atol=1e-3)
    if flipped:  # highdicom may number the slices the other way round
        array = array[:, ::-1]
    np.testing.assert_allclose(opened.values, array, rtol=1e-6)
    last = np.array([array.shape[1] - 1, 0, 0]) if flipped else np.zeros(3)
    assert np.allclose(
        mine.grid.affine[:3, 3], theirs.affine[:3, :3] @ last + theirs.affine[:3, 3], atol=1e-3
    )
    assert np.allclose(mine.grid.affine[:3, 1:3], theirs.affine[:3, 1:3])


@pytest.mark.parametrize("syntax", ["rle", "j2k", "deflate"])
@pytest.mark.parametrize("kind", ["", "nonbyte_aligned_"])
def test_compression_does_not_change_a_voxel(real_data: Path, syntax: str, kind: str) -> None:
    plain = read_segmentation((real_data / "dcmqi/segmentations/liver.dcm").read_bytes()).open()
    packed = read_segmentation((real_data / f"pydicom-data/liver_{kind}{syntax}.dcm").read_bytes()).open()
    rows, columns = packed.segmentation.shape[2:]
    trimmed = plain.segmentation.values[..., :rows, :columns] if kind else plain.segmentation.values
    assert plain.segmentation.values.sum() == 107098
    assert np.array_equal(packed.segmentation.values, trimmed) or kind
    assert packed.segmentation.values.sum() == 107098


def test_overlapping_segments_lie_on_their_image_as_highdicom_finds_them_by_reference(
    real_data: Path,
) -> None:
    folder = real_data / "dcmqi/segmentations"
    grid = stack_grid(sorted((folder / "ct-3slice").glob("*.dcm")))
    opened = read_segmentation((folder / "partial_overlaps.dcm").read_bytes()).open(grid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = segread(folder / "partial_overlaps.dcm").get_pixels_by_source_instance(
            list(grid.instance_uids), assert_missing_frames_are_empty=True, ignore_spatial_locations=True
        )
    assert np.array_equal(opened.segmentation.values, np.moveaxis(theirs, -1, 0))
    assert (opened.segmentation.sum("segment") > 1).any()
    assert list(opened.instance_uid.values) == list(grid.instance_uids)


def test_a_missing_plane_of_a_label_map_has_the_background_that_the_object_names(real_data: Path) -> None:
    folder = real_data / "dcmqi/segmentations"
    for name, background in (("sparse-labelmap-ppv5", 5), ("sparse-labelmap-noppv", 0)):
        mine = read_segmentation((folder / f"{name}.dcm").read_bytes())
        raw = pydicom.dcmread(folder / f"{name}.dcm").pixel_array
        labels = mine.open().segmentation
        assert labels.dims == ("z", "y", "x")
        assert np.array_equal(labels.values[[0, 2]], raw)
        assert (labels.values[1] == background).all()
        assert labels.attrs["background"] == background
        assert np.array_equal(mine.mask("Liver").values[[0, 2]], raw == 1)
        assert not mine.mask(1).values[1].any()


def test_a_projection_opens_by_its_source_image_and_without_geometry_has_frames(real_data: Path) -> None:
    file = real_data / "highdicom/seg_image_cr_binary.dcm"
    mine = read_segmentation(file.read_bytes())
    source = mine.referenced_instances[0]
    pixels = pydicom.dcmread(file).pixel_array
    opened = mine.open()
    assert opened.segmentation.dims == ("segment", "frame", "y", "x")
    assert np.array_equal(opened.segmentation.values[0, 0], pixels)
    assert opened.source_instance_uid.values.tolist() == [source]
    grid = Grid((2, 16, 16), np.full((4, 4), np.nan), None, None, ("1.2.3", source))
    placed = mine.open(grid).segmentation.values
    assert np.array_equal(placed[0, 1], pixels)
    assert not placed[0, 0].any()
    with pytest.raises(GeometryError, match="refers to 0 slices of this image"):
        mine.open(Grid((1, 16, 16), np.full((4, 4), np.nan), None, None, ("1.2.3",)))


@pytest.mark.parametrize("name", ["sm_control", "sm_dots_tiled_full", "sm_control_labelmap_palette_color"])
def test_a_whole_slide_segmentation_has_a_table_and_refuses_to_open(real_data: Path, name: str) -> None:
    mine = read_segmentation((real_data / f"highdicom/seg_image_{name}.dcm").read_bytes())
    assert len(mine.table()) == len(segread(real_data / f"highdicom/seg_image_{name}.dcm").SegmentSequence)
    with pytest.raises(GeometryError, match="tiled"):
        mine.open()


def test_a_label_map_in_colours_gives_them_to_its_segments(real_data: Path) -> None:
    file = real_data / "highdicom/seg_image_sm_control_labelmap_palette_color.dcm"
    ds = pydicom.dcmread(file)
    tables = [
        np.frombuffer(ds[f"{name}PaletteColorLookupTableData"].value, np.uint8 if bits == 8 else "<u2")
        >> bits - 8
        for name in ("Red", "Green", "Blue")
        for bits in [ds[f"{name}PaletteColorLookupTableDescriptor"].value[2]]
    ]
    first = ds.RedPaletteColorLookupTableDescriptor[1]
    found = {segment.number: segment.rgb for segment in read_segmentation(file.read_bytes()).segments}
    assert found == {n: tuple(int(table[n - first]) for table in tables) for n in found}
    assert len(set(found.values())) > 2


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmentation, Grid]:
    folder = datasets.make("chest-rt", tmp_path_factory.mktemp("chest"), slices=20)
    truth = chest_ct.truth(20)
    grid = Grid(
        tuple(truth.shape),  # type: ignore[arg-type]
        np.array(truth.affine_lps),
        None,
        truth.frame_of_reference_uid,
        truth.instance_uids,
    )
    return read_segmentation(next(folder.rglob("SG0001.dcm")).read_bytes()), grid


def test_the_chest_segmentation_is_the_closed_form_it_was_made_from(chest: tuple[Segmentation, Grid]) -> None:
    mine, grid = chest
    opened = mine.open(grid)
    volume = opened.segmentation.values
    for z in range(grid.shape[0]):
        expected = chest_rt.segment_maps(z, slices=20)
        for i, label in enumerate(chest_rt.SEGMENTS):
            assert np.array_equal(volume[i, z], expected[i]), (label, z)
    assert opened.label.values.tolist() == list(chest_rt.SEGMENTS)


def test_colours_codes_and_references_of_the_chest_segmentation(chest: tuple[Segmentation, Grid]) -> None:
    mine, grid = chest
    table = mine.table().set_index("number")
    assert table.loc[1, "type"] == "Lung (SCT 39607008)"
    assert table.loc[3, "category"] == "Morphologically Abnormal Structure (SCT 49755003)"
    assert table.loc[1, "modifiers"] in ("Right (SCT 24028007)", "Left (SCT 7771000)")
    assert mine.referenced_instances == grid.instance_uids
    assert mine.referenced_series == (chest_rt.objects(20).ct.series_uid,)
    assert all(isinstance(segment.rgb, tuple) for segment in mine.segments)


@pytest.mark.parametrize(
    ("lab", "rgb"),
    [  # CIELab relative to D50 of sRGB colours, as published by B. Lindbloom's calculator
        ((100.0, 0.0, 0.0), (255, 255, 255)),
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((54.2905, 80.8049, 69.8910), (255, 0, 0)),
        ((87.8185, -79.2711, 80.9946), (0, 255, 0)),
        ((29.5683, 68.2874, -112.0297), (0, 0, 255)),
    ],
)
def test_recommended_colours_are_srgb(lab: tuple[float, float, float], rgb: tuple[int, int, int]) -> None:
    stored = [round(lab[0] / 100 * 65535), *(round((v + 128) / 255 * 65535) for v in lab[1:])]
    found = rgb_of(stored)
    assert found is not None
    assert np.abs(np.subtract(found, rgb)).max() <= 1
    assert rgb_of([1, 2]) is None


@pytest.mark.parametrize("orientation", [phantom.AXIAL, phantom.OBLIQUE])
def test_frames_in_any_order_go_to_their_slices(orientation: tuple[float, ...]) -> None:
    maps = planes(3)
    order = [(1, 4), (0, 1), (2, 2)]
    frames = [(1, phantom.position(k, orientation), maps[i]) for i, k in order]
    mine = read_segmentation(phantom.segmentation(frames, orientation=orientation))
    own = mine.mask(1)
    assert own.shape == (4, 4, 6)
    assert [own.values[z].any() for z in range(4)] == [True, True, False, True]
    placed = mine.mask(1, phantom.grid((6, 4, 6), orientation)).values
    for i, k in order:
        assert np.array_equal(placed[k], maps[i])
    assert placed.sum() == maps.sum()
    assert np.array_equal(own.values, placed[1:5])


def test_coordinates_of_own_and_image_grid_meet() -> None:
    frames = [(1, phantom.position(k), m) for k, m in zip((1, 2), planes(2), strict=True)]
    mine = read_segmentation(phantom.segmentation(frames))
    own, placed = mine.open(), mine.open(phantom.grid((4, 4, 6)))
    assert own.z.values.tolist() == [32.0, 34.0]
    assert placed.z.values.tolist() == [30.0, 32.0, 34.0, 36.0]
    assert (own.y.values[1], own.x.values[1]) == (20.75, 10.5)
    cut = placed.sel(z=own.z)
    assert np.array_equal(cut.segmentation.values, own.segmentation.values)


@pytest.mark.parametrize("orientation", [phantom.AXIAL, phantom.OBLIQUE])
def test_arrays_know_their_grid_as_images_do(orientation: tuple[float, ...]) -> None:
    from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`

    maps = planes(3)
    frames = [(1, phantom.position(k, orientation), m) for k, m in enumerate(maps)]
    mask = read_segmentation(phantom.segmentation(frames, orientation=orientation)).mask(1)
    assert np.allclose(mask.dicom.affine, phantom.grid((3, 4, 6), orientation).affine)
    assert mask.dicom.grid.frame_of_reference_uid == phantom.FRAME_OF_REFERENCE
    assert mask[1:].dicom.affine[:3, 3] == pytest.approx(phantom.position(1, orientation))
    uneven = [(1, phantom.position(k, orientation), m) for k, m in zip((0, 1, 2.4), maps, strict=True)]
    loose = read_segmentation(phantom.segmentation(uneven, orientation=orientation)).mask(1)
    assert loose.dicom.grid.positions[2] == pytest.approx(phantom.position(2.4, orientation))


def test_a_part_of_the_rows_and_columns_is_placed_by_its_corner() -> None:
    frame = planes(1, 2, 3)[0]
    at = np.add(phantom.position(1), [2 * 0.5, 1 * 0.75, 0])
    mine = read_segmentation(phantom.segmentation([(1, at, frame)]))
    placed = mine.mask(1, phantom.grid((3, 4, 6))).values
    assert np.array_equal(placed[1, 1:3, 2:5], frame)
    assert placed.sum() == frame.sum()
    with pytest.raises(GeometryError, match="reaches beyond the image"):
        mine.open(phantom.grid((3, 4, 4)))


def test_planes_without_a_common_step_keep_their_positions() -> None:
    maps, heights = planes(3), (0, 1, 2.37)
    frames = [(1, phantom.position(k), m) for k, m in zip(heights, maps, strict=True)]
    mine = read_segmentation(phantom.segmentation(frames))
    opened = mine.open()
    assert opened.segmentation.shape == (1, 3, 4, 6)
    assert opened.z.values == pytest.approx([30, 32, 34.74])
    last = [float(opened[f"position_{axis}"][2]) for axis in "xyz"]
    assert last == pytest.approx(phantom.position(2.37))
    assert "affine_lps" not in opened.segmentation.attrs
    irregular = phantom.grid((3, 4, 6), positions=np.array([phantom.position(k) for k in heights]))
    assert np.array_equal(mine.mask(1, irregular).values, maps)
    with pytest.raises(GeometryError, match="not evenly spaced"):
        mine.open(phantom.grid((3, 4, 6)), resample=True)


def test_the_stated_step_fills_between_planes_only_where_all_fit_it() -> None:
    frames = [(1, phantom.position(k), m) for k, m in zip((0, 2, 5), planes(3), strict=True)]
    assert read_segmentation(phantom.segmentation(frames)).open().sizes["z"] == 6
    without = read_segmentation(phantom.segmentation(frames, stated_step=None))
    assert without.open().sizes["z"] == 3
    assert "position_z" in without.open().coords
    even = [(1, phantom.position(k), m) for k, m in zip((0, 2, 6), planes(3), strict=True)]
    wrong = read_segmentation(phantom.segmentation(even, stated_step=1.7))
    assert wrong.open().sizes["z"] == 4
    tiny = read_segmentation(phantom.segmentation(even, stated_step=1e-9))
    assert tiny.open().sizes["z"] == 4


def test_voxels_beside_those_of_the_image_are_refused_and_sampled_on_request() -> None:
    maps = planes(3, 5, 7)
    frames = [(1, phantom.position(k), m) for k, m in enumerate(maps)]
    mine = read_segmentation(phantom.segmentation(frames))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.02, 0.3, 0.4], [0.01, 0.5, -0.2], [0.9, 0.05, 0.03]])
    affine[:3, 3] = (9.3137, 20.1071, 29.4193)
    grid = Grid((8, 6, 9), affine, None, phantom.FRAME_OF_REFERENCE)
    with pytest.raises(GeometryError, match="resample=True"):
        mine.open(grid)
    sampled = mine.mask(1, grid, resample=True).values
    expected = np.zeros(grid.shape, bool)
    for z, y, x in np.ndindex(grid.shape):
        lps = affine @ (z, y, x, 1)
        at = [(lps[2] - 30) / 2, (lps[1] - 20) / 0.75, (lps[0] - 10) / 0.5]
        k, r, c = (int(np.floor(v + 0.5)) for v in at)
        if 0 <= k < 3 and 0 <= r < 5 and 0 <= c < 7:
            expected[z, y, x] = maps[k, r, c]
    assert expected.any()
    assert np.array_equal(sampled, expected)


def test_a_shift_within_float_noise_is_no_shift_and_a_tenth_of_a_voxel_is() -> None:
    frame = planes(1)[0]
    near = read_segmentation(phantom.segmentation([(1, np.add(phantom.position(1), 0.005), frame)]))
    assert np.array_equal(near.mask(1, phantom.grid((3, 4, 6))).values[1], frame)
    far = read_segmentation(phantom.segmentation([(1, np.add(phantom.position(1), [0.05, 0, 0]), frame)]))
    with pytest.raises(GeometryError, match=r"0\.05 mm off"):
        far.open(phantom.grid((3, 4, 6)))


def test_another_frame_of_reference_is_refused_even_to_resample() -> None:
    mine = read_segmentation(phantom.segmentation([(1, phantom.position(0), planes(1)[0])]))
    other = phantom.grid((2, 4, 6), frame_of_reference_uid="1.2.3")
    for resample in (False, True):
        with pytest.raises(GeometryError, match="different FrameOfReferenceUIDs"):
            mine.open(other, resample=resample)


def test_frames_of_several_times_are_told_apart_by_the_slices_they_cite() -> None:
    maps = planes(2)
    frames = [(1, phantom.position(1), m) for m in maps]
    mine = read_segmentation(phantom.segmentation(frames, sources=["1.2.3.4", phantom.instance(1)]))
    with pytest.raises(GeometryError, match="2 frames of one segment lie on one plane"):
        mine.open()
    placed = mine.mask(1, phantom.grid((3, 4, 6))).values
    assert np.array_equal(placed[1], maps[1])


def test_a_frame_of_a_multi_frame_image_is_cited_by_number() -> None:
    maps = planes(2)
    data = phantom.segmentation(
        [(1, None, m) for m in maps], sources=["1.2.3", "1.2.3"], FrameOfReferenceUID=None
    )
    ds = pydicom.dcmread(io.BytesIO(data))
    for item, number in zip(ds.PerFrameFunctionalGroupsSequence, (3, 1), strict=True):
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
    mine = read_segmentation(as_bytes(ds))
    grid = phantom.grid((3, 4, 6), instance_uids=("1.2.3",) * 3, frame_index=(0, 1, 2))
    placed = mine.mask(1, grid).values
    assert np.array_equal(placed, np.stack([maps[1], np.zeros((4, 6), bool), maps[0]]))


def test_frames_go_into_a_leaning_stack_where_its_slices_are() -> None:
    maps, lean = planes(3), np.array([1.5, 0, 0])  # mm along the rows, a slice: three pixels
    places = [np.add(phantom.position(k), k * lean) for k in range(3)]
    mine = read_segmentation(phantom.segmentation([(1, at, m) for at, m in zip(places, maps, strict=True)]))
    leaning = phantom.grid((3, 4, 6))
    leaning.affine[:3, 0] += lean
    assert np.array_equal(mine.mask(1, leaning).values, maps)
    assert mine.open().segmentation.attrs["verdict"] == "sheared"
    assert mine.open().z.values.tolist() == [30, 32, 34]
    with pytest.raises(GeometryError, match="reaches beyond"):
        mine.open(phantom.grid((3, 4, 6)))
    upright = mine.mask(1, phantom.grid((3, 4, 12))).values
    assert all(np.array_equal(upright[k, :, 3 * k : 3 * k + 6], m) for k, m in enumerate(maps))


def test_frames_drawn_on_a_changed_copy_of_their_source_are_not_placed_by_it() -> None:
    ds = pydicom.dcmread(
        io.BytesIO(phantom.segmentation([(1, None, planes(1)[0])], sources=[phantom.instance(1)]))
    )
    derivation = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].SpatialLocationsPreserved = "NO"
    mine = read_segmentation(as_bytes(ds))
    with pytest.raises(GeometryError, match="not the rows and columns of its image"):
        mine.open(phantom.grid((3, 4, 6)))


def test_fractions_are_scaled_and_need_a_threshold_to_be_a_mask() -> None:
    values = RANDOM.integers(0, 201, (1, 4, 6)).astype(np.uint8)
    made = {"MaximumFractionalValue": 200, "SegmentationFractionalType": "OCCUPANCY"}
    mine = read_segmentation(phantom.segmentation([(1, phantom.position(0), values[0])], **made))
    opened = mine.open().segmentation
    assert opened.dtype == np.float32
    assert opened.attrs["fractional_type"] == "OCCUPANCY"
    np.testing.assert_allclose(opened.values[0], values / 200, rtol=1e-6)
    assert np.array_equal(mine.mask(1, threshold=0.5).values, values >= 100)
    with pytest.raises(DicomlakeError, match="pass threshold"):
        mine.mask(1)
    low = made | {"MaximumFractionalValue": int(values.max()) - 1}
    wrong = read_segmentation(phantom.segmentation([(1, phantom.position(0), values[0])], **low))
    with pytest.raises(BrokenObject, match="above MaximumFractionalValue"):
        wrong.open().compute()


def test_a_label_map_of_16_bits_keeps_its_numbers() -> None:
    labels = RANDOM.choice(np.array([0, 1, 2, 40000], np.uint16), (2, 4, 6))
    data = phantom.segmentation(
        [(None, phantom.position(k), m) for k, m in zip((0, 2), labels, strict=True)],
        SegmentationType="LABELMAP",
    )
    opened = read_segmentation(data).open().segmentation
    assert opened.dtype == np.uint16
    assert np.array_equal(opened.values[[0, 2]], labels)
    assert not opened.values[1].any()


def test_a_frame_of_no_known_segment_is_refused() -> None:
    data = phantom.segmentation([(None, phantom.position(0), planes(1)[0])])
    with pytest.raises(BrokenObject, match="ReferencedSegmentNumber"):
        read_segmentation(data)


def test_a_number_of_frames_that_is_not_described_is_refused() -> None:
    data = phantom.segmentation([(1, phantom.position(0), planes(1)[0])], NumberOfFrames=2)
    with pytest.raises(BrokenObject, match="NumberOfFrames is 2, but 1 frames are described"):
        read_segmentation(data)


def test_opening_decodes_nothing_and_the_array_travels_to_other_processes() -> None:
    maps = planes(2)
    data = phantom.segmentation([(n + 1, phantom.position(n), m) for n, m in enumerate(maps)])
    opened = read_segmentation(data).open().segmentation
    assert opened.data.numblocks == (2, 1, 1, 1)
    travelled = pickle.loads(pickle.dumps(opened.data))
    assert np.array_equal(travelled[1, 1].compute(), maps[1])
    damaged = read_segmentation(phantom.segmentation([(1, phantom.position(0), maps[0])], PixelData=b"\0\0"))
    lazy = damaged.open()
    with pytest.raises(BrokenObject):
        lazy.compute()


def test_free_text_is_in_the_table_and_not_in_the_reprs() -> None:
    mine = read_segmentation(phantom.segmentation([(1, phantom.position(0), planes(1)[0])]))
    shown = repr(mine) + mine._repr_html_() + repr(mine.segments) + repr(mine.source)
    assert phantom.LABEL not in shown
    assert "Lung" in mine._repr_html_()
    assert mine.table().label.tolist() == [f"{phantom.LABEL} 1"]
    with pytest.raises(KeyError, match="0 segments have that label"):
        mine.mask("nothing of the kind")
