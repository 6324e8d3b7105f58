"""Volumes whose voxels stay in their originals: the same API, the same voxels, and nothing wrong unseen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import xarray as xr
from typer.testing import CliRunner

import dicomlake
from dicomlake import datasets
from dicomlake.cli.app import app
from dicomlake.datasets.us_cine import us_cine_rgb
from dicomlake.errors import NotALake, VolumeError
from dicomlake.lake import Lake
from dicomlake.records import Instance, Volume
from dicomlake.settings import Settings
from dicomlake.storage import arrays
from dicomlake.storage.local import LocalStorage
from dicomlake.volumes import storing
from tests.objects import ROOT, as_bytes, dataset, series
from tests.volumes import stores

SLICES, SIZE = 6, 16


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        opened.ingest(series(SLICES), volumes=False, progress=False)
        yield opened


def build(lake: Lake, mode: Any = None, **how: Any) -> Volume:
    keys = [one.key for one in lake.query()]
    (volume,) = lake.build_volumes(keys, mode=mode, progress=False, **how)
    assert volume.built, volume.reason
    return volume


def bytes_of(lake: Lake, volume: Volume) -> int:
    return sum(p.stat().st_size for p in (lake.path / str(volume.key)).rglob("*") if p.is_file())


def original(lake: Lake, volume: Volume, place: int) -> Path:
    uid = str(lake.open_volume(volume).instance_uid.values[place])
    (found,) = [one for one in lake.instances(volume.series) if one.sop_instance_uid == uid]
    return lake.path / found.key


# ---- the same either way -----------------------------------------------------------------------------------


def test_both_modes_open_alike(lake: Lake) -> None:
    copy, kept = build(lake, "copy"), build(lake, "reference")
    assert (copy.info["stored"], kept.info["stored"]) == ("copy", "reference")
    assert (copy.verdict, copy.affine_lps, copy.reason) == (kept.verdict, kept.affine_lps, kept.reason)
    wanted = np.tile(np.arange(SIZE) + 100 * np.arange(1, SLICES + 1)[:, None, None], (1, SIZE, 1))
    for volume in (copy, kept):
        np.testing.assert_array_equal(lake.open_volume(volume).image.values, wanted)
    xr.testing.assert_identical(lake.open_volume(copy).compute(), lake.open_volume(kept).compute())
    image = lake.query()[0].open().image
    np.testing.assert_array_equal(image.dicom.hu().values, wanted - 1024)
    assert image.dicom.verify() == []
    assert not (lake.path / str(kept.key) / "scale0" / "image").exists()


def test_a_real_ct_is_the_same_voxel_by_voxel(tmp_path: Path, real_data: Path) -> None:
    def height(file: Path) -> float:
        return float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])

    chosen = sorted((real_data / "ct-chest-lidc").glob("*.dcm"), key=height)[:20]
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*chosen, volumes=False, progress=False)
        copy, kept = build(lake, "copy"), build(lake, "reference")
        one, other = lake.open_volume(copy), lake.open_volume(kept)
        xr.testing.assert_identical(one.compute(), other.compute())
        values = other.image.values
        for place in (0, 7, 19):
            np.testing.assert_array_equal(values[place], pydicom.dcmread(chosen[place]).pixel_array)
        assert bytes_of(lake, kept) * 50 < bytes_of(lake, copy)
        assert lake.verify(deep=True, progress=False).ok


@pytest.mark.parametrize("chunks", ["auto", None])
def test_parts_are_those_of_the_whole(lake: Lake, chunks: Any) -> None:
    image = lake.open_volume(build(lake, "reference"), chunks=chunks).image
    whole = lake.open_volume(build(lake, "copy")).image.values
    np.testing.assert_array_equal(image[::-2, 3].values, whole[::-2, 3])
    np.testing.assert_array_equal(image[1:4, 5:2:-1, 7].values, whole[1:4, 5:2:-1, 7])


# ---- which of the two --------------------------------------------------------------------------------------


def test_there_and_back_makes_new_versions_and_each_opens(lake: Lake) -> None:
    made = [build(lake, mode) for mode in ("copy", "reference", "copy")]
    assert [volume.version for volume in made] == [1, 2, 3]
    assert len({volume.plan_digest for volume in made}) == 2
    values = [lake.open_volume(volume).image.values for volume in made]
    np.testing.assert_array_equal(values, [values[0]] * 3)
    assert lake.verify(progress=False).ok


@pytest.mark.parametrize("mode", ["copy", "reference"])
def test_what_is_true_already_is_not_built_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    monkeypatch.setattr(arrays, "_LARGEST_LEVEL", 8)  # a copy has a halved one beside it
    first, second = build(lake, mode), build(lake, mode)
    assert asdict(first) == asdict(second)
    assert first.info["levels"] == (2 if mode == "copy" else 1)
    assert build(lake, mode, rebuild=True).version == 2


def test_pruning_deletes_references_and_no_original(lake: Lake) -> None:
    kept = build(lake, "reference")
    now = build(lake, "copy")
    (pruned,) = lake.prune().volumes
    assert pruned.key == kept.key
    assert lake.open_volume(now).image.shape == (SLICES, SIZE, SIZE)
    assert len(list(lake.path.rglob("originals/*.dcm"))) == SLICES
    assert lake.verify(progress=False).ok


def test_lake_toml_says_which(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        assert lake.settings.volumes == "copy"
    toml = tmp_path / "lake" / "lake.toml"
    assert 'volumes = "copy"' in toml.read_text()
    toml.write_text(toml.read_text().replace('volumes = "copy"', 'volumes = "reference"'))
    with dicomlake.open(tmp_path / "lake") as lake:
        lake.ingest(series(SLICES), progress=False)
        assert [volume.info["stored"] for volume in lake.volumes()] == ["reference"]
        assert build(lake, "copy").info["stored"] == "copy"


def test_settings_of_before_copy_and_nonsense_is_refused() -> None:
    assert Settings.parse("[lake]\nformat = 1\n").volumes == "copy"
    assert Settings.parse(Settings(created="now", volumes="reference").text()) == Settings(
        created="now", volumes="reference"
    )
    for wrong in ('"both"', "1", "[]"):
        with pytest.raises(NotALake, match="volumes"):
            Settings.parse(f"[lake]\nformat = 1\nvolumes = {wrong}\n")


def test_a_mode_that_does_not_exist_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="copy, reference"):
        build(lake, "virtual")


def test_the_command_line_chooses(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    with dicomlake.open(folder, create=True) as lake:
        lake.ingest(series(SLICES), volumes=False, progress=False)
    for flag, stored in (("--reference", "reference"), ("--copy", "copy")):
        result = CliRunner().invoke(
            app, ["volumes", "build", "--where", "Modality=CT", flag, "--lake", str(folder)]
        )
        assert result.exit_code == 0, result.output
        with dicomlake.open(folder) as lake:
            assert [volume.info["stored"] for volume in lake.volumes()] == [stored]


def test_compressed_originals_are_copied_all_the_same(tmp_path: Path) -> None:
    ds = dataset(1, series=f"{ROOT}.4.1")
    ds.compress(pydicom.uid.RLELossless)
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(as_bytes(ds), volumes=False, progress=False)
        assert build(lake, "reference").info["stored"] == "copy"


LOOPS = [
    # syntax, dims, frames, what is decided where a copy is wanted
    ("1.2.840.10008.1.2.4.50", ("frame", "y", "x", "rgb"), 4, "reference"),
    ("1.2.840.10008.1.2.4.91", ("frame", "y", "x", "rgb"), 4, "reference"),
    ("1.2.840.10008.1.2.4.81", ("frame", "y", "x", "rgb"), 4, "reference"),
    ("1.2.840.10008.1.2.4.70", ("frame", "y", "x", "rgb"), 4, "copy"),
    ("1.2.840.10008.1.2.4.50", ("frame", "y", "x", "rgb"), 1, "copy"),
    ("1.2.840.10008.1.2.4.50", ("frame", "y", "x"), 4, "copy"),
    ("1.2.840.10008.1.2.5", ("frame", "y", "x", "rgb"), 4, "copy"),
    ("1.2.840.10008.1.2.1", ("frame", "y", "x", "rgb"), 4, "copy"),
]


@pytest.mark.parametrize(("syntax", "dims", "frames", "wanted"), LOOPS)
def test_loops_in_colour_and_lossy_compression_stay_where_they_are(
    tmp_path: Path, syntax: str, dims: tuple[str, ...], frames: int, wanted: str
) -> None:
    storage = LocalStorage(tmp_path)
    values = stores.voxels((frames, 8, 8, 3) if "rgb" in dims else (frames, 8, 8), np.uint8)
    instance, first = stores.put(storage, 1, values if frames > 1 else values[0], frames=frames)
    storage.close()
    plan = stores.planned(stores.frames_of(first, frames), values.shape, dims, np.uint8)
    held = {instance.sop_instance_uid: Instance(**{**_fields(instance), "transfer_syntax": syntax})}
    assert storing.decided(plan, held, "copy").volume.info["stored"] == wanted


def _fields(instance: Instance) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in Instance.__dataclass_fields__}


def test_a_real_lossy_loop_opens_by_frame_and_takes_no_space(tmp_path: Path) -> None:
    file = next(path for path in datasets.pydicom_samples() if path.name == "examples_ybr_color.dcm")
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(file, progress=False)
        (volume,) = lake.volumes()
        assert volume.info["stored"] == "reference"
        image = lake.open_volume(volume).image
        wanted = pydicom.dcmread(file).pixel_array  # YBR_FULL_422, decoded to RGB by pydicom's plugin
        assert image.shape == wanted.shape == (30, 240, 320, 3)
        assert np.abs(image[[0, 17, 29]].values.astype(int) - wanted[[0, 17, 29]]).max() <= 2
        assert bytes_of(lake, volume) < 20_000
        assert lake.verify(deep=True, progress=False).ok


def test_a_loop_without_loss_is_copied(tmp_path: Path) -> None:
    source = datasets.make("us-cine", tmp_path / "us", slices=3)
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(source, progress=False)
        (volume,) = lake.volumes()
        assert volume.info["stored"] == "copy"
        truth = us_cine_rgb(range(3), range(240), range(320))
        np.testing.assert_array_equal(lake.open_volume(volume).image.values, truth)


# ---- what is lost or changed is an error -------------------------------------------------------------------


@pytest.mark.parametrize("chunks", ["auto", None])
def test_an_original_that_is_gone_is_named(lake: Lake, chunks: Any) -> None:
    volume = build(lake, "reference")
    path = original(lake, volume, 2)
    path.unlink()
    image = lake.open_volume(volume, chunks=chunks).image
    with pytest.raises(VolumeError, match=rf"{path.stem} cannot be had.*ingest it again"):
        image.values  # noqa: B018
    assert image[1, 3, 4].values == 204
    assert [(f.kind, path.stem in f.scope) for f in lake.verify(progress=False).findings] == [
        ("original_damaged", True)
    ]
    kinds = {found.kind for found in lake.verify(deep=True, progress=False).findings}
    assert kinds == {"original_damaged", "volume_differs"}


@pytest.mark.parametrize("chunks", ["auto", None])
@pytest.mark.parametrize("key", [(2,), (slice(None), 3), (2, 0, 0)])
def test_a_single_changed_bit_is_seen_wherever_it_is(lake: Lake, chunks: Any, key: Any) -> None:
    """Also in a row that was not asked for: a plane is compared with its hash before a part of it is used."""
    volume = build(lake, "reference")
    path = original(lake, volume, 2)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    image = lake.open_volume(volume, chunks=chunks).image
    with pytest.raises(VolumeError, match=rf"{path.stem} is not what the volume was made from"):
        image[key].values  # noqa: B018
    assert image.dicom.verify() == [2]
    assert {found.kind for found in lake.verify(progress=False).findings} == {"original_damaged"}


def test_a_cut_off_original_is_named(lake: Lake) -> None:
    volume = build(lake, "reference")
    path = original(lake, volume, 4)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VolumeError, match=rf"{path.stem} is cut off"):
        lake.open_volume(volume).image.values  # noqa: B018
    assert not lake.verify(progress=False).ok


def test_a_frame_that_must_be_decoded_is_compared_too(tmp_path: Path) -> None:
    """Bits above BitsStored keep a frame from being read in place."""
    pixels = (np.arange(SIZE * SIZE, dtype=np.uint16) | 0x3000).tobytes()
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(3, BitsStored=12, HighBit=11, PixelData=pixels), volumes=False, progress=False)
        volume = build(lake, "reference")
        assert volume.info["stored"] == "reference"
        wanted = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
        np.testing.assert_array_equal(lake.open_volume(volume).image.values, [wanted] * 3)
        path = original(lake, volume, 1)
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
        with pytest.raises(VolumeError, match=rf"{path.stem} is not what"):
            lake.open_volume(volume).image.values  # noqa: B018
