"""Chromium once for the widget tests of a module, a fresh page for each test; a lake to explore."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from dicomlake.lake import Lake
from tests.widgets.explorer_parts import Truth, made
from tests.widgets.stage import Stage, browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def stage(chrome: Browser) -> Iterator[Stage]:
    page = chrome.new_page(viewport={"width": 1280, "height": 900})
    shown = Stage(page)
    yield shown
    page.close()
    assert shown.complaints == []
    assert shown.strangers == []


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Truth]]:
    """A lake of odd series, and what pydicom says of them."""
    lake, truth = made(tmp_path_factory.mktemp("explorer"))
    with lake:
        yield lake, truth
