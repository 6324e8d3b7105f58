"""Features of the regions of a lake: the chest phantom by its formulas, a real segmentation by counting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

import dicomlake as dl
from dicomlake import datasets
from dicomlake.cohorts.regions.features import features
from dicomlake.datasets import chest_rt

SLICES = 24


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dl.Lake]:
    folder = tmp_path_factory.mktemp("chest")
    for name in ("chest-ct", "chest-rt"):
        datasets.make(name, folder / name, slices=SLICES)
    with dl.open(folder / "lake", create=True) as lake:
        lake.ingest(folder / "chest-ct", folder / "chest-rt", progress=False)
        yield lake


def test_a_segment_has_the_voxels_and_the_intensities_of_the_phantom(chest: dl.Lake) -> None:
    found = features(chest.query(Modality="CT"), of="seg", progress=False)
    assert found.error.isna().all()
    truth = np.stack([chest_rt.segment_maps(z, SLICES) for z in range(SLICES)], axis=1)
    stored = datasets.truth("chest-ct", slices=SLICES)
    (image,) = (one.open().image.dicom.hu().values for one in chest.query(Modality="CT"))
    voxel_mm3 = float(np.prod(stored.spacing_mm))
    assert len(found) == len(truth)
    for row, mask in zip(found.to_dict("records"), truth, strict=True):
        assert row["voxels"] == mask.sum() > 0
        assert row["volume_voxel_counting"] == pytest.approx(mask.sum() * voxel_mm3)
        assert row["mean_intensity"] == pytest.approx(image[mask].mean())
        assert row["maximum_intensity"] == image[mask].max()
        assert row["units"] == "HU"


def test_a_contoured_region_has_its_features_too(chest: dl.Lake) -> None:
    series = chest.query(Modality="CT")
    found = features(series, of="rtstruct", kinds=("first_order",), labels=[1, 2], progress=False)
    assert list(found.number) == [1, 2]
    assert set(found.source) == {"rtstruct"}
    (one,) = series
    (structures,) = one.structures()
    for row in found.to_dict("records"):
        mask = structures.mask(row["number"], one.open().image.dicom.grid).values
        assert row["voxels"] == mask.sum()
        assert row["median_intensity"] == np.median(one.open().image.dicom.hu().values[mask])


def test_masks_can_be_given_and_made(chest: dl.Lake) -> None:
    series = chest.query(Modality="CT")

    def air(one: dl.series.Series, image: object) -> dict[str, object]:
        values = image.values  # type: ignore[attr-defined]
        return {
            "air": values < -900,
            "wrong": np.zeros((1, 1, 1), bool),
            "none": np.zeros(values.shape, bool),
        }

    made = features(series, of=air, kinds=("first_order",), units="hu", progress=False)
    assert list(made.label) == ["air", "wrong", "none"]
    assert made.maximum_intensity[0] < -900
    assert list(made.error.fillna("")) == ["", "GeometryError", "GeometryError"]
    mask = {
        uid: {"air": np.ones(datasets.truth("chest-ct", slices=SLICES).shape, bool)} for uid in _uids(series)
    }
    whole = features(series, of=mask, kinds=("histogram", "peak"), bins=16, progress=False)
    assert whole.maximum_discretised_intensity[0] == 16
    assert whole.global_intensity_peak[0] >= whole.local_intensity_peak[0]


def _uids(series: object) -> list[str]:
    return [one.uid for one in series]  # type: ignore[attr-defined]


def test_a_series_without_regions_is_a_row_that_says_so(chest: dl.Lake) -> None:
    found = features(chest.query(Modality=["CT", "RTDOSE"]), of="seg", kinds=("first_order",), progress=False)
    (failed,) = found[found.error.notna()].to_dict("records")
    assert failed["error"] == "VolumeError"
    assert "no segmentation refers" in failed["message"]
    assert not any(name in failed["message"] for name in ("Phantom", "CHEST"))


def test_units_that_cannot_be_had_are_a_row_that_says_so(chest: dl.Lake) -> None:
    found = features(chest.query(Modality="CT"), of="seg", units="suv", progress=False)
    assert list(found.error) == ["QuantityError"]


@pytest.mark.parametrize(
    "wrong", [{"of": "xyz"}, {"kinds": ("texture",)}, {"kinds": ("histogram",)}, {"units": "miles"}]
)
def test_what_is_not_known_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"of is|kinds|bins|units"):
        features([], **wrong)  # type: ignore[arg-type]
    assert list(features([], kinds=("first_order",), progress=False).error) == []


def test_a_real_segmentation_has_the_counts_and_values_of_its_frames(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "dcmqi/segmentations"
    seg, images = folder / "liver.dcm", sorted((folder / "ct-3slice").glob("*.dcm"))
    with dl.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(seg, *images, progress=False)
        found = features(lake.query(Modality="CT"), of="seg", progress=False)
    assert found.error.isna().all()
    frames = pydicom.dcmread(seg)
    assert found.voxels.sum() == frames.pixel_array.sum()
    slices = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, images)}
    values = []
    for frame, item in zip(frames.pixel_array, frames.PerFrameFunctionalGroupsSequence, strict=True):
        source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        ds = slices[source]
        values.append((ds.pixel_array * ds.RescaleSlope + ds.RescaleIntercept)[frame > 0])
    assert found.mean_intensity[0] == pytest.approx(np.concatenate(values).mean())
