"""What the monitor tells its page: changes only, at most four times a second, while somebody looks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dicomlake.errors import CatalogError
from dicomlake.records import SeriesKey
from dicomlake.widgets.monitor import Monitor, monitor
from dicomlake.widgets.monitor.page import Keys, changes, page_of, short
from dicomlake.widgets.monitor.rates import Rate, Rates
from tests.widgets.monitor_parts import NAME, FakeSource, event, failure, receiver, series, study

_STILL = Rate(0.0, 0.0, (0.0,) * 60)


class Sent:
    """What a monitor sends, and asks as a page makes them."""

    def __init__(self, source: FakeSource) -> None:
        self.monitor = Monitor(source)
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.monitor.send = lambda content, _buffers=None: self.messages.append((time.monotonic(), content))
        self._number = 0

    def ask(self, name: str, **args: Any) -> dict[str, Any]:
        self._number += 1
        content = {"ask": name, "id": f"t-{self._number}", "args": args}
        self.monitor._handle_custom_msg(content, [])
        (answer,) = [one for _at, one in self.messages if one.get("answer") == f"t-{self._number}"]
        return answer

    def watch(self, view: str = "one", **args: Any) -> dict[str, Any]:
        data: dict[str, Any] = self.ask("watch", view=view, **args)["data"]
        return data

    @property
    def news(self) -> list[dict[str, Any]]:
        return [one["data"] for _at, one in self.messages if one.get("news") == "changed"]


@pytest.fixture
def made() -> Iterator[Callable[[FakeSource], Sent]]:
    all_: list[Sent] = []

    def make(source: FakeSource) -> Sent:
        all_.append(Sent(source))
        return all_[-1]

    yield make
    for one in all_:
        one.monitor.close()
    until(lambda: not any(t.name == "dicomlake-Monitor" for t in threading.enumerate()))


def until(truth: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def _received(news: Any, key: str) -> list[int]:
    rows = news["changes"].get("series", {}).get("set", {})
    return [rows[key]["received"]] if key in rows else []


def _page(source: FakeSource, keys: Keys | None = None) -> Any:
    return page_of(source.snapshot(), _STILL, keys or Keys())


# ---- the page -----------------------------------------------------------------------------------------


def test_a_study_is_as_bad_as_its_worst_series_and_sums_them() -> None:
    rows = [
        series(1, 1, state="ready", received=20, expected=20, missing=0),
        series(1, 2, state="building", received=5, expected=6, missing=1, modality="MR", calling="MR1"),
    ]
    (one,) = _page(FakeSource(series=rows))["studies"].values()
    assert (one["state"], one["received"], one["expected"], one["missing"]) == ("building", 25, 26, 1)
    assert (one["modalities"], one["calling"], one["series"]) == (["CT", "MR"], ["CT1", "MR1"], 2)
    rows[0]["state"] = "failed"
    (one,) = _page(FakeSource(series=rows))["studies"].values()
    assert one["state"] == "failed"
    rows[0]["expected"] = None
    (one,) = _page(FakeSource(series=rows))["studies"].values()
    assert one["expected"] is None, "a sum of which a part is not known is not known"


def test_no_whole_uid_reaches_the_page_whatever_a_source_says() -> None:
    uid = f"{study(1)}.1"
    about = {"study_uid": study(1), "series_uid": uid}
    source = FakeSource(
        series=[series(1, state="failed", problem=f"series {uid} is odd")],
        failures=[failure(f"volume_failed {uid}", reason=f"{uid} lies askew", **about)],
        log=[event(1, detail=f"of {study(1)}")],
    )
    text = json.dumps(_page(source))
    assert uid not in text
    assert study(1) not in text
    assert "<UID> lies askew" in text
    assert short(uid) in json.dumps(_page(source), ensure_ascii=False)


def test_changes_hold_what_is_new_or_other_and_what_is_gone() -> None:
    keys = Keys()
    before = _page(FakeSource(series=[series(1), series(2)]), keys)
    after = _page(FakeSource(series=[series(2, received=4), series(3)]), keys)
    told = changes(before, after)
    assert set(told) == {"studies", "series"} | ({"head"} if before["head"] != after["head"] else set())
    changed = told["series"]
    assert set(changed["set"]) == {keys.of(study(n), f"{study(n)}.1") for n in (2, 3)}
    assert changed["gone"] == [keys.of(study(1), f"{study(1)}.1")]
    assert changes(after, after) == {}


def test_only_the_newest_studies_are_sent() -> None:
    page = _page(FakeSource(series=[series(n) for n in range(1, 301)]))
    assert len(page["studies"]) == 200
    assert {row["study"] for row in page["series"].values()} == set(page["studies"])


def test_rates_are_means_over_the_last_minute_by_second() -> None:
    rates = Rates()
    rates.read(100.0, {"r": (1000, 10**9)})  # of before anybody looked
    rates.read(110.0, {"r": (1100, 10**9 + 50_000_000)})
    assert rates.rate()[:2] == (10.0, 5_000_000)
    assert rates.rate().by_second == (0.0,) * 50 + (10.0,) * 10
    rates.read(111.0, {"r": (0, 0), "new": (11, 0)})  # one began anew, another began
    assert rates.rate().objects == pytest.approx(111 / 11)
    rates.read(160.0, {"r": (0, 0), "new": (11, 0)})
    assert rates.rate().objects == pytest.approx(111 / 60)
    rates.read(171.5, {"r": (0, 0), "new": (11, 0)})
    assert rates.rate()[:2] == (0.0, 0.0)


# ---- watching -----------------------------------------------------------------------------------------


def test_nothing_is_looked_at_before_a_view_is_seen_nor_after(made: Any) -> None:
    source = FakeSource()
    sent = made(source)
    source.set(series=[series(1)])
    assert (source.asked, source.listeners) == (0, [])
    sent.watch()
    until(lambda: source.listeners)
    sent.ask("unwatch", view="one")
    until(lambda: not source.listeners)
    asked = source.asked
    source.set(series=[series(2)])
    time.sleep(0.6)
    assert source.asked == asked


def test_a_view_that_vanished_is_forgotten(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_LAPSE_S", 0.2)
    source = FakeSource()
    sent = made(source)
    sent.watch()
    until(lambda: source.listeners)
    until(lambda: not source.listeners, 5)


def test_many_events_make_few_messages_of_what_changed(made: Any) -> None:
    source = FakeSource(series=[series(1), series(2)])
    sent = made(source)
    data = sent.watch()
    key = next(k for k, row in data["page"]["series"].items() if row["label"] == short(f"{study(1)}.1"))
    begin = time.monotonic()
    for number in range(4, 104):
        source.set(series=[series(1, received=number), series(2)])
        time.sleep(0.01)
    until(lambda: [n for one in sent.news for n in _received(one, key)][-1:] == [103])
    took = time.monotonic() - begin
    assert len(sent.news) <= took / 0.25 + 2
    for one in sent.news:
        assert list(one["changes"].get("series", {"set": {key: {}}})["set"]) == [key], (
            "the other is as it was"
        )
        assert "log" not in one["changes"]
    assert [one["before"] for one in sent.news[1:]] == [one["version"] for one in sent.news[:-1]]


def test_a_source_that_tells_nothing_is_asked_every_two_seconds(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FakeSource(told=False)
    sent = made(source)
    sent.watch()
    source.set(series=[series(1)])
    time.sleep(0.5)
    assert source.asked <= 2
    until(lambda: any("series" in one["changes"] for one in sent.news), 5)


def test_two_views_are_given_the_whole_and_then_the_same_changes(made: Any) -> None:
    source = FakeSource(series=[series(1)])
    sent = made(source)
    one, other = sent.watch("one"), sent.watch("other")
    assert one["page"]["series"] == other["page"]["series"]
    sent.ask("unwatch", view="one")
    source.set(series=[series(1, received=9)])
    until(lambda: sent.news)
    version = sent.news[-1]["version"]
    assert "page" not in sent.watch("other", have=version)
    assert sent.watch("one", have=0)["version"] == version


def test_what_cannot_be_looked_at_is_shown_until_it_can(made: Any) -> None:
    source = FakeSource()
    sent = made(source)
    sent.watch()
    source.failing = CatalogError(f"the catalog is locked by {study(1)}: wait")
    source.set()
    until(lambda: sent.monitor.error)
    assert sent.monitor.error == "the catalog is locked by <UID>: wait"
    source.failing = KeyError(NAME)
    source.set()
    until(lambda: "KeyError" in sent.monitor.error)
    assert NAME not in sent.monitor.error
    source.failing = None
    source.set(series=[series(1)])
    until(lambda: sent.monitor.error == "")
    until(lambda: any("series" in one["changes"] for one in sent.news))


# ---- doing --------------------------------------------------------------------------------------------


def test_settle_and_retry_reach_the_source_by_key(made: Any) -> None:
    source = FakeSource(series=[series(1, state="failed"), series(2)])
    sent = made(source)
    page = sent.watch()["page"]
    of = {row["label"]: key for key, row in page["series"].items()}
    sent.ask("retry", series=of[short(f"{study(1)}.1")])
    sent.ask("settle", study=page["series"][of[short(f"{study(2)}.1")]]["study"])
    until(lambda: len(source.did) == 2)
    assert set(source.did) == {("retry", SeriesKey(study(1), f"{study(1)}.1")), ("settle", study(2))}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("retry", {"series": "s1"}),  # a study
        ("retry", {"series": f"{study(1)}.1"}),
        ("settle", {"study": "e2"}),
        ("settle", {}),
        ("settle", {"study": ["s1"]}),
        ("names", {"studies": "s1"}),
        ("watch", {"view": "x" * 41}),
        ("watch", {"view": 7}),
    ],
)
def test_asks_that_mean_nothing_are_refused(made: Any, name: str, args: Any) -> None:
    source = FakeSource(series=[series(1)])
    sent = made(source)
    sent.watch()
    assert "reload the page" in sent.ask(name, **args)["failed"]
    assert source.did == []


def test_a_retry_that_fails_is_told(made: Any) -> None:
    source = FakeSource(series=[series(1, state="failed")])
    source.retry = lambda series: (_ for _ in ()).throw(CatalogError("the lake is read-only: open another"))
    sent = made(source)
    (key,) = sent.watch()["page"]["series"]
    sent.ask("retry", series=key)
    until(lambda: sent.monitor.error == "the lake is read-only: open another")


def test_names_are_answers_only(made: Any) -> None:
    source = FakeSource(series=[series(1), series(9)], log=[event(1)], failures=[failure()])
    sent = made(source)
    keys = list(sent.watch()["page"]["studies"])
    assert not any(did[0] == "names" for did in source.did)
    names = sent.ask("names", studies=[*keys, "s99", 3])["data"]["names"]
    found = {one["uid"]: one for one in names.values()}
    assert found[study(1)]["PatientID"] == NAME
    assert found[study(9)] == {"known": False, "uid": study(9)}
    everything = json.dumps([sent.monitor.get_state(), sent.news], default=str) + repr(sent.monitor)
    assert NAME not in everything
    assert NAME not in sent.monitor.still()


def test_the_still_holds_counts_only_and_the_traits_nothing_of_it(made: Any) -> None:
    source = FakeSource(series=[series(1, state="ready"), series(2)], failures=[failure()])
    sent = made(source)
    assert sent.monitor.still() == "Monitor of a lake: 2 studies, 1 ready, 1 failure; run the cell to watch"
    sent.watch()
    traits = {name: v for name, v in sent.monitor.get_state().items() if name not in ("_esm", "_css")}
    state = json.dumps(traits, default=str)
    assert "CT1" not in state
    assert receiver()["ae_title"] not in state
    assert len(state) < 2000


def test_closing_ends_the_thread(made: Any) -> None:
    source = FakeSource()
    sent = made(source)
    sent.watch()
    until(lambda: source.listeners)
    sent.monitor.close()
    until(lambda: not source.listeners)
