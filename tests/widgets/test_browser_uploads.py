"""Files that come in pieces reach the lake whole, and what cannot be taken is told with its reason."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dicomlake
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.browser.browser import Browser
from dicomlake.widgets.browser.receiving import LARGEST_PIECE, Receiving, safe_name
from tests.objects import dicom, series
from tests.widgets.test_browser_asks import asker


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[dicomlake.Lake]:
    made = dicomlake.open(tmp_path / "lake", create=True)
    yield made
    made.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def _send(browser: Browser, files: dict[str, bytes], piece: int = 1000) -> dict[str, Any]:
    """Send files as the browser does, in pieces that cross them; what Python told at the end."""
    ask = asker(browser)
    whole = b"".join(files.values())
    upload = ask("upload_begin", size=len(whole), files=len(files))[0]["upload"]
    parts: list[dict[str, Any]] = []
    for name, data in files.items():
        for at in range(0, max(1, len(data)), piece):
            named = {"name": name} if at == 0 else {}
            parts.append({**named, "at": at, "bytes": len(data[at : at + piece])})
    sent = 0
    for i in range(0, len(parts), 3):
        some = parts[i : i + 3]
        size = sum(one["bytes"] for one in some)
        ask("upload_piece", [whole[sent : sent + size]], upload=upload, parts=some)
        sent += size
    works: list[Any] = []
    browser.beside = works.append  # type: ignore[method-assign,assignment]
    ask("upload_end", upload=upload)
    works[0]()
    news = [content for content, _ in browser.told if content.get("news") == "ingested"]
    told: dict[str, Any] = news[-1]["data"]
    return told


def test_files_in_pieces_are_ingested_and_nothing_is_left(lake: dicomlake.Lake, temporary: Path) -> None:
    objects = series(3)
    told = _send(Browser(lake), {f"folder/{i}.dcm": data for i, data in enumerate(objects)}, piece=777)
    assert told["counts"]["stored"] == 3
    held = [lake.original(one) for one in lake.instances(lake.query()[0].key)]
    assert sorted(held) == sorted(objects)
    assert list(temporary.iterdir()) == []


def test_what_was_there_and_what_is_refused_is_told_by_name(lake: dicomlake.Lake, temporary: Path) -> None:
    good = dicom(1)
    lake.ingest(good, progress=False)
    other = dicom(1, SeriesDescription="another")
    told = _send(
        Browser(lake),
        {
            "again.dcm": good,
            "other.dcm": other,
            "cut.dcm": b"\0" * 128 + b"DICM" + b"\1\2\3",
            "notes.txt": b"no DICOM at all",
        },
    )
    assert told["counts"] == {"stored": 0, "already": 1, "conflict": 1, "refused": 1, "skipped": 1}
    named = {one["name"]: one for one in told["files"]}
    assert named.keys() == {"other.dcm", "cut.dcm", "notes.txt"}
    assert named["cut.dcm"]["outcome"] == "refused"
    assert named["cut.dcm"]["detail"]
    assert any(one["outcome"] == "refused" and one["count"] == 1 for one in told["reasons"])
    assert list(temporary.iterdir()) == []


def test_a_zip_archive_is_opened(lake: dicomlake.Lake, temporary: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, data in enumerate(series(2)):
            archive.writestr(f"inside/{number}", data)
    assert _send(Browser(lake), {"study.zip": buffer.getvalue()})["counts"]["stored"] == 2


def test_names_of_files_lead_nowhere(lake: dicomlake.Lake, temporary: Path) -> None:
    told = _send(Browser(lake), {"../../../evil.dcm": dicom(1), "/etc/x\0y/..": dicom(2)})
    assert told["counts"]["stored"] == 2
    assert list(temporary.parent.rglob("evil*")) == []
    assert list(temporary.iterdir()) == []


def test_the_origin_of_what_is_refused_ends_with_the_name_it_was_uploaded_under(
    lake: dicomlake.Lake, temporary: Path
) -> None:
    cut = b"\0" * 128 + b"DICM" + b"\1\2\3"
    told = _send(Browser(lake), {"scan/CT 7.dcm": cut, "other/CT 7.dcm": cut + b"\4"})
    assert told["counts"]["refused"] == 2
    assert [Path(one.origin).name for one in lake.refused()] == ["CT 7.dcm", "CT 7.dcm"]
    assert sorted(one["name"] for one in told["files"]) == ["other/CT 7.dcm", "scan/CT 7.dcm"]


HOSTILE = [
    *("../../x", "a/b\\c", "", ".", "..", "...", "x/", "/etc/passwd", "C:\\Windows\\x", "\0", "a\0b.dcm"),
    *(" ", "..\\..\\evil.dcm", "d" * 500, "é" * 500 + ".dcm", "😀" * 200 + ".tar.gz", "\ud800.dcm"),
    *("a\nb", "\u202egnp.dcm", ".hidden", "~", "a:b", "." * 500, "x" + "." * 500, "x." + "d" * 500),
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_made_safe(name: str, tmp_path: Path) -> None:
    safe = safe_name(name)
    assert safe == Path(safe).name == safe.strip(" ")
    assert not set(safe) & set('/\\:\0\n*?"<>|')
    assert not safe.startswith(".")
    assert safe.isprintable()
    assert 0 < len(safe.encode()) <= 150
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / safe).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_plain_name_is_kept_with_its_ending() -> None:
    assert safe_name("folder/CT 0001.dcm") == "CT 0001.dcm"
    assert safe_name("Müller_1.2.840.dcm") == "Müller_1.2.840.dcm"
    assert safe_name("IM00001") == "IM00001"
    assert safe_name("s" * 500 + ".tar.gz").endswith("s.tar.gz")


def test_files_of_hostile_and_equal_names_all_arrive(lake: dicomlake.Lake, temporary: Path) -> None:
    names = [*HOSTILE, *(f"folder/{name}" for name in HOSTILE)]
    files = dict(zip(names, series(len(names)), strict=True))
    told = _send(Browser(lake), files, piece=1 << 16)
    assert told["counts"]["stored"] == len(names)
    assert {path.name for path in temporary.parent.iterdir()} == {"temporary", "lake"}
    assert list(temporary.iterdir()) == []


def test_a_read_only_lake_takes_nothing_and_says_so(lake: dicomlake.Lake) -> None:
    lake.read_only = True
    with pytest.raises(Refusal, match="read-only"):
        Receiving(lake).begin(10, 1)


def test_more_than_was_announced_is_refused(lake: dicomlake.Lake, temporary: Path) -> None:
    receiving = Receiving(lake)
    upload = receiving.upload(receiving.begin(10, 1))
    with pytest.raises(Refusal, match="as agreed"):
        upload.add([("a", 0, 5)], memoryview(b"123456"))
    with pytest.raises(Refusal, match="more bytes"):
        upload.add([("a", 0, 11)], memoryview(b"x" * 11))
    with pytest.raises(Refusal, match="as agreed"):
        upload.add([("a", 0, LARGEST_PIECE + 1)], memoryview(bytes(LARGEST_PIECE + 1)))
    upload.add([("a", 0, 4)], memoryview(b"1234"))
    with pytest.raises(Refusal, match="missing"):
        upload.add([(None, 5, 2)], memoryview(b"67"))
    with pytest.raises(Refusal, match="more files"):
        upload.add([("b", 0, 1)], memoryview(b"1"))
    receiving.drop_all()


def test_an_incomplete_upload_is_not_taken_in(lake: dicomlake.Lake, temporary: Path) -> None:
    receiving = Receiving(lake)
    name = receiving.begin(1000, 1)
    receiving.upload(name).add([("a", 0, 4)], memoryview(b"1234"))
    with pytest.raises(Refusal, match="not complete"):
        receiving.end(name)
    assert list(temporary.iterdir()) == []
    assert lake.counts()["instances"] == 0


def test_a_cancelled_or_closed_browser_leaves_no_file(lake: dicomlake.Lake, temporary: Path) -> None:
    browser = Browser(lake)
    ask = asker(browser)
    first = ask("upload_begin", size=4, files=1)[0]["upload"]
    ask("upload_begin", size=4, files=1)
    assert len(list(temporary.iterdir())) == 2
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in temporary.iterdir())
    ask("upload_cancel", upload=first)
    browser.close()
    assert list(temporary.iterdir()) == []


def test_what_is_being_taken_in_is_not_deleted(lake: dicomlake.Lake, temporary: Path) -> None:
    browser, data = Browser(lake), dicom(1)
    ask = asker(browser)
    upload = ask("upload_begin", size=len(data), files=1)[0]["upload"]
    ask("upload_piece", [data], upload=upload, parts=[{"name": "a.dcm", "at": 0, "bytes": len(data)}])
    works: list[Any] = []
    browser.beside = works.append  # type: ignore[method-assign,assignment]
    ask("upload_end", upload=upload)
    with pytest.raises(AssertionError, match="is over"):
        ask("upload_end", upload=upload)
    ask("upload_cancel", upload=upload)
    browser.close()
    works[0]()
    assert lake.counts()["instances"] == 1
    assert list(temporary.iterdir()) == []


def test_uploads_of_pages_that_went_away_make_room(
    lake: dicomlake.Lake, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving = Receiving(lake)
    names = [receiving.begin(10, 1) for _ in range(4)]
    with pytest.raises(Refusal, match="under way"):
        receiving.begin(10, 1)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    receiving.upload(names[0]).add([("a", 0, 1)], memoryview(b"1"))
    assert receiving.begin(10, 1)
    assert receiving.upload(names[0]).got == 1
    with pytest.raises(Refusal, match="is over"):
        receiving.upload(names[1])
    assert len(list(temporary.iterdir())) == 2
    receiving.drop_all()
