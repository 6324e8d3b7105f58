"""The browser in Chromium: typing, choosing, opening, headers, uploads; only what is seen is asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import ipywidgets
import numpy as np
import pytest
from PIL import Image, ImageColor
from playwright.sync_api import Page

import dicomlake
from dicomlake.widgets.browser.browser import Browser
from dicomlake.widgets.browser.tagviewer import TagViewer
from tests.objects import series
from tests.widgets.browsed import EVIL, FakeLake, real_lake
from tests.widgets.stage import Stage

# the stage has no manager that makes views of children, as JupyterLab's does
_MANAGER = """() => { for (const model of models.values()) model.widget_manager = {
    get_model: (id) => modelOf(id),
    create_view: async (child) => { const el = document.createElement("div"); el.className = "child";
        el.textContent = child.get("value"); return { el, remove: () => el.remove() }; } }; }"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dicomlake.Lake]:
    made = real_lake(tmp_path_factory.mktemp("staged"))
    yield made
    made.close()


def _drawn(stage: Stage, widget: Any) -> Page:
    stage.draw(widget)
    stage.page.wait_for_selector("[data-dl-state=ready]")
    return stage.page


def _labels(page: Page) -> list[str]:
    rows = page.locator("[role=treeitem][data-place]")
    found = rows.evaluate_all(
        "nodes => nodes.map(n => [Number(n.dataset.place), n.getAttribute('aria-label')])"
    )
    return [label for _, label in sorted(found)]


def _counted(page: Page, series: int) -> None:
    """Wait until the list is of so many series."""
    page.wait_for_function(
        f"document.querySelector('.dl-br-counts').textContent.endsWith(', {series} series')"
    )


def _press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(120)


def test_typing_lists_and_what_is_chosen_comes_back_as_a_table(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake)
    page = _drawn(stage, browser)
    page.fill(".dl-br-search", "Modality=PT")
    wanted = lake.query(Modality="PT")
    _counted(page, len(wanted))
    page.click("[data-place='0']")
    stage.until(lambda: browser.selected)
    chosen = browser.selection
    first = wanted.table()["PatientID"][0]
    expected = lake.query(Modality="PT", PatientID=first).table()
    assert chosen.equals(expected)
    page.keyboard.press("Control+a")
    stage.until(lambda: browser.selects_all)
    assert len(browser.selection) == len(wanted)
    assert "All" in page.inner_text(".dl-br-told")


def test_a_word_typed_letter_by_letter_is_searched_few_times(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake)
    page = _drawn(stage, browser)
    before = stage.sent()
    page.type(".dl-br-search", "phantom^chest", delay=15)
    page.wait_for_selector(".dl-br-counts:has-text('1 patient, 1 study, 1 series')")
    assert browser.query == "phantom^chest"
    assert stage.sent() - before < 12  # a list, hints and pages; not thirteen of each


def test_the_tree_is_walked_and_chosen_by_keyboard_alone(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake)
    page = _drawn(stage, browser)
    page.focus(".dl-br-tree")
    _press(page, "/")
    assert page.evaluate("document.activeElement.className") == "dl-br-search"
    page.keyboard.type("Modality=CT trial")
    page.wait_for_selector("[data-place='1']")
    wanted = lake.query("Modality=CT", "PatientID~TRIAL")
    _counted(page, len(wanted))
    page.focus(".dl-br-tree")
    _press(page, "Home", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight")
    active = page.locator("#" + str(page.get_attribute(".dl-br-tree", "aria-activedescendant")))
    assert active.get_attribute("aria-level") == "3"
    _press(page, "Space")
    stage.until(lambda: browser.selected)
    assert browser.selected == [wanted[0].uid]
    assert active.get_attribute("aria-selected") == "true"
    _press(page, "ArrowLeft")  # to the study
    _press(page, "ArrowLeft")  # closed
    at = page.locator("#" + str(page.get_attribute(".dl-br-tree", "aria-activedescendant")))
    assert (at.get_attribute("aria-level"), at.get_attribute("aria-expanded")) == ("2", "false")
    page.keyboard.press("End")
    page.wait_for_timeout(150)
    at = page.locator("#" + str(page.get_attribute(".dl-br-tree", "aria-activedescendant")))
    assert at.get_attribute("aria-posinset") == at.get_attribute("aria-setsize")
    _press(page, "Home")
    page.keyboard.type("trial, 001")
    page.wait_for_timeout(150)
    at = page.locator("#" + str(page.get_attribute(".dl-br-tree", "aria-activedescendant")))
    assert at.get_attribute("aria-label") == "Trial, 001"


def test_shift_and_control_choose_ranges_and_single_rows(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake, "Modality=CT PatientID=DL-TRIAL-0000-000")
    page = _drawn(stage, browser)
    wanted = [one.uid for one in lake.query("Modality=CT", "PatientID=DL-TRIAL-0000-000")]
    page.wait_for_selector("[aria-level='2']")
    rows = page.locator("[aria-level='2']")
    rows.nth(0).click()
    rows.nth(2).click(modifiers=["Shift"])
    stage.until(lambda: len(browser.selected) == 3)
    assert browser.selected == wanted[:3]
    rows.nth(1).click(modifiers=["Control"])
    stage.until(lambda: len(browser.selected) == 2)
    assert browser.selected == [wanted[0], wanted[2]]


def test_python_moves_what_is_seen(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake)
    page = _drawn(stage, browser)
    browser.query = "Modality=SR"
    page.wait_for_function("document.querySelector('.dl-br-search').value === 'Modality=SR'")
    _counted(page, len(lake.query(Modality="SR")))
    browser.selected = [lake.query(Modality="SR")[0].uid]
    page.wait_for_selector(".dl-br-told:has-text('1 series selected')")


def test_what_cannot_be_understood_is_told_and_mended_by_a_click(stage: Stage, lake: dicomlake.Lake) -> None:
    page = _drawn(stage, Browser(lake))
    page.fill(".dl-br-search", "SliceThicknes<=5")
    page.click(".dl-br-instead:has-text('SliceThickness<=5')")
    wanted = len(lake.query("SliceThickness<=5"))
    _counted(page, wanted)
    assert page.locator(".dl-br-problem").is_hidden()


def test_a_hint_is_taken_by_keyboard(stage: Stage, lake: dicomlake.Lake) -> None:
    page = _drawn(stage, Browser(lake))
    page.type(".dl-br-search", "Modal")
    page.wait_for_selector(".dl-br-hint")
    _press(page, "ArrowDown", "Enter")
    assert page.input_value(".dl-br-search") == "Modality="
    page.wait_for_selector(".dl-br-hint:has-text('SEG')")
    page.keyboard.type("SE")
    page.wait_for_function("document.querySelectorAll('.dl-br-hint').length === 1")
    _press(page, "ArrowDown", "Tab")
    wanted = len(lake.query(Modality="SEG"))
    _counted(page, wanted)


def test_html_in_names_and_descriptions_is_text(stage: Stage, lake: dicomlake.Lake) -> None:
    page = _drawn(stage, Browser(lake, "PatientID=ODD-1"))
    page.wait_for_selector("[aria-level='3'] .dl-br-line")
    page.wait_for_selector("strong:has-text('<b>Evil</b>, <script>Mark')")
    assert page.locator(f"[aria-level='3'] .dl-br-line:text-is('{EVIL}')").count() == 1
    page.click("[aria-level='3']")
    page.wait_for_selector(f".dl-br-facts td span:text-is('{EVIL}')")
    page.click("[data-tab=tags]")
    page.fill(".dl-br-tag-search", "onerror")
    page.wait_for_selector(f".dl-br-tag-value:text-is('{EVIL}')")
    assert page.evaluate("window.hacked") is None
    assert page.locator(".dl-browser img[onerror], .dl-browser script, .dl-br-line b").count() == 0


def test_tags_nest_and_go_into_the_query(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake, "PatientID=ODD-1")
    page = _drawn(stage, browser)
    page.wait_for_selector("[aria-level='3']")
    page.click("[aria-level='3']")
    page.click("[data-tab=tags]")
    sequence = page.locator(".dl-br-tag:has(> .dl-br-tag-line:has-text('RequestAttributesSequence'))")
    sequence.locator("> .dl-br-tag-line").click()
    nested = page.locator("[aria-level='3'].dl-br-tag:has-text('RP-7')")
    nested.wait_for()
    assert nested.locator(".dl-br-mark").inner_text() == "⚑ X"
    private = page.locator(".dl-br-tag-line:has-text('private words')")
    assert private.locator(".dl-br-creator").inner_text() == "ACME 1.0"
    assert "60 B of bytes" in page.locator(".dl-br-tag-line:has-text('0019,1011')").inner_text()
    long = page.locator(".dl-br-tag-line:has-text('ImageComments')")
    long.locator("button:has-text('show all')").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.dl-br-tag-value')].some(n => n.textContent.length > 900)"
    )
    nested.locator(".dl-br-adder").focus()
    page.keyboard.press("Enter")
    stage.until(lambda: browser.query.endswith("RequestAttributesSequence.RequestedProcedureID=RP-7"))
    _counted(page, 1)


def test_the_tag_viewer_stands_alone_and_is_read_by_keyboard(stage: Stage, lake: dicomlake.Lake) -> None:
    page = _drawn(stage, TagViewer(lake.query(Modality="CT", PatientID="DL-TRIAL-0000-000")[0]))
    assert "of 16" in page.inner_text(".dl-br-tags")
    page.fill(".dl-br-number", "3")
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-br-tags-body[data-number='2']")
    page.locator(".dl-br-tag").first.focus()
    _press(page, "End")
    assert "PixelData" in page.evaluate("document.activeElement.textContent")


def test_a_report_is_read_beside_the_images(stage: Stage, lake: dicomlake.Lake) -> None:
    report = lake.query(Modality="SR")[0]
    page = _drawn(stage, Browser(lake, f"Modality=CT StudyInstanceUID={report.key.study_uid}"))
    page.wait_for_selector("[aria-level='3']")
    page.click("[aria-level='3']")
    page.click("[data-tab=documents]")
    page.click(".dl-br-document-line")
    page.wait_for_selector(".dl-br-document[data-kind=report]")
    lines = str(lake.open(report.uid).tree()).splitlines()
    assert lines[-1].strip().split(": ", 1)[1] in page.inner_text(".dl-br-document")


def test_enter_opens_a_viewer_and_compare_a_second(stage: Stage, lake: dicomlake.Lake) -> None:
    opened: list[str] = []

    def opener(key: Any) -> ipywidgets.Widget:
        opened.append(key.series_uid)
        return ipywidgets.HTML(f"viewer {len(opened)}")

    browser = Browser(lake, "Modality=CT PatientID=DL-TRIAL-0000-000", opener=opener)
    page = _drawn(stage, browser)
    page.evaluate(_MANAGER)
    page.wait_for_selector("[aria-level='2']")
    page.focus(".dl-br-tree")
    _press(page, "Home", "ArrowDown", "ArrowRight", "ArrowRight", "Enter")
    page.wait_for_selector(".child:has-text('viewer 1')")
    page.click("button:has-text('Compare')")
    page.wait_for_selector("[data-side=other] .child:has-text('viewer 2')")
    assert opened == [lake.query("Modality=CT", "PatientID=DL-TRIAL-0000-000")[0].uid] * 2
    page.click("[data-side=viewer] .dl-hosted-shut")
    stage.until(lambda: browser.viewer is None)
    page.wait_for_selector("[data-side=viewer]", state="hidden")


def test_view_and_compare_show_what_is_selected(stage: Stage, lake: dicomlake.Lake) -> None:
    opened: list[str] = []

    def opener(key: Any) -> ipywidgets.Widget:
        opened.append(key.series_uid)
        return ipywidgets.HTML(f"viewer {len(opened)}")

    browser = Browser(lake, "Modality=CT PatientID=DL-TRIAL-0000-000", opener=opener)
    page = _drawn(stage, browser)
    page.evaluate(_MANAGER)
    view, beside = page.locator("button:text-is('View')"), page.locator("button:text-is('Compare')")
    assert view.is_disabled(), "nothing is selected, nothing under the cursor"
    wanted = [one.uid for one in lake.query("Modality=CT", "PatientID=DL-TRIAL-0000-000")]
    browser.selected = wanted[1:3]
    page.wait_for_selector(".dl-br-told:has-text('2 series selected')")
    page.focus(".dl-br-tree")
    _press(page, "Home")
    active = page.locator("#" + str(page.get_attribute(".dl-br-tree", "aria-activedescendant")))
    assert active.get_attribute("aria-level") == "1", "the cursor is on the patient"
    view.click()
    page.wait_for_selector("[data-side=viewer] .child:has-text('viewer 1')")
    assert opened == wanted[1:2]
    beside.click()
    page.wait_for_selector("[data-side=other] .child:has-text('viewer 3')")
    assert opened[1:] == wanted[1:3]
    browser.selected = wanted[:1]
    page.wait_for_selector(".dl-br-told:has-text('1 series selected')")
    beside.click()
    page.wait_for_selector("[data-side=other] .child:has-text('viewer 4')")
    assert opened[3:] == wanted[:1]
    assert page.inner_text("[data-side=viewer] .child") == "viewer 2", "one alone goes beside what is shown"
    page.click("button:text-is('Clear')")
    page.wait_for_function("document.querySelector('.dl-br-told').textContent === 'Nothing selected'")
    assert view.is_disabled()


def test_of_a_wrong_condition_it_is_not_said_that_nothing_meets_it(
    stage: Stage, lake: dicomlake.Lake
) -> None:
    page = _drawn(stage, Browser(lake))
    page.fill(".dl-br-search", "Modalityy")
    page.wait_for_selector("text=No series meets all of this.")
    page.fill(".dl-br-search", "Modalityy=CT")
    page.wait_for_selector(".dl-br-problem:visible")
    assert page.inner_text(".dl-br-problem").count("'Modalityy'") == 1
    assert page.locator("text=No series meets").is_hidden()
    assert page.inner_text(".dl-br-counts") == ""
    stage.until(lambda: "Found 0" not in page.inner_text(".dl-browser"))  # nor to screen readers
    page.fill(".dl-br-search", "Modality=XX")
    page.wait_for_selector("text=No series meets all of this.")


def test_a_series_that_is_not_listed_any_more_is_not_told_of(stage: Stage, lake: dicomlake.Lake) -> None:
    browser = Browser(lake, "PatientID=ODD-1")
    page = _drawn(stage, browser)
    page.wait_for_selector("[aria-level='3']")
    page.click("[aria-level='3']")
    page.wait_for_selector(".dl-br-facts td:has-text('onerror')")
    page.fill(".dl-br-search", "PatientID=ODD-1 Modality=CT")
    page.wait_for_function("document.querySelector('.dl-br-search').getAttribute('aria-busy') === null")
    stage.until(lambda: browser.query.endswith("CT"))
    stage.settle(300)
    assert page.locator(".dl-br-facts td:has-text('onerror')").count() == 1, "it is still listed"
    page.click("[data-tab=tags]")
    page.wait_for_selector(".dl-br-tag:has-text('ODD-1')")
    page.click("[data-tab=documents]")
    page.wait_for_selector("text=This study has no reports")
    page.fill(".dl-br-search", "Modality=PT")
    _counted(page, len(lake.query(Modality="PT")))
    for tab, words in (
        ("documents", "Choose a series to see the documents of its study."),
        ("tags", "Choose a series to see its header."),
        ("details", "Choose a series to see what it is."),
    ):
        page.click(f"[data-tab={tab}]")
        page.wait_for_selector(f"[data-pane={tab}] .dl-br-empty:text-is('{words}')")
    assert page.locator(".dl-br-facts, .dl-br-tag").count() == 0
    page.fill(".dl-br-search", "PatientID=ODD-1")
    page.wait_for_selector("[aria-level='3']")
    page.click("[aria-level='3']")
    page.wait_for_selector(".dl-br-facts td:has-text('onerror')")


def test_titles_of_series_begin_at_one_place_and_labels_are_short(stage: Stage, lake: dicomlake.Lake) -> None:
    odd = lake.query(PatientID="ODD-1")[0]
    long = "a remark that goes on and on and on, as remarks do"
    lake.set_label(odd, "note", long)
    lake.set_label(odd, "viewer_marks", '{"version":1,"images":{}}')
    page = _drawn(stage, Browser(lake, "PatientID=ODD-1"))
    page.wait_for_selector("[aria-level='3'] .dl-br-badge-label")
    chips = page.locator("[aria-level='3'] .dl-br-badge-label")
    shown = [text.removeprefix("⚑ ") for text in chips.all_text_contents()]
    assert shown == [f"note: {long}"[:39] + "…", "marks"]
    assert long in str(chips.nth(0).get_attribute("title"))
    page.click("[aria-level='3']")
    page.wait_for_selector(f"[data-pane=details] .dl-br-badge-label:has-text('note: {long}')")
    assert "version" not in page.content()
    lake.remove_label(odd, "note")
    lake.remove_label(odd, "viewer_marks")
    widths = page.evaluate(
        """() => { const row = document.querySelector("[aria-level='3']");
        const [place, title] = [".dl-br-modality", ".dl-br-lines"].map((name) => row.querySelector(name));
        return ["CT", "RTSTRUCT"].map((text) => { place.textContent = text;
            return [title.getBoundingClientRect().left, place.scrollWidth - place.clientWidth]; }); }"""
    )
    assert widths[0] == widths[1], "the longest name moves no title"
    assert widths[1][1] == 0, "and is not cut"


def test_the_outline_of_the_focused_tree_is_over_its_rows(stage: Stage, lake: dicomlake.Lake) -> None:
    page = _drawn(stage, Browser(lake))
    page.wait_for_selector("[data-place='0']")
    page.focus(".dl-br-search")
    _press(page, "ArrowDown")  # into the tree
    stage.settle(200)
    accent = page.evaluate(
        "getComputedStyle(document.querySelector('.dl-widget')).getPropertyValue('--dl-accent')"
    )
    seen = np.asarray(Image.open(io.BytesIO(page.locator(".dl-br-left").screenshot())).convert("RGB"))
    edges = [seen[8:-8, 2], seen[8:-8, -3], seen[2, 8:-8], seen[-3, 8:-8]]
    assert {tuple(int(v) for v in one) for edge in edges for one in edge} == {ImageColor.getrgb(accent)}


def test_files_are_taken_in_and_the_refused_ones_named(stage: Stage, tmp_path: Any) -> None:
    with dicomlake.open(tmp_path / "new", create=True) as empty:
        page = _drawn(stage, Browser(empty))
        assert "No series yet" in page.inner_text(".dl-br-empty >> nth=0")
        files = [
            {"name": f"{i}.dcm", "mimeType": "application/dicom", "buffer": data}
            for i, data in enumerate(series(4, size=64))
        ]
        broken = b"\0" * 128 + b"DICM" + b"\1\2\3"
        files.append({"name": "broken.dcm", "mimeType": "application/dicom", "buffer": broken})
        page.set_input_files("input[type=file] >> nth=0", files)  # type: ignore[arg-type]
        page.wait_for_selector(".dl-br-upload[data-state=done]", timeout=30_000)
        assert "4 stored" in page.inner_text(".dl-br-upload-counts")
        assert "1 × refused" in page.inner_text(".dl-br-reasons")
        _counted(page, 1)
        page.click(".dl-br-upload summary")
        assert "broken.dcm" in page.inner_text(".dl-br-upload")
        assert empty.counts()["instances"] == 4
        page.click("[data-tab=problems]")
        page.wait_for_selector("[data-pane=problems] :text('1 object in quarantine')")


def test_of_a_million_series_only_what_is_seen_is_asked_for(stage: Stage) -> None:
    fake = FakeLake(patients=400_000, per_patient=3)
    page = _drawn(stage, Browser(fake))  # type: ignore[arg-type]
    page.wait_for_selector(".dl-br-counts:has-text('1,200,000 series')")
    page.wait_for_selector("[aria-label='Patient, 0000000']")
    assert page.locator("[data-place]").count() < 20
    page.focus(".dl-br-tree")
    page.keyboard.press("End")
    page.wait_for_selector("[aria-label='Patient, 0399999']")
    page.mouse.move(200, 200)
    page.mouse.wheel(0, -420)
    page.wait_for_selector("[aria-label='Patient, 0399980']")
    assert sum(map(len, fake.served)) <= 500
    assert stage.sent() < 15
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("[aria-level='3'][aria-setsize='3']")
