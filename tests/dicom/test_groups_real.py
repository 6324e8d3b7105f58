"""Functional groups of real objects, against pydicom, dcm2niix, nibabel and highdicom."""

from __future__ import annotations

import gzip
import math
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomlake.dicom.expand import frames_of
from dicomlake.dicom.frames import Frame
from dicomlake.dicom.headers import read_header

REAL = (
    "agfa-private/Agfa/011-0001.img",
    "agfa-private/Siemens/011-0001.img",
    "dcmqi/segmentations/23x38x3/multiframe/mf.dcm",
    "dcmqi/segmentations/24x38x3/multiframe/mf.dcm",
    "dcmqi/segmentations/liver.dcm",
    "dcmqi/segmentations/partial_overlaps.dcm",
    "dcmqi/segmentations/sparse-labelmap-ppv5.dcm",
    "dcmqi/sr-example/seg.dcm",
    "dicom2nifti/hyperfine/anatomical/001/001.dcm",
    "dicom2nifti/philips_enhanced/fmri/001/IM-0001-9600-0001.dcm",
    "dicomparser/encapsulated/multi-frame/CT0012.not_fragmented_no_bot_rle.dcm",
    "enhanced-mr/In/Philips/IM_0027_fMAP.dcm",
    "enhanced-mr/In/Siemens/XA10/6_2.dcm",
    "highdicom/seg_image_ct_binary_overlap.dcm",
    "pydicom-data/parametric_map_float.dcm",
    "xa30-enhanced/In/14_DWI_dir80_PA/*.dcm",
    "xa30-enhanced/In/27_asl_2d_tra/*.dcm",
    "xa30-enhanced/In/9_gre_field_mapping/*.dcm",
)


def real_file(folder: Path, name: str) -> bytes:
    (path,) = folder.glob(name)
    return path.read_bytes()


def looked_up(ds: Dataset, index: int, sequence: str, keyword: str) -> Any:
    """What pydicom reads: in the item of the frame, else in the shared one."""
    for groups in (ds.PerFrameFunctionalGroupsSequence[index], ds.SharedFunctionalGroupsSequence[0]):
        if sequence in groups:
            return groups[sequence][0].get(keyword)
    return None


@pytest.mark.parametrize("name", REAL)
def test_real_objects_agree_with_pydicom(real_data: Path, name: str) -> None:
    data = real_file(real_data, name)
    ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    frames = frames_of(read_header(data).dataset)
    assert len(frames) == ds.NumberOfFrames
    for i, frame in enumerate(frames):
        assert frame.flaw is None
        assert frame.position == tuple(looked_up(ds, i, "PlanePositionSequence", "ImagePositionPatient"))
        assert frame.orientation == tuple(
            looked_up(ds, i, "PlaneOrientationSequence", "ImageOrientationPatient")
        )
        assert frame.spacing_mm == tuple(looked_up(ds, i, "PixelMeasuresSequence", "PixelSpacing"))
        assert frame.slope == pytest.approx(
            looked_up(ds, i, "PixelValueTransformationSequence", "RescaleSlope")
        )
        for facet, sequence, keyword in (
            ("echo", "MREchoSequence", "EffectiveEchoTime"),
            ("temporal", "FrameContentSequence", "TemporalPositionIndex"),
            ("segment", "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
            ("flip", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
        ):
            assert frame.facets.get(facet) == looked_up(ds, i, sequence, keyword)


def corners(frame: Frame) -> list[np.ndarray]:
    """The centres of the four outermost voxels of a frame, LPS, mm."""
    assert frame.position is not None
    assert frame.orientation is not None
    assert frame.spacing_mm is not None
    along_row, along_column = np.array(frame.orientation).reshape(2, 3)
    down, across = frame.spacing_mm
    return [
        np.array(frame.position) + row * down * along_column + column * across * along_row
        for row in (0, frame.pixel.rows - 1)
        for column in (0, frame.pixel.columns - 1)
    ]


@pytest.mark.parametrize(
    ("folder", "output", "files"),
    [
        ("agfa-private/Agfa", "11_ep2d_fid_weisskoff_25slc_1.nii", "*.img"),
        ("dcmqi/segmentations/23x38x3/multiframe", "123456_Multiframe_image_23x38x3_0.nii", "*.dcm"),
        ("dicom2nifti/hyperfine/anatomical/001", "10_0.nii", "*.dcm"),
        ("dicom2nifti/philips_enhanced/fmri/001", "701_1.nii", "*.dcm"),
        ("enhanced-mr/In/Philips", "801_B0_NS_1.nii", "*.dcm"),
        ("enhanced-mr/In/Siemens/XA10", "6_REST1_w_SMS_PF7-8_1.nii", "*.dcm"),
        ("xa30-enhanced/In/14_DWI_dir80_PA", "14_DWI_dir80_PA_ColFA_1.nii", "*.dcm"),
        ("xa30-enhanced/In/9_gre_field_mapping", "9_gre_field_mapping_2_ph.nii", "*.dcm"),
    ],
    ids=lambda value: value if "." not in value else "",
)
def test_frames_lie_where_dcm2niix_puts_them(real_data: Path, folder: str, output: str, files: str) -> None:
    lines = (real_data / "GEOMETRY.tsv").read_text().splitlines()
    (row,) = [line.split("\t") for line in lines if line.startswith(f"{folder}\t{output}\t")]
    columns, rows, slices = map(int, row[2].split("x")[:3])
    matrix = np.diag([-1.0, -1, 1]) @ np.array(row[5].split(), dtype=float).reshape(3, 4)  # RAS to LPS
    expected = [matrix @ (x, y, z, 1) for z in range(slices) for y in (0, rows - 1) for x in (0, columns - 1)]
    found = [
        corner
        for path in sorted((real_data / folder).glob(files))
        for frame in frames_of(read_header(path.read_bytes()).dataset)
        for corner in corners(frame)
    ]
    distances = np.linalg.norm(np.array(found)[:, None] - np.array(expected)[None], axis=2)
    assert distances.min(axis=1).max() < 0.05  # every corner of ours is one of theirs
    assert distances.min(axis=0).max() < 0.05  # and theirs of ours


@pytest.mark.parametrize("name", ["nibabel/philips_mprage.dcm.gz", "agfa-private/Siemens/011-0001.img"])
def test_frames_agree_with_nibabel(real_data: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        from nibabel.nicom.dicomwrappers import MultiframeWrapper

    data = (real_data / name).read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    wrapper = MultiframeWrapper(pydicom.dcmread(BytesIO(data), stop_before_pixels=True))
    frames = frames_of(read_header(data).dataset)
    first = min(frames, key=lambda frame: frame.position[2] if frame.position else math.inf)
    assert len({frame.position for frame in frames}) == wrapper.image_shape[2]
    assert len(frames) == math.prod(wrapper.image_shape[2:])
    wanted = np.array(wrapper.image_position)
    assert min(np.linalg.norm(np.array(frame.position) - wanted) for frame in frames) < 1e-6
    assert first.spacing_mm == pytest.approx(wrapper.voxel_sizes[:2])
    orientation = np.array(first.orientation).reshape(2, 3).T
    assert orientation == pytest.approx(np.array(wrapper.image_orient_patient)[:, :2], abs=1e-9)


def test_a_segmentation_lies_where_highdicom_puts_it(real_data: Path) -> None:
    import highdicom

    path = real_data / "highdicom" / "seg_image_ct_binary_overlap.dcm"
    geometry = highdicom.seg.segread(path).get_volume_geometry()
    assert geometry is not None
    frames = frames_of(read_header(path.read_bytes()).dataset)
    expected = {tuple(np.round(plane[0].ImagePositionPatient, 4)) for plane in geometry.get_plane_positions()}
    found = {tuple(np.round(frame.position or (), 4)) for frame in frames}
    assert found <= expected  # its volume fills in the planes that hold no segment
    assert (min(found), max(found)) == (min(expected), max(expected))
    assert {frame.facets["segment"] for frame in frames} == {1, 2}


def test_the_field_map_of_a_real_object_is_in_hertz_and_its_magnitude_is_not(real_data: Path) -> None:
    frames = frames_of(
        read_header((real_data / "enhanced-mr/In/Philips/IM_0027_fMAP.dcm").read_bytes()).dataset
    )
    found = {(frame.facets["component"], frame.units, frame.intercept) for frame in frames}
    assert found == {("magnitude", "1", 0), ("real", "Hz", -500)}
