// The series that are found: pages are fetched as they come into view; a click on a head sorts.

import { el, perFrame, settled } from "../base/dom.js";
import { exNumber, exWords } from "./words.js";

const EX_ROW = 24; // CSS px
const EX_PAGE = 200; // rows of a page
const EX_TALLEST = 8e6; // px; taller elements are not drawn right everywhere
const EX_PAGES = 40; // pages that are kept
const EX_WIDE = { StudyDate: 108, SeriesDate: 108, SliceThickness: 132, BodyPartExamined: 150, SeriesDescription: 220, StudyDescription: 220, PatientID: 140, ProtocolName: 190, Manufacturer: 150 };
const EX_TIGHT = new Set(["Modality", "StudyDate", "SeriesDate", "PatientSex", "PatientAge", "Rows", "Columns", "SeriesNumber", "instances"]);

/** The table. app: see explorer.js. */
export class ExTable {
  constructor(app) {
    this.app = app;
    this.pages = new Map();
    this.total = 0;
    this.active = 0;
    this.anchor = 0;
    this.head = el("div", { class: "dl-ex-head", role: "row" });
    this.rows = el("div", { class: "dl-ex-rows", role: "rowgroup" });
    this.space = el("div", { class: "dl-ex-space" }, this.rows);
    this.view = el("div", {
      class: "dl-ex-table", role: "grid", tabindex: "0", "aria-label": "Series found", "aria-multiselectable": "true",
      onkeydown: (event) => this.key(event),
    }, this.head, this.space);
    this.node = this.view;
    this.redraw = perFrame(() => this.paint());
    this.fetch = settled(() => this.fetchMissing(), 40);
    this.view.addEventListener("scroll", () => this.redraw());
    this.rows.addEventListener("click", (event) => this.click(event));
    this.rows.addEventListener("dblclick", () => this.app.call("view"));
    this.watch = new ResizeObserver(() => this.redraw());
    this.watch.observe(this.view);
  }

  /** Show the first page of another query, or order. */
  show(page) {
    this.pages.clear();
    this.revision = page.revision;
    this.total = page.total;
    this.take(page);
    this.active = this.anchor = 0;
    this.view.scrollTop = 0;
    this.view.setAttribute("aria-rowcount", String(page.total + 1));
    this.drawHead();
    this.space.style.height = `${this.height}px`;
    this.redraw();
  }

  take(page) {
    this.pages.set(Math.floor(page.start / EX_PAGE), page);
    for (const old of this.pages.keys()) {
      if (this.pages.size <= EX_PAGES) break;
      this.pages.delete(old);
    }
  }

  get height() {
    return Math.min(this.total * EX_ROW, EX_TALLEST);
  }

  get seen() {
    return Math.max(Math.ceil((this.view.clientHeight - EX_ROW - 4) / EX_ROW), 1);
  }

  /** The first row in view; of more rows than fit in pixels, in proportion. */
  get first() {
    if (this.total * EX_ROW <= EX_TALLEST) return Math.floor(this.view.scrollTop / EX_ROW);
    const range = Math.max(this.height + EX_ROW - this.view.clientHeight, 1);
    return Math.round((this.view.scrollTop / range) * Math.max(this.total - this.seen + 1, 0));
  }

  row(place) {
    const page = this.pages.get(Math.floor(place / EX_PAGE));
    const at = place % EX_PAGE;
    return page && at < page.ids.length ? { id: page.ids[at], cells: page.rows[at] } : null;
  }

  drawHead() {
    const { columns, sort, descending } = this.app.settings();
    this.view.style.setProperty("--dl-ex-columns", columns.map((name) => `minmax(${exWidthOf(name)}px, ${exWidthOf(name)}fr)`).join(" "));
    this.view.style.setProperty("--dl-ex-width", `${columns.reduce((sum, name) => sum + exWidthOf(name), 0)}px`);
    const some = (this.pages.get(0) || { rows: [] }).rows;
    this.head.replaceChildren(
      ...columns.map((name, i) => {
        const on = name === sort;
        const right = some.some((row) => typeof row[i] === "number") ? " dl-ex-right" : "";
        const arrow = on ? (descending ? " ▼" : " ▲") : "";
        return el(
          "div",
          { class: `dl-ex-cell${right}`, role: "columnheader", "aria-sort": on ? (descending ? "descending" : "ascending") : "none" },
          el("button", { class: "dl-ex-sort", title: `Sort by ${name}`, "data-name": name, onclick: () => this.sort(name) }, exWords(name) + arrow),
        );
      }),
    );
  }

  /** Ascending, descending, reading order again. */
  async sort(name) {
    const { sort, descending } = this.app.settings();
    const next = sort !== name ? [name, false] : descending ? ["", false] : [name, true];
    const answer = await this.app.ask("sort", { path: next[0], descending: next[1] }, "sort");
    if (!answer) return;
    this.show(answer.data);
    const told = next[0] ? `sorted by ${next[0]}, ${next[1] ? "descending" : "ascending"}` : "in reading order";
    this.app.view.announce(told);
    const button = this.head.querySelector(`[data-name="${CSS.escape(name)}"]`);
    if (button) button.focus();
  }

  paint() {
    const first = Math.min(this.first, Math.max(this.total - 1, 0));
    const stop = Math.min(first + this.seen + 1, this.total);
    const chosen = this.app.selected();
    const top = this.total * EX_ROW <= EX_TALLEST ? first * EX_ROW : this.view.scrollTop;
    this.rows.style.transform = `translateY(${top}px)`;
    const drawn = [];
    for (let place = first; place < stop; place++) drawn.push(this.drawRow(place, chosen));
    this.rows.replaceChildren(...drawn);
    const at = this.rows.querySelector(".dl-ex-active");
    if (at) this.view.setAttribute("aria-activedescendant", at.id);
    this.fetch();
  }

  drawRow(place, chosen) {
    const row = this.row(place);
    const on = row !== null && chosen.has(row.id);
    const cells = row ? row.cells : this.app.settings().columns.map(() => "");
    return el(
      "div",
      {
        class: `dl-ex-row${place === this.active ? " dl-ex-active" : ""}`, role: "row", id: `${this.app.id}-row-${place}`, "data-place": String(place),
        "aria-rowindex": String(place + 2), "aria-selected": String(on), "aria-busy": row ? null : "true",
      },
      ...cells.map((cell) => exCell(cell)),
    );
  }

  async fetchMissing() {
    const first = this.first;
    const wanted = [first, first + this.seen].map((place) => Math.floor(Math.min(place, this.total - 1) / EX_PAGE));
    for (const page of new Set(wanted)) {
      if (page < 0 || this.pages.has(page)) continue;
      const answer = await this.app.ask("rows", { start: page * EX_PAGE, count: EX_PAGE }, `rows-${page}`);
      if (!answer) return;
      if (answer.data.total !== this.total) return; // of another query
      this.take(answer.data);
      this.redraw();
    }
  }

  // ---- marking rows

  click(event) {
    const node = event.target.closest("[role=row]");
    if (!node) return;
    this.active = Number(node.dataset.place);
    this.mark(event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "one");
  }

  mark(how) {
    const row = this.row(this.active);
    if (!row) return;
    let chosen = this.app.selected();
    if (how === "one") chosen = new Set(chosen.size === 1 && chosen.has(row.id) ? [] : [row.id]);
    else if (how === "toggle") chosen.has(row.id) ? chosen.delete(row.id) : chosen.add(row.id);
    else {
      const [low, high] = [Math.min(this.anchor, this.active), Math.max(this.anchor, this.active)];
      for (let place = low; place <= high; place++) if (this.row(place)) chosen.add(this.row(place).id);
    }
    if (how !== "range") this.anchor = this.active;
    this.app.select([...chosen]);
    this.redraw();
  }

  key(event) {
    if (event.target !== this.view) return;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: this.seen - 1, PageUp: 1 - this.seen };
    if (event.key in steps) this.goTo(this.active + steps[event.key], event.shiftKey);
    else if (event.key === "Home") this.goTo(0);
    else if (event.key === "End") this.goTo(this.total - 1);
    else if (event.key === " ") this.mark("toggle");
    else if (event.key === "Enter") this.mark("one"), this.app.call("view");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  goTo(place, extend = false) {
    this.active = Math.min(Math.max(place, 0), this.total - 1);
    const [first, seen] = [this.first, this.seen - 1];
    if (this.active < first) this.scrollTo(this.active);
    else if (this.active >= first + seen) this.scrollTo(this.active - seen + 1);
    if (extend) this.mark("range");
    this.redraw();
  }

  scrollTo(place) {
    if (this.total * EX_ROW <= EX_TALLEST) this.view.scrollTop = place * EX_ROW;
    else this.view.scrollTop = (place / Math.max(this.total - this.seen + 1, 1)) * (this.height + EX_ROW - this.view.clientHeight);
  }

  dispose() {
    this.watch.disconnect();
  }
}

function exCell(cell) {
  const number = typeof cell === "number";
  const text = cell === null ? "" : number && !Number.isInteger(cell) ? String(cell) : number ? exNumber(cell) : cell;
  return el("div", { class: `dl-ex-cell${number ? " dl-ex-right" : ""}`, role: "gridcell", title: text }, text);
}

function exWidthOf(name) {
  if (name in EX_WIDE) return EX_WIDE[name];
  if (name.endsWith("UID")) return 280;
  return EX_TIGHT.has(name) ? 92 : 120;
}
