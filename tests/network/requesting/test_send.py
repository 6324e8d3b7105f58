"""What is sent to peers, and what is told of it."""

from __future__ import annotations

import ssl
import subprocess
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.dsutils import split_dataset

from dicomlake.dicom.headers import read_header
from dicomlake.dicom.pixels import FrameReader
from dicomlake.dicom.walk import InMemory
from dicomlake.errors import AddressError, UnsupportedPixels
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.outgoing import Original
from dicomlake.network.requesting.proposing import batches
from dicomlake.network.requesting.send import send
from dicomlake.network.requesting.transcoding import _in_range, part10, transcoded
from tests.network.requesting.programs import storescp
from tests.network.requesting.scp import storing
from tests.objects import ROOT, as_bytes, dicom, explicit, series

QUICK = Waits(connect_s=5, answer_s=5, pause_s=0.01, longest_pause_s=0.02)
FILES = (  # of pydicom: implicit, JPEG 2000, JPEG lossless, RLE, JPEG-LS, big endian, deflated, report
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "image_dfl.dcm",
    "reportsi.dcm",
    "rtplan.dcm",
)


def file(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def content(path: Path) -> bytes:
    """The data set behind the File Meta Information, told by pynetdicom."""
    return path.read_bytes()[split_dataset(path)[1] :]


@pytest.mark.parametrize("name", FILES)
def test_storescp_receives_the_bytes_of_the_original(tmp_path: Path, name: str) -> None:
    with storescp(tmp_path, "+xa") as peer:
        report = send([Original.of(file(name))], peer.address, waits=QUICK)
    assert report.ok, str(report)
    (path,) = peer.folder.iterdir()
    original = content(file(name))
    assert not report.objects[0].transcoded
    assert content(path) == original + b"\0" * (len(original) % 2)  # a deflated one is padded (PS3.5 A.5)


def test_large_objects_arrive_whole_in_small_pdus(tmp_path: Path) -> None:
    data = dicom(1, size=1500)
    (tmp_path / "one.dcm").write_bytes(data)
    with storescp(tmp_path, "--max-pdu", "4096") as peer:
        report = send([Original.of(tmp_path / "one.dcm")], peer.address, waits=QUICK)
    (path,) = peer.folder.iterdir()
    assert report.sent == 1
    assert content(path) == content(tmp_path / "one.dcm")


@pytest.mark.parametrize("name", FILES)
def test_a_peer_that_takes_only_implicit_vr_gets_the_same_values(tmp_path: Path, name: str) -> None:
    with storescp(tmp_path, "+xi") as peer:
        report = send([Original.of(file(name))], peer.address, waits=QUICK)
    assert report.ok, str(report)
    (path,) = peer.folder.iterdir()
    sent = pydicom.dcmread(path)
    assert sent.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    _same_but_pixels(pydicom.dcmread(file(name)), sent)


def test_private_sequences_keep_their_values_in_another_encoding() -> None:
    """Nobody knows these elements: a sequence must still be one, and a value the same bytes."""
    ds, item = pydicom.dcmread(BytesIO(dicom(1))), pydicom.Dataset()
    item.add_new((0x0011, 0x0010), "LO", "NOBODY KNOWS")
    item.add_new((0x0011, 0x1002), "UN", b"\x01\x02\x03\x04")
    ds.add_new((0x0011, 0x0010), "LO", "NOBODY KNOWS")
    ds.add_new((0x0011, 0x1001), "SQ", [item, pydicom.Dataset()])
    data = as_bytes(ds)
    implicit = transcoded(InMemory(data), read_header(data), "1.2.840.10008.1.2")
    again = part10(implicit, "1.2.840.10008.1.2")
    back = transcoded(InMemory(again), read_header(again), "1.2.840.10008.1.2.1")
    for found in (
        pydicom.filereader.read_dataset(BytesIO(implicit), True, True),
        pydicom.filereader.read_dataset(BytesIO(back), False, True),
    ):
        first, second = found[0x0011, 0x1001].value
        assert first[0x0011, 0x1002].value == b"\x01\x02\x03\x04"
        assert len(second) == 0
        assert found.PixelData == ds.PixelData


def test_overshoot_of_lossy_pixels_does_not_wrap_around() -> None:
    """A decoder gives 1024 where 10 bits are stored: written as it is, the brightest pixels became black."""
    ds = pydicom.dcmread(BytesIO(dicom(1, BitsStored=10, HighBit=9)))
    form = FrameReader(as_bytes(ds)).form
    values = np.array([[0, 1023], [1024, 512]], np.uint16)
    assert _in_range(values, form, "1.2.840.10008.1.2.4.51").tolist() == [[0, 1023], [1023, 512]]
    with pytest.raises(UnsupportedPixels):
        _in_range(values, form, "1.2.840.10008.1.2.4.70")


def test_a_data_set_of_odd_length_is_listed_and_ends_no_association() -> None:
    odd = Original.of(dicom(1) + explicit(0x7FE1, 0x10, b"LO", b"odd"))
    with storing() as peer:
        report = send([odd, Original.of(dicom(2))], peer.address, waits=QUICK)
    assert [one.outcome for one in report.objects] == ["unsent", "sent"]
    assert "odd" in report.objects[0].detail
    assert peer.associations == 1


def _same_but_pixels(before: pydicom.Dataset, after: pydicom.Dataset) -> None:
    compressed = before.file_meta.TransferSyntaxUID.is_encapsulated
    pixels = ("PixelData", "PhotometricInterpretation", "PlanarConfiguration", "LossyImageCompression")
    skipped = {pydicom.datadict.tag_for_keyword(k) for k in (*pixels, "LossyImageCompressionMethod")}
    for element in before:
        if element.tag.element == 0 or element.tag.group == 0x7FE0 or (compressed and element.tag in skipped):
            continue
        if element.VR == "UN" or after[element.tag].VR == "UN":
            continue  # pydicom converts values of known private elements only when it knows their VR
        assert after[element.tag].value == element.value, element.tag
    if "PixelData" in before and "YBR" not in before.PhotometricInterpretation:
        assert np.array_equal(before.pixel_array, after.pixel_array)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
def test_a_peer_that_refuses_a_compressed_syntax_gets_the_pixels_decoded(name: str) -> None:
    original = Original.of(file(name))
    with storing(classes=[original.sop_class_uid], syntaxes=["1.2.840.10008.1.2.1"]) as peer:
        report = send([original], peer.address, waits=QUICK)
    (one,) = report.objects
    assert (one.outcome, one.sent_as, one.transcoded) == ("sent", "1.2.840.10008.1.2.1", True)
    sent = pydicom.dcmread(BytesIO(peer.datasets[original.sop_instance_uid]), force=True)
    sent.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    expected = pydicom.dcmread(file(name))
    if "YBR" in expected.PhotometricInterpretation:
        assert sent.PhotometricInterpretation == "RGB"
        assert sent.LossyImageCompression == "01"
        difference = np.abs(sent.pixel_array.astype(int) - expected.pixel_array.astype(int))
        assert difference.max() <= 2  # another decoder's rounding
    else:
        assert np.array_equal(sent.pixel_array, expected.pixel_array)


def test_without_transcoding_what_the_peer_does_not_take_is_listed_and_the_rest_goes() -> None:
    compressed, plain = Original.of(file("MR_small_RLE.dcm")), Original.of(file("CT_small.dcm"))
    classes = [compressed.sop_class_uid, plain.sop_class_uid]
    with storing(classes=classes, syntaxes=["1.2.840.10008.1.2.1"]) as peer:
        report = send([compressed, plain], peer.address, waits=QUICK, transcode=False)
    assert [one.outcome for one in report.objects] == ["unsent", "sent"]
    assert "1.2.840.10008.1.2.5" in report.objects[0].detail
    assert list(peer.datasets) == [plain.sop_instance_uid]


def test_pixels_that_no_decoder_is_trusted_with_are_listed_with_the_reason() -> None:
    ds = pydicom.dcmread(BytesIO(dicom(1)))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # video
    ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    with storing(syntaxes=["1.2.840.10008.1.2.1"]) as peer:
        report = send([Original.of(buffer.getvalue()), Original.of(dicom(2))], peer.address, waits=QUICK)
    assert [one.outcome for one in report.objects] == ["unsent", "sent"]
    assert "no trusted decoder" in report.objects[0].detail


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0xA700, "failed"),
        (0xA900, "failed"),
        (0xC001, "failed"),
        (0x0110, "failed"),
        (0xB000, "warning"),
        (0xB007, "warning"),
    ],
)
def test_statuses_are_failures_or_warnings_as_the_standard_says(status: int, outcome: str) -> None:
    with storing(lambda peer, _event: status if peer.total == 2 else 0) as peer:
        report = send([Original.of(d) for d in series(3)], peer.address, waits=QUICK)
    assert [one.outcome for one in report.objects] == ["sent", outcome, "sent"]
    assert report.objects[1].status == status
    assert f"0x{status:04X}" in report.objects[1].detail
    assert report.ok == (outcome == "warning")
    assert peer.associations == 1


def test_what_was_acknowledged_is_not_sent_again_after_an_abort() -> None:
    aborted: list[str] = []

    def abort_once(peer: Any, event: Any) -> int:
        if peer.total == 5 and not aborted:
            aborted.append(str(event.request.AffectedSOPInstanceUID))
            event.assoc.abort()
        return 0

    items = [Original.of(d) for d in series(12)]
    with storing(abort_once) as peer:
        report = send(items, peer.address, waits=QUICK)
    assert report.ok
    assert peer.associations == 2
    twice = [uid for uid, count in peer.arrivals.items() if count > 1]
    assert twice == aborted == [items[4].sop_instance_uid]
    assert [one.tries for one in report.objects] == [1, 1, 1, 1, 2, *[1] * 7]
    assert len(peer.arrivals) == 12


def test_an_object_that_ends_every_association_does_not_stop_the_others() -> None:
    poison = f"{ROOT}.1.1.2"

    def behave(_peer: Any, event: Any) -> int:
        if event.request.AffectedSOPInstanceUID == poison:
            event.assoc.abort()
        return 0

    with storing(behave) as peer:
        report = send([Original.of(d) for d in series(4)], peer.address, waits=QUICK, retries=1)
    assert [one.outcome for one in report.objects] == ["sent", "failed", "sent", "sent"]
    assert peer.arrivals[poison] == 2


def test_a_peer_that_ends_every_association_is_left_alone_after_a_while() -> None:
    def behave(_peer: Any, event: Any) -> int:
        event.assoc.abort()
        return 0

    with storing(behave) as peer:
        report = send([Original.of(d) for d in series(30)], peer.address, waits=QUICK, retries=1)
    assert report.counts()["failed"] == 30
    assert peer.associations <= 6


def test_a_rejection_names_its_reason_and_is_not_tried_again() -> None:
    with storing(require_calling=["SOMEBODY"]) as peer:
        report = send([Original.of(dicom(1))], peer.address, waits=QUICK)
    (one,) = report.objects
    assert one.outcome == "failed"
    assert "Calling AE title not recognised" in one.detail
    assert peer.total == 0


def test_nobody_at_the_address_is_a_failure_of_every_object() -> None:
    from tests.network.requesting.programs import free_port

    report = send([Original.of(d) for d in series(2)], f"X@127.0.0.1:{free_port()}", waits=QUICK, retries=1)
    assert report.counts()["failed"] == 2
    assert not report.ok


def test_a_peer_that_never_answers_is_given_up_in_time() -> None:
    released = threading.Event()

    def silent(_peer: Any, _event: Any) -> int:
        released.wait(20)
        return 0

    waits = Waits(connect_s=5, answer_s=0.5, pause_s=0.01)
    with storing(silent) as peer:
        report = send([Original.of(dicom(1))], peer.address, waits=waits, retries=0)
        released.set()
    assert report.objects[0].outcome == "failed"
    assert report.seconds < 10


def test_more_contexts_than_an_association_holds_make_several() -> None:
    classes = sorted({str(c.abstract_syntax) for c in AllStoragePresentationContexts})[:100]
    items = [Original.of(dicom(n, SOPClassUID=uid)) for n, uid in enumerate(classes, 1)]
    assert [len(b.contexts) for b in batches(items, transcode=True)] == [128, 72]
    with storing(classes=classes, syntaxes=["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]) as peer:
        report = send(items, peer.address, waits=QUICK)
    assert report.ok
    assert peer.proposed == [128, 72]
    assert sorted(peer.datasets) == sorted(item.sop_instance_uid for item in items)


def test_a_bare_data_set_is_sent_from_its_first_byte() -> None:
    data = dicom(1)
    bare = data[data.index(b"\x08\0\x05\0") if b"\x08\0\x05\0CS" in data else data.index(b"\x08\0\x08\0CS") :]
    with storing() as peer:
        report = send([Original.of(bare)], peer.address, waits=QUICK)
    assert report.ok
    assert list(peer.datasets.values()) == [bare]


def test_an_object_without_uids_is_listed_and_stops_nothing() -> None:
    broken = Original("", "1.2", "1.2.840.10008.1.2", 0, opener=lambda: pytest.fail("opened"))
    with storing() as peer:
        report = send([broken, Original.of(dicom(1))], peer.address, waits=QUICK)
    assert [one.outcome for one in report.objects] == ["unsent", "sent"]
    assert "SOPClassUID" in report.objects[0].detail


def test_a_file_that_went_away_is_listed_and_stops_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(number))
    items = [Original.of(tmp_path / f"{n}.dcm") for n in (1, 2)]
    (tmp_path / "1.dcm").unlink()
    with storing() as peer:
        report = send(items, peer.address, waits=QUICK)
    assert [one.outcome for one in report.objects] == ["unsent", "sent"]
    assert "cannot be read" in report.objects[0].detail


def test_a_dry_run_asks_nobody() -> None:
    report = send([Original.of(d) for d in series(3)], "X@127.0.0.1:1", dry_run=True)
    assert report.counts()["planned"] == 3
    assert "would be sent" in str(report)


def test_the_report_is_a_table_text_and_html_with_a_row_an_object() -> None:
    with storing(lambda peer, _event: 0xA700 if peer.total == 1 else 0) as peer:
        report = send([Original.of(d) for d in series(3)], peer.address, waits=QUICK)
    table = report.table()
    assert list(table["outcome"]) == ["failed", "sent", "sent"]
    assert list(table["status"]) == [0xA700, 0, 0]
    assert "out of resources" in str(report)
    assert "out of resources" in report._repr_html_()
    assert report.as_dict()["sent"] == 2
    assert repr(report).startswith("<SendReport: 2 sent, 1 failed")


def test_nothing_identifying_is_in_report_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    items = [Original.of(dicom(n, PatientID="ZZPLANTED", PatientName="Zz^Planted")) for n in (1, 2)]
    with storing(lambda peer, _event: 0xC000 if peer.total == 1 else 0) as peer:
        report = send(items, peer.address, waits=QUICK)
    assert "planted" not in f"{report}{report.as_dict()}{report!r}{items}{caplog.text}".lower()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("host:104", "AE title"),
        ("AE@host", "port"),
        ("AE@host:x", "port"),
        ("AE@host:0", "65535"),
        ("AE@host:70000", "65535"),
        ("@host:104", "AE title is missing"),
        ("ABCDEFGHIJKLMNOPQ@host:104", "16"),
        ("A\\B@host:104", "backslash"),
        ("AE@ho st:104", "host"),
        ("AE@::1:104", "brackets"),
    ],
)
def test_an_address_that_is_none_is_refused_by_what_is_wrong(text: str, word: str) -> None:
    with pytest.raises(AddressError, match=word):
        Address.parse(text)


@pytest.mark.parametrize("text", ["AE@host:104", "A B@127.0.0.1:11112", "X@[::1]:104", "A@B@host:104"])
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(Address.parse(text)) == text


def test_a_peer_with_tls_is_spoken_to_in_tls(tmp_path: Path) -> None:
    from tests.network.requesting.programs import program

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    options = ("+tls", str(key), str(certificate), "-ic")
    client = ssl.create_default_context(cafile=str(certificate))
    with storescp(tmp_path, *options) as peer:
        report = send([Original.of(dicom(1))], peer.address, tls=client, waits=QUICK)
        plain = send([Original.of(dicom(2))], peer.address, waits=QUICK, retries=0)
        strict = ssl.create_default_context()
        unknown = send([Original.of(dicom(3))], peer.address, tls=strict, waits=QUICK, retries=0)
    assert report.ok
    assert not plain.ok
    assert not unknown.ok
    assert len(list(peer.folder.iterdir())) == 1
