"""One JupyterLab for the tests of a process; a page, a notebook and a kernel for each test."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.widgets.lab.notebook import Notebook
from tests.widgets.lab.server import Server, serving
from tests.widgets.stage import chromium

Opener = Callable[..., Notebook]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if "DICOMLAKE_LAB" not in os.environ:
        pytest.skip("run alone, not beside other tests: make test-lab")
    chromium()  # no server where nothing can look at it
    with serving(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures go: what DICOMLAKE_SHOTS names, or the test's folder."""
    folder = Path(os.environ.get("DICOMLAKE_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def notebook(request: pytest.FixtureRequest, lab: Server, chrome: Browser, shots: Path) -> Iterator[Opener]:
    """Write cells into a notebook, open it and run them. Complaints of ours and strangers fail the test."""
    context = chrome.new_context(viewport={"width": 1280, "height": 1000})
    opened: list[Notebook] = []
    name = re.sub(r"\W+", "-", request.node.name)[:60]

    def start(*cells: str, run: bool = True) -> Notebook:
        made = Notebook(lab, context.new_page(), cells, f"{name}-{len(opened)}")
        opened.append(made)
        made.open()
        if run:
            made.run_all()
        return made

    try:
        yield start
    finally:
        for number, one in enumerate(opened):
            one.picture(shots / f"{name}-{number}.png")
        context.close()
        lab.stop_sessions()
    assert [one.complaints for one in opened if one.complaints] == []
    assert [one.strangers for one in opened if one.strangers] == []
