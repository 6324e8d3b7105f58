"""What is fetched from peers, how often, and what is told of it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pydicom
import pytest
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicomlake.errors import AddressError, QueryError
from dicomlake.network.requesting import wanted
from dicomlake.network.requesting.addresses import Address
from dicomlake.network.requesting.associations import Waits
from dicomlake.network.requesting.destination import receiving
from dicomlake.network.requesting.outgoing import Original
from dicomlake.network.requesting.pacing import Pacer, Pacing, Window
from dicomlake.network.requesting.priors import Priors
from dicomlake.network.requesting.pull import Options, _Left, _outcome, pull
from dicomlake.network.requesting.send import send
from dicomlake.network.requesting.studies import Fetched, Study
from dicomlake.network.seams import StoreRequest
from tests.network.requesting.programs import dcmqrscp, free_port, orthanc
from tests.network.requesting.sinks import Kept
from tests.objects import ROOT, series

QUICK = Waits(connect_s=5, answer_s=10, pause_s=0.01, longest_pause_s=0.02)
STUDIES = {  # number of study -> (date, accession, body part, modality)
    1: ("20200101", "A1", "CHEST", "CT"),
    2: ("20210101", "A2", "HEAD", "CT"),
    3: ("20220101", "A3", "CHEST", "MR"),
    4: ("20230101", "A4", "CHEST", "CT"),
}


def uid_of(study: int) -> str:
    return f"{ROOT}.{study}"


def objects() -> list[bytes]:
    """Four studies of one patient, of two series with three slices each."""
    return [
        data
        for study, (date, accession, part, modality) in STUDIES.items()
        for number in (1, 2)
        for data in series(
            3,
            f"{uid_of(study)}.{number}",
            StudyDate=date,
            AccessionNumber=accession,
            BodyPartExamined=part,
            Modality=modality,
            PatientID="ZZPLANTED",
            StudyTime="120000",
            StudyID="1",
        )
    ]


def datasets() -> dict[str, bytes]:
    """SOPInstanceUID -> data set bytes, told by pydicom."""
    found = {}
    for data in objects():
        file = BytesIO(data)
        uid = str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)
        file.seek(132)
        group = pydicom.filereader.read_dataset(
            file, False, True, stop_when=lambda tag, _v, _l: tag.group != 2
        )
        assert group
        found[uid] = data[file.tell() :]
    return found


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """dcmqrscp with the four studies, which sends to DICOMLAKE at `destination`."""
    destination = free_port()
    with dcmqrscp(tmp_path_factory.mktemp("qr"), destination) as found:
        assert send([Original.of(data) for data in objects()], found.address, waits=QUICK).ok
        found.destination = destination
        yield found


def options(**more: Any) -> Options:
    return Options(waits=QUICK, show=False, **more)


def by_move(address: str, destination: int) -> Options:
    listening = receiving(Address.parse(address), ae_title="DICOMLAKE", port=destination)
    return options(by="move", receiving=listening)


@pytest.mark.parametrize("by", ["get", "move"])
def test_a_study_of_dcmqrscp_arrives_with_the_bytes_that_were_sent_to_it(peer: Any, by: str) -> None:
    kept = Kept()
    how = by_move(peer.address, peer.destination) if by == "move" else options()
    report = pull(peer.address, wanted.studies([uid_of(2)]), into=kept, options=how)
    (one,) = report.studies
    assert report.ok, str(report)
    assert (one.outcome, one.moved, one.fresh, one.failed) == ("pulled", 6, 6, 0)
    assert kept.datasets == {u: d for u, d in datasets().items() if u.startswith(f"{uid_of(2)}.")}
    assert one.size == sum(map(len, kept.datasets.values()))
    assert (one.AccessionNumber, one.StudyDate) == ("A2", "20210101")


@pytest.mark.parametrize("by", ["get", "move"])
def test_a_study_of_orthanc_arrives(tmp_path: Path, by: str) -> None:
    destination, kept = free_port(), Kept()
    with orthanc(tmp_path, destination) as found:
        assert send([Original.of(data) for data in objects()], found.address, waits=QUICK).ok
        how = by_move(found.address, destination) if by == "move" else options()
        report = pull(found.address, wanted.studies([uid_of(1), uid_of(3)]), into=kept, options=how)
    assert report.ok, str(report)
    assert [one.expected for one in report.studies] == [6, 6]
    expected = {u: d for u, d in datasets().items() if u.startswith((f"{uid_of(1)}.", f"{uid_of(3)}."))}
    assert kept.datasets == expected


def test_a_query_finds_by_range_and_by_the_patient_root(peer: Any) -> None:
    kept = Kept()
    row = wanted.from_conditions("PatientID=ZZPLANTED", "StudyDate=20210601-20231231")
    report = pull(peer.address, [row], into=kept, options=options(root="study"))
    assert {one.study_uid for one in report.studies} == {uid_of(3), uid_of(4)}
    again = pull(peer.address, [row], into=Kept(), options=options(root="patient"))
    assert {one.study_uid for one in again.studies} == {uid_of(3), uid_of(4)}
    assert again.ok


def test_a_table_of_accessions_gives_a_result_for_each_row(peer: Any, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "\ufeffAccessionNumber;PatientID\r\nA1;ZZPLANTED\r\nNONE;\r\n;\r\nA4;\r\n", encoding="utf-8"
    )
    report = pull(peer.address, wanted.from_csv(table), into=Kept(), options=options(at_once=2))
    assert [(one.row, one.outcome) for one in report.studies] == [
        (1, "pulled"),
        (2, "not_found"),
        (3, "pulled"),
    ]
    assert report.rows == 3
    assert list(report.table()["AccessionNumber"]) == ["A1", "NONE", "A4"]
    assert not report.ok


def test_what_is_here_is_not_fetched_and_of_the_rest_only_the_series_that_lack_something(peer: Any) -> None:
    kept = Kept()
    pull(peer.address, wanted.studies([uid_of(1), uid_of(2)]), into=kept, options=options())
    lost = f"{uid_of(2)}.2.3"
    del kept.datasets[lost]
    kept.studies[uid_of(2)].discard(lost)
    kept.arrivals.clear()
    rows = wanted.studies([uid_of(1), uid_of(2)])
    report = pull(peer.address, rows, into=kept, held=kept.held, options=options())
    assert [one.outcome for one in report.studies] == ["complete", "pulled"]
    assert sorted(kept.arrivals) == [f"{uid_of(2)}.2.{n}" for n in (1, 2, 3)]
    assert report.studies[1].fresh == 1


def test_a_series_more_with_us_does_not_hide_one_that_lacks(peer: Any) -> None:
    """Counting would call this study complete: it has as many instances here as at the peer."""
    kept = Kept()
    pull(peer.address, wanted.studies([uid_of(1)]), into=kept, options=options())
    kept.studies[uid_of(1)].discard(f"{uid_of(1)}.1.1")
    kept.studies[uid_of(1)].add("1.2.3.our.own.segmentation")
    report = pull(peer.address, wanted.studies([uid_of(1)]), into=kept, held=kept.held, options=options())
    assert report.studies[0].outcome == "pulled"


def test_an_interrupted_pull_goes_on_and_sends_nothing_twice_that_was_whole(
    peer: Any, tmp_path: Path
) -> None:
    rows = wanted.studies([uid_of(n) for n in STUDIES])

    def stop_in_the_third(_request: StoreRequest) -> str | None:
        return "failed" if len(kept.arrivals) > 14 else None

    kept = Kept(stop_in_the_third)
    how = options(journal=tmp_path / "pulls")
    first = pull(peer.address, rows, into=kept, held=kept.held, options=how)
    assert [one.outcome for one in first.studies] == ["pulled", "pulled", "partial", "failed"]
    kept.behave = lambda _request: None
    kept.arrivals.clear()
    again = options(journal=tmp_path / "pulls", resume=True)
    second = pull(peer.address, rows, into=kept, held=kept.held, options=again)
    assert second.ok, str(second)
    assert [one.resumed for one in second.studies] == [True, True, False, False]
    assert not [uid for uid in kept.arrivals if uid.startswith((f"{uid_of(1)}.", f"{uid_of(2)}."))]
    assert set(kept.arrivals.values()) == {1}
    assert kept.datasets == datasets()
    third = pull(peer.address, rows, into=kept, held=kept.held, options=again)
    assert [one.resumed for one in third.studies] == [True] * 4


def test_the_journal_is_for_its_owner_only_and_survives_a_line_cut_off(peer: Any, tmp_path: Path) -> None:
    kept, folder = Kept(), tmp_path / "pulls"
    rows = wanted.studies([uid_of(1)])
    pull(peer.address, rows, into=kept, held=kept.held, options=options(journal=folder))
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "ZZPLANTED" not in path.name
    with path.open("ab") as file:
        file.write(b'{"row": "cut')
    report = pull(peer.address, rows, into=kept, held=kept.held, options=options(journal=folder, resume=True))
    assert report.studies[0].resumed
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()] == [rows[0].digest]


def test_priors_are_the_newest_earlier_ones_that_can_be_of_the_modality_and_body_part(peer: Any) -> None:
    def of(priors: Priors) -> list[str]:
        report = pull(peer.address, wanted.studies([uid_of(4)]), into=Kept(), options=options(priors=priors))
        assert report.ok
        assert all(one.prior_of == uid_of(4) for one in report.studies[1:])
        return [one.study_uid.removeprefix(f"{ROOT}.") for one in report.studies]

    assert of(Priors(2)) == ["4", "3", "2"]
    assert of(Priors(9)) == ["4", "3", "2", "1"]
    assert of(Priors(1, modality="same")) == ["4", "2"]
    assert of(Priors(9, body_part="chest")) == ["4", "3", "2", "1"]  # dcmqrscp does not tell
    assert of(Priors(9, modality="CT", body_part="CHEST")) == ["4", "2", "1"]


def test_a_dry_run_asks_and_fetches_nothing(peer: Any) -> None:
    kept = Kept()
    report = pull(peer.address, wanted.studies([uid_of(1)]), into=kept, options=options(dry_run=True))
    assert [(one.outcome, one.study_uid) for one in report.studies] == [("planned", uid_of(1))]
    assert not kept.arrivals


def test_a_sink_that_refuses_makes_the_peer_hear_it_and_the_row_say_why(peer: Any) -> None:
    kept = Kept(lambda request: "full" if request.sop_instance_uid.endswith(".2") else None)
    report = pull(peer.address, wanted.studies([uid_of(1)]), into=kept, options=options())
    (one,) = report.studies
    assert one.outcome == "partial"
    assert (one.fresh, one.failed) == (4, 2)
    assert one.reason


def test_an_unknown_destination_is_named_with_the_remedy(peer: Any) -> None:
    how = options(by="move", move_to="NOBODY")
    report = pull(peer.address, wanted.studies([uid_of(1)]), into=Kept(), options=how)
    assert report.studies[0].outcome == "failed"
    assert "NOBODY" in report.studies[0].reason
    assert "operator" in report.studies[0].reason


def test_a_peer_that_is_not_there_fails_each_row() -> None:
    rows = wanted.studies(["1.2", "1.3"])
    report = pull(f"X@127.0.0.1:{free_port()}", rows, into=Kept(), options=options(retries=1))
    assert [one.outcome for one in report.studies] == ["failed", "failed"]


def test_nothing_identifying_is_in_logs_texts_or_representations(
    peer: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    row = wanted.from_conditions("PatientID=ZZPLANTED", "StudyDate=20200101")
    report = pull(peer.address, [row], into=Kept(), options=options(journal=tmp_path, priors=Priors(1)))
    assert report.ok
    assert report.studies[0].PatientID == "ZZPLANTED"
    told = f"{caplog.text}{report}{report!r}{report._repr_html_()}{report.studies!r}{row!r}"
    assert "PLANTED" not in told.upper()


# ---- a peer that breaks off -------------------------------------------------------------------------------


class Breaking:
    """A C-GET provider by pynetdicom with one study of two series, which aborts once within the second."""

    def __init__(self) -> None:
        self.items = {
            f"1.2.3.{n}": [pydicom.dcmread(BytesIO(data)) for data in series(3, f"1.2.3.{n}")] for n in (1, 2)
        }
        self.aborted = False
        self.sent: list[str] = []

    def find(self, event: Any) -> Iterator[tuple[int, Any]]:
        level = event.identifier.QueryRetrieveLevel
        for uid, items in self.items.items():
            found = pydicom.Dataset()
            found.QueryRetrieveLevel, found.StudyInstanceUID = level, "1.2.3"
            if level == "STUDY":
                found.NumberOfStudyRelatedInstances = 6
                yield 0xFF00, found
                return
            if level == "SERIES":
                found.SeriesInstanceUID = uid
                yield 0xFF00, found
            for item in items if level == "IMAGE" and event.identifier.SeriesInstanceUID == uid else ():
                found.SOPInstanceUID = item.SOPInstanceUID
                yield 0xFF00, found

    def get(self, event: Any) -> Iterator[Any]:
        uids = event.identifier.get("SeriesInstanceUID") or list(self.items)
        uids = [uids] if isinstance(uids, str) else uids
        chosen: Sequence[Any] = [item for uid in uids for item in self.items[str(uid)]]
        yield len(chosen)
        for number, item in enumerate(chosen):
            if number == 4 and not self.aborted:
                self.aborted = True
                event.assoc.abort()
                return
            self.sent.append(str(item.SOPInstanceUID))
            yield 0xFF00, item


@contextmanager
def providing(provider: Breaking) -> Iterator[str]:
    """The address of a provider until the end of the block."""
    entity = AE("PEER")
    entity.supported_contexts = [
        build_context(StudyRootQueryRetrieveInformationModelFind),
        build_context(StudyRootQueryRetrieveInformationModelGet),
    ]
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, provider.find), (evt.EVT_C_GET, provider.get)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"PEER@127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()


def test_a_study_that_breaks_off_goes_on_with_the_series_that_are_not_whole() -> None:
    breaking, kept = Breaking(), Kept()
    with providing(breaking) as address:
        report = pull(address, wanted.studies(["1.2.3"]), into=kept, held=kept.held, options=options())
    assert breaking.aborted
    assert report.ok, str(report)
    assert report.studies[0].fresh == 6
    twice = sorted(uid for uid, count in kept.arrivals.items() if count > 1)
    assert twice == ["1.2.3.2.1"]


class Sparing(Breaking):
    """A provider that sends some instances of what it is asked for and calls that a success.

    counted: it tells how many a study has. listed: it answers below the level of studies.
    """

    def __init__(self, sends: int, *, counted: bool = False, listed: bool = True) -> None:
        super().__init__()
        self.sends, self.counted, self.listed = sends, counted, listed

    def find(self, event: Any) -> Iterator[tuple[int, Any]]:
        if event.identifier.QueryRetrieveLevel != "STUDY" and not self.listed:
            yield 0xA900, None
            return
        for status, found in super().find(event):
            if not self.counted:
                found.pop("NumberOfStudyRelatedInstances", None)
            yield status, found

    def get(self, event: Any) -> Iterator[Any]:
        _count, *chosen = super().get(event)
        yield min(self.sends, len(chosen))
        yield from chosen[: self.sends]


@pytest.mark.parametrize("counted", [True, False])
def test_a_study_of_which_some_came_is_partial_and_fetched_again_by_the_next_run(
    tmp_path: Path, counted: bool
) -> None:
    peer, kept, rows = Sparing(2, counted=counted), Kept(), wanted.studies(["1.2.3"])
    how = options(journal=tmp_path, resume=True)
    told = []
    with providing(peer) as address:
        for sends in (2, 2, 3, 3):  # of the study, then of each series
            peer.sends = sends
            (one,) = pull(address, rows, into=kept, held=kept.held, options=how).studies
            told.append((one.outcome, one.reason, one.resumed))
    assert told == [
        ("partial", "4 instances that the peer lists are not here, 2 came", False),
        ("partial", "2 instances that the peer lists are not here, 4 came", False),
        ("pulled", "", False),
        ("pulled", "", True),
    ]
    assert len(kept.held("1.2.3")) == 6


def test_a_peer_that_lists_no_instances_is_held_to_the_number_it_announced() -> None:
    peer, kept = Sparing(2, counted=True, listed=False), Kept()
    with providing(peer) as address:
        report = pull(address, wanted.studies(["1.2.3"]), into=kept, held=kept.held, options=options())
    (one,) = report.studies
    assert (one.outcome, one.reason) == ("partial", "6 instances were announced, 2 are here, 2 came")


def test_without_a_lake_that_tells_what_it_holds_the_sink_is_what_counts() -> None:
    peer, kept = Sparing(5), Kept()
    with providing(peer) as address:
        report = pull(address, wanted.studies(["1.2.3"]), into=kept, options=options())
    (one,) = report.studies
    assert (one.outcome, one.reason) == ("partial", "1 instances that the peer lists are not here, 5 came")


def test_a_row_that_the_journal_calls_done_is_asked_for_again_where_instances_lack(tmp_path: Path) -> None:
    peer, kept, rows = Sparing(6, counted=True), Kept(), wanted.studies(["1.2.3"])
    how = options(journal=tmp_path, resume=True)
    with providing(peer) as address:
        assert pull(address, rows, into=kept, held=kept.held, options=how).ok
        kept.studies["1.2.3"].discard("1.2.3.2.2")
        (one,) = pull(address, rows, into=kept, held=kept.held, options=how).studies
    assert (one.outcome, one.resumed, kept.arrivals["1.2.3.2.2"]) == ("pulled", False, 2)


@pytest.mark.parametrize(
    ("study", "told", "left", "outcome"),
    [
        (Study("1.2.3"), Fetched(1, reason="0xB000"), _Left(None), "partial"),
        (Study("1.2.3"), Fetched(0, 1, reason="0xB000"), _Left(None), "pulled"),
        (Study("1.2.3"), Fetched(1), _Left(None), "pulled"),
        (Study("1.2.3"), Fetched(1, reason="0xB000"), _Left(1, 0, True), "pulled"),
        (Study("1.2.3"), Fetched(6), _Left(0, 6, True), "failed"),
        (Study("1.2.3", instances=10), Fetched(1), _Left(7), "partial"),
        (Study("1.2.3", instances=10), Fetched(0), _Left(7, 3, True), "failed"),
        (Study("1.2.3"), Fetched(2, failed=1), _Left(2, 0, True), "partial"),
    ],
)
def test_a_study_is_pulled_only_when_nothing_says_that_something_lacks(
    study: Study, told: Fetched, left: _Left, outcome: str
) -> None:
    assert _outcome(study, told, left)[0] == outcome


# ---- pacing and rows --------------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.at, self.slept = 100.0, []

    def __call__(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def test_studies_are_begun_no_faster_than_the_rate() -> None:
    clock = Clock()
    pacer = Pacer(Pacing.parse("30studies/min"), clock=clock, sleep=clock.sleep)
    begun = []
    for _ in range(4):
        pacer.before_study()
        begun.append(clock.at - 100)
    assert begun == [0, 2, 4, 6]


def test_bytes_come_no_faster_than_the_rate() -> None:
    clock = Clock()
    pacer = Pacer(Pacing.parse("2MB/s"), clock=clock, sleep=clock.sleep)
    for _ in range(10):
        pacer.received(1_000_000)
    assert clock.at - 100 == pytest.approx(5)


@pytest.mark.parametrize(
    ("window", "now", "seconds"),
    [
        ("20:00-06:00", "21:15", 0),
        ("20:00-06:00", "05:59", 0),
        ("20:00-06:00", "06:00", 14 * 3600),
        ("20:00-06:00", "19:59", 60),
        ("8:30-17:00", "08:30", 0),
        ("8:30-17:00", "17:00", 15.5 * 3600),
        ("8:30-17:00", "07:00", 1.5 * 3600),
    ],
)
def test_a_window_opens_at_its_time_of_day(window: str, now: str, seconds: float) -> None:
    at = datetime.datetime.strptime(f"2024-03-01 {now}", "%Y-%m-%d %H:%M")
    assert Window.parse(window).seconds_until_open(at) == seconds


def test_a_pull_waits_for_the_window() -> None:
    clock = Clock()
    start = datetime.datetime(2024, 3, 1, 19, 0)
    pacer = Pacer(
        Pacing.parse(window="20:00-06:00"),
        now=lambda: start + datetime.timedelta(seconds=clock.at - 100),
        clock=clock,
        sleep=clock.sleep,
    )
    pacer.before_study()
    assert clock.slept == [3600]


@pytest.mark.parametrize("text", ["25:00-06:00", "20:00", "20:00-20:00", "8-9"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="window"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["fast", "0MB/s", "10", "-1studies/min"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="rate"):
        Pacing.parse(text)


def rows_of(path: Path, text: str) -> list[tuple[int, dict[str, str], str]]:
    path.write_text(text)
    return [(row.number, dict(row.keys), row.refused) for row in wanted.from_csv(path)]


def test_the_index_of_a_data_frame_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"AccessionNumber": ["A100", "A200"], "PatientID": ["P1", None]})
    frame.to_csv(tmp_path / "list.csv")
    assert [(row.number, dict(row.keys), row.refused) for row in wanted.from_csv(tmp_path / "list.csv")] == [
        (1, {"AccessionNumber": "A100", "PatientID": "P1"}, ""),
        (2, {"AccessionNumber": "A200"}, ""),
    ]
    text = "AccessionNumber;;PatientID;\nA1;note;P1;\n"
    assert rows_of(tmp_path / "gap.csv", text) == [(1, {"AccessionNumber": "A1", "PatientID": "P1"}, "")]


@pytest.mark.parametrize(
    ("head", "row", "word"),
    [
        ("AccessionNumber,Modality", ",CT", "would ask for all"),
        (",AccessionNumber", "0,", "would ask for all"),
        ("SeriesInstanceUID", "1.2.3", "StudyInstanceUID"),
        ("AccessionNumber,Modality", "A*,", "AccessionNumber has a wildcard"),
        ("PatientID,AccessionNumber", "P?,A1", "PatientID has a wildcard"),
        ("PatientID,SeriesInstanceUID", "P1,1.2.*", "SeriesInstanceUID has a wildcard"),
        ("AccessionNumber", "\\", "backslash"),
        ("AccessionNumber", "A1,P1", "more cells"),
    ],
)
def test_a_row_that_would_ask_for_more_than_it_names_is_refused_and_the_others_go_on(
    tmp_path: Path, head: str, row: str, word: str
) -> None:
    good = ",".join("7" if name else "0" for name in head.split(","))
    first, second = rows_of(tmp_path / "list.csv", f"{head}\n{row}\n{good}\n")
    assert word in first[2]
    assert (second[0], bool(second[2])) == (2, head == "SeriesInstanceUID")


def test_refused_rows_are_asked_of_no_peer_and_say_why(peer: Any, tmp_path: Path) -> None:
    table, kept = tmp_path / "list.csv", Kept()
    table.write_text("AccessionNumber,Modality\n,CT\nA*,\nA2,CT\n")
    report = pull(peer.address, wanted.from_csv(table), into=kept, options=options(journal=tmp_path))
    assert [(one.row, one.outcome) for one in report.studies] == [(1, "failed"), (2, "failed"), (3, "pulled")]
    assert {uid.removeprefix(f"{ROOT}.")[0] for uid in kept.datasets} == {"2"}
    assert all(one.reason for one in report.failed)
    assert "A*" not in str(report)


@pytest.mark.parametrize("uid", ["", " ", "*", "1.2.*"])
def test_a_study_without_a_whole_uid_is_not_asked_for(peer: Any, uid: str) -> None:
    kept = Kept()
    report = pull(peer.address, wanted.studies([uid]), into=kept, options=options())
    assert [one.outcome for one in report.studies] == ["failed"]
    assert not kept.arrivals


def test_a_column_that_is_no_keyword_is_refused_by_name(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("Accession\nA1\n")
    with pytest.raises(QueryError, match="Accession "):
        wanted.from_csv(table)


@pytest.mark.parametrize("condition", ["PatientID", "PatientID=", "Nothing=1", "QueryRetrieveLevel=STUDY"])
def test_a_condition_that_is_none_is_refused(condition: str) -> None:
    with pytest.raises(QueryError):
        wanted.from_conditions(condition)
