"""The quiz in real Chromium: keys and clicks answer it, and the page holds no truth before that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.widgets.images.stack import Stack
from dicomlake.widgets.teaching import Question, Quiz, Region
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.images_support import image_on
from tests.widgets.stage import Stage

_OPTIONS = ["effusion", "normal", "pneumothorax"]
_AFFINE = np.array([[0, 0, 2.0, -64], [0, 2.0, 0, -64], [4.0, 0, 0, 0], [0, 0, 0, 1]])
_REPORT = "Finding: basal zebra opacity.\nImpression: benign."


def image(seed: int = 0) -> xr.DataArray:
    """A ball of 60 HU in noisy lung: its centre is at voxel (4, 20, 40), its radius 12 mm."""
    values = np.random.default_rng(seed).normal(-800, 20, (8, 64, 64))
    values[ball()] += 860
    return image_on(_AFFINE, values.astype(np.int16), modality="CT", units="HU")


def ball() -> Any:
    z, y, x = np.ogrid[:8, :64, :64]
    return ((z - 4) * 4.0) ** 2 + ((y - 20) * 2.0) ** 2 + ((x - 40) * 2.0) ** 2 <= 144


def viewer() -> Viewer:
    return Viewer(Stack.of(image()), layout="one", height=360, index=[4, 32, 32])


def shot(stage: Stage, name: str) -> None:
    """A picture for people to look at, where DICOMLAKE_SHOTS names a folder."""
    if os.environ.get("DICOMLAKE_SHOTS"):
        stage.picture(Path(os.environ["DICOMLAKE_SHOTS"]) / f"quiz-{name}.png")


def drawn(stage: Stage, quiz: Quiz) -> None:
    stage.draw(quiz)
    stage.page.wait_for_selector(".dl-quiz[data-dl-state=ready] .dl-viewer[data-dl-state=ready]")


def test_digits_choose_enter_confirms_n_goes_on_and_no_truth_is_there_before(stage: Stage) -> None:
    questions = [Question(viewer, truth, report=lambda: _REPORT) for truth in _OPTIONS]
    quiz = Quiz(questions, ask="Which one?", options=[*_OPTIONS, "zebra fish"], seed=None)
    drawn(stage, quiz)
    page = stage.page
    assert page.locator(".dl-quiz-confirm").is_disabled()
    page.locator(".dl-pane-canvas").click()  # the focus is in the viewer, whose digits choose windows
    window = list(quiz.picture.window)
    page.keyboard.press("2")
    assert page.locator("[data-answer=normal]").get_attribute("aria-pressed") == "true"
    shot(stage, "asked")
    assert "basal" not in page.content()
    assert page.locator(".dl-quiz-true").count() == 0
    assert quiz.progress.empty
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Wrong: effusion')")
    assert "basal zebra" in page.locator(".dl-quiz-report").inner_text()
    assert page.locator(".dl-quiz-true").get_attribute("data-answer") == "effusion"
    shot(stage, "revealed")
    page.keyboard.press("3")
    assert page.locator("[data-answer=normal]").get_attribute("aria-pressed") == "true", "it stays answered"
    page.keyboard.press("n")
    stage.until(lambda: quiz.item == 1)
    page.wait_for_selector(".dl-quiz-count:has-text('2 of 3')")
    page.wait_for_selector(".dl-quiz-verdict", state="detached")
    assert "basal" not in page.content()
    page.wait_for_selector(".dl-quiz .dl-viewer[data-dl-state=ready]")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Right')")
    assert page.locator(".dl-quiz-score").inner_text() == "1 of 2 right"
    assert list(quiz.progress["answer"]) == ["normal", "normal"]
    assert list(quiz.progress["correct"]) == [False, True]
    assert quiz.picture.window == window
    page.keyboard.press("p")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Wrong: effusion')")
    assert page.locator(".dl-viewer").count() == 1


def test_enter_confirms_what_a_click_chose(stage: Stage) -> None:
    quiz = Quiz([Question(viewer, truth) for truth in _OPTIONS], seed=None)
    drawn(stage, quiz)
    page = stage.page
    page.locator("[data-answer=normal]").click()
    assert page.evaluate("document.activeElement.dataset.answer") == "normal"
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Wrong: effusion')")
    page.keyboard.press("Enter")
    stage.until(lambda: quiz.item == 1)
    page.wait_for_selector(".dl-quiz-verdict", state="detached")
    page.locator("[data-answer=effusion]").focus()
    page.keyboard.press("Enter")  # on an option that is not chosen: chooses it
    assert page.locator("[data-answer=effusion]").get_attribute("aria-pressed") == "true"
    assert len(quiz.progress) == 1


def test_enter_confirms_a_digit_pressed_on_a_button_of_the_toolbar(stage: Stage) -> None:
    quiz = Quiz([Question(viewer, truth) for truth in _OPTIONS], seed=None)
    drawn(stage, quiz)
    page = stage.page
    button = page.locator(".dl-viewer button[aria-pressed]:visible").first
    button.focus()
    before = button.get_attribute("aria-pressed")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Right: effusion')")
    assert button.get_attribute("aria-pressed") == before


def test_no_editor_of_a_name_opens_on_a_point(stage: Stage) -> None:
    mask = np.asarray(ball())
    questions = [Question(viewer, "ball", region=lambda: Region(mask, _AFFINE)) for _ in range(2)]
    quiz = Quiz(questions, ask="Mark the ball", within_mm=3, seed=None)
    drawn(stage, quiz)
    page = stage.page
    page.locator(".dl-pane-canvas").click()
    stage.until(lambda: quiz.picture.marks)
    stage.settle(200)
    page.locator(".dl-pane-canvas").dblclick()
    stage.settle(200)
    assert page.locator(".dl-marks-name").count() == 0
    assert page.evaluate("document.activeElement.className") == "dl-pane-canvas"
    shot(stage, "pointed")
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict")
    page.keyboard.press("n")
    stage.until(lambda: quiz.item == 1)


def test_a_click_marks_and_the_distance_is_that_of_the_voxel_clicked(stage: Stage) -> None:
    mask = np.asarray(ball())

    def reveal(shown: Viewer) -> None:
        shown.add(mask, name="ball")

    questions = [
        Question(viewer, "ball", region=lambda: Region(mask, _AFFINE), reveal=reveal, report=lambda: _REPORT),
        Question(viewer, region=lambda: None),
    ]
    quiz = Quiz(questions, ask="Mark the ball", within_mm=3, seed=None)
    drawn(stage, quiz)
    page = stage.page
    box = page.locator(".dl-pane-canvas").bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) / 64  # the whole plane is shown, CSS px a pixel
    left, top = box["x"] + box["width"] / 2 - 32 * scale, box["y"] + box["height"] / 2 - 32 * scale
    page.mouse.click(left + 50.5 * scale, top + 20.5 * scale)  # 10 columns of 2 mm from the centre
    page.wait_for_selector(".dl-quiz-marked:has-text('Point in axial plane 5')")
    shot(stage, "marked")
    page.locator(".dl-quiz-confirm").click()
    page.wait_for_selector(".dl-quiz-verdict")
    centre = np.argwhere(mask) @ _AFFINE[:3, :3].T
    nearest = np.sqrt(((centre - _AFFINE[:3, :3] @ [4, 20, 50]) ** 2).sum(1)).min()
    assert quiz.progress["distance_mm"][0] == pytest.approx(nearest, abs=1.5), "of a click, within a pixel"
    assert "Wrong" in page.locator(".dl-quiz-verdict").inner_text()
    page.wait_for_selector(".dl-viewer[data-dl-state=ready]")
    page.wait_for_selector("text=ball")
    stage.settle(400)
    shot(stage, "mark-revealed")
    page.locator("button:has-text('Next')").click()
    stage.until(lambda: quiz.item == 1)
    page.wait_for_selector(".dl-viewer[data-dl-state=ready]")
    assert quiz.picture.overlays == []
    page.locator("button:has-text('nothing to mark')").click()
    page.locator(".dl-quiz-confirm").click()
    page.wait_for_selector(".dl-quiz-verdict:has-text('Right: there is nothing to mark')")


def test_a_free_answer_is_judged_by_its_reader(stage: Stage) -> None:
    quiz = Quiz([Question(viewer, report=lambda: _REPORT)], ask="Write the impression", seed=None)
    drawn(stage, quiz)
    page = stage.page
    page.locator("textarea").fill("a benign n")
    page.keyboard.type("odule, 12")  # n and digits are typed, not taken for keys
    assert page.locator("textarea").input_value() == "a benign nodule, 12"
    page.keyboard.press("Enter")
    page.wait_for_selector(".dl-quiz-verdict:has-text('Were you right?')")
    shot(stage, "text")
    page.locator("button:has-text('I was right')").click()
    page.wait_for_selector(".dl-quiz-verdict:has-text('Right')")
    assert quiz.score == 1.0


def test_two_views_of_a_quiz_show_one_state(stage: Stage) -> None:
    quiz = Quiz([Question(viewer, truth) for truth in _OPTIONS], seed=None)
    drawn(stage, quiz)
    stage.draw(quiz)
    stage.until(lambda: stage.page.locator(".dl-quiz[data-dl-state=ready]").count() == 2)
    first, second = (stage.page.locator(".dl-quiz").nth(n) for n in (0, 1))
    first.locator("[data-answer=effusion]").click()
    first.locator(".dl-quiz-confirm").click()
    second.locator(".dl-quiz-verdict:has-text('Right: effusion')").wait_for()
    second.locator("button:has-text('Next')").click()
    first.locator(".dl-quiz-count:has-text('2 of 3')").wait_for()
    first.locator(".dl-quiz-verdict").wait_for(state="detached")


def test_a_refused_ask_is_shown(stage: Stage) -> None:
    quiz = Quiz([Question(viewer, truth) for truth in _OPTIONS], seed=None)
    drawn(stage, quiz)
    quiz.go(2)
    stage.page.wait_for_selector(".dl-quiz-count:has-text('2 of 3')")

    def broken() -> Viewer:
        raise ValueError("Doe^John")

    object.__setattr__(quiz._questions[2], "show", broken)
    stage.page.locator("button:has-text('Next')").click()
    stage.page.wait_for_selector(".dl-error:visible:has-text('ValueError')")
    assert "Doe" not in stage.page.content()
    assert quiz.item == 1
