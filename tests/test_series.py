"""What a series opens as, on the grid that was asked for, and the objects that are about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    MPEG4HP41,
    EncapsulatedPDFStorage,
    KeyObjectSelectionDocumentStorage,
    MRSpectroscopyStorage,
    RawDataStorage,
    UltrasoundMultiFrameImageStorage,
)

import dicomlake
from dicomlake import datasets
from dicomlake.datasets import chest_rt
from dicomlake.dicom import sop_classes
from dicomlake.errors import DicomlakeError, GeometryError, VolumeError
from dicomlake.objects.documents import Document
from dicomlake.objects.reports import Report
from dicomlake.objects.rt_plan import Plan
from dicomlake.objects.segmentation import Segmentation
from dicomlake.objects.structures import StructureSet
from tests import objects

SLICES = 10


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    """A CT, and structure set, plan, dose and segmentation of it."""
    made = [
        datasets.make(name, tmp_path_factory.mktemp(name), slices=SLICES) for name in ("chest-ct", "chest-rt")
    ]
    with dicomlake.open(tmp_path_factory.mktemp("lake") / "l", create=True) as lake:
        lake.ingest(*made, progress=False)
        yield lake


def lake_of(root: Path, *sources: bytes) -> dicomlake.Lake:
    lake = dicomlake.open(root / "lake", create=True)
    lake.ingest(*sources, progress=False)
    return lake


# ---- volumes and grids -------------------------------------------------------------------------------


def two_sizes() -> list[bytes]:
    """A series whose slices come in two sizes: two volumes."""
    small = [objects.dicom(n, size=8) for n in (1, 2, 3)]
    return small + [objects.dicom(n, size=16, ImagePositionPatient=[0, 0, 2 * n]) for n in (11, 12)]


def test_several_volumes_are_a_tree_and_one_is_a_dataset(tmp_path: Path) -> None:
    with lake_of(tmp_path, *two_sizes()) as lake:
        (series,) = lake.query()
        tree = series.open()
        assert isinstance(tree, xr.DataTree)
        assert list(tree.children) == ["vol0", "vol1"]
        for volume in series.volumes:
            one = series.open(volume=volume.number)
            assert isinstance(one, xr.Dataset)
            assert one.image.shape == volume.shape
            xr.testing.assert_identical(one.image, tree[f"vol{volume.number}"].to_dataset().image)
        with pytest.raises(VolumeError, match=r"no volume 7: see series\.volumes"):
            series.open(volume=7)


def test_a_volume_that_was_not_built_is_told_beside_the_others(tmp_path: Path) -> None:
    broken = objects.dataset(21, size=4, ImagePositionPatient=[0, 0, 50])
    broken.PixelData = broken.PixelData[:10]
    with lake_of(tmp_path, *objects.series(3), objects.as_bytes(broken)) as lake:
        (series,) = lake.query()
        assert sorted(v.built for v in series.volumes) == [False, True]
        (missing,) = [v for v in series.volumes if not v.built]
        opened = series.open()
        assert opened.image.sizes["z"] == 3
        assert opened.attrs["not_built"] == [f"volume {missing.number}: {missing.reason}"]
        with pytest.raises(VolumeError, match="no built volume"):
            series.open(volume=missing.number)


def uneven() -> list[bytes]:
    return [objects.dicom(n, ImagePositionPatient=[0, 0, z]) for n, z in enumerate((0, 1, 2, 3.7, 6), 1)]


def test_a_regular_volume_is_the_same_on_every_grid(chest: dicomlake.Lake) -> None:
    series = chest.query(Modality="CT")[0]
    as_is = series.open()
    for grid in ("strict", "resample"):
        xr.testing.assert_identical(series.open(grid=grid), as_is)


def test_an_uneven_volume_is_refused_or_resampled_on_request(tmp_path: Path) -> None:
    with lake_of(tmp_path, *uneven()) as lake:
        series = lake.query()[0]
        assert series.open().z.values.tolist() == [0, 1, 2, 3.7, 6]
        with pytest.raises(GeometryError, match=r"irregular: .*grid='resample' or grid='as-is'"):
            series.open(grid="strict")
        even = series.open(grid="resample")
        assert even.attrs["verdict"] == even.image.attrs["verdict"] == "regular"
        assert even.attrs["resampled_from"] == "irregular"
        assert np.ptp(np.diff(even.z)) < 1e-9
        hu = even.image.dicom.hu()
        heights = even.z.values
        wanted = np.interp(heights, [0, 1, 2, 3.7, 6], [100, 200, 300, 400, 500]) - 1024
        np.testing.assert_allclose(hu.isel(y=3, x=0), wanted, atol=1e-3)


def test_a_wrong_grid_is_named_whatever_the_series_is(chest: dicomlake.Lake) -> None:
    for modality in ("CT", "SEG"):
        with pytest.raises(ValueError, match="as-is, strict, resample"):
            chest.query(Modality=modality)[0].open(grid="common")


def test_chunks_and_levels_are_passed_on(tmp_path: Path) -> None:
    with lake_of(tmp_path, *objects.series(6, size=300)) as lake:
        series = lake.query()[0]
        assert series.open().image.chunks is not None
        assert series.open(chunks=None).image.chunks is None
        assert series.open(level=1).image.shape == (3, 150, 150)
        with pytest.raises(VolumeError, match="level 2 does not exist"):
            series.open(level=2)


def test_a_series_without_volumes_says_what_to_do(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*objects.series(2), volumes=False, progress=False)
        with pytest.raises(DicomlakeError):
            lake.query()[0].open()


# ---- objects about a series --------------------------------------------------------------------------


def test_the_segmentation_lies_voxel_on_voxel_on_the_ct(chest: dicomlake.Lake) -> None:
    series = chest.query(Modality="CT")[0]
    image = series.open().image
    (found,) = series.segmentations()
    opened = found.open(grid=image.dicom.grid).segmentation
    assert opened.shape == (len(chest_rt.SEGMENTS), *image.shape)
    np.testing.assert_allclose(opened.isel(segment=0).dicom.affine, image.dicom.affine, atol=1e-6)
    for k in range(SLICES):
        np.testing.assert_array_equal(opened[:, k].values, chest_rt.segment_maps(k, SLICES))


def test_the_structure_set_gives_masks_on_the_grid_of_the_ct(chest: dicomlake.Lake) -> None:
    series = chest.query(Modality="CT")[0]
    (found,) = series.structures()
    assert isinstance(found, StructureSet)
    image = series.open().image
    mask = found.mask(int(found.rois().iloc[0]["roi_number"]), image.dicom.grid)
    assert mask.shape == image.shape
    assert 0 < int(mask.sum()) < mask.size


def test_the_dose_is_the_formula_at_any_point(chest: dicomlake.Lake) -> None:
    dose = chest.query(Modality="CT")[0].dose()
    for z, y, x in ((40.0, 10.0, -50.0), (0.0, -30.0, 21.0)):
        nearest = [
            4 * round((v - o) / 4) + o
            for v, o in zip((z, y, x), np.array(dose.attrs["origin_mm"]), strict=True)
        ]
        wanted = float(chest_rt.dose_gy(*nearest))
        assert float(dose.dicom.at_lps(x, y, z)) == pytest.approx(wanted, abs=3e-4)
    assert dose.attrs["units"] == "Gy"
    uid = chest.query(Modality="RTDOSE")[0].uid
    xr.testing.assert_identical(chest.query(Modality="CT")[0].dose(uid), dose)
    with pytest.raises(VolumeError, match=f"name one with uid= .*{uid}"):
        chest.query(Modality="CT")[0].dose("1.2.3")


def test_a_series_without_dose_or_frame_of_reference_has_none(tmp_path: Path) -> None:
    with lake_of(
        tmp_path, objects.dicom(1), objects.dicom(1, series="1.2.9.1", FrameOfReferenceUID=None)
    ) as lake:
        for series in lake.query():
            with pytest.raises(VolumeError, match="ingest the dose"):
                series.dose()
            assert series.segmentations() == series.structures() == series.reports() == []


def key_objects(number: int, of_series: str, series: str = "1.2.8.1") -> bytes:
    """A key object selection whose evidence is one image of a series."""
    reference, of, study, title, content = (Dataset() for _ in range(5))
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = f"{of_series}.1"
    of.SeriesInstanceUID, of.ReferencedSOPSequence = of_series, Items([reference])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = of_series.rpartition(".")[0], Items([of])
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113000", "DCM", "Of Interest"
    content.RelationshipType, content.ValueType = "CONTAINS", "IMAGE"
    content.ReferencedSOPSequence = Items([reference])
    ds = objects.dataset(number, series=series, SOPClassUID=KeyObjectSelectionDocumentStorage, Modality="KO")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    del ds.PixelData
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence, ds.ContentSequence = Items([title]), Items([content])
    ds.CurrentRequestedProcedureEvidenceSequence = Items([study])
    return objects.as_bytes(ds)


def test_key_objects_are_reports_and_only_those_about_the_series_are_given(tmp_path: Path) -> None:
    """Both documents are in one series; each is about another CT."""
    one, other = f"{objects.ROOT}.1.1", f"{objects.ROOT}.1.2"
    documents = [key_objects(1, one), key_objects(2, other)]
    with lake_of(tmp_path, objects.dicom(1, series=one), objects.dicom(1, series=other), *documents) as lake:
        assert len(lake.query(Modality="KO")[0].open()) == 2
        for uid, number in ((one, 1), (other, 2)):
            (series,) = lake.query(SeriesInstanceUID=uid)
            (found,) = series.reports()
            assert isinstance(found, Report)
            assert found.title is not None
            assert found.title.value == "113000"
            assert found.sop_instance_uid == f"1.2.8.1.{number}"
        assert isinstance(lake.open("1.2.8.1.2"), Report)


# ---- what is no stack of frames ----------------------------------------------------------------------


def test_each_object_opens_as_what_it_is(chest: dicomlake.Lake) -> None:
    for modality, kind in (("SEG", Segmentation), ("RTSTRUCT", StructureSet), ("RTPLAN", Plan)):
        series = chest.query(Modality=modality)[0]
        assert isinstance(series.open(), kind)
        assert isinstance(chest.open(series.uid), kind)
        assert isinstance(chest.open(series.instances[0].sop_instance_uid), kind)
    assert isinstance(chest.open(chest.query(Modality="CT")[0].uid), xr.Dataset)


def without_pixels(sop_class: str, **others: Any) -> Dataset:
    ds = objects.dataset(SOPClassUID=sop_class, **others)
    ds.file_meta.MediaStorageSOPClassUID = sop_class
    del ds.PixelData
    return ds


@pytest.mark.parametrize(
    ("sop_class", "named"),
    [
        (MRSpectroscopyStorage, "MR Spectroscopy Storage holds spectra, which are no volume"),
        (RawDataStorage, "Raw Data Storage does not open yet"),
    ],
)
def test_what_opens_in_no_way_is_refused_by_name(sop_class: str, named: str, tmp_path: Path) -> None:
    ds = without_pixels(sop_class)
    with lake_of(tmp_path, objects.as_bytes(ds)) as lake:
        assert lake.volumes() == []
        for ask in (lake.query()[0].open, lambda: lake.open(ds.SOPInstanceUID)):
            with pytest.raises(DicomlakeError, match=rf"{named}: series.header\(\) .* lake.original\(\)"):
                ask()


def test_a_video_in_an_ultrasound_loop_opens_as_its_stream(tmp_path: Path) -> None:
    stream = bytes(4) + b"ftypmp42" + bytes(range(200))
    ds = objects.dataset(SOPClassUID=UltrasoundMultiFrameImageStorage, NumberOfFrames=30, Modality="US")
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.TransferSyntaxUID = ds.SOPClassUID, MPEG4HP41
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    with lake_of(tmp_path, objects.as_bytes(ds)) as lake:
        series = lake.query()[0]
        for found in (series.open(), lake.open(ds.SOPInstanceUID), lake.open(series.uid)):
            assert isinstance(found, Document)
            assert (found.data, found.mime) == (stream, "video/mp4")
        with pytest.raises(VolumeError, match="no built volume"):
            series.open(volume=0)


def test_several_documents_of_a_series_are_a_list(tmp_path: Path) -> None:
    made = []
    for number, content in ((1, b"%PDF-a"), (2, b"%PDF-b")):
        ds = without_pixels(EncapsulatedPDFStorage, Modality="DOC", EncapsulatedDocument=content)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.7.{number}"
        made.append(objects.as_bytes(ds))
    with lake_of(tmp_path, *made) as lake:
        assert sorted(one.data for one in lake.query()[0].open()) == [b"%PDF-a", b"%PDF-b"]
        assert lake.open("1.2.7.2").data == b"%PDF-b"


def test_an_unknown_uid_and_one_of_several_series_are_refused(chest: dicomlake.Lake) -> None:
    with pytest.raises(VolumeError, match="no series and no instance"):
        chest.open("1.2.3.4.5.6")
    with pytest.raises(VolumeError, match="names 5 series"):
        chest.open(chest.query(Modality="CT")[0].key.study_uid)


def test_a_slide_opens_from_the_lake_tile_by_tile(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "highdicom" / "sm_image_dots.dcm"
    ds = pydicom.dcmread(path)
    with lake_of(tmp_path, path.read_bytes()) as lake:
        assert ds.SOPClassUID == sop_classes.WHOLE_SLIDE
        tree = lake.query()[0].open()
        assert tree["level0"].image.shape[:2] == (ds.TotalPixelMatrixRows, ds.TotalPixelMatrixColumns)
        first = tree["level0"].image[: ds.Rows, : ds.Columns].values
        np.testing.assert_array_equal(
            first, ds.pixel_array[0] if ds.pixel_array.ndim == 4 else ds.pixel_array
        )


def test_simpleitk_agrees_on_what_a_strict_grid_gives(chest: dicomlake.Lake) -> None:
    image = chest.query(Modality="RTDOSE")[0].open(grid="strict").image
    path = next(i for i in chest.query(Modality="RTDOSE")[0].instances)
    theirs = sitk.ReadImage(str(chest.path / path.key))
    np.testing.assert_allclose(image.dicom.to_sitk().GetOrigin(), theirs.GetOrigin())
    np.testing.assert_allclose(image.dicom.to_sitk().GetSpacing(), theirs.GetSpacing())
    assert image.shape == theirs.GetSize()[::-1]


def test_no_repr_tells_who_it_is(tmp_path: Path) -> None:
    with lake_of(tmp_path, objects.dicom(1, PatientName="Quux^Zebedee", PatientID="ZZ-9981")) as lake:
        text = repr(lake.query()[0])
        assert "Quux" not in text
        assert "ZZ-9981" not in text
