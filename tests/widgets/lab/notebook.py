"""A notebook in real JupyterLab: cells are run by the page, further ones straight in the same kernel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from playwright.sync_api import Locator, Page

from tests.widgets.lab.server import Server

READY = '[data-dl-state="ready"]'
_WRONG = ".jp-RenderedText[data-mime-type*='stderr'], .jp-RenderedText[data-mime-type*='error']"
_CONNECTED = """async () => {
  const context = window.jupyterapp.shell.currentWidget?.sessionContext;
  await context?.ready;
  return Boolean(await context?.session?.kernel?.info);
}"""
_RUN = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
_PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent.trim())"
_SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"


class Notebook:
    """One open notebook. complaints: of our scripts; others: of other scripts; strangers: hosts asked."""

    def __init__(self, server: Server, page: Page, cells: Sequence[str], name: str = "test") -> None:
        self.server, self.page, self.name = server, page, name
        self.path = server.root / f"{name}.ipynb"
        self.complaints: list[str] = []
        self.others: list[str] = []
        self.strangers: list[str] = []
        self.path.write_text(json.dumps(_document(cells)), encoding="utf-8")
        page.on("pageerror", lambda error: self._complain(f"{error}\n{getattr(error, 'stack', '')}"))
        page.on("console", lambda m: self._logged(m) if m.type == "error" else None)
        page.on("request", lambda r: None if _is_local(r.url) else self.strangers.append(r.url))
        page.on("websocket", lambda w: None if _is_local(w.url) else self.strangers.append(w.url))

    # ---- what a user does

    def open(self) -> None:
        """Show the notebook and wait for its kernel."""
        address = f"{self.server.url}/lab/tree/{self.name}.ipynb?token={self.server.token}&reset"
        self.page.goto(address, timeout=90_000)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        self.page.wait_for_selector(
            ".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached", timeout=90_000
        )
        assert self._soon(lambda: self.page.evaluate(_CONNECTED), 60), "the page has no kernel"

    def run_all(self) -> None:
        """Run all cells, until the page has taken them: a command may be lost, or its first cell."""
        for _ in range(10):
            self.page.evaluate(_RUN)
            if self._soon(lambda: all(p != "[ ]:" for p in self.prompts()), 5):
                return
        raise AssertionError("the cells were never run")

    def finished(self, seconds: float = 90) -> None:
        """Wait until every cell has run; fails with what one of them raised."""
        done = self._soon(lambda: all(p.strip("[]: ").isdigit() for p in self.prompts()), seconds)
        wrong = self.page.locator(_WRONG)
        assert wrong.count() == 0, wrong.first.inner_text()
        assert done, f"cells have not ended: {self.prompts()}"

    def save(self) -> dict[str, Any]:
        """Save the notebook as the user does; what is in the file then."""
        self.page.evaluate(_SAVE)
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def prompts(self) -> list[str]:
        """Of every code cell, such as "[1]:", "[*]:", "[ ]:"."""
        return list(self.page.evaluate(f"() => {_PROMPTS}"))

    # ---- what is to be seen

    def ready(self, count: int = 1, seconds: float = 60) -> Locator:
        """The roots of widgets that are drawn, once there are so many of them."""
        found = self.page.locator(READY)
        assert self._soon(lambda: found.count() >= count, seconds), self._state(f"{found.count()} widgets")
        return found

    def until(self, truth: Callable[[], Any], seconds: float = 20) -> None:
        """Let the page live until something is true."""
        assert self._soon(truth, seconds), self._state("it did not come true")

    def picture(self, path: Path) -> None:
        """A screenshot; slow machines get time."""
        self.page.screenshot(path=str(path), timeout=120_000)

    # ---- what Python says

    def python(self, code: str, seconds: float = 60) -> str:
        """Run code in the kernel of the notebook, beside the page; what it prints and returns."""
        client = self._client()
        try:
            client.wait_for_ready(timeout=seconds)
            said: list[str] = []
            reply = client.execute_interactive(
                code, timeout=seconds, store_history=False, output_hook=lambda m: said.append(_text(m))
            )
        finally:
            client.stop_channels()
        assert reply["content"]["status"] == "ok", "".join(said)
        return "".join(said).strip()

    def _client(self) -> BlockingKernelClient:
        (kernel,) = [
            s["kernel"]["id"] for s in self.server.ask("/api/sessions") if s["path"] == self.path.name
        ]
        client = BlockingKernelClient(connection_file=str(self.server.runtime / f"kernel-{kernel}.json"))
        client.load_connection_file()
        client.start_channels()
        return client

    def _kernels(self) -> list[str]:
        sessions = self.server.ask("/api/sessions")
        return [s["kernel"]["id"] for s in sessions if s["path"] == self.path.name]

    # ---- how it is known

    def _soon(self, truth: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not (found := truth()) and time.monotonic() < end:
            self._dismiss_dialog()
            self.page.wait_for_timeout(50)
        return bool(found)

    def _dismiss_dialog(self) -> None:
        """JupyterLab's own dialogs cover the page, such as of a save that a busy machine made late."""
        dialog = self.page.locator(".jp-Dialog")
        if dialog.count():
            self.others.append(dialog.first.inner_text())
            dialog.first.locator("button.jp-mod-accept").click()

    def _logged(self, message: Any) -> None:
        self._complain(f"{message.text} at {message.location.get('url', '')}")

    def _complain(self, text: str) -> None:
        """anywidget loads our scripts from blobs; what other extensions throw is not ours."""
        ours = "blob:" in text or "anywidget" in text or "dl-" in text
        (self.complaints if ours else self.others).append(text)

    def _state(self, what: str) -> str:
        errors = self.page.locator(f".dl-error:visible, {_WRONG}").all_inner_texts()
        return f"{what}; prompts {self.prompts()}; shown errors {errors}; complaints {self.complaints}"


def _document(cells: Sequence[str]) -> dict[str, Any]:
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if message["msg_type"] == "stream":
        return str(content["text"])
    if message["msg_type"] == "execute_result":
        return str(content["data"].get("text/plain", ""))
    if message["msg_type"] == "error":
        return "\n".join(content["traceback"])
    return ""


def _is_local(url: str) -> bool:
    return url.startswith(("data:", "blob:", "about:", "http://127.0.0.1:", "ws://127.0.0.1:"))
