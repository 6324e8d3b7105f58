// A facet of numbers or dates: a histogram with a brush. Dragging it sends nothing: see cube.js.

import { el, perFrame, settled } from "../base/dom.js";
import { ExCube } from "./cube.js";
import { exColours, exNumber, exShort, exTick } from "./words.js";

const EX_HIGH = 96; // CSS px of the bars
const EX_AXIS = 18;
const EX_GRIP = 6; // px around an end of the brush
const EX_CLICK = 3; // px that a click may move

/** The body of a facet of numbers or dates. */
export class ExHistogram {
  constructor(app, name) {
    this.app = app;
    this.name = name;
    this.drag = null;
    this.canvas = el("canvas", { class: "dl-ex-canvas", role: "img" });
    this.tip = el("div", { class: "dl-ex-tip", hidden: true });
    this.shade = el("div", { class: "dl-ex-brush", hidden: true });
    this.grips = [0, 1].map((end) => this.makeGrip(end));
    this.plot = el("div", { class: "dl-ex-plot" }, this.canvas, this.shade, ...this.grips, this.tip);
    this.low = this.makeEnd("from");
    this.high = this.makeEnd("to");
    this.units = el("span", { class: "dl-muted" });
    this.none = el("button", { class: "dl-ex-missing", "aria-pressed": "false", onclick: () => this.toggleMissing() });
    this.odd = el("span", { class: "dl-muted dl-ex-odd" });
    this.ends = el("div", { class: "dl-ex-ends" }, this.low, "–", this.high, this.units);
    this.node = el("div", { class: "dl-ex-body" }, this.plot, this.ends, el("div", { class: "dl-ex-ends" }, this.none, this.odd));
    this.redraw = perFrame(() => this.paint());
    this.commitSoon = settled(() => this.commit(), 300);
    this.plot.addEventListener("pointerdown", (event) => this.down(event));
    this.plot.addEventListener("pointermove", (event) => this.move(event));
    this.plot.addEventListener("pointerup", (event) => this.up(event));
    this.plot.addEventListener("pointercancel", () => this.cancel());
    this.plot.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.watch = new ResizeObserver(() => this.redraw());
    this.watch.observe(this.plot);
  }

  makeGrip(end) {
    return el("div", {
      class: "dl-ex-grip", role: "slider", tabindex: "0", "aria-label": `${this.name}: ${end ? "upper" : "lower"} end of the brush`,
      "data-end": String(end), onkeydown: (event) => this.key(event, end),
    });
  }

  makeEnd(word) {
    const input = el("input", { class: "dl-ex-end", "aria-label": `${this.name} ${word}`, placeholder: word, spellcheck: "false" });
    input.addEventListener("change", () => this.app.send("brush", {
      facet: this.name, ends: [this.low.value, this.high.value], missing: this.missing,
    }));
    return input;
  }

  /** Show what Python counted. */
  show(data) {
    this.data = data;
    this.bins = Math.max(data.edges.length - 1, 0);
    this.now = data.now;
    this.missing = Boolean(data.asked && data.on && data.on[0] && data.total[0]);
    this.span = data.span;
    if (this.drag === null) this.settle();
  }

  settle() {
    const { units, total, kind, whole } = this.data;
    this.units.textContent = units;
    this.low.placeholder = this.bins ? this.edge(0, "from") : "from";
    this.high.placeholder = this.bins ? this.edge(this.bins, "to") : "to";
    this.low.inputMode = this.high.inputMode = kind === "number" ? "decimal" : "text";
    this.typed();
    this.showMissing(this.data.now[0]);
    const odd = this.data.now[this.bins + 1];
    this.odd.textContent = total[this.bins + 1] ? `${exShort(odd)} ${whole ? `no ${kind}` : "with many values"}` : "";
    this.odd.title = whole ? `Values that are no ${kind}` : "Series with more than 64 different values: found by a range, not counted here";
    this.redraw();
  }

  /** The same bins with other counts, while another brush is dragged; null ends it. */
  preview(now) {
    this.now = now || this.data.now;
    this.showMissing(this.now[0]);
    this.redraw();
  }

  note() {
    return this.data.units ? `in ${this.data.units}` : "";
  }

  showMissing(now) {
    const { total } = this.data;
    this.none.textContent = `${this.missing ? "✓ " : ""}missing ${exShort(now)}`;
    this.none.title = `${exNumber(now)} of ${exNumber(total[0])} series without a value: click to choose them`;
    this.none.setAttribute("aria-pressed", String(this.missing));
    this.none.disabled = !total[0];
  }

  toggleMissing() {
    const whole = this.wholeSpan();
    const ends = whole ? null : [this.low.value, this.high.value];
    this.app.send("brush", { facet: this.name, bins: whole, ends, missing: !this.missing });
  }

  // ---- where things are

  wholeSpan() {
    if (!this.span) return null;
    const [a, b] = this.span;
    return Number.isInteger(a) && Number.isInteger(b) && b > a ? [a, b] : null;
  }

  x(bin) {
    return (bin * this.width) / Math.max(this.bins, 1);
  }

  bin(x) {
    return Math.min(Math.max((x * this.bins) / Math.max(this.width, 1), 0), this.bins);
  }

  get width() {
    return this.plot.clientWidth;
  }

  /** What an edge is called; of a bar for each number, the number of the bar before or after it. */
  edge(bin, side = "from") {
    const { edges, labels, each } = this.data;
    const place = Math.min(Math.max(Math.round(bin), 0), this.bins);
    const inner = side === "to" && (each || labels.length) ? place - 1 : place;
    const at = Math.max(0, each || labels.length ? Math.min(inner, this.bins - 1) : inner);
    return labels.length ? labels[at] : String(+edges[at].toPrecision(10));
  }

  /** Put the ends of the brush into the fields. */
  typed() {
    const span = this.span;
    const given = this.data.ends;
    const low = span ? (given && this.drag === null ? given[0] : this.edge(span[0], "from")) : "";
    const high = span ? (given && this.drag === null ? given[1] : this.edge(span[1], "to")) : "";
    if (document.activeElement !== this.low) this.low.value = low;
    if (document.activeElement !== this.high) this.high.value = high;
  }

  // ---- the pointer

  down(event) {
    if (event.button !== 0 || !this.bins) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const before = this.span;
    const ends = before ? before.map((bin) => this.x(bin)) : null;
    let how = "new";
    if (ends && Math.abs(x - ends[0]) <= EX_GRIP) how = "low";
    else if (ends && Math.abs(x - ends[1]) <= EX_GRIP) how = "high";
    else if (ends && x > ends[0] && x < ends[1] && !(before[0] <= 0 && before[1] >= this.bins)) how = "move";
    this.drag = { how, from: x, start: this.bin(x), before, moved: false };
    this.plot.setPointerCapture(event.pointerId);
    event.preventDefault();
    this.startCube();
  }

  move(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    if (this.drag === null) {
      this.showTip(x);
      return;
    }
    if (!this.drag.moved && Math.abs(x - this.drag.from) < EX_CLICK) return;
    this.drag.moved = true;
    this.tip.hidden = true;
    this.brushTo(this.spanAt(x));
  }

  /** The brush, in whole bins, for a place of the pointer. */
  spanAt(x) {
    const { how, start, before } = this.drag;
    const at = this.bin(x);
    if (how === "new") {
      const low = Math.floor(Math.min(start, at));
      return [low, Math.max(Math.ceil(Math.max(start, at)), low + 1)];
    }
    if (how === "low") return exOrdered(Math.round(at), Math.ceil(before[1]), this.bins);
    if (how === "high") return exOrdered(Math.floor(before[0]), Math.round(at), this.bins);
    const size = Math.max(Math.round(before[1] - before[0]), 1);
    const low = Math.min(Math.max(Math.round(before[0] + at - start), 0), this.bins - size);
    return [low, low + size];
  }

  brushTo(span) {
    this.span = span;
    this.typed();
    this.redraw();
    if (this.cube) this.app.preview(this.cube, span, this.missing);
  }

  async startCube() {
    this.cube = null;
    const drag = this.drag;
    const cube = await ExCube.of(this.app, this.name);
    if (cube && this.drag === drag && drag !== null) {
      this.cube = cube;
      if (drag.moved) this.app.preview(cube, this.span, this.missing);
    }
  }

  up() {
    if (this.drag === null) return;
    const { moved, start, before, how } = this.drag;
    this.drag = null;
    this.cube = null;
    if (!moved) {
      const place = Math.min(Math.floor(start), this.bins - 1);
      this.span = before && how === "move" ? null : how === "new" ? [place, place + 1] : before;
    }
    this.commit();
  }

  cancel() {
    if (this.drag === null) return;
    this.span = this.drag.before;
    this.drag = null;
    this.cube = null;
    this.settle();
    this.app.preview(null);
  }

  commit() {
    const bins = this.wholeSpan();
    if (this.span && !bins) return this.app.preview(null); // an end that was not moved: nothing new is asked
    this.typed();
    this.redraw();
    return this.app.send("brush", { facet: this.name, bins, missing: this.missing });
  }

  key(event, end) {
    if (event.key === "Escape" && this.drag) return this.cancel();
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
    const span = this.span ? [Math.floor(this.span[0]), Math.ceil(this.span[1])] : [0, this.bins];
    if (event.key in steps) span[end] += steps[event.key] * (event.shiftKey ? 5 : 1);
    else if (event.key === "Home") span[end] = 0;
    else if (event.key === "End") span[end] = this.bins;
    else if (event.key === "Delete" || event.key === "Backspace") return exEat(event, () => ((this.span = null), this.commit()));
    else return undefined;
    const bound = end ? [span[0], Math.min(Math.max(span[1], span[0] + 1), this.bins)] : [Math.max(Math.min(span[0], span[1] - 1), 0), span[1]];
    return exEat(event, () => {
      this.span = bound;
      this.typed();
      this.redraw();
      this.commitSoon();
    });
  }

  showTip(x) {
    const place = Math.min(Math.floor(this.bin(x)), this.bins - 1);
    this.tip.hidden = place < 0;
    if (place < 0) return;
    const { total, units, each, labels } = this.data;
    const to = each || labels.length ? "" : `–${this.edge(place + 1)}`;
    this.tip.textContent = `${this.edge(place)}${to}${units && ` ${units}`}: ${exNumber(this.now[place + 1])} of ${exNumber(total[place + 1])}`;
    this.tip.style.left = `${Math.min(Math.max(x, 50), this.width - 50)}px`;
  }

  // ---- drawing

  paint() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.width, EX_HIGH + EX_AXIS];
    if (!width || !this.data) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    const ctx = this.canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const colours = exColours(this.node);
    if (this.bins) this.paintBars(ctx, colours);
    else exEmpty(ctx, colours, width);
    this.paintAxis(ctx, colours, width);
    this.placeBrush();
    const some = this.now.slice(1, this.bins + 1).reduce((a, b) => a + b, 0);
    this.canvas.setAttribute("aria-label", `Histogram of ${this.name}: ${exNumber(some)} series with a value`);
  }

  paintBars(ctx, colours) {
    const { total } = this.data;
    const top = Math.max(1, ...total.slice(1, this.bins + 1));
    const gap = this.x(1) > 4 ? 1 : 0;
    for (let bin = 0; bin < this.bins; bin++) {
      const [left, right] = [this.x(bin), this.x(bin + 1) - gap];
      const inside = !this.span || (bin + 0.5 > this.span[0] && bin + 0.5 < this.span[1]);
      for (const [count, colour] of [[total[bin + 1], colours.all], [this.now[bin + 1], colours.now]]) {
        if (!count) continue;
        const high = Math.max(1.5, (count * (EX_HIGH - 6)) / top);
        ctx.globalAlpha = inside || colour === colours.all ? 1 : 0.35;
        ctx.fillStyle = colour;
        ctx.fillRect(left, EX_HIGH - high, right - left, high);
      }
    }
    ctx.globalAlpha = 1;
  }

  paintAxis(ctx, colours, width) {
    ctx.fillStyle = colours.line;
    ctx.fillRect(0, EX_HIGH, width, 1);
    ctx.fillStyle = colours.dim;
    ctx.font = "11px system-ui, sans-serif";
    ctx.textBaseline = "top";
    let free = -1;
    for (const { x, text } of this.ticks(ctx, width)) {
      const half = ctx.measureText(text).width / 2;
      const left = Math.min(Math.max(x - half, 0), width - 2 * half);
      if (left < free) continue;
      ctx.fillText(text, left, EX_HIGH + 4);
      free = left + 2 * half + 8;
    }
  }

  /** Labels that fit: of bars each in its middle, of bins at their edges. */
  ticks(ctx, width) {
    const { edges, labels, each } = this.data;
    const shift = each || labels.length ? 0.5 : 0;
    const last = each || labels.length ? this.bins - 1 : this.bins;
    const names = Array.from({ length: Math.max(last + 1, 0) }, (_, i) => (labels.length ? labels[i] : exTick(edges[i])));
    const wide = Math.max(10, ...names.map((name) => ctx.measureText(name).width)) + 12;
    const steps = [1, 2, 4, 5, 10, 12, 20, 24, 50, 60, 100, 120];
    const step = steps.find((n) => this.x(n) >= wide) || names.length;
    const first = labels.length || each || step === 1 ? 0 : exRoundStart(edges, step);
    const found = [];
    for (let i = first; i < names.length; i += step) found.push({ x: this.x(i + shift), text: names[i] });
    return found.filter(({ x }) => x <= width);
  }

  placeBrush() {
    this.shade.hidden = !this.span || !this.bins;
    const span = this.span || [0, this.bins];
    const [left, right] = span.map((bin) => this.x(bin));
    Object.assign(this.shade.style, { left: `${left}px`, width: `${Math.max(right - left, 1)}px` });
    this.grips.forEach((grip, end) => {
      grip.style.left = `${end ? right : left}px`;
      grip.hidden = !this.bins;
      grip.classList.toggle("dl-ex-idle", !this.span);
      grip.setAttribute("aria-valuemin", "0");
      grip.setAttribute("aria-valuemax", String(this.bins));
      grip.setAttribute("aria-valuenow", String(Math.round(span[end])));
      grip.setAttribute("aria-valuetext", this.bins ? `${this.edge(span[end], end ? "to" : "from")} ${this.data.units}` : "");
    });
  }

  dispose() {
    this.watch.disconnect();
  }
}

function exEat(event, work) {
  event.preventDefault();
  event.stopPropagation();
  return work();
}

function exEmpty(ctx, colours, width) {
  ctx.fillStyle = colours.dim;
  ctx.font = "12px system-ui, sans-serif";
  ctx.textAlign = "center";
  ctx.fillText("no values", width / 2, EX_HIGH / 2);
  ctx.textAlign = "start";
}

function exOrdered(a, b, bins) {
  const [low, high] = a <= b ? [a, b] : [b, a];
  return high > low ? [low, high] : low < bins ? [low, low + 1] : [low - 1, low];
}

/** The first edge that is a multiple of so many bins. */
function exRoundStart(edges, step) {
  const width = (edges[1] - edges[0]) * step;
  const first = edges.findIndex((edge) => Math.abs(edge / width - Math.round(edge / width)) < 1e-6);
  return first < 0 ? 0 : first;
}
