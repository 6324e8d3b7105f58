"""The invented trial is what its plan says, as other programs read it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicomlake import datasets
from dicomlake.datasets import trial

PATIENTS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trial")
    trial.write(made, patients=PATIENTS)
    return made


@pytest.fixture(scope="module")
def objects(folder: Path) -> dict[str, list[Dataset]]:
    """By SeriesInstanceUID."""
    found: dict[str, list[Dataset]] = defaultdict(list)
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        found[str(ds.SeriesInstanceUID)].append(ds)
    return found


def test_it_is_the_same_each_time_and_another_with_another_seed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    trial.write(tmp_path / "again", patients=PATIENTS)
    assert datasets.digest(tmp_path / "again") == datasets.digest(folder)
    (tmp_path / "other").mkdir()
    trial.write(tmp_path / "other", patients=PATIENTS, seed=1)
    uids = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in folder.glob("*.dcm")}
    others = {
        pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in (tmp_path / "other").glob("*.dcm")
    }
    assert uids & others == set()


def test_each_ct_shows_a_sphere_of_the_radius_that_is_told(objects: dict[str, list[Dataset]]) -> None:
    """The lesion is the only thing of its density within the lung, counted from the pixels alone."""
    for made in trial.made_of(PATIENTS):
        slices = sorted(objects[made.series_uid], key=lambda ds: float(ds.ImagePositionPatient[2]))
        assert {ds.PatientID for ds in slices} == {made.patient_id}
        assert {ds.StudyDate for ds in slices} == {made.study_date}
        hu = np.stack([ds.pixel_array.astype(int) - 1024 for ds in slices])
        first = np.array(slices[0].ImagePositionPatient, dtype=float)
        step = float(slices[1].ImagePositionPatient[2]) - first[2]
        z, y, x = np.meshgrid(*map(np.arange, hu.shape), indexing="ij")
        place = np.stack([first[0] + 5 * x, first[1] + 5 * y, first[2] + step * z])
        away = np.linalg.norm(place - np.array(made.centre_mm)[:, None, None, None], axis=0)
        inside = away <= made.radius_mm
        assert abs(hu[inside].mean() - trial.LESION_HU) < 5
        around = (away > made.radius_mm) & (away < made.radius_mm + 6) & (hu < -500)
        assert around.sum() > inside.sum() / 10  # it lies in the lung


def test_the_segmentation_is_the_sphere_as_highdicom_reads_it(objects: dict[str, list[Dataset]]) -> None:
    import highdicom

    by_ct = {
        str(one[0].ReferencedSeriesSequence[0].SeriesInstanceUID): one[0]
        for one in objects.values()
        if one[0].Modality == "SEG"
    }
    for made in trial.made_of(PATIENTS):
        seg = highdicom.seg.Segmentation.from_dataset(by_ct[made.series_uid])
        voxels = int(seg.get_volume(combine_segments=True).array.astype(bool).sum())
        thickness = float(objects[made.series_uid][0].SliceThickness)
        volume = voxels * 25 * thickness
        assert volume == pytest.approx(4 / 3 * np.pi * made.radius_mm**3, rel=0.35, abs=250)
        assert len(seg.segment_numbers) == 1


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dsrdump of DCMTK")
def test_the_reports_are_read_by_another_program(folder: Path) -> None:
    reports = sorted(folder.glob("*-SR.dcm"))
    assert len(reports) == len(trial.made_of(PATIENTS))
    for path in reports:
        done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=True)
        assert "lesion of" in done.stdout
        assert "E: " not in done.stderr


def test_a_pet_follows_most_cts_within_fifty_days(objects: dict[str, list[Dataset]]) -> None:
    studies = {(ds[0].PatientID, ds[0].StudyDate) for ds in objects.values() if ds[0].Modality == "PT"}
    assert studies == {(made.patient_id, made.pet_date) for made in trial.made_of(PATIENTS) if made.pet_date}
    every = trial.made_of()
    assert 0.6 < sum(made.pet_date is not None for made in every) / len(every) < 1


def test_the_clinical_table_names_every_patient_once(folder: Path) -> None:
    with (folder / trial.CLINICAL).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["PatientID"] for row in rows] == sorted({made.patient_id for made in trial.made_of(PATIENTS)})
    assert {row["arm"] for row in rows} == {"A", "B"}
