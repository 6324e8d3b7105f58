"""A lake is its originals: all else can be made again, and nothing of it tells a name by accident."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dicomlake
import dicomlake.lake
from dicomlake.errors import CatalogError, DicomlakeError, NotALake
from dicomlake.lake import Lake
from dicomlake.storage import layout
from dicomlake.volumes.check import damaged_frames
from tests.objects import ROOT, by_hand, dicom, explicit, series
from tests.support import PROJECT, pydicom_files

QUERIES: list[dict[str, Any]] = [
    {},
    {"Modality": "CT"},
    {"Modality": ["MR", "PT"]},
    {"SliceThickness": (None, 2.5)},
    {"StudyDate": ("20040101", "20101231")},
    {"SeriesDescription": "*a*"},
    {"Rows": 512, "Columns": 512},
    {"ReferencedSOPSequence.ReferencedSOPClassUID": "1.2.*"},
    {"0018,0081": (1, 100)},
]
ATTRIBUTES = (
    "select SeriesInstanceUID, a.path, a.creator, a.vr, a.text, a.low, a.high, a.instances "
    "from attribute a join series using (series_id) order by all"
)


# --- rebuilding -------------------------------------------------------------------------------------


def fill(lake: Lake) -> None:
    """Real files, a series of many instances, conflicts, refused files, hostile UIDs."""
    lake.ingest(*pydicom_files())
    lake.ingest(
        [dicom(n, TriggerTime=n / 4) for n in range(1, 101)],
        dicom(1, KVP=80),
        dicom(2, KVP=81, series=f"{ROOT}.1.2", SOPInstanceUID=f"{ROOT}.1.1.2"),
        by_hand({0x00080018: b"../../x "}),
        dicom(9, SOPInstanceUID=None),
    )


def frame_hashes(lake: Lake) -> dict[str, bytes]:
    """The hashes of the decoded frames of each volume."""
    import zarr

    stores = [(f"{v.series} {v.number}", lake._store(v)) for v in lake.volumes() if v.key is not None]
    assert [path for _key, path in stores if damaged_frames(path)] == []
    return {key: zarr.open_group(path, mode="r")["scale0/frame_hash"][:].tobytes() for key, path in stores}


def told(lake: Lake) -> dict[str, Any]:
    """All that a lake says about itself."""
    return {
        "series": sorted(
            lake.rows("series"), key=lambda row: (row["StudyInstanceUID"], row["SeriesInstanceUID"])
        ),
        "studies": sorted(lake.rows("studies"), key=str),
        "patients": sorted(lake.rows("patients"), key=str),
        "queries": [sorted(one.uid for one in lake.query(**wanted)) for wanted in QUERIES],
        "attributes": lake.sql(ATTRIBUTES).fetchall(),
        "findings": sorted(
            (f.severity, f.kind, f.scope, f.message if f.kind != "conflict" else "") for f in lake.findings()
        ),
        "refused": sorted(map(repr, lake.refused())),
        "conflicts": sorted(map(repr, lake.conflicts())),
        "volumes": sorted(
            repr(replace(v, store_sha256="", key=v.key and "", version=1)) for v in lake.volumes()
        ),
        "frames": frame_hashes(lake),
        "originals": {str(p.relative_to(lake.path)): p.read_bytes() for p in lake.path.rglob("*.dcm")},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A lake, closed, and all it says."""
    folder = tmp_path_factory.mktemp("whole") / "lake"
    with dicomlake.open(folder, create=True) as lake:
        fill(lake)
        said = told(lake)
        assert lake.verify().ok
    assert all(said[name] for name in said)
    return folder, said


@pytest.fixture
def copy(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole[0], tmp_path / "lake"))


def assert_the_same(folder: Path, said: dict[str, Any]) -> None:
    with dicomlake.open(folder) as lake:
        now = told(lake)
        assert lake.verify(deep=True).ok
    for name, before in said.items():
        assert now[name] == before, name


def test_everything_is_made_again_from_the_originals_alone(
    copy: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    for path in copy.glob("catalog.*"):
        path.unlink()
    shutil.rmtree(copy / "mirror")
    for path in list(copy.glob("studies/*/*/volumes")):
        shutil.rmtree(path)
    with pytest.raises(CatalogError, match="rebuild"):
        dicomlake.open(copy)
    report = dicomlake.lake.rebuild(copy)
    assert report.already == len(whole[1]["originals"])
    assert_the_same(copy, whole[1])


def test_a_catalog_of_garbage_is_set_aside_and_made_again(
    copy: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    (copy / layout.CATALOG).write_bytes(b"garbage" * 1000)
    with pytest.raises(CatalogError):
        dicomlake.lake.rebuild(copy, volumes_only=True)
    dicomlake.lake.rebuild(copy)
    assert_the_same(copy, whole[1])
    assert [p.read_bytes()[:7] for p in copy.glob("catalog.sqlite.damaged-*")] == [b"garbage"]


def test_an_open_lake_rebuilds_itself(copy: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    with dicomlake.open(copy) as lake:
        lake.rebuild()
        lake.rebuild(volumes_only=True)
    assert_the_same(copy, whole[1])


FOLLOWER = """
import sys
import dicomlake
with dicomlake.open(sys.argv[1]) as lake:
    for line in sys.stdin:
        if line.startswith("ingest"):
            lake.ingest(line.split()[1], volumes=False)
        print(len(lake.query()), len(lake.rows("series")), lake.counts()["instances"], flush=True)
"""


def test_another_process_follows_to_the_rebuilt_catalog_and_loses_nothing(tmp_path: Path) -> None:
    """SQLite of a process that still holds the old file must not take the new one's journal for its own."""
    (tmp_path / "IM1").write_bytes(dicom(1, series=f"{ROOT}.3.1"))
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(3))
        with subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, str(tmp_path / "lake")],
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:

            def ask(line: str) -> str:
                assert other.stdin is not None
                assert other.stdout is not None
                other.stdin.write(f"{line}\n")
                other.stdin.flush()
                return other.stdout.readline().strip()

            assert ask("count") == "1 1 3"
            lake.rebuild()
            lake.ingest(series(2, f"{ROOT}.2.1"), volumes=False)
            assert ask("count") == "2 2 5"
            assert ask(f"ingest {tmp_path / 'IM1'}") == "3 3 6"
            assert len(lake.query()) == 3
            lake.rebuild()
            lake.ingest(dicom(1, series=f"{ROOT}.4.1"), volumes=False)
        assert other.returncode == 0
        assert len(lake.query()) == 4
    with dicomlake.open(tmp_path / "lake") as lake:
        assert lake.counts()["instances"] == 7
        assert lake.verify().ok


def test_a_rebuild_waits_for_those_who_take_objects_in(tmp_path: Path) -> None:
    """What they register in the old catalog while the new one is made would not be listed."""
    import threading

    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1))
        with lake._catalog.database.shared():
            thread = threading.Thread(target=lake.rebuild)
            thread.start()
            with dicomlake.open(tmp_path / "lake") as other:
                other.ingest(dicom(2))
            assert thread.is_alive()
        thread.join()
        assert [row["instances"] for row in lake.rows("series")] == [2]
        assert lake.verify().ok


def test_an_original_in_the_wrong_place_is_told(copy: Path) -> None:
    path = next(iter((copy / "studies").rglob(f"{ROOT}.1.1.7.dcm")))
    path.rename(path.with_name("1.2.3.dcm"))
    with dicomlake.open(copy) as lake:
        lake.rebuild()
        assert ("misplaced", "1.2.3") in [(f.kind, f.scope) for f in lake.findings()]


# --- opening ------------------------------------------------------------------------------------------


def test_a_folder_with_other_files_does_not_become_a_lake(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("words")
    with pytest.raises(NotALake, match="other files"):
        dicomlake.open(tmp_path, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
    with pytest.raises(NotALake, match="dicomlake init"):
        dicomlake.open(tmp_path)


def test_a_lake_can_be_moved_and_opened_again(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "here", create=True) as lake:
        lake.ingest(series(3))
    (tmp_path / "here").rename(tmp_path / "there")
    with dicomlake.open(tmp_path / "there") as lake:
        assert lake.query(Modality="CT")[0].open().image.shape == (3, 16, 16)
        assert lake.verify().ok
    assert not list((tmp_path / "there").glob("*-wal"))


def test_a_series_is_found_by_any_uid_and_by_a_unique_beginning(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(series(3), dicom(1, series=f"{ROOT}.22.1"))
        for uid in (f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.2"):
            assert [one.uid for one in lake.find(uid)] == [f"{ROOT}.1.1"]
        assert [one.uid for one in lake.find(f"{ROOT}.22.1.")] == [f"{ROOT}.22.1"]
        for uid in (ROOT, "9", "", "%", f"{ROOT}.1.1."):
            assert lake.find(uid) == []


# --- no name leaves ------------------------------------------------------------------------------------

SECRETS = ("Zwetschgenbaum", "PID8675309", "19370513", "ACC4242424", "Quittenstrasse")


def secret(number: int, **others: Any) -> dict[str, Any]:
    """Keywords that identify somebody."""
    name, patient_id, birth, accession, address = SECRETS
    return {
        "number": number,
        "PatientName": f"{name}^Anna",
        "PatientID": patient_id,
        "PatientBirthDate": birth,
        "AccessionNumber": accession,
        "PatientAddress": f"{address} 7",
        "PatientComments": f"{name} {patient_id}",
        **others,
    }


def identifying() -> Iterator[bytes]:
    """Good, broken and contradicting objects, all of them with a patient in them."""
    good = dicom(**secret(1))
    yield good
    yield dicom(**secret(1, PatientName="Zwetschgenbaum^Berta", PatientID="PID8675309-2"))
    yield dicom(**secret(2, PatientID="PID8675309-3"))
    yield dicom(**secret(3, SOPInstanceUID=None))
    yield dicom(**secret(4, Rows=99))
    yield dicom(**secret(5, BitsAllocated=13))
    yield dicom(**secret(6, NumberOfFrames="7"))
    yield from (good[:size] for size in range(140, len(good), 97))
    name = explicit(0x0010, 0x0010, b"PN", b"Zwetschgenbaum^Carl ")
    yield by_hand({0x00080018: b"1.2.Zwetschgenbaum"}, name)
    yield by_hand(more=name + explicit(0x0010, 0x1010, b"AS", b"PID8675309"))
    yield b"DICM Zwetschgenbaum PID8675309"


def test_no_name_leaves_the_lake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    words: list[str] = []
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        report = lake.ingest(list(identifying()))
        words += [str(report), repr(report.counts()), report._repr_html_()]
        words += [entry.detail for entry in report.entries]
        words += [f"{finding}" for finding in lake.findings()]
        words += [f"{refused}" for refused in lake.refused()]
        words += [repr(lake), lake._repr_html_(), repr(lake.query(Modality="CT"))]
        for one in lake.query():
            words += [repr(one), *(f"{volume.reason}" for volume in one.volumes)]
        path = next(iter((lake.path / "studies").rglob("*.dcm")))
        path.chmod(0o644)
        path.write_bytes(b"Zwetschgenbaum")
        words += [str(lake.verify(deep=True)), str(lake.rebuild())]
        words += raised(lake)
    words += [*caplog.messages, *capfd.readouterr()]
    words += [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert len(words) > 50
    leaked = [(name, text) for text in words for name in SECRETS if name in text and not is_the_uid(text)]
    assert leaked == []


def is_the_uid(text: str) -> bool:
    """A UID is named by design; this one holds a name because somebody wrote it there."""
    return not any(name in text.replace("1.2.Zwetschgenbaum", "") for name in SECRETS)


def raised(lake: Lake) -> list[str]:
    """The messages of errors, with those of their causes."""

    def fail(statement: str) -> None:
        with lake._catalog.change("test") as (connection, _v):
            connection.exec_driver_sql(statement)

    found: list[str] = []
    for attempt in (
        lambda: fail("INSERT INTO patient SELECT * FROM patient"),
        lambda: fail("INSERT INTO study (PatientID) VALUES ('PID8675309')"),
        lambda: [one.open() for one in lake.query()],
        lambda: lake.query("Nonsense>3"),
        lambda: lake.sql("select nothing from patient"),
    ):
        with pytest.raises(DicomlakeError) as caught:
            attempt()
        error: BaseException | None = caught.value
        found.append(str(error))
    return found


def test_a_read_of_what_is_damaged_says_so_without_the_values(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(**secret(1)))
        (one,) = lake.query()
        with lake._catalog.database.write() as connection:
            connection.exec_driver_sql("UPDATE series_header SET block = X'00'")
        with pytest.raises(CatalogError, match="rebuild") as caught:
            one.header()
        assert not any(name in str(caught.value) for name in SECRETS)


def test_a_lost_original_is_brought_back_by_ingesting_it_again(tmp_path: Path) -> None:
    objects = series(3)
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*objects)
        lost = lake.path / lake.query()[0].instances[1].key
        lost.unlink()
        assert not lake.verify().ok
        assert lake.ingest(*objects).already == 3
        assert lake.verify().ok


def test_a_rebuild_remembers_what_was_damaged_before(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(*series(3))
        first, second, _third = (lake.path / i.key for i in lake.query()[0].instances)
        data = bytearray(first.read_bytes())
        data[-1] ^= 1
        first.write_bytes(data)
        second.unlink()
        lake.rebuild()
        assert {f.kind for f in lake.findings()} == {"original_damaged", "original_missing"}


def test_dates_may_be_written_as_iso_and_numbers_as_text(tmp_path: Path) -> None:
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        lake.ingest(dicom(1, StudyDate="20240315", SliceThickness="1.50"))
        assert len(lake.query("StudyDate>=2024-03-15")) == len(lake.query(StudyDate="2024-03-15")) == 1
        assert len(lake.query("StudyDate>=2024-12-01")) == 0
        assert len(lake.query(StudyDate=("2024-01-01", "2024-12-31"))) == 1
        assert len(lake.query(SliceThickness="1.5")) == 1
