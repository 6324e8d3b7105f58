"""One byte that differs, anywhere in a lake, is found and named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Table

import dicomlake
from dicomlake.catalog import schema
from dicomlake.catalog.engine import sqlite_module
from dicomlake.errors import DicomlakeError
from dicomlake.integrity import VerifyReport
from dicomlake.storage import layout
from tests.objects import ROOT, dicom, series


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake, closed, with something in every table: series, a conflict, a refused file, labels, a cohort."""
    folder = tmp_path_factory.mktemp("whole") / "lake"
    with dicomlake.open(folder, create=True) as lake:
        lake.ingest(series(4), dicom(1, KVP=80), b"DICM but nothing behind", dicom(9, SOPInstanceUID=None))
        lake.ingest(dicom(1, series=f"{ROOT}.2.1", PatientID="other", AccessionNumber="A12345678"))
        lake.ingest(dicom(5))  # closes rows, and makes a second version of a volume
        lake.query().set_label("quality", "good", note="seen", who="a reader")
        lake.import_clinical("trial", [{"PatientID": "phantom", "arm": "A", "age": 62}])
        lake.query().freeze("all")
        assert lake.verify().ok
        assert all(lake.verify().checked[kind] > 0 for kind in ("rows", "originals", "refused", "volumes"))
    return folder


@pytest.fixture
def lake(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "lake"))


def verified(folder: Path) -> VerifyReport:
    with dicomlake.open(folder) as lake:
        return lake.verify()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.chmod(0o644)
    path.write_bytes(data)


def original(folder: Path) -> Path:
    return folder / f"studies/{ROOT}.1/{ROOT}.1.1/originals/{ROOT}.1.1.2.dcm"


def assert_found(folder: Path, kind: str, scope: str) -> None:
    report = verified(folder)
    assert not report.ok
    assert (kind, scope) in [(finding.kind, finding.scope) for finding in report.findings]
    assert scope in str(report)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 130, 400, -1])
def test_a_byte_of_an_original(lake: Path, at: int) -> None:
    flip(original(lake), at)
    assert_found(lake, "original_damaged", original(lake).relative_to(lake).as_posix())


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["missing", "cut off", "empty", "longer"],
)
def test_an_original_that_is_no_longer_whole(lake: Path, damage: Callable[[Path], object]) -> None:
    path = original(lake)
    path.chmod(0o644)
    damage(path)
    assert_found(lake, "original_damaged", path.relative_to(lake).as_posix())


def test_an_original_that_nobody_put_there(lake: Path) -> None:
    extra = original(lake).with_name("1.2.3.dcm")
    extra.write_bytes(dicom(99))
    assert_found(lake, "uncatalogued", extra.relative_to(lake).as_posix())


def volume_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "studies").glob("*/*/volumes/*/**/*") if path.is_file())


def test_a_byte_of_any_file_of_a_volume(whole: Path, lake: Path) -> None:
    """Chunks, shards, tables and every zarr.json: each one in turn, at a place of its own."""
    chosen = random.Random(5)
    kinds = set()
    for path in volume_files(lake):
        data = path.read_bytes()
        if not data:
            continue
        flip(path, chosen.randrange(len(data)))
        store = next(parent for parent in path.parents if parent.suffix == ".zarr")
        report = verified(lake)
        assert [f.kind for f in report.findings] == ["volume_damaged"], path
        assert report.findings[0].scope == store.relative_to(lake).as_posix()
        kinds.add(path.name == "zarr.json")
        path.write_bytes(data)
    assert kinds == {True, False}
    assert verified(lake).ok


def test_the_slices_whose_voxels_differ_are_named(lake: Path) -> None:
    (shard,) = [
        p for p in volume_files(lake) if f"{ROOT}.1.1/volumes/0~2.zarr/scale0/image/c" in p.as_posix()
    ]
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 3] + bytes(8) + data[len(data) // 3 + 8 :])
    (finding,) = verified(lake).findings
    assert "slices [" in finding.message


def test_a_missing_volume_store(lake: Path) -> None:
    store = lake / f"studies/{ROOT}.1/{ROOT}.1.1/volumes/0~2.zarr"
    shutil.rmtree(store)
    assert_found(lake, "volume_damaged", store.relative_to(lake).as_posix())


@pytest.mark.parametrize("suffix", [".bin", ".json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_refused_file_or_its_note(lake: Path, suffix: str, damage: str) -> None:
    path = sorted((lake / "quarantine").glob(f"*{suffix}"))[0]
    if damage == "missing":
        path.unlink()
    elif suffix == ".bin":
        flip(path, 3)
    else:
        flip(path, path.read_bytes().index(b'"sha256"') + 12)
    assert_found(lake, "quarantine_damaged", path.with_suffix(".bin").relative_to(lake).as_posix())


def test_a_byte_of_any_annotation(whole: Path, lake: Path) -> None:
    """Labels, clinical rows and cohorts are in no original: their files are all that a rebuild has."""
    files = sorted((lake / "annotations").iterdir())
    assert [path.name.split("-")[1] for path in files] == ["label", "clinical", "cohort"]
    for path in files:
        before = path.read_bytes()
        flip(path, len(before) // 2)
        assert_found(lake, "annotation_damaged", f"annotations/{path.name}")
        path.write_bytes(before)
    assert verified(lake).ok
    files[1].unlink()
    assert_found(lake, "annotation_missing", "annotations/00000002")


def test_a_refused_file_that_nobody_put_there(lake: Path) -> None:
    key = layout.quarantine_key("ab" * 32)
    (lake / key).write_bytes(b"?")
    assert_found(lake, "uncatalogued", key)


# --- the catalog ----------------------------------------------------------------------------------


def in_sql(folder: Path, statement: str, *parameters: object) -> int:
    """Change the catalog behind its back; how many rows it changed."""
    connection = sqlite_module().connect(folder / layout.CATALOG)
    try:
        changed = connection.execute(statement, parameters).rowcount
        connection.commit()
    finally:
        connection.close()
    return int(changed)


def damageable() -> Iterator[tuple[Table, str]]:
    for table in schema.DIGESTED:
        yield from ((table, column.name) for column in table.columns if column.name not in ("id", "settled"))


@pytest.mark.parametrize("table", schema.DIGESTED, ids=lambda table: table.name)
def test_any_value_of_any_row(whole: Path, tmp_path: Path, table: Table) -> None:
    """Each column of a table in turn; one row of it gets another value."""
    for number, name in enumerate(name for of, name in damageable() if of is table):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        text = "CASE WHEN {c} IS NULL THEN 7 WHEN typeof({c}) IN ('integer', 'real') THEN {c} + 1000 "
        text += "WHEN typeof({c}) = 'blob' THEN zeroblob(length({c})) ELSE '~' || {c} END"
        expression = text.format(c=f'"{name}"')
        where = f"rowid = (SELECT min(rowid) FROM {table.name})"
        assert in_sql(folder, f'UPDATE {table.name} SET "{name}" = {expression} WHERE {where}') == 1
        report = verified(folder)
        assert not report.ok, name
        damaged = [f for f in report.findings if f.kind in ("row_damaged", "catalog_damaged")]
        assert any(f.scope.startswith((table.name, "catalog")) for f in damaged), (name, report.findings)
        shutil.rmtree(folder)


def test_a_row_that_lost_its_identity_or_vanished(lake: Path) -> None:
    in_sql(lake, "UPDATE series SET id = id + 1000")
    assert "headers_damaged" in {finding.kind for finding in verified(lake).findings}


def test_a_series_that_vanished_from_the_catalog(lake: Path) -> None:
    assert in_sql(lake, "DELETE FROM series WHERE SeriesInstanceUID = ?", f"{ROOT}.2.1") == 1
    assert_found(lake, "series_unsettled", f"{ROOT}.2.1")


def test_an_instance_that_vanished_from_the_catalog(lake: Path) -> None:
    assert in_sql(lake, "DELETE FROM instance WHERE SOPInstanceUID = ?", f"{ROOT}.1.1.2") == 1
    assert_found(lake, "uncatalogued", original(lake).relative_to(lake).as_posix())


@pytest.mark.parametrize("at", [4, 6, 12, 40, -3])
def test_a_byte_of_a_header_block(lake: Path, at: int) -> None:
    """The first bytes say how large it is: that must not be believed."""
    connection = sqlite_module().connect(lake / layout.CATALOG)
    series_id, block = connection.execute(
        "SELECT series_id, block FROM series_header ORDER BY 1 DESC"
    ).fetchone()
    damaged = bytearray(block)
    damaged[at] ^= 0x80
    connection.execute("UPDATE series_header SET block = ? WHERE series_id = ?", (bytes(damaged), series_id))
    connection.commit()
    connection.close()
    assert_found(lake, "row_damaged", f"series_header {series_id}")
    with dicomlake.open(lake) as opened, pytest.raises(DicomlakeError, match="damaged"):
        opened.headers(series_id)


def test_a_byte_of_any_known_text_in_the_catalog_file(whole: Path, tmp_path: Path) -> None:
    """Found in the file by its text: whatever SQLite makes of the page, verify must not be content."""
    data = (whole / layout.CATALOG).read_bytes()
    texts = [f"{ROOT}.2.1".encode(), b"A12345678", b"differs in KVP", b"regular", b"has no SOPInstanceUID"]
    chosen = random.Random(17)
    live = 0
    for number, text in enumerate(texts):
        places = [i for i in range(len(data)) if data.startswith(text, i)]
        for i in chosen.sample(places, min(len(places), 3)):
            live += flip_is_noticed(whole, tmp_path / f"{number}-{i}", i + chosen.randrange(len(text)))
    assert live > len(texts)


def test_random_bytes_of_the_catalog_file(whole: Path, tmp_path: Path) -> None:
    chosen = random.Random(23)
    size = (whole / layout.CATALOG).stat().st_size
    live = sum(flip_is_noticed(whole, tmp_path / str(n), chosen.randrange(100, size)) for n in range(75))
    assert live > 2


def flip_is_noticed(whole: Path, folder: Path, at: int) -> bool:
    """Flip a bit of a copy's catalog. Where that changes what SQLite reads, assert that it is noticed.

    Free pages and the slack of pages hold what nobody reads; False for these.
    """
    shutil.copytree(whole, folder)
    flip(folder / layout.CATALOG, at)
    live = rows_of(folder) != rows_of(whole)
    try:
        noticed = not verified(folder).ok
    except DicomlakeError:
        noticed = True
    shutil.rmtree(folder)
    assert noticed or not live
    return live


def rows_of(folder: Path) -> object:
    connection = sqlite_module().connect(folder / layout.CATALOG)
    try:
        return [connection.execute(f"SELECT * FROM {table.name}").fetchall() for table in schema.DIGESTED]
    except sqlite_module().DatabaseError as error:
        return str(error)
    finally:
        connection.close()


def test_a_catalog_that_is_garbage_is_told_in_our_own_words(lake: Path) -> None:
    path = lake / layout.CATALOG
    path.write_bytes(random.Random(3).randbytes(path.stat().st_size))
    with pytest.raises(DicomlakeError, match="rebuild"):
        dicomlake.open(lake)


def test_what_a_connection_remembers_is_not_taken_for_the_disk(lake: Path) -> None:
    with dicomlake.open(lake) as opened:
        assert opened.verify().ok
        data = (lake / layout.CATALOG).read_bytes()
        at = data.index(b"A12345678")
        with (lake / layout.CATALOG).open("r+b") as file:
            file.seek(at)
            file.write(b"A12345679")
        assert not opened.verify().ok


# --- deep -----------------------------------------------------------------------------------------


def test_a_volume_that_was_made_from_other_pixels_is_found_by_a_deep_verify(lake: Path) -> None:
    """Store and record agree with each other; only the original tells that both are wrong."""
    with dicomlake.open(lake) as opened:
        (one,) = opened.query(SeriesInstanceUID=f"{ROOT}.1.1")
        (instance,) = [i for i in one.instances if i.sop_instance_uid.endswith(".1.1.2")]
        path = lake / instance.key
        path.chmod(0o644)
        path.write_bytes(dicom(2, PixelData=bytes(512)))
        assert {f.kind for f in opened.verify().findings} == {"original_damaged"}
        assert {f.kind for f in opened.verify(deep=True).findings} == {"original_damaged", "volume_differs"}


def test_the_report_is_json_and_says_what_was_compared(lake: Path) -> None:
    report = verified(lake)
    assert str(report).startswith("Verify: all well (")
    assert json.loads(json.dumps(report.checked))["originals"] == 7
    assert "all well" in report._repr_html_()
