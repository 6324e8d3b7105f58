"""What the viewer draws in real Chromium is what the array holds, by the formulas of the standard."""

from __future__ import annotations

import io
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from dicomlake.dicom.luts import Lut
from dicomlake.widgets.images import voi
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.viewer_page import WINDOW, Page, grey, plain
from tests.widgets.viewer_support import INTERCEPT, SHAPE, SLOPE, STEPS_MM, colours, numbers, volume


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


def test_a_slab_pixel_is_the_maximum_over_the_slab(stage: Stage) -> None:
    page = Page(stage, plain(slab_mm=6.0))  # three planes, 2 mm apart
    z = page.viewer.index[0]
    assert page.pixel("axial", 5, 6) == [grey(numbers()[z - 1 : z + 2, 5, 6].max())] * 3
    page.page.get_by_label("Slab: what is shown of its values").select_option("min")
    stage.until(lambda: page.viewer.slab_mode == "min")
    page.ready()
    stage.until(lambda: page.pixel("axial", 5, 6) == [grey(numbers()[z - 1, 5, 6])] * 3)
    assert page.viewer.window == WINDOW


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
