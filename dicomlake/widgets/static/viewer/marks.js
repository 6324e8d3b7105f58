// Measuring, marking and painting in a viewer. Python keeps and measures; here it is drawn at once.

import { el } from "../base/dom.js";
import { watchModel } from "../base/link.js";
import { showPlane } from "./actions.js";
import { indexAt } from "./geometry.js";
import { brushStoreOf, paintMask } from "./brush.js";
import { marksBar } from "./marks_bar.js";
import { drawMarks, markMain, markTextBox, markTexts } from "./marks_draw.js";
import { MarksHand } from "./marks_hand.js";
import { markKey, MARK_KEYS } from "./marks_keys.js";
import { marksPanel } from "./marks_panel.js";
import { markIsOn, MARK_REGIONS } from "./marks_shapes.js";

const MARK_SENT = ["id", "tool", "plane", "index", "extra", "points", "name", "label", "through"];
const MARKS_FOLLOWED = ["marks", "mask_labels", "mask_label", "brush_mm", "marking_state", "tool", "index", "plane"];

/** What measures and paints in a viewer; see draw.js for what a plug-in is. */
export function marksPlugin(viewer) {
  const plugin = new MarksPlugin(viewer);
  return {
    draw: (ctx, pane) => plugin.draw(ctx, pane),
    pointer: (event, pane) => plugin.hand.pointer(event, pane),
    key: (event) => markKey(plugin, event),
    keys: MARK_KEYS,
    describe: (pane, row, col) => plugin.describe(pane, row, col),
    toolbar: plugin.bar.els,
    panel: plugin.panel.el,
    dispose: () => plugin.dispose(),
  };
}

class MarksPlugin {
  constructor(viewer) {
    this.viewer = viewer;
    this.chosen = null; // {id, handle: number or null}
    this.draft = null; // {mark, pane, …} that is being drawn
    this.pending = new Map(); // id -> mark as it was changed here, until Python has it
    this.canvases = new WeakMap(); // pane -> picture of its mask
    this.store = brushStoreOf(viewer.model);
    this.hand = new MarksHand(this);
    this.panel = marksPanel(this);
    this.bar = marksBar(this);
    this.follow = () => {
      if (this.chosen && !this.find(this.chosen.id)) this.chosen = null;
      this.bar.follow();
      this.panel.follow();
      viewer.redraw();
    };
    const names = MARKS_FOLLOWED.map((name) => `change:${name}`).join(" ");
    this.undo = [this.store.listen(() => viewer.redraw()), watchModel(viewer.model, names, this.follow)];
    this.bar.follow();
  }

  dispose() {
    clearTimeout(this.soon);
    this.flush();
    for (const undo of this.undo) undo();
  }

  // ---- what there is

  /** All marks, those that are on their way to Python as they are here. */
  marks() {
    const known = this.viewer.get("marks").map((mark) => this.pending.get(mark.id) || mark);
    const ids = new Set(known.map((mark) => mark.id));
    return [...known, ...[...this.pending.values()].filter((mark) => !ids.has(mark.id))];
  }

  find(id) {
    return this.marks().find((mark) => mark.id === id) || null;
  }

  on(pane) {
    return this.marks().filter((mark) => mark.tool !== "key" && markIsOn(mark, pane));
  }

  choose(id, handle = null) {
    this.chosen = id ? { id, handle } : null;
    this.panel.follow();
    this.viewer.redraw();
  }

  // ---- drawing

  draw(ctx, pane) {
    if (pane.number === null) return;
    if (pane.name !== "oblique") this.drawMask(ctx, pane);
    const slab = this.viewer.get("slab_mm") > 0;
    drawMarks(ctx, pane, this.marks(), { chosen: this.chosen, draft: this.draft, slab });
    this.hand.drawBrush(ctx, pane);
  }

  drawMask(ctx, pane) {
    const labels = this.viewer.get("mask_labels");
    if (this.store.isEmpty()) return;
    const entry = this.store.get(pane.meta, pane.name, pane.number);
    if (!entry) return;
    if (!this.canvases.has(pane)) this.canvases.set(pane, {});
    paintMask(ctx, pane, entry, labels, this.canvases.get(pane));
  }

  /** The label that is painted at a place of a pane. */
  describe(pane, row, col) {
    if (pane.name === "oblique" || this.store.isEmpty()) return "";
    const entry = this.store.get(pane.meta, pane.name, pane.number);
    const value = entry?.data[Math.round(row) * pane.meta.cols + Math.round(col)];
    return this.viewer.get("mask_labels").find((one) => one.value === value)?.name || "";
  }

  // ---- changes; Python answers with the numbers

  async ask(name, args) {
    try {
      return (await this.viewer.link.ask(name, args)).data;
    } catch (failure) {
      this.viewer.frame.showError(failure.message);
      return null;
    }
  }

  /** Keep a new or a changed mark. quiet: without saying so. */
  async keep(given, { quiet = false } = {}) {
    const mark = { ...given, sent: true };
    this.pending.set(mark.id, mark);
    this.viewer.redraw();
    const bare = Object.fromEntries(MARK_SENT.map((key) => [key, mark[key]]));
    const data = await this.ask("mark", { mark: bare });
    if (this.pending.get(mark.id) === mark) this.pending.delete(mark.id);
    this.viewer.redraw();
    if (data && !quiet) this.viewer.announce(`${data.mark.name} ${markMain(data.mark)}`);
    return data?.mark || null;
  }

  /** Change some of a mark. */
  change(id, what) {
    const mark = this.find(id);
    return mark && this.keep({ ...mark, ...what });
  }

  /** Change points now, tell Python when it rests: for keys that repeat. */
  nudge(mark, points) {
    this.pending.set(mark.id, { ...mark, points, sent: false });
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.flush(), 300);
    this.viewer.redraw();
  }

  /** Tell Python what was nudged. */
  flush() {
    clearTimeout(this.soon);
    for (const mark of [...this.pending.values()]) if (!mark.sent) this.keep(mark);
  }

  remove(id) {
    const mark = this.find(id);
    if (!mark) return;
    this.pending.delete(id);
    if (this.chosen?.id === id) this.choose(null);
    this.ask("unmark", { ids: [id] });
    this.viewer.announce(`${mark.name} deleted`);
  }

  async replay(which) {
    this.flush();
    const data = await this.ask(which, {});
    if (!data) return;
    const word = which === "undo" ? "Undone" : "Done again";
    this.viewer.announce(data.did ? `${word}: ${data.did}` : `Nothing to ${which}`);
  }

  async save() {
    this.flush();
    const data = await this.ask("save_marks", {});
    if (data) this.tellSaved(data.saved);
  }

  tellSaved(text) {
    this.viewer.frame.showError("");
    this.viewer.announce(text);
    this.viewer.status.textContent = text;
  }

  /** The key image that the active pane shows, or null. */
  keyHere() {
    const pane = this.viewer.active;
    if (!pane || pane.number === null) return null;
    return this.marks().find((mark) => mark.tool === "key" && markIsOn(mark, pane)) || null;
  }

  toggleKey() {
    const pane = this.viewer.active;
    if (!this.canDraw(pane)) return;
    const here = this.keyHere();
    if (here) this.remove(here.id);
    else this.keep({ ...this.place(pane), tool: "key", points: [] });
  }

  /** What every new mark has. */
  place(pane) {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");
    return { id, plane: pane.name, index: pane.number, extra: [...(pane.shownExtra || pane.extra)], name: "", label: "", stats: null };
  }

  /** Whether a pane can be drawn on; says why not. */
  canDraw(pane) {
    if (!pane || pane.number === null) return false;
    if (pane.name !== "oblique") return true;
    this.viewer.frame.showError("Tilted planes cannot be drawn on: measure on an axial, coronal or sagittal plane.");
    return false;
  }

  // ---- moving about

  useTool(name) {
    this.hand.drop();
    this.viewer.set({ tool: name });
  }

  /** Go where a mark lies, and choose it. */
  jump(mark) {
    const { viewer } = this;
    const meta = viewer.meta.planes[mark.plane];
    if (viewer.get("arrangement") === "one" && viewer.get("plane") !== mark.plane) viewer.set({ plane: mark.plane });
    if (mark.extra?.length && String(mark.extra) !== String(viewer.get("extra"))) viewer.set({ extra: mark.extra });
    if (mark.points.length) {
      const [row, col] = [0, 1].map((k) => mark.points.reduce((sum, point) => sum + point[k], 0) / mark.points.length);
      viewer.goTo(indexAt(meta, [mark.index, row, col], viewer.meta.shape), null, { plane: mark.plane });
    } else showPlane(viewer, mark.plane, mark.index);
    this.choose(mark.tool === "key" ? null : mark.id);
    viewer.announce(`${mark.name} ${markMain(mark)}`);
  }

  /** An input beside the mark, for its name. */
  editName(id) {
    const mark = this.find(id);
    const pane = this.viewer.panes.find((one) => mark && markIsOn(mark, one));
    if (!pane || !this.viewer.naming) return;
    this.input?.remove();
    pane.ctx.font = "12px system-ui, sans-serif";
    const box = markTextBox(pane.ctx, pane, mark, markTexts(mark, { whole: true }), []);
    const left = `${Math.max(Math.min(box.x, pane.width - 156), 4)}px`;
    const input = el("input", { type: "text", class: "dl-marks-name", maxlength: "64", value: mark.name, "aria-label": `Name of ${mark.name}`, style: { left, top: `${box.y}px` } });
    const done = (keep) => {
      if (this.input !== input) return;
      this.input = null;
      const text = input.value.trim();
      input.remove();
      pane.canvas.focus({ preventScroll: true });
      if (keep && text && text !== mark.name) this.change(id, { name: text });
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") {
        event.stopPropagation();
        event.preventDefault();
        done(event.key === "Enter");
      }
    });
    input.addEventListener("blur", () => done(true));
    this.input = input;
    pane.el.append(input);
    input.focus();
    input.select();
  }

  // ---- the mask

  setRadius(radius) {
    if (!(radius > 0)) return;
    const brush_mm = Math.min(Math.max(Math.round(radius * 100) / 100, 0.1), 500);
    this.viewer.set({ brush_mm });
    this.viewer.redraw();
    this.viewer.announce(`Brush radius ${brush_mm} mm`);
  }

  async fill(id) {
    const mark = this.find(id);
    if (!mark || !MARK_REGIONS.includes(mark.tool)) return;
    this.viewer.saver.flush();
    const data = await this.ask("fill", { id, label: this.viewer.get("mask_label") });
    if (data) this.viewer.announce(`${data.voxels} voxels filled`);
  }

  async setLabels(labels, chosen = null) {
    const data = await this.ask("mask_labels", { labels: labels.map(({ value, name, color, visible }) => ({ value, name, color, visible })) });
    if (data && chosen) this.viewer.set({ mask_label: chosen });
    this.panel.follow(true);
  }

  async measureMask() {
    return (await this.ask("measure_mask", {}))?.labels || null;
  }
}
