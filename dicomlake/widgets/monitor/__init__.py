"""The monitor of a receiver: studies as they arrive, what failed, rates, disk."""

from dicomlake.widgets.monitor.monitor import Monitor
from dicomlake.widgets.monitor.source import Source

__all__ = ["Monitor", "Source"]
