// The tree of patients, studies and series: an ARIA tree that draws only the rows that are seen.
import { el, keysOf, perFrame, settled } from "../base/dom.js";
import { Branch, PAGE_ROWS } from "./nodes.js";
import { ROW_HEIGHT, rowInside, rowLabel } from "./rows.js";
import { chosenBy, isChosen } from "./selecting.js";

const TALLEST = 8e6; // CSS pixels of the scrolled height: browsers draw nothing below some ten millions
const TYPE_AHEAD_MS = 700;
let treesMade = 0;

/** say: {children(args) -> rows, choose(ranges), chooseAll(), open(row, other), seen(ids), focused(level, row), search()}. */
export class Tree {
  constructor(say, thumbs) {
    Object.assign(this, { say, thumbs });
    this.prefix = `dl-br-tree-${(treesMade += 1)}-`;
    this.chosen = { places: new Set(), all: false, same: true };
    this.root = new Branch("lake", 0, 0);
    this.list = 0;
    this.cursor = 0; // the place that has the focus
    this.anchor = null; // the row that a range begins at
    this.top = 0; // the first visible row, with a fraction
    this.drawn = new Map(); // place -> {node, key}
    this.typed = { text: "", at: 0 };
    this.build();
    this.draw = perFrame(() => this.redraw());
    this.fetch = settled(() => this.fetchSeen(), 40);
  }

  build() {
    this.window = el("div", { class: "dl-br-tree-window", role: "presentation" });
    this.spacer = el("div", { class: "dl-br-tree-spacer", role: "presentation" });
    this.empty = el("div", { class: "dl-br-empty", hidden: true });
    this.node = el("div", {
      class: "dl-br-tree",
      role: "tree",
      tabindex: "0",
      "aria-multiselectable": "true",
      "aria-label": "Patients, studies and series",
      onscroll: () => this.scrolled(),
      onwheel: (event) => this.wheeled(event),
      onfocus: () => this.draw(),
    });
    this.node.append(this.window, this.spacer, this.empty);
    this.node.addEventListener("click", (event) => this.clicked(event));
    this.node.addEventListener("dblclick", (event) => this.doubled(event));
    keysOf(this.node, (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  /** Show another list. counts: of patients at least. */
  show(list, counts) {
    this.list = list;
    this.root = new Branch("lake", 0, counts.patients);
    this.cursor = 0;
    this.anchor = null;
    this.top = 0;
    this.clear();
    this.node.scrollTop = 0;
    if (counts.patients === 1) this.openWhenHere(this.root, 0);
    this.draw();
    this.fetchSeen();
  }

  clear() {
    for (const one of this.drawn.values()) one.node.remove();
    this.drawn.clear();
  }

  setChosen(chosen) {
    this.chosen = chosen;
    this.draw();
  }

  // ---- rows ------------------------------------------------------------------------------------------

  /** The row at a place: {branch, index, depth, level, row}; row is undefined until its page came. */
  at(place) {
    const found = this.root.at(place);
    return { ...found, level: found.branch.below, row: found.branch.rows.get(found.index) };
  }

  get total() {
    return this.root.visible;
  }

  get fitting() {
    return Math.max(1, Math.floor(this.node.clientHeight / ROW_HEIGHT));
  }

  /** Ask for the pages of what is seen, and a little around it. */
  fetchSeen() {
    const first = Math.max(0, Math.floor(this.top) - 10);
    const last = Math.min(this.total, Math.ceil(this.top) + this.fitting + 10);
    for (let place = first; place < last; place += 1) {
      const { branch, index } = this.root.at(place);
      this.page(branch, Math.floor(index / PAGE_ROWS));
    }
    this.seen();
  }

  async page(branch, number) {
    if (branch.asked.has(number)) return;
    branch.asked.add(number);
    const { list } = this;
    const start = number * PAGE_ROWS;
    const args = { list, level: branch.below, of: branch.of, start, count: PAGE_ROWS };
    try {
      const rows = await this.say.children(args);
      if (list !== this.list) return;
      rows.forEach((row, i) => branch.rows.set(start + i, row));
      if (branch.waiting !== undefined && branch.rows.has(branch.waiting)) this.openWaiting(branch);
    } catch {
      branch.asked.delete(number);
    }
    this.draw();
    this.seen();
  }

  openWaiting(branch) {
    const index = branch.waiting;
    branch.waiting = undefined;
    this.toggle(branch.placeOf(index), true);
  }

  openWhenHere(branch, index) {
    branch.waiting = index;
  }

  /** Tell which series are seen, for their pictures. */
  seen() {
    const ids = [];
    for (let i = 0; i <= this.fitting + 1; i += 1) {
      const place = Math.floor(this.top) + i;
      if (place >= this.total) break;
      const { level, row } = this.at(place);
      if (level === "series" && row && this.thumbs.of(row.id) === undefined) ids.push(row.id);
    }
    this.thumbs.want(ids);
  }

  /** Open or close a branch. open: true, false, or the other of what it is. */
  toggle(place, open = null) {
    const { branch, index, level, row } = this.at(place);
    if (level === "series" || !row) return;
    const is = branch.child(index) !== null;
    if (open === is) return;
    if (is) branch.close(index);
    else {
      const opened = branch.expand(index, row);
      if (level === "patients" && row.children === 1) this.openWhenHere(opened, 0);
    }
    this.clear();
    this.clamp();
    if (!is) this.bringIntoView(place, Math.min(row.children, 3));
    this.draw();
    this.fetchSeen();
  }

  /** Scroll as little as shows a row, and some of those below it. */
  bringIntoView(place, below = 0) {
    const rows = this.node.clientHeight / ROW_HEIGHT;
    const last = place + 1 + Math.min(below, Math.max(0, Math.floor(rows) - 1));
    if (last > this.top + rows) this.scrollTo(last - rows);
    if (place < this.top) this.scrollTo(place);
  }

  // ---- drawing ---------------------------------------------------------------------------------------

  stretch() {
    this.spacer.style.height = `${Math.min(TALLEST, this.total * ROW_HEIGHT)}px`;
  }

  redraw() {
    this.stretch();
    this.clamp();
    const first = Math.floor(this.top);
    const last = Math.min(this.total, first + this.fitting + 2);
    for (const [place, one] of this.drawn)
      if (place < first || place >= last) {
        one.node.remove();
        this.drawn.delete(place);
      }
    for (let place = first; place < last; place += 1) this.drawRow(place);
    const active = this.drawn.has(this.cursor) ? `${this.prefix}${this.cursor}` : null;
    if (active) this.node.setAttribute("aria-activedescendant", active);
    else this.node.removeAttribute("aria-activedescendant");
  }

  drawRow(place) {
    const found = this.at(place);
    const picture = found.row && found.level === "series" ? this.thumbs.of(found.row.id) : "";
    const old = this.drawn.get(place);
    let one = old;
    if (!old || old.row !== found.row || old.picture !== picture) {
      one = { node: this.made(place, found, picture), row: found.row, picture };
      if (old) old.node.replaceWith(one.node);
      else this.window.append(one.node);
      this.drawn.set(place, one);
    }
    one.node.style.transform = `translateY(${(place - this.top) * ROW_HEIGHT}px)`;
    one.node.setAttribute("aria-selected", String(Boolean(found.row && isChosen(this.chosen, found.row))));
    one.node.classList.toggle("dl-br-cursor", place === this.cursor);
  }

  made(place, { branch, index, depth, level, row }, picture) {
    const open = branch.child(index) !== null;
    const node = el("div", {
      class: `dl-br-item dl-br-item-${level}`,
      role: "treeitem",
      id: `${this.prefix}${place}`,
      "data-place": String(place),
      "aria-level": String(depth),
      "aria-posinset": String(index + 1),
      "aria-setsize": String(branch.count),
      "aria-expanded": level === "series" ? null : String(open),
      "aria-label": row ? rowLabel(level, row) : "loading",
      style: { paddingLeft: `${6 + (depth - 1) * 16}px` },
    });
    if (level !== "series") node.append(el("span", { class: "dl-br-twist", "aria-hidden": "true" }, open ? "▾" : "▸"));
    if (row) node.append(...rowInside(level, row, picture));
    else node.append(el("span", { class: "dl-muted" }, "…"));
    return node;
  }

  // ---- scrolling -------------------------------------------------------------------------------------

  get furthest() {
    return Math.max(0, this.total - this.node.clientHeight / ROW_HEIGHT);
  }

  get squeezed() {
    return this.total * ROW_HEIGHT > TALLEST;
  }

  clamp() {
    this.top = Math.min(Math.max(0, this.top), this.furthest);
    this.cursor = Math.min(Math.max(0, this.cursor), Math.max(0, this.total - 1));
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    if (this.squeezed) {
      if (Math.abs(scrollTop - this.expected) < 1) return;
      this.top = (scrollTop / Math.max(1, scrollHeight - clientHeight)) * this.furthest;
    } else this.top = scrollTop / ROW_HEIGHT;
    this.draw();
    this.fetch();
  }

  /** A list too tall for a scroll bar is moved by hand, row by row. */
  wheeled(event) {
    if (!this.squeezed || event.ctrlKey) return;
    event.preventDefault();
    this.scrollTo(this.top + event.deltaY / ROW_HEIGHT);
  }

  scrollTo(top) {
    this.stretch();
    this.top = Math.min(Math.max(0, top), this.furthest);
    const { scrollHeight, clientHeight } = this.node;
    const way = this.squeezed ? (this.top / Math.max(1, this.furthest)) * (scrollHeight - clientHeight) : this.top * ROW_HEIGHT;
    this.node.scrollTop = way;
    this.expected = this.node.scrollTop;
    this.draw();
    this.fetch();
  }

  // ---- mouse and keys --------------------------------------------------------------------------------

  placeOf(event) {
    const node = event.target.closest("[data-place]");
    return node ? Number(node.dataset.place) : null;
  }

  clicked(event) {
    const place = this.placeOf(event);
    if (place === null) return;
    this.node.focus({ preventScroll: true });
    this.cursor = place;
    if (event.target.closest(".dl-br-twist")) this.toggle(place);
    else this.choose(place, { shift: event.shiftKey, toggle: event.ctrlKey || event.metaKey });
    this.moved();
  }

  doubled(event) {
    const place = this.placeOf(event);
    if (place !== null && !event.target.closest(".dl-br-twist")) this.enter(place, event.shiftKey);
  }

  enter(place, other) {
    const { level, row } = this.at(place);
    if (level === "series" && row) this.say.open(row, other);
    else this.toggle(place);
  }

  choose(place, how) {
    const { row } = this.at(place);
    if (!row) return;
    const ranges = chosenBy(this.chosen, row, this.anchor, how);
    if (!how.shift || !this.anchor) this.anchor = row;
    this.say.choose(ranges);
  }

  key(event) {
    const moves = {
      ArrowDown: this.cursor + 1,
      ArrowUp: this.cursor - 1,
      PageDown: this.cursor + this.fitting - 1,
      PageUp: this.cursor - this.fitting + 1,
      Home: 0,
      End: this.total - 1,
    };
    if (event.key in moves) {
      this.move(moves[event.key]);
      if (event.shiftKey) this.choose(this.cursor, { shift: true, toggle: false });
      return true;
    }
    if (event.ctrlKey || event.metaKey) return this.command(event);
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") return this.sideways(event.key === "ArrowRight");
    if (event.key === "Enter") this.enter(this.cursor, event.shiftKey);
    else if (event.key === " ") this.choose(this.cursor, { shift: event.shiftKey, toggle: true });
    else if (event.key === "/") this.say.search();
    else if (event.key.length === 1) this.typeAhead(event.key);
    else return false;
    return true;
  }

  command(event) {
    if (event.key.toLowerCase() !== "a") return false;
    this.say.chooseAll();
    return true;
  }

  /** Right opens, then goes in; left closes, then goes out (ARIA tree pattern). */
  sideways(right) {
    this.bringIntoView(this.cursor);
    const { branch, index, level } = this.at(this.cursor);
    const open = branch.child(index) !== null;
    if (right && level !== "series") {
      if (open) this.move(this.cursor + 1);
      else this.toggle(this.cursor, true);
    } else if (!right && open) this.toggle(this.cursor, false);
    else if (!right && branch.parent) this.move(branch.parent.placeOf(branch.index));
    return true;
  }

  move(place) {
    this.cursor = Math.min(Math.max(0, place), Math.max(0, this.total - 1));
    this.bringIntoView(this.cursor);
    this.moved();
  }

  moved() {
    const { level, row } = this.at(this.cursor);
    this.draw();
    this.say.focused(level, row);
  }

  /** Go to the next row that is here and begins with the letters typed. */
  typeAhead(letter) {
    const now = performance.now();
    const text = now - this.typed.at < TYPE_AHEAD_MS ? this.typed.text + letter : letter;
    this.typed = { text, at: now };
    const whole = Math.min(this.total, 5000);
    for (let i = text.length > 1 ? 0 : 1; i <= whole; i += 1) {
      const place = (this.cursor + i) % Math.max(1, this.total);
      const { level, row } = this.at(place);
      if (row && rowLabel(level, row).toLowerCase().startsWith(text.toLowerCase())) return this.move(place);
    }
    return undefined;
  }
}
