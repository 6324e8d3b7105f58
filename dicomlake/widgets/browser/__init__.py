"""The browser of a lake: patients, studies, series, their headers and documents; files dropped into it."""

from dicomlake.widgets.browser.browser import Browser
from dicomlake.widgets.browser.tagviewer import TagViewer

__all__ = ["Browser", "TagViewer"]
