"""Contact sheets: lazily asked thumbnails, what is chosen and selected, windows of a series."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from dicomlake.errors import VolumeError
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.compare.contact import MOST_AT_ONCE, ContactSheet
from dicomlake.widgets.compare.tiles import PlaneTiles, SeriesTiles
from dicomlake.widgets.images.encode import png
from tests.widgets.stage import Stage
from tests.widgets.test_compare_registration import array_of, phantom


class Numbers:
    """Items whose thumbnail is their number as a grey."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> str:
        return f"item {i}"

    def thumbnail(self, i: int) -> bytes:
        if i == 13:
            raise VolumeError("volume 13 is not built: build it")
        if i == 14:
            raise KeyError("Doe^John")
        with self._lock:
            self.made.append(i)
        return png(np.full((16, 24), i % 256, dtype=np.uint8))

    def caption(self, i: int) -> str:
        return f"CT 300 × 512×512\nDoe {i}"


def asked(sheet: ContactSheet, items: Any) -> tuple[dict[str, Any], list[Any]]:
    said: list[Any] = []
    sheet.send = lambda content, buffers=None: said.append((content, buffers))  # type: ignore[method-assign]
    sheet._handle_custom_msg({"ask": "thumbnails", "id": 1, "args": {"items": items}}, [])
    return said[-1]


def test_thumbnails_come_as_png_with_their_captions() -> None:
    content, buffers = asked(ContactSheet(Numbers(50)), [7, 3])
    assert [tile["i"] for tile in content["data"]["tiles"]] == [7, 3]
    assert [int(np.asarray(Image.open(io.BytesIO(bytes(b))))[0, 0]) for b in buffers] == [7, 3]
    assert content["data"]["tiles"][0]["caption"].endswith("Doe 7")


def test_one_that_fails_is_a_tile_that_says_so() -> None:
    sheet = ContactSheet(Numbers(50))
    content, buffers = asked(sheet, [12, 13, 14])
    assert [tile.get("failed") for tile in content["data"]["tiles"]] == [
        None,
        "volume 13 is not built: build it",
        "KeyError: see last_exception of the widget",
    ]
    assert [len(b) > 0 for b in buffers] == [True, False, False]
    assert isinstance(sheet.last_exception, KeyError)


@pytest.mark.parametrize("items", [None, [], list(range(MOST_AT_ONCE + 1)), [50], [-1], ["1"], [None]])
def test_a_wrong_ask_is_refused(items: Any) -> None:
    sheet = ContactSheet(Numbers(50))
    content, _ = asked(sheet, items)
    assert "failed" in content
    assert isinstance(sheet.last_exception, Refusal)


def test_selection_and_runs_follow_each_other() -> None:
    sheet = ContactSheet(Numbers(10_000), selected=[3])
    assert sheet.runs == [[3, 3]]
    sheet.runs = [[5, 7], [20, 20]]
    assert sheet.selected == [5, 6, 7, 20]
    assert sheet.selection == ["item 5", "item 6", "item 7", "item 20"]
    sheet.selected = [9, 2, 1, 10_000]
    assert sheet.selected == [1, 2, 9]
    assert sheet.runs == [[1, 2], [9, 9]]


@pytest.mark.parametrize(
    ("runs", "selected"),
    [
        ([[-5, 99_999]], [0, 1, 2, 3]),
        ([[4, 1]], []),
        ([[2, 3], [0, 2]] * 1000, [0, 1, 2, 3]),
        ([7, "x", [1]], []),
    ],
)
def test_runs_from_the_browser_are_clamped(runs: Any, selected: list[int]) -> None:
    sheet = ContactSheet(Numbers(4))
    sheet.runs = runs
    assert sheet.selected == selected


def test_captions_are_not_saved_with_the_notebook() -> None:
    sheet = ContactSheet(Numbers(5))
    asked(sheet, [0, 1])
    assert "Doe" not in str({k: v for k, v in sheet.get_state().items() if not k.startswith("_")})
    assert "Doe" not in repr(sheet)


def volume() -> xr.DataArray:
    """Planes whose value is their number, stretched so that proportions show."""
    image = array_of(phantom((10.0, 6.0, 3.0)))
    return image.copy(data=np.broadcast_to(np.arange(18.0)[:, None, None] * 10, image.shape).astype(np.int16))


def test_a_plane_is_shown_with_its_window_and_in_its_proportions() -> None:
    tiles = PlaneTiles(volume(), every=3)
    tiles.show(every=3, plane="axial", window=[90.0, 180.0])
    assert [tiles[i] for i in range(len(tiles))] == [0, 3, 6, 9, 12, 15]
    shown = np.asarray(Image.open(io.BytesIO(tiles.thumbnail(2))))
    assert np.unique(shown).tolist() == [round(255 * 60 / 180)]
    assert shown.shape == (192, 192)  # 30 rows of 6 mm, 60 columns of 3 mm
    coronal = PlaneTiles(volume(), plane="coronal")
    gradient = np.asarray(Image.open(io.BytesIO(coronal.thumbnail(0))))[:, 0].astype(int)
    assert (np.diff(gradient) <= 0).all()  # superior, the brightest, is on top
    assert gradient[0] > gradient[-1]


def test_a_chosen_plane_scrolls_the_viewer_there() -> None:
    class Viewer:
        def __init__(self) -> None:
            self.index = [1, 2, 3]

    viewer = Viewer()
    sheet = ContactSheet.of(volume(), every=4, viewer=viewer)
    sheet.chosen = 2
    assert viewer.index == [8, 2, 3]
    sheet.plane = "sagittal"
    sheet.chosen = 3
    assert viewer.index[2] == 12


def test_another_window_or_step_asks_for_the_thumbnails_again() -> None:
    sheet = ContactSheet.of(volume(), every=4)
    version = sheet.version
    sheet.window = [50.0, 10.0]
    assert sheet.version == version + 1
    sheet.every = 9
    assert sheet.count == 2
    sheet.window = [50.0, -1.0]
    assert sheet.window == [50.0, 10.0]


def test_series_are_opened_only_when_they_are_looked_at() -> None:
    class Series:
        opened = 0

        @property
        def facts(self) -> dict[str, Any]:
            return {"Modality": "CT", "instances": 18, "Rows": 30, "Columns": 60, "StudyDate": "20260101"}

        def open(self) -> xr.Dataset:
            Series.opened += 1
            return xr.Dataset({"image": volume()})

    tiles = SeriesTiles([Series() for _ in range(1000)])
    sheet = ContactSheet(tiles)
    assert Series.opened == 0
    content, _ = asked(sheet, [4])
    assert Series.opened == 1
    assert content["data"]["tiles"][0]["caption"] == "CT 18 × 30×60\n20260101"


# ---- in the browser


def test_ten_thousand_series_ask_only_for_what_is_seen(stage: Stage) -> None:
    items = Numbers(10_000)
    stage.draw(ContactSheet(items))
    stage.page.wait_for_selector(".dl-sheet[data-dl-state=ready]")
    seen = stage.page.locator(".dl-sheet-cell").count()
    assert len(items.made) <= seen < 80
    assert stage.sent() <= -(-seen // MOST_AT_ONCE)
    before = stage.sent()
    stage.page.evaluate("document.querySelector('.dl-sheet-list').scrollTop = 150000")
    stage.page.wait_for_function("document.querySelector('.dl-sheet-cell')?.dataset.i > 5000")
    stage.page.wait_for_selector(".dl-sheet[data-dl-state=ready]")
    assert stage.sent() - before <= -(-stage.page.locator(".dl-sheet-cell").count() // MOST_AT_ONCE)
    assert len(items.made) < 200


def test_click_shift_ctrl_and_keys_select_in_python(stage: Stage) -> None:
    sheet = ContactSheet(Numbers(200), columns=8)
    stage.draw(sheet)
    stage.page.wait_for_selector(".dl-sheet[data-dl-state=ready]")
    stage.page.click('[data-i="2"]')
    stage.until(lambda: sheet.chosen == 2 and sheet.selected == [2])
    stage.page.click('[data-i="5"]', modifiers=["Shift"])
    stage.until(lambda: sheet.selected == [2, 3, 4, 5])
    stage.page.click('[data-i="4"]', modifiers=["Control"])
    stage.until(lambda: sheet.selected == [2, 3, 5])
    assert sheet.chosen == 2  # selecting several opens none
    stage.page.keyboard.press("ArrowDown")
    stage.page.keyboard.press("Space")
    stage.until(lambda: sheet.selected == [2, 3, 5, 12])
    stage.page.keyboard.press("Shift+ArrowRight")
    stage.until(lambda: sheet.selected == [12, 13])
    stage.page.keyboard.press("Enter")
    stage.until(lambda: sheet.chosen == 13)
    stage.page.keyboard.press("Control+a")
    stage.until(lambda: len(sheet.selection) == 200)
    stage.page.keyboard.press("End")
    stage.page.wait_for_selector('[data-i="199"].dl-sheet-at')
    sheet.selected = [198]
    stage.page.wait_for_selector('[data-i="198"][aria-selected=true]')


def test_a_preset_key_shows_all_planes_in_its_window(stage: Stage) -> None:
    sheet = ContactSheet.of(array_of(phantom((6.0, 3.0, 3.0))), every=2)
    stage.draw(sheet)
    stage.page.wait_for_selector(".dl-sheet[data-dl-state=ready]")
    before = stage.page.get_attribute('[data-i="4"] img', "src")
    stage.page.focus(".dl-sheet-list")
    stage.page.keyboard.press("2")
    preset = next(p for p in sheet.presets if p["key"] == "2")
    stage.until(lambda: sheet.window == [preset["center"], preset["width"]])
    stage.until(lambda: stage.page.get_attribute('[data-i="4"] img', "src") not in (before, None))
