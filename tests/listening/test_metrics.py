"""The numbers are true, parse as Prometheus, and have few labels whatever peers call themselves."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from dicomlake.listening.events import Event, EventLog
from dicomlake.listening.metrics import CONTENT_TYPE, Metrics
from dicomlake.network.seams import Sender
from tests.listening.senders import CT, request, result


def numbers(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values …) to value, as another program reads the text."""
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_associations_and_objects_are_counted() -> None:
    metrics = Metrics(peers=["CT1"])
    metrics.opened(CT)
    metrics.opened(Sender("STRANGER", "L", "192.0.2.8", "a2"))
    for outcome in ("stored", "stored", "conflict", "full"):
        metrics.stored(request(), result(outcome), 0.003)
    metrics.closed(CT, "released")
    metrics.refused("192.0.2.9", "NOBODY", "unknown AE title")
    found = numbers(metrics)
    assert found["dicomlake_associations",] == 1
    assert found["dicomlake_associations_accepted_total", "CT1"] == 1
    assert found["dicomlake_associations_accepted_total", "other"] == 1
    assert found["dicomlake_associations_closed_total", "released"] == 1
    assert found["dicomlake_associations_refused_total", "unknown AE title"] == 1
    assert found["dicomlake_instances_total", "CT1", "stored"] == 2
    assert found["dicomlake_instances_total", "CT1", "conflict"] == 1
    assert found["dicomlake_instances_total", "CT1", "full"] == 1
    assert found["dicomlake_received_bytes_total", "CT1"] == 4000
    assert found["dicomlake_store_seconds_count",] == 4
    assert found["dicomlake_store_seconds_bucket", "0.005"] == 4
    assert found["dicomlake_store_seconds_bucket", "0.0025"] == 0
    assert found["dicomlake_last_arrival_timestamp_seconds", "CT1"] > 1.7e9


def test_labels_stay_few_whatever_peers_say() -> None:
    metrics = Metrics(peers=["CT1"])
    for number in range(500):
        sender = Sender(f"AE{number}", "L", "192.0.2.8", f"a{number}")
        metrics.opened(sender)
        metrics.stored(request(1, sender), result(), 0.01)
        metrics.closed(sender, f"violation {number}")
        metrics.refused("192.0.2.9", f"AE{number}", f"reason {number}")
    assert len(numbers(metrics)) < 300
    assert numbers(metrics)["dicomlake_instances_total", "other", "stored"] == 500


def test_what_is_not_on_an_association_is_counted_from_events() -> None:
    log, metrics = EventLog(), Metrics()
    with log.subscribe(metrics.event):
        log.tell("series_settled", seconds=0.3, count=100)
        log.tell("series_ready", seconds=2.0, count=100)
        log.tell("volume_failed")
        log.tell("commitment_reported")
        log.tell("commitment_failed")
        log.tell("webhook_failed")
        assert log.flush()
    log.close()
    found = numbers(metrics)
    assert found["dicomlake_settle_seconds_count",] == 1
    assert found["dicomlake_build_seconds_sum",] == 2.0
    assert found["dicomlake_failures_total", "volume_failed"] == 1
    assert found["dicomlake_failures_total", "webhook_failed"] == 1
    assert found["dicomlake_commitments_total", "reported"] == 1
    assert found["dicomlake_commitments_total", "failed"] == 1


def test_what_is_looked_up_is_as_it_is_when_somebody_asks(tmp_path: Path) -> None:
    queue = {"arriving": 2, "building": 0}
    metrics = Metrics(queue=lambda: queue, commitments=lambda: 3, folder=tmp_path)
    assert numbers(metrics)["dicomlake_series", "arriving"] == 2
    queue["arriving"] = 7
    found = numbers(metrics)
    assert found["dicomlake_series", "arriving"] == 7
    assert found["dicomlake_commitments_open",] == 3
    assert found["dicomlake_disk_free_bytes",] > 0


def test_what_cannot_be_looked_up_does_not_take_the_rest_away(tmp_path: Path) -> None:
    def broken() -> int:
        raise OSError

    metrics = Metrics(commitments=broken, folder=tmp_path / "gone")
    found = numbers(metrics)
    assert ("dicomlake_commitments_open",) not in found
    assert found["dicomlake_associations",] == 0


def test_two_receivers_of_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.opened(CT)
    assert (numbers(one)["dicomlake_associations",], numbers(other)["dicomlake_associations",]) == (1, 0)
    assert b"dicomlake" not in prometheus_client.generate_latest()
    assert CONTENT_TYPE.startswith("text/plain")


def test_events_of_other_kinds_change_nothing() -> None:
    metrics = Metrics()
    before = numbers(metrics)
    metrics.event(Event("study_ready"))
    metrics.event(Event("series_ready"))  # of a receiver that builds no volumes
    assert numbers(metrics) == before
