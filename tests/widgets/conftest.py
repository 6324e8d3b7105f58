"""Chromium once for the widget tests of a process, a fresh page for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.widgets.stage import Stage, browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def stage(chrome: Browser) -> Iterator[Stage]:
    page = chrome.new_page(viewport={"width": 1280, "height": 900})
    made = Stage(page)
    yield made
    page.close()
    assert made.complaints == []
    assert made.strangers == []
