"""What is viewed as what, and what is said when nothing can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr

import dicomlake as dl
from dicomlake.datasets import trial
from dicomlake.errors import DicomlakeError, VolumeError
from dicomlake.lake import Lake
from dicomlake.widgets.browser.tagviewer import TagViewer
from dicomlake.widgets.compare.registration import register


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("showing")
    sets = [dl.datasets.make(name, folder / name, slices=12) for name in ("chest-ct", "chest-rt")]
    pet = dl.datasets.make("dynamic-pet", folder / "dynamic-pet", slices=8)
    with dl.open(folder / "lake", create=True) as opened:
        opened.ingest(*sets, pet, progress=False)
        yield opened


@pytest.fixture
def ct(lake: Lake) -> Any:
    return lake.query(Modality="CT")[0]


@pytest.mark.parametrize(
    ("modality", "kind"), [("SEG", "labels"), ("RTSTRUCT", "contours"), ("RTDOSE", "isodose")]
)
def test_what_is_drawn_on_images_is_shown_over_them(lake: Lake, ct: Any, modality: str, kind: str) -> None:
    viewer = lake.query(Modality=modality)[0].view()
    assert viewer.subject.uid == ct.uid
    assert [one["kind"] for one in viewer.overlays] == [kind]


def test_what_refers_to_a_series_is_laid_over_when_asked(ct: Any) -> None:
    assert [one["kind"] for one in ct.view(overlays=True).overlays] == ["labels", "contours", "isodose"]
    assert ct.view().overlays == []


def test_a_second_image_is_blended_in_the_units_that_its_own_viewer_shows(lake: Lake, ct: Any) -> None:
    pet = lake.query(Modality="PT")[0].open().image.isel(time=0)
    shown = dl.view(pet)
    assert shown.stack["units"] == "SUV"
    viewer = ct.view()
    viewer.add(pet, anyway=True)
    (state,) = viewer.overlays
    assert state["units"] == "SUV"
    suv = pet.dicom.suv("bw")
    assert state["range"][1] <= float(suv.max()) * 1.001
    assert state["range"][1] > 0.01 * float(suv.max())


def test_a_volume_that_there_is_not_is_named(ct: Any) -> None:
    with pytest.raises(VolumeError, match=r"has no volume 5: see series.volumes"):
        ct.view(volume=5)


def test_a_name_that_is_no_trait_is_refused_with_what_is_near(ct: Any) -> None:
    with pytest.raises(TypeError, match="no 'windows': perhaps window"):
        ct.view(windows=(40, 400))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (np.zeros((3, 4, 5)), "xarray.DataArray"),
        ([1, 2], "one by one"),
        (5, "a DataArray, a Dataset or a series"),
    ],
)
def test_what_holds_no_image_is_told_the_way(what: Any, said: str) -> None:
    with pytest.raises(VolumeError, match=said):
        dl.view(what)


def test_an_array_has_nothing_to_lay_over_it() -> None:
    array = xr.DataArray(np.zeros((3, 4, 5), np.int16), dims=("z", "y", "x"))
    with pytest.raises(VolumeError, match=r"viewer.add"):
        dl.view(array, overlays=True)


def test_images_and_titles_must_be_as_many(ct: Any) -> None:
    with pytest.raises(DicomlakeError, match="1 titles for 2 images"):
        dl.compare(ct, ct, titles=["one"])


def test_series_are_registered_and_what_fits_stays_as_it_is(ct: Any) -> None:
    found = register(ct, ct)
    assert np.array_equal(found.transform_mm, np.eye(4))
    assert not found.moved


def test_each_lone_mask_has_its_name_and_a_colour_of_its_own(ct: Any) -> None:
    viewer = ct.view()
    mask = np.zeros(viewer.stack_source.shape, bool)
    mask[2:4, 10:20, 10:20] = True
    viewer.add(mask, name="Lesion")
    viewer.add(mask, name="Node")
    labels = [one["labels"][0] for one in viewer.overlays]
    assert [one["name"] for one in labels] == ["Lesion", "Node"]
    assert labels[0]["color"] != labels[1]["color"]


def test_a_notebook_does_not_print_the_bytes_of_what_is_written(ct: Any) -> None:
    viewer = ct.view()
    viewer.add_mark("rectangle", [[100, 100], [120, 130]], plane="axial", index=5)
    report = viewer.to_sr()
    assert isinstance(report, bytes)
    assert report[128:132] == b"DICM"
    assert repr(report) == f"<DICOM SR, {len(report):,} bytes>"
    assert repr(viewer.screenshot()).startswith("<PNG, ")


@pytest.mark.parametrize("how", [{"segment": "Nope"}, {"words": {"zebra": ["zebra"]}}, {"label": "nope"}])
def test_a_quiz_without_any_truth_is_refused(ct: Any, lake: Lake, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="check the name"):
        lake.query(SeriesInstanceUID=ct.uid).quiz(**how)


def test_a_header_of_nothing_is_refused(tmp_path: Any) -> None:
    with pytest.raises(DicomlakeError, match="check the path"):
        TagViewer(tmp_path / "none")
    with pytest.raises(DicomlakeError, match="a int has no header"):
        TagViewer(5)  # type: ignore[arg-type]


def test_the_prior_of_a_series_is_of_the_same_patient_and_earlier(tmp_path: Any) -> None:
    trial.write(tmp_path / "trial", patients=3)
    with dl.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(tmp_path / "trial", volumes=False, progress=False)
        found = [(one, one.prior()) for one in lake.query(Modality="CT")]
        with_prior = [(one, prior) for one, prior in found if prior is not None]
        assert with_prior
        for one, prior in with_prior:
            assert prior.facts["PatientID"] == one.facts["PatientID"]
            assert prior.facts["StudyDate"] < one.facts["StudyDate"]
            assert prior.facts["Modality"] == "CT"
        firsts = lake.query(Modality="CT").per_patient("first")
        assert [one.prior() for one in firsts] == [None] * len(firsts)
