// The header of one instance as a tree: a part of the browser, and of the tag viewer by itself.
import { el, keysOf, settled } from "../base/dom.js";
import { sizeText } from "./words.js";

const MARKS = { X: "removed", Z: "emptied", D: "replaced by a dummy value", U: "replaced by another UID" };

function markTitle(mark) {
  if (mark === "?") return "a name, date or document that may tell who the patient is";
  return `PS3.15 Table E.1-1: ${mark.split("/").map((letter) => MARKS[letter] || letter).join(" or ")}`;
}

/** say: {ask(name, args) -> data, add(condition) or null, announce(text), failed(failure)}. */
export class Tags {
  constructor(say) {
    this.say = say;
    this.number = 0;
    this.total = 0;
    this.about = null; // what names the series, added to every ask; null without one
    this.build();
  }

  build() {
    this.which = el("input", { type: "number", min: "1", value: "1", class: "dl-br-number", "aria-label": "Instance", onchange: () => this.go(Number(this.which.value) - 1) });
    this.of = el("span", { class: "dl-muted" });
    this.words = el("input", { type: "search", class: "dl-br-tag-search", placeholder: "tag, keyword or value", "aria-label": "Search in the header", oninput: settled(() => this.fill(), 150) });
    const step = (by, sign, label) => el("button", { type: "button", "aria-label": label, onclick: () => this.go(this.number + by) }, sign);
    this.body = el("div", { class: "dl-br-tags-body", role: "tree", "aria-label": "Elements", tabindex: "-1" });
    const bar = el("div", { class: "dl-row" }, "Instance", step(-1, "‹", "Instance before"), this.which, step(1, "›", "Next instance"), this.of, this.words);
    this.legend = el("div", { class: "dl-muted dl-br-legend" }, "⚑ may tell who the patient is. By the Basic Profile (PS3.15 Table E.1-1): X removed, Z emptied, D dummy, U other UID");
    this.node = el("div", { class: "dl-br-tags" }, bar, this.legend, this.body);
    keysOf(this.body, (event) => this.key(event));
  }

  /** Show the instances of a series; about: what is added to asks, such as its id. */
  async show(about) {
    this.about = about;
    this.number = 0;
    try {
      const { total } = await this.say.ask("instances", { ...about, start: 0 });
      if (this.about !== about) return;
      this.total = total;
      await this.go(0);
    } catch (failure) {
      this.say.failed(failure);
    }
  }

  /** Show that no series is looked at. */
  empty() {
    this.about = null;
    this.total = 0;
    this.of.textContent = "";
    this.body.replaceChildren(el("div", { class: "dl-br-empty" }, "Choose a series to see its header."));
  }

  async go(number) {
    if (!this.about) return;
    this.number = Math.min(Math.max(0, Number.isFinite(number) ? number : 0), Math.max(0, this.total - 1));
    this.which.value = String(this.number + 1);
    this.which.max = String(this.total);
    this.of.textContent = `of ${this.total.toLocaleString("en")}`;
    await this.fill();
  }

  async fill() {
    const words = this.words.value.trim();
    const { about } = this;
    if (!about) return;
    try {
      const data = await this.ask(words ? { words } : { path: [], start: 0 }, "tags");
      if (this.about !== about) return;
      const rows = data.rows.map((row) => this.row(row, 1, Boolean(words)));
      if (!data.rows.length) rows.push(el("div", { class: "dl-br-empty" }, words ? "No element holds that." : "No elements."));
      if (data.more) rows.push(el("div", { class: "dl-muted" }, "There are more: write more of the word."));
      this.body.replaceChildren(...rows);
      if (!words) this.more(this.body, [], data, 1);
      this.focusable(this.body.querySelector("[role=treeitem]"));
      this.body.dataset.number = String(this.number);
    } catch (failure) {
      this.say.failed(failure);
    }
  }

  ask(args, key = null) {
    return this.say.ask("tags", { ...this.about, number: this.number, ...args }, key);
  }

  // ---- rows ------------------------------------------------------------------------------------------

  row(row, depth, found = false) {
    const opens = row.children !== undefined;
    const node = el("div", { class: "dl-br-tag", role: "treeitem", "aria-level": String(depth), "aria-expanded": opens ? "false" : null, tabindex: "-1" });
    const line = el("div", { class: "dl-br-tag-line", style: { paddingLeft: `${4 + (depth - 1) * 16}px` } });
    line.append(el("span", { class: "dl-br-twist", "aria-hidden": "true" }, opens && row.children ? "▸" : ""));
    if (row.item) line.append(el("span", { class: "dl-muted" }, `item ${row.item}`));
    else line.append(...this.cells(row, found).filter(Boolean));
    node.append(line);
    node.dlRow = { row, depth };
    line.addEventListener("click", (event) => {
      this.focusable(node);
      if (opens && !event.target.closest("button")) this.toggle(node);
    });
    return node;
  }

  cells(row, found) {
    const name = row.keyword || row.name || (row.creator ? "private" : "unknown");
    const where = found && row.where ? el("span", { class: "dl-muted" }, `${row.where} › `) : null;
    const creator = row.creator ? el("span", { class: "dl-br-creator", title: "private creator" }, row.creator) : null;
    return [
      el("code", { class: "dl-br-tag-number" }, `(${row.tag})`),
      el("span", { class: "dl-br-vr" }, row.vr),
      el("span", { class: "dl-br-tag-name" }, where, name, " ", creator, row.mark ? this.mark(row) : null),
      this.value(row),
      row.add ? this.adder(row) : null,
    ];
  }

  mark(row) {
    return el("span", { class: "dl-br-mark", title: markTitle(row.mark), "aria-label": `may identify; ${markTitle(row.mark)}` }, `⚑ ${row.mark}`);
  }

  value(row) {
    if (row.vr === "SQ") return el("span", { class: "dl-br-tag-value dl-muted" }, `${row.children} ${row.children === 1 ? "item" : "items"}`);
    if (row.bytes !== undefined) return el("span", { class: "dl-br-tag-value dl-muted" }, row.bytes ? `${sizeText(row.bytes)} of bytes` : "empty, or too long to be read here");
    const cell = el("span", { class: "dl-br-tag-value" }, row.value);
    if (row.more) {
      const all = el("button", { type: "button", class: "dl-br-small", onclick: () => this.whole(row, cell) }, `show all ${row.length.toLocaleString("en")}`);
      cell.append("… ", all);
    }
    return cell;
  }

  async whole(row, cell) {
    try {
      const { value } = await this.ask({ path: row.path, all: true });
      cell.textContent = value;
    } catch (failure) {
      this.say.failed(failure);
    }
  }

  adder(row) {
    const label = this.say.add ? "Add to query" : "Copy as a condition";
    const put = () => (this.say.add ? this.say.add(row.add) : this.copy(row.add));
    return el("button", { type: "button", class: "dl-br-small dl-br-adder", tabindex: "-1", title: `${label}: ${row.add}`, "aria-label": `${label}: ${row.keyword || row.tag}`, onclick: put }, this.say.add ? "+ query" : "copy");
  }

  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      this.say.announce(`Copied ${text}`);
    } catch {
      this.say.announce(text); // a page that may not write the clipboard
    }
  }

  more(place, path, data, depth) {
    const shown = place.querySelectorAll(":scope > [role=treeitem]").length;
    if (shown >= data.total) return;
    const ask = async () => {
      button.remove();
      const next = await this.ask({ path, start: shown });
      place.append(...next.rows.map((row) => this.row(row, depth)));
      this.more(place, path, next, depth);
    };
    const button = el("button", { type: "button", class: "dl-br-small", onclick: ask }, `show more of ${data.total.toLocaleString("en")}`);
    place.append(button);
  }

  async toggle(node, open = null) {
    const { row, depth } = node.dlRow;
    const is = node.getAttribute("aria-expanded") === "true";
    if (!row.children || open === is) return;
    node.setAttribute("aria-expanded", String(!is));
    node.querySelector(".dl-br-twist").textContent = is ? "▸" : "▾";
    if (is) {
      node.querySelector(":scope > [role=group]")?.remove();
      return;
    }
    const group = el("div", { role: "group" });
    node.append(group);
    try {
      const data = await this.ask({ path: row.path, start: 0 });
      group.append(...data.rows.map((one) => this.row(one, depth + 1)));
      this.more(group, row.path, data, depth + 1);
      if (data.rows.length === 1 && data.rows[0].item) await this.toggle(group.firstElementChild, true);
    } catch (failure) {
      this.say.failed(failure);
    }
  }

  // ---- keys ------------------------------------------------------------------------------------------

  focusable(node) {
    this.body.querySelector('[role=treeitem][tabindex="0"]')?.setAttribute("tabindex", "-1");
    if (node) node.setAttribute("tabindex", "0");
  }

  key(event) {
    if (event.target.matches("button")) return false;
    const all = [...this.body.querySelectorAll("[role=treeitem]")];
    const node = event.target.closest("[role=treeitem]");
    const i = all.indexOf(node);
    if (i < 0) return false;
    const step = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: all.length - 1 }[event.key];
    if (step !== undefined) return this.goTo(all[Math.min(Math.max(0, step), all.length - 1)]);
    const open = node.getAttribute("aria-expanded") === "true";
    if (event.key === "ArrowRight") {
      if (open) return this.goTo(all[i + 1]);
      this.toggle(node, true);
    } else if (event.key === "ArrowLeft") {
      if (open) this.toggle(node, false);
      else this.goTo(node.parentElement.closest("[role=treeitem]") || node);
    } else if (event.key === "Enter") {
      const button = node.querySelector(":scope > .dl-br-tag-line .dl-br-tag-value button");
      if (button) button.click();
      else this.toggle(node);
    } else if (event.key === "+") node.querySelector(":scope > .dl-br-tag-line .dl-br-adder")?.click();
    else return false;
    return true;
  }

  goTo(node) {
    this.focusable(node);
    node.focus();
    return true;
  }
}
