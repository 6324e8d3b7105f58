"""What goes in is accounted for once and lies there byte for byte; conflicts are kept and told."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.dicom.headers import read_header
from dicomlake.ingest.report import OUTCOMES, Report
from dicomlake.lake import Lake
from dicomlake.records import Instance
from dicomlake.storage import layout
from tests.objects import ROOT, as_bytes, dataset, dicom, series
from tests.support import pydicom_files

SERIES = f"{ROOT}.1.1"
OTHER = f"{ROOT}.1.2"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """An empty lake."""
    with dicomlake.open(tmp_path / "lake", create=True) as opened:
        yield opened


def outcomes(report: Report) -> list[str]:
    return [entry.outcome for entry in report.entries]


def originals(lake: Lake) -> dict[str, bytes]:
    """Key -> bytes of all originals, read from the disk and not through the catalog."""
    found = {p.relative_to(lake.path).as_posix(): p for p in (lake.path / "studies").rglob("*.dcm")}
    return {key: path.read_bytes() for key, path in found.items()}


def all_instances(lake: Lake) -> list[Instance]:
    return [one for series in lake.query() for one in series.instances]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- accounting ------------------------------------------------------------------------------


def assert_all_accounted_for(lake: Lake, files: Sequence[Path], sources: Sequence[Path]) -> None:
    """Every file has one entry, twice; each taken one lies in the lake with its bytes."""
    first = lake.ingest(*sources, volumes=False)
    assert sorted(entry.origin for entry in first.entries) == sorted(map(str, files))
    assert sum(first.counts().values()) == len(files)
    bytes_of = {str(path): _unpacked(path) for path in files}
    held = originals(lake)
    shas = {sha256(data) for data in held.values()}
    data_sets = {one.dataset_sha256 for one in all_instances(lake)}
    for entry in first.entries:
        if entry.outcome in ("stored", "conflict"):
            assert sha256(bytes_of[entry.origin]) in shas
        elif entry.outcome == "already":
            data = bytes_of[entry.origin]
            assert sha256(data) in shas or sha256(data[read_header(data).dataset_offset :]) in data_sets
        elif entry.outcome == "refused":
            kept = lake.path / layout.quarantine_key(sha256(bytes_of[entry.origin]))
            assert kept.read_bytes() == bytes_of[entry.origin]
    assert len(held) == first.stored + len(first.conflicts) == len(all_instances(lake))
    assert all(sha256(held[one.key]) == one.sha256 for one in all_instances(lake))
    second = lake.ingest(*sources, volumes=False)
    assert second.counts() == {
        "stored": 0,
        "already": first.stored + first.already + len(first.conflicts),
        "conflict": 0,
        "refused": len(first.refused),
        "skipped": len(first.skipped),
    }
    assert originals(lake) == held
    assert lake.verify().ok


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def test_every_file_of_the_real_data_has_one_entry_and_its_bytes(lake: Lake, real_data: Path) -> None:
    files = [path for path in real_data.rglob("*") if path.is_file()]
    assert_all_accounted_for(lake, files, [real_data])


def test_every_file_of_pydicom_s_wheel_has_one_entry_and_its_bytes(lake: Lake) -> None:
    files = [path for path in pydicom_files() if path.suffix not in (".zip", ".gz")]
    files = [path for path in files if "dicomdirtests" not in path.parts]
    assert_all_accounted_for(lake, files, files)


def test_a_second_ingest_changes_nothing_in_the_catalog(lake: Lake) -> None:
    lake.ingest(series(3))
    rows, change = lake.rows("series"), lake._catalog.head()
    assert lake.ingest(series(3)).counts()["already"] == 3
    assert (lake.rows("series"), lake._catalog.head()) == (rows, change)


def test_a_source_that_changes_later_does_not_change_the_original(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "IM1"
    path.write_bytes(dicom())
    lake.ingest(path)
    path.write_bytes(b"gone")
    assert list(originals(lake).values()) == [dicom()]


def test_a_linked_original_is_the_source_itself(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "IM1"
    path.write_bytes(dicom())
    lake.ingest(path, link=True)
    (key,) = originals(lake)
    assert (lake.path / key).stat().st_ino == path.stat().st_ino


# --- one UID, several objects -----------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two runs"])
def test_another_object_under_one_uid_is_kept_beside_the_first(lake: Lake, together: bool) -> None:
    first, second = dicom(SeriesDescription="one"), dicom(SeriesDescription="secret words")
    if together:
        report = lake.ingest([first, second])
        assert outcomes(report) == ["stored", "conflict"]
    else:
        lake.ingest(first)
        report = lake.ingest(second)
        assert outcomes(report) == ["conflict"]
    plain = f"studies/{ROOT}.1/{SERIES}/originals/{SERIES}.1.dcm"
    assert originals(lake) == {plain: first, plain.replace(".dcm", f"~{sha256(second)[:8]}.dcm"): second}
    (finding,) = lake.findings()
    assert (finding.kind, finding.scope) == ("conflict", f"{SERIES}.1")
    assert finding.message == "another object with this SOPInstanceUID differs in SeriesDescription"
    assert report.conflicts[0].detail == finding.message
    assert "secret" not in str(report) + str(finding) + str(report.as_dict())
    (row,) = lake.rows("series")
    assert (row["instances"], row["bytes"]) == (1, len(first) + len(second))
    assert [one.sha256 for one in lake.conflicts()] == [sha256(second)]
    assert lake.ingest([second, first]).already == 2
    assert lake.verify().ok


def test_the_same_uid_across_batches_is_a_conflict_whichever_is_first(lake: Lake) -> None:
    objects = [*series(100), dicom(1, KVP=80), *series(100, OTHER), dicom(100, KVP=80)]
    report = lake.ingest(objects, volumes=False)
    assert report.counts() == {"stored": 200, "already": 0, "conflict": 2, "refused": 0, "skipped": 0}
    assert sorted(f.scope for f in lake.findings()) == [f"{SERIES}.1", f"{SERIES}.100"]
    assert all("KVP" in f.message for f in lake.findings())
    assert Counter(map(sha256, objects)) == Counter(map(sha256, originals(lake).values()))
    assert [row["instances"] for row in lake.rows("series")] == [100, 100]


def test_the_same_uid_in_another_series_is_a_conflict_that_stays_in_its_series(lake: Lake) -> None:
    uid = f"{SERIES}.1"
    report = lake.ingest(
        [dicom(), dicom(series=OTHER, SOPInstanceUID=uid, FrameOfReferenceUID=f"{SERIES}.0")]
    )
    assert outcomes(report) == ["stored", "conflict"]
    assert {Path(key).name for key in originals(lake)} == {f"{uid}.dcm"}
    assert [finding.message for finding in lake.findings()] == [
        "another object with this SOPInstanceUID differs in SeriesInstanceUID"
    ]
    assert [row["instances"] for row in lake.rows("series")] == [1, 1]


def test_the_same_pixels_apart_is_told_as_pixels_or_encoding(lake: Lake) -> None:
    lake.ingest([dicom(), dicom(PixelData=bytes(512))])
    (finding,) = lake.findings()
    assert finding.message.endswith("differs in its pixels or its encoding")


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two runs"])
def test_the_same_data_set_behind_another_file_meta_is_there_already(lake: Lake, together: bool) -> None:
    first, second = (as_bytes(dataset(), version=version) for version in ("ONE", "TWO"))
    if together:
        assert outcomes(lake.ingest([first, second])) == ["already", "stored"]
    else:
        lake.ingest(first)
        assert outcomes(lake.ingest(second)) == ["already"]
    assert list(originals(lake).values()) == [first]
    assert lake.findings() == []


def test_hashes_that_share_their_first_digits_lose_no_object(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 8 of 64 digits can be forged: where they meet, the key holds all 64."""
    objects = [dicom(KVP=kvp) for kvp in (80, 100, 120)]

    def alike(content: object, data: bytes | None = None, start: int = 0) -> str:
        assert data is not None
        return "ab" * 4 + sha256(data[start:])[8:]

    monkeypatch.setattr("dicomlake.ingest.examine.sha256_of", alike)
    assert outcomes(lake.ingest(objects, volumes=False)) == ["stored", "conflict", "conflict"]
    assert sorted(map(sha256, originals(lake).values())) == sorted(map(sha256, objects))
    for key in originals(lake):
        assert layout.parse_original_key(key) is not None


# --- what a writer that was killed leaves behind ------------------------------------------------


def leave_behind(lake: Lake, data: bytes, key: str) -> None:
    """An original that became visible, whose writer was killed before its commit."""
    path = lake.path / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


PLAIN = f"studies/{ROOT}.1/{SERIES}/originals/{SERIES}.1.dcm"


def test_an_original_that_was_left_behind_is_registered_by_a_repeated_ingest(lake: Lake) -> None:
    leave_behind(lake, dicom(), PLAIN)
    assert [f.kind for f in lake.verify().findings] == ["uncatalogued"]
    assert outcomes(lake.ingest(dicom())) == ["stored"]
    assert lake.verify().ok
    assert len(lake.query(Modality="CT")) == 1


def test_what_was_left_behind_is_registered_as_it_lies_there(lake: Lake) -> None:
    """The same data set with another file meta: the file that lies there is the one that counts."""
    lying, coming = (as_bytes(dataset(), version=version) for version in ("ONE", "TWO"))
    leave_behind(lake, lying, PLAIN)
    assert outcomes(lake.ingest(coming)) == ["stored"]
    assert originals(lake) == {PLAIN: lying}
    assert lake.verify().ok


def test_an_object_beside_one_that_was_left_behind_is_visible_at_once(lake: Lake) -> None:
    left, coming = dicom(KVP=80), dicom(KVP=120)
    leave_behind(lake, left, PLAIN)
    assert outcomes(lake.ingest(coming)) == ["conflict"]
    assert [series.facts["KVP"] for series in lake.query(KVP=120)] == [120]
    assert outcomes(lake.ingest(left)) == ["conflict"]
    assert sorted(originals(lake).values()) == sorted([left, coming])
    assert [series.facts["KVP"] for series in lake.query()] == [80]
    assert lake.verify().ok


def test_an_ingest_that_was_stopped_before_its_volumes_makes_them_when_repeated(lake: Lake) -> None:
    lake.ingest(series(3), volumes=False)
    assert lake.volumes() == []
    report = lake.ingest(series(3))
    assert (report.stored, len(report.built)) == (0, 1)
    lake.ingest(dicom(4), volumes=False)
    assert [volume.shape for volume in lake.volumes()] == [(3, 16, 16)]
    lake.ingest(series(4))
    assert [volume.shape for volume in lake.volumes()] == [(4, 16, 16)]
    assert lake.ingest(series(4)).volumes == ()


def test_a_volume_that_was_replaced_but_not_recorded_is_no_damage(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the new store and its commit, the old record still speaks of the old store."""
    from dicomlake.volumes import build as module

    lake.ingest(series(3))
    former = lake.volumes()
    build = module.build

    def stopped(*arguments: Any) -> None:
        build(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "build", stopped)
        with pytest.raises(KeyboardInterrupt):
            lake.ingest(dicom(4))
    assert lake.volumes() == former
    assert lake.open_volume(former[0]).image.shape == (3, 16, 16)
    lake.ingest(series(4))
    (volume,) = lake.volumes()
    assert volume.shape == (4, 16, 16)
    assert volume.version > former[0].version
    assert lake.verify().ok


def test_an_interrupted_ingest_leaves_its_acknowledged_objects_visible(lake: Lake) -> None:
    def interrupted() -> Iterator[bytes]:
        yield from series(300)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.ingest(interrupted())
    (row,) = lake.rows("series")
    assert 0 < row["instances"] <= 300
    assert row["instances"] == len(all_instances(lake))
    assert lake.verify().ok
    assert lake.ingest(series(300), volumes=False).stored == 300 - row["instances"]


def test_an_original_that_was_cut_off_does_not_keep_its_series_from_growing(lake: Lake) -> None:
    lake.ingest(series(2), volumes=False)
    path = lake.path / PLAIN
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:400])
    lake.ingest(dicom(3), volumes=False)
    (row,) = lake.rows("series")
    assert row["instances"] in (2, 3)
    assert [f.kind for f in lake.verify().findings if f.severity == "error"] == ["original_damaged"]


# --- processes ------------------------------------------------------------------------------------


def test_processes_do_the_same_as_threads(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    objects = [*series(70), *series(70, OTHER), dicom(3, KVP=1), b"no DICOM at all"]
    for number, data in enumerate(objects):
        (source / f"IM{number:04}").write_bytes(data)
    found = []
    for workers in (1, 2):
        with dicomlake.open(tmp_path / f"lake{workers}", create=True) as lake:
            report = lake.ingest(source, workers=workers)
            assert lake.verify().ok
            found.append(
                (
                    sorted(report.entries),
                    sorted(report.series),
                    lake.rows("series"),
                    originals(lake),
                    lake.findings(),
                    [(v.series, v.shape, v.info["voxels"]) for v in lake.volumes()],
                )
            )
    assert found[0] == found[1]
    assert Counter(entry.outcome for entry in found[0][0]) == {"stored": 140, "conflict": 1, "skipped": 1}
    assert set(OUTCOMES) >= {entry.outcome for entry in found[0][0]}
