"""The viewer in real Chromium: what is seen is what the array holds, what is done arrives in Python."""

from __future__ import annotations

import io
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from dicomlake.dicom.luts import Lut
from dicomlake.errors import VolumeError
from dicomlake.widgets.images import voi
from dicomlake.widgets.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.viewer_support import INTERCEPT, SHAPE, SLOPE, STEPS_MM, colours, course, numbers, volume

WINDOW = [9800.0, 9000.0]


class Page:
    """A viewer on a page: where its voxels are on the screen, what its panes say."""

    def __init__(self, stage: Stage, viewer: Viewer) -> None:
        self.stage, self.page, self.viewer = stage, stage.page, viewer
        stage.draw(viewer)
        self.ready()

    def ready(self) -> None:
        self.stage.until(lambda: self.page.locator(".dl-viewer[data-dl-state=ready]").count() > 0)

    def pane(self, name: str) -> Any:
        return self.page.locator(f".dl-pane[data-plane={name}]").first

    def number(self, name: str) -> int:
        return int(self.pane(name).get_attribute("data-number"))

    def place(self, name: str, row: float, col: float) -> tuple[float, float]:
        """Page coordinates of a pixel's centre in a pane that shows its plane fitted."""
        x, y, width, height = self.box(name)
        plane = self.viewer.stack_source.planes[name]
        scale = min(width / (plane.cols * plane.col_mm), height / (plane.rows * plane.row_mm))
        return (
            x + width / 2 + (col + 0.5 - plane.cols / 2) * plane.col_mm * scale,
            y + height / 2 + (row + 0.5 - plane.rows / 2) * plane.row_mm * scale,
        )

    def box(self, name: str) -> tuple[float, float, float, float]:
        found = self.pane(name).bounding_box()
        return found["x"], found["y"], found["width"], found["height"]

    def pixel(self, name: str, row: float, col: float) -> list[int]:
        """Red, green, blue that the canvas has at a pixel."""
        x, y = self.place(name, row, col)
        left, top, *_ = self.box(name)
        found = (
            self.pane(name)
            .locator("canvas")
            .evaluate(
                "(c, [x, y]) => Array.from(c.getContext('2d').getImageData(x, y, 1, 1).data)",
                [x - left, y - top],
            )
        )
        return list(found[:3])

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down(button=button)
        for part in np.linspace(0, 1, 12)[1:]:
            self.page.mouse.move(*(a + (b - a) * part for a, b in zip(start, end, strict=True)))
        self.stage.settle(40)

    def press(self, *keys: str, pane: str = "axial") -> None:
        self.pane(pane).locator("canvas").focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.stage.settle(40)


def plain(**traits: Any) -> Viewer:
    """Without smoothing and crosshair, so that pixels can be read."""
    return Viewer(volume(), **{"window": WINDOW, "interpolate": False, "crosshair": False} | traits)


def grey(stored: np.ndarray | float, window: list[float] = WINDOW) -> Any:
    """PS3.3 C.11.2.1.3.2, LINEAR_EXACT, of stored numbers."""
    center, width = window
    value = np.asarray(stored, dtype=float) * SLOPE + INTERCEPT
    return np.floor(np.clip((value - center) / width + 0.5, 0, 1) * 255 + 0.5)


def test_a_pixel_on_the_canvas_is_the_window_formula_of_the_stored_number(stage: Stage) -> None:
    page = Page(stage, plain())
    z, y, x = page.viewer.index
    for row, col in ((2, 3), (8, 10), (13, 17)):
        assert page.pixel("axial", row, col) == [grey(numbers()[z, row, col])] * 3
    assert page.pixel("coronal", 1, 4) == [grey(numbers()[SHAPE[0] - 2, y, 4])] * 3  # superior on top
    assert page.pixel("sagittal", 1, 4) == [grey(numbers()[SHAPE[0] - 2, 4, x])] * 3


def test_planes_have_the_proportions_of_the_patient(stage: Stage) -> None:
    page = Page(stage, plain(window=[0, 1e6]))
    canvas = page.pane("coronal").locator("canvas")
    inked = canvas.evaluate(
        """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height); let [w, h] = [0, 0];
        for (let x = 0; x < c.width; x++) if (d.data[4 * (x + c.width * (c.height >> 1))] > 0) w++;
        for (let y = 0; y < c.height; y++) if (d.data[4 * ((c.width >> 1) + c.width * y)] > 0) h++;
        return [w, h]; }"""
    )
    height_mm, width_mm = SHAPE[0] * STEPS_MM[0], SHAPE[2] * STEPS_MM[2]
    assert inked[0] / inked[1] == pytest.approx(width_mm / height_mm, rel=0.02)


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


def test_letters_follow_flips_and_turns(stage: Stage) -> None:
    page = Page(stage, plain(layout="one"))

    def sides() -> list[str]:
        names = ("left", "top", "right", "bottom")
        return [page.pane("axial").locator(f".dl-pane-{name}").inner_text() for name in names]

    assert sides() == ["R", "A", "L", "P"]
    page.press("f")
    assert sides() == ["L", "A", "R", "P"]
    page.press("f", "r")  # a quarter turn to the right: what was at the left is on top
    assert sides() == ["P", "R", "A", "L"]
    page.press("f")
    assert sides() == ["A", "R", "P", "L"]


def test_python_moves_the_page(stage: Stage) -> None:
    page = Page(stage, plain())
    page.viewer.index = [1, 2, 3]
    stage.until(lambda: [page.number(n) for n in ("axial", "coronal", "sagittal")] == [1, 2, 3])
    page.viewer.preset = "lung"
    stage.until(lambda: "lung" in page.pane("axial").locator(".dl-pane-bl").inner_text())
    page.viewer.arrangement, page.viewer.plane = "one", "sagittal"
    stage.until(lambda: page.page.locator(".dl-pane").count() == 1 and page.pane("sagittal").count() == 1)
    assert "lung" in page.pane("sagittal").locator(".dl-pane-bl").inner_text()


def test_a_slab_pixel_is_the_maximum_over_the_slab(stage: Stage) -> None:
    page = Page(stage, plain(slab_mm=6.0))  # three planes, 2 mm apart
    z = page.viewer.index[0]
    assert page.pixel("axial", 5, 6) == [grey(numbers()[z - 1 : z + 2, 5, 6].max())] * 3
    page.page.get_by_label("Slab: what is shown of its values").select_option("min")
    stage.until(lambda: page.viewer.slab_mode == "min")
    page.ready()
    stage.until(lambda: page.pixel("axial", 5, 6) == [grey(numbers()[z - 1, 5, 6])] * 3)
    assert page.viewer.window == WINDOW


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


def test_colour_frames_are_drawn_as_stored(stage: Stage) -> None:
    page = Page(stage, Viewer(colours(), interpolate=False, index=[3, 0, 0]))
    assert page.pixel("frame", 7, 21) == colours().values[3, 7, 21].tolist()
    page.press("i", pane="frame")
    stage.until(lambda: page.pixel("frame", 7, 21) == (255 - colours().values[3, 7, 21]).tolist())


def test_monochrome1_is_shown_inverted(stage: Stage) -> None:
    image = volume(photometric_interpretation="MONOCHROME1")
    page = Page(stage, Viewer(image, window=WINDOW, interpolate=False, crosshair=False))
    assert page.pixel("axial", 8, 10) == [255 - grey(numbers()[6, 8, 10])] * 3


def test_the_oblique_pane_without_tilt_is_the_axial_plane(stage: Stage) -> None:
    page = Page(stage, plain(layout="oblique"))
    oblique = page.page.evaluate_handle("document.querySelector('.dl-pane[data-plane=oblique] canvas')")
    *_, width, height = page.box("oblique")
    middle = oblique.evaluate(
        "(c, [x, y]) => Array.from(c.getContext('2d').getImageData(x, y, 1, 1).data)",
        [width / 2 - 3, height / 2 - 3],
    )
    near = [grey(numbers()[6, r, c]) for r in (7, 8) for c in (9, 10)]
    assert min(near) - 1 <= middle[0] <= max(near) + 1
    page.page.get_by_label("Tilt 1").fill("30")
    stage.until(lambda: page.viewer.tilt == [30, 0])
    page.ready()
    assert "30°" in page.pane("oblique").locator(".dl-pane-tl").inner_text()


def test_a_screenshot_comes_from_the_page_even_when_a_cell_waits_for_it(stage: Stage) -> None:
    viewer = plain(layout="one")
    page = Page(stage, viewer)
    found: list[bytes] = []
    thread = Thread(target=lambda: found.append(viewer.screenshot()))
    thread.start()
    stage.until(lambda: not thread.is_alive())
    picture = np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB"))
    _, _, width, height = page.box("axial")
    assert picture.shape[:2] == (round(height), round(width))
    x, y = page.place("axial", 8, 10)
    left, top, *_ = page.box("axial")
    assert picture[int(y - top), int(x - left)].tolist() == [grey(numbers()[6, 8, 10])] * 3


def test_sixty_cached_planes_of_512_pixels_are_drawn_in_a_second(stage: Stage) -> None:
    Page(stage, Viewer(volume((2, 512, 512)), layout="one", index=[0, 0, 0]))
    drawn = stage.page.evaluate(
        """async () => {
        window.requestAnimationFrame = (call) => { queueMicrotask(() => call(performance.now())); return 1; };
        const c = document.querySelector('.dl-pane-canvas'), shown = new Set(), start = performance.now();
        let n = 0;
        while (performance.now() - start < 1000) {
          const key = n++ % 2 ? 'ArrowUp' : 'ArrowDown';
          c.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
          await new Promise((done) => queueMicrotask(done));
          shown.add(c.parentNode.dataset.number);
          c.getContext('2d').getImageData(0, 0, 1, 1); }
        return [n, shown.size]; }"""
    )
    assert drawn[1] == 2
    assert drawn[0] >= 60


@pytest.mark.parametrize("shape", ["linear", "linear_exact", "sigmoid"])
def test_every_voi_function_is_that_of_the_standard(stage: Stage, shape: str) -> None:
    """Against pydicom, which follows PS3.3 C.11.2.1.2.1 and .3 on its own."""
    from pydicom.dataset import Dataset
    from pydicom.pixels import apply_windowing

    page = Page(stage, plain(voi_shape=shape, layout="one"))
    values = numbers()[6].astype(float) * SLOPE + INTERCEPT
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = *WINDOW, shape.upper()
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 16, 0
    expected = apply_windowing(values, ds) / 65535 * 255
    for row, col in ((0, 0), (8, 10), (15, 19)):
        assert abs(page.pixel("axial", row, col)[0] - expected[row, col]) <= 0.51


def test_a_voi_lut_is_looked_up_and_dragging_from_it_makes_a_window(stage: Stage) -> None:
    table = Lut(first=10000, values=tuple(range(0, 4096, 2)), bits=12)
    viewer = plain(layout="one")
    stack = viewer.stack_source
    stack._presets = [replace(voi.table_preset(table, "table"), key="1")]
    viewer = Viewer(stack, layout="one", interpolate=False, crosshair=False)
    assert (viewer.preset, viewer.voi_shape) == ("table", "lut")
    page = Page(stage, viewer)
    for row, col in ((0, 0), (8, 10), (15, 19)):
        entry = np.clip(numbers()[6, row, col] * SLOPE + INTERCEPT - 10000, 0, 2047) * 2
        assert abs(page.pixel("axial", row, col)[0] - entry / 4095 * 255) <= 0.75  # tables travel as 8 bits
    page.drag(page.place("axial", 4, 4), page.place("axial", 4, 12))
    page.page.mouse.up()
    stage.until(lambda: (viewer.preset, viewer.voi_shape) == ("", "linear_exact"))


def test_floating_point_is_windowed_and_what_is_no_number_is_black(stage: Stage) -> None:
    values = (np.indices((3, 16, 20))[2] / 3).astype(np.float32)
    values[:, 2, 3] = np.nan
    viewer = Viewer(xr.DataArray(values, dims=("z", "y", "x")), window=[3, 4], interpolate=False)
    page = Page(stage, viewer)
    for col in (1, 7, 12):
        expected = np.clip((values[1, 5, col] - 3) / 4 + 0.5, 0, 1) * 255
        assert abs(page.pixel("frame", 5, col)[0] - expected) <= 1
    assert page.pixel("frame", 2, 3) == [0, 0, 0]
    page.page.mouse.move(*page.place("frame", 2, 3))
    assert "no value" in page.page.locator(".dl-viewer-status").inner_text()


def test_a_colour_map_colours_low_middle_and_high(stage: Stage) -> None:
    page = Page(
        stage, plain(layout="one", colormap="viridis", window=[numbers()[6, 8, 10] * 2.0 - 1000, 2.0])
    )
    assert page.pixel("axial", 0, 0) == [0x44, 0x01, 0x54]
    assert page.pixel("axial", 8, 10) == pytest.approx([0x21, 0x91, 0x8C], abs=2)
    assert page.pixel("axial", 15, 19) == [0xFD, 0xE7, 0x25]


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
