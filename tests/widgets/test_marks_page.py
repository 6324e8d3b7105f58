"""Marks and masks by pointer and keyboard on a page: what is drawn there is what Python has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.marks_support import ct_on, noise
from tests.widgets.stage import Stage

SHAPE = (6, 60, 80)


@pytest.fixture
def viewer() -> Any:
    return Viewer(ct_on(noise(SHAPE), padding_value=None), layout="one", height=520)


@pytest.fixture
def page(stage: Stage, viewer: Any) -> Any:
    stage.draw(viewer)
    stage.page.wait_for_selector(".dl-viewer[data-dl-state=ready]")
    return Hand(stage, viewer)


class Hand:
    """A pointer that thinks in rows and columns of the shown axial plane."""

    def __init__(self, stage: Stage, viewer: Any) -> None:
        self.stage, self.viewer, self.page = stage, viewer, stage.page
        self.canvas = stage.page.locator(".dl-pane-canvas").first

    def at(self, row: float, col: float) -> tuple[float, float]:
        """Page coordinates of a place: the plane fits the pane, 0.75 x 0.5 mm pixels."""
        box = self.canvas.bounding_box()
        assert box is not None
        scale = min(box["width"] / (SHAPE[2] * 0.5), box["height"] / (SHAPE[1] * 0.75))
        x = box["x"] + box["width"] / 2 + (col + 0.5 - SHAPE[2] / 2) * 0.5 * scale
        y = box["y"] + box["height"] / 2 + (row + 0.5 - SHAPE[1] / 2) * 0.75 * scale
        return x, y

    def tool(self, name: str) -> None:
        self.page.click(f"[data-dl-mark={name}]")

    def drag(self, *places: tuple[float, float], steps: int = 4) -> None:
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place), steps=steps)
        self.page.mouse.up()

    def click(self, row: float, col: float) -> None:
        self.page.mouse.click(*self.at(row, col))

    def key(self, *names: str) -> None:
        for name in names:
            self.page.keyboard.press(name)

    def marks(self, count: int) -> list[dict[str, Any]]:
        """The marks, when there are as many."""
        self.stage.until(lambda: len(self.viewer.marks) == count)
        return list(self.viewer.marks)

    def said(self, text: str) -> None:
        """Wait until it is said to screen readers."""
        self.page.wait_for_function(
            "t => document.querySelector('.dl-live').textContent.includes(t)", arg=text
        )


def test_a_length_is_drawn_by_dragging_and_measured_in_one_message(page: Hand) -> None:
    page.tool("length")
    before = page.stage.sent()
    page.drag((10, 20), (40, 60))
    (mark,) = page.marks(1)
    np.testing.assert_allclose(mark["points"], [[10, 20], [40, 60]], atol=0.1)
    mm = np.hypot(*((np.array(mark["points"][1]) - mark["points"][0]) * [0.75, 0.5]))
    assert mark["stats"]["length_mm"] == pytest.approx(mm)
    assert mark["index"] == 3
    assert page.stage.sent() == before + 1
    page.said(f"Length 1 {mm:.1f} mm")


def test_every_tool_draws_its_shape(page: Hand) -> None:
    page.tool("angle")
    for place in ((10, 10), (20, 20), (10, 30)):
        page.click(*place)
    page.tool("ellipse")
    page.drag((30, 10), (50, 30))
    page.tool("rectangle")
    page.click(5, 50)  # click, move, click
    page.page.mouse.move(*page.at(15, 60))
    page.click(15, 70)
    page.tool("polygon")
    for place in ((30, 50), (30, 70), (50, 70), (50, 50)):
        page.click(*place)
    page.click(30, 50)
    page.tool("freehand")
    page.drag((20, 40), (22, 48), (28, 46), (26, 38), (20, 40))
    marks = {mark["tool"]: mark for mark in page.marks(5)}
    assert marks["angle"]["stats"]["angle_deg"] == pytest.approx(np.degrees(2 * np.arctan2(5, 7.5)), abs=1)
    assert marks["ellipse"]["stats"]["area_mm2"] == pytest.approx(np.pi * 7.5 * 5, rel=0.02)
    assert marks["rectangle"]["stats"]["area_mm2"] == pytest.approx(7.5 * 10, rel=0.03)
    assert len(marks["polygon"]["points"]) == 4
    assert marks["polygon"]["stats"]["area_mm2"] == pytest.approx(15 * 10, rel=0.02)
    assert 3 <= len(marks["freehand"]["points"]) <= 20


def test_a_point_is_named_where_it_was_put(page: Hand) -> None:
    page.tool("point")
    page.click(12, 34)
    page.page.wait_for_selector(".dl-marks-name:focus")
    page.page.keyboard.type("nodule")
    page.key("Enter")
    page.stage.until(lambda: page.viewer.marks and page.viewer.marks[0]["name"] == "nodule")
    row, col = (round(v) for v in page.viewer.marks[0]["points"][0])
    values = page.viewer.stack_source.image.values
    assert page.viewer.marks[0]["stats"]["value"] == values[3, row, col] * 2.0 - 1000
    assert page.viewer.rois.loc[0, "name"] == "nodule"


def test_marks_and_handles_are_moved_by_pointer(page: Hand) -> None:
    page.viewer.add_mark("rectangle", [[10, 10], [30, 30]], plane="axial", index=3)
    page.stage.settle()
    page.drag((10, 20), (15, 28))  # its upper edge: all of it
    page.stage.until(lambda: page.viewer.marks[0]["points"][0][0] > 12)
    np.testing.assert_allclose(page.viewer.marks[0]["points"], [[15, 18], [35, 38]], atol=0.2)
    page.drag((35, 38), (45, 70))  # a corner
    page.stage.until(lambda: page.viewer.marks[0]["points"][1][0] > 40)
    np.testing.assert_allclose(page.viewer.marks[0]["points"], [[15, 18], [45, 70]], atol=0.2)


def test_all_of_it_is_done_by_keyboard(page: Hand) -> None:
    page.canvas.focus()
    page.key("e", "Enter")  # an ellipse at the crosshair
    (mark,) = page.marks(1)
    center = np.mean(mark["points"], axis=0)
    np.testing.assert_allclose(center, [30, 40], atol=0.6)
    page.key("ArrowRight", "ArrowRight", "Shift+ArrowDown")
    page.stage.until(lambda: np.mean(page.viewer.marks[0]["points"], axis=0)[0] > center[0] + 5)
    moved = np.mean(page.viewer.marks[0]["points"], axis=0)
    np.testing.assert_allclose(moved - center, [10, 2], atol=1e-9)
    page.key("Space", "ArrowUp")  # the first handle
    page.stage.until(lambda: page.viewer.marks[0]["points"][0][0] < mark["points"][0][0] + 9.5)
    page.key("Enter")
    page.page.keyboard.type("liver")
    page.key("Enter")
    page.stage.until(lambda: page.viewer.marks[0]["name"] == "liver")
    page.key("Escape", "Tab")
    page.said("liver, 1 of 1")
    page.key("Delete")
    page.marks(0)
    page.key("Control+z")
    assert page.marks(1)[0]["name"] == "liver"
    page.key("Control+Shift+z")
    page.marks(0)


def test_tab_leaves_the_pane_after_the_last_mark(page: Hand) -> None:
    page.viewer.add_mark("length", [[10, 10], [30, 30]], plane="axial", index=3)
    page.stage.settle()
    page.canvas.focus()
    page.key("Tab")
    assert page.page.evaluate("document.activeElement.matches('.dl-pane-canvas')")
    page.key("Tab")
    assert not page.page.evaluate("document.activeElement.matches('.dl-pane-canvas')")


def test_a_key_image_is_marked_listed_and_found_again(page: Hand) -> None:
    page.canvas.focus()
    page.key("k")
    assert page.marks(1)[0]["key_image"]
    assert page.viewer.key_images.loc[0, "number"] == 3
    page.key("ArrowDown", "ArrowDown", "l")
    page.stage.until(lambda: page.viewer.index[0] == 5)
    page.page.click(".dl-marks-go")
    page.stage.until(lambda: page.viewer.index[0] == 3)
    page.canvas.focus()
    page.key("k")
    page.marks(0)


def test_a_mark_set_in_python_is_drawn_on_its_plane_alone(page: Hand) -> None:
    before = page.canvas.screenshot()
    page.viewer.marks = [{"tool": "ellipse", "points": [[20, 20], [40, 60]], "plane": "axial", "index": 3}]
    page.stage.settle(200)
    assert page.canvas.screenshot() != before
    page.viewer.index = [2, 30, 40]
    page.stage.settle(300)
    there = page.canvas.screenshot()
    page.viewer.marks = []
    page.stage.settle(200)
    assert page.canvas.screenshot() == there


def mask_in_browser(page: Hand, index: int) -> np.ndarray:
    """The plane of the mask as the browser has it."""
    found = page.page.evaluate("i => Array.from(window.dlBrush.planes.get(`axial|${i}`).data)", index)
    return np.array(found, np.uint8).reshape(SHAPE[1:])


@pytest.fixture
def peeking(viewer: Any) -> Any:
    """The viewer, whose page tells what its store of the mask holds."""
    seen = "this.store = brushStoreOf(viewer.model);"
    assert viewer._esm.count(seen) == 1
    viewer._esm = viewer._esm.replace(seen, seen + " window.dlBrush = this.store;")
    return viewer


def test_browser_and_python_paint_the_same_pixels(stage: Stage, peeking: Any) -> None:
    viewer = peeking
    stage.draw(viewer)
    stage.page.wait_for_selector(".dl-viewer[data-dl-state=ready]")
    page = Hand(stage, viewer)
    page.tool("brush")
    rng = np.random.default_rng(1)
    for number in range(8):
        viewer.brush_mm = float(np.round(rng.uniform(0.3, 6), 2))
        stage.settle(100)
        version, before = viewer.mask_version, stage.sent()
        places = [tuple(p) for p in rng.uniform([2, 2], [57, 77], (5, 2))]
        page.tool("erase" if number == 5 else "brush") if number in (5, 6) else None
        page.drag(*places, steps=3)
        stage.until(lambda version=version: viewer.mask_version > version)
        stage.settle(150)
        assert stage.sent() == before + 1  # one message a stroke, and none to mend what differs
        np.testing.assert_array_equal(mask_in_browser(page, 3), viewer.mask.values[3])
    assert viewer.mask.values[[0, 1, 2, 4, 5]].sum() == 0
    page.key("Control+z")
    stage.settle(400)
    np.testing.assert_array_equal(mask_in_browser(page, 3), viewer.mask.values[3])


def test_a_stroke_covers_what_lies_within_its_radius(page: Hand) -> None:
    page.viewer.brush_mm = 4.0
    page.stage.settle()
    page.tool("brush")
    page.drag((20, 20), (40, 60), steps=30)
    page.stage.until(lambda: page.viewer.mask.values.any())
    row, col = np.mgrid[: SHAPE[1], : SHAPE[2]]
    a, b = np.array([20, 20]) * [0.75, 0.5], np.array([40, 60]) * [0.75, 0.5]
    at = np.stack([row * 0.75, col * 0.5], axis=-1)
    t = np.clip(((at - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
    away = np.linalg.norm(at - a - t[..., None] * (b - a), axis=-1)
    found = page.viewer.mask.values[3]
    assert found[away < 3.9].all()
    assert not found[away > 4.1].any()


def test_labels_are_named_coloured_chosen_and_filled(page: Hand) -> None:
    page.viewer.add_mark("rectangle", [[9.5, 9.5], [19.5, 29.5]], plane="axial", index=3, through=(2, 4))
    page.stage.settle()
    page.canvas.focus()
    page.key("l")
    page.page.click("text=Add a label")
    page.stage.until(lambda: page.viewer.mask_label == 2)
    page.page.fill("[aria-label='Name of Label 2']", "tumour")
    page.key("Enter")
    page.stage.until(lambda: page.viewer.mask_labels[1]["name"] == "tumour")
    page.page.click(".dl-marks-go")
    page.page.click(".dl-marks-fill")
    page.stage.until(lambda: page.viewer.mask.values.any())
    assert (page.viewer.mask.values == 2).sum() == 3 * 200
    assert page.viewer.mask_labels[1]["voxels"] == 600
    page.page.click(".dl-marks-measure")
    page.page.wait_for_selector(".dl-marks-measured:has-text('tumour: mean')")
    assert page.viewer.mask.attrs["labels"] == {1: "Label 1", 2: "tumour"}


def test_an_undrawable_request_is_shown_not_swallowed(page: Hand) -> None:
    page.canvas.focus()
    page.key("Control+s")
    page.page.wait_for_selector(".dl-error:has-text('open it with series.view()')")


def test_a_tilted_plane_is_not_drawn_on_and_says_where_to(page: Hand) -> None:
    page.viewer.arrangement = "oblique"
    page.page.wait_for_selector("[data-plane=oblique][data-state=ready]")
    page.tool("length")
    page.page.locator("[data-plane=oblique] canvas").click()
    page.page.wait_for_selector(".dl-error:has-text('Tilted planes cannot be drawn on')")
    assert page.viewer.marks == []


def test_a_stroke_is_seen_at_once_in_the_other_planes_with_one_more_message(page: Hand) -> None:
    page.viewer.arrangement = "mpr"
    page.page.wait_for_selector(".dl-viewer[data-dl-state=ready] [data-plane=sagittal][data-state=ready]")
    page.stage.settle(200)
    sagittal = page.page.locator("[data-plane=sagittal] canvas")
    before, sent = sagittal.screenshot(), page.stage.sent()
    page.canvas.focus()
    page.key("b", "Enter")  # at the crosshair
    page.stage.until(lambda: page.viewer.mask.values.any())
    page.stage.settle(400)
    assert page.stage.sent() == sent + 2  # the stroke; the planes of both other panes
    assert sagittal.screenshot() != before
