"""What is fetched by DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomlake.errors import AddressError, PeerError
from dicomlake.network.requesting import wanted
from dicomlake.network.requesting.failures import Lost
from dicomlake.network.requesting.multipart import boundary_of, file_of, parts
from dicomlake.network.requesting.priors import Priors
from dicomlake.network.requesting.pull import pull
from tests.network.requesting.sinks import Kept
from tests.network.requesting.test_pull import datasets, objects, options, uid_of
from tests.network.requesting.web_peer import WebPeer, serving


@pytest.fixture
def peer() -> Iterator[WebPeer]:
    with serving(objects()) as found:
        yield found


def of(*numbers: int) -> dict[str, bytes]:
    roots = tuple(f"{uid_of(number)}." for number in numbers)
    return {uid: data for uid, data in datasets().items() if uid.startswith(roots)}


def test_a_study_comes_with_its_bytes_and_one_request_for_all_of_it(peer: WebPeer) -> None:
    kept = Kept()
    report = pull(peer.url, wanted.studies([uid_of(2)]), into=kept, options=options())
    (one,) = report.studies
    assert (one.outcome, one.expected, one.moved, one.fresh) == ("pulled", 6, 6, 6)
    assert kept.datasets == of(2)
    assert len(peer.requests) == 2
    assert {request.transfer_syntax for request in kept.requests} == {"1.2.840.10008.1.2.1"}


def test_a_service_that_does_not_know_the_wildcard_syntax_is_asked_without(peer: WebPeer) -> None:
    peer.star, kept = False, Kept()
    assert pull(peer.url, wanted.studies([uid_of(1)]), into=kept, options=options()).ok
    assert kept.datasets == of(1)


def test_a_body_that_is_cut_off_is_asked_for_again_by_series(peer: WebPeer) -> None:
    peer.cut, kept = 1, Kept()
    report = pull(peer.url, wanted.studies([uid_of(1)]), into=kept, held=kept.held, options=options())
    assert report.ok, str(report)
    assert kept.datasets == of(1)
    assert sorted(uid for uid, count in peer.sent.items() if count > 1) == [f"{uid_of(1)}.2.1"]


def test_a_busy_service_is_asked_again(peer: WebPeer) -> None:
    peer.busy, kept = 2, Kept()
    assert pull(peer.url, wanted.studies([uid_of(1)]), into=kept, options=options()).ok


def test_answers_in_pages_are_all_read(peer: WebPeer) -> None:
    peer.page, kept = 1, Kept()
    row = wanted.from_conditions("PatientID=ZZPLANTED")
    report = pull(peer.url, [row], into=kept, options=options())
    assert [one.study_uid for one in report.studies] == [uid_of(n) for n in (1, 2, 3, 4)]
    assert kept.datasets == datasets()


def test_what_is_here_is_not_asked_for(peer: WebPeer) -> None:
    kept = Kept()
    pull(peer.url, wanted.studies([uid_of(1)]), into=kept, options=options())
    kept.arrivals.clear()
    report = pull(peer.url, wanted.studies([uid_of(1)]), into=kept, held=kept.held, options=options())
    assert report.studies[0].outcome == "complete"
    assert not kept.arrivals


def test_priors_come_by_the_web_too(peer: WebPeer) -> None:
    def of(priors: Priors) -> list[str]:
        report = pull(peer.url, wanted.studies([uid_of(4)]), into=Kept(), options=options(priors=priors))
        return [one.study_uid for one in report.studies]

    assert of(Priors(2, modality="same")) == [uid_of(n) for n in (4, 2, 1)]
    assert of(Priors(9, body_part="chest")) == [uid_of(n) for n in (4, 3, 1)]
    assert of(Priors(9, modality="CT", body_part="CHEST")) == [uid_of(n) for n in (4, 1)]


def test_what_the_sink_refuses_is_told_and_stops_nothing(peer: WebPeer) -> None:
    kept = Kept(lambda request: "full" if request.sop_instance_uid.endswith("1.1") else None)
    report = pull(peer.url, wanted.studies([uid_of(1)]), into=kept, options=options())
    (one,) = report.studies
    assert (one.outcome, one.fresh, one.failed) == ("partial", 5, 1)
    assert "full" in one.reason


def test_credentials_are_sent_and_their_absence_named(peer: WebPeer) -> None:
    peer.token = "secret-token"
    report = pull(peer.url, wanted.studies([uid_of(1)]), into=Kept(), options=options())
    assert "credentials" in report.studies[0].reason
    how = options(headers={"Authorization": "Bearer secret-token"})
    assert pull(peer.url, wanted.studies([uid_of(1)]), into=Kept(), options=how).ok
    assert "secret-token" not in f"{report}{how!r}"


def test_no_log_holds_what_was_asked(peer: WebPeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    row = wanted.from_conditions("PatientID=ZZPLANTED", "StudyDate=20200101")
    assert pull(peer.url, [row], into=Kept(), options=options()).ok
    assert any("ZZPLANTED" in request for request in peer.requests)
    assert "PLANTED" not in caplog.text.upper()


@pytest.mark.parametrize("url", ["https://", "https://user:pw@host/x", "https://host/x?a=b"])
def test_a_url_that_is_no_root_is_refused(url: str) -> None:
    with pytest.raises(AddressError) as caught:
        pull(url, wanted.studies(["1.2"]), into=Kept(), options=options())
    assert "pw" not in str(caught.value)


def test_a_page_that_is_no_dicomweb_is_named(peer: WebPeer) -> None:
    with pytest.raises(PeerError, match="multipart"):
        boundary_of("text/html; charset=utf-8")


@given(
    st.lists(st.binary(max_size=200).filter(lambda part: b"--X" not in part), max_size=4),
    st.integers(1, 50),
)
def test_parts_read_back_however_the_body_is_cut(contents: list[bytes], size: int) -> None:
    body = b"preamble" if size % 2 else b""
    for content in contents:
        body += b"\r\n--X\r\nContent-Type: a/b\r\n\r\n" + content
    body += b"\r\n--X--\r\nepilogue"
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert [b"".join(part) for part in parts(chunks, b"X")] == contents


def test_a_body_without_its_end_is_lost_not_short() -> None:
    body = b"--X\r\nA: b\r\n\r\ncontent\r\n--X\r\nA: b\r\n\r\nhalf"
    read = parts([body], b"X")
    assert b"".join(next(read)) == b"content"
    with pytest.raises(Lost):
        b"".join(next(read))


def test_a_part_that_is_no_dicom_file_is_refused() -> None:
    with pytest.raises(PeerError, match="no DICOM file"):
        file_of(iter([b"x" * 500]))
    with pytest.raises(PeerError, match="cut off"):
        file_of(iter([objects()[0][:150]]))
