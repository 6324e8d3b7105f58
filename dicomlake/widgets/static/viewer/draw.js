// A view of a viewer's model: panes, tool bar, status, keys, and the plug-ins that draw on the panes.

import { el, frame, perFrame, settled } from "../base/dom.js";
import { linkOf, saver, watchModel } from "../base/link.js";
import { scrollPane, setWindow, showPlane, stepExtra } from "./actions.js";
import { cineOf } from "./cine.js";
import { apply4, clampTo, inverse4, spokenMm } from "./geometry.js";
import { listenToKeys } from "./keys.js";
import { Looks, valueText } from "./looks.js";
import { affineOf, obliqueLine, ObliquePane } from "./oblique.js";
import { Pane, PLANE_TITLES } from "./pane.js";
import { storeOf } from "./planes.js";
import { listenToPointer } from "./pointing.js";
import { pictureOf } from "./picture.js";
import { marksPlugin } from "./marks.js";
import { overlaysPlugin } from "./overlays.js";
import { viewerToolbar } from "./toolbar.js";

const SAVE_MS = 250; // a message costs the browser some 50 ms: moving must not send many
const REST_MS = 200; // after this without a move the exact planes are fetched on a slow link
const REDRAWN_BY = [
  ...["index", "extra", "window", "voi_shape", "preset", "colormap", "invert", "slab_mm", "slab_mode", "view", "tilt"],
  ...["playing", "slow_link", "interpolate", "tool", "overlays", "marks", "crosshair"],
];

/**
 * Draw a view of a model into an element. hub: joins several viewers, or null. naming: whether an editor of the
 * name opens on a mark. Returns the viewer.
 */
export function drawViewer({ model, el: host, hub = null, naming = true }) {
  return new DrawnViewer(model, host, hub, naming);
}

class DrawnViewer {
  constructor(model, host, hub, naming) {
    Object.assign(this, { model, hub, naming, panes: [], plugins: [], undo: [], active: null, moving: false });
    this.link = linkOf(model);
    this.saver = saver(model, SAVE_MS);
    this.get = (name) => model.get(name);
    this.looks = new Looks(this.get);
    this.frame = frame(host, this.link, model, "Image viewer");
    this.root = this.frame.root;
    this.announce = (text) => this.frame.announce(text);
    this.redraw = perFrame(() => this.drawAll());
    this.rested = settled(() => this.rest(), REST_MS);
    this.build();
    this.listen();
    this.layPanes();
    this.member = this.membership();
    this.leaveHub = hub?.join(this.member);
  }

  build() {
    this.root.classList.add("dl-viewer");
    this.root.style.setProperty("--dl-viewer-height", `${this.get("height")}px`);
    this.grid = el("div", { class: "dl-viewer-grid" });
    this.status = el("div", { class: "dl-viewer-status" });
    this.side = el("div", { class: "dl-viewer-side" });
    this.plugins = VIEWER_PLUGINS.map((make) => make(this));
    this.toolbar = viewerToolbar(this);
    this.toolbar.el.append(...this.plugins.flatMap((plugin) => plugin.toolbar || []));
    this.side.append(...this.plugins.flatMap((plugin) => plugin.panel || []));
    const body = el("div", { class: "dl-viewer-body" }, this.grid, this.side);
    this.root.append(this.toolbar.el, body, this.status);
    this.undo.push(listenToKeys(this));
  }

  listen() {
    this.on(REDRAWN_BY.map((name) => `change:${name}`).join(" "), () => this.redraw());
    this.on("change:index change:extra", () => this.stir());
    this.on("change:arrangement change:plane", () => this.layPanes());
    this.on("change:stack", () => this.restack());
    this.on("change:height", () => this.root.style.setProperty("--dl-viewer-height", `${this.get("height")}px`));
    this.undo.push(storeOf(this.model).listen(() => this.redraw()));
    this.undo.push(cineOf(this.model).join({ ready: () => this.panes.every((p) => p.settled), step: () => this.step() }));
    this.undo.push(this.link.on("screenshot", (data) => this.sendPicture(data)));
  }

  /** Listen to the model until this view is gone. */
  on(names, callback) {
    this.undo.push(watchModel(this.model, names, callback));
  }

  dispose() {
    this.gone = true;
    this.saver.flush();
    if (typeof this.leaveHub === "function") this.leaveHub();
    for (const plugin of this.plugins) plugin.dispose?.();
    this.dropPanes();
    for (const undo of this.undo.splice(0)) undo();
    this.toolbar.dispose();
    this.frame.dispose();
    this.root.remove();
  }

  // ---- panes

  get meta() {
    return this.get("stack");
  }

  /** Names of the panes of the layout, the large one first. */
  paneNames() {
    const { order, planes } = this.meta;
    const main = planes[this.get("plane")] ? this.get("plane") : order[0];
    if (this.get("arrangement") === "one") return [main];
    const names = [main, ...["axial", "coronal", "sagittal"].filter((name) => planes[name] && name !== main)];
    return this.get("arrangement") === "oblique" ? [...names, "oblique"] : names;
  }

  layPanes() {
    const names = this.paneNames();
    this.grid.dataset.layout = this.get("arrangement");
    if (names.join() === this.panes.map((pane) => pane.name).join()) return;
    const focused = this.root.contains(document.activeElement) && document.activeElement.matches(".dl-pane-canvas");
    const name = this.active?.name;
    this.dropPanes();
    this.panes = names.map((one) => (one === "oblique" ? new ObliquePane(this) : new Pane(this, one)));
    this.grid.replaceChildren(...this.panes.map((pane) => pane.el));
    this.stopPointers = this.panes.map((pane) => listenToPointer(this, pane));
    this.activate(this.panes.find((pane) => pane.name === name) || this.panes[0]);
    if (focused) this.active.canvas.focus({ preventScroll: true });
  }

  dropPanes() {
    for (const stop of this.stopPointers || []) stop();
    for (const pane of this.panes) pane.dispose();
    this.panes = [];
  }

  restack() {
    storeOf(this.model).clear();
    this.looks.key = "";
    this.dropPanes();
    this.layPanes();
  }

  activate(pane) {
    this.active = pane;
    for (const one of this.panes) one.el.classList.toggle("dl-pane-active", one === pane);
  }

  drawAll() {
    if (this.gone) return;
    for (const pane of this.panes) pane.draw();
    this.frame.state(this.panes.every((pane) => pane.settled) ? "ready" : "loading");
    this.toolbar.follow();
    this.showStatus();
  }

  // ---- state: traits of the model

  /** Set traits, and save them soon. */
  set(traits) {
    this.move(traits, true);
  }

  /** Set traits without saving: while dragging or playing. */
  hold(traits) {
    for (const [name, value] of Object.entries(traits)) this.model.set(name, value);
    this.held = true;
  }

  move(traits, save) {
    if (save) this.saver.set(traits);
    else this.hold(traits);
  }

  /** Save what was held. */
  release() {
    if (!this.held) return;
    this.held = false;
    this.saver.set({});
    this.saver.flush();
  }

  /** The crosshair in LPS, mm, between voxels where a click put it there. */
  mm() {
    const known = this.get("cursor_mm");
    if (known.length === 3) return known;
    return apply4(affineOf(this.meta), this.get("index"));
  }

  /** Put the crosshair on a voxel. mm: its exact place, where known. */
  goTo(index, mm = null, { save = true, plane = null, told = true } = {}) {
    const affine = affineOf(this.meta);
    const cursor = affine ? mm || apply4(affine, index) : [];
    this.move({ index, cursor_mm: cursor.map((v) => Number(v.toFixed(3))) }, save);
    if (told) this.hub?.moved?.(this.member, { mm: cursor.length ? cursor : null, index, plane });
  }

  /** Put the crosshair on a patient position, as near as the array goes. */
  goToMm(mm, options = {}) {
    const affine = affineOf(this.meta);
    if (!affine) return;
    const { shape } = this.meta;
    const exact = apply4(inverse4(affine), mm).map((v, i) => clampTo(v, 0, shape[i] - 1));
    this.goTo(exact.map(Math.round), apply4(affine, exact), options);
  }

  /** What a hub may do with this viewer. */
  membership() {
    const viewer = this;
    return {
      viewer,
      get meta() {
        return viewer.meta;
      },
      goToMm: (mm) => viewer.goToMm(mm, { told: false }),
      goToIndex: (name, n) => untold(viewer, () => viewer.meta.planes[name] && showPlane(viewer, name, n)),
      setWindow: ([center, width]) => untold(viewer, () => setWindow(viewer, center, width)),
      setView: (name, view) => viewer.set({ view: { ...viewer.get("view"), [name]: { ...viewer.get("view")[name], ...view } } }),
    };
  }

  stir() {
    this.moving = true;
    this.rested();
  }

  rest() {
    this.moving = false;
    if (this.get("slow_link")) this.redraw();
  }

  // ---- cine

  /** The extra dimension that the cine runs along, or null for the planes. */
  cineAxis() {
    const k = this.meta.extras.findIndex((one) => one.name === this.get("cine_over"));
    return k < 0 ? null : k;
  }

  step() {
    const axis = this.cineAxis();
    if (axis !== null) stepExtra(this, axis, 1, false);
    else scrollPane(this, this.panes[0], 1, { save: false, loops: true });
  }

  // ---- what is said

  crossShown() {
    return this.get("crosshair") && this.get("arrangement") !== "one";
  }

  tiltedLine(pane) {
    return this.get("arrangement") === "oblique" ? obliqueLine(pane) : null;
  }

  /** The pointer is over a place of a pane, or (null) over none. */
  hover(pane, told = null) {
    this.under = pane && { pane, row: told.row, col: told.col };
    this.showStatus();
  }

  showStatus() {
    const place = this.under?.pane.image ? this.under : null;
    const pane = place?.pane || this.active;
    if (!pane || pane.number === null) return;
    const [row, col] = place ? [place.row, place.col] : pane.cross;
    const { meta } = pane;
    const inside = row > -0.5 && col > -0.5 && row < meta.rows - 0.5 && col < meta.cols - 0.5;
    const text = inside ? this.placeText(pane, row, col, Boolean(place)) : "";
    if (this.status.textContent !== text) this.status.textContent = text;
    if (!place && text !== this.said) this.announce((this.said = text));
  }

  placeText(pane, row, col, pointed) {
    const value = pane.value(row, col);
    const mm = pane.toMm(row, col);
    const voxel = pane.toIndex(row, col).map(Math.round);
    const shown = pane.image?.preview ? "value when at rest" : valueText(value, this.meta.units);
    const title = `${PLANE_TITLES[pane.name]} ${pane.name === "oblique" ? "" : pane.number + 1}`;
    const laid = this.plugins.map((plugin) => plugin.describe?.(pane, row, col));
    return [pointed ? "Pointer" : "Crosshair", title, shown, mm && spokenMm(mm), `[${voxel.join(", ")}]`, ...laid]
      .filter(Boolean)
      .join("  ·  ");
  }

  async sendPicture({ number }) {
    if (this.gone) return;
    const bytes = await pictureOf(this);
    this.link.ask("screenshot", { number }, { buffers: [bytes] }).catch(() => {});
  }
}

/** Do something without telling the hub, which asked for it. */
function untold(viewer, work) {
  const { hub } = viewer;
  viewer.hub = null;
  try {
    work();
  } finally {
    viewer.hub = hub;
  }
}

const VIEWER_PLUGINS = [overlaysPlugin, marksPlugin]; // drawn in this order, asked in the other
