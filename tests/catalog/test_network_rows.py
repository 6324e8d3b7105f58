"""What peers sent, were promised and announced: rows that are kept, asked for, and outlive a rebuild."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

import dicomlake
from dicomlake.catalog import migrations, network, reader, schema
from dicomlake.catalog.catalog import Catalog
from dicomlake.errors import CatalogError
from dicomlake.ingest.arriving import Arrivals
from dicomlake.ingest.rebuild import rebuild_catalog
from dicomlake.records import Sender, SeriesKey
from tests.catalog.parts import Parts, parts_in
from tests.ingest.arrivals import SENDER, pieces, sent
from tests.objects import ROOT, dicom, series

OTHER = Sender("SECOND", "DICOMLAKE", "127.0.0.2", "a2", "second")
KEY = SeriesKey(f"{ROOT}.1", f"{ROOT}.1.1")
PAIRS = (("1.2.840.10008.5.1.4.1.1.2", f"{ROOT}.1.1.1"), ("1.2.840.10008.5.1.4.1.1.2", f"{ROOT}.1.1.2"))


@pytest.fixture
def parts(tmp_path: Path, catalog_url: str | None) -> Iterator[Parts]:
    parts = parts_in(tmp_path / "lake", catalog_url)
    yield parts
    parts.close()


def store(parts: Parts, objects: list[bytes], sender: Sender = SENDER) -> list[str]:
    sink = Arrivals(parts.catalog, parts.storage)
    found = []
    for data in objects:
        request, body = sent(data, sender)
        found.append(sink.store(request, pieces(body)).outcome)
    return found


def test_arrivals_say_who_sent_what_and_when(parts: Parts) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=2)
    assert store(parts, [dicom(1), dicom(2)]) == ["stored", "stored"]
    assert store(parts, [dicom(2), dicom(2, KVP=1)], OTHER) == ["already", "conflict"]
    with parts.catalog.read() as view:
        found = network.arrivals(view)
        assert [one.outcome for one in found] == ["conflict", "already", "stored", "stored"]
        assert [one.outcome for one in network.arrivals(view, calling="SECOND")] == ["conflict", "already"]
        assert network.arrivals(view, limit=1) == found[:1]
        assert network.arrivals(view, since=before) == found
        assert network.arrivals(view, since=datetime.datetime.now(datetime.UTC) + datetime.timedelta(1)) == []
        assert network.arrivals(view, series_uid=KEY.series_uid) == found
        assert network.arrivals(view, series_uid="1.2") == []
        held = {one.key for one in reader.all_instances(view)}
    assert {one.key for one in found} == held
    last = found[-1]
    assert (last.sop_instance_uid, last.series_uid, last.study_uid) == (f"{ROOT}.1.1.1", *KEY[::-1])
    assert (last.calling, last.called, last.host, last.association, last.peer) == tuple(
        getattr(SENDER, name) for name in Sender.__slots__
    )
    assert datetime.datetime.fromisoformat(last.at).tzinfo is datetime.UTC
    assert last.size == len(sent(dicom(1))[1])


def test_many_senders_at_once_lose_nothing_on_either_database(parts: Parts) -> None:
    stacks = [series(10, f"{ROOT}.1.{number}") for number in range(1, 5)]
    sink = Arrivals(parts.catalog, parts.storage)
    outcomes: list[str] = []

    def work(stack: list[bytes]) -> None:
        for data in stack:
            request, body = sent(data)
            outcomes.append(sink.store(request, pieces(body)).outcome)

    threads = [threading.Thread(target=work, args=(stack,)) for stack in stacks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["stored"] * 40
    with parts.catalog.read() as view:
        assert len({one.sop_instance_uid for one in network.arrivals(view)}) == 40
        assert len(list(reader.all_instances(view))) == 40


def test_a_refused_object_is_listed_on_either_database(parts: Parts) -> None:
    request, body = sent(dicom(1))
    sink = Arrivals(parts.catalog, parts.storage)
    assert sink.store(request, pieces(body[:-20])).outcome == "unreadable"
    with parts.catalog.read() as view:
        assert [one.origin for one in reader.refused(view)] == ["C-STORE from SCANNER"]
        assert network.arrivals(view) == []


def test_rows_with_nul_are_taken_by_either_database(parts: Parts) -> None:
    odd = Sender("A\0B", "C\0", "h\0", "a\0", "p\0")
    assert store(parts, [dicom(1)], odd) == ["stored"]
    with parts.catalog.database.write() as connection:
        network.add_commitment(connection, "1\0", odd, [("a\0", "b\0")])
        network.add_expectation(connection, "1\0", "2\0", source="told", items=["3\0"])
    with parts.catalog.read() as view:
        assert network.arrivals(view)[0].calling == "AB"
        assert network.commitments(view)[0].transaction_uid == "1"


# ---- commitments --------------------------------------------------------------------------------------


def test_a_commitment_is_open_until_it_was_reported(parts: Parts) -> None:
    catalog = parts.catalog
    with catalog.database.write() as connection:
        first = network.add_commitment(connection, "1.2.3", SENDER, PAIRS)
        second = network.add_commitment(connection, "1.2.4", OTHER, PAIRS[:1], next_at="9999-01-01T00:00:00")
    assert second > first
    with catalog.read() as view:
        (due,) = network.open_commitments(view)
        assert (due.id, due.transaction_uid, due.items, due.state) == (first, "1.2.3", PAIRS, "open")
        assert due.sender == Sender("SCANNER", "DICOMLAKE", "127.0.0.1", "a1")
        assert [one.id for one in network.open_commitments(view, "9999-12-31T00:00:00")] == [first, second]
    with catalog.database.write() as connection:
        network.update_commitment(connection, first, state="verified", attempts=1, result={"failed": []})
    with catalog.read() as view:
        (due,) = network.open_commitments(view)
        assert (due.state, due.attempts, due.result) == ("verified", 1, {"failed": []})
    later = network.stamp(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))
    with catalog.database.write() as connection:
        network.update_commitment(connection, first, next_at=later)
    with catalog.read() as view:
        assert network.open_commitments(view) == []
    with catalog.database.write() as connection:
        network.update_commitment(connection, first, state="reported", next_at=network.now())
    with catalog.read() as view:
        assert network.open_commitments(view) == []
        assert [one.id for one in network.commitments(view)] == [second, first]
        assert [one.id for one in network.commitments(view, transaction_uid="1.2.3")] == [first]
    assert catalog.head() == 0, "bookkeeping is no change of the catalog"


def test_a_commitment_that_is_not_there_cannot_be_updated(parts: Parts) -> None:
    with pytest.raises(CatalogError, match="no commitment 7"), parts.catalog.database.write() as connection:
        network.update_commitment(connection, 7, state="failed")


# ---- expectations -------------------------------------------------------------------------------------


def test_expected_and_received_are_compared(parts: Parts) -> None:
    uids = [f"{KEY.series_uid}.{number}" for number in range(1, 6)]
    with parts.catalog.database.write() as connection:
        network.add_expectation(connection, *KEY, source="mpps", reference="9.1", items=uids)
        network.add_expectation(connection, *KEY, source="told", count=3)
        network.add_expectation(connection, KEY.study_uid, source="told", count=4)
        network.add_expectation(connection, "", source="commitment", reference="9.2", items=uids[3:])
    store(parts, [dicom(1), dicom(3), dicom(3, KVP=1), dicom(1, series=f"{ROOT}.1.2")])

    def compared() -> list[tuple[int | None, int, tuple[str, ...], bool]]:
        with parts.catalog.read() as view:
            return [
                (one.count, one.received, one.missing, one.complete) for one in network.expectations(view)
            ]

    assert compared() == [
        (5, 2, (uids[1], uids[3], uids[4]), False),
        (3, 2, (), False),
        (4, 3, (), False),
        (2, 0, (uids[3], uids[4]), False),
    ]
    store(parts, series(5))
    assert compared() == [(5, 5, (), True), (3, 5, (), True), (4, 6, (), True), (2, 2, (), True)]
    with parts.catalog.read() as view:
        assert len(network.expectations(view, series_uid=KEY.series_uid)) == 2
        assert len(network.expectations(view, study_uid=KEY.study_uid)) == 3


def test_what_the_same_source_says_again_replaces_what_it_said(parts: Parts) -> None:
    with parts.catalog.database.write() as connection:
        for count in (3, 5):
            network.add_expectation(connection, *KEY, source="mpps", reference="9.1", count=count)
        network.add_expectation(connection, *KEY, source="mpps", reference="9.2", count=7)
    with parts.catalog.read() as view:
        assert [one.count for one in network.expectations(view)] == [5, 7]


def test_gaps_in_instance_numbers_are_told_of_a_settled_series(parts: Parts) -> None:
    parts.take([dicom(number) for number in (2, 3, 6, 7, 9, 20)])
    parts.take([dicom(1, series=f"{ROOT}.1.2", InstanceNumber=None)])
    with parts.catalog.read() as view:
        assert network.missing_numbers(view, KEY) == [(4, 5), (8, 8), (10, 19)]
        assert network.missing_numbers(view, SeriesKey(f"{ROOT}.1", f"{ROOT}.1.2")) == []
        assert network.missing_numbers(view, SeriesKey("1", "2")) == []


# ---- over time ----------------------------------------------------------------------------------------


def test_a_rebuild_keeps_what_no_original_says(parts: Parts) -> None:
    store(parts, [dicom(1), dicom(2)])
    with parts.catalog.database.write() as connection:
        gone = network.add_commitment(connection, "1.2.2", SENDER, PAIRS)
        number = network.add_commitment(connection, "1.2.3", SENDER, PAIRS)
        network.update_commitment(connection, number, state="verified", result={"a": 1})
        network.add_expectation(connection, *KEY, source="mpps", items=["1.2"])
        connection.execute(text("DELETE FROM commitment WHERE id = :id"), {"id": gone})

    def all_of_it() -> tuple[object, ...]:
        with parts.catalog.read() as view:
            return network.arrivals(view), network.commitments(view), network.expectations(view)

    before = all_of_it()
    assert rebuild_catalog(parts.catalog, parts.storage, show=False) == 2
    assert all_of_it() == before
    with parts.catalog.database.write() as connection:
        assert network.add_commitment(connection, "1.2.4", SENDER, PAIRS) > number


def test_a_catalog_of_schema_5_gets_the_tables_and_can_be_rebuilt_from(tmp_path: Path) -> None:
    parts = parts_in(tmp_path / "lake")
    parts.take([dicom(1)])
    with parts.catalog.database.write() as connection:
        for table in schema.NETWORK:
            table.drop(connection)
        connection.execute(text("UPDATE info SET value = '5' WHERE name = 'schema_version'"))
    parts.close()
    with dicomlake.open(tmp_path / "lake2", create=True):
        pass
    catalog = Catalog.open(tmp_path / "lake" / "catalog.sqlite")
    with catalog.read() as view:
        assert {table.name for table in schema.NETWORK} <= set(inspect(view).get_table_names())
        assert migrations.version(view) == 6
        assert network.arrivals(view) == []
    catalog.close()


def test_the_rows_are_in_no_digest_of_the_catalog() -> None:
    assert not set(schema.NETWORK) & set(schema.DIGESTED)
