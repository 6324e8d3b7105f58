// The pointer on a pane: draw a mark, move one or its handle, paint.

import { BrushStroke } from "./brush.js";
import { markHandles, markHit, markLive, markPlace, markShifted, markSimplified, MARK_TOOLS } from "./marks_shapes.js";

const HAND_STILL_PX = 4; // a press that moves less is a click
const HAND_CLOSE_PX = 10; // so near to its first point a polygon is closed
const PAINTING = ["brush", "erase"];

export class MarksHand {
  constructor(plugin) {
    this.plugin = plugin;
    this.viewer = plugin.viewer;
    this.stroke = null;
    this.held = null; // {mark, handle, from, points} of a mark that is moved
    this.at = null; // where the pointer is, for the brush's circle
    this.viewer.root.addEventListener("pointerout", () => this.isPainting() && this.viewer.redraw());
  }

  isPainting() {
    return PAINTING.includes(this.viewer.get("tool"));
  }

  /** Whether the event was used; see draw.js for its form. */
  pointer(event, pane) {
    const tool = this.viewer.get("tool");
    this.at = { pane, row: event.row, col: event.col };
    if (event.type === "down") return this.down(event, pane, tool);
    if (event.type === "move") return this.move(event, pane, tool);
    if (event.type === "up") return this.up(event, pane);
    if (event.type === "cancel") return this.drop();
    if (event.type === "double") return this.double(event, pane);
    return false;
  }

  down(event, pane, tool) {
    const { draft } = this.plugin;
    if (event.button !== 0 || event.shift || event.ctrl || event.alt) return false;
    if (PAINTING.includes(tool)) return this.startStroke(event, pane, tool);
    if (draft) return this.addPoint(event, pane);
    const hit = this.hit(event, pane);
    if (hit) return this.grab(event, pane, hit);
    if (!MARK_TOOLS[tool]) {
      if (this.plugin.chosen) this.plugin.choose(null);
      return false;
    }
    return this.begin(event, pane, tool);
  }

  // ---- painting

  startStroke(event, pane, tool) {
    if (!this.plugin.canDraw(pane)) return true;
    const label = tool === "brush" ? this.viewer.get("mask_label") : 0;
    this.viewer.saver.flush();
    const stroke = new BrushStroke(this.plugin.store, pane, label, this.viewer.get("brush_mm"));
    if (!stroke.entry) this.viewer.announce("The mask is loading: wait a moment");
    else {
      this.stroke = stroke;
      stroke.to(event.row, event.col);
      this.viewer.redraw();
    }
    return true;
  }

  async endStroke(event) {
    const { stroke } = this;
    stroke.to(event.row, event.col, true);
    this.stroke = null;
    this.viewer.redraw();
    try {
      await stroke.end();
    } catch (failure) {
      this.viewer.frame.showError(failure.message);
    }
  }

  /** The circle that shows what the brush covers. */
  drawBrush(ctx, pane) {
    const { at } = this;
    if (!this.isPainting() || !at || at.pane !== pane || !this.viewer.under) return;
    const radius = this.viewer.get("brush_mm");
    const m = pane.imageToCanvas;
    ctx.save();
    ctx.transform(m.a, m.b, m.c, m.d, m.e, m.f);
    const path = new Path2D();
    path.ellipse(at.col + 0.5, at.row + 0.5, radius / pane.meta.col_mm, radius / pane.meta.row_mm, 0, 0, 2 * Math.PI);
    ctx.restore();
    const circle = new Path2D();
    circle.addPath(path, m);
    for (const [style, width] of [["#000b", 3], ["#fff", 1.2]]) {
      ctx.strokeStyle = style;
      ctx.lineWidth = width;
      ctx.stroke(circle);
    }
  }

  // ---- drawing a mark

  begin(event, pane, tool) {
    if (!this.plugin.canDraw(pane)) return true;
    const at = markPlace(event.row, event.col, pane.meta);
    const mark = { ...this.plugin.place(pane), tool, points: [at] };
    this.plugin.choose(null);
    if (tool === "point") {
      this.finish({ mark, pane });
      return true;
    }
    if (tool !== "freehand") mark.points.push([...at]);
    mark.open = tool === "polygon" || tool === "freehand";
    this.plugin.draft = { mark, pane, from: event, down: true, drags: false };
    this.viewer.redraw();
    return true;
  }

  /** A further click: the end of a shape, or one more point of it. */
  addPoint(event, pane) {
    const { draft } = this.plugin;
    if (draft.pane !== pane) {
      this.drop();
      return true;
    }
    Object.assign(draft, { down: true, from: event, drags: false });
    this.stretch(event, pane);
    return true;
  }

  /** The last point follows the pointer. */
  stretch(event, pane) {
    const { draft } = this.plugin;
    const { mark } = draft;
    const at = markPlace(event.row, event.col, pane.meta);
    if (mark.tool === "freehand") {
      const [x, y] = pane.toScreen(...mark.points.at(-1));
      if (Math.hypot(event.x - x, event.y - y) >= 1.5) mark.points.push(at);
    } else mark.points[mark.points.length - 1] = at;
    mark.stats = markLive(mark, pane, this.viewer.meta.calibrated);
    this.viewer.redraw();
  }

  /** The button is up again: the shape is done, or waits for its next point. */
  letGo(event, pane) {
    const { draft } = this.plugin;
    const { mark } = draft;
    draft.down = false;
    this.stretch(event, pane);
    if (mark.tool === "freehand") return this.finish(draft);
    const { points } = MARK_TOOLS[mark.tool];
    const whole = mark.points.length === points;
    if (mark.tool === "polygon" && this.closes(event, pane, mark)) {
      mark.points.pop();
      return this.finish(draft);
    }
    if (!draft.drags && !draft.clicked) {
      draft.clicked = true; // click, move, click
      return undefined;
    }
    if (whole) return this.finish(draft);
    mark.points.push([...mark.points.at(-1)]);
    return undefined;
  }

  closes(event, pane, mark) {
    if (mark.points.length < 4) return false;
    const [x, y] = pane.toScreen(...mark.points[0]);
    return Math.hypot(event.x - x, event.y - y) <= HAND_CLOSE_PX;
  }

  /** Keep what was drawn, if it is anything. */
  async finish({ mark, pane }) {
    this.plugin.draft = null;
    delete mark.open;
    if (mark.tool === "freehand") mark.points = markSimplified(mark.points);
    const enough = mark.tool === "point" || (mark.tool === "angle" ? 3 : 2) <= new Set(mark.points.map(String)).size;
    const outline = ["polygon", "freehand"].includes(mark.tool);
    if (!enough || (outline && mark.points.length < 3)) return this.viewer.redraw();
    this.plugin.choose(mark.id);
    const kept = await this.plugin.keep(mark);
    if (kept && mark.tool === "point" && this.viewer.panes.includes(pane)) this.plugin.editName(mark.id);
    return undefined;
  }

  /** Close the polygon that is being drawn. */
  close() {
    const { draft } = this.plugin;
    if (draft?.mark.tool !== "polygon" || draft.mark.points.length < 4) return false;
    draft.mark.points.pop();
    this.finish(draft);
    return true;
  }

  // ---- moving one

  /** The mark that lies at the pointer, the chosen one first: {mark, handle}. */
  hit(event, pane) {
    const marks = this.plugin.on(pane).reverse();
    const chosen = this.plugin.chosen?.id;
    marks.sort((a, b) => (b.id === chosen) - (a.id === chosen));
    for (const mark of marks) {
      const found = markHit(mark, pane, event.x, event.y);
      if (found) return { mark, handle: found.handle };
    }
    return null;
  }

  grab(event, pane, { mark, handle }) {
    this.plugin.flush();
    this.plugin.choose(mark.id, handle);
    this.held = { mark, handle, from: event, points: mark.points, moved: false };
    return true;
  }

  pull(event, pane) {
    const { held } = this;
    if (Math.hypot(event.x - held.from.x, event.y - held.from.y) > HAND_STILL_PX) held.moved = true;
    if (!held.moved) return;
    const at = markPlace(event.row, event.col, pane.meta);
    const points =
      held.handle === null
        ? markShifted(held.points, event.row - held.from.row, event.col - held.from.col, pane.meta)
        : markHandles({ ...held.mark, points: held.points })[held.handle].moved(held.points, at);
    const mark = { ...held.mark, points: points.map(([r, c]) => markPlace(r, c, pane.meta)), sent: true };
    mark.stats = markLive(mark, pane, this.viewer.meta.calibrated) || held.mark.stats;
    held.now = mark;
    this.plugin.pending.set(mark.id, mark);
    this.viewer.redraw();
  }

  // ---- events

  move(event, pane, tool) {
    if (this.stroke) {
      if (this.stroke.pane === pane) this.stroke.to(event.row, event.col);
      this.viewer.redraw();
      return true;
    }
    if (this.held) {
      this.pull(event, pane);
      return true;
    }
    const { draft } = this.plugin;
    if (draft) return this.moveDraft(event, pane);
    if (event.buttons) return false;
    if (PAINTING.includes(tool)) {
      pane.canvas.style.cursor = "crosshair";
      this.viewer.redraw();
      return true;
    }
    if (!this.hit(event, pane)) return false;
    pane.canvas.style.cursor = "pointer";
    return true;
  }

  moveDraft(event, pane) {
    const { draft } = this.plugin;
    if (draft.pane !== pane) return false;
    if (draft.down && Math.hypot(event.x - draft.from.x, event.y - draft.from.y) > HAND_STILL_PX) draft.drags = true;
    this.stretch(event, pane);
    return true;
  }

  up(event, pane) {
    if (this.stroke) this.endStroke(event);
    else if (this.held) this.release();
    else if (this.plugin.draft?.down) this.letGo(event, pane);
    else return false;
    return true;
  }

  release() {
    const { now } = this.held;
    this.held = null;
    if (now) this.plugin.keep(now);
  }

  double(event, pane) {
    if (this.close() || this.plugin.draft) return true;
    const hit = this.hit(event, pane);
    if (hit) this.plugin.editName(hit.mark.id);
    return Boolean(hit) || this.viewer.get("tool") !== "browse";
  }

  /** Give up what is being drawn, moved or painted; whether there was anything. */
  drop() {
    const busy = Boolean(this.stroke || this.held || this.plugin.draft);
    if (this.stroke) this.stroke.cancel();
    if (this.held?.now) this.plugin.pending.delete(this.held.mark.id);
    [this.stroke, this.held, this.plugin.draft] = [null, null, null];
    if (busy) this.viewer.redraw();
    return busy;
  }
}
