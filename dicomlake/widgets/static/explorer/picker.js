// A text field that completes names of elements and facts.

import { el, settled } from "../base/dom.js";
import { exNumber } from "./words.js";

let exPickers = 0;

/** A combobox. ask(text) -> Promise of [{name, series}]; onPick(name). */
export function exPicker({ label, ask, onPick }) {
  const id = `dl-ex-names-${++exPickers}`;
  const input = el("input", {
    class: "dl-ex-pick", placeholder: label, "aria-label": label, role: "combobox", "aria-expanded": "false",
    "aria-controls": id, "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
  });
  const list = el("ul", { id, class: "dl-ex-names", role: "listbox", "aria-label": label, hidden: true });
  const box = el("span", { class: "dl-ex-picker" }, input, list);
  let names = [];
  let at = -1;
  const close = () => {
    list.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const pick = (name) => {
    close();
    input.value = "";
    onPick(name);
  };
  const mark = (place) => {
    at = place;
    [...list.children].forEach((one, i) => one.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) {
      input.setAttribute("aria-activedescendant", list.children[at].id);
      list.children[at].scrollIntoView({ block: "nearest" });
    }
  };
  const show = (found) => {
    names = found;
    list.replaceChildren(...found.map((one, i) => exName(one, `${id}-${i}`, pick)));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    at = -1;
  };
  const search = settled(async () => {
    const asked = input.value;
    const found = await ask(asked);
    if (input.value === asked && document.activeElement === input) show(found);
  }, 120);
  input.addEventListener("input", search);
  input.addEventListener("focus", search);
  input.addEventListener("blur", () => setTimeout(close, 150));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (names.length) mark((at + (event.key === "ArrowDown" ? 1 : names.length - Math.min(at, 1))) % names.length);
    } else if (event.key === "Enter") {
      const name = at >= 0 ? names[at].name : input.value.trim();
      if (name) pick(name);
    } else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
  return box;
}

function exName({ name, series }, id, pick) {
  const note = series ? el("span", { class: "dl-muted" }, exNumber(series)) : null;
  return el(
    "li",
    { id, role: "option", "aria-selected": "false", onpointerdown: (e) => (e.preventDefault(), pick(name)) },
    el("span", {}, name),
    note,
  );
}
