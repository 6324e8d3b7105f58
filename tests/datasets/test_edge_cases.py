"""The edge cases against the standard: pydicom and a brute-force search, without any stacking.

Each file is read by pydicom alone. A voxel of the truth is placed by the affine that the case states,
then looked for in every plane of every file: it must lie in a plane of its own, at a pixel, with its value.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomlake.datasets.edge_cases import EdgeCase, VolumeTruth, cases
from dicomlake.datasets.edge_cases.mosaics import csa_header

CASES = {case.name: case for case in cases()}
VOLUMES = [
    pytest.param(case, volume, id=f"{case.name}-{i}")
    for case in CASES.values()
    for i, volume in enumerate(case.volumes)
]
NM, RT_DOSE = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.481.2"


@dataclass(frozen=True)
class Plane:
    """A frame as its file describes it; said: the data sets that may describe it, the nearest first."""

    uid: str
    frame: int
    values: np.ndarray
    position: np.ndarray | None
    row: np.ndarray | None
    column: np.ndarray | None
    spacing: np.ndarray | None
    said: tuple[Dataset, ...]

    def value(self, keyword: str) -> Any:
        """The first value found in the frame's own description, else in the object's."""
        for one in self.said:
            if keyword in one:
                return one[keyword].value
        return None

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)


# ---- reading with pydicom alone ----------------------------------------------------------------------


@cache
def _datasets(name: str) -> tuple[Dataset, ...]:
    return tuple(pydicom.dcmread(BytesIO(data)) for data in CASES[name].files())


@cache
def _planes(name: str) -> tuple[Plane, ...]:
    readable = (ds for ds in _datasets(name) if ds.SOPInstanceUID not in CASES[name].unreadable)
    return tuple(plane for ds in readable if "Rows" in ds for plane in _planes_of(ds))


def _planes_of(ds: Dataset) -> Iterator[Plane]:
    if "PerFrameFunctionalGroupsSequence" in ds:
        return _grouped(ds)
    image_type = ds.get("ImageType", ())
    if "MOSAIC" in image_type:
        return _mosaic(ds)
    if "VFRAME" in image_type:
        return _uih(ds)
    if ds.get("NumberOfFrames", 1) > 1:
        return _frames(ds)
    return iter([_plane(ds, 0, ds.pixel_array, ds.get("ImagePositionPatient"), ds)])


def _plane(
    ds: Dataset, frame: int, values: np.ndarray, position: Any, turned: Dataset, *said: Dataset
) -> Plane:
    if position is None:
        return Plane(ds.SOPInstanceUID, frame, values, None, None, None, None, (*said, ds))
    turn = np.array(turned.ImageOrientationPatient, float)
    spacing = next(one.PixelSpacing for one in (*said, ds) if "PixelSpacing" in one)
    return Plane(
        ds.SOPInstanceUID,
        frame,
        values,
        np.array(position, float),
        turn[:3],
        turn[3:],
        np.array(spacing, float),
        (*said, ds),
    )


def _frames(ds: Dataset) -> Iterator[Plane]:
    """PS3.3 C.8.4.15 for reconstructed NM, C.8.8.3.2 for dose; other runs have no place."""
    frames = ds.pixel_array
    detector = ds.get("DetectorInformationSequence", [None])[0]
    for i, values in enumerate(frames):
        if ds.SOPClassUID == NM and detector is not None:
            turn = np.array(detector.ImageOrientationPatient, float)
            across = np.cross(turn[:3], turn[3:])
            step = float(ds.SpacingBetweenSlices) * (ds.SliceVector[i] - 1)
            yield _plane(
                ds, i, values, np.array(detector.ImagePositionPatient, float) + step * across, detector
            )
        elif ds.SOPClassUID == RT_DOSE:
            turn = np.array(ds.ImageOrientationPatient, float)
            offset = float(ds.GridFrameOffsetVector[i])
            first = np.array(ds.ImagePositionPatient, float)
            if float(ds.GridFrameOffsetVector[0]) == 0:
                yield _plane(ds, i, values, first + offset * np.cross(turn[:3], turn[3:]), ds)
            else:
                assert ds.GridFrameOffsetVector[0] == first[2]
                yield _plane(ds, i, values, (*first[:2], offset), ds)
        else:
            yield _plane(ds, i, values, None, ds)


def _grouped(ds: Dataset) -> Iterator[Plane]:
    shared = ds.SharedFunctionalGroupsSequence[0]
    frames = ds.pixel_array
    for i, groups in enumerate(ds.PerFrameFunctionalGroupsSequence):
        items = [element.value[0] for one in (groups, shared) for element in one if element.VR == "SQ"]
        inner = [element.value[0] for item in items for element in item if element.VR == "SQ"]
        place = next(item for item in items if "ImagePositionPatient" in item)
        turned = next(item for item in items if "ImageOrientationPatient" in item)
        yield _plane(ds, i, frames[i], place.ImagePositionPatient, turned, *items, *inner)


def _mosaic(ds: Dataset) -> Iterator[Plane]:
    """As nibabel reads a mosaic: its array (row, column, slice) and its affine, to LPS."""
    pytest.importorskip("nibabel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data
    wrapped = wrapper_from_data(ds)
    assert wrapped.is_mosaic
    for k in range(wrapped.image_shape[2]):
        yield _plane(ds, 0, wrapped.get_unscaled_data()[..., k], (wrapped.affine @ [0, 0, k, 1])[:3], ds)


def _uih(ds: Dataset) -> Iterator[Plane]:
    size = [int(n) for n in ds[0x0065, 0x1004].value.split("*")]
    across = ds.Columns // size[1]
    for k, item in enumerate(ds[0x0065, 0x1051].value):
        top, left = k // across * size[0], k % across * size[1]
        values = ds.pixel_array[top : top + size[0], left : left + size[1]]
        yield _plane(ds, 0, values, item.ImagePositionPatient, ds)


# ---- the search --------------------------------------------------------------------------------------


def _voxel_positions(volume: VolumeTruth, z: int, reference: Plane) -> np.ndarray:
    """LPS of each voxel of a plane, (y, x, 3): by the affine, else by the position stated for the place."""
    y, x = np.mgrid[: volume.plane_shape[0], : volume.plane_shape[1]]
    if volume.affine_lps is not None:
        index = np.stack([np.full_like(y, z), y, x, np.ones_like(y)], axis=-1)
        return (index @ np.array(volume.affine_lps).T)[..., :3]
    assert volume.positions_lps is not None
    turn = np.array(volume.orientations[z]) if volume.orientations else np.r_[reference.row, reference.column]
    down, right = y * reference.spacing[0], x * reference.spacing[1]
    return volume.positions_lps[z] + down[..., None] * turn[3:] + right[..., None] * turn[:3]


def _values_at(plane: Plane, points: np.ndarray, tolerance_mm: float) -> np.ndarray | None:
    """What a plane has at these points; None unless all of them are its pixels' centres."""
    if plane.position is None or plane.values.shape[:2] != points.shape[:2]:
        return None
    apart = points - plane.position
    row, column = (apart @ plane.column) / plane.spacing[0], (apart @ plane.row) / plane.spacing[1]
    found = np.rint(row).astype(int), np.rint(column).astype(int)
    back = plane.position + (found[0] * plane.spacing[0])[..., None] * plane.column
    back = back + (found[1] * plane.spacing[1])[..., None] * plane.row
    if np.abs(back - points).max() > tolerance_mm:
        return None
    inside = (found[0] >= 0) & (found[1] >= 0)
    inside &= (found[0] < plane.values.shape[0]) & (found[1] < plane.values.shape[1])
    return plane.values[found] if inside.all() else None


def _source(case: EdgeCase, volume: VolumeTruth, number: int) -> Plane:
    """The plane that a source names; of the tiles of one image the one with the right values."""
    named = [p for p in _planes(case.name) if (p.uid, p.frame) == volume.sources[number]]
    return next((p for p in named if np.array_equal(p.values, volume.plane(number))), named[0])


@pytest.mark.parametrize(("case", "volume"), VOLUMES)
def test_each_voxel_lies_where_the_truth_puts_it(case: EdgeCase, volume: VolumeTruth) -> None:
    tolerance = max(volume.tolerance_mm * 2, 1e-5)
    used = []
    for number in range(len(volume.sources)):
        source = _source(case, volume, number)
        np.testing.assert_array_equal(source.values, volume.plane(number))
        if volume.verdict == "none":
            assert source.position is None
            continue
        points = _voxel_positions(volume, number % volume.leading[-1], source)
        here = [(p, _values_at(p, points, tolerance)) for p in _planes(case.name)]
        right = [p for p, values in here if np.array_equal(values, volume.plane(number))]
        copies = [p for p in right if p.uid in case.duplicates]
        assert [p for p in right if p not in copies] == [source]
        used.append(id(source))
    assert len(set(used)) == len(used)


@pytest.mark.parametrize(("case", "volume"), VOLUMES)
def test_the_array_is_its_planes(case: EdgeCase, volume: VolumeTruth) -> None:
    array = volume.array()
    assert array.shape == volume.shape
    assert len(volume.dims) == len(volume.shape)
    planes = array.reshape(-1, *array.shape[volume.dims.index("y") :])
    assert len(planes) == len(volume.sources)
    for number, plane in enumerate(planes):
        np.testing.assert_array_equal(plane, volume.plane(number))


# ---- coordinates -------------------------------------------------------------------------------------


def _seconds(date: str, time: str) -> float:
    from datetime import datetime

    return (datetime.strptime(date + time, "%Y%m%d%H%M%S.%f") - datetime(1970, 1, 1)).total_seconds()


def _time(plane: Plane) -> float:
    for keyword in ("TemporalPositionIndex", "TemporalPositionIdentifier", "FrameReferenceTime"):
        if plane.value(keyword) is not None:
            return float(plane.value(keyword))
    return _seconds(plane.value("AcquisitionDate"), plane.value("AcquisitionTime"))


def _private(plane: Plane, group: int, creator: str, element: int) -> Any:
    try:
        return plane.said[-1].private_block(group, creator)[element].value
    except KeyError:
        return None


def _b(plane: Plane) -> float:
    standard = plane.value("DiffusionBValue")
    siemens = _private(plane, 0x19, "SIEMENS MR HEADER", 0x0C)
    ge = _private(plane, 0x43, "GEMS_PARM_01", 0x39)
    others = (
        _private(plane, 0x65, "Image Private Header", 9),
        _private(plane, 0x2001, "Philips Imaging DD 001", 3),
    )
    if ge is not None:
        return float(ge[0]) % 1e9
    return float(next(v for v in (standard, siemens, *others) if v is not None))


def _gradient(plane: Plane) -> list[float]:
    found = plane.value("DiffusionGradientOrientation")
    if found is None:
        found = _private(plane, 0x19, "SIEMENS MR HEADER", 0x0E)
    if isinstance(found, bytes):
        found = np.frombuffer(found, "<f8")
    return [np.nan] * 3 if found is None else [float(v) for v in found]


SAYS: dict[str, Callable[[Plane], Any]] = {
    "echo": lambda p: p.value("EffectiveEchoTime") or p.value("EchoTime"),
    "inversion": lambda p: p.value("InversionTime"),
    "flip": lambda p: p.value("FlipAngle"),
    "kvp": lambda p: p.value("KVP"),
    "acquisition": lambda p: p.value("AcquisitionNumber"),
    "time": _time,
    "acquisition_time": _time,
    "trigger_time": lambda p: p.value("TriggerTime"),
    "component": lambda p: {"M": "magnitude", "P": "phase"}[p.value("ImageType")[2]],
    "b": _b,
    "gradient": _gradient,
    "rescale_slope": lambda p: p.value("RescaleSlope"),
    "rescale_intercept": lambda p: p.value("RescaleIntercept"),
}


@pytest.mark.parametrize(("case", "volume"), [param for param in VOLUMES if param.values[1].coordinates])
def test_each_plane_says_what_its_coordinates_are(case: EdgeCase, volume: VolumeTruth) -> None:
    axes = volume.dims[: len(volume.leading)]
    for coordinate in volume.coordinates:
        said, stated = [], []
        for number, place in enumerate(np.ndindex(*volume.leading)):
            said.append(SAYS[coordinate.name](_source(case, volume, number)))
            value: Any = coordinate.values
            for dim in coordinate.dims:
                value = value[place[axes.index(dim)]] if dim in axes else value
            stated.append(value)
        if isinstance(stated[0], str):
            assert said == stated
            continue
        found, wanted = np.array(said, float), np.array(stated, float)
        if coordinate.from_first:
            found, wanted = found - found[0], wanted - wanted[0]
        np.testing.assert_allclose(found, wanted, atol=1e-9)


@pytest.mark.parametrize(("case", "volume"), [param for param in VOLUMES if param.values[1].coordinates])
def test_coordinates_of_an_axis_ascend(case: EdgeCase, volume: VolumeTruth) -> None:
    for coordinate in volume.coordinates:
        if coordinate.dims == (coordinate.name,):
            assert list(coordinate.values) == sorted(coordinate.values)


# ---- verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "volume"), VOLUMES)
def test_the_positions_are_what_the_verdict_says(case: EdgeCase, volume: VolumeTruth) -> None:
    if volume.verdict == "none":
        assert volume.affine_lps is None
        return
    planes = [_source(case, volume, k) for k in range(volume.leading[-1])]
    positions = np.array([plane.position for plane in planes])
    assert volume.positions_lps is not None
    np.testing.assert_allclose(positions, volume.positions_lps, atol=max(volume.tolerance_mm, 1e-6))
    if volume.verdict == "plane_set":
        turned = {tuple(plane.normal.round(6)) for plane in planes}
        assert len(turned) == len(planes) > 2
        return
    steps = np.diff(positions, axis=0)
    across = steps @ planes[0].normal
    assert (across > 0).all(), "z must rise along row x column"
    even = len(steps) < 2 or np.allclose(steps, steps.mean(axis=0), atol=max(3 * volume.tolerance_mm, 1e-6))
    if volume.verdict in ("regular", "sheared"):
        assert even
        whole_way = positions[-1] - positions[0]
        sideways = np.linalg.norm(whole_way - (whole_way @ planes[0].normal) * planes[0].normal)
        lean = np.degrees(np.arctan2(sideways, across.sum()))
        assert lean == pytest.approx(volume.facts.get("tilt_degrees", 0.0), abs=0.25)
        assert (lean > 1) == (volume.verdict == "sheared")
        return
    assert not even
    multiples = across / across.min()
    whole = np.allclose(multiples, multiples.round(), atol=1e-6)
    assert whole == (volume.verdict == "missing_slices")
    if whole:
        heights = positions @ planes[0].normal
        gaps = [(heights[i] + across.min(), round(multiples[i]) - 1) for i in np.flatnonzero(multiples > 1.5)]
        np.testing.assert_allclose(gaps, volume.facts["gaps"])


# ---- the cases as a whole ----------------------------------------------------------------------------


def test_there_are_many_cases_each_told_in_a_sentence() -> None:
    assert len(CASES) == len(cases()) >= 45
    for case in CASES.values():
        assert case.story.endswith(".")
        assert 10 < len(case.story) < 110


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_image_is_in_one_volume_or_named_as_none(case: EdgeCase) -> None:
    given = sorted(str(ds.SOPInstanceUID) for ds in _datasets(case.name))
    used = {uid for volume in case.volumes for uid, _frame in volume.sources}
    rest = [*case.duplicates, *case.no_images]
    assert len(set(given)) == len(given)
    assert used.isdisjoint(rest)
    if case.unreadable:
        assert set(case.unreadable) < set(given)
    else:
        assert sorted([*used, *rest]) == given


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_two_voxels_of_a_case_have_the_same_value(case: EdgeCase) -> None:
    if case.volumes and case.volumes[0].pixels == "bit":
        frames = {volume.tobytes() for volume in case.volumes[0].array()}
        assert len(frames) == case.volumes[0].shape[0]
        return
    voxels = [
        tuple(voxel) if volume.pixels == "rgb" else voxel
        for volume in case.volumes
        for voxel in volume.array().reshape(-1, *([3] if volume.pixels == "rgb" else [])).tolist()
    ]
    assert len(set(voxels)) == len(voxels)


def test_the_bytes_are_the_same_each_time_and_out_of_order() -> None:
    again = {case.name: case for case in cases()}
    for name, case in CASES.items():
        files = case.files()
        assert files == again[name].files()
        in_order = [write() for write in case.writers]
        assert sorted(files) == sorted(in_order)
        if len(files) > 3:
            assert files not in (in_order, in_order[::-1])


def test_rows_and_columns_differ_so_that_a_swap_shows() -> None:
    for case in CASES.values():
        for volume in case.volumes:
            if volume.affine_lps is not None:
                steps = np.linalg.norm(np.array(volume.affine_lps)[:3, :3], axis=0)
                assert steps[1] != pytest.approx(steps[2], rel=0.01)
            assert volume.plane_shape[0] != volume.plane_shape[1] or case.name == "uih-grid"


@pytest.mark.parametrize(
    "name", [name for name in CASES if name.startswith(("enhanced", "legacy", "concatenation"))]
)
def test_dimension_indices_order_frames_as_their_values_do(name: str) -> None:
    """PS3.3 C.7.6.17: in a stack, one index for each height, ascending; the same for times and echoes."""
    for ds in _datasets(name):
        keywords = [
            pydicom.datadict.keyword_for_tag(i.DimensionIndexPointer) for i in ds.DimensionIndexSequence
        ]
        assert keywords[0] == "StackID"
        assert keywords[-1] == "InStackPositionNumber"
        pairs: dict[tuple[str, str], set[tuple[int, float]]] = {}
        for plane in _grouped(ds):
            indices = plane.value("DimensionIndexValues")
            assert len(indices) == len(keywords)
            stack = plane.value("StackID")
            assert plane.value("InStackPositionNumber") == indices[-1]
            for keyword, index in zip(keywords[1:], indices[1:], strict=True):
                in_stack = keyword == "InStackPositionNumber"
                value = plane.position @ plane.normal if in_stack else float(plane.value(keyword))
                pairs.setdefault((stack, keyword), set()).add((index, round(float(value), 6)))
        for (_stack, keyword), found in pairs.items():
            values = [value for _index, value in sorted(found)]
            assert values == sorted(values)
            if keyword != "DiffusionBValue":  # of which several may be alike
                assert len({index for index, _value in found}) == len(found) == len(set(values))


def test_the_file_that_is_cut_off_really_is() -> None:
    case = CASES["cut-off"]
    whole = max(len(data) for data in case.files())
    short = [data for data in case.files() if len(data) < whole - 20]
    assert len(short) == 1
    ds = pydicom.dcmread(BytesIO(short[0]))
    assert (str(ds.SOPInstanceUID),) == case.unreadable
    assert 0 < len(ds.PixelData) < ds.Rows * ds.Columns * 2


def test_two_patients_and_two_studies_share_a_series() -> None:
    for name, keyword in (
        ("two-patients", "PatientID"),
        ("two-studies", "StudyInstanceUID"),
        ("two-frames-of-reference", "FrameOfReferenceUID"),
    ):
        found = _datasets(name)
        assert len({ds.SeriesInstanceUID for ds in found}) == 1
        assert len({ds[keyword].value for ds in found}) == 2


def test_the_csa_header_reads_back_in_nibabel() -> None:
    pytest.importorskip("nibabel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom.csareader import read
    data = csa_header(
        (("NumberOfImagesInMosaic", "US", ["5"]), ("SliceNormalVector", "FD", ["0", "-1", "0.5"]))
    )
    tags = read(data)["tags"]
    assert tags["NumberOfImagesInMosaic"]["items"] == [5]
    assert tags["SliceNormalVector"]["items"] == [0.0, -1.0, 0.5]
