// Tabs beside the tree, and the place of viewers below it.
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

/** The viewers, side by side: widgets that the traits `viewer` and `other` name. close(other) takes one away. */
export function viewersOf(model, close, failed) {
  const node = el("div", { class: "dl-br-viewers", hidden: true });
  const places = new Map(["viewer", "other"].map((name) => [name, el("div", { class: "dl-br-viewer-place", "data-side": name, hidden: true })]));
  node.append(...places.values());
  const turns = new Map();
  const update = async (name) => {
    const place = places.get(name);
    const reference = model.get(name);
    const turn = (turns.get(name) || 0) + 1;
    turns.set(name, turn);
    place.dlView?.remove?.();
    place.dlView = null;
    place.replaceChildren();
    place.hidden = !reference;
    node.hidden = [...places.values()].every((one) => one.hidden);
    if (!reference) return;
    try {
      const view = await childView(model, reference);
      if (turns.get(name) !== turn) return;
      const shut = el("button", { type: "button", class: "dl-br-shut", "aria-label": "Close this viewer", title: "Close", onclick: () => close(name === "other") }, "×");
      place.replaceChildren(shut, view.el);
      place.dlView = view;
      view.trigger?.("displayed");
    } catch (failure) {
      failed(failure);
    }
  };
  const listen = new Map(["viewer", "other"].map((name) => [name, () => update(name)]));
  for (const [name, heard] of listen) {
    model.on(`change:${name}`, heard);
    update(name);
  }
  return {
    node,
    dispose() {
      for (const [name, heard] of listen) model.off(`change:${name}`, heard);
      for (const place of places.values()) place.dlView?.remove?.();
    },
  };
}

/** A view of a child widget: the manager of JupyterLab makes it. */
async function childView(model, reference) {
  const manager = model.widget_manager;
  const id = typeof reference === "string" ? reference.replace("IPY_MODEL_", "") : null;
  const child = id === null ? reference : await manager.get_model(id);
  return manager.create_view(child);
}
