// Tools to measure and to paint with, and what becomes of it: the part of the tool bar.

import { el } from "../base/dom.js";
import { MARK_TOOLS } from "./marks_shapes.js";

const MARK_ICONS = {
  length: "M2.5 13.5l11-11M1.5 11.5l3 3M11.5 1.5l3 3",
  angle: "M13.5 3L3 12.5h11M8 8.2a6 6 0 0 1 1.6 4.3",
  ellipse: "M8 3.5c3.6 0 6 2 6 4.5s-2.4 4.5-6 4.5S2 10.5 2 8s2.4-4.5 6-4.500z",
  rectangle: "M2.5 4h11v8h-11z",
  polygon: "M8 2l6 4.5-2.2 7H4.200L2 6.500z",
  freehand: "M3 9c-1-3.5 2.5-7 6-6s5 4 3.5 6.5-3 1-4.5 2.500S4 12.5 3 9z",
  point: "M8 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6zM8 1.500v3M8 11.500v3M1.5 8h3M11.5 8h3",
  brush: "M13.5 2.500L7 9M7 9c-2-.5-3.5 1-3.5 2.500S2.5 13.5 2 13.700c3 .6 6.3-.7 6-3.200z",
  erase: "M6 13.500L2.5 10 10 2.5 13.5 6 6.5 13.500H14M6 6.500L9.7 10",
  undo: "M5.5 3L2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H6",
  redo: "M10.5 3l3 3-3 3M13.5 6h-7a4 4 0 0 0 0 8H10",
  key: "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.200L8 11.400l-3.7 2.1.8-4.200L2 6.400l4.2-.5z",
  save: "M2.5 2.500h9l2 2v9h-11zM5 2.500v4h5v-4M5 13.500v-4h6v4",
  list: "M2.5 4h1M2.5 8h1M2.5 12h1M6 4h7.500M6 8h7.500M6 12h7.5",
};

/** An inline SVG of one of the tools. */
export function markIcon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const drawn = { fill: "none", stroke: "currentColor", "stroke-width": 1.4, "stroke-linejoin": "round", "stroke-linecap": "round" };
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  for (const [key, value] of Object.entries({ d: MARK_ICONS[name], ...drawn })) path.setAttribute(key, value);
  svg.append(path);
  return svg;
}

/** Groups of buttons that follow the traits: {els, follow()}. */
export function marksBar(plugin) {
  const bar = new MarksBar(plugin);
  return { els: [bar.measuring(), bar.painting(), bar.keeping()], follow: () => bar.follow() };
}

class MarksBar {
  constructor(plugin) {
    this.plugin = plugin;
    this.viewer = plugin.viewer;
    this.follows = [];
  }

  follow() {
    for (const one of this.follows) one();
  }

  group(label, ...nodes) {
    return el("div", { class: "dl-viewer-group", role: "group", "aria-label": label }, ...nodes);
  }

  button(icon, title, deed, { pressed = null, enabled = null } = {}) {
    const made = el(
      "button",
      { type: "button", class: "dl-viewer-button", title, "aria-label": title, "data-dl-mark": icon, onclick: deed },
      markIcon(icon),
    );
    if (pressed) this.follows.push(() => made.setAttribute("aria-pressed", String(Boolean(pressed()))));
    if (enabled) this.follows.push(() => enabled(made));
    return made;
  }

  tool(name, title) {
    const { viewer } = this;
    const toggle = () => this.plugin.useTool(viewer.get("tool") === name ? "browse" : name);
    return this.button(name, title, toggle, { pressed: () => viewer.get("tool") === name });
  }

  measuring() {
    const tools = Object.entries(MARK_TOOLS).map(([name, { title, key }]) => this.tool(name, `${title} (${key})`));
    return this.group("Measure", ...tools);
  }

  painting() {
    const { viewer } = this;
    const choose = el("select", { "aria-label": "Label to paint with", title: "Label to paint with", class: "dl-marks-label" });
    choose.addEventListener("change", () => viewer.set({ mask_label: Number(choose.value) }));
    const radius = el("input", {
      ...{ type: "number", class: "dl-viewer-number", min: 0.1, max: 500, step: 0.5 },
      ...{ "aria-label": "Radius of the brush in mm", title: "Radius of the brush in mm ( , and . )" },
    });
    radius.addEventListener("change", () => this.plugin.setRadius(radius.valueAsNumber));
    const unit = el("span", { class: "dl-viewer-word" });
    this.follows.push(() => {
      const labels = viewer.get("mask_labels");
      const shown = labels.map((one) => `${one.value}${one.name}`).join("|");
      if (choose.dataset.shown !== shown) {
        choose.replaceChildren(...labels.map((one) => el("option", { value: String(one.value) }, one.name)));
        choose.dataset.shown = shown;
      }
      choose.value = String(viewer.get("mask_label"));
      if (document.activeElement !== radius) radius.value = String(viewer.get("brush_mm"));
      unit.textContent = viewer.meta.calibrated ? "mm" : "px";
      const painting = ["brush", "erase"].includes(viewer.get("tool"));
      choose.hidden = radius.hidden = unit.hidden = !painting;
    });
    return this.group("Paint", this.tool("brush", "Brush (b)"), this.tool("erase", "Eraser (n)"), choose, radius, unit);
  }

  keeping() {
    const { plugin, viewer } = this;
    const step = (which, words) => (button) => {
      const what = viewer.get("marking_state")[which] || "";
      button.disabled = !what;
      button.title = what ? `${words}: ${what}` : words;
      button.setAttribute("aria-label", button.title);
    };
    const list = this.button("list", "List of marks (l)", () => plugin.panel.toggle(), { pressed: () => plugin.panel.isOpen() });
    const count = el("span", { class: "dl-marks-count", "aria-hidden": "true" });
    list.append(count);
    this.follows.push(() => (count.textContent = String(viewer.get("marks").length || "")));
    return this.group(
      "Marks",
      this.button("undo", "Undo", () => plugin.replay("undo"), { enabled: step("undo", "Undo (Ctrl Z)") }),
      this.button("redo", "Redo", () => plugin.replay("redo"), { enabled: step("redo", "Do again (Ctrl Shift Z)") }),
      this.button("key", "Key image (k)", () => plugin.toggleKey(), { pressed: () => Boolean(plugin.keyHere()) }),
      list,
      this.button("save", "Save with the series (Ctrl S)", () => plugin.save()),
    );
  }
}
