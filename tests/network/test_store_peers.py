"""Real senders: what they send arrives byte for byte, and they say so themselves."""

from __future__ import annotations

import os
import random
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification

from dicomlake.network.limits import Limits
from dicomlake.network.seams import Answered, Command, Message, Operation, Replies, Reply
from tests.network import raw
from tests.network.raw import Sink, Watcher, serving
from tests.objects import dataset, dicom
from tests.support import pydicom_files, real_data_folder

PRIVATE_CLASS, PRIVATE_SYNTAX = UID("1.3.6.1.4.1.99999.1"), UID("1.3.6.1.4.1.99999.2")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} of DCMTK here")
    return found


def run(name: str, *arguments: object, **environment: str) -> str:
    command = [program(name), *map(str, arguments)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Files of a folder, by SOP Instance UID; among them one of several PDUs."""
    made: dict[str, bytes] = {}
    for number in range(1, 13):
        data = dicom(number, size=512 if number == 1 else 16 + number)
        (tmp_path / f"{number}.dcm").write_bytes(data)
        made[f"{raw.ROOT}.{number}"] = raw.dataset_of(data)
    return made


@pytest.mark.parametrize("delay", ["0", "1"], ids=["Nagle", "no delay"])
@pytest.mark.parametrize("sender", ["storescu", "dcmsend"])
def test_objects_of_dcmtk_arrive_byte_for_byte(
    sender: str, delay: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    sink = Sink()
    with serving(sink, limits=Limits(), ae_titles=["LAKE"]) as server:
        run(
            sender,
            "-aec",
            "LAKE",
            "-aet",
            "SCANNER",
            "+sd",
            "127.0.0.1",
            server.port,
            tmp_path,
            TCP_NODELAY=delay,
        )
    assert sink.objects == files
    assert {request.sender.calling for request in sink.requests} == {"SCANNER"}


def test_dcmtk_with_small_pdus_and_multiple_contexts(files: dict[str, bytes], tmp_path: Path) -> None:
    sink = Sink()
    with serving(sink, limits=Limits(pdu=4096)) as server:
        run("storescu", "-R", "-xv", "-pdu", 4096, "+sd", "127.0.0.1", server.port, tmp_path)
        run("storescu", "--repeat", 3, "127.0.0.1", server.port, tmp_path / "1.dcm")
    assert sink.objects == files
    assert len(sink.requests) == 12 + 3


def test_echoscu_and_termscu_are_answered() -> None:
    watcher = Watcher()
    with serving(limits=Limits(), watcher=watcher) as server:
        run("echoscu", "--repeat", 5, "127.0.0.1", server.port)
        run("echoscu", "--propose-pc", 128, "127.0.0.1", server.port)
        run("echoscu", "--abort", "127.0.0.1", server.port)
        command = [program("termscu"), "127.0.0.1", str(server.port)]
        subprocess.run(command, capture_output=True, timeout=60, check=False)  # a private class: declined
        raw.until(lambda: server.connections == 0)
        run("echoscu", "127.0.0.1", server.port)
    assert ("closed", "aborted") in watcher.events
    assert watcher.events.count(("closed", "released")) >= 3


def test_dcmtk_is_told_that_it_is_not_known() -> None:
    with serving(peers=raw.Peers({}), limits=Limits()) as server:
        command = [program("echoscu"), "127.0.0.1", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stdout + done.stderr


def test_dcmtk_speaks_tls_with_it(tmp_path: Path, files: dict[str, bytes]) -> None:
    key, cert, sink = tmp_path / "key.pem", tmp_path / "cert.pem", Sink()
    command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serving(sink, limits=Limits(), tls=context) as server:
        run("storescu", "+tla", "+cf", cert, "127.0.0.1", server.port, *sorted(tmp_path.glob("*.dcm")))
    assert sink.objects == files


# pynetdicom


@contextmanager
def associated(port: int, contexts: list[object], **how: object) -> Iterator[Association]:
    entity = AE(ae_title="PYNETDICOM")
    entity.requested_contexts = contexts  # type: ignore[assignment]
    association = entity.associate("127.0.0.1", port, **how)  # type: ignore[arg-type]
    assert association.is_established, (association.is_rejected, association.is_aborted)
    try:
        yield association
    finally:
        association.release()
        entity.shutdown()


def test_pynetdicom_stores_private_classes_and_syntaxes() -> None:
    sink, ds = Sink(), dataset(1)
    contexts = [
        build_context(PRIVATE_CLASS, [ExplicitVRLittleEndian]),
        build_context(PRIVATE_CLASS, PRIVATE_SYNTAX),
    ]
    ds.SOPClassUID = PRIVATE_CLASS
    with serving(sink, limits=Limits()) as server, associated(server.port, contexts) as association:
        assert [c.transfer_syntax[0] for c in association.accepted_contexts] == [
            ExplicitVRLittleEndian,
            PRIVATE_SYNTAX,
        ]
        status = association.send_c_store(ds)
        assert status.Status == 0
    (data,) = sink.objects.values()
    back = pydicom.dcmread(BytesIO(raw.with_meta(data, PRIVATE_CLASS)), force=True)
    assert back.PixelData == ds.PixelData
    assert sink.requests[0].sop_class_uid == PRIVATE_CLASS


def test_pynetdicom_proposes_all_it_can_and_gets_it() -> None:
    from pydicom.uid import AllTransferSyntaxes
    from pynetdicom import StoragePresentationContexts

    contexts = [build_context(CTImageStorage, syntax) for syntax in AllTransferSyntaxes]
    many = [*StoragePresentationContexts[:120], build_context(Verification)]
    with serving(limits=Limits()) as server:
        with associated(server.port, contexts) as association:
            assert [c.transfer_syntax[0] for c in association.accepted_contexts] == list(AllTransferSyntaxes)
        with associated(server.port, many) as association:
            assert len(association.accepted_contexts) == 121
            assert association.send_c_echo().Status == 0


def test_pynetdicom_negotiates_roles_identity_and_windows_without_harm() -> None:
    from pynetdicom.pdu_primitives import (
        AsynchronousOperationsWindowNegotiation,
        SOPClassCommonExtendedNegotiation,
        SOPClassExtendedNegotiation,
        UserIdentityNegotiation,
    )

    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"me", True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CTImageStorage, b"\1\1"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CTImageStorage, UID("1.2.840.10008.4.2")
    items = [window, identity, extended, common, build_role(CTImageStorage, scu_role=True, scp_role=True)]
    with (
        serving(limits=Limits()) as server,
        associated(
            server.port, [build_context(CTImageStorage, ExplicitVRLittleEndian)], ext_neg=items
        ) as association,
    ):
        (context,) = association.accepted_contexts
        assert (context.as_scu, context.as_scp) == (True, False)
        assert association.send_c_store(dataset(1)).Status == 0


def test_pynetdicom_tells_the_refusals_of_what_it_may_not_do() -> None:
    peers = raw.Peers({"PYNETDICOM": raw.Peer(operations=frozenset({"echo"}))})
    contexts = [build_context(Verification), build_context(CTImageStorage)]
    with serving(peers=peers, limits=Limits()) as server, associated(server.port, contexts) as association:
        assert [c.abstract_syntax for c in association.accepted_contexts] == [Verification]
        assert [c.result for c in association.rejected_contexts] == [1]
        assert association.send_c_echo().Status == 0


def test_a_get_of_pynetdicom_takes_objects_in_the_role_that_it_was_granted() -> None:
    from pynetdicom import evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get

    answers: list[Answered | None] = []
    content = raw.dataset_of(dicom(1))

    class Getting:
        operation: Operation = "get"
        sop_classes = (str(Get),)

        def answer(self, message: Message) -> Replies:
            for abstract, syntaxes in message.contexts.items():
                command: Command = {0x0100: 1, 2: abstract, 0x0700: 0, 0x1000: f"{raw.ROOT}.1"}
                answers.append((yield Reply(command, content, abstract, min(syntaxes))))
            yield Reply({0x0100: 0x8010, 0x0900: 0, 0x1021: 1, 0x1022: 0, 0x1023: 0})

    got: list[bytes] = []

    def take(event: evt.Event) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0xB000

    contexts = [build_context(Get), build_context(CTImageStorage, ExplicitVRLittleEndian)]
    how = {"ext_neg": [build_role(CTImageStorage, scp_role=True)], "evt_handlers": [(evt.EVT_C_STORE, take)]}
    query = pydicom.Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", "1.2"
    with (
        serving(services=(Getting(),), limits=Limits()) as server,
        associated(server.port, contexts, **how) as association,
    ):
        statuses = [status.Status for status, _ in association.send_c_get(query, Get)]
    assert statuses == [0]
    assert got == [content]
    assert answers == [Answered(0xB000)]


def real_files() -> list[Path]:
    folder = real_data_folder()
    shared = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder else []
    return [path for path in [*pydicom_files(), *shared] if path.stat().st_size < 4 << 20]


def test_real_data_sets_of_every_transfer_syntax_arrive_byte_for_byte() -> None:
    """What lies behind the File Meta Information of real files, cut at random, on a context of its syntax."""
    rng, wanted, syntaxes = random.Random(4), {}, {}
    for number, path in enumerate(real_files()):
        data = path.read_bytes()
        if data[128:132] == b"DICM":
            with suppress(Exception):  # broken on purpose
                content = raw.dataset_of(data)
                meta = pydicom.filereader.read_file_meta_info(path)
                syntaxes[f"1.2.{number}"] = str(meta.TransferSyntaxUID)
                wanted[f"1.2.{number}"] = content
    kinds = sorted(set(syntaxes.values()))
    contexts = [(2 * n + 1, raw.CT, [syntax]) for n, syntax in enumerate(kinds)]
    sink = Sink()
    with serving(sink, limits=Limits()) as server, raw.Raw(server.port) as peer:
        peer.associate(contexts)
        for uid, data in wanted.items():
            size = rng.choice((100, 1000, 16378, 65536, 262138))
            size = max(size, len(data) // 500 + 1)
            peer.send(raw.store(uid, data, 2 * kinds.index(syntaxes[uid]) + 1, size=size))
            assert peer.status() == 0
    assert len(kinds) > 10
    assert len(wanted) > 80
    assert {uid: raw.digest(data) for uid, data in sink.objects.items()} == {
        uid: raw.digest(data) for uid, data in wanted.items()
    }
    assert {r.sop_instance_uid: r.transfer_syntax for r in sink.requests} == {u: syntaxes[u] for u in wanted}


def test_files_as_they_are_stored_arrive_from_dcmtk_as_from_its_own_receiver(tmp_path: Path) -> None:
    """DCMTK writes some data sets anew when it sends; what its own storescp gets is what we get."""
    program("storescp")
    chosen, theirs = tmp_path / "sent", tmp_path / "theirs"
    chosen.mkdir()
    theirs.mkdir()
    for number, path in enumerate(pydicom_files()):
        if path.stat().st_size < 1 << 20 and _of_one_class(path):
            (chosen / f"{number}.dcm").write_bytes(path.read_bytes())
    sink = Sink()
    with serving(sink, limits=Limits()) as server:
        _send(server.port, chosen)
    with _storescp(theirs) as port:
        _send(port, chosen)
    received = [raw.digest(raw.dataset_of(path.read_bytes())) for path in theirs.iterdir()]
    assert len(received) > 40
    assert Counter(received) <= Counter(sink.digests)  # some classes it does not accept


def _of_one_class(path: Path) -> bool:
    """Whether DCMTK sends a file on a context of its class: not where the UIDs of the data set have VR UN."""
    with suppress(pydicom.errors.InvalidDicomError, AttributeError, NotImplementedError, UserWarning):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        known = ds.get_item("SOPClassUID").VR != "UN"  # type: ignore[union-attr]
        return known and bool(ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID)
    return False


_QUICK = {**os.environ, "TCP_NODELAY": "1"}


def _send(port: int, folder: Path) -> None:
    """Send what DCMTK can read of a folder; of what it cannot it says so in the end."""
    options = ["--no-halt", "--no-illegal-proposal", "+sd", "127.0.0.1", str(port), str(folder)]
    subprocess.run([program("dcmsend"), *options], capture_output=True, timeout=120, check=False, env=_QUICK)


@contextmanager
def _storescp(folder: Path) -> Iterator[int]:
    """DCMTK's receiver, bit preserving, accepting every transfer syntax."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [program("storescp"), "+B", "+uf", "+xa", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_QUICK)
    try:
        raw.until(lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
