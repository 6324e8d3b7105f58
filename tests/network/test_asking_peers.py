"""Programs of others find, move and get what a lake holds, from either server, and agree with each other."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context, build_role

import dicomlake
from dicomlake.lake import Lake
from dicomlake.listening.offering import Offering
from dicomlake.network.limits import Limits
from dicomlake.network.peers import ANYWHERE, Peer, Peers
from dicomlake.network.services.finding import FindService
from dicomlake.network.services.forwarding import Forward
from dicomlake.network.services.getting import GetService
from dicomlake.network.services.moving import MoveService
from tests.network import questions
from tests.network.collecting import Collecting
from tests.network.questions import FIND, GET, MOVE, PATIENT_ROOT, STUDY_ROOT, UNIQUE, keys
from tests.network.test_finding import Rows, study
from tests.objects import ROOT, as_bytes, dataset

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}  # else every message of DCMTK waits for an ACK
_FINDING = [build_context(PATIENT_ROOT + FIND)]
_EVERYBODY = Peer("everybody", networks=ANYWHERE, operations=frozenset({"echo", "find", "move", "get"}))
KINDS = ("fast", "plain")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [one for one in programs if shutil.which(one) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def originals() -> list[bytes]:
    """Three patients with two studies of two series; ASCII, Latin and Japanese names."""
    names = ("Doe^Jane", "Müller^Jörg", "Yamada^Tarou=山田^太郎")
    found = []
    for p, name in enumerate(names, 1):
        for s in (1, 2):
            for r in (1, 2):
                for number in (1, 2, 3):
                    ds = dataset(number, series=f"{ROOT}.{p}.{s}.{r}", StudyInstanceUID=f"{ROOT}.{p}.{s}")
                    ds.SpecificCharacterSet, ds.PatientName, ds.PatientID = "ISO_IR 192", name, f"P{p}"
                    ds.StudyDate, ds.AccessionNumber = f"2024030{p}", f"A{p}{s}"
                    ds.StudyTime, ds.StudyID = f"1{s}0000", str(s)
                    ds.Modality, ds.SeriesNumber = ("CT", "PT")[r - 1], r
                    found.append(as_bytes(ds))
    return found


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    with dicomlake.open(tmp_path_factory.mktemp("asked") / "lake", create=True) as lake:
        lake.ingest(*originals(), volumes=False, progress=False)
        yield lake


def data_sets() -> dict[str, str]:
    """SOPInstanceUID -> hash of the data set behind the File Meta Information."""
    found = {}
    for data in originals():
        length = int.from_bytes(data[140:144], "little")
        ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        found[str(ds.SOPInstanceUID)] = hashlib.sha256(data[144 + length :]).hexdigest()
    return found


@contextmanager
def answering(lake: Lake, kind: str, destination: Peer | None = None, **how: Any) -> Iterator[Any]:
    """A server over a lake, which lets everybody find, move and get."""
    offering = Offering(lake._catalog, lake._mirror, lake._storage)
    peers = Peers((*((destination,) if destination else ()), _EVERYBODY))
    services = [
        FindService(offering, **how),
        MoveService(offering, Forward(), peers.by_ae, interval_s=0.05),
        GetService(offering),
    ]
    with serving(services, peers, kind) as server:
        yield server


@contextmanager
def serving(services: Sequence[Any], peers: Peers, kind: str) -> Iterator[Any]:
    """One of the two servers."""
    module, name = {"fast": ("server", "Server"), "plain": ("plain", "PlainServer")}[kind]
    server = getattr(importlib.import_module(f"dicomlake.network.{module}"), name)(
        Collecting(), services, peers, Limits(), ae_titles=("LAKE",), host="127.0.0.1", port=0
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(2.0)


def run(*command: object, timeout: float = 60) -> str:
    """What a program says; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        timeout=timeout,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, told
    return told


# ---- C-FIND


def found_by_dcmtk(port: int, folder: Path, model: str, *asked: str, title: str = "LAKE") -> list[Dataset]:
    folder.mkdir(exist_ok=True)
    wanted = [part for key in asked for part in ("-k", key)]
    run("findscu", model, "-X", "-od", folder, "-aec", title, *wanted, "127.0.0.1", port)
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


@needs("findscu")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_findscu_finds_every_entity(lake: Lake, tmp_path: Path, kind: str, level: str) -> None:
    asked = [f"QueryRetrieveLevel={level}", "PatientName", *UNIQUE[level], "SpecificCharacterSet=ISO_IR 192"]
    with answering(lake, kind) as server:
        found = found_by_dcmtk(server.port, tmp_path / "out", "-P", *asked)
    objects = [pydicom.dcmread(BytesIO(data)) for data in originals()]
    assert sorted(questions.names_of(found, level)) == sorted(questions.entities(objects, level))
    assert {str(ds.PatientName) for ds in found} == {str(ds.PatientName) for ds in objects}


@needs("findscu", "storescu", "dcmqrscp")
@pytest.mark.parametrize(
    "asked",
    [
        ("STUDY", "PatientName=Doe*"),
        ("STUDY", "PatientName=D?e^*", "PatientID"),
        ("STUDY", "StudyDate=20240302-", "StudyTime"),
        ("STUDY", "StudyDate=20240302", "AccessionNumber=A?1"),
        ("STUDY", "StudyTime=105900-110001"),
        ("STUDY", "AccessionNumber=A32"),
        ("SERIES", f"StudyInstanceUID={ROOT}.2.1", "Modality=PT"),
        ("SERIES", f"StudyInstanceUID={ROOT}.2.1", "SeriesNumber=1"),
        ("IMAGE", f"StudyInstanceUID={ROOT}.2.1", f"SeriesInstanceUID={ROOT}.2.1.2", "InstanceNumber=2"),
    ],
)
def test_matches_are_those_of_dcmqrscp(
    lake: Lake, archive: int, tmp_path: Path, asked: Sequence[str]
) -> None:
    level, *wanted = asked
    given = {one.partition("=")[0] for one in wanted}
    whole = [f"QueryRetrieveLevel={level}", *wanted, *(u for u in UNIQUE[level] if u not in given)]
    theirs = found_by_dcmtk(archive, tmp_path / "theirs", "-S", *whole, title="QR")
    with answering(lake, "fast") as server:
        ours = found_by_dcmtk(server.port, tmp_path / "ours", "-S", *whole)
    assert theirs
    assert sorted(questions.names_of(ours, level)) == sorted(questions.names_of(theirs, level))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A dcmqrscp that holds the same objects; its port."""
    folder = tmp_path_factory.mktemp("dcmqrscp")
    (folder / "db").mkdir()
    port = free_port()
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {folder / 'db'} RW (100, 1024mb) ANY\nAETable END\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["dcmqrscp", "-c", folder / "dcmqrscp.cfg"],
            stdout=log,
            stderr=log,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        try:
            wait_for(port)
            for n, data in enumerate(originals()):
                (folder / f"{n:03}.dcm").write_bytes(data)
            run("storescu", "-aec", "QR", "127.0.0.1", port, *sorted(folder.glob("*.dcm")))
            yield port
        finally:
            process.terminate()
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the other archive does not listen")


@contextmanager
def associated(port: int, contexts: list[Any], **how: Any) -> Iterator[Any]:
    entity = AE("ASKER")
    association = entity.associate("127.0.0.1", port, contexts=contexts, ae_title="LAKE", **how)
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        association.join(5)


@needs("findscu")
def test_a_cancelled_query_ends_after_few_of_a_million_matches() -> None:
    finder = Rows(study(n) for n in range(1_000_000))
    with serving([FindService(finder)], Peers((_EVERYBODY,)), "fast") as server:
        told = run(
            "findscu", "-v", "-S", "--cancel", 3, "-aec", "LAKE", "-k", "QueryRetrieveLevel=STUDY",
            "-k", "StudyInstanceUID", "127.0.0.1", server.port,
        )  # fmt: skip
    assert "Cancel" in told
    assert finder.closed
    assert finder.drawn < 500_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_is_told_to_the_peer(lake: Lake, kind: str) -> None:
    with (
        answering(lake, kind, limit=2) as server,
        associated(server.port, _FINDING) as there,
    ):
        found = [
            s.Status for s, _ in there.send_c_find(keys("STUDY", StudyInstanceUID=""), PATIENT_ROOT + FIND)
        ]
    assert found == [0xFF00, 0xFF00, 0xA700]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_reader_of_answers_holds_nobody_up(lake: Lake, kind: str) -> None:
    """One asks for everything and reads one answer; another is answered meanwhile."""
    with (
        answering(lake, kind) as server,
        associated(server.port, _FINDING) as slow,
    ):
        answers = slow.send_c_find(keys("IMAGE", SOPInstanceUID=""), PATIENT_ROOT + FIND)
        assert next(answers)[0].Status == 0xFF00
        with associated(server.port, [build_context(STUDY_ROOT + FIND)]) as quick:
            found = list(quick.send_c_find(keys("STUDY", StudyInstanceUID=""), STUDY_ROOT + FIND))
        assert len(found) == 7
        assert len(list(answers)) == 36


# ---- C-MOVE and C-GET


@contextmanager
def storing() -> Iterator[tuple[Peer, dict[str, str]]]:
    """A provider by pynetdicom that keeps hashes of the data sets it is sent."""
    got: dict[str, str] = {}

    def keep(event: Any) -> int:
        data = event.request.DataSet.getvalue()
        got[str(event.request.AffectedSOPInstanceUID)] = hashlib.sha256(data).hexdigest()
        return 0x0000

    entity = AE("TARGET")
    entity.supported_contexts = [build_context(CT, [EXPLICIT])]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    try:
        yield Peer("target", "TARGET", ANYWHERE, address=("127.0.0.1", server.server_address[1])), got
    finally:
        server.shutdown()


@needs("movescu")
@pytest.mark.parametrize("kind", KINDS)
def test_movescu_moves_a_study_byte_for_byte(lake: Lake, kind: str) -> None:
    uid = f"{ROOT}.2.1"
    with storing() as (target, got), answering(lake, kind, target) as server:
        run(
            "movescu", "-S", "-aec", "LAKE", "-aem", "TARGET", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={uid}", "127.0.0.1", server.port,
        )  # fmt: skip
    assert got == {name: digest for name, digest in data_sets().items() if name.startswith(f"{uid}.")}
    assert len(got) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_move_tells_its_counts(lake: Lake, kind: str) -> None:
    with (
        storing() as (target, got),
        answering(lake, kind, target) as server,
        associated(server.port, [build_context(PATIENT_ROOT + MOVE)]) as there,
    ):
        final = list(there.send_c_move(keys("PATIENT", PatientID="P1"), "TARGET", PATIENT_ROOT + MOVE))[-1][0]
        unknown = list(there.send_c_move(keys("PATIENT", PatientID="P1"), "NOBODY", PATIENT_ROOT + MOVE))[-1][
            0
        ]
    assert (final.Status, final.NumberOfCompletedSuboperations, final.NumberOfFailedSuboperations) == (
        0,
        12,
        0,
    )
    assert unknown.Status == 0xA801
    assert len(got) == 12


@needs("getscu")
@pytest.mark.parametrize("kind", KINDS)
def test_getscu_gets_a_series_byte_for_byte(lake: Lake, tmp_path: Path, kind: str) -> None:
    uid = f"{ROOT}.3.2.1"
    with answering(lake, kind) as server:
        run(
            "getscu", "-S", "+B", "-aec", "LAKE", "-od", tmp_path, "-k", "QueryRetrieveLevel=SERIES",
            "-k", f"StudyInstanceUID={uid[:-2]}", "-k", f"SeriesInstanceUID={uid}", "127.0.0.1", server.port,
        )  # fmt: skip
    found = {}
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        length = int.from_bytes(data[140:144], "little")
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert ds.file_meta.TransferSyntaxUID == EXPLICIT
        found[str(ds.SOPInstanceUID)] = hashlib.sha256(data[144 + length :]).hexdigest()
    assert found == {name: digest for name, digest in data_sets().items() if name.startswith(f"{uid}.")}
    assert len(found) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_get_by_pynetdicom_brings_every_object(lake: Lake, kind: str) -> None:
    got: dict[str, str] = {}
    lock = threading.Lock()

    def keep(event: Any) -> int:
        with lock:
            data = event.request.DataSet.getvalue()
            got[str(event.request.AffectedSOPInstanceUID)] = hashlib.sha256(data).hexdigest()
        return 0x0000

    contexts = [build_context(PATIENT_ROOT + GET), build_context(CT, [EXPLICIT])]
    how = {"ext_neg": [build_role(CT, scp_role=True)], "evt_handlers": [(evt.EVT_C_STORE, keep)]}
    with answering(lake, kind) as server, associated(server.port, contexts, **how) as there:
        asked = keys("PATIENT", PatientID=["P1"])
        final = list(there.send_c_get(asked, PATIENT_ROOT + GET))[-1][0]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 12)
    assert got == {name: digest for name, digest in data_sets().items() if name.startswith(f"{ROOT}.1.")}
