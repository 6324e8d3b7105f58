"""Viewers beside each other: linked in mm, by registration, by place in the stack, or not."""

from __future__ import annotations

from threading import Event
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.compare import registering
from dicomlake.widgets.compare.compare import Compare, compare, titles_of
from dicomlake.widgets.compare.linking import places
from dicomlake.widgets.compare.registration import Registration, Stopped
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.test_compare_registration import array_of, moved, phantom

_RANDOM = {"_esm", "_css", "identity", "layout", "_anywidget_id", "viewers", "comm"}


def volume(
    shape: tuple[int, int, int] = (20, 32, 32),
    spacing: tuple[float, float, float] = (4.0, 2.0, 2.0),
    origin: tuple[float, float, float] = (-30.0, -30.0, -40.0),
    *,
    frame: str = "1.2.3",
    flipped: bool = False,
) -> xr.DataArray:
    """Axial planes; every voxel differs. origin: of the first voxel, LPS. flipped: planes run downwards."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [-1 if flipped else 1, 0, 0]]) * np.array(spacing)
    affine[:3, 3] = origin
    values = (np.arange(np.prod(shape)) % 1500).reshape(shape).astype(np.int16)
    coords = {d: np.arange(n) * s for d, n, s in zip("zyx", shape, spacing, strict=True)}
    attrs = {
        "affine_lps": affine.tolist(),
        "origin_mm": [0.0, 0.0, 0.0],
        "step_mm": list(spacing),
        "spacing_mm": list(spacing),
        "frame_of_reference_uid": frame,
        "modality": "CT",
        "units": "HU",
    }
    return xr.DataArray(values, dims=("z", "y", "x"), coords=coords, attrs=attrs)


def nearest(image: xr.DataArray, mm: np.ndarray) -> list[int]:
    """The voxel whose centre is nearest to a position, by brute force over all of them."""
    matrix = np.array(image.attrs["affine_lps"]) @ np.diag([*1 / np.array(image.attrs["step_mm"]), 1])
    grid = np.stack(np.meshgrid(*(image[d].values for d in "zyx"), indexing="ij"), axis=-1)
    where = grid @ matrix[:3, :3].T + matrix[:3, 3]
    return [int(i) for i in np.unravel_index(np.argmin(((where - mm) ** 2).sum(-1)), image.shape)]


def position(image: xr.DataArray, index: list[int]) -> np.ndarray:
    matrix = np.array(image.attrs["affine_lps"])
    return matrix[:3, :3] @ np.array(index, dtype=float) + matrix[:3, 3]


def registration(shift: tuple[float, float, float]) -> Registration:
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return Registration(matrix, -1.0, -0.5, 0.9, 10, 0.1, "")


# ---- which lie in one space


def test_an_equal_frame_of_reference_is_one_space_and_an_unknown_one_is_none() -> None:
    found = places(["a", "a", "b", "", ""], [True, True, True, True, False])
    assert [place.space for place in found] == [0, 0, 2, 3, None]
    assert found[1].detail == "same frame of reference"


def test_registrations_chain_across_frames_of_reference() -> None:
    found = places(["a", "b", "b"], [True] * 3, {(0, 1): registration((5, 0, 0))})
    assert [place.space for place in found] == [0, 0, 0]
    np.testing.assert_allclose(found[2].matrix[:3, 3], (5, 0, 0))
    assert "registered, rigid" in found[2].detail
    backwards = places(["a", "b"], [True] * 2, {(1, 0): registration((5, 0, 0))})
    np.testing.assert_allclose(backwards[1].matrix[:3, 3], (-5, 0, 0))


def test_a_registration_counts_for_more_than_the_frame_of_reference() -> None:
    found = places(["a", "a"], [True] * 2, {(0, 1): registration((0, 7, 0))})
    np.testing.assert_allclose(found[1].matrix[:3, 3], (0, 7, 0))


# ---- Python


def test_a_wrong_number_of_images_or_an_unknown_link_is_refused() -> None:
    with pytest.raises(DicomlakeError, match="2 to 4 images are compared, these are 1"):
        compare([volume()])
    with pytest.raises(DicomlakeError, match="'magic'"):
        compare([volume(), volume()], link="magic")


def test_titles_tell_days_and_no_dates() -> None:
    class Subject:
        def __init__(self, day: str) -> None:
            self.facts = {"StudyDate": day, "PatientID": "Doe^John"}

    viewers = [Viewer(volume(), Subject(day)) for day in ("20260310", "20251207")]
    titles = titles_of(viewers)
    assert titles[0].startswith("+93 days")
    assert titles[1].startswith("day 0")
    shown = Compare(viewers)
    state = str([getattr(shown, name) for name in shown.keys if name not in _RANDOM])
    assert not any(word in state for word in ("2026", "2025", "Doe"))


def test_nothing_to_register_is_refused_with_the_reason() -> None:
    same = compare([volume(), volume()])
    with pytest.raises(Refusal, match="lie in one space already"):
        same.start_registration()
    bare = xr.DataArray(np.zeros((9, 8, 8), dtype=np.int16), dims=("z", "y", "x"))
    with pytest.raises(Refusal, match="cannot be registered: no even geometry"):
        compare([volume(), bare], titles=["now", "then"]).start_registration()


def test_other_frames_are_registered_beside_with_progress() -> None:
    fixed = phantom((5.0, 4.0, 4.0))
    moving, truth = moved(fixed, (0.0, 0.0, 5.0), (6.0, -8.0, 5.0))
    widget = compare([array_of(fixed), array_of(moving, "4.5.6")], titles=["now", "then"])
    said: list[Any] = []
    widget.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    widget.start_registration().join(timeout=60)
    point = [20.0, -10.0, 15.0]
    matrix = np.array(widget.places[1]["matrix"])
    np.testing.assert_allclose(matrix[:3, :3] @ point + matrix[:3, 3], truth.TransformPoint(point), atol=1.0)
    assert widget.places[1]["space"] == 0
    assert said[0]["data"]["text"] == "registering then: reading the images"
    assert said[-1]["data"] == {"part": 1.0, "text": "registered", "done": True}
    assert widget.registrations[0, 1].moved


def test_a_registration_that_fails_is_shown_and_another_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = compare([volume((2, 32, 32)), volume((2, 32, 32), frame="9")])
    widget.start_registration().join(timeout=60)
    assert "registration needs 4 along each axis" in widget.error
    widget.start_registration().join(timeout=60)


def test_a_running_registration_is_stopped_and_a_second_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = Event()

    def slow(_fixed: Any, _moving: Any, *, told: Any, stop: Any) -> Registration:
        started.set()
        while not stop():
            told(0.5, "waiting")
        raise Stopped("stopped")

    monkeypatch.setattr(registering, "register", slow)
    widget = compare([volume(), volume(frame="9")])
    said: list[Any] = []
    widget.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    thread = widget.start_registration()
    assert started.wait(10)
    with pytest.raises(Refusal, match="running already"):
        widget.start_registration()
    widget._handle_custom_msg({"ask": "stop", "id": 1, "args": {}}, [])
    thread.join(timeout=10)
    assert said[-1]["data"]["text"] == "registration stopped"
    assert widget.error == ""


# ---- in the browser


def ready(stage: Stage, widget: Compare) -> None:
    stage.draw(widget)
    stage.page.wait_for_function(
        "n => document.querySelectorAll('.dl-viewer[data-dl-state=ready]').length === n",
        arg=len(widget.viewers),
    )


def wheel(stage: Stage, slot: int, steps: int) -> None:
    box = stage.page.locator(f"[data-slot='{slot}'] .dl-pane-canvas").first.bounding_box()
    assert box is not None
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(abs(steps)):
        stage.page.mouse.wheel(0, 100 if steps > 0 else -100)
        stage.settle(30)


@pytest.mark.parametrize("flipped", [False, True])
def test_scrolling_one_shows_the_nearest_plane_of_the_other(stage: Stage, flipped: bool) -> None:
    images = [
        volume(),
        volume((15, 40, 40), (6.5, 1.5, 1.5), (-25.0, -33.0, 41.0 if flipped else -44.0), flipped=flipped),
    ]
    widget = compare(images, layout="one", height=300)
    ready(stage, widget)
    assert stage.page.inner_text("[data-slot='1'] .dl-compare-badge") == "same frame of reference"
    wheel(stage, 0, 4)
    first, second = widget.viewers
    stage.until(lambda: first.index[0] == 14)
    stage.until(lambda: second.index == nearest(images[1], position(images[0], first.index)))
    at = second.index[0]
    wheel(stage, 1, -3)
    stage.until(lambda: second.index[0] == at - 3)
    stage.until(lambda: first.index == nearest(images[0], np.array(second.cursor_mm)))
    assert first.index[0] != 14


def test_linking_sends_no_message_for_the_link_itself(stage: Stage) -> None:
    widget = compare([volume(), volume()], layout="one", height=300)
    ready(stage, widget)
    stage.settle(400)
    asked, saved = stage.sent(), stage.sent("update")
    wheel(stage, 0, 3)
    stage.until(
        lambda: widget.viewers[1].index == widget.viewers[0].index and widget.viewers[0].index[0] == 13
    )
    assert stage.sent() - asked <= 2  # planes that were not there yet
    assert stage.sent("update") - saved <= 4


def test_other_frames_are_not_linked_by_mm(stage: Stage) -> None:
    widget = compare([volume(), volume((30, 32, 32), frame="9")], link="mm", layout="one", height=300)
    ready(stage, widget)
    assert stage.page.inner_text("[data-slot='1'] .dl-compare-badge") == "not linked: no common space"
    wheel(stage, 0, 3)
    stage.until(lambda: widget.viewers[0].index[0] == 13)
    stage.settle(500)
    assert widget.viewers[1].index[0] == 15


def test_without_a_common_space_the_place_in_the_stack_links(stage: Stage) -> None:
    widget = compare(
        [volume(), volume((39, 32, 32), (2.0, 2.0, 2.0), frame="9", flipped=True)], layout="one", height=300
    )
    ready(stage, widget)
    assert stage.page.inner_text("[data-slot='1'] .dl-compare-badge") == "by position in the stack"
    wheel(stage, 0, 3)
    stage.until(lambda: widget.viewers[0].index[0] == 13)
    stage.until(lambda: widget.viewers[1].index[0] == 38 - 26)  # 13 of 19 steps, from the other end


def test_a_registration_links_through_its_matrix(stage: Stage) -> None:
    images = [volume(), volume(frame="9")]
    widget = compare(images, link="mm", layout="one", height=300)
    ready(stage, widget)
    turn = np.radians(20)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = (3.0, -4.0, 12.0)
    widget.use(Registration(matrix, -1.0, -0.5, 0.9, 10, 0.1, ""))
    stage.page.wait_for_selector("[data-slot='1'] .dl-compare-badge:has-text('registered, rigid, 20.0°')")
    wheel(stage, 0, 2)
    stage.until(lambda: widget.viewers[0].index[0] == 12)
    expected = nearest(
        images[1], matrix[:3, :3] @ position(images[0], widget.viewers[0].index) + matrix[:3, 3]
    )
    stage.until(lambda: widget.viewers[1].index == expected)


def test_the_toggle_and_python_both_unlink_and_link(stage: Stage) -> None:
    widget = compare([volume(), volume()], layout="one", height=300)
    ready(stage, widget)
    stage.page.click(".dl-compare-bar button:has-text('Linked')")
    stage.until(lambda: widget.linked is False)
    stage.page.wait_for_selector("[data-slot='1'] .dl-compare-badge:has-text('not linked')")
    wheel(stage, 0, 3)
    stage.until(lambda: widget.viewers[0].index[0] == 13)
    stage.settle(400)
    assert widget.viewers[1].index[0] == 10
    stage.page.click(".dl-compare-bar button:has-text('Linked')")
    stage.until(lambda: widget.viewers[1].index[0] == 13)
    widget.viewers[1].index = [4, 5, 6]
    stage.until(lambda: widget.viewers[0].index == [4, 5, 6])


def test_zoom_is_linked_in_mm_and_windows_where_they_mean_the_same(stage: Stage) -> None:
    mr = volume((20, 64, 64), (4.0, 2.0, 2.0), (-60.0, -70.0, -40.0))
    mr.attrs |= {"modality": "MR", "units": ""}
    images = [volume(), volume((20, 64, 64), (4.0, 1.5, 1.5), (-40.0, -50.0, -40.0)), mr]
    widget = compare(images, layout="one", height=300, crosshair=True)
    ready(stage, widget)
    before = list(widget.viewers[2].window)
    box = stage.page.locator("[data-slot='0'] .dl-pane-canvas").first.bounding_box()
    assert box is not None
    stage.page.mouse.move(box["x"] + 120, box["y"] + 90)
    stage.page.keyboard.down("Control")
    stage.page.mouse.wheel(0, -300)
    stage.page.keyboard.up("Control")
    stage.until(
        lambda: widget.viewers[0].view.get("axial", {}).get("zoom", 1) != 1 and widget.viewers[2].view
    )
    shown = [_seen(viewer, box["width"], box["height"]) for viewer in widget.viewers]
    for scale, middle in shown[1:]:
        assert scale == pytest.approx(shown[0][0], rel=0.01)
        np.testing.assert_allclose(middle, shown[0][1], atol=0.3)
    stage.page.locator("[data-slot='0'] .dl-pane-canvas").first.focus()
    stage.page.keyboard.press("2")
    stage.until(lambda: widget.viewers[1].window == widget.viewers[0].window != before)
    assert widget.viewers[1].preset == widget.viewers[0].preset != ""
    assert widget.viewers[2].window == before


def _seen(viewer: Viewer, width: float, height: float) -> tuple[float, np.ndarray]:
    """CSS pixels per mm, and the position (x, y) in the middle of the pane; by the contract of `view`."""
    view, plane = viewer.view["axial"], viewer.stack["planes"]["axial"]
    size = plane["cols"] * plane["col_mm"], plane["rows"] * plane["row_mm"]
    scale = view["zoom"] * min(width / size[0], height / size[1])
    col = (plane["cols"] - 1) / 2 - view["pan"][0] / plane["col_mm"]
    row = (plane["rows"] - 1) / 2 - view["pan"][1] / plane["row_mm"]
    return scale, (np.array(plane["to_lps"]) @ [0, row, col, 1])[:2]


def test_a_registration_runs_from_the_page_with_its_progress(stage: Stage) -> None:
    fixed = phantom((6.0, 5.0, 5.0))
    moving, _ = moved(fixed, (0.0, 0.0, 4.0), (5.0, -6.0, 5.0))
    widget = compare([array_of(fixed), array_of(moving, "4.5.6")], layout="one", height=300)
    ready(stage, widget)
    stage.page.select_option(".dl-compare-bar select", "register")
    stage.until(lambda: widget.link == "register")
    stage.page.wait_for_selector(".dl-compare-badge:has-text('registered, rigid')", timeout=60_000)
    stage.page.wait_for_selector(".dl-compare-progress:text-is('registered')")
