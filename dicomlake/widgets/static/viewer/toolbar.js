// The tool bar: groups of labelled buttons and menus that follow the traits.

import { el } from "../base/dom.js";
import {
  choosePreset, flipPane, LAYOUTS, possibleLayouts, resetAll, rotatePane, togglePlay,
} from "./actions.js";
import { COLORMAPS } from "./colormaps.js";
import { viewerIcon } from "./icons.js";
import { extraText, PLANE_TITLES } from "./pane.js";

const TOOLS = {
  browse: "Browse: click moves the crosshair, drag sets the window",
  window: "Window: drag",
  pan: "Shift the image: drag",
  zoom: "Zoom: drag up or down",
};
const MODES = { max: "MIP", min: "MinIP", mean: "Mean" };

/** {el, follow() to show the traits, dispose()}. */
export function viewerToolbar(viewer) {
  const bar = new Bar(viewer);
  bar.fill();
  return bar;
}

class Bar {
  constructor(viewer) {
    this.viewer = viewer;
    this.el = el("div", { class: "dl-viewer-bar", role: "toolbar", "aria-label": "Viewer" });
    this.follows = []; // what to do when traits change
  }

  fill() {
    this.layouts();
    this.tools();
    this.windows();
    this.turns();
    this.slabs();
    this.cine();
    this.extras();
    this.tilts();
    this.others();
  }

  follow() {
    const now = JSON.stringify(FOLLOWED.map((name) => this.viewer.get(name)));
    if (now === this.shown) return;
    this.shown = now;
    for (const follow of this.follows) follow();
  }

  dispose() {
    this.el.remove();
  }

  group(label, ...nodes) {
    const group = el("div", { class: "dl-viewer-group", role: "group", "aria-label": label }, ...nodes);
    this.el.append(group);
    return group;
  }

  /** A button with an icon; pressed(): whether it is on, if it can be. */
  button(icon, title, deed, pressed = null) {
    const button = el("button", { type: "button", class: "dl-viewer-button", title, "aria-label": title, onclick: deed }, viewerIcon(icon));
    if (pressed) this.follows.push(() => button.setAttribute("aria-pressed", String(Boolean(pressed()))));
    return button;
  }

  /** A menu; groups: [[label or "", [[value, text], …]], …]. */
  menu(label, groups, chosen, change) {
    const options = (pairs) => pairs.map(([value, text]) => el("option", { value }, text));
    const select = el("select", { "aria-label": label, title: label, onchange: () => change(select.value) });
    for (const [name, pairs] of groups)
      select.append(...(name ? [el("optgroup", { label: name }, options(pairs))] : options(pairs)));
    this.follows.push(() => (select.value = chosen()));
    return select;
  }

  number(label, { min, max, step }, value, change) {
    const input = el("input", { type: "number", "aria-label": label, title: label, min, max, step, class: "dl-viewer-number" });
    input.addEventListener("change", () => Number.isFinite(input.valueAsNumber) && change(Math.min(Math.max(input.valueAsNumber, min), max)));
    this.follows.push(() => document.activeElement !== input && (input.value = value()));
    return input;
  }

  slider(label, { min, max, step }, value, change) {
    const input = el("input", { type: "range", "aria-label": label, min: String(min), max: String(max), step: String(step) });
    input.addEventListener("input", () => change(input.valueAsNumber));
    input.addEventListener("change", () => this.viewer.release());
    this.follows.push(() => (input.value = String(value())));
    return input;
  }

  // ---- groups

  layouts() {
    const { viewer } = this;
    const { order } = viewer.meta;
    const possible = possibleLayouts(viewer.meta);
    const buttons = possible.map((name) =>
      this.button(name, LAYOUTS[name], () => viewer.set({ arrangement: name }), () => viewer.get("arrangement") === name));
    const planes = order.map((name) => [name, PLANE_TITLES[name]]);
    const plane = order.length > 1 ? [this.menu("Large plane", [["", planes]], () => viewer.get("plane"), (name) => viewer.set({ plane: name }))] : [];
    if (possible.length > 1) this.group("Layout", ...buttons, ...plane);
  }

  tools() {
    const { viewer } = this;
    const names = Object.keys(TOOLS).filter((name) => name !== "window" || !viewer.meta.colour);
    const buttons = names.map((name) =>
      this.button(name, TOOLS[name], () => viewer.set({ tool: name }), () => viewer.get("tool") === name));
    this.group("Tools", ...buttons);
  }

  windows() {
    const { viewer } = this;
    const { presets, colour } = viewer.meta;
    if (colour) return;
    const pairs = presets.map((one) => [one.name, one.key ? `${one.key}  ${one.name}` : one.name]);
    const choose = (name) => name && choosePreset(viewer, presets.find((one) => one.name === name));
    const preset = this.menu("Window preset", [["", [["", "Window …"], ...pairs]]], () => viewer.get("preset"), choose);
    const maps = (safe) => Object.entries(COLORMAPS).filter(([, map]) => map.safe === safe).map(([name, map]) => [name, map.title]);
    const groups = [["", maps(true)], ["Not for colour-blind eyes", maps(false)]];
    const map = this.menu("Colour map", groups, () => viewer.get("colormap"), (name) => viewer.set({ colormap: name }));
    this.group("Window and colours", preset, map);
  }

  turns() {
    const { viewer } = this;
    const invert = this.button("invert", "Invert (i)", () => viewer.set({ invert: !viewer.get("invert") }), () => viewer.get("invert"));
    this.group(
      "Turn",
      invert,
      this.button("flip_h", "Flip left and right (f)", () => flipPane(viewer, viewer.active, "h")),
      this.button("flip_v", "Flip top and bottom (Shift F)", () => flipPane(viewer, viewer.active, "v")),
      this.button("rotate", "Quarter turn (r)", () => rotatePane(viewer, viewer.active)),
      this.button("reset", "Reset zoom, turns and window (0)", () => resetAll(viewer)),
    );
  }

  slabs() {
    const { viewer } = this;
    const { colour, planes, order } = viewer.meta;
    if (colour || planes[order[0]].count < 2 || !planes[order[0]].to_lps) return;
    const mode = this.menu("Slab: what is shown of its values", [["", Object.entries(MODES)]], () => viewer.get("slab_mode"), (name) => viewer.set({ slab_mode: name }));
    const mm = this.number("Slab thickness in mm; 0 is one plane", { min: 0, max: 500, step: 1 }, () => viewer.get("slab_mm"), (value) => viewer.set({ slab_mm: value }));
    this.group("Slab", el("span", { class: "dl-viewer-word" }, "Slab"), mode, mm, el("span", { class: "dl-viewer-word" }, "mm"));
  }

  cine() {
    const { viewer } = this;
    const { extras, order, planes } = viewer.meta;
    const several = extras.filter((one) => one.size > 1);
    const pile = planes[order[0]].count > 1;
    if (!several.length && !pile) return;
    const play = this.button("play", "Play, stop (Space)", () => togglePlay(viewer), () => viewer.get("playing"));
    this.follows.push(() => play.replaceChildren(viewerIcon(viewer.get("playing") ? "stop" : "play")));
    const rate = this.number("Planes per second", { min: 0.5, max: 60, step: 1 }, () => viewer.get("rate"), (value) => viewer.set({ rate: value }));
    const ways = [...(pile ? [["plane", order[0] === "frame" ? "frames" : "planes"]] : []), ...several.map((one) => [one.name, one.name])];
    const over = ways.length > 1 ? [this.menu("Play along", [["", ways]], () => viewer.get("cine_over"), (name) => viewer.set({ cine_over: name }))] : [];
    this.group("Cine", play, ...over, rate, el("span", { class: "dl-viewer-word" }, "/s"));
  }

  extras() {
    const { viewer } = this;
    viewer.meta.extras.forEach((one, k) => {
      if (one.size < 2) return;
      const change = (at) => viewer.hold({ extra: viewer.get("extra").map((v, i) => (i === k ? at : v)) });
      const slider = this.slider(one.name, { min: 0, max: one.size - 1, step: 1 }, () => viewer.get("extra")[k], change);
      const word = el("output", { class: "dl-viewer-word" });
      this.follows.push(() => (word.textContent = extraText(one, viewer.get("extra")[k])));
      this.group(one.name, slider, word);
    });
  }

  tilts() {
    const { viewer } = this;
    if (!possibleLayouts(viewer.meta).includes("oblique")) return;
    const sliders = [0, 1].map((k) => {
      const change = (angle) => viewer.hold({ tilt: viewer.get("tilt").map((v, i) => (i === k ? angle : v)) });
      return this.slider(`Tilt ${k + 1}`, { min: -90, max: 90, step: 1 }, () => viewer.get("tilt")[k], change);
    });
    const word = el("output", { class: "dl-viewer-word" });
    const group = this.group("Tilt", el("span", { class: "dl-viewer-word" }, "Tilt"), ...sliders, word);
    this.follows.push(() => {
      group.hidden = viewer.get("arrangement") !== "oblique";
      word.textContent = viewer.get("tilt").map((angle) => `${Math.round(angle)}°`).join(" / ");
    });
  }

  others() {
    const { viewer } = this;
    const cross = possibleLayouts(viewer.meta).length > 1
      ? [this.button("cross", "Crosshair (x)", () => viewer.set({ crosshair: !viewer.get("crosshair") }), () => viewer.get("crosshair"))]
      : [];
    this.group("More", ...cross, this.button("help", "All keys (?)", () => viewer.help.toggle()));
  }
}

const FOLLOWED = [
  ...["arrangement", "plane", "tool", "preset", "colormap", "invert", "slab_mm", "slab_mode", "playing", "rate"],
  ...["cine_over", "extra", "tilt", "crosshair"],
];
