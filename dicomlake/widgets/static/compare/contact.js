// A sheet of thumbnails: as many rows in the page as are seen, thumbnails asked for in batches.

import { el, frame, keysOf, perFrame, settled } from "../base/dom.js";
import { linkOf, saver, watchModel } from "../base/link.js";
import { SheetSelection } from "./selection.js";
import { ThumbnailStore } from "./thumbnails.js";

const CAPTION_PX = 36; // two lines
const NUMBER_PX = 20; // the number of a plane
const GAP_PX = 6;
const OVERSCAN_ROWS = 1;

class SheetView {
  constructor(model, host) {
    this.model = model;
    this.link = linkOf(model);
    this.saver = saver(model);
    this.frame = frame(host, this.link, model, "Contact sheet");
    this.selection = new SheetSelection(model, this.saver);
    this.store = new ThumbnailStore(this.link, () => this.draw(), (text) => this.frame.showError(text));
    this.cells = new Map(); // index -> {el, img, caption, shown}
    this.undo = [];
    this.at = Math.max(0, model.get("chosen"));
    this.draw = perFrame(() => this.drawSeen());
    this.ask = settled(() => this.store.want(this.seen()), 60);
    this.build();
    this.listen();
    this.layOut();
  }

  build() {
    const { root } = this.frame;
    root.classList.add("dl-sheet");
    this.told = el("span", { class: "dl-muted", role: "status" });
    this.bar = el("div", { class: "dl-row dl-sheet-bar", role: "toolbar", "aria-label": "Contact sheet" });
    this.space = el("div", { class: "dl-sheet-space" });
    this.list = el("div", {
      ...{ class: "dl-sheet-list", tabindex: "0", role: "listbox", "aria-multiselectable": "true" },
      ...{ "aria-label": "Thumbnails: arrows move, Space selects, Enter opens", onscroll: () => this.draw() },
    }, this.space);
    root.append(this.bar, this.list);
    this.buildBar();
    keysOf(root, (event) => this.key(event));
    this.list.addEventListener("click", (event) => this.click(event));
    this.list.addEventListener("dblclick", (event) => event.preventDefault());
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.list);
  }

  buildBar() {
    const number = (trait, name, max) => {
      const input = el("input", { type: "number", min: "0", max: String(max), placeholder: "auto", class: "dl-sheet-number" });
      input.addEventListener("change", () => this.saver.set({ [trait]: Math.max(trait === "every" ? 1 : 0, Math.min(max, Math.round(Number(input.value) || 0))) }));
      this.inputs[trait] = input;
      return el("label", { class: "dl-row" }, name, input);
    };
    this.inputs = {};
    this.bar.append(number("columns", "Columns", 64));
    const range = el("input", { type: "range", min: "64", max: "320", step: "16", "aria-label": "Size of thumbnails" });
    range.addEventListener("input", () => this.saver.set({ size: Number(range.value) }));
    this.inputs.size = range;
    this.bar.append(el("label", { class: "dl-row" }, "Size", range));
    if (this.model.get("planes").length) this.buildSeriesBar(number);
    this.bar.append(this.told, el("span", { class: "dl-muted dl-sheet-warning" }, "Not for diagnosis"));
  }

  /** What only a sheet of one series has: planes, every n-th, windows. */
  buildSeriesBar(number) {
    this.bar.append(number("every", "Every", 64));
    const pick = (trait, name, options) => {
      const select = el("select", { "aria-label": name, onchange: () => this.picked(trait, select.value) });
      for (const [value, text] of options) select.append(el("option", { value }, text));
      this.inputs[trait] = select;
      this.bar.append(select);
    };
    const planes = this.model.get("planes");
    if (planes.length > 1) pick("plane", "Orientation", planes.map((name) => [name, name]));
    const presets = this.model.get("presets");
    if (presets.length) pick("window", "Window", [["", "own window"], ...presets.map((p, i) => [String(i), `${p.key} ${p.name}`])]);
  }

  picked(trait, value) {
    if (trait === "plane") this.saver.set({ plane: value });
    else if (value !== "") this.preset(Number(value));
  }

  preset(i) {
    const found = this.model.get("presets")[i];
    if (!found) return false;
    this.saver.set({ window: [found.center, found.width] });
    this.frame.announce(`Window ${found.name}`);
    return true;
  }

  listen() {
    const on = (names, work) => this.undo.push(watchModel(this.model, names, work));
    on("change:columns change:size change:count", () => this.layOut());
    on("change:runs change:chosen change:window change:every change:plane", () => this.draw());
    on("change:version", () => {
      this.store.clear();
      this.layOut();
    });
  }

  dispose() {
    this.saver.flush();
    this.observer.disconnect();
    this.store.dispose();
    for (const undo of this.undo.splice(0)) undo();
    this.frame.dispose();
  }

  // ---- what is seen

  layOut() {
    const size = this.model.get("size");
    const width = this.list.clientWidth - 2 * GAP_PX;
    if (width <= 0) return;
    const fitting = Math.max(1, Math.floor((width + GAP_PX) / (size + GAP_PX)));
    this.columns = this.model.get("columns") || fitting;
    this.edge = this.model.get("columns") ? Math.max(32, Math.floor((width + GAP_PX) / this.columns) - GAP_PX) : size;
    const caption = this.model.get("planes").length ? NUMBER_PX : CAPTION_PX;
    this.rowPx = this.edge + caption + GAP_PX;
    this.count = this.model.get("count");
    this.at = Math.min(this.at, Math.max(0, this.count - 1));
    this.space.style.height = `${Math.ceil(this.count / this.columns) * this.rowPx + GAP_PX}px`;
    this.list.style.setProperty("--dl-sheet-edge", `${this.edge}px`);
    this.list.style.setProperty("--dl-sheet-caption", `${caption - 2}px`);
    this.draw();
  }

  rows() {
    const first = Math.floor(this.list.scrollTop / this.rowPx) - OVERSCAN_ROWS;
    const last = Math.ceil((this.list.scrollTop + this.list.clientHeight) / this.rowPx) + OVERSCAN_ROWS;
    return [Math.max(0, first), last];
  }

  seen() {
    const [first, last] = this.rows();
    const from = first * this.columns;
    return Array.from({ length: Math.max(0, Math.min(this.count, last * this.columns) - from) }, (_, i) => from + i);
  }

  drawSeen() {
    if (!this.columns) return;
    const seen = this.seen();
    const wanted = new Set(seen);
    for (const [i, cell] of this.cells) if (!wanted.has(i)) this.removeCell(i, cell);
    for (const i of seen) this.drawCell(i);
    this.list.setAttribute("aria-activedescendant", this.cells.has(this.at) ? this.cellId(this.at) : "");
    this.follow();
    if (seen.some((i) => !this.store.has(i))) this.ask();
    this.frame.state(seen.every((i) => this.store.has(i)) ? "ready" : "loading");
  }

  cellId(i) {
    return `dl-sheet-${this.model.get("identity")}-${i}`;
  }

  removeCell(i, cell) {
    cell.el.remove();
    this.cells.delete(i);
  }

  newCell(i) {
    const img = el("img", { alt: "", draggable: false });
    const failure = el("div", { class: "dl-sheet-failure", hidden: true });
    const tick = el("span", { class: "dl-sheet-tick", "aria-hidden": "true" }, "✓");
    const caption = el("div", { class: "dl-sheet-caption" });
    const picture = el("div", { class: "dl-sheet-picture" }, img, failure, tick);
    const whole = el("div", { class: "dl-sheet-cell", role: "option", id: this.cellId(i), "data-i": String(i), "aria-setsize": String(this.count), "aria-posinset": String(i + 1) }, picture, caption);
    this.space.append(whole);
    const cell = { el: whole, img, failure, caption, shown: null };
    this.cells.set(i, cell);
    return cell;
  }

  drawCell(i) {
    const cell = this.cells.get(i) || this.newCell(i);
    const [row, col] = [Math.floor(i / this.columns), i % this.columns];
    cell.el.style.transform = `translate(${GAP_PX + col * (this.edge + GAP_PX)}px, ${GAP_PX + row * this.rowPx}px)`;
    cell.el.setAttribute("aria-selected", String(this.selection.has(i)));
    cell.el.classList.toggle("dl-sheet-at", i === this.at);
    cell.el.classList.toggle("dl-sheet-chosen", i === this.model.get("chosen"));
    const tile = this.store.get(i);
    if (!tile || cell.shown === tile) return;
    cell.shown = tile;
    cell.caption.textContent = tile.caption;
    cell.caption.title = tile.caption;
    cell.failure.textContent = tile.failed || "";
    cell.failure.hidden = !tile.failed;
    cell.img.hidden = !tile.url;
    if (tile.url) cell.img.src = tile.url;
  }

  follow() {
    const { model } = this;
    for (const trait of ["columns", "every", "size", "plane"]) {
      const input = this.inputs[trait];
      if (input && document.activeElement !== input) input.value = trait === "columns" && !model.get(trait) ? "" : String(model.get(trait));
    }
    const window = model.get("window");
    const preset = model.get("presets").findIndex((p) => p.center === window[0] && p.width === window[1]);
    if (this.inputs.window) this.inputs.window.value = preset < 0 ? "" : String(preset);
    const text = `${this.count} ${this.count === 1 ? "item" : "items"}, ${this.selection.size()} selected`;
    if (this.told.textContent !== text) this.told.textContent = text;
  }

  // ---- pointer and keys

  click(event) {
    const cell = event.target.closest(".dl-sheet-cell");
    if (!cell) return;
    const i = Number(cell.dataset.i);
    this.list.focus({ preventScroll: true });
    if (event.shiftKey) this.selection.extend(i);
    else if (event.ctrlKey || event.metaKey) this.selection.toggle(i);
    else {
      this.selection.only(i);
      this.open(i);
    }
    this.at = i;
    this.draw();
  }

  open(i) {
    this.saver.set({ chosen: i });
    this.frame.announce(`Opened ${this.store.get(i)?.caption || i + 1}`);
  }

  key(event) {
    if (event.target.matches("button, select, input")) return false;
    const step = this.steps()[event.key];
    if (step !== undefined && !event.altKey) return this.move(this.at + step, event.shiftKey);
    if (event.key === "Home") return this.move(0, event.shiftKey);
    if (event.key === "End") return this.move(this.count - 1, event.shiftKey);
    if (event.key === " ") return this.after(() => this.selection.toggle(this.at));
    if (event.key === "Enter") return this.after(() => this.open(this.at));
    if (event.key === "Escape") return this.after(() => this.selection.set([]));
    if (event.key === "a" && (event.ctrlKey || event.metaKey)) return this.after(() => this.selection.set(this.count ? [[0, this.count - 1]] : []));
    if (/^[1-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey) return this.preset(this.model.get("presets").findIndex((p) => p.key === event.key));
    return false;
  }

  steps() {
    const page = Math.max(1, Math.floor(this.list.clientHeight / this.rowPx)) * this.columns;
    return { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page };
  }

  after(work) {
    work();
    this.draw();
    return true;
  }

  move(to, extending) {
    if (!this.count) return true;
    const before = this.at;
    this.at = Math.max(0, Math.min(this.count - 1, to));
    if (extending) this.selection.extend(this.at, before);
    this.reveal();
    this.frame.announce(`${this.store.get(this.at)?.caption || this.at + 1}${this.selection.has(this.at) ? ", selected" : ""}`);
    return this.after(() => {});
  }

  reveal() {
    const top = Math.floor(this.at / this.columns) * this.rowPx;
    const low = top + this.rowPx + GAP_PX - this.list.clientHeight;
    if (this.list.scrollTop > top) this.list.scrollTop = top;
    else if (this.list.scrollTop < low) this.list.scrollTop = low;
  }
}

function renderSheet({ model, el: host }) {
  const view = new SheetView(model, host);
  return () => view.dispose();
}

export default { render: renderSheet };
