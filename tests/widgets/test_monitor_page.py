"""The monitor in Chromium: rows as events come, buttons that reach Python, names only when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from dicomlake.records import SeriesKey
from dicomlake.widgets.monitor import Monitor
from tests.widgets.monitor_parts import EVIL, NAME, FakeSource, event, failure, receiver, series, study
from tests.widgets.stage import Stage

WHO = ["●", "Receiving", "as", "DICOMLAKE", "on", "127.0.0.1:11112", "·", "1", "association"]
DARK = {
    "--jp-ui-font-color1": "rgba(255,255,255,0.87)",
    "--jp-ui-font-color2": "rgba(255,255,255,0.6)",
    "--jp-layout-color1": "#111111",
    "--jp-layout-color2": "#424242",
    "--jp-border-color2": "#616161",
    "--jp-brand-color1": "#2196f3",
    "--jp-warn-color1": "#ff9800",
    "--jp-error-color1": "#f44336",
    "--jp-success-color1": "#4caf50",
}


_VISIBILITY = """value => {
    Object.defineProperty(document, "visibilityState", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange")); }"""


def dark(page: Page) -> None:
    """The colours of JupyterLab's dark theme."""
    page.evaluate(
        """colours => { for (const [name, value] of Object.entries(colours))
            document.documentElement.style.setProperty(name, value);
            document.body.style.background = "#111111"; }""",
        DARK,
    )


@pytest.fixture
def shown(stage: Stage) -> Iterator[Any]:
    made: list[Monitor] = []

    def show(source: FakeSource) -> Page:
        made.append(Monitor(source))
        stage.draw(made[-1])
        stage.page.wait_for_selector("[data-dl-state=ready]")
        return stage.page

    yield show
    for one in made:
        one.close()


def _rows(page: Page) -> list[list[str]]:
    found = page.locator(".dl-mon-scroll >> nth=0").locator("tbody tr")
    return found.evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.replaceAll('\\n', ' ').trim()))"
    )


def _until_text(page: Page, selector: str, text: str) -> None:
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


def test_rows_appear_and_change_as_it_is_told(stage: Stage, shown: Any) -> None:
    source = FakeSource()
    page = shown(source)
    assert "Nothing arrived yet" in page.inner_text(".dl-mon-empty")
    assert page.inner_text(".dl-mon-who").split() == WHO
    source.set(series=[series(1, received=3, expected=12, missing=9)])
    page.wait_for_selector("tr.dl-mon-study")
    ((uid, modality, state, received, missing, _since, calling, button),) = _rows(page)
    assert (modality, state, received, missing, calling, button) == (
        "CT",
        "↓ arriving",
        "3 of 12",
        "9",
        "CT1",
        "Settle now",
    )
    assert "1 series" in uid
    bar = page.locator("[role=progressbar]")
    assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == ("3", "12")
    source.set(series=[series(1, state="ready", received=12, expected=12, missing=0), series(2)])
    page.wait_for_function("document.querySelectorAll('tr.dl-mon-study').length === 2")
    rows = _rows(page)
    assert [row[2] for row in rows] == ["↓ arriving", "✓ ready"], "the newest comes first"
    assert rows[1][3] == "12 of 12"
    assert rows[1][7] == "", "nothing is to be settled"
    page.wait_for_function("document.querySelector('.dl-live').textContent.includes('1 study is ready')")
    source.set(series=[])
    page.wait_for_function("document.querySelectorAll('tr.dl-mon-study').length === 0")


def test_a_study_unfolds_into_its_series_and_stays_so(stage: Stage, shown: Any) -> None:
    rows = [
        series(1, 1, state="ready", missing_numbers=[[4, 6], [9, 9]], received=20),
        series(1, 2, modality="MR", calling="MR1"),
    ]
    source = FakeSource(series=rows)
    page = shown(source)
    assert _rows(page)[0][4] == "2 gaps"
    page.focus(".dl-mon-twist")
    page.keyboard.press("Enter")
    page.wait_for_selector("tr.dl-mon-series")
    assert [row[1] for row in _rows(page)] == ["CT, MR", "CT", "MR"]
    assert _rows(page)[1][4] == "no. 4–6, 9"
    source.set(series=[rows[0], rows[1] | {"received": 77}])
    _until_text(page, "tr.dl-mon-series:last-child", "77")
    assert page.evaluate("document.activeElement.className") == "dl-mon-twist", "the focus stays"
    assert page.get_attribute(".dl-mon-twist", "aria-expanded") == "true"
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelectorAll('tr.dl-mon-series').length === 0")


def test_settle_and_try_again_reach_python_by_keyboard(stage: Stage, shown: Any) -> None:
    failed = series(1, state="failed", problem="VolumeError: no step is constant")
    about = {"study_uid": failed["study_uid"], "series_uid": failed["series_uid"]}
    source = FakeSource(
        series=[failed],
        failures=[failure("v", kind="volume_failed", reason="no step", retry=True, **about), failure()],
    )
    page = shown(source)
    assert page.locator(".dl-mon-failures li").count() == 2
    page.focus(".dl-mon-action button")
    page.keyboard.press("Enter")
    stage.until(lambda: ("settle", study(1)) in source.did)
    page.focus(".dl-mon-failures button:not([hidden])")
    page.keyboard.press("Space")
    stage.until(lambda: ("retry", SeriesKey(study(1), f"{study(1)}.1")) in source.did)
    source.did.clear()
    page.click(".dl-mon-twist")
    assert "no step is constant" in page.inner_text(".dl-mon-problem")
    page.get_by_role("button", name="Try again the series ending in 498.1000.1").click()
    stage.until(lambda: source.did == [("retry", SeriesKey(study(1), f"{study(1)}.1"))])
    source.set(series=[failed | {"state": "building"}], failures=[])
    page.wait_for_function("document.querySelectorAll('.dl-mon-failures li').length === 0")
    assert page.is_visible("text=✓ None")


def test_names_come_only_after_the_toggle_and_go_with_it(stage: Stage, shown: Any) -> None:
    source = FakeSource(series=[series(1), series(9)])
    page = shown(source)
    assert NAME not in page.content()
    assert not any(one[0] == "names" for one in source.did)
    page.click("text=Show names")
    _until_text(page, "tbody", NAME)
    assert "not known before it settles" in page.inner_text("tbody")
    state = page.evaluate("JSON.stringify([...models.values()].map(model => model.state))")
    assert NAME not in state
    source.set(series=[series(1), series(2), series(9)])  # a study that comes later has its name too
    page.wait_for_function(
        "name => document.querySelector('tbody').textContent.split(name).length === 3", arg=NAME
    )
    page.click("text=Show names")
    page.wait_for_function("name => !document.body.innerHTML.includes(name)", arg=NAME)


def test_hostile_text_is_text(stage: Stage, shown: Any) -> None:
    evil = series(1, modality=EVIL[:16], calling=EVIL, state="failed", problem=EVIL)
    source = FakeSource(
        series=[evil],
        failures=[failure(EVIL, reason=EVIL, calling=EVIL, kind=EVIL)],
        log=[event(1, EVIL, detail=EVIL, calling=EVIL)],
        receivers=[receiver(ae_title=EVIL, host=EVIL)],
    )
    page = shown(source)
    page.click(".dl-mon-twist")
    page.click("summary")
    page.click("text=Show names")
    _until_text(page, "tbody", NAME)
    assert page.locator("#stage img, #stage script").count() == 0
    assert page.title() != "owned"
    for place in (".dl-mon-reason", ".dl-mon-problem", ".dl-mon-detail", ".dl-mon-who", ".dl-mon-name"):
        assert EVIL in str(page.text_content(place)), place


def test_a_page_that_is_hidden_or_scrolled_away_asks_nothing(stage: Stage, shown: Any) -> None:
    source = FakeSource()
    page = shown(source)
    page.evaluate("document.getElementById('stage').style.display = 'none'")
    stage.until(lambda: not source.listeners)
    asked, sent = source.asked, stage.sent()
    source.set(series=[series(1)])
    stage.settle(700)
    assert (source.asked, stage.sent()) == (asked, sent)
    page.evaluate("document.getElementById('stage').style.display = ''")
    page.wait_for_selector("tr.dl-mon-study")
    page.evaluate(_VISIBILITY, "hidden")
    stage.until(lambda: not source.listeners)
    page.evaluate(_VISIBILITY, "visible")
    stage.until(lambda: source.listeners)
    page.evaluate("() => window.stop()")
    stage.until(lambda: not source.listeners)


def test_two_views_show_the_same_and_one_may_go(stage: Stage, shown: Any) -> None:
    source = FakeSource()
    monitor = Monitor(source)
    stage.draw(monitor)
    stage.page.evaluate("() => { window.first = window.stop; }")
    stage.draw(monitor)
    stage.page.wait_for_function("document.querySelectorAll('[data-dl-state=ready]').length === 2")
    source.set(series=[series(1)])
    stage.page.wait_for_function("document.querySelectorAll('tr.dl-mon-study').length === 2")
    stage.page.evaluate("() => window.first()")
    source.set(series=[series(1, received=55)])
    stage.page.wait_for_function(
        "[...document.querySelectorAll('tr.dl-mon-study')].some(row => row.textContent.includes('55'))"
    )
    assert len(source.listeners) == 1
    monitor.close()


def test_a_view_that_missed_something_asks_for_the_whole(stage: Stage, shown: Any) -> None:
    source = FakeSource(series=[series(1)])
    page = shown(source)
    page.evaluate(
        """() => { for (const model of models.values()) model.emit("msg:custom", { news: "changed",
            data: { before: 998, version: 999, changes: { studies: { set: {}, gone: [] } } } }, []); }"""
    )
    source.set(series=[series(1, received=44)])
    _until_text(page, "tr.dl-mon-study", "44")


def test_the_disk_warns_and_the_log_is_read_when_it_is_open(stage: Stage, shown: Any) -> None:
    source = FakeSource(log=[event(n) for n in range(1, 31)])
    page = shown(source)
    assert "Last events (30 events)" in page.inner_text("summary")
    assert page.locator(".dl-mon-log tr").count() == 0, "rows that nobody sees are not made"
    page.focus("summary")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.dl-mon-log tr').length === 30")
    assert page.inner_text(".dl-mon-log tr >> nth=0").split("\t")[1:4] == ["stored × 3", "…498.1000.1", "CT1"]
    source.set(disk={"free": 3_000_000_000, "total": 2_000_000_000_000, "low": True})
    _until_text(page, ".dl-mon-disk", "⚠ Disk low: 3.0 GB free of 2.0 TB")


def _contrast(page: Page, selector: str) -> float:
    """The contrast of the text of a node with what is behind it, as WCAG 2 has it."""
    return float(
        page.evaluate(
            """selector => {
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const pixels = (colours) => { canvas.clearRect(0, 0, 1, 1);
            for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
        const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = (rgb) => rgb.map(v => linear(v / 255))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const node = document.querySelector(selector), behind = [];
        for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
        const ground = light(pixels(["white", ...behind]));
        const ink = light(pixels(["white", ...behind, getComputedStyle(node).color]));
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05); }""",
            selector,
        )
    )


@pytest.mark.parametrize("night", [False, True])
def test_text_is_readable_by_day_and_by_night(stage: Stage, shown: Any, night: bool) -> None:
    source = FakeSource(series=[series(1, state="failed", problem="no step")], failures=[failure()])
    if night:
        dark(stage.page)
    page = shown(source)
    page.click(".dl-mon-twist")
    for place in (
        ".dl-mon-state",
        ".dl-mon-uid",
        ".dl-muted",
        ".dl-mon-reason",
        ".dl-mon-disk span",
        "thead th",
    ):
        assert _contrast(page, place) >= 4.5, place
    assert _contrast(page, ".dl-mon-problem") >= (4 if night else 4.5)  # JupyterLab's own red


def test_what_is_sent_for_one_object_is_small(stage: Stage, shown: Any) -> None:
    rows = [series(n, m) for n in range(1, 51) for m in range(1, 5)]
    source = FakeSource(series=rows)
    page = shown(source)
    page.evaluate(
        """() => { window.seen = []; for (const model of models.values())
            model.on("msg:custom", (told) => told.news && window.seen.push(JSON.stringify(told))); }"""
    )
    source.set(series=[*rows[:-1], rows[-1] | {"received": 4}])
    page.wait_for_function("window.seen.length > 0")
    (told,) = page.evaluate("window.seen")
    assert len(told) < 2000
    assert set(json.loads(told)["data"]["changes"]) == {"studies", "series"}
