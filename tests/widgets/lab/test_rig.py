"""The rig itself, with a small widget: a notebook runs in JupyterLab and is watched."""

from __future__ import annotations

from tests.widgets.lab.conftest import Opener

_COUNTER = '''
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const show = () => { el.dataset.dlCount = model.get("n"); button.textContent = "n " + model.get("n"); };
      const button = document.createElement("button");
      button.onclick = () => { model.set("n", model.get("n") + 1); model.save_changes(); };
      el.append(button); el.dataset.dlState = "ready"; model.on("change:n", show); show();
    } };"""
    n = traitlets.Int(0).tag(sync=True)
counter = Counter()
counter
'''


def test_clicks_reach_python_and_python_reaches_the_page(notebook: Opener) -> None:
    lab = notebook(_COUNTER)
    root = lab.ready()
    root.locator("button").click()
    lab.until(lambda: lab.python("counter.n") == "1")
    lab.python("counter.n = 41")
    lab.until(lambda: root.get_attribute("data-dl-count") == "41")


def test_what_our_scripts_throw_and_where_they_call_is_recorded(notebook: Opener) -> None:
    lab = notebook(
        _COUNTER.replace(
            "show();\n    }",
            'show(); fetch("https://example.org/x").catch(() => 0);'
            ' setTimeout(() => { throw new Error("of ours"); }, 0);\n    }',
        )
    )
    lab.ready()
    lab.until(lambda: lab.complaints and lab.strangers)
    assert any("of ours" in text for text in lab.complaints)
    assert any("example.org" in url for url in lab.strangers)
    lab.complaints.clear()
    lab.strangers.clear()
