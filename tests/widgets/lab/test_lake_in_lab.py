"""Browser, explorer and quiz in real JupyterLab: a click in the page is a table and a cohort in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import dicomlake
from dicomlake.datasets import trial
from tests.widgets.lab.conftest import Opener

_LAKE = "import dicomlake as dl\nlake = dl.open({path!r})\nct = lake.query(Modality='CT')"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the invented trial: CT, PET, segmentations and reports of a few patients."""
    folder = tmp_path_factory.mktemp("lab-trial")
    trial.write(folder / "files", patients=4)
    with dicomlake.open(folder / "lake", create=True) as opened:
        opened.ingest(sorted((folder / "files").glob("*.dcm")), progress=False)
    return folder / "lake"


def test_what_is_browsed_for_and_chosen_is_the_same_in_python(notebook: Opener, lake: Path) -> None:
    lab = notebook(_LAKE.format(path=str(lake)), "browser = lake.browse(); browser")
    root = lab.ready()
    root.locator(".dl-br-search").fill("Modality=PT")
    wanted = lab.python("print(len(lake.query(Modality='PT')))")
    lab.until(lambda: f", {wanted} series" in root.locator(".dl-br-counts").inner_text())
    root.locator("[role=treeitem][data-place='0']").click()
    lab.until(lambda: lab.python("print(len(browser.selection))") != "0")
    expected = "lake.query(Modality='PT', PatientID=lake.query(Modality='PT')[0].facts['PatientID'])"
    assert lab.python(f"print(browser.selection.equals({expected}.table()))") == "True"
    assert lab.python(f"print(browser.cohort.keys == {expected}.keys)") == "True"


def test_what_is_brushed_in_the_explorer_is_the_cohort_that_the_query_gives(
    notebook: Opener, lake: Path
) -> None:
    lab = notebook(
        _LAKE.format(path=str(lake)),
        "explorer = lake.explore('Modality', 'SliceThickness', 'StudyDate'); explorer",
    )
    root = lab.ready()
    root.locator("[data-facet=Modality] [data-value=CT]").click()
    lab.until(lambda: root.get_attribute("data-query") == "Modality=CT")
    plot = root.locator("[data-facet=StudyDate] .dl-ex-plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    lab.page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + 30)
    lab.page.mouse.down()
    lab.page.wait_for_timeout(500)
    lab.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 30, steps=5)
    lab.page.mouse.up()
    lab.until(lambda: "StudyDate" in lab.python("print(explorer.query)"))
    query = lab.python("print(explorer.query)")
    lab.until(lambda: root.get_attribute("data-query") == query)
    chosen = lab.python("print(len(explorer.cohort))")
    assert 0 < int(chosen) < int(lab.python("print(len(ct))"))
    dates = "sorted(explorer.cohort.table('StudyDate').StudyDate)"
    between = "ct.where(StudyDate=(d[0], d[-1]))"
    assert lab.python(f"d = {dates}; print(set(explorer.cohort.keys) == set({between}.keys))") == "True"
    assert root.locator(".dl-ex-sizes").inner_text().startswith(f"{chosen} series")


def test_a_quiz_is_answered_and_the_report_comes_only_then(notebook: Opener, lake: Path) -> None:
    ask = "quiz = ct.quiz(words={'effusion': 'pleural effusion'}, ask='Is there an effusion?'); quiz"
    lab = notebook(_LAKE.format(path=str(lake)), ask)
    lab.page.wait_for_selector(
        ".dl-quiz[data-dl-state=ready] .dl-viewer[data-dl-state=ready]", timeout=60_000
    )
    assert "Impression" not in lab.page.locator(".jp-OutputArea").all_inner_texts()[-1]
    lab.page.locator(".dl-quiz .dl-pane-canvas").first.click()
    for key in ("1", "Enter"):
        lab.page.keyboard.press(key)
    lab.page.wait_for_selector(".dl-quiz-report:has-text('Impression')", timeout=30_000)
    lab.page.keyboard.press("n")
    lab.page.wait_for_selector(".dl-quiz-count:has-text('2 of')")
    lab.page.wait_for_selector(".dl-quiz .dl-viewer[data-dl-state=ready]", timeout=30_000)
    lab.page.keyboard.press("2")
    lab.page.keyboard.press("Enter")
    lab.until(lambda: lab.python("print(len(quiz.progress))") == "2")
    assert lab.python("print(list(quiz.progress.answer))") == "['effusion', 'none of these']"
    told = lab.page.locator(".dl-quiz-score").inner_text()
    assert told.startswith(lab.python("print(int(quiz.progress.correct.sum()))"))
    assert "Impression" not in str(lab.save()), "the report is not saved with the notebook"
