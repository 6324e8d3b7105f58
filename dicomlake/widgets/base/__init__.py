"""What every widget is made of: one class, one message protocol, scripts and styles, the still picture."""

from dicomlake.widgets.base.assets import script, style
from dicomlake.widgets.base.widget import Answer, Refusal, Widget, handles, without_uids

__all__ = ["Answer", "Refusal", "Widget", "handles", "script", "style", "without_uids"]
