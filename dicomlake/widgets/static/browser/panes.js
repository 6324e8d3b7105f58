// Tabs beside the tree.
import { el } from "../base/dom.js";

let tabsMade = 0;

/** Tabs: parts is [[name, title, node], …]. changed(name) is called when another one is shown. */
export function tabsOf(parts, changed) {
  const prefix = `dl-br-tabs-${(tabsMade += 1)}-`;
  const list = el("div", { class: "dl-br-tabs", role: "tablist", "aria-label": "About the series" });
  const panes = el("div", { class: "dl-br-panes" });
  const state = { node: el("div", { class: "dl-br-side" }, list, panes), shown: "", show };
  for (const [name, title, node] of parts) {
    const tab = el("button", { type: "button", role: "tab", id: `${prefix}${name}`, "aria-controls": `${prefix}${name}-pane`, "data-tab": name, onclick: () => show(name) }, title);
    tab.addEventListener("keydown", (event) => turned(event, name));
    list.append(tab);
    panes.append(el("div", { class: "dl-br-pane", role: "tabpanel", id: `${prefix}${name}-pane`, "aria-labelledby": `${prefix}${name}`, "data-pane": name, hidden: true }, node));
  }
  function show(name) {
    state.shown = name;
    for (const tab of list.children) {
      tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
      tab.tabIndex = tab.dataset.tab === name ? 0 : -1;
    }
    for (const pane of panes.children) pane.hidden = pane.dataset.pane !== name;
    changed(name);
  }
  function turned(event, name) {
    event.stopPropagation();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = parts.map(([one]) => one);
    const next = names[(names.indexOf(name) + step + names.length) % names.length];
    show(next);
    list.querySelector(`[data-tab="${next}"]`).focus();
  }
  return state;
}
