"""The base of widgets: joined scripts, asks and answers, errors in the pane, the still picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import traitlets

from dicomlake.errors import VolumeError
from dicomlake.widgets.base import Answer, Refusal, Widget, assets, handles
from tests.widgets.stage import Stage

_SCRIPT = """
import { linkOf, typed } from "../base/link.js";
import { el, frame } from "../base/dom.js";
export default { render({ model, el: host }) {
  const link = linkOf(model);
  const view = frame(host, link, model, "Adder");
  const out = el("output", { class: "out" });
  const ask = async () => {
    try {
      const { data, buffers } = await link.ask("add", { a: model.get("a"), b: 2 });
      out.textContent = data.sum + ":" + Array.from(typed(buffers[0], Int16Array)).join(",");
    } catch (failure) { out.textContent = "failed"; view.showError(failure.message); }
  };
  view.root.append(el("button", { onclick: ask, class: "go" }, "add"), out);
  link.on("moved", (data) => (out.textContent = "moved to " + data.to));
  view.state("ready");
} };
"""


@pytest.fixture
def adder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> type[Widget]:
    static = tmp_path / "static"
    (static / "adder").mkdir(parents=True)
    for name in ("link.js", "dom.js", "base.css"):
        (static / "base").mkdir(exist_ok=True)
        (static / "base" / name).write_text((assets.STATIC / "base" / name).read_text("utf-8"), "utf-8")
    (static / "adder" / "main.js").write_text(_SCRIPT, "utf-8")
    monkeypatch.setattr(assets, "STATIC", static)
    assets.script.cache_clear()

    class Adder(Widget):
        ENTRY = "adder/main.js"
        a = traitlets.Int(1).tag(sync=True)

        @handles("add")
        def _add(self, args: dict[str, Any], _buffers: Any) -> Answer:
            if args["a"] == 13:
                raise VolumeError("volume 13 is not built: build it")
            if args["a"] == 14:
                raise KeyError("Doe^John")
            total = args["a"] + args["b"]
            return Answer({"sum": total}, [np.arange(total, dtype=np.int16)])

    assets.script.cache_clear()
    return Adder


def test_an_ask_comes_back_with_its_data_and_buffers(stage: Stage, adder: type[Widget]) -> None:
    stage.draw(adder(a=1))
    stage.page.click(".go")
    stage.page.wait_for_function("document.querySelector('.out').textContent === '3:0,1,2'")


def test_traits_move_both_ways_and_news_arrive(stage: Stage, adder: type[Widget]) -> None:
    widget = adder(a=1)
    stage.draw(widget)
    widget.a = 5  # type: ignore[attr-defined]
    stage.settle()
    stage.page.click(".go")
    stage.page.wait_for_function("document.querySelector('.out').textContent.startsWith('7:')")
    widget.tell("moved", {"to": 9})
    stage.page.wait_for_function("document.querySelector('.out').textContent === 'moved to 9'")


def test_an_error_is_shown_in_the_pane_and_kept(stage: Stage, adder: type[Widget]) -> None:
    widget = adder(a=13)
    stage.draw(widget)
    stage.page.click(".go")
    stage.page.wait_for_selector(".dl-error:has-text('volume 13 is not built')")
    assert widget.error == "volume 13 is not built: build it"
    assert isinstance(widget.last_exception, VolumeError)


def test_the_words_of_a_foreign_error_are_not_shown(adder: type[Widget]) -> None:
    widget = adder(a=14)
    said: list[Any] = []
    widget.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    widget._handle_custom_msg({"ask": "add", "id": 1, "args": {"a": 14, "b": 1}}, [])
    assert said[-1]["answer"] == 1
    assert "KeyError" in said[-1]["failed"]
    assert "Doe" not in str(said)


def test_an_unknown_ask_is_refused_by_name(adder: type[Widget]) -> None:
    widget = adder()
    said: list[Any] = []
    widget.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    widget._handle_custom_msg({"ask": "fly", "id": 2}, [])
    assert "fly" in said[-1]["failed"]
    assert isinstance(widget.last_exception, Refusal)


def test_uids_are_left_out_of_what_is_saved_with_the_notebook(adder: type[Widget]) -> None:
    uid = "2.25.133708935257900635433084081096233548970"
    widget = adder()
    widget.failed(VolumeError(f"series {uid} has version 1.2.3: see 1.2.840.10008.5.1.4.1.1.2."))
    assert widget.error == "series <UID> has version 1.2.3: see <UID>."
    assert uid in str(widget.last_exception)


@pytest.mark.parametrize("noise", [None, "text", {}, {"ask": 3}, [1]])
def test_noise_is_not_answered(adder: type[Widget], noise: Any) -> None:
    widget = adder()
    said: list[Any] = []
    widget.send = lambda content, buffers=None: said.append(content)  # type: ignore[method-assign]
    widget._handle_custom_msg(noise, [])
    assert said == []


def test_one_name_in_two_modules_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.js").write_text("export const one = 1;\n", "utf-8")
    (tmp_path / "b.js").write_text('import { one } from "./a.js";\nfunction one() {}\n', "utf-8")
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    assets.script.cache_clear()
    with pytest.raises(ValueError, match="both define one"):
        assets.script("b.js")


def test_a_circle_of_modules_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\n', "utf-8")
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\n', "utf-8")
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    assets.script.cache_clear()
    with pytest.raises(ValueError, match="circle"):
        assets.script("a.js")
