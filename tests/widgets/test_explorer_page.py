"""The explorer in Chromium: clicks, brushes and typed queries give the cohorts that the lake gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dicomlake.lake import Lake
from dicomlake.widgets.explorer.explorer import Explorer
from tests.widgets.explorer_parts import made
from tests.widgets.stage import Stage

FACETS = ["Modality", "Manufacturer", "SliceThickness", "KVP", "StudyDate"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    lake, _truth = made(tmp_path_factory.mktemp("explorer"))
    with lake:
        yield lake


class Page:
    """An explorer that is drawn."""

    def __init__(self, stage: Stage, explorer: Explorer) -> None:
        self.stage, self.page, self.explorer = stage, stage.page, explorer
        stage.draw(explorer)
        stage.page.wait_for_selector(".dl-widget[data-dl-state=ready]")

    def settled(self, query: str) -> None:
        """Wait until the page shows this query."""
        self.stage.until(lambda: self.page.get_attribute(".dl-widget", "data-query") == query)

    def counts(self, facet: str) -> dict[str, int]:
        """Value -> series, as the rows of a text facet say."""
        rows = self.page.eval_on_selector_all(
            f"[data-facet={facet}] .dl-ex-value",
            "rows => rows.map(r => [r.dataset.value, Number(r.dataset.now)])",
        )
        return dict(rows)

    def header(self) -> str:
        return self.page.inner_text(".dl-ex-sizes")

    def plot(self, facet: str) -> dict[str, float]:
        locator = self.page.locator(f"[data-facet={facet}] .dl-ex-plot")
        locator.scroll_into_view_if_needed()
        box: Any = locator.bounding_box()
        return dict(box)


@pytest.fixture
def page(stage: Stage, lake: Lake) -> Page:
    columns = ["SeriesInstanceUID", "Modality", "KVP"]
    return Page(stage, Explorer(lake, facets=FACETS, columns=columns))


def test_a_click_on_a_value_is_the_query_of_the_lake(page: Page, lake: Lake) -> None:
    assert page.counts("Modality")["PT"] == len(lake.query(Modality="PT"))
    page.page.click("[data-facet=Modality] [data-value=PT]")
    page.settled("Modality=PT")
    assert list(page.explorer.cohort.ids) == list(lake.query(Modality="PT").ids)
    assert page.header().startswith(f"{len(lake.query(Modality='PT')):,} series")
    page.page.click("[data-facet=Modality] [data-value=CT]", modifiers=["Control"])
    page.settled("Modality=PT,CT")
    assert page.page.get_attribute("[data-facet=Modality] [data-value=CT]", "aria-selected") == "true"
    page.page.click("[data-facet=KVP] .dl-ex-missing")
    page.settled("Modality=PT,CT KVP__missing=true")
    assert list(page.explorer.cohort.ids) == list(lake.query(Modality=["CT", "PT"], KVP__missing=True).ids)
    page.page.click(".dl-ex-chip:has-text('Modality') button")
    page.settled("KVP__missing=true")
    page.page.keyboard.press("Control+z")
    page.settled("Modality=PT,CT KVP__missing=true")


def test_a_brush_sends_nothing_while_it_is_dragged(page: Page, lake: Lake) -> None:
    """One ask when it is taken, for the cube; one when it is let go, for the cohort."""
    box = page.plot("KVP")
    shown: Any = page.page.get_attribute("[data-facet=KVP] [data-end='1']", "aria-valuemax")
    bin_px = box["width"] / int(shown)
    before = page.stage.sent()
    mouse = page.page.mouse
    mouse.move(box["x"] + 0.5 * bin_px, box["y"] + 40)
    mouse.down()
    page.stage.until(lambda: page.stage.sent() == before + 1)
    page.stage.settle(300)
    seen = []
    for step in range(1, 9):
        mouse.move(box["x"] + (0.5 + step / 4) * bin_px, box["y"] + 40)
        page.stage.settle(30)
        seen.append(page.counts("Modality")["CT"])
    assert page.stage.sent() == before + 1
    assert page.stage.sent("update") == 0
    dragged, header = page.counts("Modality"), page.header()
    assert len(set(seen)) > 1
    assert "~" in header
    mouse.up()
    page.stage.until(lambda: "KVP" in page.explorer.query)
    page.settled(page.explorer.query)
    assert page.stage.sent() == before + 2
    low, high = (
        page.page.input_value(f"[data-facet=KVP] [aria-label='KVP {end}']") for end in ("from", "to")
    )
    found = lake.query(KVP=(float(low), float(high)))
    assert list(page.explorer.cohort.ids) == list(found.ids)
    assert {name: n for name, n in dragged.items() if n} == {
        n: c for n, c in page.counts("Modality").items() if c
    }
    assert page.header().startswith(f"{len(found):,} series")
    assert "~" not in page.header()


def test_a_brush_moves_by_keyboard_and_escape_gives_up_a_drag(page: Page, lake: Lake) -> None:
    grip = page.page.locator("[data-facet=KVP] [role=slider][data-end='0']")
    grip.focus()
    page.page.keyboard.press("ArrowRight")
    page.stage.until(lambda: "KVP" in page.explorer.query)
    query = page.explorer.query
    page.settled(query)
    assert 0 < len(page.explorer.cohort) < len(lake.query())
    assert grip.get_attribute("aria-valuenow") == "1"
    box = page.plot("KVP")
    page.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40)
    page.page.keyboard.press("Escape")
    page.page.mouse.up()
    page.stage.settle(300)
    assert page.explorer.query == query


def test_a_query_set_in_python_moves_the_bars(page: Page, lake: Lake) -> None:
    before = page.counts("Manufacturer")
    page.explorer.query = "Modality=CT SliceThickness=(0, 1.5)"
    page.settled("Modality=CT SliceThickness=0..1.5")
    after = page.counts("Manufacturer")
    assert after != before
    for value, count in after.items():
        assert count == len(lake.query(Modality="CT", SliceThickness=(0, 1.5), Manufacturer__exact=value))
    assert page.page.input_value(".dl-ex-query") == "Modality=CT SliceThickness=0..1.5"
    assert page.page.is_visible("[data-facet=SliceThickness] .dl-ex-brush")


def test_a_typed_query_is_found_or_refused_in_the_page(page: Page, lake: Lake) -> None:
    page.page.fill(".dl-ex-query", "Modality=PT (KVP=120 or KVP__missing=true)")
    page.page.keyboard.press("Enter")
    page.settled("Modality=PT (KVP=120 or KVP__missing=true)")
    assert len(page.explorer.cohort) == len(lake.query(Modality="PT"))
    page.page.fill(".dl-ex-query", "Modalty=CT")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector(".dl-error:has-text('did you mean Modality')")
    assert page.page.input_value(".dl-ex-query") == "Modalty=CT"
    page.page.fill(".dl-ex-query", "Modality=CT")
    page.page.keyboard.press("Enter")
    page.settled("Modality=CT")
    assert page.page.is_hidden(".dl-error")


def test_an_empty_result_says_why_and_a_button_drops_the_reason(page: Page, lake: Lake) -> None:
    page.explorer.query = "Modality=PT KVP=120"
    page.page.wait_for_selector(".dl-ex-why tr:has-text('KVP=120'):has-text('left none')")
    assert "without a value" in page.page.inner_text(".dl-ex-why")
    page.page.click(".dl-ex-why tr:has-text('KVP=120') button")
    page.settled("Modality=PT")
    page.page.wait_for_selector(".dl-ex-row")


def test_the_table_sorts_scrolls_and_marks(page: Page, lake: Lake) -> None:
    page.page.click(".dl-ex-sort[data-name=KVP]")
    page.stage.until(lambda: page.explorer.sort == "KVP")
    page.page.click(".dl-ex-sort[data-name=KVP]")
    page.stage.until(lambda: page.explorer.descending)
    page.page.wait_for_selector("[role=columnheader][aria-sort=descending]")
    first = page.page.locator(".dl-ex-row").first
    page.stage.until(lambda: first.locator(".dl-ex-cell").nth(2).inner_text() == "140")
    page.page.click(".dl-ex-sort[data-name=KVP]")
    page.stage.until(lambda: page.explorer.sort == "")
    page.page.focus(".dl-ex-table")
    page.page.keyboard.press("End")
    last = [one.uid for one in lake.query()][-1]
    page.page.wait_for_selector(f".dl-ex-row.dl-ex-active:has-text('{last}')")
    page.page.keyboard.press("Space")
    page.stage.until(lambda: page.explorer.selected_ids)
    assert [one.uid for one in page.explorer.selected] == [last]
    page.page.click("button:text-is('Columns')")
    page.page.fill("[aria-label='Add column']", "PatientSex")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector(".dl-ex-sort[data-name=PatientSex]")
    assert page.explorer.columns[-1] == "PatientSex"


def test_facets_come_and_go(page: Page) -> None:
    page.page.fill("[aria-label='Add facet']", "verdic")
    page.page.wait_for_selector(".dl-ex-names li:has-text('verdict')")
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("[data-facet=verdict] .dl-ex-value")
    assert page.explorer.facets == [*FACETS, "verdict"]
    page.page.click("[data-facet=KVP] [aria-label='Remove the facet KVP']")
    page.stage.until(lambda: "KVP" not in page.explorer.facets)
    page.page.click("button:text-is('Missing values')")
    page.page.wait_for_selector(".dl-ex-gaps th:has-text('verdict')")
    page.explorer.facets = ["PatientSex"]
    page.page.wait_for_selector("[data-facet=PatientSex]")


def test_values_are_chosen_by_keyboard_alone(page: Page, lake: Lake) -> None:
    page.page.focus("[data-facet=Modality] [role=listbox]")
    page.page.keyboard.press("ArrowDown")
    value = page.page.get_attribute("[data-facet=Modality] .dl-ex-active", "data-value")
    page.page.keyboard.press("Space")
    page.settled(f"Modality={value}")
    page.page.wait_for_selector(".dl-live:has-text('series')", state="attached")
    assert len(page.explorer.cohort) == len(lake.query(Modality=str(value)))


def test_two_views_of_one_explorer_agree(page: Page) -> None:
    page.page.evaluate("id => window.draw(id)", page.explorer.model_id)
    page.stage.until(lambda: page.page.locator("[data-dl-state=ready]").count() == 2)
    page.page.locator("[data-facet=Modality] [data-value=PT]").first.click()
    views = page.page.locator(".dl-widget")
    page.stage.until(lambda: views.nth(1).get_attribute("data-query") == "Modality=PT")
    assert (
        views.nth(0).locator(".dl-ex-sizes").inner_text() == views.nth(1).locator(".dl-ex-sizes").inner_text()
    )
