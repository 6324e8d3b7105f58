// The brush: which pixels a stroke covers, by the rule of masks.py, and the planes of the mask in the browser.

import { linkOf, typed } from "../base/link.js";

const BRUSH_PLANES = 8; // asked for at a time
const BRUSH_KEPT = 64; // planes that are kept
const brushStores = new WeakMap();

/** Points of strokes lie on a grid of 1/16 pixel: short to write, and exact in both languages. */
export const brushGrid = (value) => Math.round(value * 16) / 16;

/**
 * Give the pixels within the radius of the line a – b, points [row, col], a label; returns how many changed.
 * The operations are those of masks.py in their order, so both cover the same pixels.
 */
export function brushSegment(data, meta, a, b, radius, label) {
  const { rows, cols, row_mm: rowMm, col_mm: colMm } = meta;
  const by = (b[0] - a[0]) * rowMm;
  const bx = (b[1] - a[1]) * colMm;
  const length2 = by * by + bx * bx;
  const [top, bottom] = brushSpan(a[0], b[0], radius / rowMm, rows);
  const [left, right] = brushSpan(a[1], b[1], radius / colMm, cols);
  let changed = 0;
  for (let r = top; r < bottom; r++) {
    const py = (r - a[0]) * rowMm;
    for (let c = left; c < right; c++) {
      const px = (c - a[1]) * colMm;
      let along = length2 > 0 ? (py * by + px * bx) / length2 : 0;
      along = Math.min(Math.max(along, 0), 1);
      const dy = py - along * by;
      const dx = px - along * bx;
      if (!(dy * dy + dx * dx <= radius * radius)) continue;
      if (data[r * cols + c] !== label) changed += 1;
      data[r * cols + c] = label;
    }
  }
  return changed;
}

function brushSpan(a, b, reach, size) {
  const first = Math.max(Math.floor(Math.min(a, b) - reach), 0);
  return [first, Math.min(Math.ceil(Math.max(a, b) + reach) + 1, size)];
}

/** How many pixels a whole stroke covers. */
export function brushCount(meta, points, radius) {
  const data = new Uint8Array(meta.rows * meta.cols);
  points.forEach((point, i) => brushSegment(data, meta, points[Math.max(i - 1, 0)], point, radius, 1));
  return data.reduce((sum, one) => sum + one, 0);
}

/** The planes of a model's mask, shared by its views. */
export function brushStoreOf(model) {
  if (!brushStores.has(model)) brushStores.set(model, new BrushStore(model));
  return brushStores.get(model);
}

class BrushStore {
  constructor(model) {
    this.model = model;
    this.link = linkOf(model);
    this.planes = new Map(); // key -> {data, version, revision, open}
    this.wanted = new Map(); // key -> {plane, index}, to be asked for
    this.flying = new Set();
    this.listeners = new Set();
    model.on("change:mask_version", () => this.tell());
  }

  listen(callback) {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  tell() {
    for (const callback of this.listeners) callback();
  }

  /** Whether nothing is painted: not in Python, and not here on its way there. */
  isEmpty() {
    if ([...this.planes.values()].some((entry) => entry.open)) return false;
    return !this.model.get("mask_labels").some((label) => label.voxels);
  }

  /** A plane as far as it is known, {data, revision}; null while it is not here. What is old is asked for. */
  get(meta, plane, index) {
    const key = `${plane}|${index}`;
    const version = this.model.get("mask_version");
    let entry = this.planes.get(key);
    if (entry && (entry.version === version || entry.open)) return this.used(key, entry);
    if (!this.model.get("mask_labels").some((label) => label.voxels)) {
      entry = this.keep(key, new Uint8Array(meta.rows * meta.cols), version);
      return entry;
    }
    if (!this.flying.has(key)) this.want(key, { plane, index });
    return entry || null;
  }

  used(key, entry) {
    this.planes.delete(key);
    this.planes.set(key, entry);
    return entry;
  }

  keep(key, data, version) {
    const former = this.planes.get(key);
    const entry = { data, version, revision: (former?.revision || 0) + 1, open: 0 };
    this.used(key, entry);
    for (const [old, one] of this.planes) {
      if (this.planes.size <= BRUSH_KEPT) break;
      if (!one.open) this.planes.delete(old);
    }
    return entry;
  }

  want(key, place) {
    if (!this.wanted.size) queueMicrotask(() => this.fetch());
    this.wanted.set(key, place);
  }

  /** One message for all planes that are wanted. */
  async fetch() {
    const now = [...this.wanted].slice(0, BRUSH_PLANES);
    for (const [key] of now) this.flying.add(key);
    this.wanted.clear();
    try {
      const { data, buffers } = await this.link.ask("mask", { planes: now.map(([, place]) => place) });
      data.planes.forEach(({ plane, index }, i) => {
        const key = `${plane}|${index}`;
        if (!this.planes.get(key)?.open) this.keep(key, typed(buffers[i], Uint8Array).slice(), data.version);
      });
    } catch {
      // the error is shown by Python; the plane is asked for again when it is drawn again
    }
    for (const [key] of now) this.flying.delete(key);
    this.tell();
  }

  /** Send a stroke that was painted here already; the plane is asked for again should Python see another. */
  async send(pane, stroke, points, pixels) {
    const entry = stroke.entry;
    const { label, radius } = stroke;
    try {
      const args = { plane: pane.name, index: stroke.index, label, radius_mm: radius, points };
      const { data } = await this.link.ask("stroke", args);
      const agreed = data.pixels === pixels && data.version - entry.version <= 1;
      entry.version = agreed ? data.version : -1;
      return agreed;
    } catch (failure) {
      entry.version = -1;
      throw failure;
    } finally {
      entry.open -= 1;
      this.tell();
    }
  }
}

/** A stroke that is being painted. */
export class BrushStroke {
  constructor(store, pane, label, radius) {
    Object.assign(this, { store, pane, label, radius, index: pane.number, points: [], changed: 0 });
    this.entry = store.get(pane.meta, pane.name, pane.number);
    if (!this.entry) return;
    this.entry.open += 1;
    this.before = this.entry.data.slice();
  }

  /** Go on to a place; near ones are passed over, unless last. */
  to(row, col, last = false) {
    const point = [brushGrid(row), brushGrid(col)];
    const from = this.points.at(-1) || point;
    const { row_mm: rowMm, col_mm: colMm } = this.pane.meta;
    const step = Math.hypot((point[0] - from[0]) * rowMm, (point[1] - from[1]) * colMm);
    const near = step < Math.max(this.radius / 4, Math.min(rowMm, colMm) / 2);
    if (this.points.length && (step === 0 || (near && !last))) return;
    this.points.push(point);
    this.changed += brushSegment(this.entry.data, this.pane.meta, from, point, this.radius, this.label);
    this.entry.revision += 1;
  }

  /** Take it back. */
  cancel() {
    this.entry.data.set(this.before);
    this.entry.revision += 1;
    this.entry.open -= 1;
  }

  /** Tell Python. */
  end() {
    return this.store.send(this.pane, this, this.points, brushCount(this.pane.meta, this.points, this.radius));
  }
}

/** Paint the mask of a pane's plane: colours of the labels that are visible. */
export function paintMask(ctx, pane, entry, labels, kept) {
  const colors = labels.map((one) => `${one.value}${one.color}${one.visible}`).join();
  if (kept.entry !== entry || kept.revision !== entry.revision || kept.colors !== colors) {
    colorMask(pane.meta, entry.data, labels, kept);
    Object.assign(kept, { entry, revision: entry.revision, colors });
  }
  const m = pane.imageToCanvas;
  ctx.save();
  ctx.transform(m.a, m.b, m.c, m.d, m.e, m.f);
  ctx.imageSmoothingEnabled = false;
  ctx.globalAlpha = 0.45;
  ctx.drawImage(kept.canvas, 0, 0);
  ctx.restore();
}

function colorMask({ rows, cols }, data, labels, kept) {
  kept.canvas ??= document.createElement("canvas");
  if (kept.canvas.width !== cols || kept.canvas.height !== rows)
    Object.assign(kept.canvas, { width: cols, height: rows });
  const ctx = kept.canvas.getContext("2d");
  const picture = ctx.createImageData(cols, rows);
  const table = new Uint32Array(256);
  for (const { value, color, visible } of labels) if (visible) table[value] = brushRgba(color);
  new Uint32Array(picture.data.buffer).set(Uint32Array.from(data, (label) => table[label]));
  ctx.putImageData(picture, 0, 0);
}

function brushRgba(color) {
  const bytes = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  return new Uint32Array(new Uint8Array([...bytes, 255]).buffer)[0];
}
