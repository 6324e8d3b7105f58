"""The lake against the edge cases: number, axes, order, place, value and coordinates of every volume.

`tests/datasets/test_edge_cases.py` holds the cases themselves against the standard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import xarray as xr

import dicomlake
from dicomlake.datasets.edge_cases import Coordinate, EdgeCase, VolumeTruth, cases
from dicomlake.errors import VolumeError
from dicomlake.lake import Lake
from dicomlake.records import Volume

CASES = {case.name: case for case in cases()}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
DTYPES = {"grey16": "uint16", "grey8": "uint8", "rgb": "uint8", "bit": "bool"}


@dataclass(frozen=True)
class Opened:
    """A volume of the catalog and what it opens as."""

    record: Volume
    image: xr.DataArray


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with all cases: each has patients, studies and series of its own."""
    source = tmp_path_factory.mktemp("cases")
    for case in CASES.values():
        (source / case.name).mkdir()
        for i, data in enumerate(case.files()):
            (source / case.name / f"{i:03d}.dcm").write_bytes(data)
    with dicomlake.open(tmp_path_factory.mktemp("lake"), create=True) as opened:
        opened.ingest(source)
        yield opened


def _series_uid(case: EdgeCase) -> str:
    from io import BytesIO

    return str(pydicom.dcmread(BytesIO(case.files()[0]), stop_before_pixels=True).SeriesInstanceUID)


def _opened(lake: Lake, case: EdgeCase) -> list[Opened]:
    """All volumes of all series of the case; fails on one that cannot be opened."""
    found: list[Opened] = []
    for series in lake.find(_series_uid(case)):
        volumes = series.volumes
        assert [(v.number, v.verdict, v.reason) for v in volumes if not v.built] == []
        opened = series.open()
        if len(volumes) == 1:
            assert isinstance(opened, xr.Dataset)
            found.append(Opened(volumes[0], opened.image))
        else:
            assert isinstance(opened, xr.DataTree)
            assert set(opened.children) == {f"vol{v.number}" for v in volumes}
            found.extend(Opened(v, opened[f"vol{v.number}"].to_dataset().image) for v in volumes)
    return found


def _matching(truth: VolumeTruth, opened: list[Opened]) -> Opened:
    """The volume that shares most values with the truth: no two volumes of a case share any."""
    wanted = truth.array()
    return max(opened, key=lambda one: int(np.isin(one.image.values, wanted).sum()))


# ---- what must hold of each volume -------------------------------------------------------------------


def _check(truth: VolumeTruth, found: Opened) -> None:
    record, image = found.record, found.image
    assert record.dims == truth.dims == image.dims
    assert record.shape == truth.shape == image.shape
    assert image.dtype == DTYPES[truth.pixels]
    np.testing.assert_array_equal(image.values, truth.array())
    assert record.verdict == truth.verdict == image.attrs["verdict"]
    _check_sources(truth, image)
    _check_place(truth, found)
    for coordinate in truth.coordinates:
        _check_coordinate(coordinate, image)
    _check_facts(truth, record)


def _check_sources(truth: VolumeTruth, image: xr.DataArray) -> None:
    """Each plane names the object and the frame it came from."""
    leading = truth.dims[: len(truth.leading)]
    whole = xr.DataArray(np.zeros(truth.leading), dims=leading)
    for name, wanted in zip(("instance_uid", "frame_index"), zip(*truth.sources, strict=True), strict=True):
        if name == "frame_index" and name not in image.coords:
            continue  # kept in the store, not a coordinate everywhere
        along = image.coords[name].reset_coords(drop=True)
        spread = along.broadcast_like(whole).transpose(*leading).values
        assert spread.ravel().tolist() == list(wanted)


def _check_place(truth: VolumeTruth, found: Opened) -> None:
    record, image = found.record, found.image
    if truth.affine_lps is not None:
        np.testing.assert_allclose(record.affine_lps, truth.affine_lps, atol=truth.tolerance_mm)
        np.testing.assert_allclose(image.attrs["affine_lps"], truth.affine_lps, atol=truth.tolerance_mm)
        np.testing.assert_allclose(image.dicom.affine, truth.affine_lps, atol=truth.tolerance_mm)
    elif truth.positions_lps is None:
        assert record.affine_lps is None
        assert "affine_lps" not in image.attrs
        assert "z" not in image.coords
    else:
        place = truth.dims[len(truth.leading) - 1]
        found_at = _vectors(image, "position", (place,))
        np.testing.assert_allclose(found_at, truth.positions_lps, atol=truth.tolerance_mm)
        if record.affine_lps is not None:  # no step is true of all planes, the first plane may be placed
            np.testing.assert_allclose(np.array(record.affine_lps)[:3, 3], truth.positions_lps[0], atol=1e-6)
    if "z" in truth.dims and truth.verdict != "sheared":
        _check_heights(truth, image)


def _check_heights(truth: VolumeTruth, image: xr.DataArray) -> None:
    """z is the height along the normal, row x column, in mm."""
    assert truth.positions_lps is not None
    steps = np.diff(image.coords["z"].values)
    assert (steps > 0).all()
    apart = np.diff(np.array(truth.positions_lps), axis=0)
    np.testing.assert_allclose(steps, np.linalg.norm(apart, axis=1), atol=3 * truth.tolerance_mm)
    assert image.coords["z"].attrs["units"] == "mm"


def _vectors(image: xr.DataArray, name: str, dims: tuple[str, ...]) -> np.ndarray:
    """Directions or positions, LPS last: three coordinates, as an array cannot carry an axis it has not."""
    parts = [image.coords[f"{name}_{axis}"] for axis in "xyz"]
    assert [part.dims for part in parts] == [dims] * 3
    return np.stack([part.values for part in parts], axis=-1)


def _check_coordinate(wanted: Coordinate, image: xr.DataArray) -> None:
    if wanted.dims[-1] == "lps":
        found_vectors, vectors = _vectors(image, wanted.name, wanted.dims[:-1]), np.array(wanted.values)
        nowhere = np.isnan(found_vectors).all(axis=-1) | ~found_vectors.any(axis=-1)
        assert (nowhere == np.isnan(vectors).all(axis=-1)).all()  # no direction: NaN, or the null vector
        np.testing.assert_allclose(found_vectors[~nowhere], vectors[~nowhere], atol=1e-6)
        return
    assert wanted.name in image.coords
    found = image.coords[wanted.name]
    assert found.dims == wanted.dims
    if isinstance(wanted.values[0], str):
        assert found.values.tolist() == list(wanted.values)
        return
    values, expected = np.asarray(found.values), np.array(wanted.values, float)
    if wanted.from_first:
        values, units = _since_first(found)
        expected = (expected - expected.ravel()[0]) * SECONDS[wanted.units or "s"]
        assert units in SECONDS
    elif wanted.units is not None:
        assert found.attrs["units"].replace("²", "2") == wanted.units
    np.testing.assert_allclose(values.astype(float), expected, rtol=1e-9, atol=1e-6)


def _since_first(found: xr.DataArray) -> tuple[np.ndarray, str]:
    """Seconds since the first value, whatever the clock: numbers with a unit, or dates."""
    values = found.values
    if values.dtype.kind == "M":
        return (values - values.ravel()[0]) / np.timedelta64(1, "s"), "s"
    units = found.attrs.get("units", "")
    return (values - values.ravel()[0]) * SECONDS.get(units, np.nan), units


def _check_facts(truth: VolumeTruth, record: Volume) -> None:
    for name, wanted in truth.facts.items():
        found = record.info.get(name)
        if name == "gaps":
            assert found is not None
            np.testing.assert_allclose([gap[1:3] for gap in found], wanted, atol=1e-6)
        elif name == "tilt_degrees":
            assert found == pytest.approx(wanted, abs=0.01)
        elif isinstance(wanted, list):
            assert sorted(found or ()) == sorted(wanted)
        else:
            assert found == wanted
    for name in ("gaps", "duplicates", "tilt_degrees"):
        assert name in truth.facts or not record.info.get(name)


# ---- the tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.volumes], ids=lambda case: case.name)
def test_every_voxel_is_where_it_belongs(case: EdgeCase, lake: Lake) -> None:
    opened = _opened(lake, case)
    shapes = sorted(one.record.shape for one in opened)
    assert shapes == sorted(truth.shape for truth in case.volumes)
    matched = [_matching(truth, opened) for truth in case.volumes]
    assert len({id(one) for one in matched}) == len(opened)
    for truth, found in zip(case.volumes, matched, strict=True):
        _check(truth, found)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.unreadable], ids=lambda case: case.name)
def test_pixels_that_are_not_there_are_never_shown(case: EdgeCase, lake: Lake) -> None:
    (series,) = lake.find(_series_uid(case))
    assert len(series.instances) == len(case.files())
    assert [v for v in series.volumes if v.built] == []
    assert series.volumes != []
    with pytest.raises(VolumeError):
        series.open()


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.findings], ids=lambda case: case.name)
def test_what_is_wrong_is_recorded_as_a_finding(case: EdgeCase, lake: Lake) -> None:
    found = {one.kind for series in lake.find(_series_uid(case)) for one in series.findings}
    assert case.findings <= found


def test_only_broken_cases_have_findings(lake: Lake) -> None:
    expected = {kind for case in CASES.values() for kind in case.findings}
    assert {one.kind for one in lake.findings() if one.severity == "error"} == expected


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.no_images], ids=lambda case: case.name)
def test_objects_without_an_image_are_kept_beside_the_volume(case: EdgeCase, lake: Lake) -> None:
    kept = {one.sop_instance_uid for series in lake.find(_series_uid(case)) for one in series.instances}
    assert set(case.no_images) < kept
    assert len(kept) == len(case.files())


def test_every_file_of_every_case_was_taken(lake: Lake) -> None:
    assert lake.refused() == []
    assert lake.conflicts() == []
    assert lake.counts()["instances"] == sum(len(case.writers) for case in CASES.values())


def test_all_stores_hold_what_the_originals_say(lake: Lake) -> None:
    problems = [one for one in lake.verify(deep=True).findings if one.severity == "error"]
    assert problems == []


def test_files_in_any_order_make_the_same_volumes(lake: Lake, tmp_path: Path) -> None:
    """Cases whose order is told by positions and numbers only: written and named the other way round."""
    for name in ("gantry-tilt", "overlapping-acquisitions", "echoes", "conflicting-duplicate"):
        case = CASES[name]
        folder = tmp_path / name
        folder.mkdir()
        for i, data in enumerate(reversed(case.files())):
            (folder / f"{i:03d}.dcm").write_bytes(data)
    with dicomlake.open(tmp_path / "lake", create=True) as other:
        other.ingest(*(p for p in tmp_path.iterdir() if p.name in CASES))
        for v in other.volumes():
            (same,) = [w for w in lake.volumes() if w.series == v.series and w.number == v.number]
            assert (v.dims, v.shape, v.verdict, v.affine_lps) == (
                same.dims,
                same.shape,
                same.verdict,
                same.affine_lps,
            )
            np.testing.assert_array_equal(
                other.open_volume(v).image.values, lake.open_volume(same).image.values
            )
