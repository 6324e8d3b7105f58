// Everything by key. Plug-ins are asked first; the sheet of keys is made of the same list.

import { el, keysOf } from "../base/dom.js";
import {
  choosePreset, flipPane, nextLayout, nextPlane, panBy, resetAll, rotatePane, scrollPane, setWindow, stepExtra,
  stepWindow, togglePlay, zoomAt,
} from "./actions.js";
import { COLORMAPS } from "./colormaps.js";

const PAN_PX = 30;
const SLAB_MODES = ["max", "min", "mean"];

/** [keys as events name them, as the sheet names them, what they do, the deed]. */
const KEY_DEEDS = [
  [["ArrowUp"], "↑", "previous plane", (v, p) => scrollPane(v, p, -1)],
  [["ArrowDown"], "↓", "next plane", (v, p) => scrollPane(v, p, 1)],
  [["PageUp"], "Page up", "ten planes back", (v, p) => scrollPane(v, p, -10)],
  [["PageDown"], "Page down", "ten planes on", (v, p) => scrollPane(v, p, 10)],
  [["ArrowLeft"], "←", "previous time, echo, b … or plane", (v, p) => stepAside(v, p, -1)],
  [["ArrowRight"], "→", "next time, echo, b … or plane", (v, p) => stepAside(v, p, 1)],
  [["+", "="], "+", "zoom in", (v, p) => zoomAt(v, p, 1.25)],
  [["-", "_"], "−", "zoom out", (v, p) => zoomAt(v, p, 0.8)],
  [["shift+ArrowLeft"], "Shift ←", "shift the image left", (v, p) => panBy(v, p, -PAN_PX, 0)],
  [["shift+ArrowRight"], "Shift →", "shift the image right", (v, p) => panBy(v, p, PAN_PX, 0)],
  [["shift+ArrowUp"], "Shift ↑", "shift the image up", (v, p) => panBy(v, p, 0, -PAN_PX)],
  [["shift+ArrowDown"], "Shift ↓", "shift the image down", (v, p) => panBy(v, p, 0, PAN_PX)],
  [["["], "[", "narrower window", (v) => stepWindow(v, -1, 0)],
  [["]"], "]", "wider window", (v) => stepWindow(v, 1, 0)],
  [["{", "shift+{", "shift+["], "{", "lower level", (v) => stepWindow(v, 0, -1)],
  [["}", "shift+}", "shift+]"], "}", "higher level", (v) => stepWindow(v, 0, 1)],
  [["w"], "w", "window over the values that are shown", (v, p) => windowShown(v, p)],
  [["i"], "i", "invert", (v) => v.set({ invert: !v.get("invert") })],
  [["c"], "c", "next colour map", (v) => nextColormap(v)],
  [["f"], "f", "flip left and right", (v, p) => flipPane(v, p, "h")],
  [["F", "shift+F"], "Shift F", "flip top and bottom", (v, p) => flipPane(v, p, "v")],
  [["r"], "r", "quarter turn", (v, p) => rotatePane(v, p)],
  [["0", "Home"], "0, Home", "reset", (v) => resetAll(v)],
  [["m"], "m", "next layout", (v) => nextLayout(v)],
  [["v"], "v", "next orientation", (v) => nextPlane(v)],
  [["x"], "x", "crosshair on, off", (v) => v.set({ crosshair: !v.get("crosshair") })],
  [["s"], "s", "slab: maximum, minimum, mean", (v) => nextSlab(v)],
  [[","], ",", "thinner slab", (v) => thickenSlab(v, -1)],
  [["."], ".", "thicker slab", (v) => thickenSlab(v, 1)],
  [[" "], "Space", "play, stop", (v) => togglePlay(v)],
  [["?", "shift+?"], "?", "this list", (v) => v.help.toggle()],
];

/** Listen to keys below the root; returns what takes the sheet away. */
export function listenToKeys(viewer) {
  viewer.help = new KeySheet(viewer);
  keysOf(viewer.root, (event) => handleKey(viewer, event));
  return () => viewer.help.el.remove();
}

function handleKey(viewer, event) {
  if (viewer.help.isOpen() && event.key === "Escape") return viewer.help.toggle();
  if (viewer.plugins.some((plugin) => plugin.key?.(event))) return true;
  if (event.ctrlKey || event.metaKey || event.altKey || !viewer.active) return false;
  if (event.target.closest("button, summary") && [" ", "Enter"].includes(event.key)) return false;
  if (/^[1-9]$/.test(event.key)) return presetByKey(viewer, event.key);
  const name = (event.shiftKey ? "shift+" : "") + event.key;
  const found = KEY_DEEDS.find(([names]) => names.includes(name));
  found?.[3](viewer, viewer.active);
  return Boolean(found);
}

function presetByKey(viewer, key) {
  const preset = viewer.meta.presets.find((one) => one.key === key);
  if (preset) choosePreset(viewer, preset);
  return true;
}

function stepAside(viewer, pane, steps) {
  const { extras } = viewer.meta;
  const k = viewer.cineAxis() ?? extras.findIndex((one) => one.size > 1);
  if (k >= 0) stepExtra(viewer, k, steps);
  else scrollPane(viewer, pane, steps, { loops: true });
}

function nextColormap(viewer) {
  const names = Object.keys(COLORMAPS);
  const next = names[(names.indexOf(viewer.get("colormap")) + 1) % names.length];
  viewer.set({ colormap: next });
  viewer.announce(COLORMAPS[next].title);
}

function nextSlab(viewer) {
  const next = SLAB_MODES[(SLAB_MODES.indexOf(viewer.get("slab_mode")) + 1) % SLAB_MODES.length];
  viewer.set({ slab_mode: next });
}

function thickenSlab(viewer, steps) {
  const step = Math.max(viewer.panes[0].meta.step_mm, 1);
  viewer.set({ slab_mm: Math.max(0, Math.round((viewer.get("slab_mm") + steps * step) * 10) / 10) });
}

/** A window from the first to the 99th percentile of what the pane shows. */
function windowShown(viewer, pane) {
  const { image } = pane;
  const { kind, slope, intercept } = viewer.meta;
  if (!image || image.preview || kind === "rgb8") return;
  const stride = Math.max(1, Math.floor(image.data.length / 20000));
  const sample = Float64Array.from({ length: Math.floor(image.data.length / stride) }, (_, i) => image.data[i * stride]);
  const sorted = sample.filter((v) => !Number.isNaN(v)).sort();
  if (!sorted.length) return;
  const [low, high] = [0.01, 0.99].map((part) => sorted[Math.floor(part * (sorted.length - 1))] * slope + intercept);
  setWindow(viewer, (low + high) / 2, Math.abs(high - low));
}

class KeySheet {
  constructor(viewer) {
    this.viewer = viewer;
    const presets = viewer.meta.presets.filter((one) => one.key).map((one) => `${one.key} ${one.name}`);
    const rows = [["Tab", "next pane"], ...(presets.length ? [["1 – 9", presets.join(", ")]] : [])];
    const deeds = [...KEY_DEEDS.map(([, shown, said]) => [shown, said]), ...rows];
    const hands = [
      ["Wheel", "scroll"], ["Ctrl wheel", "zoom"], ["Drag", "window: right is wider, down is higher"],
      ["Click", "crosshair"], ["Right or middle drag", "shift the image"], ["Double click", "this plane alone"],
    ];
    const tools = viewer.plugins.flatMap((plugin) => plugin.keys || []);
    const list = (pairs) => el("dl", { class: "dl-keys" }, pairs.flatMap(([k, said]) => [el("dt", {}, el("kbd", {}, k)), el("dd", {}, said)]));
    this.close = el("button", { onclick: () => this.toggle(), "aria-label": "Close the list of keys" }, "Close");
    const head = el("div", { class: "dl-keys-head" }, el("strong", {}, "Keys and pointer"), this.close);
    this.el = el("div", { class: "dl-keysheet", role: "dialog", "aria-label": "Keys", hidden: true }, head, list(deeds), list(hands), list(tools));
    viewer.root.append(this.el);
  }

  isOpen() {
    return !this.el.hidden;
  }

  toggle() {
    this.el.hidden = !this.el.hidden;
    if (this.isOpen()) this.close.focus();
    else this.viewer.active?.canvas.focus({ preventScroll: true });
    return true;
  }
}
