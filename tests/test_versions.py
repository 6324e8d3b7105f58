"""Versions of volumes: what changed is built anew beside the former store, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dicomlake
from dicomlake.errors import VolumeError
from dicomlake.lake import Lake
from dicomlake.records import SeriesKey, Volume
from dicomlake.storage import layout
from tests.objects import ROOT, dicom, series
from tests.support import PROJECT

KEY = SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1")
ELSEWHERE = {"FrameOfReferenceUID": f"{ROOT}.1.1.77"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lake with one series of four slices, built."""
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(4))
    return tmp_path / "lake"


def the_volume(lake: Lake) -> Volume:
    (volume,) = lake.series_volumes(KEY)
    return volume


def stores(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("studies/*/*/volumes/*"))


def inodes(folder: Path, volume: Volume) -> set[int]:
    return {path.stat().st_ino for path in (folder / str(volume.key)).rglob("*")}


def first_column(dataset: object) -> list[int]:
    """The value of the first voxel of each slice: 100 times the number of the object it is from."""
    return [int(value) for value in np.asarray(dataset.image[:, 0, 0])]  # type: ignore[attr-defined]  # xarray


# ---- late slices -----------------------------------------------------------------------------------------


def test_late_slices_make_a_new_version_of_their_volume_only(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        lake.ingest([dicom(number, **ELSEWHERE) for number in (11, 12)])
        still, other = lake.series_volumes(KEY)
        files = inodes(folder, still)
        lake.ingest(dicom(13, **ELSEWHERE))
        kept, changed = lake.series_volumes(KEY)
        assert kept == still
        assert inodes(folder, kept) == files
        assert (other.version, changed.version) == (1, 2)
        assert changed.key == layout.volume_key(*KEY, 1, 2)
        assert changed.plan_digest != other.plan_digest
        assert first_column(lake.open_volume(changed)) == [1100, 1200, 1300]
        assert stores(folder) == ["0.zarr", "1.zarr", "1~2.zarr"]
        assert lake.verify(deep=True).ok


def test_what_is_open_goes_on_reading_what_it_opened(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        (one,) = lake.query()
        eager, lazy = one.open(), one.open(chunks=None)
        lake.ingest(dicom(5))
        lake.rebuild(volumes_only=True)
        assert first_column(lake.query()[0].open()) == [100, 200, 300, 400, 500]
        assert first_column(eager) == first_column(lazy) == [100, 200, 300, 400]


def test_a_former_version_is_listed_and_opens_as_what_it_was(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        before = the_volume(lake)
        assert lake.volume_versions(KEY) == []
        lake.ingest(dicom(5))
        lake.ingest(dicom(6))
        newest, oldest = lake.volume_versions(KEY)
        assert oldest == before
        assert [newest.version, the_volume(lake).version] == [2, 3]
        assert [len(first_column(lake.open_volume(one))) for one in (oldest, newest)] == [4, 5]
        assert lake.volume_versions(SeriesKey("1", "2")) == []


def test_a_volume_that_is_no_more_stays_readable_too(folder: Path) -> None:
    """A slice that closes a gap between two acquisitions makes one volume of two, or the other way round."""
    with dicomlake.open(folder) as lake:
        lake.ingest([dicom(number, **ELSEWHERE) for number in (11, 12)])
        _first, second = lake.series_volumes(KEY)
        with lake._catalog.change("test") as (connection, v):
            from dicomlake.catalog import writer

            writer.set_volumes(connection, v, KEY, lake.series_volumes(KEY)[:1])
        assert lake.volume_versions(KEY) == [second]
        assert first_column(lake.open_volume(second)) == [1100, 1200]
        assert lake.verify().ok
        lake.build_volumes([KEY])
        assert [v.version for v in lake.series_volumes(KEY)] == [1, 2]


def test_what_is_still_true_is_not_built_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dicomlake.volumes import builder

    with dicomlake.open(folder) as lake:
        before = the_volume(lake)
        monkeypatch.setattr(builder, "build", None)  # calling it would fail
        assert lake.build_volumes([KEY]) == [before]
        assert lake.findings() == []
        assert lake.build_volumes() == []


def test_a_damaged_store_is_built_again_and_deleted(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        before = the_volume(lake)
        (folder / str(before.key) / "scale0/image/zarr.json").write_text("{}")
        (built,) = lake.build_volumes([KEY])
        assert (built.version, built.plan_digest) == (2, before.plan_digest)
        assert stores(folder) == ["0~2.zarr"]
        assert lake.volume_versions(KEY) == []
        assert lake.verify().ok


def test_a_rebuild_keeps_whole_former_stores_and_deletes_damaged_ones(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        lake.ingest(series(3, f"{ROOT}.2.1"))
        damaged = folder / str(lake.volumes()[1].key) / "zarr.json"
        damaged.write_bytes(damaged.read_bytes() + b" ")
        report = lake.rebuild(volumes_only=True)
        assert [volume.version for volume in report.volumes] == [2, 2]
        assert stores(folder) == ["0.zarr", "0~2.zarr", "0~2.zarr"]
        assert not damaged.exists()
        assert lake.verify().ok


def test_a_rebuild_from_the_originals_leaves_no_store_that_nobody_lists(folder: Path) -> None:
    for path in folder.glob("catalog.*"):
        path.unlink()
    dicomlake.rebuild(folder)
    with dicomlake.open(folder) as lake:
        assert the_volume(lake).version == 2  # what somebody may have open was not overwritten
        assert stores(folder) == ["0~2.zarr"]
        assert lake.verify().ok


def test_instances_that_come_while_a_series_is_built_are_not_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicomlake.volumes import builder

    really = builder.build
    with dicomlake.open(folder) as lake, dicomlake.open(folder) as other:

        def build(*given: object) -> Volume:
            monkeypatch.setattr(builder, "build", really)
            other.ingest(dicom(6), volumes=False)
            return really(*given)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr(builder, "build", build)
        before = the_volume(lake)
        assert lake.ingest(dicom(5)).volumes == ()
        assert the_volume(lake) == before
        assert stores(folder) == ["0.zarr"]
        assert [v.shape[0] for v in lake.build_volumes()] == [6]
        assert lake.verify().ok


# ---- the digest --------------------------------------------------------------------------------------------


def test_a_digest_covers_all_that_a_store_is_made_from(folder: Path) -> None:
    from dataclasses import replace

    from dicomlake.volumes import manifest, versions
    from dicomlake.volumes.plan import plan

    with dicomlake.open(folder) as lake:
        (one,) = plan(KEY, lake.headers(lake.query()[0].id))
        held = {instance.sop_instance_uid: instance for instance in lake.instances(KEY)}
    volume, frames = one.volume, one.frames
    digest = versions.plan_digest(one, held)
    assert digest == versions.plan_digest(replace(one, frames=tuple(frames)), dict(reversed(held.items())))
    assert versions.plan_digest(one, held) == digest
    first = frames[0].sop_instance_uid
    other_bytes = held | {first: replace(held[first], sha256="0" * 64)}
    changed = [
        versions.plan_digest(one, other_bytes),
        *(
            versions.plan_digest(replace(one, frames=given), held)
            for given in (
                frames[::-1],
                frames[1:],
                (replace(frames[0], frame_index=1), *frames[1:]),
                (replace(frames[0], tile=(0, 0, 8, 8)), *frames[1:]),
            )
        ),
        *(
            versions.plan_digest(replace(one, volume=replace(volume, **given)), held)
            for given in (
                {"number": 1},
                {"dims": ("frame", "y", "x")},
                {"shape": (4, 16, 17)},
                {"dtype": "i2"},
                {"verdict": "irregular"},
                {"affine_lps": None},
                {"spacing_mm": None},
                {"info": volume.info | {"units": "BQML"}},
                {"info": volume.info | {"coords": {"time": {"dims": ["z"], "values": [1, 2, 3, 4]}}}},
            )
        ),
    ]
    assert len({digest, *changed}) == 1 + len(changed)
    around = replace(volume, info=volume.info | {"duplicates": ["1.2.3"], "split_by": "b"})
    assert versions.plan_digest(replace(one, volume=around), held) == digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
        assert versions.plan_digest(one, held) != digest


def test_a_kept_volume_says_what_the_plan_says_about_the_rest_of_the_series() -> None:
    from dicomlake.volumes.versions import kept

    facts = {"units": "HU", "duplicates": ["1.2"], "split_by": "echo"}
    former = Volume(
        KEY, 0, "regular", ("z", "y", "x"), (1, 1, 1), "u2", None, None, key="k", info=facts | {"d": 1}
    )
    planned = Volume(KEY, 0, "regular", ("z", "y", "x"), (1, 1, 1), "u2", None, None, info={"units": "HU"})
    assert kept(former, planned).info == {"units": "HU", "d": 1}
    assert kept(former, planned).key == "k"


# ---- pruning -----------------------------------------------------------------------------------------------


def test_pruning_deletes_former_stores_and_nothing_else(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        for number in (5, 6, 7):
            lake.ingest(dicom(number))
        former = lake.volume_versions(KEY)
        told = lake.prune(dry_run=True)
        assert (list(told.volumes), told.dry_run) == (former, True)
        assert told.bytes == sum(
            p.stat().st_size for p in folder.glob("studies/*/*/volumes/*[0-3].zarr/**/*") if p.is_file()
        )
        assert len(stores(folder)) == 4
        assert [volume.version for volume in lake.prune(keep=2).volumes] == [1]
        assert lake.prune(older_than_days=1).volumes == ()
        assert [volume.version for volume in lake.prune(older_than_days=0).volumes] == [3, 2]
        assert stores(folder) == ["0~4.zarr"]
        assert lake.volume_versions(KEY) == []
        with pytest.raises(VolumeError, match="rebuild"):
            np.asarray(lake.open_volume(former[0], chunks=None).image)
        assert lake.prune().volumes == ()
        assert len(first_column(lake.query()[0].open())) == 7
        assert lake.verify().ok
        with pytest.raises(ValueError, match="keep counts"):
            lake.prune(keep=-1)


def test_a_version_number_is_not_used_twice_although_its_store_was_pruned(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        lake.ingest(dicom(5))
        lake.prune()
        lake.ingest(dicom(6))
        assert the_volume(lake).version == 3
        assert lake.prune(keep=1).volumes == ()


def test_a_damaged_former_store_is_told_with_its_remedy(folder: Path) -> None:
    with dicomlake.open(folder) as lake:
        lake.ingest(dicom(5))
        (former,) = lake.volume_versions(KEY)
        path = folder / str(former.key) / "scale0/zarr.json"
        path.write_bytes(path.read_bytes() + b" ")
        (finding,) = lake.verify().findings
        assert (finding.kind, finding.scope) == ("volume_damaged", former.key)
        assert "volumes prune" in finding.message
        lake.prune()
        assert lake.verify().ok


# ---- crashes -----------------------------------------------------------------------------------------------

CRASH = """
import os, sys
import dicomlake
from dicomlake.catalog import writer
writer.set_volumes = lambda *given: os._exit(9)
with dicomlake.open(sys.argv[1]) as lake:
    lake.ingest(*sys.argv[2:])
"""


@pytest.fixture
def crashed(folder: Path, tmp_path: Path) -> Path:
    """A lake whose builder ended after it had published version 2, before it could enter it."""
    (tmp_path / "IM5").write_bytes(dicom(5))
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", CRASH, folder, tmp_path / "IM5"], env=environment)
    assert done.returncode == 9
    assert stores(folder) == ["0.zarr", "0~2.zarr"]
    return folder


def test_a_store_that_a_crash_left_is_told_and_pruned(crashed: Path) -> None:
    with dicomlake.open(crashed) as lake:
        assert the_volume(lake).version == 1
        (finding,) = lake.verify().findings
        assert (finding.kind, finding.scope) == ("uncatalogued", layout.volume_key(*KEY, 0, 2))
        assert "volumes prune" in finding.message
        with lake._catalog.database.building(layout.volumes_prefix(*KEY)):  # somebody may have just made it
            assert lake.verify().ok
            assert lake.prune().leftovers == ()
        assert lake.prune(dry_run=True).leftovers == (finding.scope,)
        assert lake.prune().leftovers == (finding.scope,)
        assert stores(crashed) == ["0.zarr"]
        assert lake.verify().ok


def test_the_next_build_does_not_meet_the_store_that_a_crash_left(crashed: Path) -> None:
    with dicomlake.open(crashed) as lake:
        (built,) = lake.build_volumes()
        assert built.version == 3
        assert stores(crashed) == ["0.zarr", "0~3.zarr"]
        assert lake.verify(deep=True).ok


def test_a_crash_while_a_store_is_written_leaves_nothing_listed(folder: Path, tmp_path: Path) -> None:
    script = CRASH.replace("from dicomlake.catalog import writer", "from dicomlake.volumes import build")
    script = script.replace("writer.set_volumes", "build.store_sha256")
    (tmp_path / "IM5").write_bytes(dicom(5))
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    assert (
        subprocess.run([sys.executable, "-c", script, folder, tmp_path / "IM5"], env=environment).returncode
        == 9
    )
    with dicomlake.open(folder) as lake:
        assert stores(folder) == ["0.zarr"]
        assert lake.verify().ok
        assert [v.version for v in lake.build_volumes()] == [2]


# ---- two builders ------------------------------------------------------------------------------------------


def test_two_builders_of_one_series_make_it_once(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as one, dicomlake.open(tmp_path / "lake") as other:
        one.ingest(series(30), volumes=False)
        threads = [threading.Thread(target=lake.build_volumes, args=([KEY],)) for lake in (one, other, one)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [volume.version for volume in one.volumes()] == [1]
        assert one.volume_versions(KEY) == []
        assert one.verify(deep=True).ok
    assert list((tmp_path / "lake").glob("*building*")) == []


def test_the_lock_of_a_series_has_one_holder_at_a_time(tmp_path: Path) -> None:
    """Also while holders remove the lock file that others wait for."""
    dicomlake.open(tmp_path / "lake", create=True).close()
    inside, met, rounds = 0, [], 60

    def enter_and_leave(lake: Lake) -> None:
        nonlocal inside
        for _ in range(rounds):
            with lake._catalog.database.building("a series"):
                inside += 1
                met.append(inside)
                time.sleep(0.0005)  # let others try
                inside -= 1

    with dicomlake.open(tmp_path / "lake") as one, dicomlake.open(tmp_path / "lake") as other:
        threads = [threading.Thread(target=enter_and_leave, args=(lake,)) for lake in (one, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one._catalog.database.building("a series"):
            with other._catalog.database.building("a series", wait=False) as held:
                assert not held
            with other._catalog.database.building("another", wait=False) as held:
                assert held
    assert met == [1] * rounds * len(threads)
    assert list((tmp_path / "lake").glob("*building*")) == []


def test_a_series_that_another_builds_is_waited_for_last(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake, dicomlake.open(tmp_path / "lake") as other:
        lake.ingest(series(3), series(3, f"{ROOT}.2.1"), volumes=False)
        with other._catalog.database.building(layout.volumes_prefix(*KEY)) as held:
            assert held
            thread = threading.Thread(target=lake.build_volumes)
            thread.start()
            while not other.volumes():
                thread.join(0.01)
                assert thread.is_alive()
            assert {volume.series_uid for volume in other.volumes()} == {f"{ROOT}.2.1"}
        thread.join()
        assert len(lake.volumes()) == 2


# ---- names -------------------------------------------------------------------------------------------------


def test_the_key_of_a_store_has_its_version() -> None:
    keys = [layout.volume_key("1.2", "x y", number, version) for number in (0, 10) for version in (1, 2, 13)]
    assert [key.rpartition("/")[2] for key in keys] == [
        *("0.zarr", "0~2.zarr", "0~13.zarr"),
        *("10.zarr", "10~2.zarr", "10~13.zarr"),
    ]
    parsed = [layout.parse_volume_key(key) for key in keys]
    assert [(p.study, p.number, p.version) for p in parsed if p] == [
        ("1.2", number, version) for number in (0, 10) for version in (1, 2, 13)
    ]
    assert layout.store_of(f"{keys[1]}/scale0/image/c/0/0/0") == keys[1] == layout.store_of(keys[1])


@pytest.mark.parametrize(
    "name", ["0~1.zarr", "00.zarr", "0~02.zarr", "-1.zarr", "a.zarr", "0.zarr2", "0~.zarr"]
)
def test_no_other_name_is_taken_for_a_store(name: str) -> None:
    assert layout.parse_volume_key(f"studies/1.2/3.4/volumes/{name}") is None
    assert layout.store_of(f"studies/1.2/3.4/volumes/{name}/zarr.json") is None


def test_a_version_counts_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        layout.volume_key("1", "2", 0, 0)


def test_a_lake_that_moves_takes_its_versions_along(folder: Path, tmp_path: Path) -> None:
    with dicomlake.open(folder) as lake:
        lake.ingest(dicom(5))
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    with dicomlake.open(moved) as lake:
        assert [len(first_column(lake.open_volume(v))) for v in lake.volume_versions(KEY)] == [4]
        assert lake.verify().ok
