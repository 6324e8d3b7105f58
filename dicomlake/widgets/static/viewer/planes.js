// Planes in the browser: a bounded memory of them, and runs of them asked of Python before they are needed.

import { linkOf, typed } from "../base/link.js";
import { typeOfKind } from "./lut.js";

export const RUN = 8; // planes in a message: a message costs the same whatever it holds
const MOST_BYTES = 256 * 2 ** 20;
const MOST_IN_FLIGHT = 2;
const FAILURE_LASTS_MS = 5000;
const stores = new WeakMap();

/** The memory of a model's planes, shared by its views. */
export function storeOf(model) {
  if (!stores.has(model)) stores.set(model, new PlaneStore(model));
  return stores.get(model);
}

/** What is asked for: {plane, number, extra, slab_mm, slab_mode, preview: null or a text that says the window}. */
export function planeKey(want, number = want.number, extra = want.extra) {
  return [want.plane, number, extra.join("."), want.slab_mm, want.slab_mode, want.preview || ""].join("|");
}

class PlaneStore {
  constructor(model) {
    this.model = model;
    this.link = linkOf(model);
    this.planes = new Map(); // key -> plane, the longest unused first
    this.bytes = 0;
    this.flying = new Map(); // run key -> keys of its planes
    this.failures = new Map(); // key -> {text, at}
    this.alone = new Set(); // run keys that failed as a whole: their planes are asked for one by one
    this.wants = new Map(); // owner -> want
    this.listeners = new Set();
    this.generation = 0;
  }

  /** Call when something arrived or failed; returns what stops it. */
  listen(callback) {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  /** Forget everything, as when the stack changed. */
  clear() {
    this.generation += 1;
    for (const map of [this.planes, this.flying, this.failures, this.alone, this.wants]) map.clear();
    this.bytes = 0;
  }

  /** A plane that is here, or null. */
  get(key) {
    const plane = this.planes.get(key);
    if (!plane) return null;
    this.planes.delete(key);
    this.planes.set(key, plane);
    return plane;
  }

  /** Why a plane cannot be had, or null. */
  failure(key) {
    return this.failures.get(key)?.text ?? null;
  }

  /** An owner (a pane) wants this now and nothing else; want.towards: 1 or -1, where it goes next. */
  want(owner, want) {
    const key = planeKey(want);
    const failed = this.failures.get(key);
    if (failed && Date.now() - failed.at > FAILURE_LASTS_MS && planeKey(this.wants.get(owner) || want) !== key)
      this.failures.delete(key);
    this.wants.set(owner, want);
    this.pump();
  }

  leave(owner) {
    this.wants.delete(owner);
  }

  pump() {
    for (const ahead of [0, 1])
      for (const want of [...this.wants.values()].reverse()) {
        if (this.flying.size >= MOST_IN_FLIGHT) return;
        const run = this.runFor(want, ahead);
        if (run && !this.flying.has(run.key)) this.fetch(want, run);
      }
  }

  /** The run that a want needs now (ahead 0), or soon (ahead 1); null when all of that is here or comes. */
  runFor(want, ahead) {
    const along = want.along ?? null; // the extra dimension that the run goes along; null: along the planes
    const [at, count] = along === null ? [want.number, want.count] : [want.extra[along], want.sizes[along]];
    const span = want.single ? 1 : want.preview ? RUN / 2 : RUN;
    if (ahead && want.single) return null;
    let first = Math.floor(at / span) + ahead * (want.towards || 1);
    const runs = Math.ceil(count / span);
    if (ahead && want.loops) first = (first + runs) % runs;
    if (first < 0 || first >= runs) return null;
    let run = this.runOf(want, first * span, Math.min(span, count - first * span), along);
    if (this.alone.has(run.key)) {
      if (ahead) return null;
      run = this.runOf(want, at, 1, along);
    }
    const missing = run.keys.some((key) => !this.planes.has(key) && !this.failures.has(key));
    const needed = ahead ? missing : this.lacks(planeKey(want));
    return needed && !this.isComing(ahead ? run.keys[0] : planeKey(want)) ? run : null;
  }

  lacks(key) {
    return !this.planes.has(key) && !this.failures.has(key);
  }

  isComing(key) {
    for (const keys of this.flying.values()) if (keys.includes(key)) return true;
    return false;
  }

  runOf(want, start, count, along) {
    const keys = [];
    for (let i = 0; i < count; i++) {
      if (along === null) keys.push(planeKey(want, start + i));
      else keys.push(planeKey(want, want.number, want.extra.map((v, k) => (k === along ? start + i : v))));
    }
    return { key: `${along}:${count}:${keys[0]}`, start, count, along, keys };
  }

  async fetch(want, run) {
    const { generation } = this;
    this.flying.set(run.key, run.keys);
    try {
      const { data, buffers } = await this.link.ask("planes", askOf(want, run));
      if (generation !== this.generation) return;
      const planes = await Promise.all(buffers.map((b) => (want.preview ? decoded(b, data) : raw(b, data))));
      planes.forEach((plane, i) => this.keep(run.keys[i], plane));
    } catch (failure) {
      if (generation !== this.generation) return;
      if (run.count > 1) this.alone.add(run.key);
      else this.failures.set(run.keys[0], { text: failure.message, at: Date.now() });
    }
    this.flying.delete(run.key);
    for (const callback of this.listeners) callback();
    this.pump();
  }

  keep(key, plane) {
    if (this.planes.has(key)) return;
    this.planes.set(key, plane);
    this.bytes += plane.data.byteLength;
    for (const [old, one] of this.planes) {
      if (this.bytes <= MOST_BYTES) return;
      this.planes.delete(old);
      this.bytes -= one.data.byteLength;
    }
  }
}

function askOf(want, run) {
  const { plane, slab_mm, slab_mode } = want;
  const shared = { plane, count: run.count, slab_mm, slab_mode, encoding: want.preview ? "jpeg" : "raw" };
  if (want.preview) Object.assign(shared, { window: want.window, voi_shape: want.voi_shape });
  if (run.along === null) return { ...shared, start: run.start, extra: want.extra };
  const extra = want.extra.map((v, k) => (k === run.along ? run.start : v));
  return { ...shared, start: want.number, extra, along: run.along };
}

/** A plane as it came: data of the stack's kind; codes: the same bits as unsigned numbers, for tables. */
export function raw(buffer, { rows, cols, kind }) {
  const data = typed(buffer, typeOfKind(kind));
  const codes = kind === "int16" ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;
  return { data, codes, rows, cols, preview: false };
}

/** A JPEG as numbers 0 to 255 (grey, or rgb8): the window is applied, values cannot be read from it. */
async function decoded(buffer, { rows, cols, kind }) {
  const picture = await createImageBitmap(new Blob([buffer], { type: "image/jpeg" }));
  const ctx = new OffscreenCanvas(cols, rows).getContext("2d", { willReadFrequently: true });
  ctx.drawImage(picture, 0, 0);
  const pixels = new Uint32Array(ctx.getImageData(0, 0, cols, rows).data.buffer);
  if (kind !== "rgb8") return { data: Uint8Array.from(pixels, (p) => p & 255), rows, cols, preview: true };
  const data = new Uint8Array(3 * pixels.length);
  pixels.forEach((p, i) => data.set([p & 255, (p >> 8) & 255, (p >> 16) & 255], 3 * i));
  return { data, rows, cols, preview: true };
}
