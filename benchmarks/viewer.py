"""The jobs of the image viewer: drawing, scrolling, its three planes, its memory, and its first picture.

Those about the browser run in headless Chromium without a GPU, as on a hub and in CI: `viewer-draw` and
`viewer-scroll` on a page of their own, `viewer-first` in real JupyterLab.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import child, peers
from benchmarks.harness import Case, Job, Measure, Target
from benchmarks.workload import Workload

_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_PATIENCE_S = 120
_REDRAWS = 200
_RUN = 8  # planes of a message
_VOLUMES = 10
_SWEEPS = 16
_SCROLLED = 40


def _no_browser() -> str:
    missing = [name for name in ("playwright", "anywidget") if find_spec(name) is None]
    if shutil.which("chromium") is None and shutil.which("google-chrome") is None:
        missing.append("chromium")
    return ", ".join(missing)


def _lake(work: Workload, folder: Path) -> Path:
    """A lake with the CT, its volume built."""
    import dicomlake

    with dicomlake.open(folder, create=True) as made:
        made.ingest(work.ct, link=True, progress=False)
    return folder


def _image(lake: Path) -> Any:
    """The CT as a viewer reads it: without Dask, nothing of it in memory."""
    import dicomlake

    with dicomlake.open(lake) as opened:
        (series,) = opened.query(Modality="CT")
        return series.open(chunks=None).image


# ---- in a page of its own


@contextmanager
def _page(lake: Path) -> Iterator[Any]:
    """A stage with a viewer of the CT, drawn, and its first planes there."""
    from dicomlake.widgets.images.stack import Stack
    from dicomlake.widgets.viewer.viewer import Viewer
    from tests.widgets.stage import Stage, browser

    with browser() as opened:
        stage = Stage(opened.new_page(viewport={"width": 1280, "height": 900}))
        widget = Viewer(Stack.of(_image(lake)), layout="one", height=700)
        stage.draw(widget)
        stage.page.wait_for_selector(".dl-viewer[data-dl-state=ready]", timeout=60_000)
        stage.widget = widget
        yield stage


def draw(work: Workload, scratch: Path) -> Job:
    """Planes that are in the browser, drawn one after the other; and the window, moved."""
    lake = _lake(work, scratch / "viewer-draw-lake")
    absent = _no_browser()
    scroll, window = "dicomlake, another plane", "dicomlake, another window"

    def timed(change: str) -> Callable[[Any], Measure]:
        return lambda stage: _redraws(stage, change)

    def drawn(_context: object, found: int) -> int:
        return found

    return Job(
        name="viewer-draw",
        title=f"One redraw of a plane of 512 x 512 that is in the browser, the mean of {_REDRAWS}",
        work=_REDRAWS,
        of="redraws",
        unit="ms",
        cases=tuple(
            Case(
                name=name,
                role="dicomlake",
                run=timed(change),
                done=drawn,
                around=lambda _: _page(lake),
                absent=absent,
            )
            for name, change in (
                (scroll, 'model.set("index", [z0 + (n % 4), 100, 100])'),
                (window, 'model.set("window", [40 + (n % 50), 400])'),
            )
        ),
        targets=(Target(scroll, 1000 / 60), Target(window, 1000 / 60)),
    )


def _redraws(stage: Any, change: str) -> Measure:
    """Milliseconds a redraw, when the page does not wait for the screen; counts images that were drawn."""
    found = stage.page.evaluate(
        f"""async ({{ id, times }}) => {{
          const model = models.get(id), z0 = Math.max(model.get("index")[0] - 2, 0);
          const native = window.requestAnimationFrame, canvas = CanvasRenderingContext2D.prototype;
          const put = canvas.drawImage;
          let drawn = 0;
          canvas.drawImage = function (...all) {{ drawn += 1; return put.apply(this, all); }};
          window.requestAnimationFrame = (work) => queueMicrotask(() => work(performance.now())) || 1;
          const turn = async (n) => {{ {change}; await Promise.resolve(); await Promise.resolve(); }};
          for (let n = 0; n < 8; n++) await turn(n);
          drawn = 0;
          const began = performance.now();
          for (let n = 0; n < times; n++) await turn(n);
          const ms = (performance.now() - began) / times;
          window.requestAnimationFrame = native;
          canvas.drawImage = put;
          return {{ ms, drawn }};
        }}""",
        {"id": stage.widget.model_id, "times": _REDRAWS},
    )
    return Measure(found["ms"], 0.0, min(found["drawn"], _REDRAWS))


def scroll(work: Workload, scratch: Path) -> Job:
    """A jump, then the wheel turned, over planes that the browser has not got."""
    lake = _lake(work, scratch / "viewer-scroll-lake")
    steps = min(_SCROLLED, work.sizes.ct // 2)

    def arrived(stage: Any, moved: int) -> int:
        return abs(moved) if "Axial" in stage.page.locator(".dl-viewer-status").inner_text() else 0

    return Job(
        name="viewer-scroll",
        title=f"Messages to Python for a jump and {steps} planes by the wheel, none of them in the browser",
        work=steps,
        of="planes",
        unit="messages",
        cases=(
            Case(
                name="dicomlake",
                role="dicomlake",
                run=lambda stage: _messages(stage, steps),
                done=arrived,
                around=lambda _: _page(lake),
                absent=_no_browser(),
            ),
        ),
        targets=(
            Target("dicomlake", -(-(steps + 1) // _RUN) + 1),
        ),  # runs that hold each plane once, and one ahead
    )


def _messages(stage: Any, steps: int) -> Measure:
    """All asks from a jump to a far plane until the wheel rests; traits that follow are not counted."""
    box = stage.page.locator(".dl-pane-canvas").first.bounding_box()
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    stage.settle(1500)
    before, start = stage.sent(), 0
    stage.widget.index = [start, *stage.widget.index[1:]]
    stage.settle(200)
    for _ in range(steps):
        stage.page.mouse.wheel(0, 100)
        stage.settle(30)
    stage.settle(1500)
    return Measure(stage.sent() - before, 0.0, stage.widget.index[0] - start)


# ---- in the kernel


def planes(work: Workload, scratch: Path) -> Job:
    """Runs of planes across and along the slices, once the volume is in memory."""
    import numpy as np

    from dicomlake.widgets.images.stack import Stack

    stack = Stack.of(_image(_lake(work, scratch / "viewer-planes-lake")))
    axes = {"axial": 0, "coronal": 1, "sagittal": 2}
    true = np.asarray(stack.values()).astype(np.int64)
    sums = {name: set(true.sum(axis=tuple({0, 1, 2} - {axis})).tolist()) for name, axis in axes.items()}

    def swept(name: str) -> Measure:
        """The time of a run as it would be sent, and how many runs hold planes of the volume alone."""
        count = stack.planes[name].count
        ms, right = [], 0
        for start in range(0, count, max(count // _SWEEPS, 1))[:_SWEEPS]:
            began = time.perf_counter()
            found = bytes(stack.run(name, start, _RUN))
            ms.append(1000 * (time.perf_counter() - began))
            shown = np.frombuffer(found, stack.kind).reshape(
                -1, stack.planes[name].rows, stack.planes[name].cols
            )
            right += {int(plane.sum(dtype=np.int64)) for plane in shown} <= sums[name]
        return Measure(statistics.median(ms), None, right * _SWEEPS // len(ms))

    def run(name: str) -> Callable[[object], Measure]:
        return lambda _: swept(name)

    names = {name: f"dicomlake, {name}" for name in axes}
    return Job(
        name="viewer-planes",
        title=f"{_RUN} displayed planes of a CT of {work.sizes.ct} slices in memory, as bytes to be sent",
        work=_SWEEPS,
        of="runs",
        unit="ms",
        cases=tuple(
            Case(name=shown, role="dicomlake", run=run(name), done=lambda _, right: int(right))
            for name, shown in names.items()
        ),
        # a message costs the browser some 50 ms: what comes before it should not be felt
        targets=tuple(Target(shown, 25) for shown in names.values()),
    )


def memory(work: Workload, scratch: Path) -> Job:
    """What a kernel holds after many volumes were scrolled through in all planes."""
    lake = _lake(work, scratch / "viewer-memory-lake")
    name = f"dicomlake, {_VOLUMES} volumes"

    def run(_context: object) -> Measure:
        found = json.loads(child.python("-m", "benchmarks.viewer", "memory", lake))
        return Measure(found["grown"] / found["budget"], None, found["volumes"], found)

    return Job(
        name="viewer-memory",
        title=f"Memory of a kernel that has shown {_VOLUMES} CTs of {work.sizes.ct} slices, beyond imports",
        work=_VOLUMES,
        of="volumes",
        unit="x the bound",
        cases=(Case(name=name, role="dicomlake", run=run, done=lambda _, shown: int(shown)),),
        targets=(Target(name, 1.25),),
    )


def _grown(lake: Path) -> dict[str, Any]:
    """Bytes that looking at volumes adds to this process, with a bound of three of them."""
    import numpy as np
    import psutil

    from dicomlake.widgets.images import memory as images
    from dicomlake.widgets.images.stack import Stack

    shown = []  # viewers stay alive as long as their outputs do

    def look(image: Any) -> int:
        stack = Stack.of(image)
        shown.append(stack)
        for name, plane in stack.planes.items():
            for start in range(0, plane.count, 64):
                np.asarray(stack.run(name, start, 1))
        images.MEMORY.wait()
        return int(np.prod(stack.shape)) * 2

    copies = []
    for number in range(_VOLUMES):
        copy = lake.parent / f"{lake.name}-{number}"
        shutil.copytree(lake, copy, copy_function=os.link, dirs_exist_ok=True)
        copies.append(copy)
    size = look(_image(lake))  # imports, and what decoding needs
    images.MEMORY.keep_at_most(0)
    images.MEMORY.keep_at_most(3 * size)
    process = psutil.Process()
    before = process.memory_info().rss
    for copy in copies:
        look(_image(copy))
    grown = process.memory_info().rss - before
    for copy in copies:
        shutil.rmtree(copy)
    return {"grown": grown, "budget": 3 * size, "volumes": len(copies)}


# ---- in JupyterLab

_OURS = """
import dicomlake
lake = dicomlake.open({lake!r})
lake.query(Modality="CT")[0].view(layout="mpr", height=500)
"""
_THEIRS = """
from ipyniivue import NiiVue
nv = NiiVue(height=500)
nv.load_volumes([{{"path": {nifti!r}}}])
nv
"""


def first(work: Workload, scratch: Path) -> Job:
    """From running a cell to the first picture, in a kernel and a page that have just been started."""
    lake, nifti = _lake(work, scratch / "viewer-first-lake"), scratch / "viewer-first-nifti"
    theirs = peers.absent("ipyniivue")
    if not theirs:
        import dicomlake

        with dicomlake.open(lake) as opened:
            opened.query(Modality="CT")[0].to_nifti(nifti)
    absent = _no_browser() or peers.absent("jupyterlab")
    file = str(next(nifti.glob("*.nii.gz"), ""))
    ours, other = "dicomlake, three planes", f"ipyniivue, given {_PATIENCE_S} s"
    return Job(
        name="viewer-first",
        title=f"First picture of a CT of {work.sizes.ct} slices in JupyterLab, no GPU",
        work=1,
        of="pictures",
        cases=(
            Case(
                name=ours,
                role="dicomlake",
                run=lambda folder: _first_picture(folder, _OURS.format(lake=str(lake)), ".dl-viewer-grid"),
                done=lambda _, seen: int(seen),
                around=_fresh,
                absent=absent,
            ),
            Case(
                name=other,
                role="peer",
                run=lambda folder: _first_picture(
                    folder, _THEIRS.format(nifti=file), ".jp-OutputArea canvas"
                ),
                done=lambda _, seen: int(seen),
                around=_fresh,
                absent=absent or theirs,
            ),
        ),
        targets=(Target(ours, 20), Target(ours, 1 / 4, other)),
    )


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    yield folder


def _first_picture(folder: Path, cell: str, shown: str) -> Measure:
    """Seconds from running the cell until its canvas is no plain area; raises TimeoutError without one."""
    from playwright.sync_api import sync_playwright

    from tests.widgets.lab.notebook import Notebook
    from tests.widgets.lab.server import serving
    from tests.widgets.stage import FLAGS, chromium

    flags = [flag for flag in FLAGS if flag != "--disable-gpu"] + list(_WEBGL)
    with serving(folder) as server, sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), headless=True, args=flags)
        try:
            notebook = Notebook(server, opened.new_page(viewport={"width": 1280, "height": 1000}), [cell])
            notebook.open()
            notebook.python("1")
            began = time.perf_counter()
            notebook.run_all()
            while not _has_picture(notebook.page, shown):
                if time.perf_counter() - began > _PATIENCE_S:
                    raise TimeoutError(f"no picture within {_PATIENCE_S} s")
                notebook.page.wait_for_timeout(200)
            seconds = time.perf_counter() - began
            if os.environ.get("DICOMLAKE_SHOTS"):  # what was taken for a picture
                notebook.picture(Path(os.environ["DICOMLAKE_SHOTS"]) / f"{folder.name}.png")
            return Measure(seconds, None, 1)
        finally:
            opened.close()


def _has_picture(page: Any, shown: str) -> bool:
    """Whether what is on the screen there has many shades."""
    import io

    import numpy as np
    from PIL import Image
    from playwright.sync_api import Error

    try:
        found = page.locator(shown).first
        if not found.count() or not found.is_visible():
            return False
        png = found.screenshot(timeout=10_000)
    except Error:  # a page that is too busy to be photographed shows nothing
        return False
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    middle = grey[grey.shape[0] // 8 : -grey.shape[0] // 8, grey.shape[1] // 8 : -grey.shape[1] // 8]
    return bool(np.count_nonzero(np.bincount(middle.ravel(), minlength=256) > 20) > 40)


JOBS: dict[str, Callable[[Workload, Path], Job]] = {
    "viewer-draw": draw,
    "viewer-scroll": scroll,
    "viewer-planes": planes,
    "viewer-memory": memory,
    "viewer-first": first,
}

if __name__ == "__main__":
    verb, given = sys.argv[1:]
    print(json.dumps({"memory": _grown}[verb](Path(given))))
