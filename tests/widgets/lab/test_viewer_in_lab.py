"""The viewer in real JupyterLab: what only kernel, document and front end together can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dicomlake import datasets
from tests.widgets.lab.conftest import Opener
from tests.widgets.lab.notebook import Notebook

_PATIENT = {"PatientName": "Wintersonne^Edeltraud", "PatientID": "ZK-4711-QX", "PatientBirthDate": "19470223"}
_VIEWER = """
import dicomlake as dl
lake = dl.open({path!r})
series = lake.query(Modality="CT")[0]
image = series.open().image
viewer = series.view(arrangement={arrangement!r}, height=420)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one chest CT whose patient has a name that can be looked for."""
    import pydicom

    import dicomlake

    folder = tmp_path_factory.mktemp("lab-lake")
    datasets.make("chest-ct", folder / "files", slices=24)
    for file in (folder / "files").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.update(_PATIENT)
        dataset.save_as(file)
    with dicomlake.open(folder / "lake", create=True) as opened:
        opened.ingest(folder / "files", progress=False)
    return folder / "lake"


def cells(lake: Path, *more: str, arrangement: str = "one") -> tuple[str, ...]:
    return (_VIEWER.format(path=str(lake), arrangement=arrangement), "viewer", *more)


def index_in(lab: Notebook) -> list[int]:
    found: list[int] = json.loads(lab.python("import json; print(json.dumps(list(map(int, viewer.index))))"))
    return found


def pane(lab: Notebook, name: str) -> Any:
    return lab.page.locator(f".dl-pane[data-plane='{name}'] canvas, canvas[data-plane='{name}']").first


def test_the_wheel_scrolls_a_click_links_the_planes_and_python_reads_the_voxel(
    notebook: Opener, lake: Path
) -> None:
    lab = notebook(*cells(lake, arrangement="mpr"))
    lab.ready()
    before = index_in(lab)
    axial = pane(lab, "axial")
    box = axial.bounding_box()
    assert box is not None
    lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(3):
        lab.page.mouse.wheel(0, 100)
        lab.page.wait_for_timeout(60)
    lab.until(lambda: abs(index_in(lab)[0] - before[0]) == 3)
    lab.page.mouse.click(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.6)
    lab.until(lambda: index_in(lab)[1:] != before[1:])
    lab.ready()
    z, y, x = index_in(lab)
    shown = lab.page.locator(".dl-viewer-status").inner_text()
    assert shown.startswith("Pointer")
    assert f"[{z}, {y}, {x}]" in shown  # the pointer is where it has clicked
    lab.python("viewer.index = [5, 100, 200]")
    lab.page.mouse.move(5, 5)
    lab.until(lambda: "[5, 100, 200]" in lab.page.locator(".dl-viewer-status").inner_text())
    value = float(lab.python("print(float(image.dicom.hu()[5, 100, 200]))"))
    assert f"{value:g} HU" in lab.page.locator(".dl-viewer-status").inner_text()


def test_the_viewer_lives_while_a_cell_runs_that_has_just_moved_it(notebook: Opener, lake: Path) -> None:
    """ipykernel sends what a browser asks to the shell that spoke last: the busy one, unless told not to."""
    busy = "viewer.index = [12, 100, 100]; import time; time.sleep(25)"
    lab = notebook(*cells(lake, busy))  # run together: the viewer is drawn while the last cell runs
    lab.until(lambda: lab.prompts()[-1] == "[*]:")
    lab.ready(seconds=20)
    pane(lab, "axial").click()
    lab.page.keyboard.press("PageUp")  # ten planes back: none of them is in the browser yet
    lab.page.wait_for_timeout(100)
    lab.ready(seconds=10)
    assert "[2," in lab.page.locator(".dl-viewer-status").inner_text()
    assert lab.prompts()[-1] == "[*]:", "the cell ended before the planes came: nothing is shown by this"


def test_keys_go_to_the_viewer_not_to_the_notebook_and_two_views_follow(notebook: Opener, lake: Path) -> None:
    """To a notebook arrows choose cells, d d deletes them, m makes them text, b adds one."""
    lab = notebook(*cells(lake, "viewer"))
    roots = lab.ready(2)
    roots.first.locator("canvas").first.click()
    before = index_in(lab)
    for key in ("ArrowDown", "ArrowDown", "d", "d", "m", "b"):
        lab.page.keyboard.press(key)
    lab.until(lambda: index_in(lab)[0] - before[0] == 2)
    assert len(lab.prompts()) == 3, "no cell came or went"
    assert lab.page.locator(".jp-MarkdownCell").count() == 0
    lab.page.mouse.move(5, 5)
    lab.ready(2)
    said = lab.page.locator(".dl-viewer-status")
    lab.until(lambda: said.nth(0).inner_text() == said.nth(1).inner_text() != "")
    assert str(index_in(lab)) in said.nth(1).inner_text()


def test_a_saved_notebook_shows_a_still_picture_without_kernel_and_names_nobody(
    notebook: Opener, lake: Path
) -> None:
    lab = notebook(*cells(lake))
    lab.ready()
    lab.finished()
    saved = json.dumps(lab.save())
    for value in _PATIENT.values():
        for part in value.split("^"):
            assert part.lower() not in saved.lower()
    assert len(saved) < 1_000_000
    assert not lab.page.locator(".dl-still").is_visible(), "beside the live widget it would be shown twice"
    lab.server.stop_sessions()
    lab.open()
    still = lab.page.locator(".dl-still img")
    still.wait_for(state="visible", timeout=30_000)
    assert still.evaluate("image => image.naturalWidth") > 100
    assert lab.page.locator(".dl-widget").count() == 0


def test_a_corrupt_chunk_is_told_in_the_pane(notebook: Opener, lake: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(lake, broken)
    shards = [path for path in broken.rglob("*") if path.is_file() and "/image/c/" in path.as_posix()]
    assert shards
    for shard in shards:
        stored = bytearray(shard.read_bytes())
        stored[: len(stored) // 2] = bytes(len(stored) // 2)
        shard.write_bytes(stored)
    lab = notebook(*cells(broken))
    told = lab.page.locator(".dl-widget .dl-error:visible, .dl-pane [role=alert]:visible")
    lab.until(lambda: told.count() and told.first.inner_text(), 60)
    assert "plane" in told.first.inner_text()
    assert lab.page.locator(".dl-viewer canvas").first.is_visible()
