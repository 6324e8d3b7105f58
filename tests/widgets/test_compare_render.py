"""Volumes for 3D: NIfTI in memory with the right geometry, small enough, and a clear refusal."""

from __future__ import annotations

import sys

import nibabel
import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import DicomlakeError, GeometryError
from dicomlake.widgets.compare.render import nifti_bytes, render3d
from tests.widgets.test_compare_linked import position, volume


def placed(shape: tuple[int, int, int]) -> xr.DataArray:
    """Values that are the position along x, y and z: 1000 x + y + z / 1000, LPS."""
    image = volume(shape, (3.0, 1.0, 1.5), (-20.0, 10.0, -33.0))
    matrix = np.array(image.attrs["affine_lps"])
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(grid @ matrix[:3, :3].T + matrix[:3, 3], -1, 0)
    return image.copy(data=(10 * x + y + z / 10).astype(np.float32))


@pytest.mark.parametrize("max_mb", [20.0, 0.02])
def test_every_voxel_lies_where_its_value_says(max_mb: float) -> None:
    image = placed((16, 32, 24))
    data = nifti_bytes(image, max_mb=max_mb)
    read = nibabel.Nifti1Image.from_bytes(data)
    assert len(data) <= max_mb * 1e6 + 352
    assert (read.shape == (24, 32, 16)) == (max_mb == 20.0)
    for index in [(0, 0, 0), (1, 2, 3), tuple(n - 2 for n in read.shape)]:
        x, y, z = (read.affine @ [*index, 1])[:3] * [-1, -1, 1]  # RAS to LPS
        assert read.get_fdata()[index] == pytest.approx(10 * x + y + z / 10, abs=1e-3)


def test_labels_are_taken_not_averaged() -> None:
    image = volume((16, 32, 24), (3.0, 1.0, 1.5))
    labels = image.copy(data=np.where(np.arange(24) < 12, 0, 7) * np.ones(image.shape, dtype=np.uint8))
    read = nibabel.Nifti1Image.from_bytes(nifti_bytes(labels.astype(np.uint8), max_mb=0.002, labels=True))
    assert set(np.unique(np.asarray(read.dataobj))) == {0, 7}
    np.testing.assert_allclose(read.affine[:3, 3] * [-1, -1, 1], position(image, [0, 0, 0]))


def test_rescaled_values_are_handed_over() -> None:
    image = volume((4, 4, 4))
    image.attrs |= {"source": "stored", "rescale_slope": 2.0, "rescale_intercept": -1024.0}
    read = nibabel.Nifti1Image.from_bytes(nifti_bytes(image))
    assert read.get_fdata()[1, 0, 0] == 1 * 2.0 - 1024.0


def test_an_image_without_geometry_is_refused() -> None:
    with pytest.raises(GeometryError, match="no geometry"):
        nifti_bytes(xr.DataArray(np.zeros((4, 4, 4)), dims=("z", "y", "x")))


def test_without_ipyniivue_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(DicomlakeError, match=r"pip install 'dicomlake\[render\]'"):
        render3d(volume())


def test_image_and_overlays_are_loaded_into_niivue() -> None:
    pytest.importorskip("ipyniivue")
    image = volume((8, 16, 16))
    scene = render3d(image, {"lesion": np.ones(image.shape, dtype=bool)}, window=(40, 400))
    first, mask = scene.volumes
    assert (first.cal_min, first.cal_max) == (-160, 240)
    assert nibabel.Nifti1Image.from_bytes(bytes(mask.data)).shape == (16, 16, 8)
    with pytest.raises(GeometryError, match=r"image's shape \(8, 16, 16\)"):
        render3d(image, [np.ones((2, 2, 2))])
