// Planes of overlays in the browser: a bounded memory, and runs of them asked of Python ahead of time.

import { linkOf, typed } from "../base/link.js";

const OVERLAY_RUN = 8; // planes in a message
const OVERLAY_BYTES = 192 * 2 ** 20;
const OVERLAY_FLIGHTS = 2; // of one overlay
const overlayStores = new WeakMap();

/** The memory of a model's overlays, shared by its views. */
export function overlayStoreOf(model) {
  if (!overlayStores.has(model)) overlayStores.set(model, new OverlayStore(model));
  return overlayStores.get(model);
}

class OverlayStore {
  constructor(model) {
    this.link = linkOf(model);
    this.parts = new Map(); // key -> part, the longest unused first
    this.bytes = 0;
    this.flying = new Map(); // run key -> overlay id
    this.failures = new Map(); // overlay id -> text
    this.pending = new Set(); // ids whose volume Python reads
    this.listeners = new Set();
    this.begun = new WeakMap(); // pane -> number of the first plane: before it is left nothing is fetched ahead
    this.link.on("overlay", ({ id }) => {
      this.pending.delete(id);
      this.tell();
    });
  }

  /** Call when something arrived or failed; returns what stops it. */
  listen(callback) {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  tell() {
    for (const callback of this.listeners) callback();
  }

  /** "loading", "failed" or "" of an overlay. */
  stateOf(id) {
    if (this.failures.has(id)) return "failed";
    return this.pending.has(id) || [...this.flying.values()].includes(id) ? "loading" : "";
  }

  failure(id) {
    return this.failures.get(id) || "";
  }

  /** Try again what failed. */
  retry(id) {
    this.failures.delete(id);
    this.tell();
  }

  /** The part of an overlay in what a pane shows, or null while it comes. */
  get(entry, pane) {
    const key = overlayKey(entry, pane, pane.number);
    const part = this.parts.get(key);
    if (part) {
      this.parts.delete(key);
      this.parts.set(key, part);
    }
    if (!part) this.fetchFor(entry, pane, 0);
    else if (this.moves(pane)) this.fetchFor(entry, pane, pane.towards || 1);
    return part || null;
  }

  /** Whether somebody scrolls in a pane. */
  moves(pane) {
    if (!this.begun.has(pane)) this.begun.set(pane, pane.number);
    return !pane.meta.ask && this.begun.get(pane) !== pane.number;
  }

  /** Ask for the run that a pane's plane is in, or (ahead 1, -1) for the one after or before it. */
  fetchFor(entry, pane, ahead) {
    const { id } = entry;
    if (this.failures.has(id) || this.pending.has(id)) return;
    if ([...this.flying.values()].filter((one) => one === id).length >= (pane.meta.ask ? 1 : OVERLAY_FLIGHTS)) return;
    const first = pane.meta.ask ? 0 : (Math.floor(pane.number / OVERLAY_RUN) + ahead) * OVERLAY_RUN;
    const count = pane.meta.ask ? 1 : Math.min(OVERLAY_RUN, pane.meta.count - first);
    if (first < 0 || count < 1) return;
    const keys = Array.from({ length: count }, (_, i) => overlayKey(entry, pane, first + i));
    if (keys.every((key) => this.parts.has(key)) || this.flying.has(keys[0])) return;
    this.fetch(entry, keys, { ...overlayAskOf(entry, pane), start: first, count });
  }

  async fetch(entry, keys, args) {
    this.flying.set(keys[0], entry.id);
    try {
      const { data, buffers } = await this.link.ask("overlay", args);
      if (data.pending) this.pending.add(entry.id);
      else buffers.forEach((buffer, i) => this.keep(keys[i], overlayPartOf(data, buffer, i)));
    } catch (failure) {
      this.failures.set(entry.id, failure.message);
    }
    this.flying.delete(keys[0]);
    this.tell();
  }

  keep(key, part) {
    if (this.parts.has(key)) return;
    this.parts.set(key, part);
    this.bytes += part.bytes;
    for (const [old, one] of this.parts) {
      if (this.bytes <= OVERLAY_BYTES) return;
      this.parts.delete(old);
      this.bytes -= one.bytes;
    }
  }
}

/** Levels of isodose lines, as Python has them in the labels. */
const levelsOf = (entry) => (entry.kind === "isodose" ? entry.labels.map((label) => label.value) : []);

function overlayKey(entry, pane, number) {
  const extra = entry.kind === "fusion" ? pane.extra.join(".") : "";
  const where = pane.meta.ask ? JSON.stringify(pane.meta.ask) : `${pane.name}|${number}`;
  return [entry.id, entry.version, levelsOf(entry).join(","), extra, where].join("|");
}

function overlayAskOf(entry, pane) {
  const asked = { id: entry.id, plane: pane.name, extra: pane.extra, ...(pane.meta.ask || {}) };
  return entry.kind === "isodose" ? { ...asked, levels: levelsOf(entry) } : asked;
}

/** One plane as it came. */
function overlayPartOf(data, buffer, place) {
  const { kind, rows, cols } = data;
  if (kind === "contours" || kind === "isodose") return overlayLinesOf(kind, rows, cols, data.planes[place], buffer);
  const values = typed(buffer, data.dtype === "uint8" ? Uint8Array : Uint16Array);
  const shared = { kind, rows, cols, data: values, bytes: values.byteLength };
  if (kind === "fusion") return { ...shared, slope: data.slope, intercept: data.intercept };
  return { ...shared, sets: data.sets };
}

/** Lines as paths in pixel corner coordinates (column, row). */
function overlayLinesOf(kind, rows, cols, metas, buffer) {
  const points = typed(buffer, Float64Array);
  let at = 0;
  const lines = metas.map(({ label, count, closed }) => {
    const line = { label, closed, count, path: overlayPathOf(points, at, count, closed), top: overlayTopOf(points, at, count) };
    at += 2 * count;
    return line;
  });
  return { kind, rows, cols, lines, bytes: 3 * points.byteLength + 64 };
}

function overlayPathOf(points, at, count, closed) {
  const path = new Path2D();
  if (count === 1) path.rect(points[at + 1], points[at], 1, 1); // a point marks its pixel
  for (let i = 0; count > 1 && i < count; i++)
    path[i ? "lineTo" : "moveTo"](points[at + 2 * i + 1] + 0.5, points[at + 2 * i] + 0.5);
  if (closed && count > 1) path.closePath();
  return path;
}

/** The uppermost point, [row, col]. */
function overlayTopOf(points, at, count) {
  let best = at;
  for (let i = 1; i < count; i++) if (points[at + 2 * i] < points[best]) best = at + 2 * i;
  return [points[best], points[best + 1]];
}
