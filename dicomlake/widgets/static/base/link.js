// Asks to Python and news from it. One link for each model, shared by its views.

export class Failure extends Error {}

const links = new WeakMap();
const PATIENCE_MS = 15000;

/** The link of a model: ask(name, args, {key, buffers}) -> Promise of {data, buffers}; on(news, callback). */
export function linkOf(model) {
  if (!links.has(model)) links.set(model, new Link(model));
  return links.get(model);
}

class Link {
  constructor(model) {
    this.model = model;
    this.number = 0;
    this.waiting = new Map(); // number -> {resolve, reject, key}
    this.listeners = new Map(); // news -> Set of callbacks
    this.sent = 0; // how many messages went to Python; tests read it
    this.heard = false; // whether Python ever answered
    this.silences = new Set(); // called with true when nobody answers, with false when somebody does after all
    model.on("msg:custom", (content, buffers) => this.receive(content, buffers || []));
  }

  /** Ask Python. key: an older ask of the same key that is still open is dropped, its promise never settles. */
  ask(name, args = {}, { key = null, buffers = undefined } = {}) {
    const id = `${LINK_PREFIX}${++this.number}`;
    if (key !== null)
      for (const [old, ask] of this.waiting) if (ask.key === key) this.waiting.delete(old);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, key });
      this.sent += 1;
      this.model.send({ ask: name, id, args }, undefined, buffers);
      setTimeout(() => {
        if (this.waiting.has(id) && !this.heard) this.tellSilence(true);
      }, PATIENCE_MS);
    });
  }

  /** How many asks are open, of one key or of all. */
  open(key = null) {
    let count = 0;
    for (const ask of this.waiting.values()) if (key === null || ask.key === key) count += 1;
    return count;
  }

  /** Listen to news; returns what stops it. */
  on(news, callback) {
    if (!this.listeners.has(news)) this.listeners.set(news, new Set());
    this.listeners.get(news).add(callback);
    return () => this.listeners.get(news).delete(callback);
  }

  hear() {
    if (!this.heard && this.silent) this.tellSilence(false);
    this.heard = true;
  }

  tellSilence(silent) {
    this.silent = silent;
    for (const callback of this.silences) callback(silent);
  }

  receive(content, buffers) {
    if (content && content.news !== undefined) {
      this.hear();
      for (const callback of this.listeners.get(content.news) || []) callback(content.data, buffers);
      return;
    }
    const ask = content && this.waiting.get(content.answer);
    if (!ask) return; // of another page, or dropped
    this.hear();
    this.waiting.delete(content.answer);
    if (content.failed !== undefined) ask.reject(new Failure(content.failed));
    else ask.resolve({ data: content.data, buffers });
  }
}

// two pages on one kernel share a model's messages: answers are told apart by who asked
const LINK_PREFIX = `${Math.random().toString(36).slice(2, 10)}-`;

/** Call when one of some traits of a model changes ("change:a change:b"); returns what stops it.
 *  One name at a time: not every front end takes a list, marimo hears nothing then. */
export function watchModel(model, names, callback) {
  for (const name of names.split(" ")) model.on(name, callback);
  return () => {
    for (const name of names.split(" ")) model.off(name, callback);
  };
}

/** A buffer (DataView, ArrayBuffer or typed array) as a typed array; copied only when it does not lie even. */
export function typed(buffer, Type) {
  const bytes =
    buffer instanceof ArrayBuffer
      ? new Uint8Array(buffer)
      : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  if (bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0)
    return new Type(bytes.buffer, bytes.byteOffset, bytes.byteLength / Type.BYTES_PER_ELEMENT);
  return new Type(bytes.slice().buffer);
}

/** Save traits to Python, gathered: at most one message in `ms`, the last one always. */
export function saver(model, ms = 100) {
  let timer = null;
  const flush = () => {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    model.save_changes();
  };
  return {
    set(traits) {
      for (const [name, value] of Object.entries(traits)) model.set(name, value);
      if (timer === null) timer = setTimeout(flush, ms);
    },
    flush,
  };
}
