"""The viewer used in real Chromium: what is done on the page arrives in Python, and the other way round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomlake.errors import VolumeError
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.viewer_page import WINDOW, Page, grey, plain
from tests.widgets.viewer_support import INTERCEPT, SHAPE, SLOPE, course, numbers, volume


def test_a_click_moves_the_other_planes_and_the_index_in_python(stage: Stage) -> None:
    page = Page(stage, plain(crosshair=True))
    z = page.viewer.index[0]
    page.page.mouse.click(*page.place("axial", 11, 5))
    stage.until(lambda: page.viewer.index == [z, 11, 5])
    stage.until(lambda: (page.number("coronal"), page.number("sagittal")) == (11, 5))
    page.page.mouse.click(*page.place("coronal", 2, 15))  # row 2 from superior
    stage.until(lambda: page.viewer.index == [SHAPE[0] - 3, 11, 15])
    exact = np.asarray(page.viewer.stack_source.affine) @ [*page.viewer.index, 1]
    np.testing.assert_allclose(page.viewer.cursor_mm, exact[:3], atol=1.0)


def test_dragging_the_crosshair_moves_the_others_along_and_is_saved_on_release(stage: Stage) -> None:
    page = Page(stage, plain(crosshair=True))
    _, y, x = page.viewer.index
    page.drag(page.place("axial", y, x), page.place("axial", 3, 16))
    stage.until(lambda: page.number("sagittal") == 16)
    assert (stage.sent("update"), page.viewer.index[1:]) == (0, [y, x])
    page.page.mouse.up()
    stage.until(lambda: page.viewer.index[1:] == [3, 16])
    assert stage.sent("update") == 1


def test_dragging_the_window_sends_nothing_until_release(stage: Stage) -> None:
    page = Page(stage, plain(layout="one"))
    before, asked = page.pixel("axial", 8, 10), stage.sent("custom")
    page.drag(page.place("axial", 4, 4), page.place("axial", 12, 4))
    assert page.pixel("axial", 8, 10) != before
    assert (stage.sent("custom"), stage.sent("update")) == (asked, 0)
    page.page.mouse.up()
    stage.until(lambda: page.viewer.window != WINDOW)
    assert stage.sent("update") == 1
    assert page.viewer.window[0] > WINDOW[0]  # down is higher
    assert page.pixel("axial", 8, 10) == [grey(numbers()[6, 8, 10], page.viewer.window)] * 3


def test_the_readout_is_the_value_and_place_of_the_voxel_under_the_pointer(stage: Stage) -> None:
    page = Page(stage, plain())
    page.page.mouse.move(*page.place("coronal", 4, 6))
    z, y = SHAPE[0] - 1 - 4, page.viewer.index[1]
    value = int(numbers()[z, y, 6] * SLOPE + INTERCEPT)
    text = page.page.locator(".dl-viewer-status").inner_text()
    mm = np.asarray(page.viewer.stack_source.affine) @ [z, y, 6, 1]
    assert f"{value} HU" in text
    assert f"[{z}, {y}, 6]" in text
    assert f"{'L' if mm[0] >= 0 else 'R'} {abs(mm[0]):.0f}" in text.replace(".0", "")
    assert f"S {mm[2]:.0f}" in text.replace(".0", "")


def test_keys_scroll_window_turn_and_reset(stage: Stage) -> None:
    page = Page(stage, plain())
    z = page.viewer.index[0]
    page.press("ArrowDown", "ArrowDown", "ArrowUp", "PageUp")
    stage.until(lambda: page.viewer.index[0] == max(z + 1 - 10, 0))
    bone = next(p for p in page.viewer.stack_source.presets if p.name == "bone")
    page.press(bone.key, "i", "r", "+", "f", "shift+ArrowRight".replace("shift", "Shift"))
    stage.until(lambda: page.viewer.preset == "bone")
    stage.until(lambda: page.viewer.view.get("axial", {}).get("zoom") == 1.25)
    view = page.viewer.view["axial"]
    assert page.viewer.window == [bone.center, bone.width]
    assert (page.viewer.invert, view["rotate"], view["flip_v"], view["pan"][0] > 0) == (True, 90, True, True)
    page.press("[")
    stage.until(lambda: page.viewer.preset == "")
    assert page.viewer.window[1] == pytest.approx(bone.width * 0.9)
    page.press("0", "m")
    stage.until(lambda: page.viewer.arrangement == "oblique")
    assert (page.viewer.view, page.viewer.invert) == ({}, False)
    page.press("Shift+?")
    sheet = page.page.locator(".dl-keysheet")
    assert sheet.is_visible()
    assert "quarter turn" in sheet.inner_text()
    assert sheet.locator("kbd").count() > 35
    page.page.keyboard.press("Escape")
    assert sheet.is_hidden()


def test_python_moves_the_page(stage: Stage) -> None:
    page = Page(stage, plain())
    page.viewer.index = [1, 2, 3]
    stage.until(lambda: [page.number(n) for n in ("axial", "coronal", "sagittal")] == [1, 2, 3])
    page.viewer.preset = "lung"
    stage.until(lambda: "lung" in page.pane("axial").locator(".dl-pane-bl").inner_text())
    page.viewer.arrangement, page.viewer.plane = "one", "sagittal"
    stage.until(lambda: page.page.locator(".dl-pane").count() == 1 and page.pane("sagittal").count() == 1)
    assert "lung" in page.pane("sagittal").locator(".dl-pane-bl").inner_text()


def test_further_dimensions_have_a_slider_and_arrow_keys(stage: Stage) -> None:
    viewer = Viewer(
        course(), window=[9800, 30], interpolate=False, crosshair=False, index=[5, 8, 8], layout="one"
    )
    page = Page(stage, viewer)
    assert page.pane("axial").locator(".dl-pane-tr").inner_text() == "time 1/6 (0 s)"
    page.press("ArrowRight", "ArrowRight")
    stage.until(lambda: viewer.extra == [2])
    page.page.get_by_role("slider", name="time").fill("4")
    stage.until(lambda: viewer.extra == [4])
    stage.until(lambda: page.pixel("axial", 8, 8) == [grey(numbers()[5, 8, 8] + 4, [9800, 30])] * 3)


def test_a_cine_over_time_goes_round_and_its_end_is_saved(stage: Stage) -> None:
    viewer = Viewer(course(), layout="one", rate=50)
    page = Page(stage, viewer)
    asked = stage.sent("custom")
    page.press("Space")
    seen: set[str] = set()

    def went_round() -> bool:
        seen.add(page.pane("axial").locator(".dl-pane-tr").inner_text().split()[1])
        return len(seen) == 6

    stage.until(went_round)
    assert stage.sent("custom") - asked <= 2
    stage.settle(300)
    assert stage.sent("update") == 1  # that it plays
    page.press("Space")
    stage.until(lambda: not viewer.playing)
    shown = page.pane("axial").locator(".dl-pane-tr").inner_text().split()[1]
    assert shown == f"{viewer.extra[0] + 1}/6"


def test_forty_cold_planes_need_six_messages(stage: Stage) -> None:
    viewer = Viewer(volume((64, 16, 20)), layout="one", index=[0, 8, 10])
    page = Page(stage, viewer)
    asked = stage.sent("custom")
    page.page.mouse.move(*page.place("axial", 8, 10))
    for step in range(1, 41):
        page.page.mouse.wheel(0, 100)
        stage.until(lambda step=step: page.number("axial") == step)
    stage.until(lambda: viewer.index == [40, 8, 10])
    assert stage.sent("custom") - asked <= 6


def test_planes_that_cannot_be_read_are_told_in_their_pane_alone(stage: Stage) -> None:
    viewer = plain()
    good = viewer.stack_source.run

    def run(plane: str, start: int, count: int, *args: Any, **kwargs: Any) -> np.ndarray:
        if plane == "coronal" and start <= 9 < start + count:
            raise VolumeError("coronal plane 9 of 16 cannot be read: rebuild the volume")
        return good(plane, start, count, *args, **kwargs)

    viewer.stack_source.run = run  # type: ignore[method-assign]
    viewer.index = [6, 9, 10]
    page = Page(stage, viewer)
    failure = page.pane("coronal").locator(".dl-pane-failure")
    assert "rebuild the volume" in failure.inner_text()
    assert page.pixel("axial", 8, 10) == [grey(numbers()[6, 8, 10])] * 3
    assert "rebuild the volume" in viewer.error
    page.press("ArrowUp", pane="coronal")  # the neighbour came with a run that failed as a whole
    stage.until(lambda: page.pane("coronal").get_attribute("data-state") == "ready")
    assert failure.is_hidden()
    assert page.pixel("coronal", 3, 4) == [grey(numbers()[8, 8, 4])] * 3


def test_a_slow_link_shows_labelled_previews_and_then_the_exact_plane(stage: Stage) -> None:
    viewer = Viewer(
        volume((64, 16, 20)), layout="one", index=[0, 8, 10], slow_link=True, window=WINDOW, interpolate=False
    )
    page = Page(stage, viewer)
    badges: list[str] = []
    page.page.mouse.move(*page.place("axial", 8, 10))
    for _ in range(10):
        page.page.mouse.wheel(0, 100)
        stage.settle(50)
        badges.append(page.pane("axial").locator(".dl-pane-badge").inner_text())
    assert "preview, lossy" in badges
    stage.until(lambda: page.pane("axial").get_attribute("data-state") == "ready")
    assert page.pane("axial").locator(".dl-pane-badge").inner_text() == ""
    assert page.pixel("axial", 8, 10) == [grey(numbers((64, 16, 20))[page.number("axial"), 8, 10])] * 3


_TWO_VIEWS = """async id => {
  const model = await modelOf(id), css = document.createElement("style");
  css.textContent = await dlStyle(id);
  document.head.append(css);
  const { default: made } = await import(
    URL.createObjectURL(new Blob([await dlScript(id)], { type: "text/javascript" })));
  window.stops = [1, 2].map(() => {
    const el = document.createElement("div");
    document.getElementById("stage").append(el);
    return made.render({ model, el }); }); }"""
_LISTENERS = "id => modelOf(id).then(m => [...m.listeners].flatMap(([n, l]) => l.map(() => n)).sort())"


def test_two_views_share_planes_and_state_and_one_may_go(stage: Stage) -> None:
    viewer = plain()
    stage.page.evaluate("id => modelOf(id)", viewer.model_id)
    stage.page.evaluate(_TWO_VIEWS, viewer.model_id)
    stage.until(lambda: stage.page.locator(".dl-viewer[data-dl-state=ready]").count() == 2)
    stage.settle(200)
    assert stage.sent("custom") == 5  # of each plane the run that is seen and, where there is one, the next
    second = stage.page.locator(".dl-viewer").nth(1).locator(".dl-pane[data-plane=axial]")
    both = stage.page.evaluate(_LISTENERS, viewer.model_id)
    stage.page.locator(".dl-pane-canvas").first.focus()
    stage.page.keyboard.press("ArrowDown")
    stage.until(lambda: second.get_attribute("data-number") == "7")
    stage.page.evaluate("stops[0]()")
    assert stage.page.locator(".dl-viewer").count() == 1
    left = stage.page.evaluate(_LISTENERS, viewer.model_id)
    assert 0 < len(left) < len(both)
    stage.page.locator(".dl-pane-canvas").first.focus()
    stage.page.keyboard.press("ArrowUp")
    stage.until(lambda: viewer.index[0] == 6)
    stage.page.evaluate("stops[1]()")
    stage.page.evaluate("stops[1] = null")
    gone = stage.page.evaluate(_LISTENERS, viewer.model_id)
    assert [name for name in gone if name not in _OF_THE_MODEL] == []


_OF_THE_MODEL = {"msg:custom", "change:mask_version"}  # heard once for all views, as long as the model lives


def test_a_view_that_goes_leaves_no_listeners_but_the_link(stage: Stage) -> None:
    viewer = plain()
    Page(stage, viewer)
    stage.page.evaluate("stop()")
    left = stage.page.evaluate(
        "id => modelOf(id).then(m => [...m.listeners].filter(([, l]) => l.length).map(([n]) => n))",
        viewer.model_id,
    )
    assert set(left) <= _OF_THE_MODEL


def test_zoom_keeps_the_voxel_under_the_pointer_and_a_crop_is_what_is_seen(stage: Stage) -> None:
    page = Page(stage, plain(layout="one"))
    page.page.mouse.move(*page.place("axial", 4, 5))
    status = page.page.locator(".dl-viewer-status")
    before = status.inner_text()
    page.page.keyboard.down("Control")
    for _ in range(6):
        page.page.mouse.wheel(0, -100)
        stage.settle(30)
    page.page.keyboard.up("Control")
    stage.until(lambda: page.viewer.view.get("axial", {}).get("zoom", 1) > 3)
    page.page.mouse.move(page.place("axial", 4, 5)[0] + 1, page.place("axial", 4, 5)[1])
    assert "[6, 4, 5]" in before
    assert "[6, 4, 5]" in status.inner_text()
    crop = page.viewer.crop()
    assert crop.sizes["y"] < 8
    assert crop.sizes["x"] < SHAPE[2]
    assert int(numbers()[6, 4, 5] * SLOPE + INTERCEPT) in crop.values
    pan = page.viewer.view["axial"]["pan"]
    x, y, width, height = page.box("axial")
    page.drag((x + width / 2, y + height / 2), (x + width / 2 + 30, y + height / 2), button="right")
    page.page.mouse.up(button="right")
    stage.until(lambda: page.viewer.view["axial"]["pan"][0] > pan[0])


def test_a_double_click_shows_one_plane_alone_and_all_again(stage: Stage) -> None:
    page = Page(stage, plain())
    page.page.mouse.dblclick(*page.place("coronal", 4, 6))
    stage.until(lambda: (page.viewer.arrangement, page.viewer.plane) == ("one", "coronal"))
    page.ready()
    page.page.mouse.dblclick(*page.place("coronal", 4, 6))
    stage.until(lambda: page.viewer.arrangement == "mpr")


def test_every_button_and_field_has_a_name(stage: Stage) -> None:
    page = Page(stage, Viewer(course()))
    for control in page.page.locator(".dl-viewer-bar :is(button, select, input)").all():
        assert control.get_attribute("aria-label")
    assert "Not for diagnosis" in page.pane("axial").inner_text()
    assert page.page.locator(".dl-viewer-button[aria-pressed=true]").count() >= 2


def test_texts_and_values_are_of_what_is_shown_while_another_time_is_loading(stage: Stage) -> None:
    """The pane named the time that was asked for over the picture of the one before, and measured that."""
    viewer = Viewer(course(20), layout="one")
    Page(stage, viewer)
    held: list[Any] = []
    answer = viewer.send
    viewer.send = lambda content, buffers=None: held.append((content, buffers))  # type: ignore[method-assign]
    viewer.extra, viewer.slab_mm = [15], 10.0
    stage.until(lambda: stage.page.locator(".dl-pane-badge").first.inner_text() == "loading …")
    assert stage.page.locator(".dl-pane-tr").first.inner_text().startswith("time 1/20")
    assert "MIP" not in stage.page.locator(".dl-pane-tr").first.inner_text()
    viewer.send = answer  # type: ignore[method-assign]
    for content, buffers in held:
        answer(content, buffers)
    stage.until(lambda: stage.page.locator(".dl-pane-tr").first.inner_text().startswith("time 16/20"))
    assert "MIP 10 mm" in stage.page.locator(".dl-pane-tr").first.inner_text()
