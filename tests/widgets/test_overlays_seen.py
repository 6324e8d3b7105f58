"""Overlays in the browser: where they are drawn, what the legend changes, and what that costs in messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import assets
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.overlay_support import image_on
from tests.widgets.stage import Stage

SHAPE = (48, 32, 40)
RED, GREEN, BLUE = "#ff0000", "#00ff00", "#0000ff"
_PIXEL = """([row, col, rows, cols]) => {
  const pane = document.querySelector('.dl-pane'), canvas = pane.querySelector('canvas');
  const [width, height, ratio] = [pane.clientWidth, pane.clientHeight, canvas.width / pane.clientWidth];
  const scale = Math.min(width / cols, height / rows);
  const x = width / 2 + (col + 0.5 - cols / 2) * scale, y = height / 2 + (row + 0.5 - rows / 2) * scale;
  return Array.from(canvas.getContext('2d').getImageData(x * ratio, y * ratio, 1, 1).data.slice(0, 3));
}"""


@pytest.fixture
def black() -> xr.DataArray:
    """An axial image whose rows and columns are shown as they are."""
    affine = np.array([[0, 0, 1, -20], [0, 1, 0, -16], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    return image_on(affine, np.zeros(SHAPE, np.int16), modality="CT", units="HU")


def _viewer(image: xr.DataArray, **traits: Any) -> Viewer:
    return Viewer(image, layout="one", index=[10, 16, 20], crosshair=False, window=[500.0, 1000.0], **traits)


def _box(rows: slice, cols: slice, planes: slice = slice(None)) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[planes, rows, cols] = True
    return mask


def _ready(stage: Stage) -> None:
    told = "[...document.querySelectorAll('.dl-pane')].map(p => p.dataset.state + p.dataset.overlays)"
    stage.until(lambda: set(stage.page.evaluate(told)) == {"readyready"})
    stage.settle(60)


def _drawn(stage: Stage, viewer: Viewer) -> None:
    stage.draw(viewer)
    _ready(stage)


def _colour(stage: Stage, row: float, col: float) -> list[int]:
    return list(stage.page.evaluate(_PIXEL, [row, col, SHAPE[1], SHAPE[2]]))


def _until_colour(stage: Stage, place: tuple[float, float], truth: Callable[[list[int]], bool]) -> None:
    stage.until(lambda: truth(_colour(stage, *place)))


def test_a_fill_covers_its_pixels_and_no_others_in_its_own_colour(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    viewer.overlay(viewer.add(_box(slice(4, 8), slice(10, 20)), alpha=1, colour=GREEN)).set(style="fill")
    _drawn(stage, viewer)
    inside = [(4, 10), (7, 10), (4, 19), (7, 19), (5.4, 15)]
    outside = [(3, 10), (8, 10), (4, 9), (4, 20), (3, 19), (8, 19)]
    assert all(_colour(stage, *place) == [0, 255, 0] for place in inside)
    assert all(_colour(stage, *place) == [0, 0, 0] for place in outside)


def test_an_outline_runs_along_the_edges_of_the_pixels(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    viewer.overlay(viewer.add(_box(slice(4, 8), slice(10, 20)), alpha=1, colour=GREEN)).set(style="outline")
    _drawn(stage, viewer)
    assert _colour(stage, 6, 15) == [0, 0, 0]
    for place in ((3.5, 15), (7.5, 15), (6, 9.5), (6, 19.5)):
        assert _colour(stage, *place)[1] > 150


def test_labels_that_overlap_are_both_seen(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    masks = {"one": _box(slice(4, 20), slice(4, 20)), "two": _box(slice(8, 24), slice(8, 24))}
    viewer.overlay(viewer.add(masks, alpha=1, colour={"one": RED, "two": BLUE})).set(style="fill")
    _drawn(stage, viewer)
    common = [tuple(_colour(stage, row, col)) for row in range(9, 18) for col in range(9, 18)]
    assert set(common) == {(255, 0, 0), (0, 0, 255)}
    assert 0.3 < np.mean([one == (255, 0, 0) for one in common]) < 0.7
    stage.page.click("[data-value='1'] input[type=checkbox]")
    _until_colour(stage, (6, 6), lambda c: c == [0, 0, 0])
    assert {tuple(_colour(stage, row, col)) for row in range(9, 18) for col in range(9, 18)} == {(0, 0, 255)}


def test_changes_in_the_legend_reach_python_and_ask_for_nothing(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    masks = {f"part {n}": _box(slice(n, n + 2), slice(4, 30)) for n in range(20)}
    id_ = viewer.add(masks, alpha=1)
    _drawn(stage, viewer)
    asked, page = stage.sent(), stage.page
    laid = viewer.overlay(id_)
    page.click("[data-value='3'] input[type=checkbox]")
    stage.until(lambda: not laid.labels["part 2"])
    page.dblclick("[data-value='5'] .dl-overlay-name")
    stage.until(lambda: [name for name, seen in laid.labels.items() if seen] == ["part 4"])
    page.dblclick("[data-value='5'] .dl-overlay-name")
    stage.until(lambda: all(laid.labels.values()))
    page.fill(".dl-overlay-search", "part 1")
    assert page.locator(".dl-overlay-label:visible").count() == 11
    page.click("button:text-is('None')")
    stage.until(lambda: sum(laid.labels.values()) == 9)
    page.fill(".dl-overlay-search", "")
    page.click("button:text-is('All')")
    stage.until(lambda: all(laid.labels.values()))
    page.locator("input[aria-label='Opacity']").fill("0.2")
    stage.until(lambda: laid.state["alpha"] == 0.2)
    page.select_option("select[aria-label='Fill or outline']", "outline")
    stage.until(lambda: laid.state["style"] == "outline")
    page.click(".dl-overlay-eye")
    stage.until(lambda: not laid.state["visible"])
    assert stage.sent() == asked


def test_changes_in_python_are_drawn(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    laid = viewer.overlay(viewer.add(_box(slice(4, 20), slice(4, 20)), alpha=1, colour=GREEN))
    laid.set(style="fill")
    _drawn(stage, viewer)
    laid.set(alpha=0.5)
    _until_colour(stage, (10, 10), lambda c: 120 < c[1] < 135)
    laid.hide()
    _until_colour(stage, (10, 10), lambda c: c == [0, 0, 0])
    laid.show()
    second = viewer.add(_box(slice(0, 32), slice(24, 40)), alpha=1, colour=RED)
    _until_colour(stage, (10, 30), lambda c: c == [255, 0, 0])
    viewer.remove(second)
    _until_colour(stage, (10, 30), lambda c: c == [0, 0, 0])


def test_o_hides_everything_and_brings_back_what_it_hid(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    for visible in (True, False, True):
        viewer.add(_box(slice(4, 20), slice(4, 20)), visible=visible)
    _drawn(stage, viewer)
    stage.page.focus(".dl-pane-canvas")
    stage.page.keyboard.press("o")
    stage.until(lambda: [one["visible"] for one in viewer.overlays] == [False, False, False])
    stage.page.keyboard.press("o")
    stage.until(lambda: [one["visible"] for one in viewer.overlays] == [True, False, True])


def test_scrolling_40_cold_planes_takes_few_messages_and_shows_every_plane(
    stage: Stage, black: xr.DataArray
) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[::2] = True
    viewer = _viewer(black)
    viewer.index = [0, 16, 20]
    viewer.overlay(viewer.add(mask, alpha=1, colour=GREEN)).set(style="fill")
    _drawn(stage, viewer)
    stage.page.focus(".dl-pane-canvas")
    before = stage.sent()
    for plane in range(1, 41):
        stage.page.keyboard.press("ArrowDown")
        stage.page.wait_for_selector(f".dl-pane[data-number='{plane}']")
        _until_colour(stage, (10, 10), lambda c, plane=plane: c == [0, 0 if plane % 2 else 255, 0])
    assert stage.sent() - before <= 12  # images and overlay together


def test_a_fused_image_is_windowed_in_the_browser(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    values = np.broadcast_to(np.linspace(0, 10, SHAPE[2], dtype=np.float32), SHAPE)
    id_ = viewer.add(values.copy(), alpha=1, window=(5, 10), colormap="grey")
    viewer.overlay(id_).set(blend="mix")
    _drawn(stage, viewer)
    asked = stage.sent()
    for col in (4, 20, 36):
        assert abs(_colour(stage, 16, col)[0] - 255 * col / (SHAPE[2] - 1)) < 4
    stage.page.fill("input[aria-label='Upper end of the window, as a number']", "20")
    stage.page.keyboard.press("Enter")
    stage.until(lambda: viewer.overlay(id_).state["window"] == [10, 20])
    _until_colour(stage, (16, 36), lambda c: abs(c[0] - 255 * 36 / 39 / 2) < 4)
    stage.page.locator("input[aria-label='Upper end of the window']").fill("0.5")
    stage.until(lambda: viewer.overlay(id_).state["window"][1] == pytest.approx(7.5, abs=0.2))
    stage.page.select_option("select[aria-label='Colour map of the fused image']", "hot")
    stage.until(lambda: viewer.overlay(id_).state["colormap"] == "hot")
    assert stage.sent() == asked


def test_isodose_levels_are_added_and_rescaled_in_the_legend(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    dose = black.copy(data=np.broadcast_to(np.linspace(0, 39, 40, dtype=np.float32), SHAPE).copy())
    id_ = viewer.add(dose.assign_attrs(units="Gy"), levels={"prescribed_gy": 40, "percent": [50]})
    _drawn(stage, viewer)
    assert max(_colour(stage, 16, 20)) > 60  # 20 Gy lie on column 20
    assert _colour(stage, 16, 10) == [0, 0, 0]
    stage.page.fill("input[aria-label='New isodose level']", "25")
    stage.page.select_option("select[aria-label='Unit of the new level']", "percent")
    stage.page.click("button:text-is('Add')")
    names = [one["name"] for one in viewer.overlay(id_).state["labels"]]
    stage.until(lambda: [n["name"] for n in viewer.overlay(id_).state["labels"]] == [*names, "10 Gy (25 %)"])
    stage.page.wait_for_selector(".dl-overlay-name:text-is('10 Gy (25 %)')")
    _until_colour(stage, (16, 10), lambda c: max(c) > 60)
    stage.page.fill("input[aria-label='Dose in Gy that is 100 %']", "20")
    stage.page.keyboard.press("Enter")
    stage.until(lambda: [one["value"] for one in viewer.overlay(id_).state["labels"]] == [10, 5])
    assert [one["name"] for one in viewer.overlay(id_).state["labels"]] == ["10 Gy (50 %)", "5 Gy (25 %)"]
    stage.page.click("[aria-label='Remove 10 Gy (50 %)']")
    stage.until(lambda: [one["value"] for one in viewer.overlay(id_).state["labels"]] == [5])


def test_an_overlay_that_cannot_be_read_says_why_and_is_tried_again(
    stage: Stage, black: xr.DataArray
) -> None:
    import dask.array as da

    broken = [True]

    def read(block: np.ndarray) -> np.ndarray:
        if broken:
            raise DicomlakeError("the store is gone: build it again")
        return ~block

    none = np.empty((0, 0, 0), bool)
    lazy = da.zeros(SHAPE, dtype=bool, chunks=SHAPE).map_blocks(read, dtype=bool, meta=none)
    viewer = _viewer(black)
    viewer.add(xr.DataArray(lazy, dims=("z", "y", "x")), alpha=1, colour=GREEN)
    stage.draw(viewer)
    stage.page.wait_for_selector(".dl-overlay-failure:has-text('build it again')")
    broken.clear()
    stage.page.click(".dl-overlay-eye")
    stage.page.click(".dl-overlay-eye")
    _until_colour(stage, (10, 10), lambda c: c == [0, 255, 0])
    assert not stage.page.is_visible(".dl-overlay-failure")


def test_everything_in_the_legend_is_reached_and_worked_by_keyboard(
    stage: Stage, black: xr.DataArray
) -> None:
    viewer = _viewer(black)
    laid = viewer.overlay(viewer.add({"one": _box(slice(4), slice(4)), "two": _box(slice(9), slice(9))}))
    _drawn(stage, viewer)
    stage.page.focus(".dl-overlay-head button")
    met = []
    for _ in range(12):
        stage.page.keyboard.press("Tab")
        met.append(
            stage.page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")
        )
        if met[-1] == "Show one":
            stage.page.keyboard.press("Space")
    assert {"Show Masks", "Opacity", "Fill or outline", "Show one", "Colour of one", "only"} <= set(met)
    stage.until(lambda: laid.labels == {"one": False, "two": True})


def test_a_viewer_without_overlays_shows_no_legend(stage: Stage, black: xr.DataArray) -> None:
    viewer = _viewer(black)
    _drawn(stage, viewer)
    assert not stage.page.is_visible(".dl-overlays")
    viewer.overlay_notes = ["dose: 2 dose series are meant: name one"]
    stage.page.wait_for_selector(".dl-overlay-notes:has-text('name one')")


_WORDS = """async ([source, entry, part, places]) => {
  const url = URL.createObjectURL(new Blob([source + "\\nexport { wordsAt };"], { type: "text/javascript" }));
  const { wordsAt } = await import(url);
  for (const line of part.lines || []) {
    const path = new Path2D();
    line.points.forEach(([row, col], i) => path[i ? "lineTo" : "moveTo"](col + 0.5, row + 0.5));
    path.closePath();
    line.path = path;
  }
  return places.map(([row, col]) => wordsAt(entry, part, row, col));
}"""


def _words(stage: Stage, entry: dict[str, Any], part: dict[str, Any], *places: tuple[float, float]) -> Any:
    source = assets.script("viewer/overlays_paint.js")
    return stage.page.evaluate(_WORDS, [source, entry, part, places])


def test_what_lies_under_the_pointer_is_told_in_words(stage: Stage) -> None:
    labels = [
        {"value": v, "name": n, "color": RED, "visible": n != "hidden"}
        for v, n in ((3, "a"), (5, "b"), (7, "hidden"))
    ]
    size = {"rows": 2, "cols": 3}
    codes = {**size, "kind": "labels", "data": [0, 1, 2, 3, 0, 0], "sets": [[], [3], [3, 5], [7]]}
    places = (0, 0), (0, 1), (0.4, 1.6), (1, 0), (5, 5)
    assert _words(stage, {"labels": labels}, codes, *places) == ["", "a", "a, b", "", ""]
    fused = {**size, "kind": "fusion", "data": [0, 1, 21, 1, 1, 1], "slope": 0.5, "intercept": -0.5}
    entry = {"labels": [], "name": "PT", "units": "SUV"}
    assert _words(stage, entry, fused, *places[:3]) == ["", "PT 0 SUV", "PT 10 SUV"]
    ring = [[2, 2], [2, 12], [12, 12], [12, 2]]
    hole = [[5, 5], [5, 9], [9, 9], [9, 5]]
    lines = [{"label": 3, "closed": True, "points": points} for points in (ring, hole)]
    lines += [{"label": 5, "closed": True, "points": hole}]
    shapes = {"rows": 20, "cols": 20, "lines": lines}
    found = _words(stage, {"labels": labels}, {**shapes, "kind": "contours"}, (3, 3), (7, 7), (15, 15))
    assert found == ["a", "b", ""]
    assert _words(stage, {"labels": labels}, {**shapes, "kind": "isodose"}, (3, 3), (15, 15)) == [
        "above 3 Gy",
        "",
    ]
