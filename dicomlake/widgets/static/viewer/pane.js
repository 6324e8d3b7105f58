// A pane: one plane on a canvas, in true millimetres, with texts in its corners.

import { el } from "../base/dom.js";
import { apply4, numberOf, paneMatrix, PLAIN_VIEW, placeIn, screenLetters, spokenMm } from "./geometry.js";
import { drawCross } from "./crosshair.js";
import { numberText } from "./looks.js";
import { planeKey, storeOf } from "./planes.js";

export const PLANE_TITLES = { axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", frame: "Frame", oblique: "Oblique" };
const SLAB_TITLES = { max: "MIP", min: "MinIP", mean: "Mean" };
const CORNERS = ["tl", "tr", "bl", "br", "top", "right", "bottom", "left", "badge", "failure"];

export class Pane {
  constructor(viewer, name) {
    this.viewer = viewer;
    this.name = name;
    this.store = storeOf(viewer.model);
    this.number = null;
    this.image = null;
    this.towards = 1;
    this.scale = 1;
    this.imageToCanvas = new DOMMatrix();
    this.offscreen = document.createElement("canvas");
    this.build();
  }

  build() {
    const title = PLANE_TITLES[this.name] || this.name;
    this.canvas = el("canvas", {
      class: "dl-pane-canvas",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "image pane",
      "aria-label": `${title}: arrow keys scroll, question mark lists all keys`,
    });
    this.texts = Object.fromEntries(CORNERS.map((c) => [c, el("div", { class: `dl-pane-${c}`, "aria-hidden": "true" })]));
    this.texts.failure = el("div", { class: "dl-pane-failure", role: "alert", hidden: true });
    this.el = el("div", { class: "dl-pane", "data-plane": this.name }, this.canvas, Object.values(this.texts));
    this.ctx = this.canvas.getContext("2d");
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.el);
  }

  dispose() {
    this.observer.disconnect();
    this.store.leave(this);
    this.el.remove();
  }

  /** Give the canvas as many pixels as the screen has there. */
  resize() {
    const box = this.el.getBoundingClientRect();
    [this.width, this.height] = [Math.max(box.width, 1), Math.max(box.height, 1)];
    this.ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(this.width * this.ratio), Math.round(this.height * this.ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    this.viewer.redraw();
  }

  get meta() {
    return this.viewer.meta.planes[this.name];
  }

  get extra() {
    return this.viewer.get("extra");
  }

  get view() {
    return { ...PLAIN_VIEW, ...(this.viewer.get("view")[this.name] || {}) };
  }

  /** The crosshair's [row, column] in this pane, not rounded. */
  get cross() {
    return placeIn(this.meta, this.viewer.get("index")).slice(1);
  }

  // ---- what is shown

  /** What is asked for now. */
  want() {
    const { viewer, meta } = this;
    const number = numberOf(meta, viewer.get("index"));
    if (this.asked !== undefined && number !== this.asked) this.towards = number > this.asked ? 1 : -1;
    this.asked = number;
    const playing = viewer.get("playing");
    const along = playing ? viewer.cineAxis() : null;
    return {
      ...{ plane: this.name, number, count: meta.count, extra: this.extra, towards: this.towards, along },
      ...{ slab_mm: viewer.get("slab_mm"), slab_mode: viewer.get("slab_mode"), loops: playing, preview: null },
      sizes: viewer.meta.extras.map((one) => one.size),
    };
  }

  /** The image to show now: {image, number, failure, coming}. On a slow link a preview while moving. */
  source() {
    const want = this.want();
    const exact = this.store.get(planeKey(want));
    const shown = { number: want.number, extra: want.extra, slab: [want.slab_mode, want.slab_mm], key: planeKey(want) };
    const found = { image: exact, ...shown, coming: false };
    if (!this.viewer.get("slow_link") || exact) {
      this.store.want(this, want);
      return { ...found, failure: this.store.failure(planeKey(want)), coming: !exact };
    }
    const window = this.viewer.get("window");
    const voi_shape = this.viewer.get("voi_shape");
    const preview = { ...want, preview: [...window, voi_shape].join(","), window, voi_shape };
    const failure = this.store.failure(planeKey(want)) || this.store.failure(planeKey(preview));
    this.store.want(this, this.viewer.moving ? preview : { ...want, single: true });
    return { ...found, image: this.store.get(planeKey(preview)), failure, coming: true };
  }

  /** Draw what is here; ask for what is not. */
  draw() {
    if (!this.width) return;
    const source = this.source();
    if (source.image || source.failure || this.number === null) this.take(source);
    const { matrix, scale } = paneMatrix(this.meta, this.view, this.width, this.height);
    [this.imageToCanvas, this.scale] = [matrix, scale];
    this.back = matrix.inverse();
    this.ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.paint(this.ctx);
    this.write(source);
    this.mark(source);
  }

  /** What is shown from now on. Texts and values are of this, not of what was asked for since. */
  take({ image, number, extra, slab, key }) {
    this.image = image || null;
    [this.number, this.shownExtra, this.shownSlab, this.shownKey] = [number, extra, slab, image ? key : null];
  }

  /** Image, overlays, marks and crosshair. */
  paint(ctx) {
    ctx.fillStyle = "#000";
    ctx.fillRect(0, 0, this.width, this.height);
    if (this.image) this.paintImage(ctx);
    for (const plugin of this.viewer.plugins) {
      ctx.save();
      plugin.draw?.(ctx, this);
      ctx.restore();
    }
    if (this.viewer.crossShown()) drawCross(ctx, this);
  }

  paintImage(ctx) {
    this.colorImage(this.viewer.looks.table());
    ctx.save();
    const m = this.imageToCanvas;
    ctx.transform(m.a, m.b, m.c, m.d, m.e, m.f);
    ctx.imageSmoothingEnabled = Boolean(this.viewer.get("interpolate"));
    ctx.imageSmoothingQuality = "high";
    ctx.drawImage(this.offscreen, 0, 0);
    ctx.restore();
  }

  /** Colours of the image by the table, on a canvas of the image's own size; kept while nothing changed. */
  colorImage(table) {
    if (this.colored === this.image && this.coloredBy === table) return;
    const { rows, cols } = this.image;
    if (this.offscreen.width !== cols || this.offscreen.height !== rows || !this.pixels) {
      Object.assign(this.offscreen, { width: cols, height: rows });
      this.offctx = this.offscreen.getContext("2d");
      this.pixels = this.offctx.createImageData(cols, rows);
    }
    table.paint(this.image, new Uint32Array(this.pixels.data.buffer));
    this.offctx.putImageData(this.pixels, 0, 0);
    [this.colored, this.coloredBy] = [this.image, table];
  }

  // ---- texts

  write(source) {
    const lines = this.lines();
    for (const corner of ["tl", "tr", "bl", "br"]) setText(this.texts[corner], lines[corner].join("\n"));
    const letters = screenLetters(this.meta.letters, this.view);
    for (const side of ["top", "right", "bottom", "left"]) setText(this.texts[side], letters[side] || "");
    const waiting = source.coming && !source.failure && source.key !== this.shownKey;
    const lossy = this.image?.preview ? "preview, lossy" : "";
    setText(this.texts.badge, lossy || (waiting || !this.image ? (source.failure ? "" : "loading …") : ""));
    setText(this.texts.failure, source.failure ? `${PLANE_TITLES[this.name]} ${source.number + 1}: ${source.failure}` : "");
    this.texts.failure.hidden = !source.failure;
  }

  /** Texts of the corners, as lists of lines. */
  lines() {
    return { tl: this.placeLines(), tr: this.stateLines(), bl: this.windowLines(), br: ["Not for diagnosis"] };
  }

  placeLines() {
    const { meta, number } = this;
    const place = `${PLANE_TITLES[this.name]} ${number + 1}/${meta.count}`;
    return meta.to_lps ? [place, this.positionText()] : [place];
  }

  /** Where the plane lies along the patient's axis that it is nearest to crossing. */
  positionText() {
    const { meta } = this;
    const step = [0, 1, 2].map((i) => Math.abs(meta.to_lps[i][0]));
    const axis = step.indexOf(Math.max(...step));
    const mm = apply4(meta.to_lps, [this.number, (meta.rows - 1) / 2, (meta.cols - 1) / 2]);
    return `${spokenMm(mm).replace(" mm", "").split("  ")[axis]} mm`;
  }

  stateLines() {
    const { viewer } = this;
    const found = viewer.meta.extras.map((one, k) => extraText(one, (this.shownExtra || this.extra)[k]));
    if (viewer.meta.sheared && this.name !== viewer.meta.order[0]) found.push("slices lean: angles are not true");
    const [mode, mm] = this.shownSlab || [viewer.get("slab_mode"), viewer.get("slab_mm")];
    if (mm > 0) found.push(`${SLAB_TITLES[mode]} ${numberText(mm)} mm`);
    return found;
  }

  windowLines() {
    const { viewer, view } = this;
    const [center, width] = viewer.get("window");
    const zoom = `Zoom ${numberText(Number(view.zoom.toPrecision(3)))}×`;
    if (viewer.meta.colour || this !== viewer.panes[0]) return [zoom];
    const preset = viewer.get("preset");
    const table = viewer.get("voi_shape") === "lut";
    const shown = table ? preset : `W ${numberText(width)}  L ${numberText(center)}${preset ? `  ${preset}` : ""}`;
    return [shown + (viewer.get("invert") ? "  inverted" : ""), zoom];
  }

  /** What tests and styles read of the element. */
  mark(source) {
    const exact = this.image && !this.image.preview && this.number === source.number && !source.coming;
    Object.assign(this.el.dataset, {
      number: this.number,
      count: this.meta.count,
      state: source.failure ? "failed" : exact ? "ready" : "loading",
      quality: this.image?.preview ? "preview" : "exact",
    });
    this.settled = Boolean(exact || source.failure);
  }

  // ---- places; rows and columns of the shown plane, pixel centres are whole numbers

  /** [row, column] to CSS pixels of the pane. */
  toScreen(row, col) {
    const point = this.imageToCanvas.transformPoint({ x: col + 0.5, y: row + 0.5 });
    return [point.x, point.y];
  }

  /** CSS pixels of the pane to [row, column], not rounded. */
  toPlane(x, y) {
    const point = (this.back || this.imageToCanvas.inverse()).transformPoint({ x, y });
    return [point.y - 0.5, point.x - 0.5];
  }

  /** Patient position (LPS, mm), or null without geometry. */
  toMm(row, col) {
    return this.meta.to_lps ? apply4(this.meta.to_lps, [this.number, row, col]) : null;
  }

  /** Array index, not rounded. */
  toIndex(row, col) {
    return apply4(this.meta.to_index, [this.number, row, col]);
  }

  /** The value in units at a pixel, [r, g, b] of colours; null outside, or while only a preview is here. */
  value(row, col) {
    const { image } = this;
    const [r, c] = [Math.round(row), Math.round(col)];
    if (!image || image.preview || r < 0 || c < 0 || r >= image.rows || c >= image.cols) return null;
    const at = r * image.cols + c;
    const { kind, slope, intercept } = this.viewer.meta;
    if (kind === "rgb8") return Array.from(image.data.subarray(3 * at, 3 * at + 3));
    return image.data[at] * slope + intercept;
  }

  /** What of the plane a view has on the screen: [first row, first column, last row, last column]. */
  seenBy(view) {
    const back = paneMatrix(this.meta, view, this.width, this.height).matrix.inverse();
    const corners = [[0, 0], [this.width, 0], [0, this.height], [this.width, this.height]];
    const places = corners.map(([x, y]) => back.transformPoint({ x, y }));
    const [rows, cols] = ["y", "x"].map((axis) => places.map((place) => place[axis] - 0.5));
    const low = (values) => Math.max(0, Math.round(Math.min(...values)));
    const high = (values, count) => Math.min(count - 1, Math.round(Math.max(...values)));
    return [low(rows), low(cols), high(rows, this.meta.rows), high(cols, this.meta.cols)];
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** "time 3/40 (12.5 s)" */
export function extraText(extra, at) {
  const value = extra.values?.[at];
  if (value === undefined || value === null) return `${extra.name} ${at + 1}/${extra.size}`;
  const long = extra.units === "ms" && Math.max(...extra.values) >= 10000;
  const [number, units] = long ? [value / 1000, "s"] : [value, extra.units];
  return `${extra.name} ${at + 1}/${extra.size} (${numberText(number)}${units ? ` ${units}` : ""})`;
}
