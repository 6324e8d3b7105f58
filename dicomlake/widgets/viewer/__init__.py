"""The image viewer."""

from dicomlake.widgets.viewer.viewer import Viewer

__all__ = ["Viewer"]
