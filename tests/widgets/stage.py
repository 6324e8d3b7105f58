"""A widget in real Chromium without JupyterLab: the page's model is bridged to the widget in this process.

`Stage` draws a widget on a page as JupyterLab would: traits both ways, custom messages with buffers, child
models. It counts messages, records what the page complains of and what it asks of other hosts.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import ipywidgets
import pytest
from ipywidgets.widgets.widget import _instances
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_DULL = {"_esm", "_css", "layout", "tooltip", "_anywidget_id"}
_PAGE = """<!doctype html><meta charset="utf-8"><style>body{margin:12px;font:13px sans-serif}</style>
<div id="stage"></div>
<script>
const decode = (text) => { const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i); return new DataView(out.buffer); };
const encode = (buffer) => { const bytes = buffer instanceof ArrayBuffer ? new Uint8Array(buffer)
  : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength); let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text); };
const models = new Map();
window.sent = { custom: 0, update: 0 };
async function post(message) {
  for (const one of await window.dlPost(JSON.stringify(message))) {
    const model = models.get(one.id);
    if (!model) continue;
    if (one.state) model.received(one.state);
    else model.emit("msg:custom", one.content, one.buffers.map(decode));
  }
}
class Model {
  constructor(id, state) { this.id = id; this.state = state; this.changed = {}; this.listeners = new Map();
    this.widget_manager = { get_model: (ref) => modelOf(ref) }; }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (JSON.stringify(this.state[name]) === JSON.stringify(value)) { this.state[name] = value; return; }
    this.state[name] = value; this.changed[name] = value;
    this.emit("change:" + name, this, value); this.emit("change", this); }
  save_changes() { const state = this.changed; this.changed = {};
    if (!Object.keys(state).length) return;
    window.sent.update += 1; post({ kind: "update", id: this.id, state }); }
  send(content, callbacks, buffers) { window.sent.custom += 1;
    post({ kind: "custom", id: this.id, content, buffers: (buffers || []).map(encode) }); }
  on(names, callback) { for (const name of names.split(" ")) {
    if (!this.listeners.has(name)) this.listeners.set(name, []); this.listeners.get(name).push(callback); } }
  off(names, callback) { if (!names) { this.listeners.clear(); return; }
    for (const name of names.split(" ")) this.listeners.set(name,
      (this.listeners.get(name) || []).filter((one) => callback && one !== callback)); }
  emit(name, ...args) { for (const one of [...(this.listeners.get(name) || [])]) one(...args); }
  received(state) { const news = Object.keys(state).filter(
      (n) => JSON.stringify(this.state[n]) !== JSON.stringify(state[n]));
    Object.assign(this.state, state); for (const n of news) this.emit("change:" + n, this, state[n]);
    if (news.length) this.emit("change", this); }
}
async function modelOf(ref) {
  const id = ref.replace("IPY_MODEL_", "");
  if (!models.has(id)) models.set(id, new Model(id, JSON.parse(await window.dlState(id))));
  return models.get(id);
}
window.draw = async (id, host = "stage") => {
  const model = await modelOf(id);
  const url = URL.createObjectURL(new Blob([await window.dlScript(id)], { type: "text/javascript" }));
  const css = document.createElement("style"); css.textContent = await window.dlStyle(id);
  document.head.append(css);
  const made = (await import(url)).default;
  const hooks = typeof made === "function" ? await made() : made;
  if (hooks.initialize) await hooks.initialize({ model });
  const el = document.createElement("div"); document.getElementById(host).append(el);
  window.stop = await hooks.render({ model, el });
};
setInterval(() => post({ kind: "poll" }), 25);
</script>"""


class _Wire:
    """What stands for a comm: what Python sends waits here until the page fetches it."""

    def __init__(self, stage: Stage, comm_id: str) -> None:
        self.stage, self.comm_id = stage, comm_id

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = None) -> None:
        self.stage.post(self.comm_id, data, buffers or [])

    def close(self, *args: Any, **kwargs: Any) -> None:
        pass

    def on_msg(self, callback: Any) -> None:
        pass


class Stage:
    """One page with widgets on it. `complaints` and `strangers` should stay empty."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._waiting: list[dict[str, Any]] = []
        self._lock = Lock()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: None if _is_local(r.url) else self.strangers.append(r.url))
        page.expose_function("dlPost", self._received)
        page.expose_function("dlState", lambda id_: json.dumps(self._state(id_), default=str))
        page.expose_function("dlScript", lambda id_: str(_widget(id_)._esm))
        page.expose_function("dlStyle", lambda id_: str(_widget(id_)._css))
        page.set_content(_PAGE)

    def draw(self, widget: ipywidgets.Widget) -> None:
        """Show a widget, below what is there already."""
        self.page.evaluate("id => window.draw(id)", widget.model_id)

    def post(self, comm_id: str, data: dict[str, Any], buffers: list[Any]) -> None:
        """Let something wait for the page; any thread may."""
        if data.get("method") == "update":
            message: dict[str, Any] = {
                "id": comm_id,
                "state": json.loads(json.dumps(data["state"], default=str)),
            }
        elif data.get("method") == "custom":
            coded = [base64.b64encode(bytes(memoryview(b))).decode("ascii") for b in buffers]
            message = {"id": comm_id, "content": json.loads(json.dumps(data["content"])), "buffers": coded}
        else:
            return
        with self._lock:
            self._waiting.append(message)

    def sent(self, kind: str = "custom") -> int:
        """How many messages the page has sent, "custom" or "update"."""
        return int(self.page.evaluate("kind => window.sent[kind]", kind))

    def settle(self, ms: int = 60) -> None:
        """Let messages pass for a while."""
        self.page.wait_for_timeout(ms)

    def until(self, truth: Any, seconds: float = 10) -> None:
        """Let messages pass until a function of no argument returns something true."""
        for _ in range(int(seconds * 50)):
            if truth():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("it did not come true in time")

    def picture(self, path: Path | str) -> None:
        """A screenshot of the whole page."""
        self.page.screenshot(path=str(path), full_page=True)

    def _received(self, text: str) -> list[dict[str, Any]]:
        message = json.loads(text)
        if message["kind"] == "update":
            data = {"method": "update", "state": message["state"], "buffer_paths": []}
            _widget(message["id"])._handle_msg({"content": {"data": data}, "buffers": []})
        elif message["kind"] == "custom":
            buffers = [base64.b64decode(b) for b in message["buffers"]]
            data = {"method": "custom", "content": message["content"]}
            _widget(message["id"])._handle_msg({"content": {"data": data}, "buffers": buffers})
        with self._lock:
            found, self._waiting = self._waiting, []
        return found

    def _state(self, model_id: str) -> dict[str, Any]:
        widget = _widget(model_id)
        if not isinstance(widget.comm, _Wire):
            widget.comm = _Wire(self, model_id)
        return {name: value for name, value in widget.get_state().items() if name not in _DULL}


def _widget(model_id: str) -> Any:
    return _instances[model_id]


def _is_local(url: str) -> bool:
    return url.startswith(("data:", "blob:", "about:", "http://127.0.0.1"))


def chromium() -> str:
    """The path of the system's Chromium; the test is skipped where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium: install it, or run make test as root")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium with a fresh profile."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()
