"""STOW-RS over real sockets: what is sent is stored byte for byte; what is not is told for each object."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pydicom
import pytest
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomlake.catalog import reader
from dicomlake.ingest.arriving import Arrivals
from dicomlake.network.seams import Stored, StoreRequest
from dicomlake.network.web.limits import WebLimits
from tests.listening.arriving import parts
from tests.network.collecting import Collecting
from tests.network.web import bodies
from tests.network.web.bodies import STUDIES, Served, dataset_bytes, end, multipart, part, served, uid_of
from tests.objects import ROOT, as_bytes, dataset, dicom, head, series
from tests.support import PROJECT, pydicom_files

CURL = shutil.which("curl")


@pytest.fixture
def lake() -> Iterator[Served]:
    with served() as running:
        yield running


def answered(response: httpx.Response) -> pydicom.Dataset:
    assert response.headers["content-type"] == "application/dicom+json"
    return pydicom.Dataset.from_json(response.json())


def reasons(response: httpx.Response) -> dict[str, int]:
    failed = answered(response).get("FailedSOPSequence", [])
    return {str(one.ReferencedSOPInstanceUID): one.FailureReason for one in failed}


def stored_uids(response: httpx.Response) -> list[str]:
    return [str(one.ReferencedSOPInstanceUID) for one in answered(response).get("ReferencedSOPSequence", [])]


class Answering(Collecting):
    """Answers each object by its number, the last component of its UID."""

    def __init__(self, **by_number: str) -> None:
        super().__init__(whole=True)
        self.by_number = by_number

    def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
        super().store(request, pieces)
        outcome = self.by_number.get("n" + request.sop_instance_uid.rpartition(".")[2], "stored")
        if outcome == "raises":
            raise ValueError("Somebody^Secret")
        return Stored(outcome)  # type: ignore[arg-type]


# ---- what is stored -----------------------------------------------------------------------------------


def test_every_data_set_arrives_byte_for_byte_with_what_the_file_meta_says(lake: Served) -> None:
    files = [*series(3), as_bytes(dataset(9, series=f"{ROOT}.2.1"), version="OTHER")]
    response = lake.post(multipart(*files))
    assert response.status_code == 200
    assert stored_uids(response) == [uid_of(one) for one in files]
    assert reasons(response) == {}
    for file in files:
        request, content = lake.sink.received[uid_of(file)]
        assert content == dataset_bytes(file)
        meta = pydicom.dcmread(io.BytesIO(file)).file_meta
        assert request.sop_class_uid == meta.MediaStorageSOPClassUID
        assert request.transfer_syntax == meta.TransferSyntaxUID
        assert (request.sender.calling, request.sender.called) == ("STOW-RS", "LAKE")
        assert (request.sender.host, request.sender.peer) == ("127.0.0.1", "loopback")
    assert ("closed", "STOW-RS", "released") in lake.watcher.events


def test_the_files_of_pydicom_arrive_byte_for_byte_or_are_refused_by_reason(lake: Served) -> None:
    files = [p.read_bytes() for p in pydicom_files() if p.stat().st_size < 2 << 20]
    files = [one for one in files if one[128:132] == b"DICM"]
    response = lake.post(multipart(*files))
    assert response.status_code in (200, 202)
    told = answered(response)
    others = told.get("OtherFailuresSequence", [])
    assert len(stored_uids(response)) + len(reasons(response)) + len(others) == len(files)
    assert len(stored_uids(response)) > 50
    with warnings.catch_warnings(action="ignore"):
        sent = {dataset_bytes(one) for one in files}
    assert {content for _request, content in lake.sink.received.values()} <= sent


def test_one_file_by_itself_is_taken(lake: Served) -> None:
    file = dicom(4)
    assert lake.post(file, content_type="application/dicom").status_code == 200
    assert lake.sink.received[uid_of(file)][1] == dataset_bytes(file)


def test_identifiers_missing_in_the_file_meta_are_those_of_the_data_set(lake: Served) -> None:
    file = head() + dataset_bytes(dicom(5))
    assert lake.post(multipart(file)).status_code == 200
    request, content = lake.sink.received[f"{ROOT}.1.1.5"]
    assert (request.sop_class_uid, content) == (CTImageStorage, dataset_bytes(file))


def test_where_file_meta_and_data_set_name_two_objects_the_data_set_counts(lake: Served) -> None:
    ds = dataset(5)
    ds.SOPInstanceUID = f"{ROOT}.77"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=False)
    assert b"1.1.5" in buffer.getvalue()
    assert stored_uids(lake.post(multipart(buffer.getvalue()))) == [f"{ROOT}.77"]
    assert list(lake.sink.received) == [f"{ROOT}.77"]


def test_a_study_behind_a_long_header_is_found_up_to_a_bound() -> None:
    ds = dataset(3)
    ds.add_new(0x00090010, "LO", "LONG")
    ds.add_new(0x00091001, "OB", bytes(200_000))
    file = as_bytes(ds)
    path = f"{STUDIES}/{ROOT}.1"
    with served() as lake:
        assert lake.post(multipart(file), path=path).status_code == 200
        assert lake.sink.received[uid_of(file)][1] == dataset_bytes(file)
    with served(limits=WebLimits(look_bytes=10_000)) as lake:
        assert reasons(lake.post(multipart(file), path=path)) == {uid_of(file): 0xA900}


@pytest.mark.parametrize("begin", [128, 132])
def test_a_file_without_preamble_or_prefix_is_taken_as_its_meta_says_it_all(lake: Served, begin: int) -> None:
    file = dicom(5)
    assert lake.post(multipart(file[begin:])).status_code == 200
    assert lake.sink.received[uid_of(file)][1] == dataset_bytes(file)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_study_of_the_url_is_looked_up_in_every_encoding(lake: Served, syntax: str) -> None:
    ds = dataset(6)
    ds.file_meta.TransferSyntaxUID = syntax
    file = as_bytes(ds)
    assert lake.post(multipart(file), path=f"{STUDIES}/{ROOT}.1").status_code == 200
    assert lake.sink.received[uid_of(file)][1] == dataset_bytes(file)


def test_an_object_of_another_study_than_the_url_says_is_not_stored(lake: Served) -> None:
    mine, other = dicom(1), dicom(2, series=f"{ROOT}.8.1")
    response = lake.post(multipart(mine, other), path=f"{STUDIES}/{ROOT}.1")
    assert response.status_code == 202
    assert stored_uids(response) == [uid_of(mine)]
    assert reasons(response) == {uid_of(other): 0xA900}
    assert uid_of(other) not in lake.sink.received
    assert "StudyInstanceUID is not that of the URL" in response.headers["warning"]


def test_a_lake_holds_what_was_sent_once_and_tells_conflicts_and_broken_objects_apart(tmp_path: Path) -> None:
    files = series(4)
    changed = dicom(1, SeriesDescription="other")
    cut = dicom(9)[:-100]
    with parts(tmp_path) as lake, served(Arrivals(lake.catalog, lake.storage)) as running:
        assert running.post(multipart(*files)).status_code == 200
        assert running.post(multipart(*files)).status_code == 200
        response = running.post(multipart(changed, cut))
        assert stored_uids(response) == [uid_of(changed)]
        assert reasons(response) == {uid_of(cut): 0xC000}
        with lake.catalog.read() as view:
            held = list(reader.all_instances(view))
        assert len(held) == 5
        hashes = {hashlib.sha256(dataset_bytes(one)).hexdigest() for one in (*files, changed)}
        assert {one.dataset_sha256 for one in held} == hashes
        originals = [lake.storage.get(one.key) for one in held]
        assert {dataset_bytes(one) for one in originals} == {dataset_bytes(one) for one in (*files, changed)}


# ---- what is answered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("unreadable", 0xC000),
        ("mismatch", 0xA900),
        ("full", 0xA700),
        ("over_quota", 0xA700),
        ("failed", 0x0110),
        ("refused", 0x0124),
        ("raises", 0x0110),
    ],
)
def test_a_failure_is_told_for_the_object_and_the_others_are_stored(outcome: str, reason: int) -> None:
    files = series(3)
    with served(Answering(n2=outcome)) as lake:
        response = lake.post(multipart(*files))
        assert response.status_code == 202
        assert reasons(response) == {uid_of(files[1]): reason}
        assert stored_uids(response) == [uid_of(files[0]), uid_of(files[2])]
        assert "Secret" not in response.text + response.headers["warning"]
        alone = lake.post(multipart(files[1]))
        assert alone.status_code == (503 if outcome == "full" else 409)
        assert reasons(alone) == {uid_of(files[1]): reason}


def test_an_object_kept_beside_another_may_be_told_as_a_warning() -> None:
    with served(Answering(n1="conflict")) as lake:
        assert lake.post(multipart(dicom(1))).status_code == 200
    with served(Answering(n1="conflict"), conflict=0xB000) as lake:
        response = lake.post(multipart(dicom(1)))
        assert response.status_code == 202
        assert answered(response).ReferencedSOPSequence[0].WarningReason == 0xB000


def test_what_is_no_dicom_file_is_told_without_a_name(lake: Served) -> None:
    bad = [
        b"",
        b"no DICOM",
        dataset_bytes(dicom(1)),
        bytes(132),
        head()[:150],
        head() + b"\x08\0\x16\0UI\x02\x001\0",
    ]
    body = b"".join(map(part, bad)) + part(dicom(1), b"Content-Type: image/jpeg\r\n")
    response = lake.post(body + part(dicom(2)) + end())
    assert response.status_code == 202
    assert [one.FailureReason for one in answered(response).OtherFailuresSequence] == [0xC000] * 7
    assert list(lake.sink.received) == [uid_of(dicom(2))]


def test_the_answer_comes_as_xml_when_that_is_what_is_accepted() -> None:
    files = series(2)
    with served(Answering(n2="mismatch")) as lake:
        response = lake.post(multipart(*files), accept="application/dicom+xml, application/dicom+json;q=0.5")
    assert response.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(response.content)
    name = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    values = {
        (found.get("keyword"), inner.get("keyword")): inner.findtext(f"{name}Value")
        for found in root
        for inner in found.iter(f"{name}DicomAttribute")
        if inner is not found
    }
    assert values["ReferencedSOPSequence", "ReferencedSOPInstanceUID"] == uid_of(files[0])
    assert values["FailedSOPSequence", "ReferencedSOPInstanceUID"] == uid_of(files[1])
    assert values["FailedSOPSequence", "FailureReason"] == str(0xA900)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 415),
        ({"content_type": 'multipart/related; type="application/dicom+json"; boundary=x'}, 415),
        ({"content_type": 'multipart/form-data; boundary="x"'}, 415),
        ({"content_type": ""}, 415),
        ({"content_type": "multipart/related; type=application/dicom"}, 400),
        ({"content_type": 'multipart/related; boundary="not closed'}, 400),
        ({"content_encoding": "gzip"}, 415),
        ({"accept": "text/html"}, 406),
        ({"accept": "application/dicom+json;q=0, */*;q=0"}, 406),
    ],
)
def test_a_request_that_is_not_taken_is_answered_with_the_remedy(
    lake: Served, headers: dict[str, str], status: int
) -> None:
    response = lake.post(multipart(dicom(1)), **headers)
    assert response.status_code == status
    assert len(response.json()["error"]) > 20
    assert lake.sink.received == {}
    assert lake.post(multipart(dicom(1))).status_code == 200


def test_a_path_that_is_no_study_and_methods_that_are_not_offered(lake: Served) -> None:
    assert lake.post(multipart(dicom(1)), path=f"{STUDIES}/Some^Name").status_code == 400
    assert lake.client.get(STUDIES).status_code == 405
    assert lake.client.get("/").status_code == 404
    assert lake.client.get("/dicomweb/").status_code == 404


@pytest.mark.parametrize(
    "cut",
    [b"", bodies.part(b"")[:-2], multipart(dicom(1))[:-20], multipart(dicom(1), dicom(2))[: -len(end())]],
)
def test_a_body_without_its_end_is_malformed_and_its_last_object_is_not_kept(
    lake: Served, cut: bytes
) -> None:
    response = lake.post(cut)
    assert response.status_code == 400
    whole = cut.count(b"application/dicom") - 1
    assert len(lake.sink.received) == max(0, whole)
    if whole > 0:
        assert stored_uids(response) == [uid_of(dicom(1))]


def test_no_part_at_all_is_malformed(lake: Served) -> None:
    response = lake.post(end())
    assert (response.status_code, response.json()) == (400, {"error": "the body holds no part"})


def test_headers_of_a_part_without_end_are_malformed(lake: Served) -> None:
    response = lake.post(part(dicom(1), b"A: " + b"x" * 20_000 + b"\r\n") + end())
    assert response.status_code == 400


# ---- bounds -------------------------------------------------------------------------------------------


def test_too_many_parts_and_too_many_bytes_are_too_large() -> None:
    files = series(4)
    with served(limits=WebLimits(parts=3, linger_s=0.5)) as lake:
        response = lake.post(multipart(*files))
        assert response.status_code == 413
        assert stored_uids(response) == [uid_of(one) for one in files[:3]]
    with served(limits=WebLimits(request_bytes=2000, linger_s=0.5)) as lake:
        assert lake.post(multipart(*files)).status_code == 413
        assert lake.post(iter([multipart(*files)])).status_code == 413  # chunked, without a length
        assert lake.sink.received == {}


def test_an_object_too_large_fails_and_the_next_is_stored() -> None:
    large, small = dicom(1, size=64), dicom(2)
    with served(limits=WebLimits(object_bytes=4000)) as lake:
        response = lake.post(multipart(large, small))
        assert response.status_code == 202
        assert reasons(response) == {uid_of(large): 0xA700}
        assert list(lake.sink.received) == [uid_of(small)]
        assert lake.post(multipart(large)).status_code == 409


def test_more_requests_than_may_be_at_once_are_told_to_come_later() -> None:
    here, go_on = threading.Event(), threading.Event()

    class Waiting(Collecting):
        def store(self, request: StoreRequest, pieces: Iterator[memoryview]) -> Stored:
            here.set()
            assert go_on.wait(20)
            return super().store(request, pieces)

    with served(Waiting(), limits=WebLimits(requests=1)) as lake:
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.append(lake.post(multipart(dicom(1))).status_code))
        thread.start()
        assert here.wait(20)
        second = lake.post(multipart(dicom(2)))
        go_on.set()
        thread.join()
        assert (second.status_code, second.headers["retry-after"]) == (503, "5")
        assert first == [200]
        assert lake.post(multipart(dicom(2))).status_code == 200


def test_twelve_clients_at_once_each_get_their_own_answer(lake: Served) -> None:
    found: dict[int, list[str]] = {}

    def send(number: int) -> None:
        files = series(5, f"{ROOT}.7.{number}")
        with httpx.Client(base_url=lake.url, timeout=30, trust_env=False) as client:
            response = client.post(STUDIES, content=multipart(*files), headers={"content-type": bodies.TYPE})
        found[number] = stored_uids(response)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(12):
        assert found[number] == [f"{ROOT}.7.{number}.{i}" for i in range(1, 6)]
    assert len(lake.sink.received) == 60


SERVE = """
import hashlib, resource, sys
from dicomlake.network.seams import Stored
from dicomlake.network.web.app import app
from dicomlake.network.web.serving import HttpServer
class Sink:
    def store(self, request, pieces):
        digest = hashlib.sha256()
        for piece in pieces: digest.update(piece)
        self.found = digest.hexdigest()
        return Stored("stored")
sink = Sink()
with HttpServer(app(sink)) as server:
    print(server.port, flush=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdin.readline()
    print(sink.found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
"""


def test_a_part_of_200_mb_takes_bounded_memory() -> None:
    block = bytes(range(256)) * 4096
    begin, count = dicom(1), 200

    def body() -> Iterator[bytes]:
        yield part(begin)[:-2]
        for _ in range(count):
            yield block
        yield b"\r\n" + end()

    wanted = hashlib.sha256(dataset_bytes(begin))
    for _ in range(count):
        wanted.update(block)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}{STUDIES}"
        response = httpx.post(
            url, content=body(), headers={"content-type": bodies.TYPE}, timeout=60, trust_env=False
        )
        process.stdin.write("\n")
        process.stdin.flush()
        found, grown_kib = process.stdout.readline().split()
    assert response.status_code == 200
    assert found == wanted.hexdigest()
    assert int(grown_kib) < 50 << 10


# ---- other clients ------------------------------------------------------------------------------------


@pytest.mark.skipif(CURL is None, reason="the program curl is not installed")
def test_curl_with_a_body_made_by_hand_is_answered(lake: Served, tmp_path: Path) -> None:
    files = series(3)
    large = dicom(7, series=f"{ROOT}.3.1", size=1200)  # so large that curl sends Expect: 100-continue
    (tmp_path / "body").write_bytes(multipart(*files, large))
    command = [
        *(str(CURL), "-sS", "--noproxy", "*", "-H", f"Content-Type: {bodies.TYPE}"),
        *("-H", "Expect: 100-continue", "--data-binary", f"@{tmp_path}/body", lake.url + STUDIES),
    ]
    done = subprocess.run(command, capture_output=True, check=True)
    told = pydicom.Dataset.from_json(json.loads(done.stdout))
    assert len(told.ReferencedSOPSequence) == 4
    assert lake.sink.received[uid_of(large)][1] == dataset_bytes(large)


def test_dicomweb_client_stores_and_reads_what_is_answered() -> None:
    client_module = pytest.importorskip("dicomweb_client")
    datasets = [dataset(number) for number in (1, 2, 3)]
    with served(Answering(n2="mismatch")) as lake, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pydicom, for what the client calls
        client = client_module.DICOMwebClient(f"{lake.url}/dicomweb", chunk_size=1000)
        client._session.trust_env = False
        told = client.store_instances(datasets)
        assert [str(one.ReferencedSOPInstanceUID) for one in told.ReferencedSOPSequence] == [
            f"{ROOT}.1.1.1",
            f"{ROOT}.1.1.3",
        ]
        assert told.FailedSOPSequence[0].FailureReason == 0xA900
        told = client.store_instances(datasets[:1], study_instance_uid=f"{ROOT}.1")
        assert len(told.ReferencedSOPSequence) == 1
        assert told.get("FailedSOPSequence") is None
        client._session.close()
