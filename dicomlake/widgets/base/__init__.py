"""What every widget is made of: one class, one message protocol, scripts and styles, the still picture."""

from dicomlake.widgets.base.assets import script, style
from dicomlake.widgets.base.widget import Answer, Refusal, Widget, handles

__all__ = ["Answer", "Refusal", "Widget", "handles", "script", "style"]
