"""The picture that a saved notebook shows where no kernel runs.

It is an output of its own before the widget. A rule in it hides it while the widget lives, and hides the
complaint of a widget that has no model any more.
"""

from __future__ import annotations

import base64
import html
from typing import Any

_RULE = (
    "<style>"
    ".jp-OutputArea-child:has(.dl-still):has(+ .jp-OutputArea-child .dl-widget:not(.dl-dead)){display:none}"
    ".jp-OutputArea-child:has(.dl-still)+.jp-OutputArea-child:has(.jupyter-widgets):not(:has(.dl-widget))"
    "{display:none}"
    ".dl-still{font:13px sans-serif;color:#777;margin:4px 0}.dl-still img{display:block;max-width:100%}"
    "</style>"
)


def picture(png: bytes, caption: str) -> str:
    """HTML of a PNG with a caption."""
    data = base64.b64encode(png).decode("ascii")
    shown = html.escape(caption, quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{shown}">{shown}'


def shown_before(widget: Any) -> None:
    """Put the still picture of a widget in front of it, where a notebook shows outputs."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return
    try:
        still = widget.still()
    except Exception as exc:  # a picture that cannot be drawn must not keep the widget from being shown
        widget.failed(exc)
        return
    if still is not None:
        from IPython.display import HTML, display

        display(HTML(f'{_RULE}<div class="dl-still">{still}</div>'))
