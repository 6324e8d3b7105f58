"""Slices that are tiles of one image come out where they were, and only where that is proven."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicomlake.dicom import geometry, packed
from dicomlake.dicom.attributes import Attributes
from dicomlake.dicom.frames import Frame, first_frame
from dicomlake.dicom.headers import read_header
from tests.dicom.phantoms import AXIAL, CORONAL, SAGITTAL, as_bytes, place_values, slice_dataset
from tests.dicom.siemens import CsaTags, mosaic, protocol

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its own reader experimental
    from nibabel.nicom import dicomwrappers

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
PLANES = [AXIAL, CORONAL, SAGITTAL, OBLIQUE]


def frames(ds: Dataset | bytes) -> tuple[Frame, ...]:
    dataset = read_header(ds if isinstance(ds, bytes) else as_bytes(ds)).dataset
    assert packed.is_packed(dataset)
    return packed.frames(dataset, first_frame(dataset))


def cut(found: tuple[Frame, ...], image: np.ndarray) -> np.ndarray:
    tiles = [frame.tile for frame in found if frame.tile is not None]
    assert len(tiles) == len(found)
    return np.stack([image[t.row : t.row + t.rows, t.column : t.column + t.columns] for t in tiles])


# ---- synthetic mosaics -----------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", PLANES)
@pytest.mark.parametrize("downwards", [False, True])
def test_every_voxel_of_a_mosaic_lies_where_it_says(orientation: tuple[float, ...], downwards: bool) -> None:
    ds = mosaic(orientation, downwards=downwards)
    found = frames(ds)
    normal = np.cross(orientation[:3], orientation[3:])
    assert len(found) == 7
    for frame, voxels in zip(found, cut(found, ds.pixel_array), strict=True):
        k = int(voxels[0, 0]) // 10_000
        np.testing.assert_array_equal(voxels, place_values(k, 4, 6))
        np.testing.assert_allclose(frame.position, np.array([5, 6, 7]) + 4 * k * normal, atol=1e-6)
        assert (frame.pixel.rows, frame.pixel.columns) == (4, 6)
        assert frame.orientation == pytest.approx(orientation)
        assert frame.has_geometry


@pytest.mark.parametrize("orientation", PLANES)
@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("slices", [1, 2, 4, 5, 9, 10])
def test_a_mosaic_is_unpacked_as_nibabel_does(
    orientation: tuple[float, ...], downwards: bool, slices: int
) -> None:
    ds = mosaic(orientation, slices=slices, downwards=downwards)
    theirs = dicomwrappers.MosaicWrapper(ds)
    found = frames(ds)
    np.testing.assert_array_equal(cut(found, ds.pixel_array).transpose(1, 2, 0), theirs.get_unscaled_data())
    if slices > 1:
        ours = geometry.affine(found)
        np.testing.assert_allclose(ours[:, [1, 2, 0, 3]], theirs.affine, atol=1e-5)


def test_tiles_behind_the_last_slice_are_no_frames() -> None:
    found = frames(mosaic(AXIAL, slices=5))
    assert [tuple(frame.tile or ()) for frame in found] == [
        (0, 0, 4, 6),
        (0, 6, 4, 6),
        (0, 12, 4, 6),
        (4, 0, 4, 6),
        (4, 6, 4, 6),
    ]


def test_interleaved_times_go_with_their_tiles_and_move_no_slice() -> None:
    times = ["0.0", "150.5", "75.25", "225.0"]
    found = frames(mosaic(AXIAL, slices=4, csa_tags={"MosaicRefAcqTimes": times}, EchoTime=30, FlipAngle=90))
    assert [frame.facets["slice_time"] for frame in found] == [0.0, 150.5, 75.25, 225.0]
    assert [frame.position for frame in found] == [
        frame.position for frame in frames(mosaic(AXIAL, slices=4))
    ]
    assert {(frame.facets["echo"], frame.facets["flip"], frame.facets["component"]) for frame in found} == {
        (30, 90, "magnitude")
    }


def test_a_mosaic_without_a_csa_count_uses_the_private_element() -> None:
    ds = mosaic(AXIAL, slices=5, csa_tags={"NumberOfImagesInMosaic": []})
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 5)
    assert len(frames(ds)) == 5


def test_a_mosaic_whose_image_type_was_cleaned_is_still_known() -> None:
    ds = mosaic(AXIAL, slices=5, ImageType=["ORIGINAL", "PRIMARY"])
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 5)
    assert len(frames(ds)) == 5


@pytest.mark.parametrize("downwards", [False, True])
def test_without_a_normal_the_protocol_says_the_direction(downwards: bool) -> None:
    bare: CsaTags = {"SliceNormalVector": [], "ProtocolSliceNumber": []}
    found = frames(mosaic(OBLIQUE, downwards=downwards, csa_tags=bare))
    assert [frame.position for frame in found] == [
        pytest.approx(frame.position) for frame in frames(mosaic(OBLIQUE, downwards=downwards))
    ]


def test_a_protocol_supplies_the_spacing() -> None:
    ds = mosaic(AXIAL)
    del ds.SpacingBetweenSlices
    assert geometry.spacing_mm(geometry.affine(frames(ds)))[0] == pytest.approx(4)


NO_PROTOCOL: CsaTags = {"MrPhoenixProtocol": []}
UNEVEN = protocol(np.array([[0, 0, z] for z in (0.5, 4.0, 8.0, 13.0, 16.0, 20.0, 24.0)]))
OTHER_STEP = protocol(np.array([[0, 0, 0.5 + 5 * k] for k in range(7)]))
TURNED = protocol(np.array([[0.5 + 4 * k, 0, 0] for k in range(7)]))


@pytest.mark.parametrize(
    ("csa_tags", "series_tags", "others", "flaw"),
    [
        ({"NumberOfImagesInMosaic": []}, {}, {}, "how many there are is not stated"),
        ({"NumberOfImagesInMosaic": ["7.5"]}, {}, {}, "how many there are is not stated"),
        ({"NumberOfImagesInMosaic": ["100000000"]}, {}, {}, "how many there are is not stated"),
        ({"NumberOfImagesInMosaic": ["20"]}, {}, {}, "do not divide its rows and columns evenly"),
        ({"SliceNormalVector": []}, NO_PROTOCOL, {}, "which way their slices are counted"),
        ({"SliceNormalVector": ["0", "1", "0"]}, {}, {}, "SliceNormalVector is no normal"),
        ({"SliceNormalVector": ["0", "0", "-1"]}, {}, {}, "contradicts the order of slices"),
        ({"ProtocolSliceNumber": ["6"]}, {}, {}, "contradicts the order of slices"),
        ({}, NO_PROTOCOL, {"SpacingBetweenSlices": None}, "distance of their slices is not stated"),
        ({}, {"MrPhoenixProtocol": [OTHER_STEP]}, {}, "SpacingBetweenSlices is not that of its protocol"),
        ({}, {"MrPhoenixProtocol": [UNEVEN]}, {}, "not evenly spaced"),
        ({}, {"MrPhoenixProtocol": [TURNED]}, {}, "not parallel"),
        ({}, {}, {"ImagePositionPatient": None}, "ImagePositionPatient is absent"),
    ],
)
def test_what_is_not_proven_is_one_image_without_geometry(
    csa_tags: CsaTags, series_tags: CsaTags, others: dict[str, object], flaw: str
) -> None:
    (found,) = frames(mosaic(AXIAL, csa_tags=csa_tags, series_tags=series_tags, **others))
    assert not found.has_geometry
    assert found.position is found.orientation is found.spacing_mm is found.tile is None
    assert flaw in (found.flaw or "")
    assert (found.pixel.rows, found.pixel.columns) == (12, 18)
    assert found.facets["component"] == "magnitude"


def test_counts_that_differ_are_not_believed() -> None:
    ds = mosaic(AXIAL)
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 8)
    (found,) = frames(ds)
    assert "contradicts itself" in (found.flaw or "")


def test_a_header_without_bulk_values_asks_for_the_original() -> None:
    whole = read_header(as_bytes(mosaic(AXIAL))).dataset
    assert not packed.needs_original(whole)
    kept = {tag: (vr, b"" if vr == "OB" else raw) for tag, (vr, raw) in whole.elements.items()}
    assert packed.needs_original(Attributes(kept, whole.encoding))
    plain = read_header(as_bytes(slice_dataset())).dataset
    assert not packed.needs_original(plain)


# ---- synthetic United Imaging grids ----------------------------------------------------------------


def grid(slices: int = 5, **others: object) -> Dataset:
    """A grid of 3 x 2 tiles, 4 x 6 voxels each, positions irregular on purpose."""
    image = np.zeros((8, 18), np.uint16)
    ds = slice_dataset(None, pixels=image, Modality="MR")
    for k in range(slices):
        row, column = k // 3 * 4, k % 3 * 6
        image[row : row + 4, column : column + 6] = place_values(k, 4, 6)
    ds.PixelData = image.tobytes()
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    items = []
    for k in range(slices):
        item = Dataset()
        item.AcquisitionDateTime = f"20200101{'235959.9' if k % 2 else '235959.5'}00000"
        item.ImagePositionPatient = [1, 2, 3 * k + k % 2]
        items.append(item)
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(slices))
    block.add_new(0x51, "SQ", Items(items))
    for keyword, value in others.items():
        setattr(ds, keyword, value)
    return ds


def test_tiles_of_a_grid_lie_where_each_is_stated_to_be() -> None:
    ds = grid()
    found = frames(ds)
    assert [frame.position for frame in found] == [(1, 2, 0), (1, 2, 4), (1, 2, 6), (1, 2, 10), (1, 2, 12)]
    for k, voxels in enumerate(cut(found, ds.pixel_array)):
        np.testing.assert_array_equal(voxels, place_values(k, 4, 6))
    assert all(frame.has_geometry and frame.spacing_mm == (0.5, 0.5) for frame in found)
    assert [frame.facets["slice_time"] for frame in found] == [0, 400, 0, 400, 0]
    assert len({frame.facets["acquisition_time"] for frame in found}) == 1


def test_a_grid_that_does_not_place_its_tiles_is_one_image_without_geometry() -> None:
    without_position, other_count, without_items = grid(), grid(), grid()
    block = without_position.private_block(0x0065, "Image Private Header")
    del block[0x51].value[3].ImagePositionPatient
    other_count.private_block(0x0065, "Image Private Header")[0x50].value = "6"
    del without_items.private_block(0x0065, "Image Private Header")[0x51]
    for ds, flaw in (
        (without_position, "ImagePositionPatient is absent"),
        (other_count, "contradicts itself"),
        (without_items, "positions are not stated"),
        (grid(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "ImageOrientationPatient is not"),
    ):
        (found,) = frames(ds)
        assert not found.has_geometry
        assert flaw in (found.flaw or "")


def test_a_grid_kept_without_its_sequence_asks_for_the_original() -> None:
    whole = read_header(as_bytes(grid())).dataset
    kept = {tag: (vr, b"" if vr == "SQ" else raw) for tag, (vr, raw) in whole.elements.items()}
    assert packed.needs_original(Attributes(kept, whole.encoding))
    assert not packed.needs_original(whole)


# ---- real mosaics and grids ------------------------------------------------------------------------


def read(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


@pytest.mark.parametrize(
    ("name", "reference", "volume"),
    [
        ("epi-siemens-mosaic/mr_0003/epi_pe_ap-00001.dcm", "epi-siemens-mosaic/EPI_PE=AP_3.nii", 0),
        ("epi-siemens-mosaic/mr_0003/epi_pe_ap-00002.dcm", "epi-siemens-mosaic/EPI_PE=AP_3.nii", 1),
        ("epi-siemens-mosaic/mr_0005/epi_pe_rl-00001.dcm", "epi-siemens-mosaic/EPI_PE=RL_5.nii", 0),
        ("ts9-siemens/In/1.dcm", "ts9-siemens/Ref/1.nii", 0),
    ],
)
def test_every_voxel_of_a_real_mosaic_is_that_of_the_published_nifti(
    real_data: Path, name: str, reference: str, volume: int
) -> None:
    raw = read(real_data / name)
    found = frames(raw)
    ours = cut(found, pydicom.dcmread(io.BytesIO(raw)).pixel_array)
    image = nibabel.load(real_data / reference)
    theirs = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)[..., volume]
    places = geometry.to_lps(
        geometry.to_ras(geometry.affine(found)), np.moveaxis(np.indices(ours.shape), 0, -1)
    )
    index = places @ np.linalg.inv(image.affine)[:3, :3].T + np.linalg.inv(image.affine)[:3, 3]
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 1e-3
    np.testing.assert_array_equal(theirs[tuple(np.moveaxis(nearest, -1, 0))], ours)
    assert ours.size == theirs.size


AFFINES = [
    ("mosaic-order/In/ep2d_Asc_2", "2_ep2d_Asc_1.nii"),
    ("mosaic-order/In/ep2d_Asc_HF_10", "10_ep2d_Asc_HF_1.nii"),
    ("epi-siemens-mosaic/mr_0003", "3_EPI_PE=AP_1.nii"),
    ("ts9-siemens/In", "1_ax_asc_35sl_1.nii"),
    ("bits12/In", "2_FMRI_AX_ASC_0.nii"),
    ("uih-mr/DTI_134434", "12_dti_tra_dir16_PA_rot_SaveBySlc_0.nii"),
]


@pytest.mark.parametrize(("folder", "output"), AFFINES)
def test_real_tiles_lie_where_dcm2niix_puts_them(real_data: Path, folder: str, output: str) -> None:
    rows = [line.split("\t") for line in (real_data / "GEOMETRY.tsv").read_text().splitlines()]
    (theirs,) = (np.array(row[5].split(), float).reshape(3, 4) for row in rows if row[:2] == [folder, output])
    path = sorted(path for path in (real_data / folder).iterdir() if path.suffix == ".dcm")[0]
    found = frames(read(path))
    ours = geometry.to_ras(geometry.affine(found))
    depth, height = len(found), found[0].pixel.rows
    corners = np.array([[z, y, x] for z in (0, depth - 1) for y in (0, height - 1) for x in (0, 63)], float)
    if ours[2, 0] < 0:  # tiles from head to feet: dcm2niix turns them over
        indices = corners * [-1, -1, 1] + [depth - 1, height - 1, 0]
    else:
        indices = corners * [1, -1, 1] + [0, height - 1, 0]
    np.testing.assert_allclose(
        geometry.to_lps(ours, corners), indices[:, ::-1] @ theirs[:, :3].T + theirs[:, 3], atol=0.01
    )


@pytest.mark.parametrize("name", ["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"])
def test_a_real_mosaic_in_implicit_vr_is_unpacked_as_nibabel_does(real_data: Path, name: str) -> None:
    raw = read(real_data / "nibabel" / name)
    ds = pydicom.dcmread(io.BytesIO(raw))
    found = frames(raw)
    theirs = dicomwrappers.MosaicWrapper(ds)
    np.testing.assert_allclose(geometry.affine(found)[:, [1, 2, 0, 3]], theirs.affine, atol=1e-4)
    np.testing.assert_array_equal(cut(found, ds.pixel_array).transpose(1, 2, 0), theirs.get_unscaled_data())


def test_a_real_mosaic_shrunk_by_someone_is_not_cut_at_a_guess(real_data: Path) -> None:
    (found,) = frames(read(real_data / "nibabel/0.dcm"))
    assert "do not divide its rows and columns evenly" in (found.flaw or "")


def test_the_slices_of_a_real_mosaic_keep_their_interleaved_times(real_data: Path) -> None:
    found = frames(read(real_data / "epi-siemens-mosaic/mr_0003/epi_pe_ap-00002.dcm"))
    assert [frame.facets["slice_time"] for frame in found] == [0, 1450, 482.5, 1932.5, 967.5]
