"""What peers send: stored as it came, told apart, and answered with what became of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
)

from dicomlake.catalog import network, reader
from dicomlake.dicom.attributes import Attributes
from dicomlake.ingest.arriving import Arrivals
from dicomlake.ingest.groups import Groups
from dicomlake.network.seams import Sink
from dicomlake.records import Finding, Instance, Refused, Sender, SeriesKey, Stored, StoreRequest
from dicomlake.storage import layout
from dicomlake.storage.memory import MemoryStorage
from tests.catalog.parts import Parts, parts_in
from tests.ingest.arrivals import SENDER, pieces, sent
from tests.objects import ROOT, as_bytes, dataset, dicom, explicit, series
from tests.support import PROJECT, pydicom_files, real_data_folder

OTHER = Sender("SECOND", "DICOMLAKE", "127.0.0.2", "a2", "second")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = parts_in(tmp_path / "lake")
    yield parts
    parts.close()


@pytest.fixture
def sink(parts: Parts) -> Arrivals:
    return Arrivals(parts.catalog, parts.storage)


def store(sink: Sink, data: bytes, sender: Sender = SENDER) -> Stored:
    """Send a DICOM file, as any peer does."""
    request, body = sent(data, sender)
    return sink.store(request, pieces(body))


def instances(parts: Parts) -> list[Instance]:
    with parts.catalog.read() as view:
        return list(reader.all_instances(view))


def findings(parts: Parts) -> list[Finding]:
    with parts.catalog.read() as view:
        return reader.findings(view)


def refused(parts: Parts) -> list[Refused]:
    with parts.catalog.read() as view:
        return reader.refused(view)


def arrivals(parts: Parts) -> list[network.Arrival]:
    with parts.catalog.read() as view:
        return network.arrivals(view)


def assert_nothing_staged(parts: Parts) -> None:
    assert [path for path in parts.root.glob(".staging/*/*") if path.name != "lock"] == []


# ---- stored as it came --------------------------------------------------------------------------------


def test_an_object_is_stored_as_it_came_and_every_reader_finds_the_same(parts: Parts, sink: Arrivals) -> None:
    data = dicom(1)
    request, body = sent(data)
    stored = sink.store(request, pieces(body))
    assert stored == Stored("stored", "", SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1"), size=len(body), fresh=True)
    (one,) = instances(parts)
    kept = parts.storage.get(one.key)
    assert kept.endswith(body)
    assert (one.sha256, one.dataset_sha256) == (
        hashlib.sha256(kept).hexdigest(),
        hashlib.sha256(body).hexdigest(),
    )
    assert one.key == layout.original_key(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")
    read, original = (pydicom.dcmread(BytesIO(some)) for some in (kept, data))
    assert read == original
    assert read.file_meta.FileMetaInformationVersion == b"\0\1"
    assert read.file_meta.TransferSyntaxUID == request.transfer_syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
    assert read.file_meta.FileMetaInformationGroupLength == len(kept) - len(body) - 144
    assert_nothing_staged(parts)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_a_data_set_is_kept_in_its_transfer_syntax(parts: Parts, sink: Arrivals, syntax: str) -> None:
    ds = dataset(1)
    buffer = BytesIO()
    ds.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    pydicom.dcmwrite(
        buffer,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=not big,
        enforce_file_format=True,
    )
    assert store(sink, buffer.getvalue()).outcome == "stored"
    (one,) = instances(parts)
    assert one.transfer_syntax == syntax
    assert parts.storage.get(one.key).endswith(sent(buffer.getvalue())[1])
    assert pydicom.dcmread(BytesIO(parts.storage.get(one.key))).PatientID == "phantom"


def test_real_objects_arrive_with_the_bytes_that_were_sent_or_are_in_quarantine(
    parts: Parts, sink: Arrivals
) -> None:
    real = real_data_folder()
    found = [*pydicom_files(), *(sorted(real.rglob("*"))[::10] if real else [])]
    outcomes: dict[str, int] = {}
    for path in (one for one in found if one.is_file() and one.stat().st_size < 8 << 20):
        try:
            request, body = sent(path.read_bytes())
        except Exception:
            continue  # no DICOM file, which no peer could send
        if body and b"DICOMDIR" not in path.name.encode():
            stored = sink.store(request, pieces(body))
            outcomes[stored.outcome] = outcomes.get(stored.outcome, 0) + 1
            assert stored.size == len(body)
            assert _kept(parts, hashlib.sha256(body).hexdigest(), body), path.name
    assert outcomes["stored"] > 50
    assert outcomes.keys() <= {"stored", "already", "conflict", "unreadable", "mismatch"}


def _kept(parts: Parts, sha256: str, body: bytes) -> bool:
    held = [one.key for one in instances(parts) if one.dataset_sha256 == sha256]
    held += [layout.quarantine_key(one.sha256) for one in refused(parts)]
    return any(parts.storage.get(key).endswith(body) for key in held)


def test_one_data_set_from_two_scanners_is_one_file(tmp_path: Path) -> None:
    kept = []
    for name, sender in (("a", SENDER), ("b", OTHER)):
        parts = parts_in(tmp_path / name)
        store(Arrivals(parts.catalog, parts.storage), dicom(1), sender)
        kept.append(parts.storage.get(instances(parts)[0].key))
        parts.close()
    assert kept[0] == kept[1]


def test_a_long_object_is_streamed_and_ends_as_a_short_one_does(tmp_path: Path) -> None:
    data = dicom(1, size=256)
    kept = []
    for limit in (1 << 20, 5000):
        parts = parts_in(tmp_path / str(limit))
        stored = store(Arrivals(parts.catalog, parts.storage, in_memory=limit), data)
        kept.append((stored, instances(parts), parts.storage.get(instances(parts)[0].key)))
        parts.close()
    assert kept[0] == kept[1]


def test_a_storage_that_is_no_folder_will_do(parts: Parts) -> None:
    storage = MemoryStorage()
    for number, limit in enumerate((1 << 20, 100)):
        sink = Arrivals(parts.catalog, storage, in_memory=limit)
        assert store(sink, dicom(number)).outcome == "stored"
    assert len(list(storage.list())) == 2


# ---- told apart ---------------------------------------------------------------------------------------


def test_the_same_object_again_is_a_success_and_kept_once(parts: Parts, sink: Arrivals) -> None:
    store(sink, dicom(1))
    before = parts.catalog.head()
    again = store(sink, as_bytes(dataset(1), version="OTHER"), OTHER)
    assert (again.outcome, again.fresh, again.series) == (
        "already",
        False,
        SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1"),
    )
    assert len(instances(parts)) == 1
    assert [(a.outcome, a.calling, a.host) for a in arrivals(parts)] == [
        ("already", "SECOND", "127.0.0.2"),
        ("stored", "SCANNER", "127.0.0.1"),
    ]
    assert parts.catalog.head() == before, "nothing of the catalog has changed"
    assert_nothing_staged(parts)


def test_an_object_that_was_ingested_is_already_there(parts: Parts, sink: Arrivals) -> None:
    parts.take([dicom(1)])
    assert store(sink, dicom(1)).outcome == "already"


def test_an_object_whose_original_is_gone_is_not_already_there(parts: Parts, sink: Arrivals) -> None:
    store(sink, dicom(1))
    (one,) = instances(parts)
    parts.storage.delete(one.key)
    again = store(sink, dicom(1))
    assert (again.outcome, again.fresh) == ("stored", False)
    assert hashlib.sha256(parts.storage.get(one.key)).hexdigest() == one.sha256
    assert instances(parts) == [one]


def test_other_bytes_under_one_uid_are_both_kept(parts: Parts, sink: Arrivals) -> None:
    first, second = dicom(1), dicom(1, KVP=1)
    assert [store(sink, data).outcome for data in (first, second, second)] == [
        "stored",
        "conflict",
        "already",
    ]
    kept = instances(parts)
    assert [one.conflict for one in kept] == [False, True]
    for one, data in zip(kept, (first, second), strict=True):
        assert parts.storage.get(one.key).endswith(sent(data)[1])
    (found,) = findings(parts)
    assert (found.kind, found.message) == (
        "conflict",
        "another object with this SOPInstanceUID differs in KVP",
    )


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_what_a_writer_left_behind_is_registered_or_kept_beside(parts: Parts, in_memory: int) -> None:
    """A writer that ended between putting a file in place and registering it."""
    sink = Arrivals(parts.catalog, parts.storage, in_memory=in_memory)
    key = layout.original_key(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1")
    left = as_bytes(dataset(1), version="BEFORE")
    parts.storage.put(key, left)
    assert store(sink, dicom(1, KVP=1)).outcome == "conflict"
    assert store(sink, dicom(1)).outcome == "conflict"
    held = {one.key: one for one in instances(parts)}
    assert held[key].sha256 == hashlib.sha256(left).hexdigest()
    for one in held.values():
        assert hashlib.sha256(parts.storage.get(one.key)).hexdigest() == one.sha256
    assert_nothing_staged(parts)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sop_class_uid": MRImageStorage}, "SOPClassUID"),
        ({"sop_instance_uid": "1.2.3"}, "SOPInstanceUID"),
    ],
)
def test_an_object_that_is_not_what_was_announced_is_a_mismatch(
    parts: Parts, sink: Arrivals, change: dict[str, str], named: str
) -> None:
    request, body = sent(dicom(1))
    wrong = StoreRequest(
        **{name: getattr(request, name) for name in StoreRequest.__slots__} | change  # type: ignore[arg-type]
    )
    stored = sink.store(wrong, pieces(body))
    assert (stored.outcome, named in stored.detail, "phantom" in stored.detail) == ("mismatch", True, False)
    assert_quarantined(parts, body)


def assert_quarantined(parts: Parts, body: bytes) -> None:
    (listed,) = refused(parts)
    assert listed.origin == "C-STORE from SCANNER"
    kept = parts.storage.get(layout.quarantine_key(listed.sha256))
    assert kept.endswith(body)
    assert hashlib.sha256(kept).hexdigest() == listed.sha256
    assert (instances(parts), arrivals(parts)) == ([], [])
    assert_nothing_staged(parts)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0" * 7,
        os.urandom(3) + b"x" * 5000,
        sent(dicom(1, StudyInstanceUID=None))[1],
        sent(dicom(1, SOPInstanceUID=""))[1],
        explicit(2, 0x10, b"UI", ImplicitVRLittleEndian.encode() + b"\0") + sent(dicom(1))[1],
        sent(dicom(1))[1][:-1],
        sent(dicom(1))[1][:-200],
        sent(dicom(1))[1][:300],
    ],
    ids=["empty", "short", "noise", "study", "blank", "group2", "pixel", "pixels", "cut"],
)
@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_what_cannot_be_read_or_is_cut_short_is_in_quarantine(
    parts: Parts, body: bytes, in_memory: int
) -> None:
    sink = Arrivals(parts.catalog, parts.storage, in_memory=in_memory)
    request, _ = sent(dicom(1))
    stored = sink.store(request, pieces(body))
    assert stored.outcome == "unreadable"
    assert_quarantined(parts, body)
    assert sink.store(request, pieces(body)).outcome == "unreadable"
    assert_quarantined(parts, body)


def test_no_cut_inside_an_element_is_taken_for_an_object(parts: Parts, sink: Arrivals) -> None:
    """Compared with where pydicom says that elements end; a cut between two cannot be told."""
    request, body = sent(dicom(1))
    ds = pydicom.dcmread(BytesIO(dicom(1)), defer_size=0)
    begin = len(dicom(1)) - len(body)
    starts = {element.file_tell - begin for element in ds if element.file_tell}  # of values
    for length in range(8, len(body), 7):
        outcome = sink.store(request, pieces(body[:length])).outcome
        ends_whole = any(0 <= start - length <= 12 for start in starts)
        assert outcome == "unreadable" or ends_whole or length == len(body), length
    assert not [one for one in instances(parts) if one.size == 0]


def test_a_deflated_data_set_that_is_cut_is_unreadable(parts: Parts, sink: Arrivals) -> None:
    request, body = sent(dicom(1))
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = deflater.compress(body) + deflater.flush(zlib.Z_SYNC_FLUSH)  # all bytes, and no end
    request = StoreRequest(
        request.sop_class_uid, request.sop_instance_uid, DeflatedExplicitVRLittleEndian, SENDER
    )
    assert sink.store(request, pieces(whole)).outcome == "unreadable"
    assert sink.store(request, pieces(whole + deflater.flush())).outcome == "stored"


def test_trailing_garbage_is_kept_and_told(parts: Parts, sink: Arrivals) -> None:
    request, body = sent(dicom(1))
    body += b"\xfe\xfe garbage behind the pixels"
    assert sink.store(request, pieces(body)).outcome == "stored"
    assert parts.storage.get(instances(parts)[0].key).endswith(body)
    assert len(findings(parts)) == 1


def test_encapsulated_pixels_without_their_end_are_unreadable(parts: Parts, sink: Arrivals) -> None:
    ds = dataset(1, PixelData=pydicom.encaps.encapsulate([bytes(2000), bytes(2000)]))
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    request, body = sent(as_bytes(ds))
    for cut in (1, 8, 9, 500, 2100):
        assert sink.store(request, pieces(body[:-cut])).outcome == "unreadable"
    assert sink.store(request, pieces(body)).outcome == "stored"


# ---- failures -----------------------------------------------------------------------------------------


class Lost(Exception):
    pass


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
@pytest.mark.parametrize("error", [Lost(), ConnectionResetError(104, "reset"), TimeoutError()])
def test_what_the_network_raises_passes_through_and_nothing_is_kept(
    parts: Parts, in_memory: int, error: Exception
) -> None:
    request, body = sent(dicom(1))

    def broken() -> Iterator[memoryview]:
        yield memoryview(body)[:500]
        raise error

    with pytest.raises(type(error)):
        Arrivals(parts.catalog, parts.storage, in_memory=in_memory).store(request, broken())
    assert (instances(parts), refused(parts)) == ([], [])
    assert_nothing_staged(parts)


def test_a_catalog_that_fails_is_told_without_values(parts: Parts, sink: Arrivals) -> None:
    from sqlalchemy import text

    with parts.catalog.database.write() as connection:
        connection.execute(text("ALTER TABLE instance RENAME TO elsewhere"))
    stored = store(sink, dicom(1))
    assert (stored.outcome, "phantom" in stored.detail.lower()) == ("failed", False)
    with parts.catalog.database.write() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO instance"))
    assert store(sink, dicom(1)).outcome == "stored"
    assert_nothing_staged(parts)


def test_an_object_that_cannot_be_placed_does_not_fail_its_neighbours(parts: Parts, sink: Arrivals) -> None:
    objects = series(6)
    key = layout.original_key(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.3")
    (parts.root / key).mkdir(parents=True)
    with parts.catalog.database.write():  # all of them wait for one commit
        threads, found = in_threads(sink, objects, wait=False)
        threading.Event().wait(0.3)
    for thread in threads:
        thread.join()
    assert sorted(found) == ["failed", *["stored"] * 5]
    assert len(instances(parts)) == 5
    assert_nothing_staged(parts)


def test_a_quota_of_a_peer_is_kept_and_hurts_no_other(parts: Parts) -> None:
    size = len(sent(dicom(1))[1])
    quota = {"scanner": 2 * size + 10, "second": None}
    sink = Arrivals(parts.catalog, parts.storage, quotas=lambda sender: quota[sender.peer])
    objects = series(4)
    assert [store(sink, data).outcome for data in objects] == ["stored", "stored", "over_quota", "over_quota"]
    assert [store(sink, data, OTHER).outcome for data in objects] == [
        "already",
        "already",
        "stored",
        "stored",
    ]
    again = Arrivals(parts.catalog, parts.storage, quotas=lambda sender: quota[sender.peer])
    assert store(again, dicom(9)).outcome == "over_quota", "known from the catalog"
    assert_nothing_staged(parts)


def test_bytes_on_their_way_are_of_the_quota_until_they_are_kept_or_given_back(parts: Parts) -> None:
    size = len(sent(dicom(1))[1])
    sink = Arrivals(parts.catalog, parts.storage, quotas=lambda _sender: size + size // 2)
    meanwhile: list[str] = []

    def halting(data: bytes, other: bytes) -> tuple[StoreRequest, Iterator[memoryview]]:
        request, body = sent(data)

        def coming() -> Iterator[memoryview]:
            yield memoryview(body)[:-8]
            meanwhile.append(store(sink, other).outcome)
            if data == lost:
                raise ConnectionError
            yield memoryview(body)[-8:]

        return request, coming()

    lost, first, second = series(3)
    with pytest.raises(ConnectionError):
        sink.store(*halting(lost, second))
    assert sink.store(*halting(first, second)).outcome == "stored", "what broke off holds nothing"
    assert meanwhile == ["over_quota", "over_quota"]
    assert [row.size for row in arrivals(parts)] == [size]
    assert_nothing_staged(parts)


def test_what_comes_again_gives_its_bytes_back(parts: Parts) -> None:
    size = len(sent(dicom(1))[1])
    sink = Arrivals(parts.catalog, parts.storage, quotas=lambda _sender: 2 * size)
    first, second, third = series(3)
    outcomes = [store(sink, data).outcome for data in (first, first, first, second, third)]
    assert outcomes == ["stored", "already", "already", "stored", "over_quota"]


@pytest.mark.parametrize("in_memory", [1 << 20, 0])
def test_many_at_once_fill_a_quota_and_go_no_further(parts: Parts, in_memory: int) -> None:
    size = len(sent(dicom(1))[1])
    quota = 2 * size + size // 2
    sink = Arrivals(parts.catalog, parts.storage, quotas=lambda _sender: quota, in_memory=in_memory)
    begin = threading.Barrier(8)
    found: list[str] = []

    def work(data: bytes) -> None:
        request, body = sent(data)
        begin.wait(20)
        found.append(sink.store(request, pieces(body, 64)).outcome)

    threads = [threading.Thread(target=work, args=(data,)) for data in series(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["over_quota"] * 6 + ["stored"] * 2
    with parts.catalog.read() as view:
        assert network.bytes_of_peers(view) == {"scanner": 2 * size}
    assert_nothing_staged(parts)


def test_a_peer_without_a_quota_is_not_counted(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(*_arguments: object) -> dict[str, int]:
        raise AssertionError("the catalog is asked")

    monkeypatch.setattr(network, "bytes_of_peers", unasked)
    sink = Arrivals(parts.catalog, parts.storage, quotas=lambda _sender: None)
    assert store(sink, dicom(1)).outcome == "stored"


# ---- many at once -------------------------------------------------------------------------------------


def in_threads(
    sink: Sink, objects: list[bytes], *, wait: bool = True
) -> tuple[list[threading.Thread], list[str]]:
    found: list[str] = []

    def work(data: bytes) -> None:
        found.append(store(sink, data).outcome)

    threads = [threading.Thread(target=work, args=(data,)) for data in objects]
    for thread in threads:
        thread.start()
    for thread in threads if wait else ():
        thread.join()
    return threads, found


def test_objects_that_wait_for_the_same_commit_share_a_change(parts: Parts, sink: Arrivals) -> None:
    store(sink, dicom(99))
    before = parts.catalog.head()
    with parts.catalog.database.write():
        threads, found = in_threads(sink, series(12), wait=False)
        threading.Event().wait(0.5)
    for thread in threads:
        thread.join()
    assert found == ["stored"] * 12
    assert parts.catalog.head() - before <= 3
    assert len(instances(parts)) == len(arrivals(parts)) == 13


def test_the_same_and_other_objects_in_one_group_are_told_apart(parts: Parts, sink: Arrivals) -> None:
    objects = [dicom(1), dicom(1), dicom(1, KVP=1), dicom(1, KVP=1), dicom(2), b""]
    with parts.catalog.database.write():
        threads, found = in_threads(sink, objects[:-1], wait=False)
        threading.Event().wait(0.3)
    for thread in threads:
        thread.join()
    assert sorted(found) == ["already", "already", "conflict", "stored", "stored"]
    assert len(instances(parts)) == 3
    assert_nothing_staged(parts)


def test_an_ingest_of_the_same_objects_at_the_same_time_loses_nothing(parts: Parts, sink: Arrivals) -> None:
    """It may keep a data set twice: an ingest puts files in place before it looks again what is there."""
    objects = [*series(40), *series(40, KVP=1)]
    ingest = threading.Thread(target=parts.take, args=(list(reversed(objects)),))
    ingest.start()
    outcomes = [store(sink, data).outcome for data in objects]
    ingest.join()
    assert set(outcomes) <= {"stored", "already", "conflict"}
    held = instances(parts)
    assert {one.dataset_sha256 for one in held} == {
        hashlib.sha256(sent(one)[1]).hexdigest() for one in objects
    }
    assert len({one.key for one in held}) == len(held) >= 80
    for one in held:
        assert hashlib.sha256(parts.storage.get(one.key)).hexdigest() == one.sha256
    assert {found.kind for found in findings(parts)} == {"conflict"}
    assert_nothing_staged(parts)


def test_every_caller_of_a_group_gets_its_own_result_or_the_error() -> None:
    groups: Groups[int, int] = Groups(lambda items: [10 // item for item in items], largest=3)
    found: list[tuple[int, object]] = []

    def work(number: int) -> None:
        try:
            found.append((number, groups.take(number)))
        except ZeroDivisionError as error:
            found.append((number, error))

    threads = [threading.Thread(target=work, args=(number % 6,)) for number in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 300
    assert all(result == 10 // number for number, result in found if isinstance(result, int))
    assert all(isinstance(result, int | ZeroDivisionError) for _, result in found)
    assert groups.take(5) == 2


def test_a_listener_is_told_of_what_is_new_and_cannot_fail_an_object(parts: Parts) -> None:
    told: list[tuple[SeriesKey, str, str | None]] = []

    def listen(key: SeriesKey, uid: str, header: Attributes, request: StoreRequest) -> None:
        told.append((key, uid, header.text("Modality")))
        assert request.sender == SENDER
        raise Lost

    sink = Arrivals(parts.catalog, parts.storage, on_stored=listen)
    assert [store(sink, dicom(1)).outcome for _ in "ab"] == ["stored", "already"]
    assert told == [(SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1"), f"{ROOT}.1.1.1", "CT")]


def test_a_rebuild_is_not_kept_waiting_between_objects(parts: Parts, sink: Arrivals) -> None:
    store(sink, dicom(1))
    with parts.catalog.database.alone() as alone:
        assert alone


# ---- memory -------------------------------------------------------------------------------------------

LARGE = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from dicomlake.catalog.catalog import Catalog
from dicomlake.ingest.arriving import Arrivals
from dicomlake.storage.local import LocalStorage
from tests.ingest.arrivals import sent
from tests.objects import dataset, as_bytes

root, size = Path(sys.argv[1]), int(sys.argv[3])
request, body = sent(as_bytes(dataset(1)))
body = bytearray(body[: -512])
body[-4:] = size.to_bytes(4, "little")
catalog, storage = Catalog.open(root / "catalog.sqlite"), LocalStorage(root)
buffer = memoryview(bytearray(256 << 10))
def pieces():
    yield memoryview(body)
    for _ in range(size // len(buffer)):
        yield buffer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stored = Arrivals(catalog, storage).store(request, pieces())
assert stored.outcome == "stored", stored
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, stored.size)
catalog.close()
storage.close()
"""


def test_a_large_object_takes_little_memory(tmp_path: Path) -> None:
    size = 512 << 20
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path), str(PROJECT), str(size)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    more_mib, stored = map(int, done.stdout.split())
    assert stored > size
    assert more_mib < 80
    (original,) = tmp_path.glob("studies/*/*/originals/*.dcm")
    assert np.memmap(original, mode="r").shape[0] > size
