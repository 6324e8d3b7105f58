"""Commitments and performed steps in a catalog, in SQLite and on a PostgreSQL server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

import dicomlake
from dicomlake.catalog import network
from dicomlake.catalog.catalog import Catalog
from dicomlake.listening.register import CatalogSteps, Register
from dicomlake.network.limits import Limits
from dicomlake.network.peers import ANYWHERE, OPERATIONS, Peer, Peers
from dicomlake.network.seams import Sender
from dicomlake.network.server import Server
from dicomlake.network.services.commitment import Failed, Reference
from dicomlake.network.services.mpps import PERFORMED_STEP, MppsService, Step
from tests import postgres
from tests.listening.test_committing import NoSink
from tests.network.test_mpps import SERIES, STEP, STUDY, begun, ended, performed
from tests.objects import ROOT, series

SENDER = Sender("MODALITY", "DICOMLAKE", "127.0.0.1", "token", "modality")
REFERENCES = [Reference("1.2.840.10008.5.1.4.1.1.2", f"{SERIES}.{number}") for number in (1, 2)]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    pytest.importorskip("psycopg", reason="no driver: pip install 'dicomlake[postgres]'")
    try:
        running = postgres.running()
        with running as found:
            yield found
    except postgres.NoServer as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    place: Path | str = tmp_path / "catalog.sqlite"
    if request.param == "postgresql":
        found: postgres.Server = request.getfixturevalue("server")
        place = found.url(f"register_{abs(hash(request.node.name)) % 10**9}")
    opened = Catalog.open(place)
    try:
        yield opened
    finally:
        opened.close()


def test_a_commitment_goes_its_way_through_the_catalog(catalog: Catalog) -> None:
    register = Register(catalog)
    number = register.add("1.2.3", SENDER, REFERENCES)
    one = register.get(number, "1.2.3")
    assert one is not None
    assert (one.references, one.state, one.failed) == (tuple(REFERENCES), "open", ())
    assert one.requestor == replace(SENDER, peer="")
    assert [found.id for found in register.due("open", one.at + 1)] == [number]
    assert register.due("verified", one.at + 1) == []
    failed = (Failed(*REFERENCES[1], 0x0112),)
    register.put(replace(one, state="verified", failed=failed, next_at=one.at + 100, detail="why"))
    one = register.get(number, "1.2.3")
    assert one is not None
    assert (one.failed, one.detail, one.verdict.committed) == (failed, "why", (REFERENCES[0],))
    assert register.due("verified", one.at + 99) == []
    assert [found.id for found in register.due("verified", one.at + 101)] == [number]
    assert [found.id for found in register.unfinished()] == [number]
    register.put(replace(one, state="failed"))
    assert register.unfinished() == []
    assert [found.id for found in register.given_up()] == [number]


def test_a_number_means_a_commitment_only_with_its_transaction(catalog: Catalog) -> None:
    """A rebuild may number them anew."""
    register = Register(catalog)
    number = register.add("1.2.3", SENDER, REFERENCES)
    assert register.get(number, "1.2.4") is None


def test_a_step_in_the_catalog_is_what_was_put_in(catalog: Catalog) -> None:
    steps = CatalogSteps(catalog)
    assert steps.get(STEP) is None
    step = Step(STEP, "IN PROGRESS", STUDY)
    assert steps.create(step, SENDER)
    assert not steps.create(replace(step, study_uid="1.2"), SENDER)
    assert steps.get(STEP) == step
    after = replace(step, series=step.series, status="COMPLETED")
    assert not steps.set(replace(step, study_uid="1.2"), after)
    assert steps.get(STEP) == step
    assert steps.set(step, after)
    assert steps.get(STEP) == after


def test_of_steps_created_at_once_one_is_the_first(catalog: Catalog) -> None:
    steps = CatalogSteps(catalog)
    steps.create(Step("1.2", "IN PROGRESS", STUDY), SENDER)
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda: won.append(steps.create(Step(STEP, "IN PROGRESS", STUDY), SENDER)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]


def test_a_modality_tells_what_it_makes_and_the_lake_expects_it(tmp_path: Path) -> None:
    peers = Peers((Peer("modality", "MODALITY", ANYWHERE, OPERATIONS),))
    with dicomlake.open(tmp_path / "lake", create=True) as lake:
        service = MppsService(CatalogSteps(lake._catalog))
        server = Server(NoSink(), [service], peers, Limits(), ae_titles=["DICOMLAKE"])
        server.start()
        try:
            statuses = told(server.port)
        finally:
            server.stop(2)
        assert statuses == [0x0000, 0x0111, 0x0000, 0x0000, 0x0110]
        with lake._catalog.read() as view:
            found = network.expectations(view)
        assert [(one.study_uid, one.series_uid, one.count) for one in found] == [
            (STUDY, SERIES, 3),
            (STUDY, f"{ROOT}.1.2", 1),
        ]
        assert {(one.source, one.reference, one.received) for one in found} == {("mpps", STEP, 0)}
        lake.ingest(series(2))
        with lake._catalog.read() as view:
            first, _second = network.expectations(view)
        assert (first.received, first.missing) == (2, (f"{SERIES}.3",))


def told(port: int) -> list[int]:
    """The statuses of: a step, the same again, what it has made so far, what it has made, and more."""
    images = [f"{SERIES}.{number}" for number in (1, 2, 3)]
    whole = performed(SERIES, images), performed(f"{ROOT}.1.2", [], ["1.2.3"]), performed("1.2.9", [])
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(PERFORMED_STEP)
    association = entity.associate("127.0.0.1", port, ae_title="DICOMLAKE")
    assert association.is_established

    def changed(ds: Dataset) -> int:
        return int(association.send_n_set(ds, PERFORMED_STEP, STEP)[0].Status)

    try:
        created = [association.send_n_create(begun(), PERFORMED_STEP, STEP)[0].Status for _ in range(2)]
        return [
            *created,
            changed(ended(performed(SERIES, images[:1]), status="IN PROGRESS")),
            changed(ended(*whole)),
            changed(ended(*whole)),
        ]
    finally:
        association.release()
