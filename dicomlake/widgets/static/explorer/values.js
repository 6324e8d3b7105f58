// A facet of text: its values with bars and counts; a click chooses one, with Ctrl several.

import { el, settled } from "../base/dom.js";
import { exNumber, exShort } from "./words.js";

const EX_NONE = "(missing)";

/** The body of a text facet. app: see explorer.js. */
export class ExValues {
  constructor(app, name) {
    this.app = app;
    this.name = name;
    this.active = 0;
    this.found = null; // what a search in the values found
    this.list = el("div", {
      class: "dl-ex-values", role: "listbox", "aria-multiselectable": "true", tabindex: "0",
      "aria-label": `${name}: values`, onkeydown: (event) => this.key(event),
    });
    this.scroll = el("div", { class: "dl-ex-scroll" });
    this.foot = el("div", { class: "dl-ex-foot" });
    this.list.append(this.scroll, this.foot);
    this.field = el("input", {
      class: "dl-ex-search", type: "search", placeholder: "Search values", "aria-label": `Search values of ${name}`, hidden: true,
    });
    this.field.addEventListener("input", settled(() => this.search(), 150));
    this.field.addEventListener("keydown", (event) => event.key === "Escape" && this.toggleSearch());
    this.node = el("div", { class: "dl-ex-body" }, this.field, this.list);
    this.scroll.addEventListener("click", (event) => this.click(event));
    this.foot.addEventListener("click", (event) => this.click(event));
  }

  /** Show what Python counted. */
  show(data) {
    this.data = data;
    this.keep = this.found && this.field.value ? this.field.value : null;
    if (this.keep) this.search();
    else this.draw();
  }

  /** The same values with other counts, while a brush is dragged. now: by bin; null ends it. */
  preview(now) {
    const counts = now || this.data.now;
    for (const option of this.options()) {
      const bin = Number(option.dataset.bin);
      if (bin >= 0) exFill(option, counts[bin], this.top);
    }
  }

  note() {
    return `(${exNumber(this.data.distinct)})`;
  }

  toggleSearch() {
    this.field.hidden = !this.field.hidden;
    if (this.field.hidden) {
      this.field.value = "";
      this.found = null;
      this.draw();
      this.list.focus();
    } else this.field.focus();
  }

  async search() {
    if (!this.field.value.trim()) {
      this.found = null;
      this.draw();
      return;
    }
    const answer = await this.app.quiet("values", { facet: this.name, text: this.field.value }, `values-${this.name}`);
    if (answer) {
      this.found = answer;
      this.draw();
    }
  }

  rows() {
    const { values, total, now, on } = this.data;
    if (!this.found) return values.map((value, i) => ({ value, bin: i + 1, total: total[i + 1], now: now[i + 1], on: on && on[i + 1] }));
    return this.found.values.map((value, i) => {
      const bin = values.indexOf(value) + 1;
      return { value, bin: bin || -1, total: this.found.total[i], now: this.found.now[i], on: bin && on ? on[bin] : false };
    });
  }

  draw() {
    const { total, now, on, values } = this.data;
    const last = values.length + 1;
    this.top = Math.max(1, total[0], ...total.slice(1, last));
    const options = this.rows().map((row) => exOption(row.value, row, this.top));
    if (!options.length) options.push(el("div", { class: "dl-ex-nothing dl-muted" }, this.found ? "no such value" : "no values"));
    this.scroll.replaceChildren(...options);
    const none = exOption(null, { bin: 0, total: total[0], now: now[0], on: on && on[0] }, this.top);
    const foot = [none];
    if (total[last] && !this.found) {
      const more = exOption(undefined, { bin: last, total: total[last], now: now[last], on: false }, this.top);
      more.querySelector(".dl-ex-label").textContent = `${exNumber(this.data.distinct - values.length)} others`;
      more.title = "Search for values that are not listed";
      foot.unshift(more);
    }
    this.foot.replaceChildren(...foot);
    this.options().forEach((option, i) => (option.id = `${this.app.id}-${this.name}-${i}`));
    this.mark(Math.min(this.active, this.options().length - 1), false);
  }

  options() {
    return [...this.list.querySelectorAll("[role=option]")];
  }

  mark(place, scroll = true) {
    const options = this.options();
    this.active = Math.max(0, place);
    options.forEach((one, i) => one.classList.toggle("dl-ex-active", i === this.active));
    const at = options[this.active];
    if (!at) return;
    this.list.setAttribute("aria-activedescendant", at.id);
    if (scroll) at.scrollIntoView({ block: "nearest" });
  }

  click(event) {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    this.mark(this.options().indexOf(option), false);
    this.choose(option, event.ctrlKey || event.metaKey || event.shiftKey);
  }

  choose(option, add) {
    if (option.dataset.kind === "others") {
      if (this.field.hidden) this.toggleSearch();
      return;
    }
    const value = option.dataset.kind === "none" ? null : option.dataset.value;
    this.app.send("toggle", { facet: this.name, value, add });
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    const last = this.options().length - 1;
    if (event.key in steps) this.mark(Math.min(Math.max(this.active + steps[event.key], 0), last));
    else if (event.key === "Home") this.mark(0);
    else if (event.key === "End") this.mark(last);
    else if (event.key === "Enter") this.choose(this.options()[this.active], event.ctrlKey || event.metaKey);
    else if (event.key === " ") this.choose(this.options()[this.active], true);
    else if (event.key === "/") this.field.hidden ? this.toggleSearch() : this.field.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** One row: a mark where it is chosen, the value, counts, and bars behind them. */
function exOption(value, { bin, total, now, on }, top) {
  const kind = value === undefined ? "others" : value === null ? "none" : "value";
  const label = kind === "value" ? value : EX_NONE;
  const option = el(
    "div",
    {
      class: `dl-ex-option dl-ex-${kind}`, role: "option", "aria-selected": String(Boolean(on)), "data-kind": kind, "data-bin": String(bin),
      "data-value": kind === "value" ? value : "", "data-total": String(total), title: label,
    },
    el("span", { class: "dl-ex-bar dl-ex-bar-all" }),
    el("span", { class: "dl-ex-bar dl-ex-bar-now" }),
    el("span", { class: "dl-ex-tick", "aria-hidden": "true" }, on ? "✓" : ""),
    el("span", { class: "dl-ex-label" }, label),
    el("span", { class: "dl-ex-number" }),
  );
  option.querySelector(".dl-ex-bar-all").style.width = exWidth(total, top);
  exFill(option, now, top);
  return option;
}

function exFill(option, now, top) {
  const total = Number(option.dataset.total);
  option.querySelector(".dl-ex-bar-now").style.width = exWidth(now, top);
  option.querySelector(".dl-ex-number").textContent = exShort(now);
  option.classList.toggle("dl-ex-zero", !now);
  option.dataset.now = String(now);
  option.setAttribute("aria-label", `${option.querySelector(".dl-ex-label").textContent}: ${exNumber(now)} of ${exNumber(total)} series`);
}

function exWidth(count, top) {
  return count ? `max(2px, ${Math.min((100 * count) / top, 100).toFixed(2)}%)` : "0";
}
