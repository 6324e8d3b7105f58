// What can be done with a viewer, by pointer, key, button or from another viewer.

import { clampTo, fittingScale, indexAt, indexOnPlane, numberOf, PLAIN_VIEW } from "./geometry.js";
import { lookOf, presetTraits, windowTraits } from "./looks.js";

export const LAYOUTS = { one: "One plane", mpr: "Three linked planes", oblique: "Three planes and a tilted one" };

/** Show the plane `steps` further in a pane. how: {save: false while playing or dragging, loops}. */
export function scrollPane(viewer, pane, steps, { save = true, loops = false } = {}) {
  const { meta } = pane;
  if (pane.name === "oblique") return moveAcross(viewer, pane, steps);
  const now = numberOf(meta, viewer.get("index"));
  const next = loops ? (((now + steps) % meta.count) + meta.count) % meta.count : clampTo(now + steps, 0, meta.count - 1);
  if (next === now) return;
  showPlane(viewer, pane.name, next, save);
}

/** Show a plane by its number. */
export function showPlane(viewer, name, number, save = true) {
  const index = indexOnPlane(viewer.meta.planes[name], viewer.get("index"), number, viewer.meta.shape);
  viewer.goTo(index, null, { save, plane: name });
}

function moveAcross(viewer, pane, steps) {
  const mm = viewer.mm().map((v, i) => v + pane.meta.normal[i] * pane.meta.step_mm * steps);
  viewer.goToMm(mm);
}

/** Put the crosshair on a place of a pane. */
export function crossTo(viewer, pane, row, col, save) {
  const { meta } = pane;
  const [r, c] = [clampTo(row, 0, meta.rows - 1), clampTo(col, 0, meta.cols - 1)];
  const index = indexAt(meta, [pane.number, r, c], viewer.meta.shape);
  viewer.goTo(index, pane.toMm(r, c), { save, plane: pane.name });
}

/** Step along an extra dimension, round and round. */
export function stepExtra(viewer, k, steps, save = true) {
  const { size } = viewer.meta.extras[k];
  const extra = viewer.get("extra").map((v, i) => (i === k ? (v + steps + size) % size : v));
  viewer.move({ extra }, save);
}

/** Change how a pane shows its plane: part of {zoom, pan, flip_h, flip_v, rotate}. */
export function changeView(viewer, pane, change, save = true) {
  const view = { ...pane.view, ...change };
  if (pane.name !== "oblique") view.seen = pane.seenBy(view);
  viewer.move({ view: { ...viewer.get("view"), [pane.name]: view } }, save);
  viewer.hub?.zoomed?.(viewer.member, { pane: pane.name, zoom: view.zoom, pan: view.pan });
}

/** Zoom by a factor; what lies at (x, y) of the pane stays there. from: the view that is zoomed. */
export function zoomAt(viewer, pane, factor, { x = pane.width / 2, y = pane.height / 2, save = true, from = pane.view } = {}) {
  const zoom = clampTo(from.zoom * factor, 0.1, 40);
  const fit = fittingScale(pane.meta, pane.width, pane.height, from.rotate);
  const change = 1 / (fit * zoom) - 1 / (fit * from.zoom);
  const [dx, dy] = [x - pane.width / 2, y - pane.height / 2];
  changeView(viewer, pane, { zoom, pan: [from.pan[0] + dx * change, from.pan[1] + dy * change] }, save);
}

/** Shift a pane's image by CSS pixels. */
export function panBy(viewer, pane, dx, dy, save = true) {
  const { pan } = pane.view;
  changeView(viewer, pane, { pan: [pan[0] + dx / pane.scale, pan[1] + dy / pane.scale] }, save);
}

/** A quarter turn to the right of what is seen. */
export function rotatePane(viewer, pane) {
  const { pan, rotate } = pane.view;
  changeView(viewer, pane, { rotate: (rotate + 90) % 360, pan: [-pan[1], pan[0]] });
}

/** Mirror what is seen; horizontally or vertically on the screen, whichever way it is turned. */
export function flipPane(viewer, pane, side) {
  const { pan, rotate } = pane.view;
  const lying = rotate % 180 !== 0;
  const name = (side === "h") !== lying ? "flip_h" : "flip_v";
  const mirrored = side === "h" ? [-pan[0], pan[1]] : [pan[0], -pan[1]];
  changeView(viewer, pane, { [name]: !pane.view[name], pan: mirrored });
}

/** Zoom, pan, flip and turn of all panes, inversion and the window as at the beginning. */
export function resetAll(viewer) {
  const [first] = viewer.meta.presets;
  const window = first ? presetTraits(first) : {};
  viewer.set({ view: {}, invert: Boolean(first?.invert), tilt: [0, 0], ...window });
  for (const pane of viewer.panes) viewer.hub?.zoomed?.(viewer.member, { pane: pane.name, ...PLAIN_VIEW });
  viewer.announce("Reset");
}

/** Choose a preset. */
export function choosePreset(viewer, preset) {
  viewer.set(presetTraits(preset));
  viewer.hub?.windowed?.(viewer.member, viewer.get("window"));
  viewer.announce(`Preset ${preset.name}`);
}

/** Set the window by hand. */
export function setWindow(viewer, center, width, save = true) {
  viewer.move(windowTraits(viewer.get, center, width), save);
  viewer.hub?.windowed?.(viewer.member, viewer.get("window"));
}

/** Make the window narrower or wider, higher or lower, by parts of its width. */
export function stepWindow(viewer, wider, higher) {
  const { center, width } = lookOf(viewer.get);
  setWindow(viewer, center + higher * width * 0.05, width * (1 + 0.1 * wider));
}

/** The layouts that a stack can be shown in. */
export function possibleLayouts(meta) {
  const three = ["axial", "coronal", "sagittal"].every((name) => meta.planes[name]);
  if (!three) return ["one"];
  return meta.planes.axial.to_lps && !meta.colour ? ["one", "mpr", "oblique"] : ["one", "mpr"];
}

/** The next layout of those that are possible. */
export function nextLayout(viewer) {
  const all = possibleLayouts(viewer.meta);
  const next = all[(all.indexOf(viewer.get("arrangement")) + 1) % all.length];
  viewer.set({ arrangement: next });
  viewer.announce(LAYOUTS[next]);
}

/** One pane alone, or back to all. */
export function toggleAlone(viewer, pane) {
  const { planes } = viewer.meta;
  if (viewer.get("arrangement") !== "one" && planes[pane.name]) viewer.set({ arrangement: "one", plane: pane.name });
  else if (possibleLayouts(viewer.meta).includes("mpr")) viewer.set({ arrangement: "mpr" });
}

/** Show the next plane of the stack in the layout of one. */
export function nextPlane(viewer) {
  const { order } = viewer.meta;
  viewer.set({ plane: order[(order.indexOf(viewer.get("plane")) + 1) % order.length] });
}

/** Start or stop the cine; where it stopped is saved. */
export function togglePlay(viewer) {
  viewer.set({ playing: !viewer.get("playing") });
  viewer.announce(viewer.get("playing") ? "Playing" : "Stopped");
}
