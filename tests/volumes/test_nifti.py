"""NIfTI files against nibabel, and against dcm2niix on real series: places, values, diffusion, facts.

dcm2niix turns images upside down and orders diffusion volumes by its own rule, so voxels are compared by
where they lie and directions as vectors in the patient.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr

import dicomlake
from dicomlake import datasets
from dicomlake.dicom.headers import read_header
from dicomlake.errors import GeometryError, VolumeError
from dicomlake.volumes import accessor  # noqa: F401  registers `.dicom`
from dicomlake.volumes.nifti import parts, write_nifti
from dicomlake.volumes.sidecar import sidecar
from tests import objects

PLANTED = ["Quux^Zebedee", "ZZ-9981", "Zebedee", "plural zee alpha"]
AFFINE = np.array([[0.0, 0.3, -0.4, 5], [0.0, 0.4, 0.3, -7], [2.0, 0, 0, 11], [0, 0, 0, 1]])  # z, y, x; LPS


def image(shape: tuple[int, ...] = (4, 5, 6), dtype: Any = np.int16, **attrs: Any) -> xr.DataArray:
    """An image as a volume opens; every value differs from its neighbours."""
    values = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)
    dims = ("time", "z", "y", "x")[-len(shape) :]
    steps, origin = (2.0, 0.5, 0.5), (11.0, 0.0, 0.0)
    coords = {
        a: o + s * np.arange(shape[dims.index(a)]) for a, o, s in zip("zyx", origin, steps, strict=True)
    }
    given = {"affine_lps": AFFINE.tolist(), "origin_mm": origin, "step_mm": steps, "source": "stored"}
    return xr.DataArray(values, coords, dims, "image", given | attrs)


def ras_of(index_zyx: Any) -> np.ndarray:
    return np.asarray((np.diag([-1, -1, 1, 1]) @ AFFINE @ [*index_zyx, 1])[:3])


# ---- one file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_and_places_come_back(name: str, tmp_path: Path) -> None:
    given = image(rescale_slope=0.5, rescale_intercept=-3.0)
    assert given.dicom.to_nifti(tmp_path / name) == [tmp_path / name]
    found = nibabel.load(tmp_path / name)
    assert found.shape == (6, 5, 4)
    assert found.get_data_dtype() == np.int16  # as stored, the line is in the header
    np.testing.assert_allclose(found.get_fdata(), given.values.T * 0.5 - 3)
    np.testing.assert_array_equal(found.dataobj.get_unscaled(), given.values.T)
    for z, y, x in ((0, 0, 0), (3, 4, 5), (1, 2, 0)):
        np.testing.assert_allclose((found.affine @ [x, y, z, 1])[:3], ras_of((z, y, x)), atol=1e-5)
    assert (int(found.header["qform_code"]), int(found.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(found.get_qform(), found.get_sform(), atol=1e-5)
    assert found.header.get_xyzt_units()[0] == "mm"


def test_a_part_lies_where_it_was_cut_from(tmp_path: Path) -> None:
    part = image()[::-1, 1:4, ::2]
    for given in (part, part.transpose("x", "y", "z"), part.isel(z=2)):
        given.dicom.to_nifti(tmp_path / "a.nii")
        found = nibabel.load(tmp_path / "a.nii")
        values = np.asarray(found.dataobj)
        assert values.shape[:2] == (3, 3)
        np.testing.assert_allclose(
            (found.affine @ [0, 0, values.shape[2] - 1, 1])[:3],
            ras_of((1 if given.ndim == 2 else 0, 1, 0)),
            atol=1e-5,
        )
        assert values[2, 1, -1] == image().values[1 if given.ndim == 2 else 0, 2, 4]


def test_simpleitk_reads_the_same_places(tmp_path: Path) -> None:
    image().dicom.to_nifti(tmp_path / "a.nii.gz")
    found = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), image().values)
    np.testing.assert_allclose(
        found.TransformIndexToPhysicalPoint((5, 2, 3)), (AFFINE @ [3, 2, 5, 1])[:3], atol=1e-5
    )


def test_slices_scaled_apart_are_written_rescaled(tmp_path: Path) -> None:
    slopes = np.array([1.0, 2, 0.25, 8])
    image().assign_coords(rescale_slope=("z", slopes)).dicom.to_nifti(tmp_path / "a.nii")
    found = nibabel.load(tmp_path / "a.nii")
    assert found.get_data_dtype() == np.float32
    np.testing.assert_allclose(found.get_fdata(), image().values.T * slopes)


def test_values_that_are_rescaled_are_not_scaled_again(tmp_path: Path) -> None:
    given = image(rescale_slope=0.5, rescale_intercept=-3.0).dicom.rescaled()
    given.dicom.to_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii").get_fdata(), image().values.T * 0.5 - 3)


def test_bool_and_colour_have_their_types(tmp_path: Path) -> None:
    mask = (image() > 60).assign_attrs(image().attrs)
    mask.dicom.to_nifti(tmp_path / "mask.nii")
    found = nibabel.load(tmp_path / "mask.nii")
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj), mask.values.T)
    grey = image(dtype=np.uint8)
    colour = xr.concat([grey, 250 - grey, grey // 2], "rgb").transpose("z", "y", "x", "rgb").astype(np.uint8)
    colour.attrs = grey.attrs
    colour.dicom.to_nifti(tmp_path / "rgb.nii")
    found = np.asarray(nibabel.load(tmp_path / "rgb.nii").dataobj)
    assert found.shape == (6, 5, 4)
    for sample, name in enumerate("RGB"):
        np.testing.assert_array_equal(found[name], colour.values[..., sample].T)
    assert sitk.ReadImage(str(tmp_path / "rgb.nii")).GetPixel(3, 2, 1) == tuple(
        map(int, colour.values[1, 2, 3])
    )
    with pytest.raises(GeometryError, match="three times 8 bits"):
        colour.astype(np.uint16).assign_attrs(grey.attrs).dicom.to_nifti(tmp_path / "deep.nii")


def test_a_mask_made_from_an_image_is_not_rescaled(tmp_path: Path) -> None:
    """A comparison keeps the attributes, and so the slope, of what was compared."""
    given = image(rescale_slope=2.0, rescale_intercept=-1024.0)
    mask = (given > 60).assign_attrs(given.attrs)
    computed = (given * 3).drop_attrs().assign_attrs({k: v for k, v in given.attrs.items() if k != "source"})
    for one in (mask, computed):
        one.dicom.to_nifti(tmp_path / "a.nii")
        np.testing.assert_array_equal(nibabel.load(tmp_path / "a.nii").get_fdata(), one.values.T)


def test_three_columns_are_no_colour(tmp_path: Path) -> None:
    given = image((2, 4, 5, 3), np.uint8)
    given.dicom.to_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj), given.values.T)


BY_SLICE = np.add.outer([0, 2.5, 5], np.arange(4))


@pytest.mark.parametrize(
    ("coords", "wanted"),
    [
        ({"time": ("time", [0.0, 1500, 3000], {"units": "ms"})}, (1.5, "sec")),
        ({"acquisition_time": (("time", "z"), BY_SLICE, {"units": "s"})}, (2.5, "sec")),
        ({"time": ("time", [0.0, 1, 5], {"units": "s"})}, (1, "unknown")),
        ({"time": ("time", [1.0, 2, 3])}, (1, "unknown")),
        ({}, (1, "unknown")),
    ],
    ids=["ms", "by slice", "uneven", "a count", "nothing"],
)  # fmt: skip
def test_time_is_the_fourth_axis_and_its_step_is_told_only_where_known(
    coords: dict, wanted: tuple[float, str], tmp_path: Path
) -> None:
    given = image((3, 4, 5, 6)).assign_coords(coords)
    given.dicom.to_nifti(tmp_path / "a.nii")
    found = nibabel.load(tmp_path / "a.nii")
    assert found.shape == (6, 5, 4, 3)
    np.testing.assert_array_equal(np.asarray(found.dataobj), given.values.T)
    assert (float(found.header["pixdim"][4]), found.header.get_xyzt_units()[1]) == wanted


def test_repetition_time_counts_where_the_clock_agrees(tmp_path: Path) -> None:
    given = image((3, 4, 5, 6)).assign_coords(acquisition_time=("time", [0.0, 2.435, 4.87], {"units": "s"}))
    for stated, wanted in ((2.43537, 2.43537), (0.005, 2.435)):
        write_nifti(given, tmp_path / "a.nii", {"RepetitionTime": stated})
        assert float(nibabel.load(tmp_path / "a.nii").header["pixdim"][4]) == pytest.approx(wanted, rel=1e-7)


def test_a_sheared_volume_has_an_sform_only(tmp_path: Path) -> None:
    leaning = AFFINE.copy()
    leaning[:3, 0] += [0.4, 0.2, 0]
    given = image(affine_lps=leaning.tolist())
    given.dicom.to_nifti(tmp_path / "a.nii")
    found = nibabel.load(tmp_path / "a.nii")
    assert (int(found.header["qform_code"]), int(found.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(found.affine[:, [2, 1, 0, 3]], np.diag([-1, -1, 1, 1]) @ leaning, atol=1e-5)
    with pytest.raises(GeometryError, match="sheared"):
        given.assign_coords(b=1000.0).dicom.to_nifti(tmp_path / "b.nii")
    assert not (tmp_path / "b.nii").exists()


def test_what_nifti_cannot_say_is_refused(tmp_path: Path) -> None:
    five = xr.concat([image((2, 4, 5, 6))] * 2, "echo").assign_attrs(image().attrs)
    with pytest.raises(GeometryError, match="select one of echo, time"):
        five.dicom.to_nifti(tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="no geometry"):
        image().drop_vars("z").dicom.to_nifti(tmp_path / "a.nii")
    with pytest.raises(ValueError, match=r"\.nii or \.nii\.gz"):
        image().dicom.to_nifti(tmp_path / "a.img")
    assert not list(tmp_path.iterdir())


def test_each_echo_and_component_is_a_file_named_as_bids_does() -> None:
    several = xr.concat([xr.concat([image((3, 4, 5, 6))] * 2, "echo")] * 3, "component")
    several = several.assign_coords(component=["magnitude", "imaginary", "T1 map/x"], echo=[4.0, 9.0])
    found = dict(parts(several))
    names = [f"_part-{c}_echo-{e}" for c in ("mag", "imag", "t1mapx") for e in (1, 2)]
    assert list(found) == names
    assert all(part.dims == ("time", "z", "y", "x") for part in found.values())
    assert float(found["_part-imag_echo-2"].echo) == 9
    alike = several.assign_coords(component=["a", "A", "b"])
    assert list(dict(parts(alike)))[::2] == [f"_part-{n}_echo-1" for n in (1, 2, 3)]
    assert list(dict(parts(image()))) == [""]
    both = xr.concat([image((3, 4, 5, 6))] * 2, "b").assign_attrs(image().attrs)
    assert [(name, part.dims[0]) for name, part in parts(both)] == [("_b-1", "time"), ("_b-2", "time")]


# ---- diffusion ---------------------------------------------------------------------------------------


def directions(nii: Path) -> tuple[np.ndarray, np.ndarray]:
    """b-values and directions in RAS by FSL's rule: in voxel axes, x reversed when they are right-handed."""
    stem = nii.with_name(nii.name.removesuffix(".gz").removesuffix(".nii"))
    affine = nibabel.load(nii).affine
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    vectors = np.loadtxt(f"{stem}.bvec").reshape(3, -1)
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors = vectors * [[-1], [1], [1]]
    return np.loadtxt(f"{stem}.bval").reshape(-1), (axes @ vectors).T


@pytest.mark.parametrize("turn", [1, -1])
def test_directions_in_the_patient_survive_the_turning_of_axes(turn: int, tmp_path: Path) -> None:
    lps = np.array([[np.nan] * 3, [0.6, 0, 0.8], [0, 1, 0], [-0.48, 0.6, 0.64]])
    given = image((4, 4, 5, 6)).rename(time="b")
    given = given.assign_coords(
        b=("b", [0.0, 700, 700, 1500]), **{f"gradient_{a}": ("b", lps[:, i]) for i, a in enumerate("xyz")}
    )
    files = given.isel(x=slice(None, None, turn)).dicom.to_nifti(tmp_path / "d.nii")
    assert [f.name for f in files] == ["d.nii", "d.bval", "d.bvec"]
    values, found = directions(tmp_path / "d.nii")
    assert values.tolist() == [0, 700, 700, 1500]
    np.testing.assert_allclose(found, np.nan_to_num(lps) * [-1, -1, 1], atol=1e-6)


def test_no_b_value_is_made_up(tmp_path: Path) -> None:
    given = image((2, 4, 5, 6)).rename(time="b").assign_coords(b=("b", [np.nan, 700]))
    assert given.dicom.to_nifti(tmp_path / "d.nii") == [tmp_path / "d.nii"]


class Written(NamedTuple):
    theirs: Path
    ours: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both converters on a folder, once."""
    made: dict[Path, Written] = {}

    def of(source: Path) -> Written:
        if source not in made:
            folder = tmp_path_factory.mktemp("nifti")
            (folder / "theirs").mkdir()
            if shutil.which("dcm2niix"):
                command = ["dcm2niix", "-o", str(folder / "theirs"), "-f", "%s_%e_%d", str(source)]
                subprocess.run(command, capture_output=True, check=False)
            with dicomlake.open(folder / "lake", create=True) as lake:
                lake.ingest(source, progress=False)
                for series in lake.query(Modality="MR"):
                    series.to_nifti(folder / "ours")
            made[source] = Written(folder / "theirs", folder / "ours")
        return made[source]

    return of


needs_dcm2niix = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


@needs_dcm2niix
def test_directions_are_those_of_dcm2niix_volume_by_volume(real_data: Path, written: Any) -> None:
    folders = written(real_data / "uih-mr")
    (theirs,), (ours,) = folders.theirs.glob("*.nii"), folders.ours.glob("*.nii.gz")
    (b, vectors), (their_b, their_vectors) = directions(ours), directions(theirs)
    assert len(b) == 4
    mine, other = (np.asarray(nibabel.load(p).dataobj).astype(float) for p in (ours, theirs))
    other = np.flip(other, 1)  # their rows go up
    for k in range(4):
        (same,) = (n for n in range(4) if np.array_equal(other[..., n], mine[..., k]))
        assert b[k] == pytest.approx(their_b[same], rel=1e-4)
        sign = np.sign(vectors[k] @ their_vectors[same]) or 1
        np.testing.assert_allclose(vectors[k], sign * their_vectors[same], atol=1e-4)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([0, 1, 1, 1], abs=1e-4)


def test_siemens_directions_are_those_that_nibabel_reads(
    real_data: Path, written: Any, tmp_path: Path
) -> None:
    names = ("siemens_dwi_0", "siemens_dwi_1000")
    for name in names:
        data = gzip.decompress((real_data / "nibabel" / f"{name}.dcm.gz").read_bytes())
        (tmp_path / f"{name}.dcm").write_bytes(data)
    (ours,) = written(tmp_path).ours.glob("*.nii.gz")
    b, vectors = directions(ours)
    assert b.tolist() == [0, 1000]
    lps = _by_nibabel(pydicom.dcmread(tmp_path / "siemens_dwi_1000.dcm"))
    sign = np.sign(vectors[1, 0] * -lps[0])
    np.testing.assert_allclose(vectors[1], sign * lps * [-1, -1, 1], atol=1e-4)
    assert vectors[0].tolist() == [0, 0, 0]


def _by_nibabel(ds: pydicom.Dataset) -> np.ndarray:
    """The gradient direction, LPS, in the private header of Siemens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its reader experimental
        from nibabel.nicom import csareader
    return np.array(csareader.get_g_vector(csareader.get_csa_header(ds)))


# ---- facts -------------------------------------------------------------------------------------------

FACTS = {
    "EchoTime": 1e-6,
    "RepetitionTime": 1e-4,
    "FlipAngle": 1e-6,
    "MagneticFieldStrength": 1e-3,
    "PixelBandwidth": 1,
    "ImagingFrequency": 1e-3,
}
REAL = ["uih-mr", "epi-siemens-mosaic", "mosaic-order", "fmri-ge-4d", "enhanced-mr/In", "xa30-enhanced/In"]
_TICK = 0.0151  # dcm2niix keeps the time of day of UIH in float32


@needs_dcm2niix
@pytest.mark.parametrize("folder", REAL)
def test_facts_are_those_of_dcm2niix(folder: str, real_data: Path, written: Any) -> None:
    folders = written(real_data / folder)
    theirs = [json.loads(p.read_text()) for p in folders.theirs.glob("*.json")]
    compared = 0
    for path in folders.ours.glob("*.json"):
        ours = json.loads(path.read_text())
        same = [t for t in theirs if t["SeriesNumber"] == ours["SeriesNumber"] and _alike(t, ours)]
        assert same, f"dcm2niix has no image with the facts of {path.name}"
        compared += sum(name in same[0] for name in FACTS if name in ours)
    assert compared >= 4


def _alike(theirs: dict, ours: dict) -> bool:
    facts = all(
        abs(theirs[name] - ours[name]) <= max(tolerance, 1e-5 * abs(ours[name]))
        for name, tolerance in FACTS.items()
        if name in theirs and name in ours
    )
    timing = theirs.get("SliceTiming"), ours.get("SliceTiming")
    return facts and (None in timing or np.allclose(*timing, rtol=0, atol=_TICK))


@needs_dcm2niix
def test_slice_times_are_compared_at_all(real_data: Path, written: Any) -> None:
    for folder, count in (("uih-mr", 20), ("epi-siemens-mosaic", 5), ("mosaic-order", 36)):
        for path in written(real_data / folder).ours.glob("*.json"):
            assert len(json.loads(path.read_text())["SliceTiming"]) == count


def facts(image: xr.DataArray, **keywords: Any) -> dict[str, Any]:
    header = read_header(objects.dicom(Modality="MR", **keywords)).dataset
    return sidecar(header, image.assign_attrs(modality="MR"))


def test_numbers_that_mean_nothing_are_left_out() -> None:
    """0 is written where nothing is known; UIH writes its 128 MHz in Hz."""
    found = facts(image(), EchoTime=0, InversionTime=0, RepetitionTime=2000, ImagingFrequency=128_176_031)
    assert not {"EchoTime", "InversionTime", "ImagingFrequency"} & {*found}
    assert found["RepetitionTime"] == 2
    assert facts(image(), ImagingFrequency=123.2)["ImagingFrequency"] == 123.2


def test_slice_times_count_from_the_first_slice_of_each_volume() -> None:
    given = image((2, 4, 5, 6))
    ticks = np.array([[0.16, 0, 0.32, 0.1], [0.66, 0.5, 0.8225, 0.6]])
    timed = given.assign_coords(acquisition_time=(("time", "z"), ticks, {"units": "s"}))
    assert facts(timed)["SliceTiming"] == [0.16, 0, 0.32, 0.1]
    for wrong in (ticks + np.array([[0] * 4, [0, 0, 0, 0.2]]), np.where(ticks == 0.1, np.nan, ticks)):
        other = given.assign_coords(acquisition_time=(("time", "z"), wrong, {"units": "s"}))
        assert "SliceTiming" not in facts(other)


def test_a_value_that_differs_within_the_image_is_no_fact() -> None:
    given = image((2, 4, 5, 6)).assign_coords(flip=("time", [10.0, 20]), echo=("time", [5.0, 5]))
    found = facts(given, FlipAngle=10, EchoTime=99)
    assert "FlipAngle" not in found
    assert found["EchoTime"] == 0.005


def _multi_echo(tmp_path: Path) -> dict[str, dict]:
    source = datasets.make("brain-mr", tmp_path / "mr", slices=3)
    for number, path in enumerate(sorted(source.iterdir())):
        ds = pydicom.dcmread(path)
        ds.PatientName, ds.PatientID, ds.InstitutionName = PLANTED[0], PLANTED[1], PLANTED[2]
        ds.SeriesDescription = ds.ProtocolName = ds.StudyDescription = PLANTED[3]
        ds.OperatorsName, ds.AccessionNumber, ds.SeriesNumber = PLANTED[0], PLANTED[1], 4
        ds.InstanceNumber = number + 1
        ds.save_as(path)
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(source, progress=False)
        files = lake.query(Modality="MR")[0].to_nifti(tmp_path / "out")
        uid = lake.query(Modality="MR")[0].uid
    content = b"".join(
        gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files
    )
    told = content.decode("latin-1") + " ".join(f.name for f in files)
    assert not [name for name in (*PLANTED, uid, "Quux") if name in told]
    return {f.name: json.loads(f.read_text()) for f in files if f.suffix == ".json"}


def test_each_echo_says_its_own_echo_time_and_nobodys_name(tmp_path: Path) -> None:
    found = _multi_echo(tmp_path)
    assert [name.split("_", 1)[1] for name in found] == [f"vol-0_echo-{n}.json" for n in (1, 2, 3, 4)]
    assert all(name.startswith("mr-004-") for name in found)
    assert [facts["EchoTime"] for facts in found.values()] == [0.022, 0.044, 0.066, 0.088]
    assert found[min(found)]["ImageType"][0] == "ORIGINAL"


def test_volumes_that_were_split_by_echo_say_their_own(tmp_path: Path) -> None:
    """Two sizes of pixels make two volumes of one series: the first header is not that of the second."""
    made = [
        objects.dicom(n + 10 * k, EchoTime=4.0 + 5 * k, PixelSpacing=[0.5 + k, 0.5 + k], Modality="MR",
                      ImagePositionPatient=[0, 0, n])
        for k in (0, 1) for n in (1, 2, 3)
    ]  # fmt: skip
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*made, progress=False)
        files = lake.query()[0].to_nifti(tmp_path / "out")
    images = [f for f in files if f.suffix == ".gz"]
    found = {nibabel.load(f).header.get_zooms()[0]: f for f in images}
    for size, echo in ((0.5, 0.004), (1.5, 0.009)):
        assert json.loads(Path(str(found[size]).replace(".nii.gz", ".json")).read_text())["EchoTime"] == echo


def test_series_of_one_number_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*objects.series(2), *objects.series(3, f"{objects.ROOT}.1.2"), progress=False)
        files = [f for series in lake.query() for f in series.to_nifti(tmp_path / "out")]
        again = lake.query()[0].to_nifti(tmp_path / "out")
    assert len(set(files)) == len(files) == 4
    assert sorted(nibabel.load(f).shape[2] for f in files if f.suffix == ".gz") == [2, 3]
    assert set(again) < set(files)


def test_nothing_is_written_of_a_series_that_cannot_be_written_whole(tmp_path: Path) -> None:
    uneven = [objects.dicom(n, ImagePositionPatient=[0, 0, z]) for n, z in enumerate((0, 1, 2, 3.7, 9), 1)]
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*uneven, progress=False)
        series = lake.query()[0]
        with pytest.raises(GeometryError, match="grid='resample'"):
            series.to_nifti(tmp_path / "out")
        assert not (tmp_path / "out").exists()
        path, sidecar = series.to_nifti(tmp_path / "out", grid="resample")
        assert nibabel.load(path).header.get_zooms()[2] > 0
        assert json.loads(sidecar.read_text())["Modality"] == "CT"


def test_a_series_without_volumes_says_why(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*objects.series(2), volumes=False, progress=False)
        with pytest.raises(VolumeError, match="no volume"):
            lake.query()[0].to_nifti(tmp_path / "out")
