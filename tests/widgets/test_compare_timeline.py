"""A patient's studies over time: the axis, the matching series, and what goes along from study to study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from dicomlake.errors import DicomlakeError
from dicomlake.widgets.base import Refusal
from dicomlake.widgets.compare.registration import Registration
from dicomlake.widgets.compare.timeline import Timeline, studies_of
from dicomlake.widgets.viewer.viewer import Viewer
from tests.widgets.stage import Stage
from tests.widgets.test_compare_linked import nearest, position, volume


def facts(study: int, day: str, **others: Any) -> dict[str, Any]:
    return {
        "StudyInstanceUID": f"1.{study}",
        "PatientID": "Doe^John",
        "StudyDate": day,
        "Modality": "CT",
        "ConvolutionKernel": "B30f",
        "SliceThickness": 4.0,
        "SeriesDescription": "Doe chest",
        "instances": 20,
    } | others


SERIES = [
    facts(3, "20260310"),
    facts(1, "20240102", ConvolutionKernel="B70f", instances=200),
    facts(1, "20240102"),
    facts(2, "20251207", ConvolutionKernel="B70f"),
    facts(2, "20251207", SliceThickness=5.0),
]


class Opener:
    """Makes viewers and counts; volumes by the number of the series."""

    def __init__(self, **images: xr.DataArray) -> None:
        self.images = images
        self.opened: list[int] = []

    def __call__(self, number: int) -> Viewer:
        self.opened.append(number)
        return Viewer(self.images.get(f"s{number}", volume()), layout="one", height=300)


def asked(timeline: Timeline, ask: str, **args: Any) -> dict[str, Any]:
    said: list[Any] = []
    timeline.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    timeline._handle_custom_msg({"ask": ask, "id": 1, "args": args}, [])
    return next(content for content in reversed(said) if content.get("answer") == 1)


def test_studies_are_in_time_with_the_series_that_matches() -> None:
    found = studies_of(SERIES)
    assert [study.day for study in found] == [0, 705, 798]  # 2024-01-02, 2025-12-07, 2026-03-10
    assert [study.series[0] for study in found] == [2, 4, 0]
    assert [study.series[0] for study in studies_of(SERIES, like=3)] == [1, 3, 0]


def test_undated_studies_come_last_and_other_modalities_score_nothing() -> None:
    found = studies_of([*SERIES, facts(4, "", Modality="MR")])
    assert found[-1].day is None
    assert found[-1].score == 0


def test_series_of_several_patients_or_none_are_refused() -> None:
    with pytest.raises(DicomlakeError, match="several patients"):
        studies_of([*SERIES, facts(9, "20260101", PatientID="Roe")])
    with pytest.raises(DicomlakeError, match="there are none"):
        studies_of([])


def test_a_viewer_is_made_only_when_its_study_is_looked_at_and_only_once() -> None:
    opener = Opener()
    timeline = Timeline(SERIES, opener)
    assert opener.opened == []
    assert timeline.at == 2
    first = asked(timeline, "open", study=0)
    again = asked(timeline, "open", study=0)
    assert first["data"]["model"] == again["data"]["model"] == timeline.viewer.model_id
    assert opener.opened == [2]
    other = asked(timeline, "open", study=0, series=1)
    assert other["data"]["series"] == 1
    assert timeline.chosen == [1, 4, 0]


@pytest.mark.parametrize("args", [{}, {"study": 3}, {"study": -1}, {"study": "0"}, {"study": 0, "series": 4}])
def test_a_wrong_ask_is_refused(args: dict[str, Any]) -> None:
    opener = Opener()
    timeline = Timeline(SERIES, opener)
    assert "failed" in asked(timeline, "open", **args)
    assert isinstance(timeline.last_exception, Refusal)
    assert opener.opened == []


def test_no_names_and_no_dates_are_saved() -> None:
    timeline = Timeline(SERIES, Opener())
    answer = asked(timeline, "open", study=1)
    assert "Doe chest" in answer["data"]["choices"][0]["text"]
    kept = str(
        {n: v for n, v in timeline.get_state().items() if n not in ("_esm", "_css", "identity", "layout")}
    )
    assert not any(word in kept for word in ("Doe", "2024", "2026"))


# ---- in the browser


def shown(stage: Stage, study: int) -> None:
    stage.page.wait_for_selector(f".dl-timeaxis-marker.dl-timeaxis-at[data-study='{study}']")
    stage.page.wait_for_selector(".dl-timeline[data-dl-state=ready] .dl-viewer[data-dl-state=ready]")


def test_place_and_window_stay_from_study_to_study(stage: Stage) -> None:
    images = {
        "s0": volume(),
        "s4": volume((24, 40, 40), (3.0, 1.5, 1.5), (-25.0, -28.0, -33.0)),
        "s2": volume((30, 32, 32), (3.0, 2.0, 2.0), frame="9"),
    }
    opener = Opener(**images)
    timeline = Timeline(SERIES, opener)
    matrix = np.eye(4)
    matrix[:3, 3] = (4.0, -6.0, 9.0)
    timeline.use(Registration(matrix, -1.0, -0.5, 0.9, 1, 0.1, ""), fixed=0, moving=2)
    stage.draw(timeline)
    shown(stage, 2)
    assert opener.opened == [0]
    now = timeline.viewer
    now.index = [13, 9, 21]
    now.window = [100.0, 333.0]
    stage.settle(300)
    stage.page.focus(".dl-timeaxis")
    stage.page.keyboard.press("ArrowLeft")
    shown(stage, 1)
    assert opener.opened == [0, 4]
    stage.until(lambda: timeline.at == 1)
    assert stage.page.inner_text(".dl-timeline-title").startswith("+705 days")
    expected = position(images["s0"], [13, 9, 21])
    stage.until(lambda: timeline.viewer.index == nearest(images["s4"], expected))
    stage.until(lambda: timeline.viewer.window == [100.0, 333.0])
    stage.page.click(".dl-timeaxis-marker[data-study='0']")
    shown(stage, 0)
    stage.until(lambda: timeline.at == 0 and opener.opened == [0, 4, 2])
    stage.until(lambda: timeline.viewer.index == nearest(images["s2"], expected + np.array((4.0, -6.0, 9.0))))
    assert "registered, rigid" in stage.page.inner_text(".dl-timeline .dl-compare-badge")


def test_without_a_common_space_the_relative_place_is_carried_along_all_axes(stage: Stage) -> None:
    images = {
        "s0": volume(),
        "s4": volume((40, 64, 48), (2.0, 1.0, 1.5), frame="7", flipped=True),
        "s2": volume((30, 32, 32), frame="9"),
    }
    timeline = Timeline(SERIES, lambda number: Viewer(images[f"s{number}"], layout="mpr", height=300))
    stage.draw(timeline)
    shown(stage, 2)
    timeline.viewer.index = [13, 9, 21]
    stage.settle(300)
    stage.page.click(".dl-timeaxis-marker[data-study='1']")
    shown(stage, 1)
    part = np.array(
        [1 - 13 / 19, 9 / 31, 21 / 31]
    )  # planes that run downwards are counted from the other end
    expected = [round(p * (n - 1)) for p, n in zip(part, (40, 64, 48), strict=True)]
    stage.until(lambda: timeline.at == 1 and list(timeline.viewer.index) == expected)
    assert stage.page.inner_text(".dl-timeline .dl-compare-badge") == "by position in the stack"


def test_python_moves_in_time_and_alt_arrows_work_inside_the_image(stage: Stage) -> None:
    timeline = Timeline(SERIES, Opener(s2=volume((30, 32, 32), frame="9")))
    stage.draw(timeline)
    shown(stage, 2)
    timeline.at = 1
    shown(stage, 1)
    stage.page.focus(".dl-pane-canvas")
    stage.page.keyboard.press("Alt+ArrowLeft")
    shown(stage, 0)
    stage.until(lambda: timeline.at == 0)
    assert stage.page.inner_text(".dl-timeline .dl-compare-badge") == "by position in the stack"
    stage.page.keyboard.press("Alt+ArrowLeft")
    assert stage.page.evaluate("document.activeElement.className") == "dl-pane-canvas"


def test_a_study_that_cannot_be_opened_says_so_and_the_one_before_stays(stage: Stage) -> None:
    def opening(number: int) -> Viewer:
        if number == 4:
            raise DicomlakeError("volume 1.2 is not built: build it")
        return Viewer(volume(), layout="one", height=300)

    timeline = Timeline(SERIES, opening)
    stage.draw(timeline)
    shown(stage, 2)
    stage.page.click("button[aria-label='Earlier study']")
    stage.page.wait_for_selector(".dl-timeline > .dl-error:has-text('volume 1.2 is not built')")
    shown(stage, 2)
    assert timeline.at == 2
